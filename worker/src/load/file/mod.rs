//! The files that can be loaded: their names, their columns, and how a line becomes a row of the
//! staging table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use domain::locale::Locale;
use domain::month::BillingMonth;
use domain::zone::{MonthTable, Zone};
use jiff::Timestamp;
use jiff::civil::Date;
use store::copy::CopyRows;
use store::crypto::{Column, Keyring, Sealer};
use store::load::StagingTable;

use super::csv::Record;
use super::field::{self, Reason};

const NO_ADDRESS: &str = "no e-mail can be sent to this address: the member is stored without one";
const NAME_OF_LINES: &str =
    "the name has a line break or another control character: e-mails show a blank instead";
const PHONE_OF_LINES: &str = "the phone number has a line break or another control character";

/// A file with one row on each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum File {
    Members,
    Subscriptions,
    Grants,
    Adjustments,
    Usage,
}

impl File {
    /// In the order in which they are loaded.
    pub(crate) const ALL: [Self; 5] =
        [Self::Members, Self::Subscriptions, Self::Grants, Self::Adjustments, Self::Usage];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Members => "members.csv",
            Self::Subscriptions => "subscriptions.csv",
            Self::Grants => "grants.csv",
            Self::Adjustments => "adjustments.csv",
            Self::Usage => "usage.csv",
        }
    }

    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Members => &["member_id", "name", "email", "phone", "locale"],
            Self::Subscriptions => &["member_id", "plan_code", "from", "to"],
            Self::Grants => &["member_id", "discount_code", "from", "to"],
            Self::Adjustments => &["adjustment_id", "member_id", "month", "code", "amount", "reason"],
            Self::Usage => &["usage_id", "member_id", "kind", "quantity", "started_at"],
        }
    }

    /// Whether it is exactly the name of a column of any file.
    fn is_column_of_any(name: &str) -> bool {
        Self::ALL.iter().any(|file| file.columns().contains(&name))
    }

    /// Whether the column may be left out of the header.
    fn is_optional(self, column: &str) -> bool {
        self == Self::Members && column == "locale"
    }

    pub(crate) const fn staged(self) -> StagingTable {
        match self {
            Self::Members => StagingTable::Members,
            Self::Subscriptions => StagingTable::Subscriptions,
            Self::Grants => StagingTable::Grants,
            Self::Adjustments => StagingTable::Adjustments,
            Self::Usage => StagingTable::Usage,
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The columns of one file, in the order of its header line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The columns in the file's order.
    pub(crate) names: Vec<String>,
    /// For each of [`File::columns`], its index in a line of the file; none if the file does not
    /// have it.
    places: Vec<Option<usize>>,
}

impl Header {
    /// Reads the header line. If it is missing, the first line is a person's data: the error quotes
    /// only what is a column's name, but for case and blanks.
    pub(crate) fn read(file: File, names: Vec<String>) -> Result<Self, String> {
        let mut problems = Vec::new();
        let mut recognized = 0;
        for (at, name) in names.iter().enumerate() {
            let plain = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
            recognized += u32::from(File::is_column_of_any(&plain));
            if !file.columns().contains(&name.as_str()) {
                problems.push(match File::is_column_of_any(&plain) {
                    true => format!("`{}` is not one of its columns", name.escape_debug()),
                    false if name.is_empty() => format!("field {} is empty", at + 1),
                    false => format!("field {} is not one of its columns", at + 1),
                });
            } else if names[..at].contains(name) {
                problems.push(format!("`{name}` occurs twice"));
            }
        }
        let places: Vec<_> =
            file.columns().iter().map(|column| names.iter().position(|name| name == column)).collect();
        for (column, place) in file.columns().iter().zip(&places) {
            if place.is_none() && !file.is_optional(column) {
                problems.push(format!("`{column}` is missing"));
            }
        }
        if problems.is_empty() {
            return Ok(Self { names, places });
        }
        let columns = file.columns().join(", ");
        let form = format!("its header line must name {columns} and nothing else, in any order");
        if recognized == 0 {
            let fields = names.len();
            let fields = if fields == 1 { "1 field".to_owned() } else { format!("{fields} fields") };
            return Err(format!("{form}: the first line has {fields} and none of these names"));
        }
        Err(format!("{form}: {}", problems.join(", ")))
    }
}

impl Header {
    /// Whether the file has this column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.names.iter().any(|name| name == column)
    }
}

