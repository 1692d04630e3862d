//! A private PostgreSQL on this machine, for the tests that need a server and
//! no cluster, and for checking queries. In a temporary folder, on a free port,
//! ended and removed with its value.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::exec;
use crate::packages::{self, is_root};
use crate::paths::Paths;
use crate::ports;
use crate::progress::Progress;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

pub(crate) struct Server {
    folder: TempDir,
    port: u16,
}

impl Server {
    pub(crate) fn start(paths: &Paths, progress: &Progress) -> Result<Self> {
        packages::ensure(paths, progress, &packages::POSTGRES)?;
        progress.step("private PostgreSQL", |step| {
            let folder = tempfile::Builder::new()
                .prefix("monthend-postgres-")
                // PostgreSQL refuses root, so another user has to get in.
                .permissions(std::fs::Permissions::from_mode(0o755))
                .tempdir()
                .context("no room for a database")?;
            let [port] = ports::free()?;
            let server = Self { folder, port };
            let log = paths.log("postgres");
            if is_root() {
                exec::run(Command::new("chown").arg("postgres").arg(server.folder.path()), &log)?;
            }
            exec::run(
                server.program("initdb").args([
                    "--username=postgres",
                    "--auth=trust",
                    "--encoding=UTF8",
                    "--lc-collate=C",
                    "--lc-ctype=C.UTF-8",
                    "--no-sync",
                ]),
                &log,
            )?;
            let options = format!(
                "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' \
                 -c max_connections=200 -c shared_buffers=256MB -c timezone=UTC \
                 -c fsync=off -c synchronous_commit=off -c full_page_writes=off",
                server.port
            );
            let own_log = server.folder.path().join("server.log");
            exec::run(
                server.program("pg_ctl").args(["start", "-w", "-o", &options, "-l"]).arg(own_log),
                &log,
            )?;
            step.note(format!("port {}", server.port));
            Ok(server)
        })
    }

    /// As the superuser.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A program of the server, as the user who may run it, on its data.
    fn program(&self, name: &str) -> Command {
        let program = Path::new(PROGRAMS).join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/").arg("--pgdata").arg(self.folder.path().join("data"));
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data goes with it: nothing is worth a checkpoint.
        if !exec::succeeds(self.program("pg_ctl").args(["stop", "-m", "immediate"])) {
            eprintln!("PostgreSQL in {} could not be ended", self.folder.path().display());
        }
    }
}
