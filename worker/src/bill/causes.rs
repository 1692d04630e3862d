//! Finds why outcomes change in a re-billing: reads, only for the members concerned, what they were
//! priced from before and are priced from now, and leaves the decision to
//! `domain::change_cause`. Writes nothing.

use std::collections::BTreeMap;

use domain::change_cause::{ChangeCause, ComparedUsage, Comparison, Inputs};
use domain::ids::{MemberId, Revision};
use domain::money::MinorUnits;
use domain::price_book::{PriceBook, PriceBookError};
use domain::pricing::{Adjustment, Grant, Pricer, Subscription, UsageSum};
use domain::zone::ZonedMonth;
use sqlx::PgConnection;
use store::billing::BillingError;
use store::billing::chunk::{self, Change, ChunkSpan, InputRows, PriorRevision, UsageBoundaries};
use store::load::DataVersion;

/// What a revision priced the members from that it was the last one to bill.
#[derive(Debug)]
pub(super) struct Prior {
    revision: Revision,
    data: DataVersion,
    book: PriceBook,
}

impl Prior {
    pub(super) fn parse(revision: PriorRevision) -> Result<Self, PriceBookError> {
        Ok(Self {
            revision: revision.revision,
            book: PriceBook::parse(&revision.price_book)?,
            data: revision.data,
        })
    }
}

/// The cause of each change, in their order. `pricer` and `data` are those of the re-billing;
/// `prior` are the revisions below it, from the highest to the last one of everyone. If both versions
/// of the data are the same, only the price books can differ, and nothing is read.
///
/// # Errors
/// The database fails.
pub(super) async fn find_causes(
    tx: &mut PgConnection,
    span: &ChunkSpan,
    pricer: &Pricer<'_>,
    month: &ZonedMonth,
    data: &DataVersion,
    prior: &[Prior],
    changes: &[Change],
) -> Result<Vec<ChangeCause>, BillingError> {
    let members: Vec<MemberId> =
        changes.iter().filter(|change| !change.is_quarantine()).map(|change| change.member).collect();
    let mut by_prior: BTreeMap<usize, Vec<MemberId>> = BTreeMap::new();
    for (member, position) in members.iter().zip(find_prior(tx, month, prior, &members).await?) {
        by_prior.entry(position).or_default().push(*member);
    }
    let mut causes = BTreeMap::new();
    for (position, members) in by_prior {
        let before = &prior[position];
        if before.data == *data {
            let cause = if before.book.sha256 == pricer.book().sha256 {
                ChangeCause::Calculation
            } else {
                ChangeCause::PriceBook
            };
            causes.extend(members.into_iter().map(|member| (member, cause)));
        } else {
            causes.extend(compare(tx, span, pricer, month, data, before, &members).await?);
        }
    }
    Ok(changes
        .iter()
        .map(|change| causes.get(&change.member).copied().unwrap_or(ChangeCause::Quarantine))
        .collect())
}

/// For each member the position of the revision that billed it last, whether or not it wrote an
/// outcome: what that one has seen is no cause of a later change. The lowest is of everyone.
async fn find_prior(
    tx: &mut PgConnection,
    month: &ZonedMonth,
    prior: &[Prior],
    members: &[MemberId],
) -> Result<Vec<usize>, BillingError> {
    let has_the_same_inputs =
        |one: &Prior, other: &Prior| (&one.data, one.book.sha256) == (&other.data, other.book.sha256);
    if members.is_empty() || prior.windows(2).all(|two| has_the_same_inputs(&two[0], &two[1])) {
        return Ok(vec![0; members.len()]);
    }
    let revisions = prior.iter().map(|prior| prior.revision);
    let found = chunk::read_last_billings(tx, month.month(), members, revisions).await?;
    let position = |member: &MemberId| {
        let revision = found.get(member)?;
        prior.iter().position(|prior| prior.revision == *revision)
    };
    Ok(members.iter().map(|member| position(member).unwrap_or(prior.len() - 1)).collect())
}

/// The causes of members that one revision billed last.
async fn compare(
    tx: &mut PgConnection,
    span: &ChunkSpan,
    pricer: &Pricer<'_>,
    month: &ZonedMonth,
    data: &DataVersion,
    prior: &Prior,
    members: &[MemberId],
) -> Result<Vec<(MemberId, ChangeCause)>, BillingError> {
    let before = chunk::read_inputs_of(tx, span, members, month.month(), &prior.data).await?;
    let after = chunk::read_inputs_of(tx, span, members, month.month(), data).await?;
    let prior_pricer = Pricer::new(&prior.book, month);
    let mut cuts = UsageBoundaries::default();
    let comparisons: Vec<(MemberId, Comparison<'_>)> = members
        .iter()
        .map(|member| {
            let comparison =
                Comparison::new(inputs(prior_pricer, &before, *member), inputs(*pricer, &after, *member));
            cuts.add(*member, comparison.usage_boundaries());
            (*member, comparison)
        })
        .collect();
    let usage = chunk::read_compared_usage(tx, members, month.month(), &prior.data, data, &cuts).await?;
    let causes = comparisons.into_iter().map(|(member, comparison)| {
        let own: Vec<ComparedUsage<'_>> = rows_of(&usage, member, |row| row.usage.member_id)
            .iter()
            .map(|row| ComparedUsage {
                sum: UsageSum {
                    kind: &row.usage.kind,
                    interval: row.usage.interval,
                    quantity: row.usage.quantity,
                    rows: row.usage.rows,
                },
                before: row.before,
                after: row.after,
            })
            .collect();
        (member, comparison.cause(&own))
    });
    Ok(causes.collect())
}

fn inputs<'a>(pricer: Pricer<'a>, rows: &'a InputRows, member: MemberId) -> Inputs<'a> {
    Inputs {
        pricer,
        known: rows.members.binary_search(&member).is_ok(),
        subscriptions: rows_of(&rows.subscriptions, member, |row| row.member_id)
            .iter()
            .map(|row| Subscription { plan: &row.plan_code, from: row.from_date, to: row.to_date })
            .collect(),
        grants: rows_of(&rows.grants, member, |row| row.member_id)
            .iter()
            .map(|row| Grant { discount: &row.discount_code, from: row.from_date, to: row.to_date })
            .collect(),
        adjustments: rows_of(&rows.adjustments, member, |row| row.member_id)
            .iter()
            .map(|row| Adjustment { id: row.id, code: &row.code, amount: MinorUnits::new(row.amount) })
            .collect(),
    }
}

/// The member's rows of rows that are sorted by member.
fn rows_of<T>(rows: &[T], member: MemberId, member_of: impl Fn(&T) -> MemberId) -> &[T] {
    let from = rows.partition_point(|row| member_of(row) < member);
    let to = rows.partition_point(|row| member_of(row) <= member);
    &rows[from..to]
}
