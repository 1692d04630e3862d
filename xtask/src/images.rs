//! Images from the Dockerfiles in images/, tagged by what they are made of: a changed binary is
//! another image, and pods roll. The Docker engine keeps them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;
use crate::daemon::hex;
use crate::docker::Engine;
use crate::glibc::{self, Release};
use crate::paths::Paths;
use crate::progress::Progress;
use crate::{exec, kafka, mail, packages};

/// The release whose packages the images of the development stack are made of.
const PACKAGED: Release = Release::Bookworm;

/// Versions of one image that the engine keeps: the current one and those before it.
const KEPT: usize = 3;

/// What is installed into the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    pub(crate) monthend: Reference,
    pub(crate) postgres: Reference,
    pub(crate) kafka: Reference,
    pub(crate) mail: Reference,
    pub(crate) prometheus: Reference,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) repository: String,
    pub(crate) tag: String,
}

impl Reference {
    pub(crate) fn whole(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// A part of what a Dockerfile may copy.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    File(PathBuf),
    /// A folder with a name for its content, which need not be read to know whether it changed.
    Cached {
        path: PathBuf,
        identity: String,
    },
}

impl Part {
    /// A folder in one of the cache's own, which is named by what it is made from.
    fn in_cache(path: PathBuf) -> Result<Self> {
        let folder = path.parent().and_then(Path::file_name);
        let identity = folder.with_context(|| format!("{} is not in the cache", path.display()))?;
        Ok(Self::Cached { identity: identity.to_string_lossy().into_owned(), path })
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Cached { path, .. } => path,
        }
    }

    fn identity(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => fs::read(path).with_context(|| format!("cannot read {}", path.display())),
            Self::Cached { identity, .. } => Ok(identity.clone().into_bytes()),
        }
    }
}

/// One image, and how to build it.
pub(crate) struct Recipe {
    pub(crate) reference: Reference,
    dockerfile: PathBuf,
    /// What the Dockerfile may copy.
    context: Vec<Part>,
    base: Release,
}

impl Recipe {
    pub(crate) fn new(paths: &Paths, name: &str, context: Vec<Part>, base: Release) -> Result<Self> {
        let dockerfile = paths.repo.join("images").join(name).join("Dockerfile");
        let mut hash = Sha256::new();
        for part in std::iter::once(&Part::File(dockerfile.clone())).chain(&context) {
            hash.update(part.identity()?);
        }
        hash.update(base.image());
        let tag = hex(&hash.finalize())[..12].to_owned();
        Ok(Self {
            reference: Reference { repository: format!("monthend/{name}"), tag },
            dockerfile,
            context,
            base,
        })
    }

    /// Has the image in the engine; whether it had to be built.
    pub(crate) fn ensure(&self, paths: &Paths, engine: Engine) -> Result<bool> {
        if engine.has(&self.reference.whole()) {
            return Ok(false);
        }
        ensure_base(paths, engine, self.base)?;
        self.build(engine, &paths.log("images"))?;
        self.prune(engine)?;
        Ok(true)
    }

    fn build(&self, engine: Engine, log: &Path) -> Result<()> {
        let folder = tempfile::tempdir().context("no room for a build")?;
        for part in &self.context {
            exec::run(Command::new("cp").arg("--archive").arg(part.path()).arg(folder.path()), log)?;
        }
        let mut docker = engine.docker();
        docker.args(["build", "--network=host", "--tag", &self.reference.whole(), "--file"]);
        docker.arg(&self.dockerfile);
        docker.arg("--build-arg").arg(format!("BASE_IMAGE={}", self.base.image()));
        for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
            if let Ok(value) = std::env::var(proxy) {
                docker.arg("--build-arg").arg(format!("{proxy}={value}"));
            }
        }
        exec::run(docker.arg(folder.path()), log)
    }

    /// Removes all but the newest versions of the image. One that a container uses stays.
    fn prune(&self, engine: Engine) -> Result<()> {
        let list = ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", &self.reference.repository];
        // Newest first.
        let versions = exec::output(engine.docker().args(list))?;
        for old in versions.lines().skip(KEPT) {
            exec::succeeds(engine.docker().args(["image", "rm", old]));
        }
        Ok(())
    }
}

