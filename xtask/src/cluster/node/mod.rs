//! A real single node from upstream's own programs, for machines that can't
//! pull kind's image. Wants root on Linux. Everything it starts is kept by
//! process id, everything it writes is below two folders.

mod config;
mod layout;
mod network;
mod objects;
mod pki;
mod teardown;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::config::Part;
use self::layout::{API_ADDRESS, Layout, NODE_NAME, text};
use self::pki::Pki;
use self::teardown::ctr;
use super::{Engine, Provider};
use crate::daemon::{Daemons, Started};
use crate::exec;
use crate::images;
use crate::packages;
use crate::paths::{Paths, write_if_changed};
use crate::progress::{Progress, wait_for};
use crate::tools::{COREDNS, HELM, KUBECTL, NODE, PAUSE, Tool, Tools};

pub(super) const TOOLS: [Tool; 5] = [NODE, COREDNS, HELM, KUBECTL, PAUSE];

/// In the order in which they are ended: whoever restarts others goes first.
const PARTS: [&str; 9] = [
    "dockerd",
    "kubelet",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "coredns",
    "containerd",
    "kube-apiserver",
    "etcd",
];

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Node {
    paths: Paths,
    tools: Tools,
    layout: Layout,
    daemons: Daemons,
    pki: Pki,
}

impl Node {
    pub(super) fn new(paths: &Paths, tools: &Tools) -> Self {
        let layout = Layout::new(paths);
        Self {
            paths: paths.clone(),
            tools: tools.clone(),
            daemons: Daemons::new(&layout.root),
            pki: Pki::new(layout.root.join("pki")),
            layout,
        }
    }

    /// Starts a part unless it runs as it should.
    fn start(&self, part: &Part) -> Result<Started> {
        let mut told = "";
        if let Some((name, content)) = &part.config {
            write_if_changed(&self.layout.config(name), content.as_bytes())?;
            told = content;
        }
        self.daemons.start(part.name, &part.command, told)
    }

    /// Waits until a part that was started answers.
    fn answers(&self, name: &str, ask: impl Fn() -> bool) -> Result<()> {
        wait_for(
            PATIENCE,
            || {
                self.daemons.check(name)?;
                Ok(ask().then_some(()))
            },
            || format!("{name} does not answer\n{}", exec::tail(&self.daemons.log(name))),
        )
    }

    fn kubectl(&self) -> Command {
        let mut command = self.tools.command(KUBECTL);
        command.env("KUBECONFIG", &self.layout.kubeconfig);
        command.env("KUBECACHEDIR", self.paths.kube_cache());
        command
    }

    fn start_runtime(&self) -> Result<Started> {
        let started = self.start(&config::containerd(&self.layout, &images::pause_reference(&self.tools)))?;
        self.answers("containerd", || exec::succeeds(ctr(&self.layout, "k8s.io").arg("version")))?;
        Ok(started)
    }

    /// The control plane: from nothing to an API server that answers.
    fn start_control_plane(&self) -> Result<()> {
        self.start(&config::etcd(&self.tools, &self.layout))?;
        self.answers("etcd", || connects("127.0.0.1:12379"))?;
        self.start(&config::api_server(&self.tools, &self.pki))?;
        fs::copy(self.pki.kubeconfig("admin"), &self.layout.kubeconfig)
            .with_context(|| format!("cannot write {}", self.layout.kubeconfig.display()))?;
        self.answers("kube-apiserver", || {
            exec::succeeds(self.kubectl().args(["get", "--raw", "/readyz", "--request-timeout=2s"]))
        })?;
        self.start(&config::controllers(&self.tools, &self.layout, &self.pki))?;
        self.start(&config::scheduler(&self.tools, &self.pki))?;
        Ok(())
    }

