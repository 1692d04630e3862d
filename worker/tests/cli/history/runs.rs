//! The steps of a month's history: each is done by the product (loads, billing and the verification
//! by the real binary, the operator's part by its functions) and by the model, and compared.

use std::collections::HashMap;
use std::sync::Arc;

use domain::ids::MemberId;
use store::billing::{self, BeginResult, EndStatus, Rejection, RollbackResult, Scope};
use store::testing::BillingFixture;
use worker_cli::BillArgs;

use super::data::Generator;
use super::model::{Model, Order, State};
use super::rows::Rows;
use crate::harness::{self, Site};

const FIRST_RUN: &str = "test/run";
const REBILLING: &str = "test/rebill";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeChoice {
    Everyone,
    Range,
    Members,
    Quarantined,
    Late,
}

impl ScopeChoice {
    pub(super) const ALL: [Self; 5] =
        [Self::Everyone, Self::Range, Self::Members, Self::Quarantined, Self::Late];
}

/// A month in the product and in the model.
pub(super) struct Month {
    seed: u64,
    site: Site,
    billing: BillingFixture,
    pub(super) data: Generator,
    pub(super) model: Model,
    /// The text of each price book.
    books: Vec<String>,
    runs: u128,
    /// The digest of everyone's outcomes, by price book and cut-off.
    digests: HashMap<(usize, usize), String>,
    /// What was done.
    steps: Vec<String>,
}

impl Month {
    pub(super) async fn new(seed: u64) -> Self {
        let mut data = Generator::new(seed);
        let (zone, month) = (data.books[0].zone, data.books[0].month);
        let mut billing = BillingFixture::with(zone, month).await;
        billing.chunk_size = i32::try_from(8 + data.pick(20)).unwrap();
        Self {
            seed,
            site: Site::around(Arc::clone(&billing.database)).await,
            billing,
            model: Model::new(data.books.clone()),
            books: data.books.iter().map(super::generate::Book::text).collect(),
            data,
            runs: 0,
            digests: HashMap::new(),
            steps: Vec::new(),
        }
    }

    pub(super) async fn load(&mut self) {
        let rows =
            if self.data.delivered.is_empty() { self.data.first_folder() } else { self.data.next_folder() };
        self.load_rows(&rows, "load").await;
    }

    /// Loads the folder of an earlier load, which may have been taken back, again.
    pub(super) async fn load_again(&mut self) {
        let rows = self.data.choose(&self.data.delivered.clone());
        self.load_rows(&rows, "load again").await;
    }

    async fn load_rows(&mut self, rows: &Rows, step: &str) {
        let rejected = self.model.load(rows);
        self.steps.push(format!("{step}: load {}", self.model.last_load()));
        let files = rows.files();
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let folder = self.site.folder("in", &files);
        let ended = self.site.load(&folder);
        assert_eq!(
            ended.status,
            Some(if rejected { 3 } else { 0 }),
            "{}{}\n{}",
            self.story(),
            ended.out,
            ended.log
        );
        assert_eq!(self.last_load().await, self.model.last_load().to_string(), "{}", self.story());
        self.compare().await;
    }

    async fn last_load(&self) -> String {
        self.billing.database.read_text("select max(number) from loads where state <> 'RUNNING'").await
    }

    pub(super) async fn take_back(&mut self) {
        let loads = self.model.counting_loads();
        // Hardly anything is left without the first one.
        let rest = if loads.len() > 1 && self.data.chance(75) { &loads[1..] } else { &loads[..] };
        if rest.is_empty() {
            return;
        }
        let load = self.data.choose(rest);
        self.steps.push(format!("take back load {load}"));
        self.model.take_back(load);
        self.site.run(&["load", "--take-back", &load.to_string()]).with(0);
        assert_eq!(self.last_load().await, self.model.last_load().to_string(), "{}", self.story());
        self.compare().await;
    }

