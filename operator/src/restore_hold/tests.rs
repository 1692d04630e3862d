//! When a month is held, and how the marks are written, without a cluster or a database.

use std::collections::BTreeMap;

use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use store::notification::HighWaterMark;
use tower_test::mock;

use super::cluster_marks;
use super::hold::{Comparison, Hold, compare, mark_of};

const PATH: &str = "/api/v1/namespaces/billing/configmaps/monthend-high-water-marks";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_793_577_600 + second).unwrap()
}

fn in_database(mark: i64, before: Option<i64>) -> Option<HighWaterMark> {
    Some(HighWaterMark { mark: at(mark), before: before.map(at) })
}

#[test]
fn the_marks_are_compared() {
    for (name, cluster, database, expected) in [
        ("a new month", None, None, Comparison::Equal),
        ("nothing since", Some(5), in_database(5, Some(4)), Comparison::Equal),
        (
            "the operator ended between its two writes",
            Some(4),
            in_database(5, Some(4)),
            Comparison::Copy(at(5)),
        ),
        ("a new cluster, or an entry taken out", None, in_database(5, Some(4)), Comparison::Copy(at(5))),
        ("restored from before the mark", Some(9), in_database(5, Some(4)), Comparison::Lost),
        ("restored, and a later mark of its own", Some(9), in_database(12, Some(11)), Comparison::Lost),
        ("restored from before the month, or an empty database", Some(9), None, Comparison::Lost),
    ] {
        assert_eq!(compare(cluster.map(at), database), expected, "{name}");
        let month = "2026-10".parse().unwrap();
        let hold = Hold::of(month, Ok(cluster.map(at)), database);
        assert_eq!(hold.is_some(), expected == Comparison::Lost, "{name}");
    }
}

#[test]
fn marks_that_cannot_be_read_hold_the_month() {
    let month = "2026-10".parse().unwrap();
    assert_eq!(mark_of(None, month), Ok(None));
    assert_eq!(mark_of(Some(&format!("{}\n", at(5))), month), Ok(Some(at(5))));
    let problem = mark_of(Some("soon"), month).unwrap_err();
    assert!(
        problem.starts_with("ConfigMap monthend-high-water-marks: the entry 2026-10 is not a time:"),
        "{problem}"
    );
    assert_eq!(Hold::of(month, Err(problem.clone()), None), Some(Hold::Unusable(problem)));
}

#[tokio::test]
async fn the_config_map_is_written_only_as_it_was_read() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "resourceVersion": "7"},
        "data": {"2026-09": at(1).to_string()},
    });
    let server = tokio::spawn(async move {
        let mut bodies = Vec::new();
        for method in ["GET", "PATCH"] {
            let (request, send) = handle.next_request().await.expect("another call");
            assert_eq!((request.method().as_str(), request.uri().path()), (method, PATH));
            bodies.push(request.into_body().collect_bytes().await.unwrap());
            let answer = Response::builder().status(StatusCode::OK);
            send.send_response(answer.body(Body::from(map.to_string().into_bytes())).unwrap());
        }
        serde_json::from_slice::<Value>(&bodies[1]).unwrap()
    });
    let client = Client::new(service, "billing");
    let marks = cluster_marks::read(&client, "billing").await.unwrap().unwrap();
    assert_eq!(marks.of("2026-09".parse().unwrap()), Ok(Some(at(1))));
    assert_eq!(marks.of("2026-10".parse().unwrap()), Ok(None));
    let moved = BTreeMap::from([("2026-10".parse().unwrap(), at(5))]);
    cluster_marks::write(&client, "billing", &marks, &moved).await.unwrap();
    let written = server.await.unwrap();
    let expected = json!({"metadata": {"resourceVersion": "7"}, "data": {"2026-10": at(5).to_string()}});
    assert_eq!(written, expected);
}
