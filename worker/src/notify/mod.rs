//! `worker notify`: takes notices from Kafka and sees each to its end.

mod engine;
mod serve;
mod transport;
