//! The folder to load: finds and opens its files, and checks their header lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use flate2::read::MultiGzDecoder;

use super::csv::{Next, Reader};
use super::file::{File, Header};

const MANIFEST: &str = "manifest.yaml";
const PRICE_BOOK: &str = "pricebook.yaml";

/// A file whose header line is correct.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
}

/// The content of a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) sources: BTreeMap<File, Source>,
    /// The text of manifest.yaml.
    pub(crate) manifest: Option<String>,
    /// The path and text of pricebook.yaml.
    pub(crate) price_book: Option<(PathBuf, String)>,
}

impl Folder {
    /// Opens a folder and reads everything except the rows of its files.
    ///
    /// # Errors
    /// The folder or a file cannot be read, has a wrong header line, or nothing can be loaded; the
    /// error lists all problems.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let metadata =
            fs::metadata(path).with_context(|| format!("cannot open the folder {}", path.display()))?;
        if !metadata.is_dir() {
            bail!("{} is not a folder: give the folder that contains {}", path.display(), File::Members);
        }
        let mut problems = Vec::new();
        let mut sources = BTreeMap::new();
        for file in File::ALL {
            match find(path, file.name()).and_then(|found| found.map(|found| source(file, found)).transpose())
            {
                Ok(Some(source)) => drop(sources.insert(file, source)),
                Ok(None) => {}
                Err(error) => problems.push(format!("{error:#}")),
            }
        }
        let mut text =
            |name| match find(path, name).and_then(|found| found.map(|path| read(&path)).transpose()) {
                Ok(found) => found,
                Err(error) => {
                    problems.push(format!("{error:#}"));
                    None
                }
            };
        let (manifest, price_book) = (text(MANIFEST), text(PRICE_BOOK));
        if !problems.is_empty() {
            bail!("{}: {}", path.display(), problems.join("; "));
        }
        if sources.is_empty() && manifest.is_none() && price_book.is_none() {
            let names: Vec<_> =
                File::ALL.iter().map(|file| file.name()).chain([MANIFEST, PRICE_BOOK]).collect();
            bail!("{} contains nothing to load: none of {}", path.display(), names.join(", "));
        }
        Ok(Self { path: path.to_owned(), sources, manifest: manifest.map(|(_, text)| text), price_book })
    }
}

/// The file with this name, or with this name and `.gz`.
fn find(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    let candidates = [folder.join(name), folder.join(format!("{name}.gz"))];
    let mut found = Vec::new();
    for path in candidates {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => found.push(path),
            Ok(_) => bail!("{} is not a file", path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        }
    }
    if found.len() > 1 {
        bail!("both {name} and {name}.gz exist: keep one of them");
    }
    Ok(found.pop())
}

/// Opens a file. Decompresses it if its content is gzip, whatever its name is.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = fs::File::open(path)?;
    let mut magic = Vec::new();
    (&mut file).take(2).read_to_end(&mut magic)?;
    let whole = io::Cursor::new(magic.clone()).chain(file);
    Ok(if magic == [0x1f, 0x8b] {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(256 << 10, whole)))
    } else {
        Box::new(whole)
    })
}

fn read(path: &Path) -> anyhow::Result<(PathBuf, String)> {
    let mut text = String::new();
    let read = open(path).and_then(|mut file| file.read_to_string(&mut text));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok((path.to_owned(), text))
}

fn source(file: File, path: PathBuf) -> anyhow::Result<Source> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut reader = open(&path).and_then(Reader::new).with_context(cannot_read)?;
    let names = match reader.next().with_context(cannot_read)? {
        Next::Record(record) => {
            let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
            record.iter().map(text).collect()
        }
        Next::Malformed { reason, .. } => bail!("{file}: the header line is not valid CSV: {reason}"),
        Next::End => bail!("{file} is empty: the header line `{}` is missing", file.columns().join(",")),
    };
    let header = Header::read(file, names).map_err(|problem| anyhow!("{file}: {problem}"))?;
    Ok(Source { path, header })
}
