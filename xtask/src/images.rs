//! Images from the Dockerfiles in images/, tagged by what they are made of: a
//! changed binary is another image, and pods roll. Built images are kept as
//! archives in the cache, so that a cluster can come back without building.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cluster::{Engine, Provider, ProviderKind};
use crate::daemon::hex;
use crate::exec;
use crate::glibc::{self, Release};
use crate::kafka;
use crate::mail;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::tools::{PAUSE, Tools};

/// The release whose packages the images of the development stack are made of.
const PACKAGED: Release = Release::Bookworm;

/// Archives of one image that are kept: the current and those before it.
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
    fn new(name: &str, tag: &str) -> Self {
        Self { repository: format!("monthend/{name}"), tag: tag.to_owned() }
    }

    pub(crate) fn whole(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// A part of what a Dockerfile may copy.
#[derive(Clone, Debug)]
enum Part {
    File(PathBuf),
    /// A folder in one of the cache's own, which is named by what it is made
    /// from: what is in it need not be read to know whether it changed.
    Cached(PathBuf),
}

impl Part {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Cached(path) => path,
        }
    }

    fn identity(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(path) => fs::read(path).with_context(|| format!("cannot read {}", path.display())),
            Self::Cached(path) => {
                let folder = path.parent().and_then(Path::file_name);
                let folder = folder.with_context(|| format!("{} is not in the cache", path.display()))?;
                Ok(folder.as_encoded_bytes().to_vec())
            }
        }
    }
}

/// One image to have.
struct Recipe {
    reference: Reference,
    dockerfile: PathBuf,
    /// What the Dockerfile may copy.
    context: Vec<Part>,
    base: Option<Release>,
}

impl Recipe {
    fn new(paths: &Paths, name: &str, context: Vec<Part>, base: Option<Release>) -> Result<Self> {
        let dockerfile = paths.repo.join("images").join(name).join("Dockerfile");
        let mut hash = Sha256::new();
        for part in std::iter::once(&Part::File(dockerfile.clone())).chain(&context) {
            hash.update(part.identity()?);
        }
        hash.update(base.map_or_else(String::new, Release::image));
        let tag = &hex(&hash.finalize())[..12];
        Ok(Self { reference: Reference::new(name, tag), dockerfile, context, base })
    }

    fn build(&self, engine: &Engine, log: &Path) -> Result<()> {
        let folder = tempfile::tempdir().context("no room for a build")?;
        for part in &self.context {
            exec::run(Command::new("cp").arg("--archive").arg(part.path()).arg(folder.path()), log)?;
        }
        let mut docker = engine.docker();
        docker.args(["build", "--network=host", "--tag", &self.reference.whole(), "--file"]);
        docker.arg(&self.dockerfile);
        if let Some(base) = self.base {
            docker.arg("--build-arg").arg(format!("BASE_IMAGE={}", base.image()));
        }
        for proxy in ["http_proxy", "https_proxy", "no_proxy"] {
            if let Ok(value) = std::env::var(proxy) {
                docker.arg("--build-arg").arg(format!("{proxy}={value}"));
            }
        }
        exec::run(docker.arg(folder.path()), log)
    }
}

/// The image of a node's pause process, known before it is built.
pub(crate) fn pause_reference(tools: &Tools) -> String {
    let tag = tools.bin.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    format!("docker.io/{}", Reference::new("pause", &tag).whole())
}

/// Has every image of the installation in the cluster.
pub(crate) fn ensure(
    paths: &Paths,
    progress: &Progress,
    provider: &dyn Provider,
    kind: ProviderKind,
    tools: &Tools,
    binaries: &Path,
) -> Result<Images> {
    let jars = kafka::jars(paths, progress)?;
    let modules = mail::modules(paths, progress)?;
    progress.step("images", |step| {
        let programs = ["operator", "monthend"].map(|name| binaries.join(name));
        for program in &programs {
            if !program.is_file() {
                bail!("{} is not built", program.display());
            }
        }
        let release = glibc::release_for(&programs.each_ref().map(PathBuf::as_path))?;
        let monthend = Recipe::new(paths, "monthend", programs.map(Part::File).into(), Some(release))?;
        // Debian's packages in these are those of one release.
        let stack = |name: &str, context: Vec<Part>| Recipe::new(paths, name, context, Some(PACKAGED));
        let file = |path: &str| Part::File(paths.repo.join("images").join(path));
        let postgres = ["postgres/postgresql.conf", "postgres/pg_hba.conf", "postgres/entrypoint.sh"];
        let postgres = stack("postgres", postgres.map(file).into())?;
        let own = ["kafka/server.properties", "kafka/entrypoint.sh"].map(file);
        let kafka = stack("kafka", own.into_iter().chain([Part::Cached(jars)]).collect())?;
        let mail = stack("mail", vec![Part::Cached(modules)])?;
        let prometheus = stack("prometheus", Vec::new())?;
        let images = Images {
            monthend: monthend.reference.clone(),
            postgres: postgres.reference.clone(),
            kafka: kafka.reference.clone(),
            mail: mail.reference.clone(),
            prometheus: prometheus.reference.clone(),
        };
        let mut recipes = vec![monthend, postgres, kafka, mail, prometheus];
        if kind == ProviderKind::Node {
            let mut pause = Recipe::new(paths, "pause", vec![Part::File(tools.path(PAUSE))], None)?;
            if let Some(tag) = tools.bin.file_name() {
                pause.reference.tag = tag.to_string_lossy().into_owned();
            }
            recipes.push(pause);
        }
        let (built, loaded) = Store::open(paths)?.provide(provider, &recipes)?;
        step.note(format!("{built} built, {loaded} loaded, on {}", release.image()));
        Ok(images)
    })
}

