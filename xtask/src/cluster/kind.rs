//! A cluster in a container, by kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Engine, NAME, Provider};
use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::tools::{HELM, KIND, KUBECTL, Tool, Tools};

pub(super) const TOOLS: [Tool; 3] = [HELM, KUBECTL, KIND];

/// kind's name for the container of the only node.
const CONTAINER: &str = "monthend-control-plane";

pub(super) struct Kind {
    paths: Paths,
    tools: Tools,
    config: PathBuf,
}

impl Kind {
    pub(super) fn new(paths: &Paths, tools: &Tools) -> Self {
        Self { config: paths.repo.join("kind-config.yaml"), paths: paths.clone(), tools: tools.clone() }
    }

    fn exists(&self) -> Result<bool> {
        let clusters = exec::output(self.tools.command(KIND).args(["get", "clusters"]))?;
        Ok(clusters.lines().any(|line| line == NAME))
    }
}

impl Provider for Kind {
    fn create(&self, progress: &Progress) -> Result<()> {
        progress.step("kind cluster", |step| {
            let kubeconfig = self.paths.kubeconfig();
            if self.exists()? {
                step.note("there already");
                // Stopped with its engine, it only has to be started again.
                exec::run(Command::new("docker").args(["start", CONTAINER]), &self.paths.log("kind"))?;
                return exec::run(
                    self.tools
                        .command(KIND)
                        .args(["export", "kubeconfig", "--name", NAME, "--kubeconfig"])
                        .arg(kubeconfig),
                    &self.paths.log("kind"),
                );
            }
            exec::run(
                self.tools
                    .command(KIND)
                    .args(["create", "cluster", "--name", NAME, "--wait", "180s", "--config"])
                    .arg(&self.config)
                    .arg("--kubeconfig")
                    .arg(kubeconfig),
                &self.paths.log("kind"),
            )
        })
    }

    fn delete(&self, progress: &Progress) -> Result<()> {
        progress.step("kind cluster deleted", |_| {
            exec::run(
                self.tools.command(KIND).args(["delete", "cluster", "--name", NAME]),
                &self.paths.log("kind"),
            )
        })
    }

    fn has_image(&self, reference: &str) -> Result<bool> {
        Ok(exec::succeeds(
            Command::new("docker").args(["exec", CONTAINER, "crictl", "inspecti", "--quiet", reference]),
        ))
    }

    fn with_engine(&self, work: &mut dyn FnMut(&Engine) -> Result<()>) -> Result<()> {
        work(&Engine { host: None, makes_bases: false })
    }

    fn load(&self, archive: &Path) -> Result<()> {
        exec::run(
            self.tools.command(KIND).args(["load", "image-archive", "--name", NAME]).arg(archive),
            &self.paths.log("kind"),
        )
    }
}

/// Why kind can't be had here, or nothing when it can.
pub(super) fn usable(config: &Path) -> Result<Option<String>> {
    if exec::which("docker").is_none() {
        return Ok(Some("there is no docker command".to_owned()));
    }
    if !exec::succeeds(Command::new("docker").arg("info")) {
        return Ok(Some("no Docker engine answers".to_owned()));
    }
    let text = fs::read_to_string(config).with_context(|| format!("cannot read {}", config.display()))?;
    let image = node_image(&text).with_context(|| format!("{} names no image", config.display()))?;
    let there = exec::succeeds(Command::new("docker").args(["image", "inspect", image]))
        || exec::succeeds(Command::new("docker").args(["pull", "--quiet", image]));
    Ok((!there).then(|| format!("{image} is not here and can't be pulled")))
}

/// The image of the (only) node.
fn node_image(config: &str) -> Option<&str> {
    config.lines().find_map(|line| line.trim().strip_prefix("image: "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_configuration_names_the_node_image() {
        let config = include_str!("../../../kind-config.yaml");
        let image = super::node_image(config).unwrap();
        assert!(image.starts_with("kindest/node:v1.34.") && image.contains("@sha256:"), "{image}");
    }
}
