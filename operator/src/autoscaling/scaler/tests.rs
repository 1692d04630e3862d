//! Passes over Deployments against an API server that expects exact calls in an exact order.

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::runtime::events::Reporter;
use prometheus::{Registry, TextEncoder};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower_test::mock::{self, Handle};

use super::*;
use crate::autoscaling::lag_cache::Consumers;
use crate::autoscaling::policy::STUCK_AFTER;
use crate::metrics::Registrar;

const SCALE: &str = "/apis/apps/v1/namespaces/billing/deployments/notify/scale";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/billing/events";
const SECOND: Duration = Duration::from_secs(1);

/// One expected call: method, path, what the body must contain, and the answer.
struct Call {
    method: Method,
    path: &'static str,
    body: Value,
    answer: (StatusCode, Value),
}

fn scaled_to(replicas: u32) -> Call {
    Call {
        method: Method::PATCH,
        path: SCALE,
        body: json!({"metadata": {"uid": "uid-1", "resourceVersion": "7"}, "spec": {"replicas": replicas}}),
        answer: (StatusCode::OK, json!({"metadata": {"name": "notify"}, "spec": {"replicas": replicas}})),
    }
}

fn rejected(code: StatusCode, replicas: u32) -> Call {
    let status = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": "No", "message": "not so"});
    Call { answer: (code, status), ..scaled_to(replicas) }
}

fn event(kind: &str, reason: &str) -> Call {
    Call {
        method: Method::POST,
        path: EVENTS,
        body: json!({
            "type": kind, "reason": reason, "action": "Scale",
            "regarding": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "notify", "uid": "uid-1"},
        }),
        answer: (StatusCode::CREATED, json!({"metadata": {"name": "notify.1"}})),
    }
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (whole, part) => whole == part,
    }
}

async fn serve(mut handle: Handle<Request<Body>, Response<Body>>, calls: Vec<Call>) {
    for call in calls {
        let expected = format!("{} {}", call.method, call.path);
        let next = tokio::time::timeout(SECOND * 5, handle.next_request()).await;
        let (request, send) = next.unwrap_or_else(|_| panic!("{expected} was not called")).unwrap();
        assert_eq!(format!("{} {}", request.method(), request.uri().path()), expected);
        let body = request.into_body().collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(contains(&body, &call.body), "{expected}: {} is not in {body}", call.body);
        let (code, answer) = call.answer;
        let answer =
            Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap();
        send.send_response(answer);
    }
    assert!(handle.next_request().await.is_none(), "an unexpected call");
}

fn own() -> TopicGroup {
    TopicGroup { topic: "monthend.notices".to_owned(), group: "monthend-notify".to_owned() }
}

fn scaler(client: Client, registry: &Registry) -> Scaler {
    let stop = CancellationToken::new();
    stop.cancel();
    let nowhere = "postgres://nobody@127.0.0.1:1/none".into();
    let pool = store::pool::connect_lazily(&nowhere, "test", 1, SECOND).unwrap();
    let reporter = Reporter { controller: "monthend-operator".to_owned(), instance: Some("test".to_owned()) };
    Scaler {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        namespace: "billing".to_owned(),
        database: Database::watch(pool, stop),
        brokers: "127.0.0.1:1".to_owned(),
        own: own(),
        metrics: ScalingMetrics::new(&Registrar(registry)).unwrap(),
        lags: LagCache::default(),
        clock: Clock::SYSTEM,
    }
}

fn deployment(replicas: u32, more: &[(&str, &str)]) -> Deployment {
    let mut annotations = json!({
        "monthend.dev/topic": "monthend.notices", "monthend.dev/group": "monthend-notify",
        "monthend.dev/lag-per-replica": "100", "monthend.dev/min-replicas": "1",
        "monthend.dev/max-replicas": "6", "monthend.dev/cooldown-seconds": "60",
    });
    for (key, value) in more {
        annotations[key] = Value::from(*value);
    }
    serde_json::from_value(json!({
        "metadata": {
            "name": "notify", "namespace": "billing", "uid": "uid-1", "resourceVersion": "7",
            "annotations": annotations,
        },
        "spec": {"replicas": replicas, "selector": {}, "template": {}},
        "status": {"readyReplicas": replicas},
    }))
    .unwrap()
}

fn lag(committed: i64, lags: &[i64]) -> Result<Vec<Partition>, LagError> {
    let partition = |(id, lag)| Partition { id, committed: Some(committed), low: 0, high: committed + lag };
    Ok((0..).zip(lags).map(|(id, lag): (i32, &i64)| partition((id, *lag))).collect())
}

