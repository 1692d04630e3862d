//! PostgreSQL: one module for each thing stored, and all SQL of the product. Knows nothing of Kubernetes.

pub mod billing;
pub mod clock;
pub mod copy;
pub mod crypto;
pub mod error;
pub mod installation;
pub mod job_log;
pub mod load;
mod locks;
pub mod member;
pub mod migrate;
pub mod notification;
pub mod pool;
pub mod seed;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verify;
