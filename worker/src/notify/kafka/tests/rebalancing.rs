//! Consumers that come and go: partitions change hands with nothing in hand of them.

use super::*;

/// Keeps the topic busy while consumers come and go, and returns how many messages there were.
async fn feed(options: KafkaArgs, stop: CancellationToken) -> i64 {
    let mut next = 1;
    while !stop.is_cancelled() {
        options.put(messages(next..=next + 199)).await;
        next += 200;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    next - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_change_hands_settled() {
    let options = options();
    options.make_topics().await;
    let desk = Desk::default();
    let fed = CancellationToken::new();
    let feeding = tokio::spawn(feed(options.clone(), fed.clone()));
    let first = Running::start(&options, &desk, false);
    until("the first to work", SOON, || desk.distinct() > 1000).await;
    let mut others: Vec<_> = (0..3).map(|_| Running::start(&options, &desk, false)).collect();
    until("all to be there", SOON, || options.members() == 4).await;
    let seen = desk.distinct();
    until("all to work", SOON, || desk.distinct() > seen + 2000).await;
    first.stop().await;
    others.pop().unwrap().stop().await;
    until("two to be left", SOON, || options.members() == 2).await;
    fed.cancel();
    let total = usize::try_from(feeding.await.unwrap()).unwrap();
    until("the rest", SOON, || desk.distinct() == total && options.lag() == 0).await;
    let twice = desk.seen().values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "of {total} messages");
    for other in others {
        other.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_kept_until_what_is_in_hand_of_it_has_ended() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=150)).await;
    let (slow, quick) = (Desk::default(), Desk::default());
    let first = Running::start(&options, &slow, true);
    until("its batches", SOON, || slow.distinct() == 150).await;
    let second = Running::start(&options, &quick, false);
    until("the second to be there", SOON, || options.members() == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((quick.distinct(), options.committed()), (0, BTreeMap::new()), "nothing has changed hands");
    first.hold.send_replace(false);
    until("commits", SOON, || options.lag() == 0).await;
    options.put(messages(151..=1000)).await;
    until("both to work", SOON, || slow.distinct() + quick.distinct() == 1000 && options.lag() == 0).await;
    assert!(quick.distinct() > 0 && quick.seen().keys().all(|member| *member > 150), "{:?}", quick.seen());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_does_not_wait_for_an_engine_without_room() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=3000)).await;
    let (stuck, free) = (Desk::default(), Desk::default());
    let first = Running::start(&options, &stuck, true);
    until("a full engine", SOON, || stuck.distinct() == 2 * BATCH).await;
    let second = Running::start(&options, &free, false);
    // Partitions are let go after a while, and what was in hand of them comes again.
    until("the other to get its share", 2 * SOON, || free.distinct() > 500).await;
    first.abandon();
    until("the other to get everything", 2 * SOON, || free.distinct() == 3000 && options.lag() == 0).await;
    second.stop().await;
}
