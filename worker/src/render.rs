//! Renders a bill's database row as an email: decrypts the member's name and address, loads
//! templates and price book, composes. A bill that cannot be rendered has a reason that names no
//! person. Knows nothing of sending; `notify` and `rehearse` use it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use domain::locale::Locale;
use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use email::{Bill, Composer, Email, Line, Mailbox, SentBill, Templates};
use jiff::Timestamp;
use sqlx::PgConnection;
use store::crypto::{Column, Keyring};
use store::notification::{BillForEmail, BillForEmailItem, BillKey, NotificationError, RunFacts};
use store::{clock, installation};

/// Rows that one blocking task renders.
const ROWS_PER_TASK: usize = 125;

/// Parsed templates and price books, loaded once for each digest.
pub(crate) struct ComposerCache {
    keyring: Arc<Keyring>,
    from: Mailbox,
    default_locale: Option<Locale>,
    composers: HashMap<String, Result<Arc<Composer>, String>>,
    price_books: HashMap<String, Result<Arc<PriceBook>, String>>,
}

/// Everything that rendering the rows of one batch needs. Clones share it.
#[derive(Clone)]
pub(crate) struct BatchContext(Arc<Content>);

struct Content {
    keyring: Arc<Keyring>,
    month: BillingMonth,
    skip_zero: bool,
    default_locale: Locale,
    date: Timestamp,
    composer: Result<Arc<Composer>, String>,
    price_books: HashMap<String, Result<Arc<PriceBook>, String>>,
}

/// The result of rendering one row.
#[derive(Debug)]
pub(crate) enum Rendered {
    Email(Email),
    /// The member has no address.
    NoAddress,
    /// The bill is of 0, and the run leaves such bills unsent.
    ZeroAmount,
    /// The email cannot be composed, for this reason.
    Failed(String),
}

impl ComposerCache {
    pub(crate) fn new(keyring: Arc<Keyring>, from: Mailbox) -> Self {
        Self { keyring, from, default_locale: None, composers: HashMap::new(), price_books: HashMap::new() }
    }

    /// Loads what these rows of a run need and the cache does not have yet.
    ///
    /// # Errors
    /// The database cannot be read, or has no such templates or price book. Content that cannot be
    /// parsed is no error here: the rows that need it become [`Rendered::Failed`].
    pub(crate) async fn batch_context(
        &mut self,
        connection: &mut PgConnection,
        run: &RunFacts,
        rows: &[BillForEmail],
    ) -> Result<BatchContext, NotificationError> {
        let default_locale = match self.default_locale {
            Some(locale) => locale,
            None => *self.default_locale.insert(read_default_locale(connection).await?),
        };
        let date = clock::now(connection).await?;
        if !self.composers.contains_key(&run.templates) {
            let files = store::notification::read_templates(connection, &run.templates).await?.files;
            let composer = match Templates::parse(&files, default_locale) {
                Ok(templates) => Ok(Arc::new(Composer::new(templates, self.from.clone()))),
                Err(error) => Err(format!("TEMPLATES: {}", logging::chain(&error))),
            };
            self.composers.insert(run.templates.clone(), composer);
        }
        let corrected = rows.iter().filter_map(|row| row.corrects.as_ref()).map(|bill| &bill.price_book);
        let needed: BTreeSet<&String> = rows.iter().map(|row| &row.price_book).chain(corrected).collect();
        for sha256 in
            needed.iter().filter(|sha256| !self.price_books.contains_key(**sha256)).collect::<Vec<_>>()
        {
            let text = store::notification::read_price_book(connection, sha256).await?;
            let book = PriceBook::parse(&text).map(Arc::new);
            let book = book.map_err(|error| format!("PRICE_BOOK: {}", logging::chain(&error)));
            self.price_books.insert((*sha256).clone(), book);
        }
        let price_books =
            needed.into_iter().map(|sha256| (sha256.clone(), self.price_books[sha256].clone())).collect();
        Ok(BatchContext(Arc::new(Content {
            keyring: self.keyring.clone(),
            month: run.month,
            skip_zero: run.skip_zero,
            default_locale,
            date,
            composer: self.composers[&run.templates].clone(),
            price_books,
        })))
    }
}

