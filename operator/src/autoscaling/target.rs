//! A Deployment that asks to be scaled on lag: reads and validates its annotations. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource as _, ResourceExt as _};

use super::lag_cache::TopicGroup;
use super::policy::Settings;

/// Deployments with this label are scaled.
pub(crate) const LABEL: &str = "monthend.dev/scale-on-lag";
const TOPIC: &str = "monthend.dev/topic";
const GROUP: &str = "monthend.dev/group";
const LAG_PER_REPLICA: &str = "monthend.dev/lag-per-replica";
const MIN_REPLICAS: &str = "monthend.dev/min-replicas";
const MAX_REPLICAS: &str = "monthend.dev/max-replicas";
const COOLDOWN_SECONDS: &str = "monthend.dev/cooldown-seconds";

const LONGEST_NAME: usize = 249;
const MOST_REPLICAS: u32 = 1000;
const LONGEST_COOLDOWN: u64 = 86_400;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScalingTarget {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The resource version that was read: a later change is not overwritten.
    pub(crate) version: String,
    pub(crate) reference: ObjectReference,
    pub(crate) replicas: u32,
    pub(crate) ready: u32,
    /// The error says which annotation is invalid.
    pub(crate) spec: Result<ScalingSpec, String>,
}

/// What the annotations ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScalingSpec {
    pub(crate) topic_group: TopicGroup,
    pub(crate) settings: Settings,
}

/// None for a Deployment that is being deleted, or that has no uid.
pub(crate) fn read(deployment: &Deployment) -> Option<ScalingTarget> {
    if deployment.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let count = |found: Option<i32>| found.and_then(|count| u32::try_from(count).ok());
    let status = deployment.status.as_ref();
    Some(ScalingTarget {
        name: deployment.name_any(),
        uid: deployment.uid()?,
        version: deployment.resource_version()?,
        reference: deployment.object_ref(&()),
        // The API server's default.
        replicas: count(deployment.spec.replicas).unwrap_or(1),
        ready: count(status.and_then(|status| status.ready_replicas)).unwrap_or(0),
        spec: spec(deployment.annotations()),
    })
}

fn spec(annotations: &BTreeMap<String, String>) -> Result<ScalingSpec, String> {
    let topic_group = TopicGroup {
        topic: kafka_name(annotations, TOPIC, "monthend.notices")?,
        group: kafka_name(annotations, GROUP, "monthend-notify")?,
    };
    let settings = Settings::new(
        number(annotations, LAG_PER_REPLICA, 1, u64::from(u32::MAX), "10000")?,
        number(annotations, MIN_REPLICAS, 0, MOST_REPLICAS, "1")?,
        number(annotations, MAX_REPLICAS, 1, MOST_REPLICAS, "6")?,
        Duration::from_secs(number(annotations, COOLDOWN_SECONDS, 0, LONGEST_COOLDOWN, "60")?),
    )
    .map_err(|error| format!("annotations {MIN_REPLICAS}, {MAX_REPLICAS} and {LAG_PER_REPLICA}: {error}"))?;
    Ok(ScalingSpec { topic_group, settings })
}

fn text<'a>(annotations: &'a BTreeMap<String, String>, key: &str, example: &str) -> Result<&'a str, String> {
    annotations
        .get(key)
        .map(String::as_str)
        .ok_or_else(|| format!("annotation {key} is missing: set it, for instance to {example:?}"))
}

fn kafka_name(annotations: &BTreeMap<String, String>, key: &str, example: &str) -> Result<String, String> {
    let name = text(annotations, key, example)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(legal) {
        return Err(format!(
            "annotation {key} is {name:?}: write up to {LONGEST_NAME} letters, digits, dots, dashes and underscores, such as {example:?}"
        ));
    }
    Ok(name.to_owned())
}

