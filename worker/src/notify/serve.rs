//! What a consumer tells over HTTP: `/metrics`, `/healthz` and `/readyz`. Alive means that this answers; ready, that the
//! consumer is in the database's book with the right keys. Kafka or the mail server being away makes it neither dead nor
//! unready: nothing would be gained by another pod.

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
struct Shown {
    metrics: Metrics,
    ready: watch::Receiver<bool>,
}

/// Serves until `stop`.
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
        .with_state(Shown { metrics, ready });
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .with_context(|| format!("cannot serve on {listen}"))
}

async fn show_ready(State(shown): State<Shown>) -> Response {
    if *shown.ready.borrow() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: not in the database's book yet\n").into_response()
    }
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
