//! A PostgreSQL server of the benchmark's own, from the machine's packages: durable (fsync and synchronous commits on),
//! with memory for the working set, gone with its value.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::migrate::{Roles, Wanted, migrate};

use crate::cpu;

/// Autovacuum would start whenever it likes; every measurement vacuums first instead.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
shared_buffers = '2GB'
max_wal_size = '8GB'
checkpoint_timeout = '30min'
maintenance_work_mem = '512MB'
fsync = on
synchronous_commit = on
autovacuum = off
";

pub(crate) struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("monthend-bench-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Self { folder, programs, port };
        if as_root()? {
            run(Command::new("chown").arg("postgres").arg(server.folder()))?;
        }
        let data = server.data();
        run(server.program("initdb").arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
        ]))?;
        let configuration = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&configuration)?;
        let sockets = server.folder().display();
        let own = format!("{text}{SETTINGS}port = {port}\nunix_socket_directories = '{sockets}'\n");
        std::fs::write(&configuration, own)?;
        run(server
            .program("pg_ctl")
            .arg("-D")
            .arg(&data)
            .arg("-l")
            .arg(server.folder().join("log"))
            .args(["-w", "start"]))?;
        Ok(server)
    }

    /// A folder that the server and this program can both write to.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        // The server refuses to run as root.
        if as_root().unwrap_or(false) {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        }
    }

    pub(crate) fn url(&self, database: &str) -> SecretString {
        SecretString::from(format!("postgres://postgres@127.0.0.1:{}/{database}", self.port))
    }

    /// A migrated database of an installation with this zone and currency.
    pub(crate) async fn database(&self, name: &str, wanted: &Wanted) -> anyhow::Result<SecretString> {
        execute(&self.url("postgres"), &format!("create database {name}")).await?;
        let url = self.url(name);
        migrate(&mut connect(&url).await?, wanted).await?;
        Ok(url)
    }

    /// CPU time of all the server's processes so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = file.lines().next().context("the server's pid file is empty")?.trim().parse()?;
        cpu::of_tree(pid)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        if let Err(error) =
            run(self.program("pg_ctl").arg("-D").arg(data).args(["-w", "-m", "immediate", "stop"]))
        {
            complain(&error);
        }
    }
}

/// Nothing else can be done about it while the program ends.
fn complain(error: &anyhow::Error) {
    eprintln!("bench: the server could not be stopped: {error:#}");
}

pub(crate) fn wanted(zone: &str, currency: &str) -> anyhow::Result<Wanted> {
    Ok(Wanted {
        zone: domain::zone::Zone::named(zone)?,
        currency: currency.parse()?,
        locale: None,
        roles: Roles::default(),
    })
}

pub(crate) async fn connect(url: &SecretString) -> anyhow::Result<PgConnection> {
    Ok(store::pool::connect_one(url, "bench").await?)
}

/// Runs statements on a connection of their own.
pub(crate) async fn execute(url: &SecretString, statements: &str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .with_context(|| format!("cannot run `{statements}`"))?;
    Ok(connection.close().await?)
}

fn as_root() -> anyhow::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let uid =
        status.lines().find_map(|line| line.strip_prefix("Uid:")).context("no uid in /proc/self/status")?;
    Ok(uid.split_whitespace().nth(1) == Some("0"))
}

/// Debian keeps the server's programs out of PATH, a folder for each version; the newest is taken.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin"))
        .filter(|programs| programs.join("initdb").is_file())
        .max_by_key(|programs| version(programs))
        .context("there is no PostgreSQL server: install it with `apt-get install postgresql`")
}

fn version(programs: &Path) -> Option<u32> {
    programs.parent()?.file_name()?.to_str()?.parse().ok()
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    // The server outlives pg_ctl and would keep a pipe open for ever.
    let status = command.stdout(Stdio::null()).stderr(Stdio::inherit()).status();
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
