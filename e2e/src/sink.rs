//! What the mail server really received against what the database says was sent, message by message.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};

use crate::{data, installation::Installation, mail::Message, wait};

const SETTLED: std::time::Duration = std::time::Duration::from_secs(30);

/// A bill that runs were to tell of, and what they say came of it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Told {
    pub month: String,
    pub member_id: i64,
    pub revision: i32,
    /// Targets of it, by outcome.
    pub sent: i64,
    pub unknown: i64,
    pub state: Option<String>,
    pub total_amount: Option<i64>,
    /// Its delivery is in somebody's hands.
    pub in_hand: bool,
}

const TOLD: &str = "
    with target as (
        select t.month, t.member_id, t.revision, count(*) filter (where t.outcome = 'SENT') as sent,
               count(*) filter (where t.outcome = 'UNKNOWN') as unknown
        from notice_target t join notification n on n.id = t.notification
        where not n.rehearsal group by 1, 2, 3)
    select month, member_id, revision, coalesce(t.sent, 0) as sent, coalesce(t.unknown, 0) as unknown,
           d.state::text as state, b.total_amount,
           coalesce(d.state in ('CLAIMED', 'HANDED_OVER') and d.lease_until > clock_timestamp(), false) as in_hand
    from target t
    full join delivery d using (month, member_id, revision)
    left join bill b using (month, member_id, revision)";

/// Everything that the two say differently. At most one sentence for a bill.
pub fn disagreements(told: &[Told], messages: &[Arc<Message>]) -> Vec<String> {
    let members: HashMap<u64, u64> = (0..data::MEMBERS).map(|n| (data::member_id(n), n)).collect();
    let mut received: BTreeMap<(String, i64, i32), Vec<&Message>> = BTreeMap::new();
    let mut found = Vec::new();
    for message in messages {
        match message.bill() {
            Some(bill) => received.entry(bill).or_default().push(message),
            None => found.push(format!(
                "message {} names no bill: {:?}",
                message.number,
                message.header("Message-ID")
            )),
        }
    }
    for bill in told {
        let key = (bill.month.clone(), bill.member_id, bill.revision);
        let messages = received.remove(&key).unwrap_or_default();
        if let Some(wrong) = wrong_with(bill, &messages, &members) {
            found.push(format!("{key:?}: {wrong}"));
        }
    }
    found.extend(received.into_iter().map(|(key, messages)| {
        format!("{key:?}: {} messages, and nothing is known of them", messages.len())
    }));
    found
}

fn wrong_with(bill: &Told, messages: &[&Message], members: &HashMap<u64, u64>) -> Option<String> {
    let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    let Told { sent, unknown, .. } = *bill;
    let state = bill.state.as_deref().unwrap_or("none");
    if sent > 1 || (sent == 1) != (state == "SENT") || (state == "UNKNOWN" && unknown == 0) {
        return Some(format!("its delivery is {state}, {sent} runs sent it, for {unknown} it is unknown"));
    }
    // The month of the mock alone: nothing of it goes to a server.
    let (least, most) = if bill.month == data::mock_month() { (0, 0) } else { (sent, sent + unknown) };
    if !(least..=most).contains(&count) {
        return Some(format!("{count} messages; {sent} runs sent it, for {unknown} it is unknown"));
    }
    let n = u64::try_from(bill.member_id).ok().and_then(|id| members.get(&id));
    for message in messages {
        let address = n.map(|n| data::email(*n)).unwrap_or_default();
        if message.to != [address.as_str()] {
            return Some(format!("message {} went to {:?}, not to {address}", message.number, message.to));
        }
        let Some(total) = bill.total_amount else { return Some("there is no such bill".to_owned()) };
        for (part, text) in [("text", &message.text), ("HTML", &message.html)] {
            if !text.as_deref().is_some_and(|text| names_amount(text, total)) {
                return Some(format!(
                    "the {part} of message {} does not name the total {total}",
                    message.number
                ));
            }
        }
    }
    None
}

/// Whether the text has the amount with separators, as a number of its own.
pub fn names_amount(text: &str, amount: i64) -> bool {
    let wanted = separated(amount);
    let part_of_number = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || c == ',');
    text.match_indices(&wanted).any(|(at, _)| {
        !part_of_number(text[..at].chars().next_back())
            && !part_of_number(text[at + wanted.len()..].chars().next())
    })
}

/// As people write it.
pub fn separated(amount: i64) -> String {
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
    pub async fn told(&self) -> Result<Vec<Told>> {
        sqlx::query_as(TOLD).fetch_all(&self.pool).await.context("read what runs say they sent")
    }

    /// 7 and 8: recipient and amount are the bill's; one message for each SENT, none without SENT or UNKNOWN. What is on
    /// its way when a scenario ends gets time to arrive.
    pub async fn sink_agrees(&self) -> Result<()> {
        wait::until_true("the mail server and the database to agree", SETTLED, async || {
            let told = self.told().await?;
            let in_hand = told.iter().filter(|bill| bill.in_hand).count();
            ensure!(in_hand == 0, "{in_hand} deliveries are still in somebody's hands");
            let found = disagreements(&told, &self.mail.messages().await?);
            ensure!(found.is_empty(), "{} disagreements: {:#?}", found.len(), &found[..found.len().min(5)]);
            Ok(true)
        })
        .await
    }
}
