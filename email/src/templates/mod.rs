//! A set of templates: read, tried with every kind of bill, and rendered from then on.
//!
//! Strict: what isn't there can't be used. HTML is escaped in `.html.hbs` and nowhere else. Partials and decorators are
//! refused: a set is six files that stand alone.

mod error;
mod helpers;
pub(crate) mod sample;

use std::collections::BTreeMap;
use std::fmt;

use domain::digest::Sha256Digest;
use domain::locale::Locale;
use handlebars::{Context, Handlebars, RenderError, html_escape, no_escape};

pub use error::TemplateError;

use crate::bill::Bill;
use crate::context::{self, unwanted};
use crate::email::ComposeError;

/// The files of a set, all of them and no others.
pub const FILES: [&str; 6] = [
    "en.body.html.hbs",
    "en.body.txt.hbs",
    "en.subject.hbs",
    "ko.body.html.hbs",
    "ko.body.txt.hbs",
    "ko.subject.hbs",
];

/// A valid set.
pub struct Templates {
    json: String,
    sha256: String,
    ko: Language,
    en: Language,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// One message before it is wrapped up.
pub(crate) struct Rendered {
    pub(crate) subject: String,
    pub(crate) html: String,
    pub(crate) text: String,
}

impl Templates {
    /// Reads a set and renders sample bills with it: of every kind, in both languages.
    ///
    /// # Errors
    /// The first file that is missing, unknown or can't be used, with the line and what may be used there.
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        if let Some(file) = files.keys().find(|file| !FILES.contains(&file.as_str())) {
            return Err(TemplateError::Unknown { file: file.clone() });
        }
        let json = serde_json::to_string(files).map_err(|error| TemplateError::Content(error.to_string()))?;
        let sha256 = Sha256Digest::of(json.as_bytes()).to_string();
        let language = |locale| Language::parse(files, locale);
        let templates = Self { json, sha256, ko: language(Locale::Ko)?, en: language(Locale::En)? };
        sample::try_all(|bill| {
            let context =
                context::context(bill).map_err(|error| TemplateError::Content(error.to_string()))?;
            let language = templates.language(bill.locale);
            for template in [&language.subject, &language.text, &language.html] {
                template
                    .render(&context)
                    .map_err(|error| TemplateError::rendering(&template.file, &error))?;
            }
            let subject = language.subject.render(&context);
            if !subject.is_ok_and(|subject| one_line(&subject)) {
                return Err(TemplateError::Subject { file: language.subject.file.clone() });
            }
            Ok(())
        })?;
        Ok(templates)
    }

    /// Reads a set as [`Templates::to_json`] writes it; the order and spacing of the JSON don't matter.
    ///
    /// # Errors
    /// As [`Templates::parse`].
    pub fn from_json(json: &str) -> Result<Self, TemplateError> {
        let files = serde_json::from_str(json).map_err(|error| TemplateError::Content(error.to_string()))?;
        Self::parse(&files)
    }

    /// File name to text, in one order.
    #[must_use]
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// Of the JSON, in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn render(&self, bill: &Bill<'_>) -> Result<Rendered, ComposeError> {
        let context = context::context(bill)?;
        let language = self.language(bill.locale);
        let render = |template: &Template| {
            template.render(&context).map_err(|error| ComposeError::Render {
                file: template.file.clone(),
                line: error.line_no.unwrap_or_default(),
                reason: error::reason(&error),
            })
        };
        let subject = render(&language.subject)?;
        if !one_line(&subject) {
            return Err(ComposeError::Subject { file: language.subject.file.clone() });
        }
        Ok(Rendered {
            subject: subject.trim().to_owned(),
            html: render(&language.html)?,
            text: render(&language.text)?,
        })
    }

    fn language(&self, locale: Locale) -> &Language {
        match locale {
            Locale::Ko => &self.ko,
            Locale::En => &self.en,
        }
    }
}

/// What a mail of one language is made of.
struct Language {
    subject: Template,
    html: Template,
    text: Template,
}

impl Language {
    fn parse(files: &BTreeMap<String, String>, locale: Locale) -> Result<Self, TemplateError> {
        let template = |part: &str| Template::parse(files, format!("{locale}.{part}.hbs"), locale);
        Ok(Self { subject: template("subject")?, html: template("body.html")?, text: template("body.txt")? })
    }
}

/// One file, alone in its registry: there is nothing that it could include.
struct Template {
    file: String,
    registry: Handlebars<'static>,
}

impl Template {
    fn parse(files: &BTreeMap<String, String>, file: String, locale: Locale) -> Result<Self, TemplateError> {
        let text = files.get(&file).ok_or_else(|| TemplateError::Missing { file: file.clone() })?;
        if let Some(line) = line_of_include(text) {
            return Err(TemplateError::Include { file, line });
        }
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        if file.ends_with(".html.hbs") {
            registry.register_escape_fn(html_escape);
        } else {
            registry.register_escape_fn(no_escape);
        }
        helpers::register(&mut registry, locale);
        // Text in a mail ends its lines like this, encoded or not.
        let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        registry
            .register_template_string(&file, text)
            .map_err(|error| TemplateError::syntax(&file, &error))?;
        Ok(Self { file, registry })
    }

    fn render(&self, context: &Context) -> Result<String, RenderError> {
        self.registry.render_with_context(&self.file, context)
    }
}

fn one_line(subject: &str) -> bool {
    let subject = subject.trim();
    !subject.is_empty() && !subject.chars().any(unwanted)
}

/// The first line with a partial or a decorator: `{{> x}}`, `{{#> x}}`, `{{*x}}`, `{{#*inline}}`.
fn line_of_include(text: &str) -> Option<usize> {
    let includes = |line: &str| {
        line.match_indices("{{").any(|(at, braces)| {
            line[at + braces.len()..].trim_start_matches(['~', '#', ' ']).starts_with(['>', '*'])
        })
    };
    text.lines().position(includes).map(|index| index + 1)
}
