//! A private PostgreSQL server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::command::run;
use crate::ports::free_ports;

pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// Creates a database cluster with UTF-8 and the C collation and starts it. `settings` are
    /// lines of postgresql.conf.
    ///
    /// # Errors
    /// The package of the PostgreSQL server is not installed, or the server does not start.
    pub fn start(settings: &str) -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new()
            .prefix("monthend-postgres-")
            // PostgreSQL does not run as root, so the user postgres needs access.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot create a folder for the database")?;
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

    /// The URL of a database, as the superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's folder, which both the server and this program can read.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The pid of the postmaster.
    ///
    /// # Errors
    /// The server is not running.
    pub fn process(&self) -> Result<u32> {
        let file = self.data().join("postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        text.lines().next().unwrap_or_default().trim().parse().context("the server's pid file has no pid")
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// A program of the server for its data folder, run as a user that PostgreSQL accepts.
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
        // The data is deleted anyway, so no checkpoint is needed.
        if let Err(error) = run(self.program("pg_ctl").args(["stop", "--wait", "--mode", "immediate"])) {
            eprintln!("PostgreSQL in {} could not be stopped: {error:#}", self.folder().display());
        }
    }
}

fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The folder of the newest version's programs. Debian installs them outside of PATH, in a folder
/// for each version.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .filter(|programs| programs.join("initdb").is_file())
        .max_by_key(|programs| version(programs))
        .context("PostgreSQL is not installed: run `apt-get install postgresql`")
}

fn version(programs: &Path) -> Option<u32> {
    programs.parent()?.file_name()?.to_str()?.parse().ok()
}