async fn read_default_locale(connection: &mut PgConnection) -> Result<Locale, NotificationError> {
    Ok(installation::read(connection).await.map_err(NotificationError::from)?.locale)
}

impl BatchContext {
    fn render(&self, row: &BillForEmail) -> Rendered {
        // A correction to 0 is sent: the member was told of another amount.
        if self.0.skip_zero && row.corrects.is_none() && row.amounts.total == MinorUnits::ZERO {
            return Rendered::ZeroAmount;
        }
        match self.try_render(row) {
            Ok(Some(email)) => Rendered::Email(email),
            Ok(None) => Rendered::NoAddress,
            Err(reason) => Rendered::Failed(reason),
        }
    }

    fn try_render(&self, row: &BillForEmail) -> Result<Option<Email>, String> {
        let Content { keyring, month, default_locale, date, composer, price_books, .. } = &*self.0;
        let member = row.key.member;
        let Some(email) = &row.email else { return Ok(None) };
        let composer = composer.as_ref().map_err(Clone::clone)?;
        let book_of = |sha256: &str| match price_books.get(sha256) {
            Some(book) => book.as_ref().map_err(Clone::clone),
            None => Err("PRICE_BOOK: the bill's price book was not loaded".to_owned()),
        };
        let open = |column, ciphertext: &[u8]| {
            keyring.open(column, member, ciphertext).map_err(|error| format!("DECRYPT: {error}"))
        };
        let name = open(Column::Name, &row.name)?;
        let email = open(Column::Email, email)?;
        let own_lines = lines(&row.items);
        let sent_before = match &row.corrects {
            Some(bill) => Some((bill, lines(&bill.items), book_of(&bill.price_book)?)),
            None => None,
        };
        let corrects = sent_before.as_ref().map(|(bill, lines, book)| SentBill {
            revision: bill.revision,
            amounts: bill.amounts,
            lines,
            book,
        });
        let bill = Bill {
            month: *month,
            member,
            revision: row.key.revision,
            locale: row.locale.unwrap_or(*default_locale),
            default_locale: *default_locale,
            name: &name,
            amounts: row.amounts,
            lines: &own_lines,
            book: book_of(&row.price_book)?,
            corrects,
        };
        match composer.compose(&bill, &email, *date) {
            Ok(email) => Ok(Some(email)),
            Err(error) => Err(format!("COMPOSE: {error}")),
        }
    }
}

fn lines(items: &[BillForEmailItem]) -> Vec<Line<'_>> {
    (1..)
        .zip(items)
        .map(|(line_no, item)| Line { item: item.item(line_no), reason: item.reason.as_deref() })
        .collect()
}

/// Renders all rows on every core, off the async threads. The results are in the order of the rows.
pub(crate) async fn render_all(
    context: &BatchContext,
    mut rows: Vec<BillForEmail>,
) -> Vec<(BillKey, Rendered)> {
    let mut tasks = Vec::new();
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_PER_TASK));
        let part = std::mem::replace(&mut rows, rest);
        let keys: Vec<BillKey> = part.iter().map(|row| row.key).collect();
        let context = context.clone();
        let task = tokio::task::spawn_blocking(move || {
            part.iter().map(|row| context.render(row)).collect::<Vec<_>>()
        });
        tasks.push((keys, task));
    }
    let mut results = Vec::new();
    for (keys, task) in tasks {
        match task.await {
            Ok(rendered) => results.extend(keys.into_iter().zip(rendered)),
            // A panic fails all rows of its task.
            Err(_) => results.extend(
                keys.into_iter().map(|key| (key, Rendered::Failed("COMPOSE: it panicked".to_owned()))),
            ),
        }
    }
    results
}
