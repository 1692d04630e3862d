//! The history of a month as plain data: what was loaded and taken back, and what each revision
//! has. It is written from the contract alone and shares no code with the product; prices are the
//! reference implementation's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use store::billing::Scope;

use super::generate::Book;
use super::members::{Dated, Member, OneOff, UsageRow};
use super::reference;
use super::rows::{AdjustmentLine, DatedLine, Rows, UsageLine};

/// Rows by their identity.
#[derive(Debug, Clone, Default)]
struct Tables {
    members: BTreeMap<i64, String>,
    subscriptions: BTreeMap<DatedKey, Option<Date>>,
    grants: BTreeMap<DatedKey, Option<Date>>,
    adjustments: BTreeMap<i64, AdjustmentLine>,
    usage: BTreeMap<UsageKey, UsageLine>,
}

/// Member, code, from.
type DatedKey = (i64, String, Date);
/// Source, id, local month.
type UsageKey = (&'static str, String, String);

/// Events have the numbers from 1 on: those of the loads.
enum Event {
    /// What the load wrote.
    Load(Tables),
    TakeBack {
        load: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Billed { amounts: String, items: Vec<String> },
    Quarantined { code: String },
    NotEligible,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Draft,
    Live,
    Rejected,
    RolledBack,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Live => "LIVE",
            Self::Rejected => "REJECTED",
            Self::RolledBack => "ROLLED_BACK",
        }
    }
}

struct Revision {
    state: State,
    run: &'static str,
    of_revision: Option<usize>,
    cutoff: usize,
    outcomes: BTreeMap<i64, Outcome>,
}

/// What a run asks for.
pub(super) struct Order<'a> {
    pub(super) run: &'static str,
    /// The index of the price book.
    pub(super) book: usize,
    pub(super) cutoff: usize,
    /// The revision that is billed again, and for whom.
    pub(super) rebill: Option<(usize, &'a Scope)>,
}

pub(super) struct Model {
    books: Vec<Book>,
    month: &'static str,
    zone: TimeZone,
    first: Date,
    next: Date,
    events: Vec<Event>,
    revisions: Vec<Revision>,
    /// A member's outcome, by the price book and what is known of the member.
    priced: HashMap<(usize, String), Outcome>,
}

impl Model {
    pub(super) fn new(books: Vec<Book>) -> Self {
        let (zone, month) = (books[0].zone, books[0].month);
        let first: Date = format!("{month}-01").parse().unwrap();
        Self {
            books,
            month,
            zone: TimeZoneDatabase::bundled().get(zone).unwrap(),
            first,
            next: first + 1.month(),
            events: Vec::new(),
            revisions: Vec::new(),
            priced: HashMap::new(),
        }
    }

    /// The number of the last load or take-back.
    pub(super) fn last_load(&self) -> usize {
        self.events.len()
    }

    /// Loads that count.
    pub(super) fn counting_loads(&self) -> Vec<usize> {
        (1..=self.last_load()).filter(|number| self.counts(*number, self.last_load())).collect()
    }

    /// Loads a folder. Returns whether a line is rejected.
    pub(super) fn load(&mut self, rows: &Rows) -> bool {
        let before = self.as_of(self.last_load());
        let mut new = Tables::default();
        // The last line of an identity wins, and only other values than before are new.
        new.members.extend(rows.members.iter().map(|line| (line.id, line.name.clone())));
        new.members.retain(|id, name| before.members.get(id) != Some(name));
        let dated = |lines: &[DatedLine], before: &BTreeMap<DatedKey, Option<Date>>| {
            let keyed = lines.iter().map(|line| ((line.member, line.code.clone(), line.from), line.to));
            let mut new: BTreeMap<_, _> = keyed.collect();
            new.retain(|key, to| before.get(key) != Some(to));
            new
        };
        new.subscriptions = dated(&rows.subscriptions, &before.subscriptions);
        new.grants = dated(&rows.grants, &before.grants);
        // The first line of an identity wins, and another one with other content is rejected.
        let mut rejected = false;
        for line in &rows.adjustments {
            match before.adjustments.get(&line.id).or(new.adjustments.get(&line.id)) {
                Some(earlier) => rejected |= earlier != line,
                None => drop(new.adjustments.insert(line.id, line.clone())),
            }
        }
        for line in &rows.usage {
            let key = (rows.source, line.id.clone(), self.local_month(line));
            match before.usage.get(&key).or(new.usage.get(&key)) {
                Some(earlier) => rejected |= earlier != line,
                None => drop(new.usage.insert(key, line.clone())),
            }
        }
        self.events.push(Event::Load(new));
        rejected
    }

    pub(super) fn take_back(&mut self, load: usize) {
        self.events.push(Event::TakeBack { load });
    }

    fn local_month(&self, line: &UsageLine) -> String {
        self.zone.to_datetime(line.started_at).strftime("%Y-%m").to_string()
    }

