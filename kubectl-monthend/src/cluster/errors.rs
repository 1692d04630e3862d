//! The API server's errors in words that say what to do.

use kube::core::Status;

use crate::exit::Problem;

/// The problem of a call that failed.
pub(crate) fn problem(doing: &str, namespace: &str, error: &kube::Error) -> Problem {
    match error {
        kube::Error::Api(status) => of_status(doing, namespace, status),
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            let text = format!("cannot {doing}: the API server cannot be reached: {}", chain(error));
            Problem::try_again(text)
        }
        kube::Error::Auth(_) => {
            Problem::failed(format!("cannot {doing}: your login does not work: {}", chain(error)))
        }
        other => Problem::failed(format!("cannot {doing}: {}", chain(other))),
    }
}

fn of_status(doing: &str, namespace: &str, status: &Status) -> Problem {
    let message = &status.message;
    match status.code {
        401 => Problem::failed(format!(
            "cannot {doing}: the API server does not know you: log in again, or choose another --context"
        )),
        403 if message.contains("exceeded quota") => Problem::failed(format!(
            "cannot {doing}: the quota of namespace {namespace} is used up: {message}"
        )),
        403 => Problem::failed(format!(
            "you may not {doing} in namespace {namespace}: {message}. docs/kubectl-plugin.md lists the rights \
             that each command needs"
        )),
        // Of the resource itself, not of an object.
        404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
            Problem::usage(format!(
                "cannot {doing}: this cluster does not know the kinds of monthend: install the chart, or choose \
                 another --context"
            ))
        }
        404 => Problem::usage(format!("cannot {doing}: {message}")),
        429 | 500..=599 => Problem::try_again(format!("cannot {doing}: {message}")),
        _ => Problem::failed(format!("the API server refuses to {doing}: {message}")),
    }
}

/// The error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::exit::Exit;

    fn of(code: u16, message: &str, name: &str) -> (Exit, String) {
        let status = json!({"code": code, "message": message, "details": {"name": name}});
        let status: Status = serde_json::from_value(status).unwrap();
        let problem = of_status("create the BillingRun", "billing", &status);
        (problem.exit, problem.text)
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for ((code, message, name), (exit, text)) in [
            (
                (401, "Unauthorized", ""),
                (
                    Exit::Failed,
                    "cannot create the BillingRun: the API server does not know you: log in again, or choose \
                     another --context",
                ),
            ),
            (
                (403, "User \"kim\" cannot create resource \"billingruns\"", ""),
                (
                    Exit::Failed,
                    "you may not create the BillingRun in namespace billing: User \"kim\" cannot create resource \
                     \"billingruns\". docs/kubectl-plugin.md lists the rights that each command needs",
                ),
            ),
            (
                (403, "exceeded quota: pods, requested: pods=1", ""),
                (
                    Exit::Failed,
                    "cannot create the BillingRun: the quota of namespace billing is used up: exceeded quota: \
                     pods, requested: pods=1",
                ),
            ),
            (
                (404, "the server could not find the requested resource", ""),
                (
                    Exit::Usage,
                    "cannot create the BillingRun: this cluster does not know the kinds of monthend: install the \
                     chart, or choose another --context",
                ),
            ),
            (
                (404, "namespaces \"billing\" not found", "billing"),
                (Exit::Usage, "cannot create the BillingRun: namespaces \"billing\" not found"),
            ),
            (
                (422, "spec.month: Invalid value", "october"),
                (Exit::Failed, "the API server refuses to create the BillingRun: spec.month: Invalid value"),
            ),
            ((503, "etcd is away", ""), (Exit::TryAgain, "cannot create the BillingRun: etcd is away")),
        ] {
            assert_eq!(of(code, message, name), (exit, text.to_owned()));
        }
    }
}
