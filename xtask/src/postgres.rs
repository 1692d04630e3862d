//! A private PostgreSQL on this machine, for the tests that need a server and no cluster, and for
//! checking queries.

use anyhow::Result;
use test_servers::Postgres;

use crate::packages;
use crate::paths::Paths;
use crate::progress::Progress;

/// For many small databases whose loss does not matter.
const SETTINGS: &str = "
max_connections = 200
shared_buffers = 256MB
timezone = UTC
fsync = off
synchronous_commit = off
full_page_writes = off
";

/// Ended with its value.
pub(crate) fn start(paths: &Paths, progress: &Progress) -> Result<Postgres> {
    packages::ensure(paths, progress, &packages::POSTGRES)?;
    progress.step("private PostgreSQL", |step| {
        let server = Postgres::start(SETTINGS)?;
        step.note(format!("port {}", server.port()));
        Ok(server)
    })
}