    /// Whether the rows of a load count as of a cut-off.
    fn counts(&self, number: usize, cutoff: usize) -> bool {
        let taken_back = |event: &Event| matches!(event, Event::TakeBack { load } if *load == number);
        number <= cutoff
            && matches!(self.events[number - 1], Event::Load(_))
            && !self.events[..cutoff].iter().any(taken_back)
    }

    /// The rows that count as of a cut-off: of each identity the last version.
    fn as_of(&self, cutoff: usize) -> Tables {
        let mut all = Tables::default();
        for number in 1..=cutoff {
            if let (true, Event::Load(rows)) = (self.counts(number, cutoff), &self.events[number - 1]) {
                let rows = rows.clone();
                all.members.extend(rows.members);
                all.subscriptions.extend(rows.subscriptions);
                all.grants.extend(rows.grants);
                all.adjustments.extend(rows.adjustments);
                all.usage.extend(rows.usage);
            }
        }
        all
    }

    /// The outcome of every known member who is eligible.
    fn outcomes(&mut self, book: usize, cutoff: usize) -> BTreeMap<i64, Outcome> {
        let rows = self.as_of(cutoff);
        let mut members: BTreeMap<i64, Member> =
            rows.members.keys().map(|id| (*id, Member::default())).collect();
        let dated = |(_, code, from): DatedKey, to| Dated { code, from, to };
        for (key, to) in rows.subscriptions {
            if let Some(member) = members.get_mut(&key.0) {
                member.subscriptions.push(dated(key, to));
            }
        }
        for (key, to) in rows.grants {
            if let Some(member) = members.get_mut(&key.0) {
                member.grants.push(dated(key, to));
            }
        }
        for AdjustmentLine { id, member, month, code, amount } in rows.adjustments.into_values() {
            if let (true, Some(member)) = (month == self.month, members.get_mut(&member)) {
                member.adjustments.push(OneOff { id, code, amount });
            }
        }
        for UsageLine { member, kind, quantity, started_at, .. } in rows.usage.into_values() {
            if let Some(member) = members.get_mut(&member) {
                member.usage.push(UsageRow { kind, quantity, started_at });
            }
        }
        let books = &self.books;
        let priced = members.into_iter().map(|(id, member)| {
            let known = self.priced.entry((book, format!("{member:?}")));
            (id, known.or_insert_with(|| price(&books[book], &member)).clone())
        });
        priced.filter(|(_, outcome)| *outcome != Outcome::NotEligible).collect()
    }

    pub(super) fn highest_live(&self) -> Option<usize> {
        self.live_revisions().last()
    }

    fn live_revisions(&self) -> impl Iterator<Item = usize> {
        (1..=self.revisions.len()).filter(|number| self.revisions[number - 1].state == State::Live)
    }

    /// Of each member the outcome in the highest live revision that has one, and its number.
    fn live(&self) -> BTreeMap<i64, (usize, &Outcome)> {
        let mut live = BTreeMap::new();
        for number in self.live_revisions() {
            let outcomes = &self.revisions[number - 1].outcomes;
            live.extend(outcomes.iter().map(|(id, outcome)| (*id, (number, outcome))));
        }
        live
    }

    fn in_quarantine(&self) -> BTreeSet<i64> {
        let live = self.live().into_iter();
        live.filter(|(_, (_, outcome))| matches!(outcome, Outcome::Quarantined { .. }))
            .map(|(id, _)| id)
            .collect()
    }

    /// Of whom a row that concerns the month was loaded or taken back after one cut-off, up to the
    /// other.
    fn late(&self, after: usize, up_to: usize) -> BTreeSet<i64> {
        let mut late = BTreeSet::new();
        if after >= up_to {
            return late;
        }
        for number in 1..=up_to {
            let Event::Load(rows) = &self.events[number - 1] else { continue };
            if self.counts(number, after) == self.counts(number, up_to) {
                continue;
            }
            let of_month = |line: &&UsageLine| self.local_month(line) == self.month;
            late.extend(rows.usage.values().filter(of_month).map(|line| line.member));
            let adjustments = rows.adjustments.values();
            late.extend(adjustments.filter(|line| line.month == self.month).map(|line| line.member));
            // A version that ends earlier than the one before it touches what that one did.
            let dated = |rows: &BTreeMap<DatedKey, Option<Date>>,
                         of: fn(&Tables) -> &BTreeMap<DatedKey, Option<Date>>| {
                let touch = rows.iter().filter(|(key, to)| {
                    let before = (1..number).rev().filter(|earlier| self.counts(*earlier, up_to));
                    let before = before.filter_map(|earlier| match &self.events[earlier - 1] {
                        Event::Load(rows) => of(rows).get(*key),
                        Event::TakeBack { .. } => None,
                    });
                    let mut versions = before.take(1).chain([*to]);
                    versions.any(|to| self.touches(key.2, *to))
                });
                touch.map(|(key, _)| key.0).collect::<Vec<_>>()
            };
            late.extend(dated(&rows.subscriptions, |rows| &rows.subscriptions));
            late.extend(dated(&rows.grants, |rows| &rows.grants));
        }
        late
    }

