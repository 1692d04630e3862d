//! A set of Handlebars templates: parsing, validation with sample bills of every kind, rendering.
//!
//! Rendering is strict: an unknown variable is an error. Values are HTML-escaped in `.html.hbs` and
//! nowhere else. Partials and decorators are rejected: each file is self-contained.
//!
//! A set has three files for bills in each language, and, if it can send corrections, three for
//! corrections.

mod files;
mod helpers;
mod sample;
mod template_error;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use domain::digest::Sha256Digest;
use domain::locale::Locale;
pub use files::FILES;
use files::is_of_correction;
use handlebars::{Context, Handlebars, RenderError, html_escape, no_escape};
pub use template_error::TemplateError;

use crate::bill::Bill;
use crate::compose_error::ComposeError;
use crate::context::{self, is_forbidden_in_line};

/// A valid set of templates.
pub struct Templates {
    json: String,
    sha256: String,
    bills: Languages,
    corrections: Option<Languages>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

/// The rendered parts of one e-mail.
pub(crate) struct Rendered {
    pub(crate) subject: String,
    pub(crate) html: String,
    pub(crate) text: String,
}

impl Templates {
    /// Parses a set and validates it by rendering sample bills and corrections of every kind in both
    /// languages.
    ///
    /// # Errors
    /// The first file that is missing, unknown or invalid, with the line and the variables that can
    /// be used there.
    pub fn parse(files: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        if let Some(file) = files.keys().find(|file| !FILES.contains(&file.as_str())) {
            return Err(TemplateError::Unknown { file: file.clone() });
        }
        let json = serde_json::to_string(files).map_err(|error| TemplateError::Content(error.to_string()))?;
        let sha256 = Sha256Digest::of(json.as_bytes()).to_string();
        let bills = Languages::parse(files, "")?;
        let has_corrections = files.keys().any(|file| is_of_correction(file));
        let corrections = has_corrections.then(|| Languages::parse(files, "correction.")).transpose()?;
        let templates = Self { json, sha256, bills, corrections };
        sample::try_each(|bill| {
            // A set without corrections cannot be tried with one.
            let Ok(language) = templates.language(bill) else { return Ok(()) };
            let context =
                context::context(bill).map_err(|error| TemplateError::Content(error.to_string()))?;
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

    /// Fails if the set has no templates of corrections.
    ///
    /// # Errors
    /// The files that are missing.
    pub fn require_corrections(&self) -> Result<(), TemplateError> {
        self.corrections.as_ref().map(drop).ok_or(TemplateError::NoCorrections)
    }

    /// Parses a set from the JSON of [`Templates::to_json`]. The order and the spacing of the JSON
    /// don't matter.
    ///
    /// # Errors
    /// As [`Templates::parse`].
    pub fn from_json(json: &str) -> Result<Self, TemplateError> {
        let files = serde_json::from_str(json).map_err(|error| TemplateError::Content(error.to_string()))?;
        Self::parse(&files)
    }

    /// A JSON object from file name to text, sorted by file name.
    #[must_use]
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// The SHA-256 of the JSON, in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn render(&self, bill: &Bill<'_>) -> Result<Rendered, ComposeError> {
        let context = context::context(bill)?;
        let language = self.language(bill)?;
        let render = |template: &Template| {
            template.render(&context).map_err(|error| ComposeError::Render {
                file: template.file.clone(),
                line: error.line_no.unwrap_or_default(),
                reason: template_error::reason(&error),
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

    /// The templates of the bill, or of the correction, in its language.
    fn language(&self, bill: &Bill<'_>) -> Result<&Language, ComposeError> {
        let languages = match bill.corrects {
            None => &self.bills,
            Some(_) => self.corrections.as_ref().ok_or(ComposeError::NoCorrections)?,
        };
        Ok(match bill.locale {
            Locale::Ko => &languages.ko,
            Locale::En => &languages.en,
        })
    }
}

/// The templates of bills or of corrections, in all languages.
struct Languages {
    ko: Language,
    en: Language,
}

impl Languages {
    fn parse(files: &BTreeMap<String, String>, prefix: &str) -> Result<Self, TemplateError> {
        let language = |locale| Language::parse(files, locale, prefix);
        Ok(Self { ko: language(Locale::Ko)?, en: language(Locale::En)? })
    }
}

/// The templates of one language.
struct Language {
    subject: Template,
    html: Template,
    text: Template,
}

impl Language {
    fn parse(files: &BTreeMap<String, String>, locale: Locale, prefix: &str) -> Result<Self, TemplateError> {
        let template = |part: &str| Template::parse(files, format!("{locale}.{prefix}{part}.hbs"), locale);
        Ok(Self { subject: template("subject")?, html: template("body.html")?, text: template("body.txt")? })
    }
}

/// One file, alone in its registry, so that it cannot include another.
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
        // RFC 5322 requires CRLF, also within encoded text.
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
    !subject.is_empty() && !subject.chars().any(is_forbidden_in_line)
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
