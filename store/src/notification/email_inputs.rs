//! What an email is rendered from: bills with their items and members, templates, price books. The
//! number of statements does not depend on the number of bills.

use std::collections::{BTreeMap, HashMap};

use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::pricing::{Amounts, Item, ItemKind};
use sqlx::PgConnection;

use super::corrected_bills::{CorrectedBill, read_corrected_bills, read_corrected_keys};
use super::delivery::{BillKey, key_columns, read_key};
use super::notification_error::NotificationError;
use super::run::RunFacts;
use crate::error::{During as _, StoreError};
use crate::installation::Locale;

/// Templates by file name, and the digest under which they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSet {
    /// The SHA-256 over all files, in hexadecimal.
    pub sha256: String,
    pub files: BTreeMap<String, String>,
}

const KINDS: [ItemKind; 7] = [
    ItemKind::Base,
    ItemKind::Usage,
    ItemKind::Addon,
    ItemKind::Discount,
    ItemKind::Adjustment,
    ItemKind::Tax,
    ItemKind::Rounding,
];

/// A bill and its member, as an email needs them. Name and address are still encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillForEmail {
    pub key: BillKey,
    pub name: Vec<u8>,
    pub email: Option<Vec<u8>>,
    /// None: the installation's locale applies.
    pub locale: Option<Locale>,
    pub amounts: Amounts,
    /// The SHA-256 of the price book that the bill was priced with, in hexadecimal.
    pub price_book: String,
    /// In order of `line_no`.
    pub items: Vec<BillForEmailItem>,
    /// The bill that the email corrects. None: the email is the bill.
    pub corrects: Option<CorrectedBill>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillForEmailItem {
    pub kind: ItemKind,
    pub code: String,
    pub quantity: i64,
    pub amount: MinorUnits,
    pub days: Option<i32>,
    pub used: Option<i64>,
    pub free: Option<i64>,
    /// The reason of an adjustment, as its author wrote it.
    pub reason: Option<String>,
}

impl BillForEmailItem {
    /// The item as pricing made it.
    #[must_use]
    pub fn item(&self, line_no: i32) -> Item<'_> {
        Item {
            line_no,
            kind: self.kind,
            code: &self.code,
            quantity: self.quantity,
            amount: self.amount,
            days: self.days,
            used: self.used,
            free: self.free,
        }
    }
}

/// Reads the bills of targets of the run with their items and members, and the bills that they
/// correct, sorted by key. A member is read as of the last finished load; one of whom all versions
/// were taken back has no address. A bill that is not in the database is left out.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_bills_for_email(
    connection: &mut PgConnection,
    run: &RunFacts,
    keys: &[BillKey],
) -> Result<Vec<BillForEmail>, NotificationError> {
    let month = run.month;
    let corrected_keys = read_corrected_keys(connection, run, keys).await?;
    let sent_before: Vec<BillKey> = corrected_keys.values().copied().collect();
    let (members, revisions) = key_columns(&[keys, sent_before.as_slice()].concat());
    let mut items = read_items(connection, month, &members, &revisions).await?;
    let mut corrected = read_corrected_bills(connection, run, &sent_before, &mut items).await?;
    let (members, revisions) = key_columns(keys);
    let rows = sqlx::query!(
        r#"select b.member_id, b.revision, b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount,
                  b.tax_amount, b.rounding_amount, b.total_amount, r.price_book, m.name,
                  case when m.counts then m.email end as email, m.locale
           from (select distinct member_id, revision from unnest($2::bigint[], $3::int[]) as k (member_id, revision)) a
           join bill b on b.month = $1 and b.member_id = a.member_id and b.revision = a.revision
           join revision r on r.month = $1 and r.revision = a.revision
           cross join lateral (
               select name, email, locale, not exists (
                   select from load v where v.number = member.load and v.taken_back_by is not null) as counts
               from member
               where member_id = a.member_id and load <= (select max(number) from load where state = 'FINISHED')
               order by counts desc, load desc limit 1) m
           order by b.member_id, b.revision"#,
        month.to_string(),
        &members,
        &revisions
    )
    .fetch_all(connection)
    .await
    .during("cannot read bills and members")?;
    rows.into_iter()
        .map(|row| {
            let key = read_key(row.member_id, row.revision)?;
            let locale = row
                .locale
                .map(|text| text.parse::<Locale>().map_err(|_| StoreError::unreadable("member.locale", text)))
                .transpose()?;
            Ok(BillForEmail {
                key,
                name: row.name,
                email: row.email,
                locale,
                amounts: Amounts {
                    base: MinorUnits::new(row.base_amount),
                    usage: MinorUnits::new(row.usage_amount),
                    discount: MinorUnits::new(row.discount_amount),
                    adjustment: MinorUnits::new(row.adjustment_amount),
                    tax: MinorUnits::new(row.tax_amount),
                    rounding: MinorUnits::new(row.rounding_amount),
                    total: MinorUnits::new(row.total_amount),
                },
                price_book: row.price_book,
                items: items.remove(&key).unwrap_or_default(),
                corrects: corrected_keys.get(&key).and_then(|sent_before| corrected.remove(sent_before)),
            })
        })
        .collect()
}

