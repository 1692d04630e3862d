//! Rows in PostgreSQL's binary COPY format, the fastest way to write many rows. Owns encoding and
//! sending; knows no table. The format:
//! <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>.

use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::{AssertSqlSafe, PgConnection};

/// 2000-01-01T00:00:00Z, where PostgreSQL's clock starts, in microseconds since 1970.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// 2000-01-01, where PostgreSQL's calendar starts.
const EPOCH_DATE: Date = jiff::civil::date(2000, 1, 1);

/// Below this size rows are inserted. A COPY ends with a packet of its own, which the kernel holds back
/// until the server has acknowledged the one before, as sqlx 0.9.0 does not set TCP_NODELAY; the server
/// acknowledges a short one after 40 ms.
const FEW_BYTES: usize = 64 * 1024;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A table, and those of its columns that rows have values for.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, ColumnType)],
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Int8,
    Int4,
    Text,
    Bytea,
    /// The enum of this name.
    Enum(&'static str),
}

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    fn copy_statement(&self) -> String {
        format!("copy {} ({}) from stdin (format binary)", self.name, self.names())
    }

    fn insert_statement(&self) -> String {
        let arrays: Vec<_> = (1..)
            .zip(self.columns)
            .map(|(number, (_, kind))| match kind {
                ColumnType::Int8 => format!("${number}::int8[]"),
                ColumnType::Int4 => format!("${number}::int4[]"),
                ColumnType::Text => format!("${number}::text[]"),
                ColumnType::Bytea => format!("${number}::bytea[]"),
                ColumnType::Enum(name) => format!("${number}::text[]::{name}[]"),
            })
            .collect();
        format!("insert into {} ({}) select * from unnest({})", self.name, self.names(), arrays.join(", "))
    }
}

/// Encoded rows for one table. Each row starts with [`CopyRows::row`], followed by as many values
/// in the order of the statement's column list. Each value must have the column's own type, as
/// PostgreSQL converts nothing in this format.
#[derive(Debug)]
pub struct CopyRows {
    bytes: Vec<u8>,
    rows: u64,
}

impl Default for CopyRows {
    fn default() -> Self {
        Self { bytes: HEADER.to_vec(), rows: 0 }
    }
}

impl CopyRows {
    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The size of the rows that were not taken yet, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Starts a row with this number of columns.
    pub fn row(&mut self, columns: i16) -> &mut Self {
        self.rows += 1;
        self.bytes.extend_from_slice(&columns.to_be_bytes());
        self
    }

    /// A `bytea`.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = i32::try_from(value.len()).expect("a value below PostgreSQL's limit of 1 GiB");
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// A `text`, or an enum's label.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A `bigint`.
    pub fn int8(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// An `integer`.
    pub fn int4(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A `date`.
    pub fn date(&mut self, value: Date) -> &mut Self {
        self.int4(EPOCH_DATE.until(value).expect("two dates of the supported range").get_days())
    }

    /// A `timestamptz`, truncated to microseconds.
    pub fn timestamptz(&mut self, value: Timestamp) -> &mut Self {
        self.int8(value.as_microsecond() - EPOCH_MICROS)
    }

    /// A null of any type.
    pub fn null(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        self
    }

    /// The value, or a null.
    pub fn optional<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }

    /// Takes the bytes written so far, for an open COPY that continues with later rows.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes the remaining bytes with the end mark.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        self.bytes
    }

    /// Writes the rows to the table, the faster way for as many: COPY, or INSERT. Returns how many rows
    /// the server has written.
    ///
    /// # Errors
    /// The server's error about a row; then nothing was written.
    ///
    /// # Panics
    /// When the rows don't have the table's columns.
    pub async fn write(self, connection: &mut PgConnection, table: &Table) -> sqlx::Result<u64> {
        if self.size() < FEW_BYTES {
            self.insert(connection, table).await
        } else {
            self.send(connection, &table.copy_statement()).await
        }
    }

    async fn insert(self, connection: &mut PgConnection, table: &Table) -> sqlx::Result<u64> {
        let columns = self.columns(table.columns.len());
        let mut statement = sqlx::query(AssertSqlSafe(table.insert_statement()));
        for (values, (_, kind)) in columns.into_iter().zip(table.columns) {
            let values = values.into_iter();
            statement = match kind {
                ColumnType::Int8 => statement.bind(
                    values
                        .map(|value| {
                            value.map(|bytes| {
                                i64::from_be_bytes(bytes.try_into().expect("the eight bytes of a bigint"))
                            })
                        })
                        .collect::<Vec<_>>(),
                ),
                ColumnType::Int4 => statement.bind(
                    values
                        .map(|value| {
                            value.map(|bytes| {
                                i32::from_be_bytes(bytes.try_into().expect("the four bytes of an integer"))
                            })
                        })
                        .collect::<Vec<_>>(),
                ),
                ColumnType::Text | ColumnType::Enum(_) => statement.bind(
                    values
                        .map(|value| {
                            value.map(|bytes| str::from_utf8(bytes).expect("the text that was added"))
                        })
                        .collect::<Vec<_>>(),
                ),
                ColumnType::Bytea => statement.bind(values.collect::<Vec<_>>()),
            };
        }
        Ok(statement.execute(connection).await?.rows_affected())
    }

    /// The values of each column.
    fn columns(&self, number: usize) -> Vec<Vec<Option<&[u8]>>> {
        let mut columns = vec![Vec::with_capacity(usize::try_from(self.rows).unwrap_or(0)); number];
        let mut rest = &self.bytes[HEADER.len()..];
        while let Some((columns_of_row, values)) = rest.split_first_chunk() {
            assert_eq!(
                i16::from_be_bytes(*columns_of_row),
                i16::try_from(number).expect("few columns"),
                "the table's columns"
            );
            rest = values;
            for column in &mut columns {
                let (length, value) = rest.split_first_chunk().expect("a value's length");
                let length = usize::try_from(i32::from_be_bytes(*length)).ok();
                let (value, after) = value.split_at(length.unwrap_or(0));
                column.push(length.map(|_| value));
                rest = after;
            }
        }
        columns
    }

    /// Executes `statement`, a `COPY … FROM STDIN (FORMAT binary)`, with these rows and returns how
    /// many the server has written.
    ///
    /// # Errors
    /// The server's error about the statement or a row; then nothing was written.
    pub async fn send(self, connection: &mut PgConnection, statement: &str) -> sqlx::Result<u64> {
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.finish()).await?;
        copy.finish().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_encoded_as_the_format_specifies() {
        let mut rows = CopyRows::default();
        rows.row(4).int8(1).text("é").date(jiff::civil::date(2000, 1, 2)).optional(None, CopyRows::int4);
        let bytes = rows.finish();
        let body = &bytes[HEADER.len()..];
        assert_eq!(
            body,
            [
                &[0, 4][..],
                &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
                &[0, 0, 0, 2, 0xc3, 0xa9],
                &[0, 0, 0, 4, 0, 0, 0, 1],
                &[0xff, 0xff, 0xff, 0xff],
                &[0xff, 0xff],
            ]
            .concat()
        );
        assert_eq!(&bytes[..11], b"PGCOPY\n\xff\r\n\0");
    }

    #[test]
    fn instants_count_from_the_year_2000() {
        let mut rows = CopyRows::default();
        rows.row(1).timestamptz("2000-01-01T00:00:01.000002Z".parse().unwrap());
        assert_eq!(rows.take()[HEADER.len() + 6..], 1_000_002_i64.to_be_bytes());
    }
}
