//! An API server for tests that expects exact calls in an exact order.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower_test::mock;

use crate::clock::Clock;
use crate::cluster::Cluster;

/// One expected call, and its answer.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// What the body must contain; null: anything.
    pub(crate) body: Value,
    pub(crate) code: u16,
    pub(crate) answer: String,
}

impl Call {
    pub(crate) fn new(method: Method, path: &str, body: Value, code: u16, answer: &Value) -> Self {
        Self { method, path: path.to_owned(), body, code, answer: answer.to_string() }
    }

    pub(crate) fn get(path: &str, answer: &Value) -> Self {
        Self::new(Method::GET, path, Value::Null, 200, answer)
    }

    /// A call that is never answered, as a watch without changes.
    pub(crate) fn unanswered(path: &str) -> Self {
        Self { code: 0, ..Self::get(path, &Value::Null) }
    }

    /// An answer that is no JSON, as a log is.
    pub(crate) fn text(path: &str, answer: &str) -> Self {
        Self { answer: answer.to_owned(), ..Self::get(path, &Value::Null) }
    }
}

pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})
}

/// Whether `whole` has everything that `part` has.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (whole, part) => part.is_null() || whole == part,
    }
}

/// A cluster whose API server answers these calls and no others. Await the handle at the end, after
/// the cluster is dropped.
pub(crate) fn serve(calls: Vec<Call>) -> (Cluster, JoinHandle<()>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let server = tokio::spawn(async move {
        let mut unanswered = Vec::new();
        for call in calls {
            let expected = format!("{} {}", call.method, call.path);
            let next = tokio::time::timeout(Duration::from_secs(10), handle.next_request()).await;
            let (request, send) = next.unwrap_or_else(|_| panic!("{expected} was not called")).unwrap();
            assert_eq!(format!("{} {}", request.method(), request.uri().path()), expected);
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let body: Value =
                if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
            assert!(contains(&body, &call.body), "{expected}: {} is not in {body}", call.body);
            if call.code == 0 {
                unanswered.push(send);
                continue;
            }
            let code = StatusCode::from_u16(call.code).unwrap();
            let body = Body::from(call.answer.into_bytes());
            send.send_response(Response::builder().status(code).body(body).unwrap());
        }
        assert!(handle.next_request().await.is_none(), "an unexpected call");
    });
    let clock = Clock::fixed(|| "2026-11-05T00:00:00Z".parse().unwrap());
    let cluster = Cluster { client: Client::new(service, "billing"), namespace: "billing".to_owned(), clock };
    (cluster, server)
}
