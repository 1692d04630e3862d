//! Billing does not depend on Kafka or the mail server: it is as fast without them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::data::{self, Cohort};
use e2e::installation::Installation;
use e2e::runs::is_finished;
use e2e::suite::Suite;
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("billing_is_as_fast_without_kafka_and_mail", billing_is_as_fast);
}

#[expect(clippy::print_stderr, reason = "the measured times are printed")]
async fn billing_is_as_fast(installation: &Installation) -> Result<()> {
    let month = data::month(20);
    // The better of two runs, because other processes share the machine.
    let bill_twice = async |name: &str| -> Result<Duration> {
        let mut best = Duration::MAX;
        for n in 0..2 {
            let name = format!("{name}-{n}");
            let start = Instant::now();
            installation.apply_run(&name, &month, json!({"approvalPolicy": "Manual"})).await?;
            installation.wait_for_phase(&name, "AwaitingApproval").await?;
            best = best.min(start.elapsed());
            installation.delete_run(&name).await?;
        }
        Ok(best)
    };
    let with = bill_twice("with").await?;

    installation.ensure_billed(&Cohort::of(21).month).await?;
    installation.scale_kafka(0).await?;
    installation.mail.go_offline().await?;
    installation.notify("blocked", &Cohort::of(21), json!({})).await?;
    installation
        .notification_runs()
        .wait_for_condition("blocked", "Progressing", "False", "KafkaUnavailable")
        .await?;
    let without = bill_twice("without").await?;
    ensure!(
        !is_finished(&installation.notification_runs().get("blocked").await?),
        "the notification run finished without Kafka and a mail server"
    );
    let times = format!("billing took {with:.1?} with Kafka and a mail server, {without:.1?} without");
    eprintln!("{times}");
    // Allows for the time a pod takes to start and for the operator's interval of one second.
    let allowed = with.mul_f64(1.25) + Duration::from_secs(3);
    ensure!(without <= allowed, "{times}");

    installation.mail.set_rules(&[]).await?;
    installation.scale_kafka(1).await?;
    installation.wait_until_all_sent("blocked").await.map(drop)
}
