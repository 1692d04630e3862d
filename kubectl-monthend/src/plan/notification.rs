//! The NotificationRuns of `notify`, `retry` and `rehearse`.

use api::notification_run::{NotificationScope, Select, TemplateRef};
use api::{NotificationRun, NotificationRunSpec};

use super::billing::{Creation, members};
use super::metadata;
use super::names::{Existing, free_name, numbered_name};
use crate::args::NotificationOptions;
use crate::exit::{Problem, Result};

const KIND: &str = "NotificationRun";

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Notify(Select),
    /// Once more those that failed, or whose outcome is unknown.
    Retry {
        unknown: bool,
    },
    Rehearse(Select),
}

/// The run for this purpose.
pub(crate) fn notification(
    creation: Creation<'_>,
    month: &str,
    purpose: Purpose,
    options: &NotificationOptions,
    existing: &[NotificationRun],
) -> Result<NotificationRun> {
    let minimal = serde_json::json!({ "month": month });
    let mut spec: NotificationRunSpec = serde_json::from_value(minimal)
        .map_err(|error| Problem::failed(format!("the defaults of a NotificationRun are wrong: {error}")))?;
    let taken = Existing::all(existing);
    let default_name = match purpose {
        Purpose::Notify(select) => {
            spec.select = select;
            let base = match select {
                Select::Corrected => format!("correction-{month}"),
                Select::Skipped => format!("skipped-{month}"),
                Select::Ready | Select::Failed | Select::Unknown => format!("notification-{month}"),
            };
            free_name(KIND, &base, &taken)
        }
        Purpose::Retry { unknown } => {
            spec.select = if unknown { Select::Unknown } else { Select::Failed };
            numbered_name(KIND, &format!("retry-{month}"), &taken)
        }
        Purpose::Rehearse(select) => {
            spec.rehearsal = true;
            spec.select = select;
            numbered_name(KIND, &format!("rehearsal-{month}"), &taken)
        }
    };
    let name = match creation.name {
        Some(name) => name.to_owned(),
        None => default_name?,
    };
    let NotificationOptions { scope, max_per_second, templates } = options;
    spec.scope =
        members(scope)?.map(|(member_range, member_ids)| NotificationScope { member_range, member_ids });
    spec.max_per_second = *max_per_second;
    spec.template_ref = templates.clone().map(|name| TemplateRef { name });
    let mut run = NotificationRun::new(&name, spec);
    run.metadata = metadata(&name, creation.namespace, creation.user);
    Ok(run)
}

#[cfg(test)]
mod tests {
    use api::MemberRange;
    use api::notification_run::Phase;
    use serde_json::json;

    use super::*;
    use crate::args::ScopeOptions;
    use crate::plan::testing::notification_run;

    const CREATION: Creation<'static> = Creation { namespace: "billing", user: "kim", name: None };

    #[test]
    fn each_purpose_has_its_name_and_selection() {
        for (purpose, name, select, rehearsal) in [
            (Purpose::Notify(Select::Ready), "notification-2026-10", "Ready", false),
            (Purpose::Notify(Select::Corrected), "correction-2026-10", "Corrected", false),
            (Purpose::Notify(Select::Skipped), "skipped-2026-10", "Skipped", false),
            (Purpose::Retry { unknown: false }, "retry-2026-10-1", "Failed", false),
            (Purpose::Retry { unknown: true }, "retry-2026-10-1", "Unknown", false),
            (Purpose::Rehearse(Select::Ready), "rehearsal-2026-10-1", "Ready", true),
            (Purpose::Rehearse(Select::Corrected), "rehearsal-2026-10-1", "Corrected", true),
        ] {
            let run =
                notification(CREATION, "2026-10", purpose, &NotificationOptions::default(), &[]).unwrap();
            let run = serde_json::to_value(&run).unwrap();
            assert_eq!(run["metadata"]["name"], name);
            assert_eq!(run["metadata"]["annotations"]["monthend.dev/created-by"], "kim");
            assert_eq!(
                (&run["spec"]["select"], &run["spec"]["rehearsal"]),
                (&json!(select), &json!(rehearsal))
            );
        }
    }

    #[test]
    fn options_become_fields_and_an_unfinished_run_is_not_doubled() {
        let options = NotificationOptions {
            scope: ScopeOptions { members: vec![], range: Some(MemberRange { from: 1, to: 5 }) },
            max_per_second: Some(50),
            templates: Some("templates-2".to_owned()),
        };
        let purpose = Purpose::Notify(Select::Ready);
        let finished = notification_run("notification-2026-10", "2026-10", Phase::CompletedWithFailures);
        let run = notification(CREATION, "2026-10", purpose, &options, &[finished]).unwrap();
        let run = serde_json::to_value(&run).unwrap();
        assert_eq!(run["metadata"]["name"], "notification-2026-10-2");
        assert_eq!(run["spec"]["scope"], json!({"memberRange": {"from": 1, "to": 5}}));
        assert_eq!(
            (&run["spec"]["maxPerSecond"], &run["spec"]["templateRef"]["name"]),
            (&json!(50), &json!("templates-2"))
        );

        let sending = notification_run("notification-2026-10", "2026-10", Phase::Sending);
        let problem = notification(CREATION, "2026-10", purpose, &options, &[sending]).unwrap_err();
        assert!(problem.text.starts_with("NotificationRun notification-2026-10 exists already"), "{problem}");
    }
}