/// The fields of one line, indexed in the order of [`File::columns`].
struct Row<'a> {
    text: &'a str,
    record: Record<'a>,
    header: &'a Header,
}

impl<'a> Row<'a> {
    fn new(record: Record<'a>, header: &'a Header) -> Result<Self, Reason> {
        let (has, needs) = (record.len(), header.names.len());
        if has != needs {
            return Err(format!("{has} fields instead of {needs}").into());
        }
        let text = std::str::from_utf8(record.data()).map_err(|_| "not UTF-8")?;
        if memchr::memchr(0, record.data()).is_some() {
            return Err("a NUL character".into());
        }
        Ok(Self { text, record, header })
    }

    /// The field of a column; empty if the file does not have the column.
    fn get(&self, column: usize) -> &'a str {
        self.header.places[column].map_or("", |place| &self.text[self.record.range(place)])
    }
}

/// Counts and sums of a file's lines, for the manifest and the summary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Data lines, rejects included.
    pub(crate) rows: u64,
    pub(crate) rejects: u64,
    /// Members whose email address is invalid and not stored.
    pub(crate) addresses_dropped: u64,
    /// Months of the accepted usage.
    pub(crate) months: BTreeSet<BillingMonth>,
    /// By kind, of every line whose kind and quantity can be read. Only if the manifest states
    /// them.
    pub(crate) quantities: BTreeMap<String, i128>,
    /// First and last local date of the accepted usage. Only if the manifest states them.
    pub(crate) days: Option<(Date, Date)>,
}

/// Turns the lines of one file into rows of its staging table.
pub(crate) struct LineConverter<'a> {
    file: File,
    header: &'a Header,
    zone: &'a Zone,
    months: &'a MonthTable,
    sealer: Option<Sealer<'a>>,
    /// Whether to compute the sums that only a manifest needs.
    for_manifest: bool,
    /// The month of the last usage row, and its name.
    month: Option<(BillingMonth, String)>,
    envelope: Vec<u8>,
    pub(crate) sums: Sums,
    /// The members and warnings of the last line. The caller takes them.
    pub(crate) warnings: Vec<(i64, &'static str)>,
}

impl<'a> LineConverter<'a> {
    pub(crate) fn new(
        file: File,
        header: &'a Header,
        zone: &'a Zone,
        months: &'a MonthTable,
        keys: Option<&'a Keyring>,
        for_manifest: bool,
    ) -> Self {
        Self {
            file,
            header,
            zone,
            months,
            sealer: keys.map(Keyring::sealer),
            for_manifest,
            month: None,
            envelope: Vec::new(),
            sums: Sums::default(),
            warnings: Vec::new(),
        }
    }

    /// Adds the row of a line.
    ///
    /// # Errors
    /// Why the line is rejected.
    pub(crate) fn convert(&mut self, record: Record<'_>, rows: &mut CopyRows) -> Result<(), Reason> {
        let line = i64::try_from(record.line).unwrap_or(i64::MAX);
        let header = self.header;
        let row = Row::new(record, header)?;
        match self.file {
            File::Members => self.member(line, &row, rows),
            File::Subscriptions | File::Grants => self.span(line, &row, rows),
            File::Adjustments => adjustment(line, &row, rows),
            File::Usage => self.usage(line, &row, rows),
        }
    }

