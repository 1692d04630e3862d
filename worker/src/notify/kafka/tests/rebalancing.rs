//! Consumers that join and leave the group: a partition moves to another consumer once nothing of
//! it is unfinished.

use super::*;

/// Publishes messages while consumers join and leave, and returns how many.
async fn publish_until_stopped(options: KafkaArgs, stop: CancellationToken) -> i64 {
    let mut next = 1;
    while !stop.is_cancelled() {
        options.put(messages(next..=next + 199)).await;
        next += 200;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    next - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_comes_twice_when_partitions_move() {
    let options = options();
    options.make_topics().await;
    let sink = Sink::default();
    let stop_publishing = CancellationToken::new();
    let publishing = tokio::spawn(publish_until_stopped(options.clone(), stop_publishing.clone()));
    let first = RunningConsumer::start(&options, &sink, false);
    until("the first to work", SOON, || sink.distinct() > 1000).await;
    let mut others: Vec<_> = (0..3).map(|_| RunningConsumer::start(&options, &sink, false)).collect();
    until("all to be there", SOON, || options.members() == 4).await;
    let seen = sink.distinct();
    until("all to work", SOON, || sink.distinct() > seen + 2000).await;
    first.stop().await;
    others.pop().unwrap().stop().await;
    until("two to be left", SOON, || options.members() == 2).await;
    stop_publishing.cancel();
    let total = usize::try_from(publishing.await.unwrap()).unwrap();
    until("the rest", SOON, || sink.distinct() == total && options.lag() == 0).await;
    let twice = sink.seen().values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "of {total} messages");
    for other in others {
        other.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_kept_until_its_batches_are_done() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=150)).await;
    let (slow, quick) = (Sink::default(), Sink::default());
    let first = RunningConsumer::start(&options, &slow, true);
    until("its batches", SOON, || slow.distinct() == 150).await;
    let second = RunningConsumer::start(&options, &quick, false);
    until("the second to be there", SOON, || options.members() == 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((quick.distinct(), options.committed()), (0, BTreeMap::new()), "no partition has moved");
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
    let (stuck, free) = (Sink::default(), Sink::default());
    let first = RunningConsumer::start(&options, &stuck, true);
    until("a batch", SOON, || stuck.distinct() > 0).await;
    let second = RunningConsumer::start(&options, &free, false);
    // Its partitions are given up after a while, and their unfinished messages come again.
    until("the other to get its share", 2 * SOON, || free.distinct() > 500).await;
    first.abort();
    until("the other to get everything", 2 * SOON, || free.distinct() == 3000 && options.lag() == 0).await;
    second.stop().await;
}
