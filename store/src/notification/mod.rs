//! Notices: what a run tells whom, and where each bill's delivery stands. Owns every statement on `template_set`,
//! `notification`, `publication`, `notice_target`, `delivery` and `consumer`. Decides nothing about runs (the operator
//! does), knows nothing of Kafka or mail (the worker does) and opens no envelope.
//!
//! What became of a run's target is kept in `notice_target` and nowhere else; where a bill's delivery stands, in `delivery`
//! and nowhere else. A delivery is moved by whoever holds its lease, each time guarded by state, holder and attempt; what
//! was not granted is told, never assumed. A lease goes by the database's clock.
//!
//! A target is fenced by the attempts that were made when it was chosen: once somebody else has made one more, the target
//! is never sent. So no message that comes late, twice or out of the past can send anything again.

mod begin;
mod claim;
mod close;
mod consumer;
mod deliver;
mod facts;
mod observe;
mod publish;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use jiff::Timestamp;
pub use sqlx::types::Uuid;

pub use self::begin::begin_run;
pub use self::claim::{claim_deliveries, postpone_deliveries, release_claims, renew_leases};
pub use self::close::{cancel_run, fail_run, finish_run, update_settings};
pub use self::consumer::{
    connect_for_lookups, delete_stale_consumers, deregister_consumer, record_heartbeat, register_consumer,
    reserve_send_slots,
};
pub use self::deliver::{end_expired_leases, hand_over_and_record, record_rehearsal_outcomes};
pub use self::facts::{RunFacts, read_latest_runs, read_run};
pub use self::observe::{any_run_sends, observe, read_totals, read_unfinished_runs};
pub use self::publish::{
    close_round, open_round, read_open_targets, read_publication, record_waiting, save_checkpoint,
    select_targets, try_lock_publisher,
};
pub use self::read::{BillForEmail, BillForEmailItem, read_bills_for_email, read_price_book, read_templates};
use crate::error::DatabaseError;

/// A run that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationId(pub i64);

/// A process that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub i64);

/// Which bills a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Not attempted yet, of members to whom nothing was sent, or may have been, for the month.
    Ready,
    Failed,
    Unknown,
}

impl Selection {
    pub const ALL: [Self; 3] = [Self::Ready, Self::Failed, Self::Unknown];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn parse(text: &str) -> Result<Self, NotificationError> {
        Self::ALL
            .into_iter()
            .find(|selection| selection.as_str() == text)
            .ok_or_else(|| NotificationError::stored("notification.selection", text))
    }
}

/// Whose bills a run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Everyone,
    /// Both ends inclusive.
    Range {
        from: MemberId,
        to: MemberId,
    },
    Members(Vec<MemberId>),
}

/// Where a run stands. Only an open one sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationState {
    Open,
    Suspended,
    Finished,
    Cancelled,
    Failed,
}

impl NotificationState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Suspended => "SUSPENDED",
            Self::Finished => "FINISHED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }

    fn parse(text: &str) -> Result<Self, NotificationError> {
        [Self::Open, Self::Suspended, Self::Finished, Self::Cancelled, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| NotificationError::stored("notification.state", text))
    }

    /// Nothing more comes of it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled | Self::Failed)
    }
}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Sent,
    Failed,
    Unknown,
    Skipped,
    /// Of a rehearsal.
    Rendered,
}

impl Outcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
            Self::Skipped => "SKIPPED",
            Self::Rendered => "RENDERED",
        }
    }
}

/// Reasons that this crate gives; the others come from whoever sends.
pub mod reasons {
    /// Another run told the member already.
    pub const ALREADY_SENT: &str = "ALREADY_SENT";
    /// Another run has tried since this one chose the bill.
    pub const TAKEN: &str = "TAKEN";
    /// The bill is no longer the one that counts.
    pub const SUPERSEDED: &str = "SUPERSEDED";
    /// Handed over, and never heard of again.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
}

/// A bill of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillKey {
    pub member: MemberId,
    pub revision: Revision,
}

/// What a run asks for when it begins.
#[derive(Debug, Clone)]
pub struct BeginRequest<'a> {
    /// `NAMESPACE/NAME`.
    pub run: &'a str,
    /// `metadata.uid`: a run that is deleted and created again is another run.
    pub run_uid: Uuid,
    pub month: BillingMonth,
    pub selection: Selection,
    pub scope: &'a Scope,
    pub rehearsal: bool,
    /// Kept by its digest.
    pub templates: &'a TemplateSet,
    pub max_per_second: Option<i32>,
}

/// Templates by file name, and the digest that they are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSet {
    /// In hexadecimal.
    pub sha256: String,
    pub files: BTreeMap<String, String>,
}

/// What became of an attempt to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginResult {
    Started(NotificationId),
    Refused(Rejection),
}

/// Why a run can't begin; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("month {month} has no live bills yet; this run starts when a BillingRun has issued them")]
    MonthNotBilled { month: BillingMonth },
}

/// Everything about one run at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub facts: RunFacts,
    pub publication: Option<Publication>,
    /// Targets that were on the topic at least once.
    pub published: i64,
    pub counts: NotificationCounts,
    /// Targets without an outcome.
    pub open: i64,
    /// Of them: claimed under a lease.
    pub claimed: i64,
    /// Of them: handed over to a mail server, with nothing heard yet.
    pub handed_over: i64,
    /// Targets that ended within the ten seconds before `now`, for a rate that follows.
    pub ended_recently: i64,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Why it was cancelled or failed.
    pub reason: Option<String>,
    /// Its row of the job log is completed.
    pub logged: bool,
    /// Those that said within the last 30 seconds that they live.
    pub consumers: Vec<ConsumerSeen>,
    /// The database's clock at this look.
    pub now: Timestamp,
}

