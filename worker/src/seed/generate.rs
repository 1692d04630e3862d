//! Generates the rows of blocks of members. A block's rows depend on the parameters and the block's
//! number only, so any writer can generate any block at any time.

use std::fmt::Write as _;

use domain::ids::MemberId;
use domain::month::BillingMonth;
use domain::zone::{Zone, ZonedMonth};
use jiff::{SignedDuration, Timestamp};
use store::copy::CopyRows;
use store::crypto::{Column, Keyring, Sealer};
use store::seed::Table;

use super::contracts::{Catalogue, Contracts};
use super::people::Person;
use super::random::Random;

/// Members in a block.
const BLOCK_SIZE: u64 = 1000;
/// Ids that a block may use: no block needs to know those of another.
const IDS_OF_BLOCK: i64 = 8000;
/// After this many blocks, there is a large gap in the ids.
const BLOCKS_BETWEEN_GAPS: i64 = 50;
const GAP: i64 = 1_000_000;
/// Bytes of rows that one statement writes.
const STATEMENT_BYTES: usize = 4 << 20;
/// Relative usage of members, one weight for each twentieth of them: most use little, a few use
/// very much.
const USAGE_WEIGHTS: [u64; 20] =
    [1, 4, 8, 12, 17, 22, 28, 34, 40, 47, 55, 65, 77, 91, 108, 131, 165, 225, 330, 540];

/// The parameters of a seed.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) members: u64,
    pub(super) usage_per_member: u64,
    pub(super) month: BillingMonth,
    pub(super) zone: Zone,
    pub(super) catalogue: Catalogue,
    pub(super) keys: Keyring,
    pub(super) load: i64,
}

impl Plan {
    pub(super) fn blocks(&self) -> u64 {
        self.members.div_ceil(BLOCK_SIZE)
    }

    /// The month, and the months before and after it, which have a few rows too.
    pub(super) fn usage_months(&self) -> Vec<BillingMonth> {
        [self.month.previous(), Some(self.month), self.month.next()].into_iter().flatten().collect()
    }
}

/// The rows of one statement.
pub(super) type Piece = (Table, CopyRows);

/// Generates blocks, one after the other, for one writer.
pub(super) struct Generator<'a> {
    plan: &'a Plan,
    clock: ZonedMonth,
    /// The month before, this one, and the one after.
    months: [Option<String>; 3],
    sealer: Sealer<'a>,
    rows: [(Table, CopyRows); 5],
    person: Person,
    contracts: Contracts<'a>,
    envelope: Vec<u8>,
    usage_id: String,
}

const MEMBERS: usize = 0;
const SUBSCRIPTIONS: usize = 1;
const GRANTS: usize = 2;
const ADJUSTMENTS: usize = 3;
const USAGE: usize = 4;