async fn read_items(
    connection: &mut PgConnection,
    month: BillingMonth,
    members: &[i64],
    revisions: &[i32],
) -> Result<HashMap<BillKey, Vec<BillForEmailItem>>, NotificationError> {
    let rows = sqlx::query!(
        r#"select i.member_id, i.revision, i.kind::text as "kind!", i.code, i.quantity, i.amount, i.days, i.used_quantity,
                  i.free_allowance
           from (select distinct member_id, revision from unnest($2::bigint[], $3::int[]) as k (member_id, revision)) a
           join bill_item i on i.month = $1 and i.member_id = a.member_id and i.revision = a.revision
           order by i.member_id, i.revision, i.line_no"#,
        month.to_string(),
        members,
        revisions
    )
    .fetch_all(&mut *connection)
    .await
    .during("cannot read the bills' items")?;
    let mut items: HashMap<BillKey, Vec<BillForEmailItem>> = HashMap::with_capacity(members.len());
    for row in rows {
        let kind = KINDS
            .into_iter()
            .find(|kind| kind.as_str() == row.kind)
            .ok_or_else(|| StoreError::unreadable("bill_item.kind", row.kind))?;
        items.entry(read_key(row.member_id, row.revision)?).or_default().push(BillForEmailItem {
            kind,
            code: row.code,
            quantity: row.quantity,
            amount: MinorUnits::new(row.amount),
            days: row.days,
            used: row.used_quantity,
            free: row.free_allowance,
            reason: None,
        });
    }
    if items.values().flatten().any(|item| item.kind == ItemKind::Adjustment) {
        add_adjustment_reasons(connection, month, &mut items).await?;
    }
    Ok(items)
}

/// Adds the reasons of adjustments. The adjustments of a bill are those within the cut-off of its
/// revision, sorted by id, and after them those that earlier months have posted.
async fn add_adjustment_reasons(
    connection: &mut PgConnection,
    month: BillingMonth,
    items: &mut HashMap<BillKey, Vec<BillForEmailItem>>,
) -> Result<(), NotificationError> {
    let adjusted = items.iter_mut().filter_map(|(key, items)| {
        let adjustments: Vec<&mut BillForEmailItem> =
            items.iter_mut().filter(|item| item.kind == ItemKind::Adjustment).collect();
        (!adjustments.is_empty()).then_some((*key, adjustments.into_iter()))
    });
    let mut adjusted: HashMap<BillKey, _> = adjusted.collect();
    let (members, revisions) = key_columns(&adjusted.keys().copied().collect::<Vec<_>>());
    let rows = sqlx::query!(
        r#"select k.member_id as "member_id!", k.revision as "revision!", a.code as "code!", a.reason as "reason!"
           from unnest($2::bigint[], $3::int[]) as k (member_id, revision)
           join revision r on r.month = $1 and r.revision = k.revision
           cross join lateral (
               select loaded.code, loaded.reason, adjustment_id, null as from_month, null::int as from_revision
               from adjustment loaded
               where loaded.month = $1 and loaded.member_id = k.member_id and loaded.load <= r.data_cutoff
                 and not exists (select from load l where l.number = loaded.load and l.taken_back_by <= r.data_cutoff)
               union all
               select p.code, p.reason, null, p.from_month, p.from_revision
               from posted_adjustment p where p.month = $1 and p.member_id = k.member_id) a
           order by k.member_id, k.revision, a.adjustment_id nulls last, a.from_month, a.from_revision"#,
        month.to_string(),
        &members,
        &revisions
    )
    .fetch_all(connection)
    .await
    .during("cannot read the reasons of adjustments")?;
    for row in rows {
        let next = adjusted.get_mut(&read_key(row.member_id, row.revision)?).and_then(Iterator::next);
        // An item whose code does not match stays without a reason, and the email shows its code.
        if let Some(item) = next.filter(|item| item.code == row.code) {
            item.reason = Some(row.reason);
        }
    }
    Ok(())
}

/// Reads the templates that are stored under this digest.
///
/// # Errors
/// When there are none, or the database fails.
pub async fn read_templates(
    connection: &mut PgConnection,
    sha256: &str,
) -> Result<TemplateSet, NotificationError> {
    let content = sqlx::query_scalar!("select content from template_set where sha256 = $1", sha256)
        .fetch_optional(connection)
        .await
        .during("cannot read the templates")?
        .ok_or_else(|| NotificationError::NotKept(format!("templates {sha256}")))?;
    let files: BTreeMap<String, String> = serde_json::from_value(content)
        .map_err(|_| StoreError::unreadable("template_set.content", sha256))?;
    Ok(TemplateSet { sha256: sha256.to_owned(), files })
}

/// Reads the text of the price book that is stored under this digest.
///
/// # Errors
/// When there is none, or the database fails.
pub async fn read_price_book(
    connection: &mut PgConnection,
    sha256: &str,
) -> Result<String, NotificationError> {
    sqlx::query_scalar!("select content from price_book where sha256 = $1", sha256)
        .fetch_optional(connection)
        .await
        .during("cannot read the price book")?
        .ok_or_else(|| NotificationError::NotKept(format!("price book {sha256}")))
}
