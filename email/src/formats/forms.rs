//! The forms of a text for a number of things: `1 message`, `2 messages`. Which numbers have which
//! form is in the file of the language, not here.

use super::document::RawForms;
use super::pattern::{Number, Pattern};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forms {
    /// Of one number.
    exact: Vec<(u64, Pattern<Number>)>,
    /// Of numbers that end with certain digits, longer endings first.
    endings: Vec<(Ending, Pattern<Number>)>,
    other: Pattern<Number>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ending {
    digits: u64,
    /// 10 for one digit, 100 for two.
    modulus: u64,
}

const OTHER: &str = "other";
/// More digits than any language needs.
const MAX_DIGITS: usize = 6;

impl Forms {
    /// # Errors
    /// The key, if the problem is in one, and what is wrong.
    pub(super) fn parse(raw: &RawForms) -> Result<Self, (Option<String>, String)> {
        let raw = match raw {
            RawForms::OfEveryNumber(text) => {
                let other = of_any_number(text).map_err(|reason| (None, reason))?;
                return Ok(Self { exact: Vec::new(), endings: Vec::new(), other });
            }
            RawForms::Each(raw) => raw,
        };
        let (mut exact, mut endings, mut other) = (Vec::new(), Vec::new(), None);
        for (key, text) in raw {
            let problem = |reason: String| (Some(key.clone()), reason);
            for number in key.split(',').map(str::trim) {
                let twice = || problem(format!("`{number}` has a form already"));
                if number == OTHER {
                    other = Some(of_any_number(text).map_err(problem)?);
                } else if let Some(digits) = number.strip_prefix('*') {
                    let ending = ending(digits).ok_or_else(|| problem(wrong_key(number)))?;
                    if endings.iter().any(|(other, _)| *other == ending) {
                        return Err(twice());
                    }
                    endings.push((ending, of_any_number(text).map_err(problem)?));
                } else {
                    let number = parse_digits(number).ok_or_else(|| problem(wrong_key(number)))?;
                    if exact.iter().any(|(other, _)| *other == number) {
                        return Err(twice());
                    }
                    exact.push((number, Pattern::parse(text).map_err(problem)?));
                }
            }
        }
        endings.sort_by_key(|(ending, _)| std::cmp::Reverse(ending.modulus));
        let other =
            other.ok_or_else(|| (None, format!("has no `{OTHER}`, the form of all other numbers")))?;
        Ok(Self { exact, endings, other })
    }

    /// The form of this number of things.
    pub(crate) fn of(&self, number: u64) -> &Pattern<Number> {
        let exact = self.exact.iter().find(|(of, _)| *of == number).map(|(_, form)| form);
        let ends = |ending: &Ending| number % ending.modulus == ending.digits;
        exact
            .or_else(|| self.endings.iter().find(|(ending, _)| ends(ending)).map(|(_, form)| form))
            .unwrap_or(&self.other)
    }
}

/// The form of several numbers, which must show the number.
fn of_any_number(text: &str) -> Result<Pattern<Number>, String> {
    let pattern = Pattern::parse(text)?;
    if !pattern.has(Number) {
        return Err("has no {number}".to_owned());
    }
    Ok(pattern)
}

fn parse_digits(text: &str) -> Option<u64> {
    let digits = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn ending(text: &str) -> Option<Ending> {
    let modulus = 10_u64.checked_pow(u32::try_from(text.len()).ok()?)?;
    Some(Ending { digits: parse_digits(text)?, modulus })
}

fn wrong_key(key: &str) -> String {
    format!(
        "`{key}` is not a number such as 1, an ending such as \"*2\" or \"*11\", or {OTHER}; several are \
         separated by commas"
    )
}
