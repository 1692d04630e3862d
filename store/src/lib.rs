//! PostgreSQL: one module for each thing stored, and all SQL of the product. Knows nothing of Kubernetes.

pub mod billing;
pub mod copy;
pub mod error;
pub mod installation;
pub mod job_log;
mod locks;
pub mod migrate;
pub mod pool;
#[cfg(feature = "testing")]
pub mod testing;