impl<'a> Generator<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let tables = [Table::Members, Table::Subscriptions, Table::Grants, Table::Adjustments, Table::Usage];
        Self {
            plan,
            clock: plan.zone.month(plan.month),
            months: [plan.month.previous(), Some(plan.month), plan.month.next()]
                .map(|month| month.map(|month| month.to_string())),
            sealer: plan.keys.sealer(),
            rows: tables.map(|table| (table, CopyRows::default())),
            person: Person::default(),
            contracts: Contracts::default(),
            envelope: Vec::new(),
            usage_id: String::new(),
        }
    }

    /// Generates a block; sends the rows of a table when they are enough for a statement.
    pub(super) fn block<E>(
        &mut self,
        block: u64,
        send: &mut impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let members = BLOCK_SIZE.min(self.plan.members - block * BLOCK_SIZE);
        let mut random = Random::new(self.plan.seed, block);
        let weights: Vec<u64> = (0..members).map(|_| *random.pick(&USAGE_WEIGHTS)).collect();
        let weight: u64 = weights.iter().sum();
        let usage = self.plan.usage_per_member * members;
        let number = i64::try_from(block).expect("fewer than 2^63 blocks");
        let base = number * IDS_OF_BLOCK + number / BLOCKS_BETWEEN_GAPS * GAP;
        let (mut offset, mut weighed, mut used) = (0, 0, 0);
        for (at, member_weight) in (0..).zip(weights) {
            let gap = match random.below(100) {
                0..85 => 1,
                85..97 => random.between(2, 5),
                _ => random.between(6, 60),
            };
            // Leave room for the other members of the block.
            let room = IDS_OF_BLOCK - offset - i64::try_from(members - at).unwrap_or(IDS_OF_BLOCK);
            offset += gap.min(room.max(1));
            let member = MemberId::try_from(base + offset).expect("a positive number");
            weighed += member_weight;
            let until = shared(usage, weighed, weight);
            self.member(&mut random, member, block * BLOCK_SIZE + at + 1, until - used);
            used = until;
            for (table, rows) in &mut self.rows {
                if rows.size() >= STATEMENT_BYTES {
                    send((*table, std::mem::take(rows)))?;
                }
            }
        }
        Ok(())
    }

    /// Sends the remaining rows.
    pub(super) fn finish<E>(self, send: &mut impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        self.rows.into_iter().filter(|(_, rows)| rows.rows() > 0).try_for_each(send)
    }

    fn member(&mut self, random: &mut Random, member: MemberId, place: u64, usage: u64) {
        let load = self.plan.load;
        self.person.regenerate(random, member.get());
        self.contracts.regenerate(random, &self.plan.catalogue, self.plan.month);
        let Person { name, email, phone, locale } = &self.person;
        let rows = &mut self.rows[MEMBERS].1;
        rows.row(6).int8(member.get()).int8(load);
        rows.optional((!locale.is_empty()).then_some(*locale), CopyRows::text);
        for (column, text) in [(Column::Name, name), (Column::Email, email), (Column::Phone, phone)] {
            if text.is_empty() {
                rows.null();
            } else {
                self.envelope.clear();
                self.sealer.seal_into(&mut self.envelope, column, member, text);
                rows.bytes(&self.envelope);
            }
        }
        for (table, spans) in
            [(SUBSCRIPTIONS, &self.contracts.subscriptions), (GRANTS, &self.contracts.grants)]
        {
            for span in spans {
                let rows = &mut self.rows[table].1;
                rows.row(5).int8(member.get()).text(span.code).date(span.from);
                rows.optional(span.to, CopyRows::date).int8(load);
            }
        }
        if let Some((code, reason, amount)) = self.contracts.adjustment {
            let id = i64::try_from(place).expect("fewer than 2^63 members");
            let rows = &mut self.rows[ADJUSTMENTS].1;
            let month = self.plan.month.to_string();
            rows.row(7)
                .int8(id)
                .int8(member.get())
                .text(&month)
                .text(code)
                .int8(amount)
                .text(reason)
                .int8(load);
        }
        self.usage(random, member, usage);
    }

    fn usage(&mut self, random: &mut Random, member: MemberId, count: u64) {
        if self.plan.catalogue.kinds.is_empty() {
            return;
        }
        let day = |number: u32| SignedDuration::from_hours(24 * i64::from(number));
        let (first, end) = self.contracts.active;
        let from = (self.clock.start() + day(first)).min(self.clock.end());
        let to = if end == self.plan.month.days() { self.clock.end() } else { self.clock.start() + day(end) };
        let micros = u64::try_from(to.as_microsecond() - from.as_microsecond()).unwrap_or(0).max(1);
        for number in 1..=count {
            let after =
                i64::try_from(random.below(micros)).expect("a month has fewer than 2^63 microseconds");
            self.usage_row(random, member, number, from + SignedDuration::from_micros(after), 1);
        }
        // A few members have a row shortly before or after the month.
        if random.chance(2) {
            let side = random.index(2);
            let distance = SignedDuration::from_micros(random.between(0, 7_200_000_000));
            let (place, at) = match side {
                0 => (0, self.clock.start() - SignedDuration::from_micros(1) - distance),
                _ => (2, self.clock.end() + distance),
            };
            self.usage_row(random, member, count + 1, at, place);
        }
    }

    /// Adds a row to one of the months, unless the month is outside those that the product
    /// supports.
    fn usage_row(&mut self, random: &mut Random, member: MemberId, number: u64, at: Timestamp, place: usize) {
        let Some(month) = &self.months[place] else { return };
        let catalogue = &self.plan.catalogue;
        let kind = &catalogue.kinds[random.weighted(&catalogue.kind_weights)];
        self.usage_id.clear();
        write!(self.usage_id, "{member}-{number}").expect("writing to a string cannot fail");
        let rows = &mut self.rows[USAGE].1;
        rows.row(8).int8(member.get()).timestamptz(at).int8(quantity(random, kind)).int8(self.plan.load);
        rows.text(kind).text(month).text(SOURCE).text(&self.usage_id);
    }
}

/// The source of generated usage.
pub(super) const SOURCE: &str = "seed";

/// The share of `whole` that the first `part` of `all` gets; the shares add up to the whole
/// exactly.
fn shared(whole: u64, part: u64, all: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(all);
    u64::try_from(share).expect("a part is no more than all")
}

/// Many small quantities and a few large ones: the exponent is random, not the number.
fn quantity(random: &mut Random, kind: &str) -> i64 {
    let mut up_to_double = |unit: u64, doublings: u64| {
        let size = unit << random.below(doublings);
        i64::try_from(size + random.below(size)).expect("far below 2^63")
    };
    match kind {
        "voice" => up_to_double(15, 8),
        "data" => up_to_double(1 << 18, 13),
        "sms" => random.between(1, 3),
        _ => up_to_double(1, 10),
    }
}