/// Has the base image under its usual name: from its registry, or made from Debian's packages where
/// it can't be pulled.
fn ensure_base(paths: &Paths, engine: Engine, base: Release) -> Result<()> {
    let image = base.image();
    if engine.has_or_pulls(&image) {
        return Ok(());
    }
    let log = paths.log("images");
    packages::ensure(paths, &Progress::silent(), &packages::DEBOOTSTRAP)
        .with_context(|| format!("{image} cannot be pulled, and making it takes debootstrap"))?;
    let folder = tempfile::tempdir().context("no room for a base image")?;
    let (root, archive) = (folder.path().join("root"), folder.path().join("root.tar"));
    exec::run(Command::new("debootstrap").args(["--variant=minbase", base.name()]).arg(&root), &log)?;
    exec::run(
        Command::new("tar")
            .arg("--create")
            .arg("--file")
            .arg(&archive)
            .arg("--directory")
            .arg(&root)
            // What the official slim image leaves out, too.
            .args(["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"])
            .args(["--exclude=./usr/share/doc/*", "--exclude=./var/log/*", "."]),
        &log,
    )?;
    exec::run(engine.docker().args(["import", "--change", "CMD [\"bash\"]"]).arg(&archive).arg(&image), &log)
}

/// Has every image of the installation on every node.
pub(crate) fn ensure(
    paths: &Paths,
    progress: &Progress,
    cluster: &Cluster,
    binaries: &Path,
) -> Result<Images> {
    let jars = kafka::jars(paths, progress)?;
    let modules = mail::modules(paths, progress)?;
    progress.step("images", |step| {
        let programs = ["operator", "monthend", "kubectl-monthend"].map(|name| binaries.join(name));
        for program in &programs {
            if !program.is_file() {
                bail!("{} is not built", program.display());
            }
        }
        let release = glibc::release_for(&programs.each_ref().map(PathBuf::as_path))?;
        let monthend = Recipe::new(paths, "monthend", programs.map(Part::File).into(), release)?;
        // Debian's packages in these are those of one release.
        let stack = |name: &str, context: Vec<Part>| Recipe::new(paths, name, context, PACKAGED);
        let file = |path: &str| Part::File(paths.repo.join("images").join(path));
        let postgres = ["postgres/postgresql.conf", "postgres/pg_hba.conf", "postgres/entrypoint.sh"];
        let postgres = stack("postgres", postgres.map(file).into())?;
        let own = ["kafka/server.properties", "kafka/entrypoint.sh"].map(file);
        let kafka = stack("kafka", own.into_iter().chain([Part::in_cache(jars)?]).collect())?;
        let mail = stack("mail", vec![Part::in_cache(modules)?])?;
        let prometheus = stack("prometheus", Vec::new())?;
        let images = Images {
            monthend: monthend.reference.clone(),
            postgres: postgres.reference.clone(),
            kafka: kafka.reference.clone(),
            mail: mail.reference.clone(),
            prometheus: prometheus.reference.clone(),
        };
        let built = provide(paths, cluster, &[monthend, postgres, kafka, mail, prometheus])?;
        step.note(format!("{built} built, on {}", release.image()));
        Ok(images)
    })
}

/// Has the mail server of the tests in the cluster, whose failures a test controls.
pub(crate) fn ensure_test_mail(paths: &Paths, progress: &Progress, cluster: &Cluster) -> Result<Reference> {
    progress.step("image of the tests' mail server", |step| {
        let server = Part::File(paths.repo.join("e2e/mail/server.py"));
        let recipe = Recipe::new(paths, "e2e-mail", vec![server], PACKAGED)?;
        let reference = recipe.reference.clone();
        let built = provide(paths, cluster, &[recipe])?;
        step.note(format!("{built} built"));
        Ok(reference)
    })
}

/// Builds what the engine does not have, and has all of them on every node. How many were built.
fn provide(paths: &Paths, cluster: &Cluster, recipes: &[Recipe]) -> Result<usize> {
    let mut built = 0;
    for recipe in recipes {
        built += usize::from(recipe.ensure(paths, cluster.engine())?);
    }
    cluster.load(&recipes.iter().map(|recipe| recipe.reference.whole()).collect::<Vec<_>>())?;
    Ok(built)
}
