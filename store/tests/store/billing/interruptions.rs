//! Issuing and rolling back, cut off at every message to the database: each is done or not done,
//! never in between, and a repeated call finishes it.

use std::collections::BTreeSet;

use sqlx::PgPool;
use store::billing::{self, BillingError, RevisionKey, RollbackRequest, RollbackResult, Uuid};
use store::testing::sample_month::EVERYTHING;
use store::testing::{BillingFixture, Cut, DatabaseProxy, MONTH, with_role};
use store::verify::{self, VerificationRequest};

use super::bill_shards;
use crate::invariants::encrypt_members;

/// Far more messages than issuing or rolling back sends.
const TOO_MANY: u32 = 200;

struct Interrupted {
    fixture: BillingFixture,
    proxy: DatabaseProxy,
}

impl Interrupted {
    async fn new() -> Self {
        let fixture = BillingFixture::new().await;
        fixture.load(1, EVERYTHING).await;
        let ended = "update job_log set status = 'SUCCEEDED', ended_at = now() where kind = 'LOAD'";
        fixture.database.execute(ended).await;
        encrypt_members(&fixture).await;
        let proxy = DatabaseProxy::start(&fixture.database.url, 0).await;
        Self { fixture, proxy }
    }

    /// A pool whose next connection is cut at this message.
    async fn pool(&self, message: u32, cut: Cut) -> PgPool {
        let pool = store::pool::connect(&with_role(&self.proxy.url, "monthend_operator"), "test", 1).await;
        self.proxy.cut_after(message, cut);
        pool.unwrap()
    }

    async fn verified_draft(&self, uid: u128) -> RevisionKey {
        let key = self.fixture.begin(uid).await.key;
        bill_shards(&self.fixture, &key).await;
        assert!(self.fixture.verify(&key).await.passed());
        key
    }

    /// The revision, its job, the month's lock, the rollbacks, and what readers see.
    async fn state(&self, key: &RevisionKey) -> String {
        let revision = key.revision;
        self.fixture
            .database
            .read_text(&format!(
                "select format('%s %s locked %s, rollbacks %s %s, bills %s', r.state, j.status, l.run is not null,
                               (select count(*) from rollback where revision = r.revision),
                               (select string_agg(status, ',') from job_log
                                where kind = 'ROLLBACK' and (detail->>'revision')::int = r.revision),
                               (select count(*) from live_bill))
                 from revision r join job_log j on j.id = r.job join month_lock l on l.month = r.month
                 where r.revision = {revision}"
            ))
            .await
    }

    async fn assert_invariants(&self) {
        let mut connection = self.fixture.database.connect().await;
        let request =
            VerificationRequest { month: MONTH.parse().unwrap(), active: None, keys: None, sink: None };
        for checked in verify::verify_month(&mut connection, &request).await.unwrap() {
            assert!(checked.violations.is_empty(), "{checked:?}");
        }
    }
}

fn rollback(key: &RevisionKey, uid: u128) -> RollbackRequest<'static> {
    RollbackRequest {
        run: "test/rollback",
        run_uid: Uuid::from_u128(uid),
        month: key.month,
        revision: key.revision,
        reason: "wrong price book",
    }
}

/// Cuts one call after the other at its first message, its second one, and so on, until a call is
/// no longer cut.
#[tokio::test(flavor = "multi_thread")]
async fn issuing_and_rolling_back_are_done_or_not_done_wherever_they_are_cut_off() {
    const DRAFT: &str = "DRAFT RUNNING locked t, rollbacks 0 , bills 0";
    const LIVE: &str = "LIVE COMPLETED_WITH_FAILURES locked f, rollbacks 0 , bills 12";
    const ROLLED_BACK: &str = "ROLLED_BACK COMPLETED_WITH_FAILURES locked f, rollbacks 1 SUCCEEDED, bills 0";

    let interrupted = Interrupted::new().await;
    let mut uid = 1;
    for cut in [Cut::Before, Cut::Answered] {
        let (mut after_issuing, mut after_rolling_back) = (BTreeSet::new(), BTreeSet::new());
        let mut was_cut = true;
        for message in 0..TOO_MANY {
            if !was_cut {
                break;
            }
            was_cut = false;
            let key = interrupted.verified_draft(uid).await;
            let pool = interrupted.pool(message, cut).await;
            let issued: Result<(), BillingError> = billing::issue_revision(&pool, &key, None).await;
            was_cut |= !interrupted.proxy.clear_cut();
            let state = interrupted.state(&key).await;
            assert!([DRAFT, LIVE].contains(&state.as_str()), "{cut:?} {message} {issued:?}: {state}");
            assert!(issued.is_err() || state == LIVE, "{cut:?} {message}: {state}");
            after_issuing.insert((state, issued.is_ok()));
            billing::issue_revision(&interrupted.fixture.operator, &key, None).await.unwrap();
            assert_eq!(interrupted.state(&key).await, LIVE, "{cut:?} {message}");

            let request = rollback(&key, uid + 1);
            let pool = interrupted.pool(message, cut).await;
            let rolled_back = billing::roll_back_revision(&pool, &request).await;
            was_cut |= !interrupted.proxy.clear_cut();
            let state = interrupted.state(&key).await;
            assert!(
                [LIVE, ROLLED_BACK].contains(&state.as_str()),
                "{cut:?} {message} {rolled_back:?}: {state}"
            );
            assert!(rolled_back.is_err() || state == ROLLED_BACK, "{cut:?} {message}: {state}");
            after_rolling_back.insert((state, rolled_back.is_ok()));
            let repeated = billing::roll_back_revision(&interrupted.fixture.operator, &request).await;
            assert!(matches!(repeated, Ok(RollbackResult::RolledBack(_))), "{cut:?} {message}: {repeated:?}");
            assert_eq!(interrupted.state(&key).await, ROLLED_BACK, "{cut:?} {message}");
            uid += 2;
        }
        assert!(!was_cut, "{TOO_MANY} messages are not enough");
        interrupted.assert_invariants().await;
        // Cut off before it was done, and not cut off. Only an answer that is lost leaves it done.
        let ends = |before: &str, done: &str| {
            let mut ends = BTreeSet::from([(before.to_owned(), false), (done.to_owned(), true)]);
            ends.extend((cut == Cut::Answered).then(|| (done.to_owned(), false)));
            ends
        };
        assert_eq!(after_issuing, ends(DRAFT, LIVE));
        assert_eq!(after_rolling_back, ends(LIVE, ROLLED_BACK));
    }
}
