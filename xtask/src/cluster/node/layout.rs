//! Names, addresses and folders of the node.

use std::path::{Path, PathBuf};

use crate::paths::Paths;

pub(super) const NODE_NAME: &str = "monthend";

/// The bridge of the pods. Its address is also the node's, the API server's
/// and the DNS server's: loopback can't be advertised, pods reach this one,
/// and nothing outside the machine does.
pub(super) const BRIDGE: &str = "monthend0";
pub(super) const API_ADDRESS: &str = "10.244.0.1";
pub(super) const BRIDGE_ADDRESS: &str = "10.244.0.1/16";
pub(super) const POD_RANGE: &str = "10.244.0.0/16";
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The first of the services' range: the service `kubernetes`.
pub(super) const API_SERVICE_ADDRESS: &str = "10.96.0.1";
pub(super) const API_URL: &str = "https://10.244.0.1:6443";
pub(super) const ETCD_URL: &str = "http://127.0.0.1:12379";
pub(super) const ETCD_PEER_URL: &str = "http://127.0.0.1:12380";
pub(super) const DOMAIN: &str = "cluster.local";

/// How many static volumes there are to be claimed.
pub(super) const VOLUMES: usize = 8;

/// Sockets and what a reboot should forget; short, for a socket's path has at
/// most 107 bytes.
const RUN: &str = "/run/monthend";

#[derive(Clone)]
pub(super) struct Layout {
    /// Everything that belongs to this node.
    pub(super) root: PathBuf,
    pub(super) run: PathBuf,
    pub(super) kubeconfig: PathBuf,
}

impl Layout {
    pub(super) fn new(paths: &Paths) -> Self {
        Self { root: paths.state.join("node"), run: PathBuf::from(RUN), kubeconfig: paths.kubeconfig() }
    }

    pub(super) fn config(&self, name: &str) -> PathBuf {
        self.root.join("etc").join(name)
    }

    pub(super) fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    pub(super) fn docker_socket(&self) -> PathBuf {
        self.run.join("docker.sock")
    }

    pub(super) fn volume(&self, number: usize) -> PathBuf {
        self.root.join("volumes").join(format!("{number}"))
    }
}

/// A path as text for a configuration file.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