fn unreadable() -> Result<Vec<Partition>, LagError> {
    Err(LagError::Panicked("the broker is away".to_owned()))
}

struct Scaled {
    view: LagView,
    busy: bool,
    metrics: String,
}

/// Runs these passes one after the other; returns the result of the last.
async fn scale(
    passes: Vec<(Duration, Deployment, Result<Vec<Partition>, LagError>)>,
    calls: Vec<Call>,
) -> Scaled {
    let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
    let registry = Registry::new();
    let scaler = scaler(Client::new(service, "billing"), &registry);
    let cache = scaler.lags.clone();
    let work = async move {
        let (mut state, mut busy) = (ScalerState::default(), false);
        for (now, deployment, lag) in passes {
            let targets: Vec<ScalingTarget> = target::read(&deployment).into_iter().collect();
            scaler.report_lag(&own(), &lag, &mut state);
            let lags = Lags::from([(own(), lag)]);
            busy = scaler.scale_all(&targets, &lags, true, now, Timestamp::UNIX_EPOCH, &mut state).await;
        }
        busy
    };
    let (busy, ()) = tokio::join!(work, serve(handle, calls));
    let metrics = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let TopicGroup { topic, group } = own();
    Scaled { view: cache.lag_of(&topic, &group).unwrap(), busy, metrics }
}

fn has(scaled: &Scaled, lines: &[&str]) {
    for line in lines {
        assert!(scaled.metrics.contains(line), "{line} is missing in:\n{}", scaled.metrics);
    }
}

#[tokio::test]
async fn more_lag_scales_out_at_once_and_writes_an_event() {
    let scaled = scale(
        vec![(SECOND, deployment(1, &[]), lag(0, &[300, 300, 300, 1]))],
        vec![scaled_to(4), event("Normal", "ScaledOut")],
    )
    .await;
    assert_eq!((scaled.view.lag, scaled.view.drained), (Some(901), false));
    assert_eq!(scaled.view.consumers, Some(Consumers { replicas: 1, ready: 1, desired: 4 }));
    assert!(scaled.busy);
    has(
        &scaled,
        &[
            r#"monthend_kafka_lag{group="monthend-notify",topic="monthend.notices"} 901"#,
            r#"monthend_kafka_lag_readable{group="monthend-notify",topic="monthend.notices"} 1"#,
            r#"monthend_consumer_replicas{deployment="notify"} 1"#,
            r#"monthend_consumer_replicas_desired{deployment="notify"} 4"#,
            r#"monthend_consumer_replicas_max{deployment="notify"} 6"#,
            r#"monthend_scale_decisions_total{deployment="notify",direction="in"} 0"#,
            r#"monthend_scale_decisions_total{deployment="notify",direction="out"} 1"#,
        ],
    );
}

#[tokio::test]
async fn no_lag_scales_in_after_the_cool_down() {
    let scaled = scale(
        vec![
            (SECOND, deployment(4, &[]), lag(900, &[0, 0, 0, 0])),
            (SECOND * 60, deployment(4, &[]), lag(900, &[0, 0, 0, 0])),
            (SECOND * 61, deployment(4, &[]), lag(900, &[0, 0, 0, 0])),
        ],
        vec![scaled_to(1), event("Normal", "ScaledIn")],
    )
    .await;
    assert!(scaled.view.drained);
    has(
        &scaled,
        &[
            r#"monthend_scale_decisions_total{deployment="notify",direction="stay"} 2"#,
            r#"monthend_scale_decisions_total{deployment="notify",direction="in"} 1"#,
        ],
    );
}

#[tokio::test]
async fn an_unreadable_lag_is_reported_once_and_changes_nothing() {
    let scaled = scale(
        vec![
            (SECOND, deployment(4, &[]), lag(0, &[400, 0])),
            (SECOND * 3, deployment(4, &[]), unreadable()),
            (SECOND * 103, deployment(4, &[]), unreadable()),
        ],
        vec![event("Warning", "LagUnreadable")],
    )
    .await;
    assert_eq!((scaled.view.lag, scaled.view.drained), (None, false));
    assert_eq!(scaled.view.unreadable.as_deref(), Some("reading the lag panicked: the broker is away"));
    assert_eq!(scaled.view.consumers, Some(Consumers { replicas: 4, ready: 4, desired: 4 }));
    has(
        &scaled,
        &[
            r#"monthend_kafka_lag{group="monthend-notify",topic="monthend.notices"} 400"#,
            r#"monthend_kafka_lag_readable{group="monthend-notify",topic="monthend.notices"} 0"#,
            r#"monthend_scale_decisions_total{deployment="notify",direction="unreadable"} 2"#,
        ],
    );
}