    fn member(&mut self, line: i64, row: &Row<'_>, rows: &mut CopyRows) -> Result<(), Reason> {
        // These reasons do not quote the line: in a wrong column there may be personal data.
        let member = field::member_id(row.get(0));
        let member = member.map_err(|_| "member_id is not 1 to 9223372036854775807 in plain digits")?;
        let locale = field::locale(row.get(4));
        let locale = locale.map_err(
            |_| "locale is neither empty nor a language of two or three letters, such as ko or en",
        )?;
        let (name, email, phone) = (row.get(1), row.get(2), row.get(3));
        let usable = field::is_usable_address(email);
        if !usable && !email.is_empty() {
            self.sums.addresses_dropped += 1;
            self.warnings.push((member.get(), NO_ADDRESS));
        }
        for (text, warning) in [(name, NAME_OF_LINES), (phone, PHONE_OF_LINES)] {
            if text.chars().any(char::is_control) {
                self.warnings.push((member.get(), warning));
            }
        }
        let sealer = self.sealer.as_mut().expect("a folder with members is only loaded with keys");
        let envelope = &mut self.envelope;
        rows.row(6)
            .int8(line)
            .int8(member.get())
            .optional(locale.as_ref().map(Locale::as_str), CopyRows::text);
        let columns = [
            (Column::Name, name, true),
            (Column::Email, email, usable),
            (Column::Phone, phone, !phone.is_empty()),
        ];
        for (column, text, kept) in columns {
            if kept {
                envelope.clear();
                sealer.seal_into(envelope, column, member, text);
                rows.bytes(envelope);
            } else {
                rows.null();
            }
        }
        Ok(())
    }

    fn span(&mut self, line: i64, row: &Row<'_>, rows: &mut CopyRows) -> Result<(), Reason> {
        let member = field::member_id(row.get(0))?;
        let code = field::code(self.file.columns()[1], row.get(1))?;
        let (from, to) = field::span(row.get(2), row.get(3))?;
        rows.row(5).int8(line).int8(member.get()).text(code).date(from).optional(to, CopyRows::date);
        Ok(())
    }

    fn usage(&mut self, line: i64, row: &Row<'_>, rows: &mut CopyRows) -> Result<(), Reason> {
        let (kind, quantity) = (field::kind(row.get(2)), field::quantity(row.get(3)));
        if self.for_manifest
            && let (Ok(kind), Ok(quantity)) = (&kind, &quantity)
        {
            match self.sums.quantities.get_mut(*kind) {
                Some(sum) => *sum += i128::from(*quantity),
                None => drop(self.sums.quantities.insert((*kind).to_owned(), i128::from(*quantity))),
            }
        }
        let usage_id = field::usage_id(row.get(0))?;
        let member = field::member_id(row.get(1))?;
        let (kind, quantity) = (kind?, quantity?);
        let started_at = field::instant(row.get(4))?;
        let zone = self.zone;
        let month = self.month_of(started_at).ok_or_else(|| {
            let local = zone.local_date(started_at);
            Reason::from(format!("started_at {started_at} is {local} in {zone}, outside 2000 to 2099"))
        })?;
        rows.row(7).int8(line).int8(member.get()).timestamptz(started_at).int8(quantity);
        rows.text(kind).text(month).text(usage_id);
        if self.for_manifest {
            let date = zone.local_date(started_at);
            let (first, last) = self.sums.days.unwrap_or((date, date));
            self.sums.days = Some((first.min(date), last.max(date)));
        }
        Ok(())
    }

    /// The month of an instant, as text; none outside 2000 to 2099.
    fn month_of(&mut self, at: Timestamp) -> Option<&str> {
        let month = self.months.month_of(at)?;
        if self.month.as_ref().is_none_or(|(last, _)| *last != month) {
            self.sums.months.insert(month);
            self.month = Some((month, month.to_string()));
        }
        self.month.as_ref().map(|(_, name)| name.as_str())
    }
}

fn adjustment(line: i64, row: &Row<'_>, rows: &mut CopyRows) -> Result<(), Reason> {
    let adjustment = field::adjustment_id(row.get(0))?;
    let member = field::member_id(row.get(1))?;
    let month = field::month(row.get(2))?;
    let code = field::code("code", row.get(3))?;
    let amount = field::amount(row.get(4))?;
    rows.row(7).int8(line).int8(adjustment).int8(member.get()).text(&month.to_string());
    rows.text(code).int8(amount).text(row.get(5));
    Ok(())
}

#[cfg(test)]
mod tests;
