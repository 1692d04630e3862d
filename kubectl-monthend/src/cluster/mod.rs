//! The API server: the connection from a kubeconfig, runs, and the words for its errors.

mod connect;
pub(crate) mod errors;
mod runs;
mod watch;

use kube::Client;

pub(crate) use self::connect::connect;
use crate::clock::Clock;
use crate::exit::{Problem, Result};

/// A connection, and the namespace to work in.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) clock: Clock,
}

impl Cluster {
    /// The problem of a call that failed. `doing` says what for, such as `create the BillingRun`.
    fn problem(&self, doing: &str, error: &kube::Error) -> Problem {
        errors::problem(doing, &self.namespace, error)
    }

    pub(crate) fn check<T>(&self, doing: &str, result: std::result::Result<T, kube::Error>) -> Result<T> {
        result.map_err(|error| self.problem(doing, &error))
    }
}