#[tokio::test]
async fn a_lag_that_is_readable_again_is_reported_and_scales_in_after_the_cool_down() {
    let scaled = scale(
        vec![
            (SECOND, deployment(4, &[]), unreadable()),
            (SECOND * 100, deployment(4, &[]), unreadable()),
            (SECOND * 102, deployment(4, &[]), lag(0, &[0, 0])),
            (SECOND * 104, deployment(4, &[]), lag(0, &[0, 0])),
        ],
        vec![event("Warning", "LagUnreadable"), event("Normal", "LagReadable")],
    )
    .await;
    assert_eq!(scaled.view.consumers, Some(Consumers { replicas: 4, ready: 4, desired: 4 }));
}

#[tokio::test]
async fn without_a_topic_nothing_is_scaled_and_the_lag_is_drained() {
    let no_topic = Err(LagError::NoTopic("monthend.notices".to_owned()));
    let scaled =
        scale(vec![(SECOND, deployment(3, &[]), no_topic)], vec![event("Warning", "LagUnreadable")]).await;
    assert_eq!((scaled.view.lag, scaled.view.drained), (None, true));
}

#[tokio::test]
async fn invalid_annotations_are_reported_once_and_change_nothing() {
    let wrong = || deployment(3, &[("monthend.dev/max-replicas", "many")]);
    let scaled = scale(
        vec![
            (SECOND, wrong(), lag(0, &[900, 900])),
            (SECOND * 3, wrong(), lag(0, &[900, 900])),
            (SECOND * 5, deployment(3, &[("monthend.dev/max-replicas", "8")]), lag(1, &[900, 900, 900])),
        ],
        vec![event("Warning", "ScalingInvalid")],
    )
    .await;
    has(&scaled, &[r#"monthend_scale_decisions_total{deployment="notify",direction="invalid"} 2"#]);
}

#[tokio::test]
async fn a_change_by_somebody_else_is_not_overwritten() {
    let scaled = scale(
        vec![
            (SECOND, deployment(1, &[]), lag(0, &[300, 300])),
            (SECOND * 3, deployment(1, &[]), lag(1, &[300, 300])),
        ],
        vec![rejected(StatusCode::CONFLICT, 2), scaled_to(2), event("Normal", "ScaledOut")],
    )
    .await;
    has(&scaled, &[r#"monthend_scale_decisions_total{deployment="notify",direction="failed"} 0"#]);
}

#[tokio::test]
async fn a_rejected_change_is_reported_once() {
    let scaled = scale(
        vec![
            (SECOND, deployment(1, &[]), lag(0, &[300, 300])),
            (SECOND * 3, deployment(1, &[]), lag(1, &[300, 300])),
        ],
        vec![
            rejected(StatusCode::FORBIDDEN, 2),
            event("Warning", "ScalingFailed"),
            rejected(StatusCode::FORBIDDEN, 2),
        ],
    )
    .await;
    has(&scaled, &[r#"monthend_scale_decisions_total{deployment="notify",direction="failed"} 2"#]);
}

#[tokio::test]
async fn stuck_partitions_keep_one_consumer() {
    let mut passes: Vec<_> =
        (0..=STUCK_AFTER).map(|pass| (SECOND * 2 * pass, deployment(2, &[]), lag(5, &[300, 300]))).collect();
    passes.push((SECOND * (2 * STUCK_AFTER + 60), deployment(2, &[]), lag(5, &[300, 300])));
    let scaled = scale(passes, vec![scaled_to(1), event("Normal", "ScaledIn")]).await;
    assert_eq!(scaled.view.lag, Some(600));
}

#[tokio::test]
async fn the_series_of_a_deleted_deployment_are_removed() {
    let mut deleting = deployment(1, &[]);
    deleting.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-01T00:00:00Z")).unwrap();
    let scaled =
        scale(vec![(SECOND, deployment(1, &[]), lag(0, &[0])), (SECOND * 3, deleting, lag(0, &[0]))], vec![])
            .await;
    assert!(!scaled.metrics.contains(r#"deployment="notify""#), "{}", scaled.metrics);
    assert_eq!(scaled.view.consumers, None);
}