impl Snapshot {
    /// Targets in some consumer's hands.
    #[must_use]
    pub fn in_hand(&self) -> i64 {
        self.claimed + self.handed_over
    }
}

/// Targets by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotificationCounts {
    pub sent: i64,
    pub failed: i64,
    pub unknown: i64,
    pub skipped: i64,
    pub rendered: i64,
}

impl NotificationCounts {
    #[must_use]
    pub const fn ended(&self) -> i64 {
        self.sent + self.failed + self.unknown + self.skipped + self.rendered
    }
}

/// One time that a run's open targets are put on the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub round: i32,
    /// Everything up to this member is acknowledged by the brokers; 0: nothing yet.
    pub published_to: i64,
    pub messages: i64,
    /// What the publisher waits for.
    pub waiting: Option<String>,
    pub opened_at: Timestamp,
    pub done_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSeen {
    pub name: String,
    pub transport: String,
    /// What keeps it from sending.
    pub trouble: Option<String>,
    pub trouble_since: Option<Timestamp>,
    pub seen_at: Timestamp,
}

/// A run whose row of the job log is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedRun {
    pub id: NotificationId,
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub run_uid: Uuid,
    pub month: BillingMonth,
    pub state: NotificationState,
}

/// One month in figures, all its runs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthTotals {
    pub month: BillingMonth,
    /// Deliveries by `delivery.state`.
    pub deliveries: Vec<(String, i64)>,
    pub targets: Vec<TargetTotals>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTotals {
    pub selection: Selection,
    pub rehearsal: bool,
    pub counts: NotificationCounts,
    pub open: i64,
}

/// How far the choosing of targets came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectionResult {
    /// All are written: so many.
    Complete { targets: i64 },
    /// The caller wanted no more; the next call goes on from there.
    Stopped,
    /// The run is over, so that nothing more is chosen.
    RunOver,
}

/// What is in a consumer's hands: a bill's delivery, for one run, at one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimedDelivery {
    pub run: NotificationId,
    pub month: BillingMonth,
    pub key: BillKey,
    pub attempt: i32,
}

/// A claim that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedClaim {
    pub delivery: ClaimedDelivery,
    /// Tries of this attempt that the server put off.
    pub tries: i32,
    /// How long ago the first of them was.
    pub since_first_try: Option<Duration>,
}

/// What a claim came to. Whatever is in none of the three has ended, in this run or another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimResult {
    pub claimed: Vec<GrantedClaim>,
    /// In somebody else's hands, or not to be had now; still open.
    pub unavailable: Vec<BillKey>,
    /// No target of the run.
    pub not_targets: Vec<BillKey>,
}

/// What a consumer came to with what it had in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOutcome {
    pub delivery: ClaimedDelivery,
    pub outcome: Outcome,
    /// Masked: never an address.
    pub reason: Option<String>,
}

/// What became of hand-overs and outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandOverResult {
    /// May be sent now.
    pub granted: Vec<ClaimedDelivery>,
    /// Must not be sent: the run is not open, the bill is superseded, or the lease is lost. To be given back.
    pub refused: Vec<ClaimedDelivery>,
    /// Outcomes that were written.
    pub recorded: Vec<ClaimedDelivery>,
    /// Outcomes that came too late: the delivery is no longer in this consumer's hands.
    pub lost: Vec<ClaimedDelivery>,
}

/// To be tried again later, by the same consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponement {
    pub delivery: ClaimedDelivery,
    /// The server was asked and put it off, which is one of the tries; else it never came to that.
    pub counts_as_try: bool,
}

/// When the next messages may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendSlots {
    /// Until the first.
    pub first_in: Duration,
    /// Between one and the next; zero: no limit.
    pub interval: Duration,
}

/// What settling found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpiredLeases {
    /// Hand-overs of which nothing was heard within the lease.
    pub unknown: i64,
    /// Claims that are free again.
    pub freed: i64,
}

/// Why something about notices could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NotificationError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("notification {0} is not in the database")]
    NoSuchRun(String),
    #[error("{0} are not in the database")]
    NotKept(String),
    #[error("notification {id} is {}, so it cannot be {wanted}", state.as_str())]
    WrongState { id: i64, state: NotificationState, wanted: &'static str },
    #[error("publication {round} of notification {id} is in other hands or done")]
    Overtaken { id: i64, round: i32 },
    #[error("{place} holds `{value}`, which this version cannot read")]
    Stored { place: &'static str, value: String },
    #[error("{what} touched {rows} rows instead of {expected}; nothing was written")]
    RowsTouched { what: &'static str, rows: u64, expected: u64 },
}

impl NotificationError {
    /// Whether trying again later may help; see [`DatabaseError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_transient())
    }

    fn stored(place: &'static str, value: impl ToString) -> Self {
        Self::Stored { place, value: value.to_string() }
    }
}

/// Asserts how many rows a guarded statement touched.
fn touched(what: &'static str, rows: u64, expected: u64) -> Result<(), NotificationError> {
    if rows == expected { Ok(()) } else { Err(NotificationError::RowsTouched { what, rows, expected }) }
}

/// A number that the schema keeps in range.
fn number<T: TryFrom<i64>>(place: &'static str, value: i64) -> Result<T, NotificationError> {
    T::try_from(value).map_err(|_| NotificationError::stored(place, value))
}

fn read_month(text: &str) -> Result<BillingMonth, NotificationError> {
    text.parse().map_err(|_| NotificationError::stored("notification.month", text))
}
