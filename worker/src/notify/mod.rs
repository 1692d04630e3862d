//! `worker notify`: takes notices from Kafka and sees each to its end.

mod consumer;
mod engine;
mod heartbeat;
mod ledger;
mod letter;
mod link;
mod mail;
mod metrics;
mod mock;
mod pace;
mod parked;
mod prepare;
mod serve;
mod session;
mod smtp;
mod transport;
mod weather;
mod wire;
