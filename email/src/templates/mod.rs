//! A set of Handlebars templates: parsing, validation with sample bills of every kind, rendering.
//!
//! Rendering is strict: an unknown variable is an error. Values are HTML-escaped in `.html.hbs` and
//! nowhere else. Partials and decorators are rejected: each file is self-contained.
//!
//! A set has, for each of its locales, three files for bills, the formats of amounts and dates, and,
//! if it can send corrections, three files for corrections. Which locales it has, its file names say.

mod files;
mod helpers;
mod sample;
mod template_error;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use domain::digest::Sha256Digest;
use domain::locale::Locale;
use handlebars::{Context, Handlebars, RenderError, html_escape, no_escape};
pub use template_error::TemplateError;

use crate::bill::Bill;
use crate::compose_error::ComposeError;
use crate::context::{self, is_forbidden_in_line};
use crate::formats::{Formats, built_in};
use crate::line_name::Wording;

/// A valid set of templates.
pub struct Templates {
    files: BTreeMap<String, String>,
    json: String,
    sha256: String,
    /// At least one, sorted by locale.
    languages: Vec<Language>,
    /// The position of the language of the installation.
    installation: usize,
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
    /// Parses a set and validates it by rendering sample bills and corrections of every kind in each
    /// of its locales. Formats that are built in are added where there are none.
    ///
    /// # Errors
    /// The first file that is missing, unknown or invalid, with the line and the variables that can
    /// be used there, or with the field; or there are no templates of the installation's locale.
    pub fn parse(given: &BTreeMap<String, String>, installation: Locale) -> Result<Self, TemplateError> {
        if let Some(file) = given.keys().find(|file| files::locale_of(file).is_none()) {
            return Err(TemplateError::Unknown { file: file.clone() });
        }
        let mut files = given.clone();
        let locales = files::locales(given);
        let Some(installation) = locales.iter().position(|locale| *locale == installation) else {
            return Err(TemplateError::NoInstallationLocale { locale: installation });
        };
        for locale in &locales {
            if let Some(text) = built_in(*locale) {
                files.entry(files::formats(*locale)).or_insert_with(|| text.to_owned());
            }
        }
        let json =
            serde_json::to_string(&files).map_err(|error| TemplateError::Content(error.to_string()))?;
        let sha256 = Sha256Digest::of(json.as_bytes()).to_string();
        let corrections = files.keys().any(|file| files::is_of_correction(file));
        let languages = locales.iter().map(|locale| Language::parse(&files, *locale, corrections));
        let languages = languages.collect::<Result<_, _>>()?;
        let templates = Self { files, json, sha256, languages, installation };
        templates.try_samples()?;
        Ok(templates)
    }

    fn try_samples(&self) -> Result<(), TemplateError> {
        let locales = self.languages.iter().map(|language| language.locale);
        sample::try_each(locales, |bill| {
            let language = self.language(bill.locale);
            // A set without corrections cannot be tried with one.
            let Ok(parts) = language.parts(bill) else { return Ok(()) };
            let context = context::context(bill, &language.wording(bill))
                .map_err(|error| TemplateError::Content(error.to_string()))?;
            for template in [&parts.subject, &parts.text, &parts.html] {
                template
                    .render(&context)
                    .map_err(|error| TemplateError::rendering(&template.file, &error))?;
            }
            let subject = parts.subject.render(&context);
            if !subject.is_ok_and(|subject| one_line(&subject)) {
                return Err(TemplateError::Subject { file: parts.subject.file.clone() });
            }
            Ok(())
        })
    }

