//! The bills that corrections correct: which target has one, and what it says.

use std::collections::HashMap;

use domain::ids::Revision;
use domain::money::MinorUnits;
use domain::pricing::Amounts;
use sqlx::PgConnection;

use super::delivery::{BillKey, key_columns, read_key};
use super::email_inputs::BillForEmailItem;
use super::notification_error::NotificationError;
use super::run::{RunFacts, Selection};
use crate::decode::read_number;
use crate::error::During as _;

/// The bill that was sent to the member before, with another amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectedBill {
    pub revision: Revision,
    pub amounts: Amounts,
    /// The SHA-256 of the price book that the bill was priced with, in hexadecimal.
    pub price_book: String,
    /// In order of `line_no`.
    pub items: Vec<BillForEmailItem>,
}

/// The bills among these targets of the run whose e-mail is a correction, each with the bill that
/// it corrects.
pub(super) async fn read_corrected_keys(
    connection: &mut PgConnection,
    run: &RunFacts,
    keys: &[BillKey],
) -> Result<HashMap<BillKey, BillKey>, NotificationError> {
    if run.selection == Selection::Ready {
        // Its targets are of members to whom nothing was sent.
        return Ok(HashMap::new());
    }
    let (members, revisions) = key_columns(keys);
    let rows = sqlx::query!(
        r#"select t.member_id, t.revision, t.corrects as "corrects!"
           from unnest($3::bigint[], $4::int[]) as a (member_id, revision)
           join notice_target t on t.month = $2 and t.notification = $1 and t.member_id = a.member_id
                               and t.revision = a.revision
           where t.corrects is not null"#,
        run.id.0,
        run.month.to_string(),
        &members,
        &revisions
    )
    .fetch_all(connection)
    .await
    .during("cannot read which bills the targets correct")?;
    rows.into_iter()
        .map(|row| {
            let key = read_key(row.member_id, row.revision)?;
            let revision = read_number("notice_target.corrects", row.corrects.into())?;
            Ok((key, BillKey { member: key.member, revision }))
        })
        .collect()
}

/// Reads the corrected bills by their keys, and takes their items from `items`.
pub(super) async fn read_corrected_bills(
    connection: &mut PgConnection,
    run: &RunFacts,
    keys: &[BillKey],
    items: &mut HashMap<BillKey, Vec<BillForEmailItem>>,
) -> Result<HashMap<BillKey, CorrectedBill>, NotificationError> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let (members, revisions) = key_columns(keys);
    let rows = sqlx::query!(
        r#"select b.member_id, b.revision, b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount,
                  b.tax_amount, b.rounding_amount, b.total_amount, r.price_book
           from unnest($2::bigint[], $3::int[]) as a (member_id, revision)
           join bill b on b.month = $1 and b.member_id = a.member_id and b.revision = a.revision
           join revision r on r.month = $1 and r.revision = a.revision"#,
        run.month.to_string(),
        &members,
        &revisions
    )
    .fetch_all(connection)
    .await
    .during("cannot read the corrected bills")?;
    rows.into_iter()
        .map(|row| {
            let key = read_key(row.member_id, row.revision)?;
            let bill = CorrectedBill {
                revision: key.revision,
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
            };
            Ok((key, bill))
        })
        .collect()
}
