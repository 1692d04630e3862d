//! The programs that a cluster needs, built from their Go modules in xtask/tools and kept in the
//! cache by a hash of their sources, so that every clone on the machine shares them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::daemon::hex;
use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;

/// What `kube-apiserver --version` and `kubectl version` say.
const VERSION: &str = "v1.34.4";

/// The folder of the Go module that pins their versions.
pub(crate) const TOOLS_MODULE: &str = "xtask/tools";

/// A program and the Go package that it is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
}

pub(crate) const HELM: Tool = Tool { name: "helm", package: "helm.sh/helm/v3/cmd/helm" };
pub(crate) const KUBECTL: Tool = Tool { name: "kubectl", package: "k8s.io/kubernetes/cmd/kubectl" };
pub(crate) const KIND: Tool = Tool { name: "kind", package: "sigs.k8s.io/kind" };

// What a node image is made of.
pub(crate) const KUBERNETES: Tool = Tool { name: "kubernetes", package: "./kubernetes" };
pub(crate) const KUBEADM: Tool = Tool { name: "kubeadm", package: "k8s.io/kubernetes/cmd/kubeadm" };
pub(crate) const CRICTL: Tool = Tool { name: "crictl", package: "sigs.k8s.io/cri-tools/cmd/crictl" };
pub(crate) const COREDNS: Tool = Tool { name: "coredns", package: "./coredns" };
pub(crate) const PAUSE: Tool = Tool { name: "pause", package: "./pause" };
pub(crate) const LOCAL_PATH_PROVISIONER: Tool =
    Tool { name: "local-path-provisioner", package: "github.com/rancher/local-path-provisioner" };

impl Tool {
    pub(crate) const fn name(self) -> &'static str {
        self.name
    }
}

/// Built tools, by name.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) bin: PathBuf,
}

impl Tools {
    /// Where they are or would be.
    pub(crate) fn locate(paths: &Paths) -> Result<Self> {
        let hash = hash(&paths.repo.join(TOOLS_MODULE))?;
        Ok(Self { bin: paths.cache.join("tools").join(&hash[..16]) })
    }

    /// Builds what is missing.
    pub(crate) fn ensure(paths: &Paths, progress: &Progress, wanted: &[Tool]) -> Result<Self> {
        let tools = Self::locate(paths)?;
        let names = wanted.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ");
        progress.step("tools", |step| {
            fs::create_dir_all(&tools.bin)
                .with_context(|| format!("cannot create {}", tools.bin.display()))?;
            // Two clones that start at once build once.
            let lock = File::create(tools.bin.join(".lock")).context("cannot lock the tools")?;
            lock.lock().context("cannot lock the tools")?;
            let missing: Vec<Tool> =
                wanted.iter().copied().filter(|tool| !tools.path(*tool).exists()).collect();
            if missing.is_empty() {
                step.note(format!("{names}: cached"));
                return Ok(());
            }
            step.note(format!("{names}: built from source, once for this machine"));
            tools.build(paths, &missing)
        })?;
        Ok(tools)
    }

    pub(crate) fn path(&self, tool: Tool) -> PathBuf {
        self.bin.join(tool.name)
    }

    pub(crate) fn command(&self, tool: Tool) -> Command {
        Command::new(self.path(tool))
    }

    /// Names what they are built from.
    pub(crate) fn identity(&self) -> String {
        self.bin.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn build(&self, paths: &Paths, missing: &[Tool]) -> Result<()> {
        let Some(go) = exec::which("go") else {
            bail!(
                "Go 1.24 or newer is needed to build {} and is not installed: see https://go.dev/doc/install",
                missing.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
            );
        };
        let (major, minor) = VERSION
            .trim_start_matches('v')
            .split_once('.')
            .map(|(major, rest)| (major, rest.split('.').next().unwrap_or_default()))
            .context("the Kubernetes version has no minor part")?;
        let stamp =
            [("gitVersion", VERSION), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")]
                .map(|(key, value)| format!(" -X k8s.io/component-base/version.{key}={value}"))
                .concat();
        // Built beside and renamed, so that a tool that exists is whole.
        let fresh = tempfile::tempdir_in(&self.bin).context("no room for the tools")?;
        for tool in missing {
            // One by one: not all of them can be built by one command, and what they share is compiled once.
            exec::run(
                Command::new(&go)
                    .current_dir(paths.repo.join(TOOLS_MODULE))
                    .env("CGO_ENABLED", "0")
                    .env("GOFLAGS", "-mod=readonly")
                    .args(["build", "-trimpath", "-ldflags"])
                    .arg(format!("-s -w{stamp}"))
                    .arg("-o")
                    .arg(fresh.path().join(tool.name))
                    .arg(tool.package),
                &paths.log("tools"),
            )?;
            fs::rename(fresh.path().join(tool.name), self.path(*tool))
                .with_context(|| format!("{} was not built", tool.name))?;
        }
        Ok(())
    }
}

/// Of the names and contents of the Go module's files; other folders and modules beside them are no
/// part of it.
fn hash(folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    hash.update(VERSION);
    for file in files {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        hash.update(file.strip_prefix(folder)?.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(u64::try_from(content.len())?.to_be_bytes());
        hash.update(content);
    }
    Ok(hex(&hash.finalize()))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let of_module = path.extension().is_some_and(|end| end == "go" || end == "mod" || end == "sum");
        if path.is_dir() {
            if !path.join("go.mod").exists() {
                list(&path, files)?;
            }
        } else if of_module {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_follows_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("a.go", "1");
        let first = hash(dir.path()).unwrap();
        assert_eq!(hash(dir.path()).unwrap(), first);
        write("a.go", "2");
        let second = hash(dir.path()).unwrap();
        assert_ne!(second, first);
        fs::rename(dir.path().join("a.go"), dir.path().join("b.go")).unwrap();
        let third = hash(dir.path()).unwrap();
        assert_ne!(third, second);
        write("pom.xml", "of something else");
        fs::create_dir(dir.path().join("module")).unwrap();
        write("module/go.mod", "module another");
        write("module/main.go", "package main");
        assert_eq!(hash(dir.path()).unwrap(), third);
        fs::create_dir(dir.path().join("package")).unwrap();
        write("package/main.go", "package main");
        assert_ne!(hash(dir.path()).unwrap(), third);
    }
}
