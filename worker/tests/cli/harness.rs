//! A database, keys and a folder for one test, and the binary that works on them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Row as _};
use store::crypto::Keyring;
use store::testing::TestDatabase;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) database: Arc<TestDatabase>,
    worker_url: SecretString,
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) log: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn with(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}\n{}", self.out, self.log);
        self
    }

    /// The message of the last line of the log.
    pub(crate) fn message(&self) -> String {
        let line = self.log.lines().last().unwrap_or_default();
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(event) => event["message"].as_str().unwrap_or_default().to_owned(),
            Err(_) => self.log.clone(),
        }
    }
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::around(TestDatabase::new().await).await
    }

    pub(crate) async fn around(database: impl Into<Arc<TestDatabase>>) -> Self {
        let database = database.into();
        let worker_url = database.login_url("monthend_worker").await;
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        std::fs::write(keys.join("k1"), "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=").unwrap();
        std::fs::write(keys.join("active"), "k1").unwrap();
        Self { database, worker_url, folder }
    }

    pub(crate) fn keys(&self) -> Keyring {
        Keyring::from_folder(&self.folder.path().join("keys")).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A folder to load with these files in it, instead of whatever was in it before.
    pub(crate) fn folder(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).unwrap();
        for (file, content) in files {
            std::fs::write(folder.join(file), content).unwrap();
        }
        folder
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monthend"));
        command
            .args(arguments)
            .env_clear()
            .env("DATABASE_URL", self.worker_url.expose_secret())
            .env("MONTHEND_KEYS_DIR", self.folder.path().join("keys"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).spawn().unwrap())
    }

    pub(crate) fn load(&self, folder: &Path) -> Ended {
        self.run(&["load", folder.to_str().unwrap()])
    }

    /// Waits until a query has this one answer.
    pub(crate) async fn until(&self, query: &str, expected: &str) {
        let began = Instant::now();
        while self.rows(query).await != [expected] {
            assert!(began.elapsed() < LIMIT, "waited too long for {expected} from {query}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The rows of a query with one column of text.
    pub(crate) async fn rows(&self, query: &str) -> Vec<String> {
        let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&self.database.pool).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0)).collect()
    }
}

pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status.code(), out: text(output.stdout), log: text(output.stderr) }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}
