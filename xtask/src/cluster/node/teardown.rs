//! Leaves no process, mount, control group or file of the node behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use super::layout::Layout;
use crate::exec;
use crate::paths::write_if_changed;
use crate::progress::wait_for;

/// containerd's namespaces: the kubelet's and the Docker engine's.
const NAMESPACES: [&str; 2] = ["k8s.io", "moby"];

pub(super) fn ctr(layout: &Layout, namespace: &str) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(layout.containerd_socket()).args(["--namespace", namespace]);
    command
}

/// Ends every container, through the containerd that runs them.
pub(super) fn end_containers(layout: &Layout) -> Result<()> {
    for namespace in NAMESPACES {
        wait_for(
            Duration::from_secs(30),
            || {
                let tasks = exec::output(ctr(layout, namespace).args(["tasks", "ls", "--quiet"]))?;
                if tasks.is_empty() {
                    return Ok(Some(()));
                }
                // One that ends by itself meanwhile is no error; what is left
                // is asked for again.
                exec::succeeds(
                    ctr(layout, namespace).args(["tasks", "delete", "--force"]).args(tasks.lines()),
                );
                Ok(None)
            },
            || "containers still run".to_owned(),
        )?;
    }
    Ok(())
}

/// What the kubelet, containerd, the Docker engine and the CNI plug-ins keep in
/// places of their own choosing.
const FIXED_PLACES: [&str; 8] = [
    "/etc/docker/key.json",
    "/run/containerd",
    "/run/docker",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// Remembers which of those were there before the node: they are not ours.
pub(super) fn note_fixed_places(layout: &Layout) -> Result<()> {
    let file = fixed_places(layout);
    if file.exists() {
        return Ok(());
    }
    let ours: Vec<&str> = FIXED_PLACES.into_iter().filter(|place| !Path::new(place).exists()).collect();
    write_if_changed(&file, &serde_json::to_vec(&ours)?).map(drop)
}

fn fixed_places(layout: &Layout) -> PathBuf {
    layout.root.join("fixed-places.json")
}

fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Unmounts whatever is mounted below the node's folders, then removes them.
pub(super) fn remove_files(layout: &Layout) -> Result<()> {
    let ours: Vec<PathBuf> = match fs::read(fixed_places(layout)) {
        Ok(bytes) => serde_json::from_slice(&bytes).context("the list of fixed places is not ours")?,
        Err(_) => Vec::new(),
    };
    for folder in ours.iter().chain([&layout.run, &layout.root]) {
        for mount in mounts_below(folder)?.iter().rev() {
            unmount(mount, UnmountFlags::DETACH)
                .with_context(|| format!("cannot unmount {}", mount.display()))?;
        }
        // Deleting through a mount would delete what isn't ours.
        if let Some(mount) = mounts_below(folder)?.first() {
            bail!("{} is still mounted", mount.display());
        }
        remove(folder)?;
    }
    remove_control_groups(Path::new("/sys/fs/cgroup"));
    Ok(())
}

/// The mount points below a folder, outermost first.
fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot list the mounts")?;
    Ok(table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(folder))
        .collect())
}

/// Removes the emptied groups of pods and builds in every hierarchy.
fn remove_control_groups(top: &Path) {
    let groups = |folder: &Path| -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    for hierarchy in groups(top).into_iter().chain([top.to_path_buf()]) {
        for name in ["kubepods", "docker"] {
            remove_tree(&hierarchy.join(name), &groups);
        }
    }
}

fn remove_tree(group: &Path, children: &impl Fn(&Path) -> Vec<PathBuf>) {
    for child in children(group) {
        remove_tree(&child, children);
    }
    // The kernel refuses while a process is inside: then it isn't ours.
    drop(fs::remove_dir(group));
}
