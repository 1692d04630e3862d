//! From a bill's row to its mail: opens the envelopes, fetches what the templates need, composes. What could not be
//! composed is told by a reason that names nobody.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use domain::locale::Locale;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use email::{Bill, Composer, Email, Line, Mailbox, Templates};
use jiff::Timestamp;
use sqlx::PgConnection;
use store::crypto::{Column, Keyring};
use store::error::StoreError;
use store::notification::{BillForEmail, BillKey, NotificationError, RunFacts};
use store::{clock, installation};

/// What one batch composes at a time on each core.
const AT_ONCE: usize = 125;

/// Templates and price books, read once for each digest.
pub(crate) struct Shelf {
    keyring: Arc<Keyring>,
    from: Mailbox,
    locale: Option<Locale>,
    composers: HashMap<String, Result<Arc<Composer>, String>>,
    books: HashMap<String, Result<Arc<PriceBook>, String>>,
}

/// Everything that the letters of some rows need; clones share it.
#[derive(Clone)]
pub(crate) struct Kit(Arc<Content>);

struct Content {
    keyring: Arc<Keyring>,
    month: BillingMonth,
    locale: Locale,
    date: Timestamp,
    composer: Result<Arc<Composer>, String>,
    books: HashMap<String, Result<Arc<PriceBook>, String>>,
}

/// What a row came to.
#[derive(Debug)]
pub(crate) enum Letter {
    Ready(Email),
    /// The member has no address.
    NoAddress,
    /// It can't be composed, for this reason.
    Failed(String),
}

impl Shelf {
    pub(crate) fn new(keyring: Arc<Keyring>, from: Mailbox) -> Self {
        Self { keyring, from, locale: None, composers: HashMap::new(), books: HashMap::new() }
    }

    /// Fetches what these rows of a run need and is not here yet.
    ///
    /// # Errors
    /// The database can't be read, or hasn't got it. What it has but can't be used fails letters, not this.
    pub(crate) async fn kit(
        &mut self,
        connection: &mut PgConnection,
        run: &RunFacts,
        rows: &[BillForEmail],
    ) -> Result<Kit, NotificationError> {
        let locale = match self.locale {
            Some(locale) => locale,
            None => *self.locale.insert(default_locale(connection).await?),
        };
        let date = clock::now(connection).await?;
        if !self.composers.contains_key(&run.templates) {
            let files = store::notification::templates(connection, &run.templates).await?.files;
            let composer = match Templates::parse(&files) {
                Ok(templates) => Ok(Arc::new(Composer::new(templates, self.from.clone()))),
                Err(error) => Err(format!("TEMPLATES: {}", logging::chain(&error))),
            };
            self.composers.insert(run.templates.clone(), composer);
        }
        let needed: BTreeSet<&String> = rows.iter().map(|row| &row.price_book).collect();
        for sha256 in needed.iter().filter(|sha256| !self.books.contains_key(**sha256)).collect::<Vec<_>>() {
            let text = store::notification::price_book(connection, sha256).await?;
            let book = PriceBook::parse(&text).map(Arc::new);
            let book = book.map_err(|error| format!("PRICE_BOOK: {}", logging::chain(&error)));
            self.books.insert((*sha256).clone(), book);
        }
        let books = needed.into_iter().map(|sha256| (sha256.clone(), self.books[sha256].clone())).collect();
        Ok(Kit(Arc::new(Content {
            keyring: self.keyring.clone(),
            month: run.month,
            locale,
            date,
            composer: self.composers[&run.templates].clone(),
            books,
        })))
    }
}

async fn default_locale(connection: &mut PgConnection) -> Result<Locale, NotificationError> {
    match installation::read(connection).await {
        Ok(installation) => Ok(installation.locale),
        Err(StoreError::Database(error)) => Err(error.into()),
        Err(StoreError::State(why)) => {
            Err(NotificationError::NotKept(format!("the installation's settings ({why})")))
        }
    }
}

impl Kit {
    pub(crate) fn write(&self, row: &BillForEmail) -> Letter {
        match self.try_write(row) {
            Ok(Some(email)) => Letter::Ready(email),
            Ok(None) => Letter::NoAddress,
            Err(reason) => Letter::Failed(reason),
        }
    }

    fn try_write(&self, row: &BillForEmail) -> Result<Option<Email>, String> {
        let Content { keyring, month, locale, date, composer, books } = &*self.0;
        let member = row.key.member;
        let Some(email) = &row.email else { return Ok(None) };
        let composer = composer.as_ref().map_err(Clone::clone)?;
        let book = match books.get(&row.price_book) {
            Some(book) => book.as_ref().map_err(Clone::clone)?,
            None => return Err("PRICE_BOOK: the bill's price book was not fetched".to_owned()),
        };
        let open = |column, envelope: &[u8]| {
            keyring.open(column, member, envelope).map_err(|error| format!("DECRYPT: {error}"))
        };
        let name = open(Column::Name, &row.name)?;
        let email = open(Column::Email, email)?;
        let lines: Vec<Line<'_>> = (1..)
            .zip(&row.items)
            .map(|(line_no, item)| Line { item: item.item(line_no), reason: item.reason.as_deref() })
            .collect();
        let bill = Bill {
            month: *month,
            member,
            revision: row.key.revision,
            locale: row.locale.unwrap_or(*locale),
            name: &name,
            amounts: row.amounts,
            lines: &lines,
            book,
        };
        match composer.compose(&bill, &email, *date) {
            Ok(email) => Ok(Some(email)),
            Err(error) => Err(format!("COMPOSE: {error}")),
        }
    }
}

/// Writes all of them, on every core and off the async threads, in the order of the rows.
pub(crate) async fn write_all(kit: &Kit, mut rows: Vec<BillForEmail>) -> Vec<(BillKey, Letter)> {
    let mut parts = Vec::new();
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(AT_ONCE));
        let part = std::mem::replace(&mut rows, rest);
        let keys: Vec<BillKey> = part.iter().map(|row| row.key).collect();
        let kit = kit.clone();
        let written =
            tokio::task::spawn_blocking(move || part.iter().map(|row| kit.write(row)).collect::<Vec<_>>());
        parts.push((keys, written));
    }
    let mut letters = Vec::new();
    for (keys, written) in parts {
        match written.await {
            Ok(written) => letters.extend(keys.into_iter().zip(written)),
            // Those composed beside the one that is to blame have to go with it.
            Err(_) => letters
                .extend(keys.into_iter().map(|key| (key, Letter::Failed("COMPOSE: it panicked".to_owned())))),
        }
    }
    letters
}
