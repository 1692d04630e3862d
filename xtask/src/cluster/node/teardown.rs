//! Leaves no process, mount, control group or file of the node behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use super::layout::{Layout, NODE_NAME};
use crate::exec;
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

/// Unmounts whatever is mounted below the node's folders, then removes them.
pub(super) fn remove_files(layout: &Layout) -> Result<()> {
    for folder in [&layout.root, &layout.run] {
        for mount in mounts_below(folder)?.iter().rev() {
            unmount(mount, UnmountFlags::DETACH)
                .with_context(|| format!("cannot unmount {}", mount.display()))?;
        }
        // Deleting through a mount would delete what isn't ours.
        if let Some(mount) = mounts_below(folder)?.first() {
            bail!("{} is still mounted", mount.display());
        }
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
            }
            _ => {}
        }
    }
    remove_control_groups(Path::new("/sys/fs/cgroup"));
    // What the kubelet, containerd and the CNI plug-ins keep in fixed places.
    remove_matching(Path::new("/var/lib/cni/results"), |name| name.starts_with(&format!("{NODE_NAME}-")));
    remove_matching_links(Path::new("/var/log/containers"), &layout.root);
    for emptied in [
        "/var/lib/cni/results",
        "/var/lib/cni/cache",
        "/var/lib/cni",
        "/var/log/containers",
        "/run/containerd/s",
        "/run/containerd",
    ] {
        // Fails when another one still uses it, which is as it should be.
        drop(fs::remove_dir(emptied));
    }
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

fn remove_matching(folder: &Path, ours: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if ours(&entry.file_name().to_string_lossy()) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn remove_matching_links(folder: &Path, below: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(below)) {
            drop(fs::remove_file(entry.path()));
        }
    }
}
