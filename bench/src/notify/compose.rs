//! The reference for consuming: decrypts and composes the same bills in memory, on one core. Does
//! not measure reading them.

use std::path::Path;
use std::time::{Duration, Instant};

use domain::ids::MemberId;
use domain::locale::Locale;
use domain::price_book::PriceBook;
use email::{Bill, Composer, Line, Templates};
use jiff::Timestamp;
use secrecy::SecretString;
use sqlx::PgConnection;
use store::crypto::{Column, Keyring};
use store::notification::{BillForEmail, BillKey, RunFacts};

/// Bills that are read at once, as a consumer does.
const BATCH: usize = 1000;
/// Composing so many bills is enough to know the rate.
const MAX_BILLS: usize = 200_000;
/// The sender of the emails.
pub(crate) const FROM: &str = "Monthend <billing@example.com>";

/// The date in the emails does not matter.
const DATE: Timestamp = Timestamp::UNIX_EPOCH;

/// The result of composing.
pub(crate) struct Composing {
    pub(crate) bills: u64,
    pub(crate) emails: u64,
    /// Of all emails together.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

pub(crate) async fn measure(
    connection: &mut PgConnection,
    keys: &Path,
    run: &RunFacts,
    book: &PriceBook,
    templates: Templates,
    targets: &[BillKey],
) -> anyhow::Result<Composing> {
    let keyring = Keyring::from_folder(keys)?;
    let composer = Composer::new(templates, FROM.parse()?);
    let mut composing = Composing { bills: 0, emails: 0, bytes: 0, took: Duration::ZERO };
    // The sample covers the whole range, as members differ.
    let skip = (targets.len() / BATCH).div_ceil(MAX_BILLS / BATCH).max(1);
    for batch in targets.chunks(BATCH).step_by(skip) {
        let rows = store::notification::read_bills_for_email(connection, run, batch).await?;
        let started = Instant::now();
        for row in &rows {
            let Some(email) = &row.email else { continue };
            let member = row.key.member;
            let name = keyring.open(Column::Name, member, &row.name)?;
            let email = keyring.open(Column::Email, member, email)?;
            composing.bytes += compose(&composer, run, book, member, row, &name, &email)?;
            composing.emails += 1;
        }
        composing.took += started.elapsed();
        composing.bills += u64::try_from(rows.len())?;
    }
    Ok(composing)
}

/// Composes one email and returns its size in bytes.
fn compose(
    composer: &Composer,
    run: &RunFacts,
    book: &PriceBook,
    member: MemberId,
    row: &BillForEmail,
    name: &SecretString,
    email: &SecretString,
) -> anyhow::Result<u64> {
    let lines: Vec<Line<'_>> = (1..)
        .zip(&row.items)
        .map(|(line_no, item)| Line { item: item.item(line_no), reason: item.reason.as_deref() })
        .collect();
    let bill = Bill {
        month: run.month,
        member,
        revision: row.key.revision,
        locale: row.locale.unwrap_or(Locale::KO),
        default_locale: Locale::KO,
        name,
        amounts: row.amounts,
        lines: &lines,
        book,
        corrects: None,
    };
    Ok(u64::try_from(composer.compose(&bill, email, DATE)?.content().expose().len())?)
}
