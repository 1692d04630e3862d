//! Serves `/metrics`, `/healthz` and `/readyz`. Ready means that the database's schema has this
//! operator's version.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Schema};
use crate::metrics::Metrics;

#[derive(Clone)]
struct Served {
    database: Database,
    metrics: Metrics,
}

/// Serves until `stop`.
pub(crate) async fn serve(
    listen: SocketAddr,
    database: Database,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<()> {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(Served { database, metrics });
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .with_context(|| format!("cannot serve on {listen}"))
}

async fn ready(State(served): State<Served>) -> Response {
    match served.database.schema() {
        Schema::Ready(_) => "ready\n".into_response(),
        Schema::NotReady(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response()
        }
    }
}

async fn show_metrics(State(served): State<Served>) -> Response {
    let ready = matches!(served.database.schema(), Schema::Ready(_));
    served.metrics.schema_ready.set(i64::from(ready));
    let pool = &served.database.pool;
    served.metrics.database.set_pool(pool.size(), pool.num_idle(), pool.options().get_max_connections());
    match served.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
