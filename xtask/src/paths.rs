//! Where things are kept: the checkout, what can be built again (cache), and
//! what a running cluster is made of (state). One state for the whole machine,
//! so that every clone sees the same cluster.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The checkout that this command belongs to.
    pub(crate) repo: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// Tools and images, named by what they were made from. Outlives clusters.
    pub(crate) cache: PathBuf,
    /// The running cluster: record, kubeconfig, keys, logs, data.
    pub(crate) state: PathBuf,
}

impl Paths {
    pub(crate) fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let repo = manifest
            .parent()
            .with_context(|| format!("{} is not a folder of the workspace", manifest.display()))?
            .to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| repo.join("target"), |target| repo.join(PathBuf::from(target)));
        let home = || {
            env::var_os("HOME")
                .map(PathBuf::from)
                .context("HOME is not set: where should the cluster be kept?")
        };
        let base = |variable: &str, otherwise: &str| -> Result<PathBuf> {
            match env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
                Some(dir) => Ok(dir.join("monthend")),
                None => Ok(home()?.join(otherwise).join("monthend")),
            }
        };
        Ok(Self {
            target,
            cache: base("XDG_CACHE_HOME", ".cache")?,
            state: base("XDG_STATE_HOME", ".local/state")?,
            repo,
        })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// What kubectl remembers of the cluster's API; by default it would be in
    /// the home folder and outlive the cluster.
    pub(crate) fn kube_cache(&self) -> PathBuf {
        self.state.join("kube-cache")
    }

    /// The log of one step of a command.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.state.join("logs").join(format!("{step}.log"))
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.state.join("keys")
    }
}

/// Writes a file as a whole or not at all; says whether it changed.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let folder = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    std::io::Write::write_all(&mut file, content)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}
