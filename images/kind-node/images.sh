#!/bin/bash
# Imports the system's image into containerd's store, under each name that kubeadm and kind ask for.
# All have the one layer /images/layer.tar; they differ in their entry points.
set -euo pipefail
cd /images

config() {
  jq --null-input --arg layer "sha256:$(sha256sum layer.tar | cut -d' ' -f1)" --argjson entrypoint "$1" \
    --arg architecture "$(dpkg --print-architecture)" '{
      architecture: $architecture, os: "linux",
      config: {Env: ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], Entrypoint: $entrypoint},
      rootfs: {type: "layers", diff_ids: [$layer]}
    }'
}

image() { # FILE ENTRYPOINT NAME…
  config "$2" > "$1"
  jq --null-input --arg config "$1" '{Config: $config, Layers: ["layer.tar"], RepoTags: $ARGS.positional}' --args "${@:3}"
}

mapfile -t control_plane < <(kubeadm config images list --kubernetes-version "$(cat /kind/version)" | grep -Ev '/(coredns|pause):')
coredns=$(kubeadm config images list --kubernetes-version "$(cat /kind/version)" | grep /coredns:)
pause=$(sed -n 's/.*sandbox_image = "\(.*\)"/\1/p' /etc/containerd/config.toml)
{
  image programs.json null "${control_plane[@]}" \
    kindest/local-path-provisioner:built kindest/local-path-helper:built monthend/pod-network:built
  image coredns.json '["coredns"]' "$coredns"
  image pause.json '["pause"]' "$pause"
} | jq --slurp . > manifest.json
tar --create --file images.tar manifest.json ./*.json layer.tar

# Only the content store works without mounting anything, and it is all that is needed.
cat > containerd.toml <<'END'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
END
containerd --config containerd.toml > containerd.log 2>&1 &
timeout 30 bash -c 'until ctr version > /dev/null 2>&1; do sleep 0.2; done' || { cat containerd.log; exit 1; }
ctr --namespace k8s.io images import --label io.cri-containerd.pinned=pinned --all-platforms --no-unpack --digests images.tar
ctr --namespace k8s.io images ls --quiet
kill %1
wait %1 || true
