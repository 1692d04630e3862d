//! A Kubernetes cluster on this machine. What differs between the ways to get
//! one is the [`Provider`]; every step after it is shared.

mod kind;
mod node;
mod record;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use record::{Record, Settings};

use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::tools::Tools;

/// The cluster's and the release's name.
pub(crate) const NAME: &str = "monthend";

/// Where a cluster comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProviderKind {
    /// kind, in a container: wants a Docker engine and its node image
    Kind,
    /// One node from upstream's Go modules and Debian packages: wants root
    Node,
}

/// What differs between the ways to get a cluster.
pub(crate) trait Provider {
    /// Makes the cluster or repairs it; nothing to do when all is well.
    fn create(&self, progress: &Progress) -> Result<()>;

    /// Removes every trace; nothing to do when there is none.
    fn delete(&self, progress: &Progress) -> Result<()>;

    /// Whether pods can use this image.
    fn has_image(&self, reference: &str) -> Result<bool>;

    /// Runs work that needs a Docker engine with the address of one.
    fn with_engine(&self, work: &mut dyn FnMut(&Engine) -> Result<()>) -> Result<()>;

    /// Makes the images of an archive written by `docker save` usable for pods.
    fn load(&self, archive: &Path) -> Result<()>;
}

/// A Docker engine, as the docker command finds it.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    /// Nothing: the one that docker finds by itself.
    pub(crate) host: Option<String>,
    /// Whether base images have to be made here, for want of a registry.
    pub(crate) makes_bases: bool,
}

impl Engine {
    pub(crate) fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT");
            // A private engine has no bridge of its own and no builder plug-in.
            command.env("DOCKER_BUILDKIT", "0");
        }
        command
    }
}

/// A cluster that is there.
pub(crate) struct Cluster {
    pub(crate) provider: Box<dyn Provider>,
    pub(crate) record: Record,
    pub(crate) tools: Tools,
    paths: Paths,
}

impl Cluster {
    /// Brings it up, or repairs what is there.
    pub(crate) fn up(
        paths: &Paths,
        progress: &Progress,
        asked: Option<ProviderKind>,
        settings: &Settings,
    ) -> Result<Self> {
        let record = match Record::read(paths)? {
            Some(record) => record.keep(asked, settings)?,
            None => Record::new(choose(paths, asked)?, settings),
        };
        // Written before anything is made, so that `down` knows of half a cluster.
        record.write(paths)?;
        let (provider, tools) = provider(paths, progress, record.provider)?;
        provider.create(progress)?;
        Ok(Self { provider, record, tools, paths: paths.clone() })
    }

    /// The one that is there.
    pub(crate) fn existing(paths: &Paths) -> Result<Self> {
        let Some(record) = Record::read(paths)? else {
            bail!("there is no cluster: run `cargo xtask up`");
        };
        let tools = Tools::locate(paths)?;
        Ok(Self { provider: build(paths, record.provider, &tools), record, tools, paths: paths.clone() })
    }

    pub(crate) fn kubectl(&self) -> Command {
        let mut command = self.tools.command(crate::tools::KUBECTL);
        command.env("KUBECONFIG", self.paths.kubeconfig());
        command.env("KUBECACHEDIR", self.paths.kube_cache());
        command
    }

    pub(crate) fn helm(&self) -> Command {
        let mut command = self.tools.command(crate::tools::HELM);
        command.env("KUBECONFIG", self.paths.kubeconfig());
        command.env("KUBECACHEDIR", self.paths.kube_cache());
        command
    }

    /// Server-side apply of an object or a list.
    pub(crate) fn apply(&self, object: &serde_json::Value) -> Result<()> {
        let text = serde_json::to_vec(object)?;
        exec::output_with_input(
            self.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]),
            &text,
        )
        .map(drop)
    }
}

/// Removes the cluster of this machine, whoever made it.
pub(crate) fn down(paths: &Paths, progress: &Progress) -> Result<()> {
    let record = Record::read(paths)?;
    match &record {
        Some(record) => {
            let tools = Tools::locate(paths)?;
            build(paths, record.provider, &tools).delete(progress)?;
        }
        None => progress.step("there is no cluster", |_| Ok(()))?,
    }
    match std::fs::remove_dir_all(&paths.state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", paths.state.display()))
        }
        _ => Ok(()),
    }
}

fn provider(paths: &Paths, progress: &Progress, kind: ProviderKind) -> Result<(Box<dyn Provider>, Tools)> {
    let tools = match kind {
        ProviderKind::Kind => Tools::ensure(paths, progress, &kind::TOOLS)?,
        ProviderKind::Node => Tools::ensure(paths, progress, &node::TOOLS)?,
    };
    Ok((build(paths, kind, &tools), tools))
}

fn build(paths: &Paths, kind: ProviderKind, tools: &Tools) -> Box<dyn Provider> {
    match kind {
        ProviderKind::Kind => Box::new(kind::Kind::new(paths, tools)),
        ProviderKind::Node => Box::new(node::Node::new(paths, tools)),
    }
}

/// The provider asked for, or the one that this machine can have.
fn choose(paths: &Paths, asked: Option<ProviderKind>) -> Result<ProviderKind> {
    if let Some(kind) = asked {
        return Ok(kind);
    }
    let (kind, why) = match kind::usable(&paths.repo.join("kind-config.yaml"))? {
        None => (ProviderKind::Kind, "a Docker engine and kind's node image are there".to_owned()),
        Some(reason) => (ProviderKind::Node, format!("not kind: {reason}")),
    };
    let name = kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    eprintln!("  provider {name} ({why}); --provider chooses");
    Ok(kind)
}
