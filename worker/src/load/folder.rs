//! The folder to load: finds and opens its files, and checks their form and their header lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use flate2::read::MultiGzDecoder;

use super::csv::{Next, Reader};
use super::file::{File, Header};
use super::recognition::{Form, recognize, recognize_text};

const MANIFEST: &str = "manifest.yaml";
const PRICE_BOOK: &str = "pricebook.yaml";

/// A file whose header line is correct.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// Whether some lines are CP949 in a file that is UTF-8.
    pub(crate) some_cp949: bool,
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
            |name| match find(path, name).and_then(|found| found.map(|path| read(&path, name)).transpose()) {
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
    let (content, _) = open_any(path)?;
    Ok(content)
}

/// Opens a file; also says whether it is compressed.
fn open_any(path: &Path) -> io::Result<(Box<dyn Read + Send>, bool)> {
    let mut file = fs::File::open(path)?;
    let mut magic = Vec::new();
    (&mut file).take(2).read_to_end(&mut magic)?;
    let compressed = magic == [0x1f, 0x8b];
    let whole = io::Cursor::new(magic).chain(file);
    Ok(if compressed {
        (Box::new(MultiGzDecoder::new(BufReader::with_capacity(256 << 10, whole))), true)
    } else {
        (Box::new(whole), false)
    })
}

/// Reads a file of YAML.
fn read(path: &Path, name: &str) -> anyhow::Result<(PathBuf, String)> {
    let cannot_read = || format!("cannot read {}", path.display());
    let (mut file, compressed) = open_any(path).with_context(cannot_read)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(cannot_read)?;
    if let Some(foreign) = recognize_text(&bytes) {
        bail!(foreign.problem(name, path, compressed));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        anyhow!("{name} is not UTF-8 on line {}", 1 + memchr::memchr_iter(b'\n', valid).count())
    })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok((path.to_owned(), text))
}

fn source(file: File, path: PathBuf) -> anyhow::Result<Source> {
    let cannot_read = || format!("cannot read {}", path.display());
    let (content, compressed) = open_any(&path).with_context(cannot_read)?;
    let some_cp949 = match recognize(file, content).with_context(cannot_read)? {
        Form::Foreign(foreign) => bail!(foreign.problem(file, &path, compressed)),
        Form::Utf8 { some_cp949 } => some_cp949,
    };
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
    Ok(Source { path, header, some_cp949 })
}
