//! How e-mails of one language write amounts, months, dates and quantities, and what they call
//! kinds of usage: the file `LOCALE.formats.yaml` of a set of templates. Parsed once for a set, not
//! for each e-mail; `formatting` writes with it.

mod document;
mod forms;
mod pattern;

#[cfg(test)]
mod tests;

use domain::locale::Locale;
use domain::money::Currency;
use domain::yaml::{YamlError, from_yaml};

use self::document::Document;
pub(crate) use self::forms::Forms;
pub(crate) use self::pattern::{DatePart, MoneyPart, Pattern};
use self::pattern::{Number, check_line, check_text};

const KOREAN: &str = include_str!("../../../charts/monthend/files/templates/ko.formats.yaml");
const ENGLISH: &str = include_str!("../../../charts/monthend/files/templates/en.formats.yaml");

/// The formats that a set of templates need not have, because sets of earlier versions have none.
pub(crate) fn built_in(locale: Locale) -> Option<&'static str> {
    match locale {
        Locale::KO => Some(KOREAN),
        Locale::EN => Some(ENGLISH),
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Formats {
    pub(crate) decimal: Box<str>,
    /// Between groups of three digits; it can be empty.
    pub(crate) group: Box<str>,
    money: Vec<(Currency, Pattern<MoneyPart>)>,
    money_default: Pattern<MoneyPart>,
    pub(crate) month: Pattern<DatePart>,
    pub(crate) date: Pattern<DatePart>,
    month_names: Vec<String>,
    month_names_in_dates: Vec<String>,
    /// Of hours, minutes and seconds.
    pub(crate) duration: [Forms; 3],
    pub(crate) duration_separator: Box<str>,
    /// Of bytes, and of each 1024 of the unit before.
    pub(crate) data: [Pattern<Number>; 4],
    usage_kinds: Vec<UsageKind>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UsageKind {
    code: String,
    name: String,
    quantity: Option<Forms>,
}

impl Formats {
    /// # Errors
    /// The first field that is missing, unknown or invalid, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, YamlError> {
        let raw: Document = from_yaml(text)?;
        check_separators(&raw)?;
        let (money, money_default) = money(&raw.money.0)?;
        let month = date_pattern("month", &raw.month, &[("{year}", YEAR), MONTH])?;
        let date = date_pattern("date", &raw.date, &[("{year}", YEAR), MONTH, ("{day}", DAY)])?;
        if DAY.iter().any(|part| month.has(*part)) {
            return Err(problem("month", "must not have a day"));
        }
        let month_names = month_names("monthNames", raw.month_names)?;
        let month_names_in_dates = match raw.month_names_in_dates {
            None => month_names.clone(),
            given => self::month_names("monthNamesInDates", given)?,
        };
        for (field, pattern, names) in
            [("month", &month, &month_names), ("date", &date, &month_names_in_dates)]
        {
            if pattern.has(DatePart::MonthName) && names.is_empty() {
                return Err(problem(field, "has {monthName}, but the file has no monthNames"));
            }
        }
        check_line(&raw.duration.separator).map_err(|reason| problem("duration.separator", reason))?;
        let duration = [
            forms("duration.hours", &raw.duration.hours)?,
            forms("duration.minutes", &raw.duration.minutes)?,
            forms("duration.seconds", &raw.duration.seconds)?,
        ];
        let data = [
            number_pattern("data.bytes", &raw.data.bytes)?,
            number_pattern("data.kilobytes", &raw.data.kilobytes)?,
            number_pattern("data.megabytes", &raw.data.megabytes)?,
            number_pattern("data.gigabytes", &raw.data.gigabytes)?,
        ];
        Ok(Self {
            decimal: raw.decimal_separator.into(),
            group: raw.group_separator.into(),
            money,
            money_default,
            month,
            date,
            month_names,
            month_names_in_dates,
            duration,
            duration_separator: raw.duration.separator.into(),
            data,
            usage_kinds: usage_kinds(raw.usage_kinds.0)?,
        })
    }

    pub(crate) fn money(&self, currency: Currency) -> &Pattern<MoneyPart> {
        let own = self.money.iter().find(|(of, _)| *of == currency);
        own.map_or(&self.money_default, |(_, pattern)| pattern)
    }

    /// The name of a month from 1 to 12 that stands alone.
    pub(crate) fn month_name(&self, month: usize) -> &str {
        self.month_names.get(month.wrapping_sub(1)).map_or("", String::as_str)
    }

    /// The name of a month from 1 to 12 next to a day.
    pub(crate) fn month_name_in_date(&self, month: usize) -> &str {
        self.month_names_in_dates.get(month.wrapping_sub(1)).map_or("", String::as_str)
    }

    /// What the file calls a kind of usage.
    pub(crate) fn usage_kind(&self, code: &str) -> Option<&str> {
        self.find_usage_kind(code).map(|kind| kind.name.as_str())
    }

    /// How the file writes a quantity of a kind that is counted.
    pub(crate) fn quantity(&self, code: &str) -> Option<&Forms> {
        self.find_usage_kind(code)?.quantity.as_ref()
    }

    fn find_usage_kind(&self, code: &str) -> Option<&UsageKind> {
        self.usage_kinds.iter().find(|kind| kind.code == code)
    }
}

const YEAR: &[DatePart] = &[DatePart::Year];
const MONTH: (&str, &[DatePart]) =
    ("{month}, {month2} or {monthName}", &[DatePart::Month, DatePart::PaddedMonth, DatePart::MonthName]);
const DAY: &[DatePart] = &[DatePart::Day, DatePart::PaddedDay];

fn problem(path: impl Into<String>, reason: impl Into<String>) -> YamlError {
    YamlError { path: path.into(), reason: reason.into() }
}

fn check_separators(raw: &Document) -> Result<(), YamlError> {
    for (field, text) in
        [("decimalSeparator", &raw.decimal_separator), ("groupSeparator", &raw.group_separator)]
    {
        check_line(text).map_err(|reason| problem(field, reason))?;
        if text.chars().any(|c| c.is_numeric() || c.is_alphabetic() || matches!(c, '-' | '−' | '+')) {
            return Err(problem(field, "must not have digits, letters or signs"));
        }
    }
    if raw.decimal_separator.is_empty() {
        return Err(problem("decimalSeparator", "is empty"));
    }
    if raw.decimal_separator == raw.group_separator {
        return Err(problem("groupSeparator", "must differ from decimalSeparator"));
    }
    Ok(())
}

type Money = (Vec<(Currency, Pattern<MoneyPart>)>, Pattern<MoneyPart>);

fn money(raw: &[(String, String)]) -> Result<Money, YamlError> {
    const DEFAULT: &str = "default";
    let (mut by_currency, mut default) = (Vec::new(), None);
    for (key, text) in raw {
        let at = |reason| problem(format!("money.{key}"), reason);
        let pattern = Pattern::parse(text).map_err(at)?;
        if !pattern.has(MoneyPart::Amount) {
            return Err(at("has no {amount}".to_owned()));
        }
        if key == DEFAULT {
            if !pattern.has(MoneyPart::Code) {
                return Err(at(
                    "has no {code}: without it, amounts of two currencies look the same".to_owned()
                ));
            }
            default = Some(pattern);
        } else {
            by_currency.push((key.parse().map_err(|error| at(format!("{error}")))?, pattern));
        }
    }
    let default =
        default.ok_or_else(|| problem("money", "has no `default`, for currencies that it does not list"))?;
    Ok((by_currency, default))
}

/// A pattern that has one of each group of placeholders.
fn date_pattern(
    field: &str,
    text: &str,
    required: &[(&str, &[DatePart])],
) -> Result<Pattern<DatePart>, YamlError> {
    let pattern = Pattern::parse(text).map_err(|reason| problem(field, reason))?;
    for (name, parts) in required {
        if !parts.iter().any(|part| pattern.has(*part)) {
            return Err(problem(field, format!("has no {name}")));
        }
    }
    Ok(pattern)
}

/// Twelve names, or none.
fn month_names(field: &str, raw: Option<Vec<String>>) -> Result<Vec<String>, YamlError> {
    let Some(names) = raw else { return Ok(Vec::new()) };
    if names.len() != 12 {
        return Err(problem(field, format!("has {} names instead of 12", names.len())));
    }
    for (index, name) in names.iter().enumerate() {
        check_text(name).map_err(|reason| problem(format!("{field}[{index}]"), reason))?;
    }
    Ok(names)
}

fn number_pattern(field: &str, text: &str) -> Result<Pattern<Number>, YamlError> {
    let pattern = Pattern::parse(text).map_err(|reason| problem(field, reason))?;
    if !pattern.has(Number) {
        return Err(problem(field, "has no {number}"));
    }
    Ok(pattern)
}

fn forms(field: &str, raw: &document::RawForms) -> Result<Forms, YamlError> {
    Forms::parse(raw).map_err(|(key, reason)| {
        let path = key.map_or_else(|| field.to_owned(), |key| format!("{field}.{key}"));
        YamlError { path, reason }
    })
}

fn usage_kinds(raw: Vec<(String, document::UsageKind)>) -> Result<Vec<UsageKind>, YamlError> {
    let kind = |(code, raw): (String, document::UsageKind)| {
        let at = format!("usageKinds.{code}");
        check_text(&raw.name).map_err(|reason| problem(format!("{at}.name"), reason))?;
        let at_quantity = format!("{at}.quantity");
        let own = match code.as_str() {
            "voice" => Some("duration"),
            "data" => Some("data"),
            _ => None,
        };
        if let (Some(own), Some(_)) = (own, &raw.quantity) {
            let reason = format!("is not used: quantities of {code} are written as `{own}` says");
            return Err(problem(at_quantity, reason));
        }
        let quantity = raw.quantity.as_ref().map(|raw| forms(&at_quantity, raw)).transpose()?;
        Ok(UsageKind { code, name: raw.name, quantity })
    };
    raw.into_iter().map(kind).collect()
}
