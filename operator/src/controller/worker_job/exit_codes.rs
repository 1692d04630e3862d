//! The exit codes of worker containers, those of a killed process included.

use worker_cli::ExitStatus;

/// Whether Kubernetes does not start the worker again.
pub(super) fn is_permanent_failure(code: i32) -> bool {
    ExitStatus::from_code(code).is_some_and(ExitStatus::is_permanent_failure)
}

/// Whether the worker's program is of another version than the database's schema.
pub(super) fn is_other_schema(code: i32) -> bool {
    ExitStatus::from_code(code) == Some(ExitStatus::OtherSchema)
}

/// What an exit code means, for a condition.
pub(super) fn meaning(code: i32) -> &'static str {
    match (ExitStatus::from_code(code), code) {
        (Some(status), _) => status.meaning(),
        (None, 137) => "killed",
        (None, 143) => "terminated",
        (None, _) => "crashed",
    }
}
