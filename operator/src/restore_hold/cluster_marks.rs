//! Reads and writes the ConfigMap with the marks. It has an entry for each month: a time.

use std::collections::BTreeMap;

use api::labels::{HIGH_WATER_MARKS, MANAGER};
use domain::month::BillingMonth;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::hold::mark_of;
use crate::error::{Doing as _, RunError};

/// The ConfigMap as it was read.
pub(super) struct ClusterMarks {
    resource_version: Option<String>,
    entries: BTreeMap<String, String>,
}

impl ClusterMarks {
    /// The mark of a month, or why it cannot be read.
    pub(super) fn of(&self, month: BillingMonth) -> Result<Option<Timestamp>, String> {
        mark_of(self.entries.get(&month.to_string()).map(String::as_str), month)
    }
}

/// None if there is no such ConfigMap.
pub(super) async fn read(client: &Client, namespace: &str) -> Result<Option<ClusterMarks>, RunError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = maps
        .get_opt(HIGH_WATER_MARKS)
        .await
        .doing(|| format!("read ConfigMap {namespace}/{HIGH_WATER_MARKS}"))?;
    Ok(found.map(|map| ClusterMarks {
        resource_version: map.metadata.resource_version,
        entries: map.data.unwrap_or_default(),
    }))
}

/// Sets the marks of these months, unless the ConfigMap has changed since it was read.
pub(super) async fn write(
    client: &Client,
    namespace: &str,
    read: &ClusterMarks,
    marks: &BTreeMap<BillingMonth, Timestamp>,
) -> Result<(), RunError> {
    let entries: BTreeMap<String, String> =
        marks.iter().map(|(month, mark)| (month.to_string(), mark.to_string())).collect();
    let patch = json!({"metadata": {"resourceVersion": read.resource_version}, "data": entries});
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    maps.patch(HIGH_WATER_MARKS, &params, &Patch::Merge(patch))
        .await
        .doing(|| format!("write ConfigMap {namespace}/{HIGH_WATER_MARKS}"))?;
    Ok(())
}
