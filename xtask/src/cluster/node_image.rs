//! The image of kind's nodes: kindest/node where it can be pulled, otherwise one that is built as
//! kind builds its own (images/kind-node), once for what it is made of.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::docker::Engine;
use crate::exec;
use crate::glibc::Release;
use crate::images::{Part, Recipe};
use crate::paths::Paths;
use crate::progress::Progress;
use crate::tools::{
    COREDNS, CRICTL, KUBEADM, KUBECTL, KUBERNETES, LOCAL_PATH_PROVISIONER, PAUSE, TOOLS_MODULE, Tool, Tools,
};

/// What the pinned version of kind makes nodes of by default.
const UPSTREAM: &str =
    "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a";

const PROGRAMS: [Tool; 7] = [KUBERNETES, KUBEADM, KUBECTL, CRICTL, COREDNS, PAUSE, LOCAL_PATH_PROVISIONER];

/// The name of the image, which the engine has then.
pub(super) fn ensure(paths: &Paths, progress: &Progress, engine: Engine) -> Result<String> {
    let upstream = progress.step("node image", |step| {
        let found = engine.has_or_pulls(UPSTREAM);
        step.note(if found {
            UPSTREAM
        } else {
            "kindest/node cannot be pulled; it is built from its sources"
        });
        Ok(found)
    })?;
    if upstream {
        return Ok(UPSTREAM.to_owned());
    }
    let folder = tempfile::tempdir().context("no room for a build")?;
    let (bin, kind) = (folder.path().join("bin"), folder.path().join("kind"));
    let own = paths.repo.join("images/kind-node");
    // Names the versions of the programs and of kind.
    let versions = Tools::locate(paths)?.identity();
    let parts = vec![
        Part::Cached { path: bin.clone(), identity: versions.clone() },
        Part::Cached { path: kind.clone(), identity: versions },
        Part::File(own.join("images.sh")),
        Part::File(own.join("pod-network.yaml")),
    ];
    let recipe = Recipe::new(paths, "kind-node", parts, Release::Bookworm)?;
    let name = recipe.reference.whole();
    if !engine.has(&name) {
        let tools = Tools::ensure(paths, progress, &PROGRAMS)?;
        progress.step("node image, built once for its versions", |step| {
            step.note(&name);
            copy_programs(&tools, &bin)?;
            copy_kind_files(paths, &kind)?;
            recipe.ensure(paths, engine).map(drop)
        })?;
    }
    Ok(name)
}

fn copy_programs(tools: &Tools, target: &Path) -> Result<()> {
    fs::create_dir(target).with_context(|| format!("cannot create {}", target.display()))?;
    for tool in PROGRAMS {
        fs::copy(tools.path(tool), target.join(tool.name()))
            .with_context(|| format!("cannot copy {}", tool.name()))?;
    }
    Ok(())
}

/// kind's own files, from its Go module.
fn copy_kind_files(paths: &Paths, target: &Path) -> Result<()> {
    let module = exec::output(Command::new("go").current_dir(paths.repo.join(TOOLS_MODULE)).args([
        "list",
        "-m",
        "-f",
        "{{.Dir}}",
        "sigs.k8s.io/kind",
    ]))?;
    let module = Path::new(&module);
    fs::create_dir(target).with_context(|| format!("cannot create {}", target.display()))?;
    exec::output(
        Command::new("cp")
            .args(["--recursive", "--no-preserve=mode"])
            .arg(module.join("images/base/files"))
            .arg(target),
    )?;
    let source = module.join("pkg/build/nodeimage/const_storage.go");
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let manifest = storage_manifest(&text)
        .with_context(|| format!("{} has no storage manifest where kind 0.30 has it", source.display()))?;
    fs::write(target.join("default-storage.yaml"), manifest).context("cannot write default-storage.yaml")
}

/// The manifest of the storage class, with the names that images/kind-node/images.sh gives to its
/// images.
fn storage_manifest(source: &str) -> Option<String> {
    let (_, rest) = source.split_once("const defaultStorageManifest = `")?;
    let (manifest, _) = rest.split_once("\n`\n")?;
    let manifest = manifest
        .replace("` + storageProvisionerImage + `", "docker.io/kindest/local-path-provisioner:built")
        .replace("` + storageHelperImage + `", "docker.io/kindest/local-path-helper:built");
    (!manifest.contains('`')).then_some(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storage_manifest_names_images_that_the_node_has() {
        let source = "const a = 1\nconst defaultStorageManifest = `\nimage: ` + storageProvisionerImage + `\n\
                      helper: ` + storageHelperImage + `\n`\n\nfunc x() {}\n";
        let manifest = storage_manifest(source).unwrap();
        assert_eq!(
            manifest,
            "\nimage: docker.io/kindest/local-path-provisioner:built\nhelper: docker.io/kindest/local-path-helper:built"
        );
        let script = include_str!("../../../images/kind-node/images.sh");
        for image in ["kindest/local-path-provisioner:built", "kindest/local-path-helper:built"] {
            assert!(script.contains(image), "images.sh does not make {image}");
        }
        assert_eq!(storage_manifest("const other = 1"), None);
        assert_eq!(storage_manifest(&source.replace("storageHelperImage", "anotherImage")), None);
    }
}
