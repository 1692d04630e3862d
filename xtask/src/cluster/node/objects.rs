//! What a new cluster has to hold before anything is installed into it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::layout::{Layout, NODE_NAME, VOLUMES, text};

/// The storage class of the static volumes, with kind's name for its own.
const STORAGE_CLASS: &str = "standard";

pub(super) fn volume_name(number: usize) -> String {
    format!("local-{number}")
}

/// Storage, and what the DNS server may read.
pub(super) fn base(layout: &Layout) -> Value {
    let mut items = vec![
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": STORAGE_CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "monthend-dns"},
            "rules": [
                // Names of services and of the pods behind them.
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "monthend-dns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "monthend-dns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "monthend-dns"}],
        }),
    ];
    items.extend((1..=VOLUMES).map(|number| volume(layout, number)));
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn volume(layout: &Layout, number: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(number)},
        "spec": {
            "capacity": {"storage": "50Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": text(&layout.volume(number))},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]},
            ]}]}},
        },
    })
}

/// The folders behind the volumes.
pub(super) fn make_folders(layout: &Layout) -> Result<()> {
    for number in 1..=VOLUMES {
        let folder = layout.volume(number);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    Ok(())
}

/// Numbers of the volumes whose claim is gone, from a list of volumes: nothing
/// else would ever free them.
pub(super) fn released(volumes: &Value) -> BTreeSet<usize> {
    let phase_is_released = |volume: &Value| volume["status"]["phase"] == "Released";
    let items = volumes["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter(|volume| phase_is_released(volume))
        .filter_map(|volume| volume["metadata"]["name"].as_str()?.strip_prefix("local-")?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_volumes_without_a_claim_are_used_again() {
        let volumes = json!({"items": [
            {"metadata": {"name": "local-1"}, "status": {"phase": "Bound"}},
            {"metadata": {"name": "local-2"}, "status": {"phase": "Released"}},
            {"metadata": {"name": "local-3"}, "status": {"phase": "Available"}},
            {"metadata": {"name": "someone-elses"}, "status": {"phase": "Released"}},
        ]});
        assert_eq!(released(&volumes), BTreeSet::from([2]));
        assert!(released(&json!({})).is_empty());
    }
}
