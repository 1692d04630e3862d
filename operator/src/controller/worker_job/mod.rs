//! The worker Jobs of all kinds of run: building one, reading its state, deciding on it and
//! applying the decision. Only [`job_client`] holds a client. Knows no kind's work: that is passed
//! in as a [`WorkerTask`].

mod exit_codes;
mod job_action;
mod job_builder;
pub(crate) mod job_client;
mod job_progress;
mod job_state;
pub(crate) mod pod_messages;
mod workers;

pub(crate) use self::job_action::JobAction;
pub(crate) use self::job_builder::{JobSettings, Shards, WorkerTask, build, job_name};
pub(crate) use self::job_progress::{DesiredJob, JobProgress, POLL_RUNNING, job_progress};
pub(crate) use self::job_state::{JobLookup, JobState};
pub(in crate::controller) use self::workers::last_words;
pub(crate) use self::workers::{WorkerProblem, Workers};