    /// Fails if the set has no templates of corrections.
    ///
    /// # Errors
    /// The files that are missing.
    pub fn require_corrections(&self) -> Result<(), TemplateError> {
        let without = self.languages.iter().filter(|language| language.correction.is_none());
        let missing: Vec<String> =
            without.flat_map(|language| files::templates(language.locale, true)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(TemplateError::NoCorrections { files: missing.join(", ") })
    }

    /// Parses a set from the JSON of [`Templates::to_json`]. The order and the spacing of the JSON
    /// don't matter.
    ///
    /// # Errors
    /// As [`Templates::parse`].
    pub fn from_json(json: &str, installation: Locale) -> Result<Self, TemplateError> {
        let files = serde_json::from_str(json).map_err(|error| TemplateError::Content(error.to_string()))?;
        Self::parse(&files, installation)
    }

    /// All files, also the formats that were added.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, String> {
        &self.files
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
        let language = self.language(bill.locale);
        let parts = language.parts(bill)?;
        let context = context::context(bill, &language.wording(bill))?;
        let render = |template: &Template| {
            template.render(&context).map_err(|error| ComposeError::Render {
                file: template.file.clone(),
                line: error.line_no.unwrap_or_default(),
                reason: template_error::reason(&error),
            })
        };
        let subject = render(&parts.subject)?;
        if !one_line(&subject) {
            return Err(ComposeError::Subject { file: parts.subject.file.clone() });
        }
        Ok(Rendered {
            subject: subject.trim().to_owned(),
            html: render(&parts.html)?,
            text: render(&parts.text)?,
        })
    }

    /// The language of exactly this locale, otherwise one of the same language, otherwise that of the
    /// installation: a bill has to get there.
    fn language(&self, locale: Locale) -> &Language {
        let installation = &self.languages[self.installation];
        let exact = self.languages.iter().find(|language| language.locale == locale);
        exact.unwrap_or_else(|| {
            let same = |language: &&Language| language.locale.language() == locale.language();
            if same(&installation) {
                return installation;
            }
            self.languages.iter().find(same).unwrap_or(installation)
        })
    }
}

/// The files of one locale.
struct Language {
    locale: Locale,
    formats: Arc<Formats>,
    bill: Parts,
    /// All languages have them, or none.
    correction: Option<Parts>,
}

impl Language {
    fn parse(
        files: &BTreeMap<String, String>,
        locale: Locale,
        corrections: bool,
    ) -> Result<Self, TemplateError> {
        let file = files::formats(locale);
        let text = files.get(&file).ok_or_else(|| TemplateError::Missing { file: file.clone() })?;
        let formats = Formats::parse(text)
            .map_err(|error| TemplateError::Formats { file, problem: error.to_string() })?;
        let formats = Arc::new(formats);
        let parts = |of_corrections| Parts::parse(files, files::templates(locale, of_corrections), &formats);
        let (bill, correction) = (parts(false)?, corrections.then(|| parts(true)).transpose()?);
        Ok(Self { locale, formats, bill, correction })
    }

    /// The templates of the bill, or of the correction.
    fn parts(&self, bill: &Bill<'_>) -> Result<&Parts, ComposeError> {
        match bill.corrects {
            None => Ok(&self.bill),
            Some(_) => self.correction.as_ref().ok_or(ComposeError::NoCorrections),
        }
    }

    fn wording(&self, bill: &Bill<'_>) -> Wording<'_> {
        Wording { locales: [self.locale, bill.default_locale], formats: &self.formats }
    }
}

/// The templates of bills, or of corrections.
struct Parts {
    subject: Template,
    html: Template,
    text: Template,
}

impl Parts {
    fn parse(
        files: &BTreeMap<String, String>,
        [subject, html, text]: [String; 3],
        formats: &Arc<Formats>,
    ) -> Result<Self, TemplateError> {
        let template = |file| Template::parse(files, file, formats);
        Ok(Self { subject: template(subject)?, html: template(html)?, text: template(text)? })
    }
}

/// One file, alone in its registry, so that it cannot include another.
struct Template {
    file: String,
    registry: Handlebars<'static>,
}

impl Template {
    fn parse(
        files: &BTreeMap<String, String>,
        file: String,
        formats: &Arc<Formats>,
    ) -> Result<Self, TemplateError> {
        let text = files.get(&file).ok_or_else(|| TemplateError::Missing { file: file.clone() })?;
        if let Some(line) = line_of_include(text) {
            return Err(TemplateError::Include { file, line });
        }
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        let html = file.ends_with(".html.hbs");
        if html {
            registry.register_escape_fn(html_escape);
        } else {
            registry.register_escape_fn(no_escape);
        }
        helpers::register(&mut registry, formats, html);
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
