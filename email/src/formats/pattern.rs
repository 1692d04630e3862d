//! A text with placeholders such as `{amount}`, parsed once.

use crate::context::is_forbidden_in_line;

/// What can stand in braces.
pub(crate) trait Placeholder: Copy + PartialEq + 'static {
    /// Each with its name.
    const NAMES: &'static [(&'static str, Self)];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern<P> {
    parts: Vec<Part<P>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<P> {
    Text(Box<str>),
    Placeholder(P),
}

impl<P: Placeholder> Pattern<P> {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        check_text(text)?;
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, after) = rest.split_once('{').unwrap_or((rest, ""));
            if before.contains('}') {
                return Err(format!("has a `}}` without a `{{`: placeholders are {}", names::<P>()));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            if before.len() == rest.len() {
                break;
            }
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("has a `{{` without a `}}`: placeholders are {}", names::<P>()))?;
            let known = P::NAMES.iter().find(|(known, _)| *known == name);
            let (_, placeholder) =
                known.ok_or_else(|| format!("has the unknown `{{{name}}}`: there are {}", names::<P>()))?;
            parts.push(Part::Placeholder(*placeholder));
            rest = after;
        }
        Ok(Self { parts })
    }

    pub(super) fn has(&self, wanted: P) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Placeholder(found) if *found == wanted))
    }

    /// Writes the text; `value` writes what takes the place of a placeholder.
    pub(crate) fn write(&self, out: &mut String, mut value: impl FnMut(&mut String, P)) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Placeholder(placeholder) => value(out, *placeholder),
            }
        }
    }
}

/// Texts end up in subjects and in lines of text.
///
/// # Errors
/// The text is blank or not one line.
pub(super) fn check_text(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    check_line(text)
}

/// # Errors
/// The text is not one line.
pub(super) fn check_line(text: &str) -> Result<(), String> {
    if text.chars().any(is_forbidden_in_line) {
        return Err("must be one line without control characters".to_owned());
    }
    Ok(())
}

fn names<P: Placeholder>() -> String {
    P::NAMES.iter().map(|(name, _)| format!("{{{name}}}")).collect::<Vec<_>>().join(", ")
}

/// The placeholders of an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MoneyPart {
    Amount,
    Code,
}

impl Placeholder for MoneyPart {
    const NAMES: &'static [(&'static str, Self)] = &[("amount", Self::Amount), ("code", Self::Code)];
}

/// The placeholders of a month or date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatePart {
    Year,
    Month,
    /// Two digits.
    PaddedMonth,
    MonthName,
    Day,
    /// Two digits.
    PaddedDay,
}

impl Placeholder for DatePart {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("year", Self::Year),
        ("month", Self::Month),
        ("month2", Self::PaddedMonth),
        ("monthName", Self::MonthName),
        ("day", Self::Day),
        ("day2", Self::PaddedDay),
    ];
}

/// The placeholder of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number;

impl Placeholder for Number {
    const NAMES: &'static [(&'static str, Self)] = &[("number", Self)];
}
