//! Private PostgreSQL and Kafka servers on this machine, for tests and measurements. PostgreSQL
//! comes from the machine's packages, Kafka from a folder of jars. Each server uses a temporary
//! folder and free ports, and is stopped and removed when its value is dropped. Must not know what
//! the servers are used for.

mod command;
mod kafka;
mod ports;
mod postgres;

pub use self::kafka::{Broker, Java};
pub use self::ports::free_ports;
pub use self::postgres::Postgres;