    /// Bills the month for the first time, or those of the scope again. The draft is issued or
    /// rejected.
    pub(super) async fn bill(&mut self, choice: ScopeChoice, issue: bool) {
        let book = self.data.pick(self.books.len());
        let last = self.model.last_load();
        // Mostly the last load, as when the run names none.
        let cutoff = self.data.chance(25).then(|| 1 + self.data.pick(last));
        let scope = self.scope(choice);
        let live = self.model.highest_live();
        let verb = if issue { "issue" } else { "reject" };
        let what = live
            .map_or_else(|| "first billing".to_owned(), |of| format!("revision {of} again for {scope:?}"));
        self.steps.push(format!("{verb} {what} with book {book} as of {cutoff:?}"));

        self.runs += 1;
        let started = match live {
            None => {
                self.billing.price_book.clone_from(&self.books[book]);
                match self.billing.try_begin(FIRST_RUN, self.runs, cutoff.map(to_i64)).await {
                    BeginResult::Started(started) => started,
                    BeginResult::Rejected(rejection) => panic!("{}{rejection}", self.story()),
                }
            }
            Some(of) => {
                let of = i32::try_from(of).unwrap();
                let (text, cutoff) = (&self.books[book], cutoff.map(to_i64));
                self.billing.rebill_scope(self.runs, of, text, &scope, cutoff).await
            }
        };
        let run = if live.is_some() { REBILLING } else { FIRST_RUN };
        let cutoff = cutoff.unwrap_or(last);
        let order = Order { run, book, cutoff, rebill: live.map(|of| (of, &scope)) };
        let revision = self.model.bill(&order);
        assert_eq!(started.key.revision.to_string(), revision.to_string(), "{}", self.story());

        let key = started.key;
        let bill = BillArgs {
            month: key.month,
            revision: key.revision,
            fence: key.fence,
            run: run.to_owned(),
            run_uid: key.run_uid,
        };
        let workers = (0..started.shards).map(|shard| {
            let mut command = bill.to_args();
            command.push(format!("--shard={shard}"));
            let command: Vec<_> = command.iter().map(String::as_str).collect();
            self.site.command(&command).spawn().unwrap()
        });
        // All of them are started before the first one is waited for.
        for worker in workers.collect::<Vec<_>>() {
            let ended = harness::ended(worker);
            assert_eq!(ended.status, Some(0), "{}{}\n{}", self.story(), ended.out, ended.log);
        }
        let verification = self.billing.verify(&key).await;
        assert!(verification.passed(), "{}{:?}", self.story(), verification.checks);
        if live.is_none() || choice == ScopeChoice::Everyone {
            let digest = verification.digest.to_string();
            let earlier = self.digests.entry((book, cutoff)).or_insert(digest.clone()).clone();
            assert_eq!(earlier, digest, "{}the same inputs have another digest", self.story());
        }
        self.compare().await;
        let operator = &self.billing.operator;
        if issue {
            billing::issue_revision(operator, &key, None).await.unwrap();
            self.model.close(revision, State::Live);
        } else {
            billing::reject_revision(operator, &key, "not as it should be", EndStatus::Cancelled)
                .await
                .unwrap();
            self.model.close(revision, State::Rejected);
        }
        self.compare().await;
    }

    fn scope(&mut self, choice: ScopeChoice) -> Scope {
        let id = |id: i64| MemberId::try_from(id).unwrap();
        match choice {
            ScopeChoice::Everyone => Scope::Everyone,
            ScopeChoice::Range => {
                let ids = self.data.ids.clone();
                let (one, other) = (self.data.choose(&ids), self.data.choose(&ids));
                Scope::Range { from: id(one.min(other)), to: id(one.max(other)) }
            }
            ScopeChoice::Members => {
                let ids = self.data.ids.clone();
                let mut listed: Vec<_> = (0..20).map(|_| id(self.data.choose(&ids))).collect();
                // Nobody has it.
                listed.push(id(i64::MAX - 1));
                Scope::Members(listed)
            }
            ScopeChoice::Quarantined => Scope::Quarantined,
            ScopeChoice::Late => Scope::Late,
        }
    }

