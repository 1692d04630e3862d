//! Prices the members of a chunk: reads its rows with a fixed number of statements, and passes each
//! member's rows to the pricer. Writes nothing, and does not know what becomes of the outcomes: a
//! worker writes them, and `monthend verify` compares them with what is stored.

use domain::ids::MemberId;
use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::pricing::{Adjustment, Eligibility, Grant, Outcome, Pricer, Subscription, UsageSum};
use sqlx::PgConnection;
use store::billing::chunk::{
    self, AdjustmentRow, ChunkSpan, GrantRow, SubscriptionRow, UsageBoundaries, UsageRow,
};
use store::billing::{BillingError, NotCharged};
use store::load::DataVersion;

use super::not_charged::count_not_charged;

/// What the members of a chunk are priced from.
#[derive(Debug)]
pub(crate) struct ChunkInputs<'a> {
    pricer: Pricer<'a>,
    /// The known members, ascending.
    members: Vec<MemberId>,
    /// Of each known member.
    coverages: Vec<Eligibility<'a>>,
    subscriptions: Vec<SubscriptionRow>,
    grants: Vec<GrantRow>,
    adjustments: Vec<AdjustmentRow>,
    usage: Vec<UsageRow>,
}

impl<'a> ChunkInputs<'a> {
    /// Reads the chunk's rows of this version of the data.
    ///
    /// # Errors
    /// The database fails.
    pub(crate) async fn read(
        tx: &mut PgConnection,
        pricer: Pricer<'a>,
        month: BillingMonth,
        span: &ChunkSpan,
        data: &DataVersion,
    ) -> Result<Self, BillingError> {
        let members = chunk::read_members(tx, span, data).await?;
        let subscriptions = chunk::read_subscriptions(tx, span, month, data).await?;
        let (coverages, cuts) = cover(&pricer, &members, &subscriptions);
        let grants = chunk::read_grants(tx, span, month, data).await?;
        let adjustments = chunk::read_adjustments(tx, span, month, data).await?;
        let usage = chunk::read_usage(tx, span, month, data, &cuts).await?;
        Ok(Self { pricer, members, coverages, subscriptions, grants, adjustments, usage })
    }

    pub(super) fn not_charged(&self) -> NotCharged {
        let Self { pricer, members, coverages, subscriptions, adjustments, usage, .. } = self;
        count_not_charged(pricer, members, coverages, subscriptions, adjustments, usage)
    }

    /// Prices every member that is known or has usage, by ascending id. A member with usage only is
    /// not eligible.
    ///
    /// # Errors
    /// The first error of `add`, which takes each outcome.
    pub(crate) fn price<E>(
        &self,
        mut add: impl FnMut(MemberId, &Outcome<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.for_each(|member, own| {
            let outcome = self.pricer.price(own.coverage, own.grants, own.adjustments, own.usage);
            add(member, &outcome)
        })
    }

    /// The subscriptions and adjustments of all members.
    pub(crate) fn charges(&self) -> (&[SubscriptionRow], &[AdjustmentRow]) {
        (&self.subscriptions, &self.adjustments)
    }

    /// Passes the inputs of every member that is known or has usage, by ascending id.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub(crate) fn for_each<E>(
        &self,
        mut visit: impl FnMut(MemberId, OwnInputs<'_, 'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut known = self.members.iter().copied().zip(&self.coverages).peekable();
        let (mut grants, mut adjustments, mut usage) =
            (ByMember::new(&self.grants), ByMember::new(&self.adjustments), ByMember::new(&self.usage));
        let (mut own_grants, mut own_adjustments, mut own_usage) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let member = match (known.peek(), usage.next_member()) {
                (Some((member, _)), Some(other)) => (*member).min(other),
                (Some((member, _)), None) => *member,
                (None, Some(other)) => other,
                (None, None) => return Ok(()),
            };
            let known = known.next_if(|(known, _)| *known == member);
            own_grants.clear();
            own_grants.extend(grants.rows_of(member).iter().map(|row| Grant {
                discount: &row.discount_code,
                from: row.from_date,
                to: row.to_date,
            }));
            own_adjustments.clear();
            own_adjustments.extend(adjustments.rows_of(member).iter().map(|row| Adjustment {
                id: row.id,
                code: &row.code,
                amount: MinorUnits::new(row.amount),
            }));
            own_usage.clear();
            own_usage.extend(usage.rows_of(member).iter().map(|row| UsageSum {
                kind: &row.kind,
                interval: row.interval,
                quantity: row.quantity,
                rows: row.rows,
            }));
            let own = OwnInputs {
                known: known.is_some(),
                coverage: known.map_or(&Eligibility::NotEligible, |(_, own)| own),
                grants: &own_grants,
                adjustments: &own_adjustments,
                usage: &own_usage,
            };
            visit(member, own)?;
        }
    }
}

/// What one member is priced from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnInputs<'b, 'a> {
    pub(crate) known: bool,
    pub(crate) coverage: &'b Eligibility<'a>,
    pub(crate) grants: &'b [Grant<'b>],
    pub(crate) adjustments: &'b [Adjustment<'b>],
    pub(crate) usage: &'b [UsageSum<'b>],
}

/// The coverage of each known member's subscriptions, and the instants at which it divides the
/// member's usage.
fn cover<'a>(
    pricer: &Pricer<'a>,
    members: &[MemberId],
    subscriptions: &[SubscriptionRow],
) -> (Vec<Eligibility<'a>>, UsageBoundaries) {
    let mut cuts = UsageBoundaries::default();
    let mut by_member = ByMember::new(subscriptions);
    let mut own = Vec::new();
    let coverages = members
        .iter()
        .map(|member| {
            own.clear();
            own.extend(by_member.rows_of(*member).iter().map(|row| Subscription {
                plan: &row.plan_code,
                from: row.from_date,
                to: row.to_date,
            }));
            let coverage = pricer.eligibility(&own);
            cuts.add(*member, coverage.usage_boundaries());
            coverage
        })
        .collect();
    (coverages, cuts)
}

/// A row that belongs to a member.
trait OfMember {
    fn member(&self) -> MemberId;
}

macro_rules! of_member {
    ($($row:ty),+) => { $(impl OfMember for $row {
        fn member(&self) -> MemberId {
            self.member_id
        }
    })+ };
}
of_member!(SubscriptionRow, GrantRow, AdjustmentRow, UsageRow);

/// Rows in the order of member ids, read member by member, by ascending id.
struct ByMember<'a, T> {
    rest: &'a [T],
}

impl<'a, T: OfMember> ByMember<'a, T> {
    fn new(rows: &'a [T]) -> Self {
        Self { rest: rows }
    }

    fn next_member(&self) -> Option<MemberId> {
        self.rest.first().map(OfMember::member)
    }

    /// The member's rows; skips the rows of members before.
    fn rows_of(&mut self, member: MemberId) -> &'a [T] {
        let before = self.rest.iter().take_while(|row| row.member() < member).count();
        let own = self.rest[before..].iter().take_while(|row| row.member() == member).count();
        let (rows, rest) = self.rest[before..].split_at(own);
        self.rest = rest;
        rows
    }
}
