//! What the tests are told from outside: the variables that `cargo xtask env` prints.

use std::{env, path::PathBuf, str::FromStr as _};

use anyhow::{Context as _, Result, ensure};
use sqlx::postgres::PgConnectOptions;

/// Where the cluster and its development database are.
#[derive(Debug)]
pub struct Environment {
    /// The development database as the host reaches it; its role and database name are not ours.
    pub database: PgConnectOptions,
    pub keys_dir: PathBuf,
    /// Kafka as the host reaches it.
    pub brokers: String,
    /// The image of the scenarios' mail server.
    pub mail_image: String,
    /// The namespace and the Helm release that `cargo xtask up` made.
    pub namespace: String,
    pub release: String,
}

impl Environment {
    pub fn read() -> Result<Self> {
        let kubeconfig = wanted("KUBECONFIG")?;
        ensure!(
            env::split_paths(&kubeconfig).any(|path| path.exists()),
            "KUBECONFIG names no file that exists ({kubeconfig}): bring the cluster up with `cargo xtask up`"
        );
        let database = PgConnectOptions::from_str(&wanted("DATABASE_URL")?).context("read DATABASE_URL")?;
        Ok(Self {
            database,
            keys_dir: wanted("MONTHEND_KEYS_DIR")?.into(),
            brokers: wanted("KAFKA_BROKERS")?,
            mail_image: wanted("MONTHEND_E2E_MAIL_IMAGE")?,
            namespace: env::var("MONTHEND_NAMESPACE").unwrap_or_else(|_| "monthend".to_owned()),
            release: env::var("MONTHEND_RELEASE").unwrap_or_else(|_| "monthend".to_owned()),
        })
    }
}

fn wanted(name: &str) -> Result<String> {
    env::var(name).with_context(|| {
        format!("{name} is not set: run the tests by `cargo xtask test e2e`, or after `eval \"$(cargo xtask env)\"`")
    })
}

/// A path in the workspace.
pub fn workspace(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
