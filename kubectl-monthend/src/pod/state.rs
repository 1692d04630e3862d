//! What a pod's status says: whether it has started, why it does not, how it ended.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use crate::exit::Exit;

/// A pod at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It has not started, for this reason; none yet.
    Waiting(Option<Cause>),
    Running,
    Ended(End),
}

/// Why a pod has not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) text: String,
    /// It will not start by itself.
    pub(super) hopeless: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) exit: Exit,
    /// What is not the program's own end.
    pub(super) problem: Option<String>,
}

const HOPELESS: [&str; 6] = [
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "ImagePullBackOff",
];

pub(super) fn state(pod: &Pod) -> State {
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().next();
    let state = container.and_then(|container| container.state).unwrap_or_default();
    if let Some(terminated) = &state.terminated {
        return State::Ended(end(terminated));
    }
    match status.phase.as_deref() {
        Some("Failed") => {
            let reason = status.reason.unwrap_or_else(|| "Failed".to_owned());
            let message = status.message.unwrap_or_default();
            let problem = match reason.as_str() {
                "DeadlineExceeded" => "the pod ran out of time: give a longer --timeout".to_owned(),
                _ => format!("the pod was ended: {reason}: {message}"),
            };
            return State::Ended(End { exit: Exit::TryAgain, problem: Some(problem) });
        }
        Some("Succeeded") => return State::Ended(End { exit: Exit::Done, problem: None }),
        _ => {}
    }
    if state.running.is_some() {
        return State::Running;
    }
    let waiting = state.waiting.and_then(|waiting| {
        let reason = waiting.reason?;
        // The first moments of any pod.
        if matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let hopeless = HOPELESS.contains(&reason.as_str());
        Some(Cause { text: joined(&reason, waiting.message), hopeless })
    });
    let unscheduled = || {
        let conditions = status.conditions.unwrap_or_default();
        let condition =
            conditions.into_iter().find(|it| it.type_ == "PodScheduled" && it.status == "False")?;
        Some(Cause {
            text: joined(&condition.reason.unwrap_or_default(), condition.message),
            hopeless: false,
        })
    };
    State::Waiting(waiting.or_else(unscheduled))
}

fn joined(reason: &str, message: Option<String>) -> String {
    match message.filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

fn end(terminated: &ContainerStateTerminated) -> End {
    let reason = terminated.reason.as_deref().unwrap_or_default();
    match (reason, terminated.exit_code) {
        ("OOMKilled", _) => End {
            exit: Exit::TryAgain,
            problem: Some(
                "the pod had not enough memory: raise toolbox.resources.limits.memory of the chart"
                    .to_owned(),
            ),
        },
        (_, code @ (137 | 143)) => End {
            exit: Exit::TryAgain,
            problem: Some(format!("the pod was killed (exit code {code}): try again")),
        },
        (_, 0) => End { exit: Exit::Done, problem: None },
        (_, code) => End { exit: Exit::Pod(u8::try_from(code).unwrap_or(1)), problem: None },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(status: &Value) -> State {
        state(&serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap())
    }

    fn container(state: &Value) -> Value {
        json!({"phase": "Pending", "containerStatuses": [{
            "name": "toolbox", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    }

    fn waits(text: &str, hopeless: bool) -> State {
        State::Waiting(Some(Cause { text: text.to_owned(), hopeless }))
    }

    #[test]
    fn why_a_pod_does_not_start_is_said() {
        let waiting = |reason: &str, message: &str| {
            of(&container(&json!({"waiting": {"reason": reason, "message": message}})))
        };
        assert_eq!(of(&json!({})), State::Waiting(None));
        assert_eq!(waiting("ContainerCreating", ""), State::Waiting(None));
        assert_eq!(waiting("ErrImagePull", "not found"), waits("ErrImagePull: not found", false));
        assert_eq!(waiting("ImagePullBackOff", "not found"), waits("ImagePullBackOff: not found", true));
        assert_eq!(
            waiting("CreateContainerConfigError", "secret \"monthend-database\" not found"),
            waits("CreateContainerConfigError: secret \"monthend-database\" not found", true)
        );
        let pending = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
        assert_eq!(of(&pending), waits("Unschedulable: 0/1 nodes are available", false));
    }

    #[test]
    fn how_a_pod_ended_is_the_exit_status_of_the_program() {
        let ended = |code: i32, reason: &str| match of(&container(
            &json!({"terminated": {"exitCode": code, "reason": reason}}),
        )) {
            State::Ended(end) => (end.exit, end.problem),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&container(&json!({"running": {}}))), State::Running);
        assert_eq!(ended(0, "Completed"), (Exit::Done, None));
        for code in [2, 3, 4, 5, 75] {
            assert_eq!(ended(code, "Error"), (Exit::Pod(u8::try_from(code).unwrap()), None));
        }
        let (exit, problem) = ended(137, "OOMKilled");
        assert_eq!(exit, Exit::TryAgain);
        assert!(problem.unwrap().contains("toolbox.resources.limits.memory"));
        assert_eq!(ended(137, "Error").0, Exit::TryAgain);
        let late = of(&json!({"phase": "Failed", "reason": "DeadlineExceeded"}));
        let problem = Some("the pod ran out of time: give a longer --timeout".to_owned());
        assert_eq!(late, State::Ended(End { exit: Exit::TryAgain, problem }));
    }
}