    /// Frees the volumes whose claim is gone and makes those that are missing.
    fn make_objects(&self) -> Result<()> {
        objects::make_folders(&self.layout)?;
        let volumes = exec::output(self.kubectl().args(["get", "persistentvolumes", "-o", "json"]))?;
        for number in objects::released(&serde_json::from_str(&volumes)?) {
            exec::output(
                self.kubectl().args(["delete", "persistentvolume"]).arg(objects::volume_name(number)),
            )?;
            let folder = self.layout.volume(number);
            fs::remove_dir_all(&folder)
                .and_then(|()| fs::create_dir(&folder))
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let list = serde_json::to_vec(&objects::base(&self.layout))?;
        exec::output_with_input(
            self.kubectl().args(["apply", "--server-side", "--force-conflicts", "-f", "-"]),
            &list,
        )
        .map(drop)
    }

    fn is_ready(&self) -> Result<bool> {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let status =
            exec::output(self.kubectl().args(["get", "node", NODE_NAME, "--ignore-not-found", "-o", path]))?;
        Ok(status == "True")
    }

    fn saved_settings(&self) -> PathBuf {
        self.layout.root.join("kernel-settings.json")
    }
}

impl Provider for Node {
    fn create(&self, progress: &Progress) -> Result<()> {
        if !packages::is_root() {
            bail!(
                "a node without kind wants root: run `sudo --preserve-env=PATH,HOME cargo xtask up`, \
                 or install Docker and use --provider kind"
            );
        }
        packages::ensure(&self.paths, progress, &packages::NODE)?;
        progress.step("control plane", |_| {
            teardown::note_fixed_places(&self.layout)?;
            self.pki.ensure()?;
            network::ensure(&self.saved_settings())?;
            self.start_control_plane()
        })?;
        progress.step("node", |step| {
            let bridge_is_filtered = network::ensure(&self.saved_settings())?;
            let resolv = Path::new("/etc/resolv.conf");
            let upstream = fs::read_to_string(resolv).is_ok_and(|text| text.contains("nameserver"));
            write_if_changed(
                &self.layout.config("cni").join("10-monthend.conflist"),
                config::cni(&self.layout).as_bytes(),
            )?;
            self.start_runtime()?;
            self.start(&config::proxy(&self.tools, &self.layout, &self.pki, bridge_is_filtered))?;
            let resolv = if upstream { text(resolv) } else { String::new() };
            self.start(&config::kubelet(&self.tools, &self.layout, &self.pki, &resolv))?;
            self.make_objects()?;
            self.start(&config::dns(&self.tools, &self.layout, &self.pki, upstream))?;
            self.answers("coredns", || connects("127.0.0.1:18181"))?;
            self.answers("kubelet", || self.is_ready().unwrap_or(false))?;
            for part in ["etcd", "kube-controller-manager", "kube-scheduler", "kube-proxy", "containerd"] {
                self.daemons.check(part)?;
            }
            step.note(format!("Kubernetes on {API_ADDRESS}"));
            Ok(())
        })
    }

    fn delete(&self, progress: &Progress) -> Result<()> {
        progress.step("node ended", |_| {
            for part in PARTS {
                if part == "containerd" && self.layout.config("containerd.toml").exists() {
                    // Containers outlive a containerd that died; only it can end them.
                    self.start_runtime()?;
                    teardown::end_containers(&self.layout)?;
                }
                self.daemons.stop(part)?;
            }
            network::remove(&self.saved_settings())?;
            teardown::remove_files(&self.layout)
        })
    }

    fn has_image(&self, reference: &str) -> Result<bool> {
        let filter = format!("name==docker.io/{reference}");
        let found = exec::output(ctr(&self.layout, "k8s.io").args(["images", "ls", "--quiet", &filter]))?;
        Ok(!found.is_empty())
    }

    fn with_engine(&self, work: &mut dyn FnMut(&Engine) -> Result<()>) -> Result<()> {
        let engine = Engine {
            host: Some(format!("unix://{}", text(&self.layout.docker_socket()))),
            makes_bases: true,
        };
        self.start(&config::docker(&self.layout))?;
        let result = self
            .answers("dockerd", || exec::succeeds(engine.docker().arg("version")))
            .and_then(|()| work(&engine));
        // It is needed to build and for nothing else.
        let stopped = self.daemons.stop("dockerd");
        result.and(stopped)
    }

    fn load(&self, archive: &Path) -> Result<()> {
        exec::run(
            ctr(&self.layout, "k8s.io").args(["images", "import"]).arg(archive),
            &self.paths.log("images"),
        )
    }
}

fn connects(address: &str) -> bool {
    address
        .parse::<SocketAddr>()
        .is_ok_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}
