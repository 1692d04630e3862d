//! Compares what the mail server received with what the database says was sent, message by message.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::installation::Installation;
use crate::mail::Message;
use crate::{data, wait};

/// How long messages may be on their way after a scenario.
const SETTLE_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A bill that is a target of runs, with the outcomes that these runs recorded.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct RecordedDelivery {
    pub month: String,
    pub member_id: i64,
    pub revision: i32,
    /// How many of its targets have the outcome SENT.
    pub sent: i64,
    /// How many of its targets have the outcome UNKNOWN.
    pub unknown: i64,
    pub state: Option<String>,
    pub total_amount: Option<i64>,
    /// The total of the bill that it corrects.
    pub corrected_amount: Option<i64>,
    /// A consumer holds its delivery under a lease that has not expired.
    pub in_progress: bool,
}

const RECORDED_DELIVERIES: &str = "
    with target as (
        select t.month, t.member_id, t.revision, count(*) filter (where t.outcome = 'SENT') as sent,
               count(*) filter (where t.outcome = 'UNKNOWN') as unknown,
               max(t.corrects) filter (where t.outcome in ('SENT', 'UNKNOWN')) as corrects
        from notice_target t join notification n on n.id = t.notification
        where not n.rehearsal group by 1, 2, 3)
    select month, member_id, revision, coalesce(t.sent, 0) as sent, coalesce(t.unknown, 0) as unknown,
           d.state::text as state, b.total_amount,
           (select c.total_amount from bill c
            where c.month = t.month and c.member_id = t.member_id and c.revision = t.corrects) as corrected_amount,
           coalesce(d.state in ('CLAIMED', 'HANDED_OVER') and d.lease_until > clock_timestamp(), false) as in_progress
    from target t
    full join delivery d using (month, member_id, revision)
    left join bill b using (month, member_id, revision)";

/// Every difference between the two, at most one for each bill.
pub fn discrepancies(recorded: &[RecordedDelivery], messages: &[Arc<Message>]) -> Vec<String> {
    let members: HashMap<u64, u64> = (0..data::MEMBERS).map(|n| (data::member_id(n), n)).collect();
    let mut received: BTreeMap<(String, i64, i32), Vec<&Message>> = BTreeMap::new();
    let mut found = Vec::new();
    for message in messages {
        match message.bill() {
            Some(bill) => received.entry(bill).or_default().push(message),
            None => found.push(format!(
                "the Message-ID of message {} names no bill: {:?}",
                message.number,
                message.header("Message-ID")
            )),
        }
    }
    for bill in recorded {
        let key = (bill.month.clone(), bill.member_id, bill.revision);
        let messages = received.remove(&key).unwrap_or_default();
        if let Some(difference) = discrepancy(bill, &messages, &members) {
            found.push(format!("{key:?}: {difference}"));
        }
    }
    found.extend(received.into_iter().map(|(key, messages)| {
        format!(
            "{key:?}: {} messages were received, and the database has no record of this bill",
            messages.len()
        )
    }));
    found
}

fn discrepancy(
    bill: &RecordedDelivery,
    messages: &[&Message],
    members: &HashMap<u64, u64>,
) -> Option<String> {
    let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    let RecordedDelivery { sent, unknown, .. } = *bill;
    let state = bill.state.as_deref().unwrap_or("none");
    if sent > 1 || (sent == 1) != (state == "SENT") || (state == "UNKNOWN" && unknown == 0) {
        return Some(format!(
            "its delivery is {state}, but {sent} targets are SENT and {unknown} are UNKNOWN"
        ));
    }
    // Bills of the mock's month never reach a mail server.
    let (least, most) = if bill.month == data::mock_month() { (0, 0) } else { (sent, sent + unknown) };
    if !(least..=most).contains(&count) {
        return Some(format!(
            "{count} messages were received, but {sent} targets are SENT and {unknown} are UNKNOWN"
        ));
    }
    let n = u64::try_from(bill.member_id).ok().and_then(|id| members.get(&id));
    for message in messages {
        let late = bill.member_id.unsigned_abs() == data::MEMBER_WITH_LATE_ADDRESS;
        let address =
            if late { data::LATE_ADDRESS.to_owned() } else { n.map(|n| data::email(*n)).unwrap_or_default() };
        if message.to != [address.as_str()] {
            return Some(format!(
                "message {} was sent to {:?}, not to {address}",
                message.number, message.to
            ));
        }
        let Some(total) = bill.total_amount else { return Some("the database has no such bill".to_owned()) };
        for (part, text) in [("text", &message.text), ("HTML", &message.html)] {
            for total in std::iter::once(total).chain(bill.corrected_amount) {
                if !text.as_deref().is_some_and(|text| contains_amount(text, total)) {
                    return Some(format!(
                        "the {part} of message {} does not contain the total {total}",
                        message.number
                    ));
                }
            }
        }
    }
    None
}

/// Whether the text contains the amount with thousands separators, and not only as a part of a
/// longer number.
pub fn contains_amount(text: &str, amount: i64) -> bool {
    let wanted = with_separators(amount);
    let part_of_number = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || c == ',');
    text.match_indices(&wanted).any(|(at, _)| {
        !part_of_number(text[..at].chars().next_back())
            && !part_of_number(text[at + wanted.len()..].chars().next())
    })
}

/// The amount with thousands separators, without a sign.
pub fn with_separators(amount: i64) -> String {
    let digits = amount.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl Installation {
    pub async fn recorded_deliveries(&self) -> Result<Vec<RecordedDelivery>> {
        sqlx::query_as(RECORDED_DELIVERIES)
            .fetch_all(&self.pool)
            .await
            .context("read the recorded deliveries")
    }

    /// Invariants 7 and 8: each message has its bill's recipient and amount; each SENT target has
    /// one message, and each message a SENT or UNKNOWN target. Waits for messages that are
    /// still on their way when a scenario ends.
    pub async fn deliveries_match_mail_server(&self) -> Result<()> {
        wait::until_true("the mail server and the database to agree", SETTLE_LIMIT, async || {
            let recorded = self.recorded_deliveries().await?;
            let in_progress = recorded.iter().filter(|bill| bill.in_progress).count();
            ensure!(in_progress == 0, "{in_progress} deliveries are still claimed or handed over");
            let found = discrepancies(&recorded, &self.mail.messages().await?);
            ensure!(found.is_empty(), "{} discrepancies: {:#?}", found.len(), &found[..found.len().min(5)]);
            Ok(true)
        })
        .await
    }
}
