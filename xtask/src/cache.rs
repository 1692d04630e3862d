//! Folders that are fetched or made once for this machine, named by what they
//! are made from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::daemon::hex;
use crate::packages::{self, Package};
use crate::paths::Paths;
use crate::progress::Progress;

/// The folder made from these files; `make` is called with an empty one when
/// there is none yet, and may count on these packages.
pub(crate) fn folder(
    paths: &Paths,
    progress: &Progress,
    name: &str,
    sources: &[PathBuf],
    packages: &[Package],
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    for source in sources {
        hash.update(fs::read(source).with_context(|| format!("cannot read {}", source.display()))?);
    }
    let cache = paths.cache.join(name);
    let folder = cache.join(&hex(&hash.finalize())[..16]);
    if folder.is_dir() {
        return Ok(folder);
    }
    packages::ensure(paths, progress, packages)?;
    progress.step(name, |step| {
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        // Two clones that start at once make it once.
        let lock = File::create(cache.join(".lock"))
            .with_context(|| format!("cannot write into {}", cache.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", cache.display()))?;
        if folder.is_dir() {
            step.note("cached");
            return Ok(());
        }
        step.note("fetched, once for this machine");
        // Made beside and renamed, so that a folder that exists is whole.
        let fresh =
            tempfile::tempdir_in(&cache).with_context(|| format!("cannot write into {}", cache.display()))?;
        let made = fresh.path().join("made");
        fs::create_dir(&made).with_context(|| format!("cannot create {}", made.display()))?;
        make(&made)?;
        fs::rename(&made, &folder).with_context(|| format!("cannot write {}", folder.display()))
    })?;
    Ok(folder)
}
