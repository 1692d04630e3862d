//! An API server for tests that expects exact calls in an exact order.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower_test::mock;

/// One expected call: method, path, what the body must contain, and the answer.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) query: &'static str,
    pub(crate) body: Value,
    pub(crate) answer: (StatusCode, Value),
    /// What the call lets go on.
    pub(crate) opens: Option<Arc<Notify>>,
}

impl Call {
    /// A call whose body may be anything.
    pub(crate) fn new(method: Method, path: &'static str, answer: (StatusCode, Value)) -> Self {
        Self { method, path, query: "", body: Value::Null, answer, opens: None }
    }

    pub(crate) fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    pub(crate) fn body(self, body: Value) -> Self {
        Self { body, ..self }
    }
}

pub(crate) fn refusal(code: StatusCode, reason: &str, message: &str) -> (StatusCode, Value) {
    let answer = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16(), "message": message});
    (code, answer)
}

/// Whether `whole` has everything that `part` has; of a list of objects, those that `part` lists.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Array(whole), Value::Array(part)) if part.iter().any(Value::is_object) => {
            part.iter().all(|part| whole.iter().any(|whole| contains(whole, part)))
        }
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (whole, part) => part.is_null() || whole == part,
    }
}

/// A client whose API server nobody asks.
pub(crate) fn client() -> Client {
    let (service, _) = mock::pair::<Request<Body>, Response<Body>>();
    Client::new(service, "billing")
}

/// A client whose API server answers these calls and no others. Await the handle at the end, after the
/// client is dropped.
pub(crate) fn serve(calls: Vec<Call>) -> (Client, JoinHandle<()>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let server = tokio::spawn(async move {
        for call in calls {
            let expected = format!("{} {}", call.method, call.path);
            let next = tokio::time::timeout(Duration::from_secs(5), handle.next_request()).await;
            let (request, send) = next.unwrap_or_else(|_| panic!("{expected} was not called")).unwrap();
            assert_eq!(format!("{} {}", request.method(), request.uri().path()), expected);
            let query = request.uri().query().unwrap_or_default().trim_start_matches('&').to_owned();
            assert_eq!(query, call.query, "{expected}");
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let body: Value =
                if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
            assert!(contains(&body, &call.body), "{expected}: {} is not in {body}", call.body);
            let (code, answer) = call.answer;
            let answer =
                Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap();
            send.send_response(answer);
            if let Some(gate) = call.opens {
                gate.notify_one();
            }
        }
        assert!(handle.next_request().await.is_none(), "an unexpected call");
    });
    (Client::new(service, "billing"), server)
}