fn number<N>(
    annotations: &BTreeMap<String, String>,
    key: &str,
    least: N,
    most: N,
    example: &str,
) -> Result<N, String>
where
    N: FromStr + PartialOrd + std::fmt::Display,
{
    let text = text(annotations, key, example)?;
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<N>() {
        Ok(number) if plain && number >= least && number <= most => Ok(number),
        _ => Err(format!(
            "annotation {key} is {text:?}: write a whole number from {least} to {most}, such as {example:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStatus};
    use serde_json::json;

    use super::*;

    fn annotations() -> BTreeMap<String, String> {
        [
            (TOPIC, "monthend.notices"),
            (GROUP, "monthend-notify"),
            (LAG_PER_REPLICA, "10000"),
            (MIN_REPLICAS, "1"),
            (MAX_REPLICAS, "6"),
            (COOLDOWN_SECONDS, "60"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    fn deployment() -> Deployment {
        let mut deployment = Deployment::default();
        deployment.metadata.name = Some("monthend-notify".to_owned());
        deployment.metadata.uid = Some("uid-1".to_owned());
        deployment.metadata.resource_version = Some("7".to_owned());
        deployment.metadata.annotations = Some(annotations());
        deployment.spec = DeploymentSpec { replicas: Some(3), ..DeploymentSpec::default() };
        deployment.status = Some(DeploymentStatus { ready_replicas: Some(2), ..DeploymentStatus::default() });
        deployment
    }

    #[test]
    fn annotations_are_read() {
        let target = read(&deployment()).unwrap();
        assert_eq!((target.replicas, target.ready), (3, 2));
        let spec = target.spec.unwrap();
        assert_eq!(
            (spec.topic_group.topic.as_str(), spec.topic_group.group.as_str()),
            ("monthend.notices", "monthend-notify")
        );
        assert_eq!(spec.settings, Settings::new(10_000, 1, 6, Duration::from_secs(60)).unwrap());
    }

    #[test]
    fn missing_replicas_are_the_api_servers_default() {
        let mut bare = deployment();
        bare.spec.replicas = None;
        bare.status = None;
        let target = read(&bare).unwrap();
        assert_eq!((target.replicas, target.ready), (1, 0));
    }

    #[test]
    fn a_deployment_that_is_being_deleted_is_not_scaled() {
        let mut deleting = deployment();
        deleting.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-01T00:00:00Z")).unwrap();
        assert_eq!(read(&deleting), None);
    }

    #[test]
    fn every_invalid_annotation_is_named_with_its_fix() {
        for (key, value, expected) in [
            (
                TOPIC,
                None,
                "annotation monthend.dev/topic is missing: set it, for instance to \"monthend.notices\"",
            ),
            (TOPIC, Some("a b"), "annotation monthend.dev/topic is \"a b\": write up to 249 letters"),
            (GROUP, Some(""), "annotation monthend.dev/group is \"\": write up to 249 letters"),
            (LAG_PER_REPLICA, None, "annotation monthend.dev/lag-per-replica is missing"),
            (
                LAG_PER_REPLICA,
                Some("0"),
                "annotation monthend.dev/lag-per-replica is \"0\": write a whole number from 1 to 4294967295, such as \"10000\"",
            ),
            (LAG_PER_REPLICA, Some("1e4"), "annotation monthend.dev/lag-per-replica is \"1e4\""),
            (
                MIN_REPLICAS,
                Some("-1"),
                "annotation monthend.dev/min-replicas is \"-1\": write a whole number from 0 to 1000",
            ),
            (MIN_REPLICAS, Some("+1"), "annotation monthend.dev/min-replicas is \"+1\""),
            (MIN_REPLICAS, Some("7"), "the minimum of 7 is above the maximum of 6"),
            (
                MAX_REPLICAS,
                Some("0"),
                "annotation monthend.dev/max-replicas is \"0\": write a whole number from 1",
            ),
            (MAX_REPLICAS, Some("99999999999"), "annotation monthend.dev/max-replicas is"),
            (COOLDOWN_SECONDS, Some("1m"), "annotation monthend.dev/cooldown-seconds is \"1m\""),
            (COOLDOWN_SECONDS, Some("86401"), "from 0 to 86400"),
        ] {
            let mut wrong = annotations();
            match value {
                Some(value) => wrong.insert(key.to_owned(), value.to_owned()),
                None => wrong.remove(key),
            };
            let error = spec(&wrong).unwrap_err();
            assert!(error.contains(expected), "{key}={value:?}: {error}");
        }
    }
}
