//! What each part of the node is told: its command line and its file.

use std::process::Command;

use serde_json::{Value, json};

use super::layout::{
    API_ADDRESS, BRIDGE, DOMAIN, ETCD_PEER_URL, ETCD_URL, Layout, NODE_NAME, POD_RANGE, SERVICE_RANGE, text,
};
use super::pki::Pki;
use crate::tools::{COREDNS, Tools};

/// One part: what to start, and the file that it reads.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) command: Command,
    /// File name and content.
    pub(super) config: Option<(&'static str, String)>,
}

pub(super) fn etcd(tools: &Tools, layout: &Layout) -> Part {
    let mut command = tools.node("etcd");
    command
        .args(["--name", NODE_NAME, "--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL])
        .args(["--listen-peer-urls", ETCD_PEER_URL, "--initial-advertise-peer-urls", ETCD_PEER_URL])
        .args(["--initial-cluster", &format!("{NODE_NAME}={ETCD_PEER_URL}")])
        // A development cluster that dies with its machine may lose its last
        // second; the disk belongs to PostgreSQL.
        .args(["--unsafe-no-fsync", "--log-level", "warn", "--data-dir"])
        .arg(layout.root.join("etcd"));
    Part { name: "etcd", command, config: None }
}

pub(super) fn containerd(layout: &Layout, pause: &str) -> Part {
    let file = "containerd.toml";
    let mut command = Command::new("containerd");
    command.arg("--config").arg(layout.config(file));
    Part { name: "containerd", command, config: Some((file, containerd_toml(layout, pause))) }
}

fn containerd_toml(layout: &Layout, pause: &str) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE no score below our own can be set, and every pod
  # would fail with "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{runc}"
"#,
        runc = text(&layout.run.join("runc")),
        root = text(&layout.root.join("containerd")),
        state = text(&layout.run.join("containerd")),
        socket = text(&layout.containerd_socket()),
        cni = text(&layout.config("cni")),
    )
}

/// The network of the pods, for the CNI plug-ins.
pub(super) fn cni(layout: &Layout) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": NODE_NAME,
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "hairpinMode": true,
            // Masquerading is one rule for the whole range (see network.rs):
            // the plug-in's would be a chain for each pod, left behind by
            // pods that end with the node.
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": POD_RANGE, "gateway": API_ADDRESS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": text(&layout.run.join("cni")),
            },
        }],
    })
    .to_string()
}

pub(super) fn api_server(tools: &Tools, pki: &Pki) -> Part {
    let mut command = tools.node("kube-apiserver");
    let file = |flag: &str, name: &str| format!("--{flag}={}", text(&pki.file(name)));
    command
        .args([
            format!("--etcd-servers={ETCD_URL}"),
            format!("--advertise-address={API_ADDRESS}"),
            format!("--bind-address={API_ADDRESS}"),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            format!("--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}"),
            file("service-account-key-file", "sa.pub"),
            file("service-account-signing-key-file", "sa.key"),
            file("client-ca-file", "ca.crt"),
            file("tls-cert-file", "apiserver.crt"),
            file("tls-private-key-file", "apiserver.key"),
            file("kubelet-client-certificate", "kubelet-client.crt"),
            file("kubelet-client-key", "kubelet-client.key"),
        ])
        .args([
            "--secure-port=6443",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            // Or logs and exec look the node's name up in DNS.
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
        ]);
    Part { name: "kube-apiserver", command, config: None }
}

pub(super) fn controllers(tools: &Tools, layout: &Layout, pki: &Pki) -> Part {
    let mut command = tools.node("kube-controller-manager");
    let kubeconfig = text(&pki.kubeconfig("controllers"));
    command
        .args(
            ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
                .map(|flag| format!("--{flag}={kubeconfig}")),
        )
        .arg(format!("--service-account-private-key-file={}", text(&pki.file("sa.key"))))
        .arg(format!("--root-ca-file={}", text(&pki.file("ca.crt"))))
        .arg(format!("--flex-volume-plugin-dir={}", text(&layout.root.join("volume-plugins"))))
        .args([
            "--use-service-account-credentials=true",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--profiling=false",
            // The node shares its cores with what it measures: a slow
            // heartbeat there is no lost node.
            "--node-monitor-grace-period=120s",
        ]);
    Part { name: "kube-controller-manager", command, config: None }
}

