//! The Kubernetes cluster on this machine: kind, as kind-config.yaml says.

mod node_image;
mod record;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
pub(crate) use record::{Record, Settings};

use crate::docker::Engine;
use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::tools::{HELM, KIND, KUBECTL, Tools};

/// The cluster's and the release's name.
pub(crate) const NAME: &str = "monthend";

/// kind's name for the Docker network of its nodes.
const NETWORK: &str = "kind";

/// A cluster that is there.
pub(crate) struct Cluster {
    pub(crate) record: Record,
    pub(crate) tools: Tools,
    paths: Paths,
}

impl Cluster {
    /// Brings it up, or repairs what is there.
    pub(crate) fn up(paths: &Paths, progress: &Progress, settings: &Settings) -> Result<Self> {
        let record = match Record::read(paths)? {
            Some(record) => record.keep(settings)?,
            None => Record::new(Engine::choose()?, settings),
        };
        // Written before anything is made, so that `down` knows of half a cluster.
        record.write(paths)?;
        record.engine.ensure(paths, progress)?;
        let tools = Tools::ensure(paths, progress, &[KUBECTL, HELM, KIND])?;
        let cluster = Self { record, tools, paths: paths.clone() };
        if cluster.nodes()?.is_empty() {
            let image = node_image::ensure(paths, progress, cluster.engine())?;
            progress.step("kind cluster", |step| {
                step.note(&image);
                cluster.create(&image)
            })?;
        } else {
            progress.step("kind cluster", |step| {
                step.note("there already");
                cluster.start_nodes()
            })?;
        }
        Ok(cluster)
    }

    /// The one that is there.
    pub(crate) fn existing(paths: &Paths) -> Result<Self> {
        let Some(record) = Record::read(paths)? else {
            bail!("there is no cluster: run `cargo xtask up`");
        };
        Ok(Self { record, tools: Tools::locate(paths)?, paths: paths.clone() })
    }

    pub(crate) fn engine(&self) -> Engine {
        self.record.engine
    }

    pub(crate) fn kubectl(&self) -> Command {
        self.client(self.tools.command(KUBECTL))
    }

    pub(crate) fn helm(&self) -> Command {
        self.client(self.tools.command(HELM))
    }

    fn client(&self, mut command: Command) -> Command {
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

    /// Has the images of the engine on every node. kind copies those that a node does not have yet.
    pub(crate) fn load(&self, images: &[String]) -> Result<()> {
        exec::run(
            self.kind().args(["load", "docker-image", "--name", NAME]).args(images),
            &self.paths.log("kind"),
        )
    }

    /// The names of the nodes, which are those of their containers; none without a cluster.
    pub(crate) fn nodes(&self) -> Result<Vec<String>> {
        // kind says on stderr that there are none.
        let nodes = exec::output(self.kind().args(["get", "nodes", "--name", NAME]))?;
        Ok(nodes.lines().map(str::to_owned).collect())
    }

    fn kind(&self) -> Command {
        let mut command = self.tools.command(KIND);
        self.engine().configure(&mut command);
        command
    }

    fn create(&self, image: &str) -> Result<()> {
        exec::run(
            self.kind()
                .args(["create", "cluster", "--name", NAME, "--wait", "180s", "--image", image, "--config"])
                .arg(self.paths.repo.join("kind-config.yaml"))
                .arg("--kubeconfig")
                .arg(self.paths.kubeconfig()),
            &self.paths.log("kind"),
        )
    }

    /// Stopped with their engine, nodes only have to be started again.
    fn start_nodes(&self) -> Result<()> {
        exec::run(self.engine().docker().arg("start").args(self.nodes()?), &self.paths.log("kind"))?;
        exec::run(
            self.kind()
                .args(["export", "kubeconfig", "--name", NAME, "--kubeconfig"])
                .arg(self.paths.kubeconfig()),
            &self.paths.log("kind"),
        )?;
        exec::run(
            self.kubectl().args(["wait", "--for=condition=Ready", "nodes", "--all", "--timeout=180s"]),
            &self.paths.log("kind"),
        )
    }

    fn delete(&self) -> Result<()> {
        exec::run(self.kind().args(["delete", "cluster", "--name", NAME]), &self.paths.log("kind"))?;
        if self.engine() == Engine::Own {
            // In the machine's engine another cluster may use it.
            if exec::succeeds(self.engine().docker().args(["network", "inspect", NETWORK])) {
                exec::run(self.engine().docker().args(["network", "rm", NETWORK]), &self.paths.log("kind"))?;
            }
        }
        Ok(())
    }
}

/// Removes the cluster of this machine, whichever checkout made it.
pub(crate) fn down(paths: &Paths, progress: &Progress) -> Result<()> {
    match Record::read(paths)? {
        Some(record) => {
            // A cluster can only be deleted with the engine that runs it.
            record.engine.ensure(paths, &Progress::silent())?;
            let tools = Tools::ensure(paths, &Progress::silent(), &[KIND])?;
            let cluster = Cluster { record, tools, paths: paths.clone() };
            progress.step("kind cluster deleted", |_| {
                cluster.delete()?;
                cluster.engine().stop(paths)
            })?;
        }
        None => progress.step("there is no cluster", |_| Ok(()))?,
    }
    match fs::remove_dir_all(&paths.state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", paths.state.display()))
        }
        _ => Ok(()),
    }
}
