//! Random data of a month from a seed: price books, members, and what is delivered of them load by
//! load, corrections included.

use jiff::ToSpan as _;
use jiff::civil::Date;
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::generate::{self, Book, DiscountModel, PlanModel};
use super::members::Member;
use super::model::{self, Outcome};
use super::rows::{AdjustmentLine, DatedLine, Line, MemberLine, Rows, UsageLine};

/// A plan and a discount that generated members have now and then, and that generated price books do
/// not know.
const UNKNOWN: (&str, &str) = ("Z", "D9");

pub(super) struct Generator {
    runner: TestRunner,
    /// The second one knows what the first one does not, and has other prices.
    pub(super) books: Vec<Book>,
    pub(super) ids: Vec<i64>,
    first: Date,
    /// Lines that are not delivered yet.
    pending: Vec<Line>,
    pub(super) delivered: Vec<Rows>,
    adjustments: i64,
    usage: u64,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut draw = |count: usize| {
            let members = generate::book().prop_flat_map(move |book| {
                let members = vec(generate::member(book.month), count);
                (proptest::strategy::Just(book), members)
            });
            members.new_tree(&mut runner).unwrap().current()
        };
        // Prices near the limits of 64 bits put nearly everybody in quarantine: a few members of a month
        // are enough.
        let (book, members) = loop {
            let (book, members) = draw(60 + usize::try_from(seed % 40).unwrap());
            let outcomes = members.iter().map(|member| model::price(&book, member));
            let billed = outcomes.filter(|outcome| matches!(outcome, Outcome::Billed { .. })).count();
            if billed * 10 > members.len() * 6 {
                break (book, members);
            }
        };
        let first = format!("{}-01", book.month).parse().unwrap();
        let mut generator = Self {
            books: vec![book.clone(), corrected(&book)],
            runner,
            ids: Vec::new(),
            first,
            pending: Vec::new(),
            delivered: Vec::new(),
            adjustments: 0,
            usage: 0,
        };
        let last = members.len() - 1;
        for (n, member) in members.into_iter().enumerate() {
            let gap = if generator.chance(10) { 1_000_000_000 } else { 1 + generator.pick(3) };
            let before = generator.ids.last().copied().unwrap_or_default();
            let id = if n == last { i64::MAX } else { before + i64::try_from(gap).unwrap() };
            generator.ids.push(id);
            generator.add(id, member);
        }
        generator
    }

    pub(super) fn draw<S: Strategy>(&mut self, strategy: S) -> S::Value {
        strategy.new_tree(&mut self.runner).unwrap().current()
    }

    /// A number below another one.
    pub(super) fn pick(&mut self, below: usize) -> usize {
        self.draw(0..below)
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.pick(100) < percent
    }

    pub(super) fn choose<T: Clone>(&mut self, from: &[T]) -> T {
        let at = self.pick(from.len());
        from[at].clone()
    }

    fn add(&mut self, member: i64, of: Member) {
        self.pending.push(Line::Member(MemberLine { id: member, name: format!("Member {member}") }));
        for line in of.subscriptions {
            let line = DatedLine { member, code: line.code, from: line.from, to: line.to };
            self.pending.push(Line::Subscription(line));
        }
        for line in of.grants {
            self.pending.push(Line::Grant(DatedLine {
                member,
                code: line.code,
                from: line.from,
                to: line.to,
            }));
        }
        for line in of.adjustments {
            let line = self.adjustment(member, line.amount);
            self.pending.push(Line::Adjustment(line));
        }
        for line in of.usage {
            let id = self.usage_id();
            self.pending.push(Line::Usage(UsageLine {
                id,
                member,
                kind: line.kind,
                quantity: line.quantity,
                started_at: line.started_at,
            }));
        }
    }

    /// Sometimes of the month before.
    fn adjustment(&mut self, member: i64, amount: i64) -> AdjustmentLine {
        self.adjustments += 1;
        let id = self.adjustments;
        let month = if self.chance(15) { self.first - 1.month() } else { self.first };
        AdjustmentLine {
            id,
            member,
            month: month.strftime("%Y-%m").to_string(),
            code: format!("ADJ{}", id % 3),
            amount,
        }
    }

    fn usage_id(&mut self) -> String {
        self.usage += 1;
        format!("u{}", self.usage)
    }

    /// The first folder has most of the data.
    pub(super) fn first_folder(&mut self) -> Rows {
        let mut rows = Rows::of("default");
        self.deliver_pending(&mut rows, 85);
        self.delivered(rows)
    }

    fn deliver_pending(&mut self, rows: &mut Rows, percent: usize) {
        for line in std::mem::take(&mut self.pending) {
            if self.chance(percent) {
                rows.push(line);
            } else {
                self.pending.push(line);
            }
        }
    }

    fn delivered(&mut self, rows: Rows) -> Rows {
        self.delivered.push(rows.clone());
        rows
    }

    /// A later folder: what is late, corrections of what was delivered, and the same again.
    pub(super) fn next_folder(&mut self) -> Rows {
        let source = if self.chance(30) { "other" } else { "default" };
        let mut rows = Rows::of(source);
        self.deliver_pending(&mut rows, 40);
        let delivered: Vec<Line> = self.delivered.iter().flat_map(Rows::lines).collect();
        for _ in 0..40 {
            let line = self.choose(&delivered);
            let changed = self.changed(line);
            rows.push(changed);
        }
        for _ in 0..3 {
            let member = self.choose(&self.ids.clone());
            let line = self.adjustment(member, 777);
            rows.push(Line::Adjustment(line));
            let code = self.choose(&[UNKNOWN.0, "X", "A"]).to_owned();
            let from = self.first + i64::try_from(self.pick(28)).unwrap().days();
            rows.push(Line::Subscription(DatedLine { member, code, from, to: None }));
        }
        self.delivered(rows)
    }

    /// Half of the lines as they are, the others with other values.
    fn changed(&mut self, line: Line) -> Line {
        if self.chance(50) {
            return line;
        }
        match line {
            Line::Member(line) => Line::Member(MemberLine { name: format!("{} again", line.name), ..line }),
            Line::Subscription(line) => Line::Subscription(self.other_end(line)),
            Line::Grant(line) => Line::Grant(self.other_end(line)),
            // Another content, or another row like it.
            Line::Adjustment(line) if self.chance(50) => {
                Line::Adjustment(AdjustmentLine { amount: line.amount / 2, ..line })
            }
            Line::Adjustment(line) => Line::Adjustment(self.adjustment(line.member, line.amount / 3)),
            Line::Usage(line) if self.chance(20) => {
                Line::Usage(UsageLine { quantity: line.quantity / 2, ..line })
            }
            Line::Usage(line) => {
                let id = self.usage_id();
                Line::Usage(UsageLine { id, quantity: line.quantity / 3 + 1, ..line })
            }
        }
    }

    /// Open, taken back, or with an end.
    fn other_end(&mut self, line: DatedLine) -> DatedLine {
        let days = i64::try_from(self.pick(60)).unwrap();
        let to = match self.pick(4) {
            0 => None,
            1 => Some(line.from),
            _ => Some(line.from + days.days()),
        };
        DatedLine { to, ..line }
    }
}

/// A price book that knows the unknown plan and discount, with some other prices.
fn corrected(book: &Book) -> Book {
    let mut book = book.clone();
    let (code, discount) = UNKNOWN;
    book.plans.push(PlanModel { code, addon: false, fee: 1_000, usage: Vec::new() });
    book.discounts.push(DiscountModel {
        code: discount,
        percent: true,
        value: "12.5".to_owned(),
        applies_to: "total",
        priority: 1,
        prorated: true,
        cap: None,
    });
    book.plans[0].fee = book.plans[0].fee / 2 + 7;
    if let Some(rate) = book.plans[1].usage.first_mut() {
        rate.allowance /= 2;
    }
    book
}
