//! A month whose bills are live, written by SQL alone: for tests of what happens to bills after
//! they are issued.

use domain::ids::MemberId;
use domain::price_book::PriceBook;
use secrecy::zeroize::Zeroizing;

use super::database::TestDatabase;
use crate::crypto::{Column, Keyring};

/// The month of the bills.
pub const MONTH: &str = "2026-10";

/// The price book of the bills: one plan at 89,000 won.
pub const PRICE_BOOK: &str = "
version: test
currency: KRW
timeZone: Asia/Seoul
validFrom: 2000-01
usageKinds: [data]
plans:
  - { code: UNLIMITED-89, name: Unlimited 89, baseFee: 89000, usage: {} }
tax: { rate: \"10\", mode: inclusive }
billRounding: { unit: 10, mode: down }
";

/// A keyring with one key.
///
/// # Panics
/// Never: the key is valid.
#[must_use]
pub fn keyring() -> Keyring {
    let entry = |id: &str, content: &str| (id.to_owned(), Zeroizing::new(content.to_owned()));
    let entries = [entry("a", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), entry("active", "a")];
    Keyring::from_entries("the test", entries).expect("a valid key")
}

impl TestDatabase {
    /// Bills members 1 to `members`: revision 1 is live, with one bill and one item for each.
    pub async fn bill_members(&self, members: i64) {
        self.open_month().await;
        self.issue_bills(1, &format!("select generate_series(1, {members})")).await;
        self.execute("analyze").await;
    }

    /// Writes what a revision refers to: a finished load, unless there is one, the price book, whose
    /// digest is returned, and the month's partitions.
    async fn open_month(&self) -> String {
        let sha256 = PriceBook::parse(PRICE_BOOK).expect("a valid price book").sha256.to_string();
        self.execute(&format!(
            "with job as (insert into job_log (kind) select 'LOAD' where not exists (select from load) returning id)
             insert into load (number, kind, source, state, finished_at, job)
             select 1, 'LOAD', 'default', 'FINISHED', now(), id from job;
             insert into price_book (sha256, version, content) values ('{sha256}', 'test', $book${PRICE_BOOK}$book$)
                 on conflict do nothing;
             select open_billing_month('{MONTH}')"
        ))
        .await;
        sha256
    }

    /// Makes a revision live, over the live one if there is any, with a bill for each member that
    /// the query returns. The bill's amounts are 89,000 times the number of the revision.
    pub async fn issue_bills(&self, revision: i32, members: &str) {
        let sha256 = self.open_month().await;
        self.execute(&format!(
            "with job as (insert into job_log (kind, month) values ('BILLING', '{MONTH}') returning id)
             insert into revision (month, revision, run, run_uid, state, fence, data_cutoff, price_book, chunk_size, shards,
                                   members, job, issued_at, of_revision, rebill_reason)
             select '{MONTH}', {revision}, 'test/billing', gen_random_uuid(), 'LIVE', {revision},
                    (select max(number) from load), '{sha256}', 1000, 1, 0, id,
                    now(), live.revision, case when live.revision is not null then 'a correction' end
             from job, (select max(revision) as revision from revision where month = '{MONTH}' and state = 'LIVE') live;
             insert into bill (member_id, base_amount, usage_amount, discount_amount, adjustment_amount, tax_amount,
                               rounding_amount, total_amount, revision, month)
             select distinct id, 89000 * {revision}, 0, 0, 0, 8090, 0, 89000 * {revision}, {revision}, '{MONTH}'
             from ({members}) m (id);
             insert into bill_item (member_id, quantity, amount, used_quantity, free_allowance, revision, line_no, days,
                                    kind, code, month)
             select distinct id, 31, 89000 * {revision}, null::bigint, null::bigint, {revision}, 1, 31, 'BASE'::item_kind,
                    'UNLIMITED-89', '{MONTH}'
             from ({members}) m (id)"
        ))
        .await;
    }

    /// Writes members with encrypted names and addresses.
    ///
    /// # Panics
    /// When an id is not positive, or a member exists.
    pub async fn insert_members(&self, keyring: &Keyring, members: impl IntoIterator<Item = TestMember>) {
        let mut sealer = keyring.sealer();
        let (mut ids, mut names, mut emails, mut locales) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for TestMember { id, name, email, locale } in members {
            let member = MemberId::try_from(id).expect("a positive id");
            ids.push(id);
            names.push(sealer.seal(Column::Name, member, &name));
            emails.push(email.map(|email| sealer.seal(Column::Email, member, &email)));
            locales.push(locale);
        }
        sqlx::query(
            "insert into member (member_id, load, name, email, locale)
             select id, 1, name, email, locale
             from unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::text[]) as m (id, name, email, locale)",
        )
        .bind(ids)
        .bind(names)
        .bind(emails)
        .bind(locales)
        .execute(&self.pool)
        .await
        .expect("the members can be written");
    }
}

/// A member to write, in plain text.
#[derive(Debug, Clone)]
pub struct TestMember {
    pub id: i64,
    pub name: String,
    pub email: Option<String>,
    pub locale: Option<&'static str>,
}
