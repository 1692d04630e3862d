//! The names of the files of a set.

use std::collections::{BTreeMap, BTreeSet};

use domain::locale::Locale;

/// The templates of each locale, after `LOCALE.` and, of corrections, [`CORRECTION`].
const PARTS: [&str; 3] = ["subject.hbs", "body.html.hbs", "body.txt.hbs"];
const CORRECTION: &str = "correction.";
/// The formats of each locale, after `LOCALE.`.
const FORMATS: &str = "formats.yaml";

/// The locale that the file belongs to; none if a set has no such file.
pub(super) fn locale_of(file: &str) -> Option<Locale> {
    let (locale, rest) = file.split_once('.')?;
    let part = rest.strip_prefix(CORRECTION).unwrap_or(rest);
    (PARTS.contains(&part) || rest == FORMATS).then(|| locale.parse().ok()).flatten()
}

/// The locales that there are files of.
pub(super) fn locales(files: &BTreeMap<String, String>) -> BTreeSet<Locale> {
    files.keys().filter_map(|file| locale_of(file)).collect()
}

/// Whether the file is one of a correction.
pub(super) fn is_of_correction(file: &str) -> bool {
    file.split_once('.').is_some_and(|(_, rest)| rest.starts_with(CORRECTION))
}

pub(super) fn formats(locale: Locale) -> String {
    format!("{locale}.{FORMATS}")
}

/// The templates of bills or corrections of a locale: subject, HTML body, text body.
pub(super) fn templates(locale: impl std::fmt::Display, of_corrections: bool) -> [String; 3] {
    let prefix = if of_corrections { CORRECTION } else { "" };
    PARTS.map(|part| format!("{locale}.{prefix}{part}"))
}

/// What a set consists of, for a message.
pub(super) fn set() -> String {
    let templates = |of_corrections| templates("LOCALE", of_corrections).join(", ");
    format!(
        "a set consists of {} and LOCALE.{FORMATS} for each LOCALE, such as ko or pt-BR, and, to send corrections, of {}",
        templates(false),
        templates(true)
    )
}
