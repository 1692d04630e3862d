//! The environment variables that the tests need, as `cargo xtask env` prints them.

use std::env;
use std::path::PathBuf;
use std::str::FromStr as _;

use anyhow::{Context as _, Result, ensure};
use sqlx::postgres::PgConnectOptions;

/// Addresses and names of the cluster and of the development stack.
#[derive(Debug)]
pub struct Environment {
    /// The development database at its address on the host. Role and database name are replaced by
    /// the tests.
    pub database: PgConnectOptions,
    pub keys_dir: PathBuf,
    /// The address of Kafka on the host.
    pub brokers: String,
    /// The image of the tests' mail server.
    pub mail_image: String,
    /// The namespace and the Helm release that `cargo xtask up` made.
    pub namespace: String,
    pub release: String,
}

impl Environment {
    pub fn read() -> Result<Self> {
        let kubeconfig = required("KUBECONFIG")?;
        ensure!(
            env::split_paths(&kubeconfig).any(|path| path.exists()),
            "KUBECONFIG names no file that exists ({kubeconfig}): bring the cluster up with `cargo xtask up`"
        );
        let database = PgConnectOptions::from_str(&required("DATABASE_URL")?).context("read DATABASE_URL")?;
        Ok(Self {
            database,
            keys_dir: required("MONTHEND_KEYS_DIR")?.into(),
            brokers: required("KAFKA_BROKERS")?,
            mail_image: required("MONTHEND_E2E_MAIL_IMAGE")?,
            namespace: env::var("MONTHEND_NAMESPACE").unwrap_or_else(|_| "monthend".to_owned()),
            release: env::var("MONTHEND_RELEASE").unwrap_or_else(|_| "monthend".to_owned()),
        })
    }
}

fn required(name: &str) -> Result<String> {
    env::var(name).with_context(|| {
        format!("{name} is not set: run the tests with `cargo xtask test e2e`, or after `eval \"$(cargo xtask env)\"`")
    })
}

/// A path in the workspace.
pub fn workspace(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
