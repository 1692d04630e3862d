//! A private PostgreSQL.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{free_ports, run};

pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a cluster, UTF-8 and in the C collation, and starts it; `settings` are lines of postgresql.conf.
    ///
    /// # Errors
    /// There are no packages of a PostgreSQL server, or it does not start.
    pub fn start(settings: &str) -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new()
            .prefix("monthend-postgres-")
            // PostgreSQL refuses root, so another user has to get in.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("no room for a database")?;
        let [port] = free_ports()?;
        let server = Self { folder, programs, port };
        if as_root() {
            run(Command::new("chown").arg("postgres").arg(server.folder()))?;
        }
        run(server.program("initdb").args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--no-sync",
        ]))?;
        let file = server.data().join("postgresql.conf");
        let made = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let here = format!("listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n");
        fs::write(&file, format!("{made}\n{here}{settings}"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let log = server.folder().join("server.log");
        run(server.program("pg_ctl").args(["start", "--wait", "--log"]).arg(&log)).with_context(|| {
            format!("PostgreSQL did not start:\n{}", fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok(server)
    }

    /// As the superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A folder that the server and this program can both read.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process that all others of the server come from.
    ///
    /// # Errors
    /// The server does not run.
    pub fn process(&self) -> Result<u32> {
        let file = self.data().join("postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        text.lines().next().unwrap_or_default().trim().parse().context("the server's pid file has no pid")
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// A program of the server, as the user who may run it, on its data.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if as_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/").arg("--pgdata").arg(self.data());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its data goes with it: nothing is worth a checkpoint.
        if let Err(error) = run(self.program("pg_ctl").args(["stop", "--wait", "--mode", "immediate"])) {
            eprintln!("PostgreSQL in {} could not be ended: {error:#}", self.folder().display());
        }
    }
}

fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Debian keeps the server's programs out of PATH, a folder for each version; the newest is taken.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .filter(|programs| programs.join("initdb").is_file())
        .max_by_key(|programs| version(programs))
        .context("there is no PostgreSQL server: install it with `apt-get install postgresql`")
}

fn version(programs: &Path) -> Option<u32> {
    programs.parent()?.file_name()?.to_str()?.parse().ok()
}
