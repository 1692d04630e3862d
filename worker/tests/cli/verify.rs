//! `monthend verify`: its report, and its exit status.

use crate::harness::Site;

const VERIFY: [&str; 3] = ["verify", "--month", "2026-10"];

#[tokio::test]
async fn a_violation_is_reported_and_the_exit_status_is_4() {
    let site = Site::new().await;
    site.run(&["seed", "--month", "2026-10", "--members", "5"]).with(0);
    let holds = site.run(&VERIFY).with(0);
    assert!(
        holds.out.contains(
            "envelopes-are-valid: holds (encrypted columns use known keys, and no nonce is used twice)"
        ),
        "{}",
        holds.out
    );
    assert!(holds.out.ends_with("2026-10: 20 of 20 hold\n"), "{}", holds.out);

    sqlx::query("insert into job_log (kind, month) values ('BILLING', '2026-10')")
        .execute(&site.database.pool)
        .await
        .unwrap();
    let violated = site.run(&VERIFY).with(4);
    assert!(violated.out.contains("ended-runs-are-closed: VIOLATED, 1 times ("), "{}", violated.out);
    assert!(violated.out.contains("is RUNNING, its revision none"), "{}", violated.out);
    // Another month has nothing to do with it.
    site.run(&["verify", "--month", "2026-09"]).with(0);
}

#[tokio::test]
async fn arrived_messages_are_read_from_a_file() {
    let site = Site::new().await;
    let folder = site.folder("arrived", &[("ids", "<2026-10.7.1@example.com>\n\n2026-09.7.1@example.com\n")]);
    let file = folder.join("ids");
    let sink = ["--sink", file.to_str().unwrap()];
    let violated = site.run(&[&VERIFY[..], &sink[..]].concat()).with(4);
    let expected = "member 7 revision 1 is READY after 0 ambiguous attempts, and 1 emails arrived";
    assert_eq!(violated.out.matches("emails arrived\n").count(), 1, "{}", violated.out);
    assert!(violated.out.contains(expected), "{}", violated.out);
    let nowhere = site.run(&[&VERIFY[..], &["--sink", "/nowhere/ids"][..]].concat()).with(2);
    assert!(nowhere.message().contains("cannot read /nowhere/ids"), "{}", nowhere.log);
}