pub(super) fn scheduler(tools: &Tools, pki: &Pki) -> Part {
    let mut command = tools.node("kube-scheduler");
    let kubeconfig = text(&pki.kubeconfig("scheduler"));
    command
        .args(
            ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
                .map(|flag| format!("--{flag}={kubeconfig}")),
        )
        .args(["--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"]);
    Part { name: "kube-scheduler", command, config: None }
}

pub(super) fn kubelet(tools: &Tools, layout: &Layout, pki: &Pki, resolv_conf: &str) -> Part {
    let file = "kubelet.json";
    let mut command = tools.node("kubelet");
    command.args([
        format!("--config={}", text(&layout.config(file))),
        format!("--cert-dir={}", text(&layout.root.join("kubelet-pki"))),
        format!("--kubeconfig={}", text(&pki.kubeconfig("kubelet"))),
        format!("--root-dir={}", text(&layout.root.join("kubelet"))),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={API_ADDRESS}"),
    ]);
    let config: Value = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": API_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": text(&pki.file("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{}", text(&layout.containerd_socket())),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [API_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": resolv_conf,
        "volumePluginDir": text(&layout.root.join("volume-plugins")),
        "podLogsDir": text(&layout.root.join("pod-logs")),
        // Images can't be pulled again, and the disk isn't the cluster's alone.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "shutdownGracePeriod": "0s",
        "registerNode": true,
    });
    Part { name: "kubelet", command, config: Some((file, config.to_string())) }
}

pub(super) fn proxy(tools: &Tools, layout: &Layout, pki: &Pki, bridge_is_filtered: bool) -> Part {
    let file = "kube-proxy.json";
    let mut command = tools.node("kube-proxy");
    command.arg(format!("--config={}", text(&layout.config(file))));
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": NODE_NAME,
        "clientConnection": {"kubeconfig": text(&pki.kubeconfig("proxy"))},
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // As with kind: what is published is published on this machine only.
        "nodePortAddresses": ["127.0.0.0/8"],
        "detectLocalMode": "BridgeInterface",
        "detectLocal": {"bridgeInterface": BRIDGE},
        // Where the kernel doesn't show bridged packets to iptables, an answer
        // from pod to pod would pass by the translation of its address.
        "iptables": {"masqueradeAll": !bridge_is_filtered, "minSyncPeriod": "0s", "syncPeriod": "30s"},
        // Zeros leave the machine's connection tracking as it is.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
    });
    Part { name: "kube-proxy", command, config: Some((file, config.to_string())) }
}

pub(super) fn dns(tools: &Tools, layout: &Layout, pki: &Pki, has_upstream: bool) -> Part {
    let file = "Corefile";
    let mut command = tools.command(COREDNS);
    command.arg("-conf").arg(layout.config(file));
    let upstream = if has_upstream { "    forward . /etc/resolv.conf\n" } else { "" };
    let corefile = format!(
        "{DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 .:53 {{
    bind {API_ADDRESS}
    errors
    ready 127.0.0.1:18181
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} monthend
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
{upstream}    cache 5
    loadbalance
}}
",
        kubeconfig = text(&pki.kubeconfig("dns")),
    );
    Part { name: "coredns", command, config: Some((file, corefile)) }
}

pub(super) fn docker(layout: &Layout) -> Part {
    let file = "docker.json";
    let mut command = Command::new("dockerd");
    let flag = |name: &str, path: std::path::PathBuf| format!("--{name}={}", text(&path));
    command
        .args([
            flag("config-file", layout.config(file)),
            flag("data-root", layout.root.join("docker")),
            flag("exec-root", layout.run.join("docker")),
            flag("pidfile", layout.run.join("docker.pid")),
            flag("containerd", layout.containerd_socket()),
            format!("--host=unix://{}", text(&layout.docker_socket())),
        ])
        // It builds images and runs nothing: builds use the machine's network.
        .args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
    Part { name: "dockerd", command, config: Some((file, "{}".to_owned())) }
}
