//! The database: all SQL of the product, one module for each thing that is stored. Knows nothing of
//! Kubernetes, Kafka or SMTP.

pub mod billing;
pub mod clock;
pub mod copy;
pub mod crypto;
mod decode;
pub mod error;
mod hand_over_lock;
pub mod installation;
pub mod job_log;
pub mod load;
pub mod lock_waits;
mod locks;
pub mod member;
pub mod migrate;
pub mod notification;
pub mod pool;
pub mod report;
pub mod schedule;
pub mod seed;
pub mod server;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verify;
