//! The reasons of conditions and Events: the closed set of CamelCase words that scripts and
//! runbooks match. A reason is part of the API and never changes.

/// Defines a constant for each reason; the tests also need them as a list.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $text;)+

        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($name), $text)),+];
    };
}

reasons! {
    // Every kind of run.
    /// The spec has a value that the API server should have rejected.
    INVALID_SPEC = "InvalidSpec";
    DATABASE_UNAVAILABLE = "DatabaseUnavailable";
    SUSPENDED = "Suspended";
    RESUMED = "Resumed";
    /// Another object has the worker Job's name.
    JOB_NAME_TAKEN = "JobNameTaken";
    /// The worker pods cannot start.
    WORKERS_WAITING = "WorkersWaiting";
    /// The worker pods cannot be created.
    PODS_REFUSED = "PodsRefused";
    WORKERS_FAILED = "WorkersFailed";
    /// Nothing of the work was done for a while.
    NO_PROGRESS = "NoProgress";
    /// An action of the operator failed; it tries again.
    ACTION_FAILED = "ActionFailed";
    /// The API server refused an action of the operator.
    ACTION_REFUSED = "ActionRefused";
    /// An action of the operator takes longer than its limit, and goes on.
    ACTION_SLOW = "ActionSlow";
    /// An earlier run of this name has had its effect.
    NAME_USED = "NameUsed";
    /// The run is being deleted.
    DELETING = "Deleting";
    /// The run was deleted before its end.
    DELETED = "Deleted";

    // Billing runs.
    MONTH_NOT_OVER = "MonthNotOver";
    PRICE_BOOK_NOT_FOUND = "PriceBookNotFound";
    PRICE_BOOK_INVALID = "PriceBookInvalid";
    NO_DATA_LOADED = "NoDataLoaded";
    DATA_CUTOFF_UNKNOWN = "DataCutoffUnknown";
    /// The loads of a required source do not cover the month.
    INPUTS_INCOMPLETE = "InputsIncomplete";
    /// Another run of the month is unfinished.
    MONTH_LOCKED = "MonthLocked";
    MONTH_ALREADY_BILLED = "MonthAlreadyBilled";
    /// The revision that the run names is not the month's highest live one.
    REVISION_CONFLICT = "RevisionConflict";
    /// A later month has billed what the revision to be rolled back has posted to it.
    DIFFERENCES_BILLED = "DifferencesBilled";
    PLANNING = "Planning";
    PLANNED = "Planned";
    BILLING = "Billing";
    VERIFYING = "Verifying";
    VERIFICATION_FAILED = "VerificationFailed";
    /// The draft has no bill.
    NOTHING_TO_ISSUE = "NothingToIssue";
    /// Chunks were priced by another version of the pricing rules than the run began with.
    PRICING_VERSION_CHANGED = "PricingVersionChanged";
    MANUAL_APPROVAL = "ManualApproval";
    LIMIT_EXCEEDED = "LimitExceeded";
    LIMIT_INVALID = "LimitInvalid";
    /// The approval names another draft.
    DIGEST_MISMATCH = "DigestMismatch";
    APPROVED = "Approved";
    ISSUING = "Issuing";
    ISSUED = "Issued";
    ROLLING_BACK = "RollingBack";
    ROLLED_BACK = "RolledBack";
    REJECTED = "Rejected";
    /// Another run has taken the month's lock over.
    LOCK_LOST = "LockLost";
    /// The database has no record of the run's revision.
    REVISION_LOST = "RevisionLost";

    // Notification runs.
    TEMPLATES_NOT_FOUND = "TemplatesNotFound";
    TEMPLATES_INVALID = "TemplatesInvalid";
    MONTH_NOT_BILLED = "MonthNotBilled";
    STARTING = "Starting";
    STARTED = "Started";
    PUBLISHING = "Publishing";
    SENDING = "Sending";
    REHEARSING = "Rehearsing";
    KAFKA_UNAVAILABLE = "KafkaUnavailable";
    NO_CONSUMERS = "NoConsumers";
    TRANSPORT_USABLE = "TransportUsable";
    TRANSPORT_UNAVAILABLE = "TransportUnavailable";
    /// The run has ended early, and waits for the outcome of the bills that were handed over.
    CLOSING = "Closing";
    SENT = "Sent";
    REHEARSED = "Rehearsed";
    COMPLETED_WITH_FAILURES = "CompletedWithFailures";
    CANCELLED = "Cancelled";
    /// The database has no record of the run.
    RUN_LOST = "RunLost";
    /// The database was restored from before something that was billed or sent.
    DATABASE_RESTORED = "DatabaseRestored";
    /// The ConfigMap with the high-water marks is missing or has an invalid entry.
    MARKS_UNUSABLE = "MarksUnusable";

    // Billing schedules.
    /// The cron expression cannot be used.
    SCHEDULE_INVALID = "ScheduleInvalid";
    /// The schedule creates runs at its times.
    SCHEDULED = "Scheduled";
    /// Months are due that the schedule does not bill by itself.
    MONTHS_MISSED = "MonthsMissed";
    /// The e-mails of a month were not all sent, and the schedule does not send them again by itself.
    NOTIFICATION_FAILED = "NotificationFailed";
    /// The schedule has created a run.
    RUN_CREATED = "RunCreated";
    /// The schedule has deleted a finished run, to keep to its history limits.
    RUN_DELETED = "RunDeleted";

    // Events of Deployments that are scaled on lag.
    SCALED_OUT = "ScaledOut";
    SCALED_IN = "ScaledIn";
    SCALING_INVALID = "ScalingInvalid";
    SCALING_FAILED = "ScalingFailed";
    LAG_UNREADABLE = "LagUnreadable";
    LAG_READABLE = "LagReadable";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_its_constants_name_in_camel_case() {
        for (name, text) in ALL {
            let words = name.split('_').map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase()));
            assert_eq!(words.collect::<String>(), *text);
        }
    }

    #[test]
    fn no_reason_is_defined_twice() {
        let distinct: BTreeSet<&str> = ALL.iter().map(|(_, text)| *text).collect();
        assert_eq!(distinct.len(), ALL.len());
    }
}