/// Has the mail server of the tests in the cluster, which is told how to
/// misbehave.
pub(crate) fn ensure_test_mail(
    paths: &Paths,
    progress: &Progress,
    provider: &dyn Provider,
) -> Result<Reference> {
    progress.step("image of the tests' mail server", |step| {
        let server = Part::File(paths.repo.join("e2e/mail/server.py"));
        let recipe = Recipe::new(paths, "e2e-mail", vec![server], Some(PACKAGED))?;
        let reference = recipe.reference.clone();
        let (built, loaded) = Store::open(paths)?.provide(provider, &[recipe])?;
        step.note(format!("{built} built, {loaded} loaded"));
        Ok(reference)
    })
}

/// The archives of images.
struct Store {
    folder: PathBuf,
    log: PathBuf,
}

impl Store {
    fn open(paths: &Paths) -> Result<Self> {
        let folder = paths.cache.join("images");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder, log: paths.log("images") })
    }

    fn archive(&self, reference: &Reference) -> PathBuf {
        self.folder.join(format!("{}.tar", reference.whole().replace(['/', ':'], "-")))
    }

    /// Builds what has no archive, loads what the cluster lacks. How many of each.
    fn provide(&self, provider: &dyn Provider, recipes: &[Recipe]) -> Result<(usize, usize)> {
        let mut wanted = Vec::new();
        for recipe in recipes {
            if !provider.has_image(&recipe.reference.whole())? {
                wanted.push(recipe);
            }
        }
        let missing: Vec<&Recipe> =
            wanted.iter().copied().filter(|recipe| !self.archive(&recipe.reference).exists()).collect();
        if !missing.is_empty() {
            provider.with_engine(&mut |engine| {
                for recipe in &missing {
                    self.build(engine, recipe)?;
                }
                Ok(())
            })?;
        }
        for recipe in &wanted {
            provider.load(&self.archive(&recipe.reference))?;
        }
        for recipe in &wanted {
            self.prune(&recipe.reference)?;
        }
        Ok((missing.len(), wanted.len()))
    }

    fn build(&self, engine: &Engine, recipe: &Recipe) -> Result<()> {
        if let Some(base) = recipe.base.filter(|_| engine.makes_bases) {
            self.make_base(engine, base)?;
        }
        recipe.build(engine, &self.log)?;
        let archive = self.archive(&recipe.reference);
        let partial = archive.with_extension("partial");
        exec::run(
            engine.docker().args(["save", "--output"]).arg(&partial).arg(recipe.reference.whole()),
            &self.log,
        )?;
        fs::rename(&partial, &archive).with_context(|| format!("cannot write {}", archive.display()))
    }

    /// The base image under its usual name, made from Debian's packages where
    /// no registry is asked.
    fn make_base(&self, engine: &Engine, base: Release) -> Result<()> {
        let image = base.image();
        if exec::succeeds(engine.docker().args(["image", "inspect", &image])) {
            return Ok(());
        }
        let archive = self.folder.join(format!("debian-{}-slim.tar", base.name()));
        if !archive.exists() {
            let root = tempfile::tempdir().context("no room for a base image")?;
            exec::run(
                Command::new("debootstrap").args(["--variant=minbase", base.name()]).arg(root.path()),
                &self.log,
            )?;
            let partial = archive.with_extension("partial");
            exec::run(
                Command::new("tar")
                    .arg("--create")
                    .arg("--file")
                    .arg(&partial)
                    .arg("--directory")
                    .arg(root.path())
                    // What the official slim image leaves out, too.
                    .args(["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"])
                    .args(["--exclude=./usr/share/doc/*", "--exclude=./var/log/*", "."]),
                &self.log,
            )?;
            fs::rename(&partial, &archive).with_context(|| format!("cannot write {}", archive.display()))?;
        }
        exec::run(
            engine.docker().args(["import", "--change", "CMD [\"bash\"]"]).arg(&archive).arg(&image),
            &self.log,
        )
    }

    /// Removes all but the newest archives of an image.
    fn prune(&self, reference: &Reference) -> Result<()> {
        let prefix = format!("{}-", reference.repository.replace('/', "-"));
        let mut archives = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                archives.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        archives.sort();
        for (_, path) in archives.iter().rev().skip(KEPT) {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }
}
