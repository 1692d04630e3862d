//! Leaves no mount, folder or control group of an engine of our own behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use crate::paths::write_if_changed;

/// What the engine and its containerd write to places that cannot be chosen.
const FIXED_PLACES: [&str; 4] = ["/etc/docker", "/etc/docker/key.json", "/run/containerd", "/run/docker"];

/// Keeps a list of those that are not there before the engine starts: they are its own.
pub(super) fn note_places(folder: &Path) -> Result<()> {
    let file = places(folder);
    if file.exists() {
        return Ok(());
    }
    let own: Vec<&str> = FIXED_PLACES.into_iter().filter(|place| !Path::new(place).exists()).collect();
    write_if_changed(&file, &serde_json::to_vec(&own)?).map(drop)
}

/// Unmounts what is mounted below the engine's folders, then removes them.
pub(super) fn remove(folder: &Path, run: &Path) -> Result<()> {
    let mut own: Vec<PathBuf> = match fs::read(places(folder)) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).context("the list of the engine's places is unreadable")?
        }
        Err(_) => Vec::new(),
    };
    own.push(run.to_path_buf());
    for place in own {
        for mount in mounts_below(&place)?.iter().rev() {
            unmount(mount, UnmountFlags::DETACH)
                .with_context(|| format!("cannot unmount {}", mount.display()))?;
        }
        // Deleting through a mount would delete what belongs to others.
        if let Some(mount) = mounts_below(&place)?.first() {
            bail!("{} is still mounted", mount.display());
        }
        let result = if place.is_dir() { fs::remove_dir_all(&place) } else { fs::remove_file(&place) };
        match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", place.display()));
            }
            _ => {}
        }
    }
    remove_control_groups(Path::new("/sys/fs/cgroup"));
    Ok(())
}

fn places(folder: &Path) -> PathBuf {
    folder.join("places.json")
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

/// Removes the engine's emptied groups in every hierarchy.
fn remove_control_groups(top: &Path) {
    for hierarchy in folders(top).into_iter().chain([top.to_path_buf()]) {
        remove_tree(&hierarchy.join("docker"));
    }
}

fn remove_tree(group: &Path) {
    for child in folders(group) {
        remove_tree(&child);
    }
    // The kernel refuses while a process is inside: then it belongs to somebody else.
    drop(fs::remove_dir(group));
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
