//! The HTTP server of a consumer: `/metrics`, `/healthz` and `/readyz`. Healthy means that this
//! server answers; ready, that the consumer is registered in the database, which has its schema, and
//! has the right encryption keys. An outage of Kafka or the mail server makes it neither unhealthy nor
//! unready: another pod would not help.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

#[derive(Clone)]
struct ServerState {
    metrics: Metrics,
    ready: watch::Receiver<bool>,
}

/// Serves until `stop` is cancelled.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn serve(
    listen: SocketAddr,
    metrics: Metrics,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(show_ready))
        .with_state(ServerState { metrics, ready });
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .with_context(|| format!("cannot serve on {listen}"))
}

async fn show_ready(State(state): State<ServerState>) -> Response {
    if *state.ready.borrow() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: not registered in the database yet\n").into_response()
    }
}

async fn show_metrics(State(state): State<ServerState>) -> Response {
    match state.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_server_is_healthy_at_once_and_ready_after_registration() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (registered, ready) = watch::channel(false);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(address, Metrics::new().unwrap(), ready, stop.clone()));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        registered.send_replace(true);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("monthend_notify_transport_up"));
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