    pub(super) async fn roll_back(&mut self) {
        let Some(revision) = self.model.highest_live() else { return };
        self.steps.push(format!("roll revision {revision} back"));
        self.runs += 1;
        let result = self.billing.roll_back(self.runs, to_i64(revision)).await;
        assert!(matches!(result, RollbackResult::RolledBack(_)), "{}{result:?}", self.story());
        self.model.close(revision, State::RolledBack);
        self.compare().await;
    }

    /// Runs that do not fit what is live change nothing.
    pub(super) async fn refuse(&mut self) {
        self.steps.push("runs that are refused".to_owned());
        let live = self.model.highest_live();
        for of in 1..=live.unwrap_or_default() + 1 {
            if self.model.can_begin(Some(of)) {
                continue;
            }
            self.runs += 1;
            let result = self.billing.try_rebill(self.runs, i32::try_from(of).unwrap(), None).await;
            let refused = matches!(result, BeginResult::Rejected(Rejection::RevisionConflict { .. }));
            assert!(refused, "{}{result:?}", self.story());
            let result = self.billing.roll_back(self.runs, to_i64(of)).await;
            let refused = matches!(result, RollbackResult::Rejected(Rejection::RevisionConflict { .. }));
            assert!(refused, "{}{result:?}", self.story());
        }
        if !self.model.can_begin(None) {
            self.runs += 1;
            let result = self.billing.try_begin(FIRST_RUN, self.runs, None).await;
            let refused = matches!(result, BeginResult::Rejected(Rejection::MonthAlreadyBilled { .. }));
            assert!(refused, "{}{result:?}", self.story());
        }
        self.compare().await;
    }

    async fn compare(&self) {
        let month = self.billing.month;
        let amounts = "concat_ws(' ', 'base', base_amount, 'usage', usage_amount, 'discount', discount_amount, \
                       'adjustment', adjustment_amount, 'tax', tax_amount, 'rounding', rounding_amount, 'total', total_amount)";
        let revision = "concat_ws(' ', 'r' || revision, state, run, 'of', format('[%s]', of_revision), 'as of', data_cutoff)";
        let queries = [
            format!(
                "select concat_ws(' ', member_id, 'r' || revision, run, status, currency,
                                  case when issued_at is not null then 'issued' end, {amounts}) from live_bill"
            ),
            "select concat_ws(' ', member_id, 'r' || revision, line_no, kind, code, quantity, amount, 'days ' || days,
                              'used ' || used_quantity, 'free ' || free_allowance) from live_bill_item"
                .to_owned(),
            "select concat_ws(' ', member_id, 'r' || revision, run, code) from quarantine".to_owned(),
            format!("select concat_ws(' ', member_id, {revision}, currency, {amounts}) from bill_history"),
            "select concat_ws(' ', member_id, 'r' || revision) from outcome".to_owned(),
            format!("select {revision} from revision"),
        ];
        for (query, expected) in queries.iter().zip(self.model.tables()) {
            let mut found = self.site.rows(&format!("{query} where month = '{month}'")).await;
            found.sort();
            let missing: Vec<_> = expected.iter().filter(|line| !found.contains(line)).take(10).collect();
            let unexpected: Vec<_> = found.iter().filter(|line| !expected.contains(line)).take(10).collect();
            assert!(
                found == expected,
                "{}{query}\nis without {missing:#?}\nand has {unexpected:#?}",
                self.story()
            );
        }
        // A draft is a run that has not ended.
        let verified = self.site.run(&["verify", "--month", month]);
        assert_eq!(verified.status, Some(0), "{}{}\n{}", self.story(), verified.out, verified.log);
    }

    /// What was done until now, for the message of a failure.
    fn story(&self) -> String {
        format!("seed {} of {}:\n  {}\n", self.seed, self.billing.month, self.steps.join("\n  "))
    }
}

fn to_i64(number: usize) -> i64 {
    number.try_into().unwrap()
}