    fn touches(&self, from: Date, to: Option<Date>) -> bool {
        from < self.next && to.is_none_or(|to| to > from.max(self.first))
    }

    /// Whether a run can begin: the first billing of a month, or a billing of the live revision again.
    pub(super) fn can_begin(&self, rebills: Option<usize>) -> bool {
        self.highest_live() == rebills
    }

    /// Plans a run and bills its members. Returns the number of its revision, a draft.
    pub(super) fn bill(&mut self, order: &Order<'_>) -> usize {
        let Order { run, book, cutoff, rebill } = *order;
        assert!(self.can_begin(rebill.map(|(of_revision, _)| of_revision)));
        let mut outcomes = self.outcomes(book, cutoff);
        if let Some((of_revision, scope)) = rebill {
            let selected = match scope {
                Scope::Quarantined => self.in_quarantine(),
                Scope::Late => self.late(self.revisions[of_revision - 1].cutoff, cutoff),
                Scope::Members(ids) => ids.iter().map(|id| id.get()).collect(),
                Scope::Everyone | Scope::Range { .. } => BTreeSet::new(),
            };
            let in_scope = |id: i64| match scope {
                Scope::Everyone => true,
                Scope::Range { from, to } => (from.get()..=to.get()).contains(&id),
                Scope::Members(_) | Scope::Quarantined | Scope::Late => selected.contains(&id),
            };
            let live = self.live();
            for id in live.keys() {
                outcomes.entry(*id).or_insert(Outcome::NotEligible);
            }
            outcomes.retain(|id, outcome| {
                let before = live.get(id).map_or(&Outcome::NotEligible, |(_, outcome)| *outcome);
                in_scope(*id) && before != outcome
            });
        }
        let of_revision = rebill.map(|(of_revision, _)| of_revision);
        self.revisions.push(Revision { state: State::Draft, run, of_revision, cutoff, outcomes });
        self.revisions.len()
    }

    /// Issues or rejects a draft, or rolls a live revision back.
    pub(super) fn close(&mut self, revision: usize, state: State) {
        let before = if state == State::RolledBack { State::Live } else { State::Draft };
        let highest_live = self.highest_live();
        let closed = &mut self.revisions[revision - 1];
        assert_eq!(closed.state, before);
        assert!(state != State::RolledBack || highest_live == Some(revision));
        closed.state = state;
    }

    /// The tables that anyone may read, as sorted lines of text: `live_bill`, `live_bill_item`,
    /// `quarantine`, `bill_history`, the outcomes of all revisions, and the revisions.
    pub(super) fn tables(&self) -> [Vec<String>; 6] {
        let [mut bills, mut items, mut quarantine, mut history, mut outcomes, mut revisions] =
            [const { Vec::new() }; 6];
        for (id, (number, outcome)) in self.live() {
            let run = self.revisions[number - 1].run;
            match outcome {
                Outcome::Billed { amounts, items: lines } => {
                    bills.push(format!("{id} r{number} {run} READY KRW issued {amounts}"));
                    items.extend(lines.iter().map(|line| format!("{id} r{number} {line}")));
                }
                Outcome::Quarantined { code } => quarantine.push(format!("{id} r{number} {run} {code}")),
                Outcome::NotEligible => {}
            }
        }
        for (number, revision) in (1..).zip(&self.revisions) {
            let Revision { state, run, of_revision, cutoff, outcomes: of_members } = revision;
            let of = of_revision.map_or_else(String::new, |of| of.to_string());
            let row = format!("r{number} {} {run} of [{of}] as of {cutoff}", state.name());
            for (id, outcome) in of_members {
                outcomes.push(format!("{id} r{number}"));
                if let Outcome::Billed { amounts, .. } = outcome {
                    history.push(format!("{id} {row} KRW {amounts}"));
                }
            }
            revisions.push(row);
        }
        [bills, items, quarantine, history, outcomes, revisions].map(|mut lines| {
            lines.sort();
            lines
        })
    }
}

/// The outcome of one member, from the lines of the reference implementation.
pub(super) fn price(book: &Book, member: &Member) -> Outcome {
    let mut lines = reference::priced(book, member);
    // The last one counts usage rows, which no bill has.
    let counts = lines.pop().unwrap();
    match lines.pop() {
        Some(amounts) => Outcome::Billed { amounts, items: lines },
        None if counts.starts_with("not eligible") => Outcome::NotEligible,
        None => Outcome::Quarantined { code: counts.split(',').next().unwrap().to_owned() },
    }
}
