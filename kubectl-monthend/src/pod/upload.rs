//! The folder that `load` sends: which files, and the archive of them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::exit::{Problem, Result};

/// What `monthend load` reads from a folder, each also with `.gz` behind it.
const KNOWN: [&str; 7] = [
    "members.csv",
    "subscriptions.csv",
    "grants.csv",
    "adjustments.csv",
    "usage.csv",
    "manifest.yaml",
    "pricebook.yaml",
];

/// The files to send, and how long they are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) bytes: u64,
}

impl Upload {
    /// # Errors
    /// The folder or one of its files cannot be read, or has nothing to load.
    pub(crate) fn find(folder: &Path) -> Result<Self> {
        let cannot_open = |error: io::Error| {
            Problem::usage(format!("cannot open the folder {}: {error}", folder.display()))
        };
        let metadata = fs::metadata(folder).map_err(cannot_open)?;
        if !metadata.is_dir() {
            let text =
                format!("{} is not a folder: give the folder that contains {}", folder.display(), KNOWN[0]);
            return Err(Problem::usage(text));
        }
        let (mut files, mut bytes) = (Vec::new(), 0);
        for name in KNOWN.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.gz")]) {
            let path = folder.join(name);
            match fs::metadata(&path) {
                Ok(file) if file.is_file() => {
                    bytes += file.len();
                    files.push(path);
                }
                Ok(_) => return Err(Problem::usage(format!("{} is not a file", path.display()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Problem::usage(format!("cannot read {}: {error}", path.display()))),
            }
        }
        if files.is_empty() {
            let text = format!("{} contains nothing to load: none of {}", folder.display(), KNOWN.join(", "));
            return Err(Problem::usage(text));
        }
        Ok(Self { files, bytes })
    }

    /// Writes the archive. Its end mark says that it is complete, so an archive that fails gets none.
    pub(super) fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(Gate { out, closed: false });
        // The pod takes plain files only.
        archive.sparse(false);
        for path in &self.files {
            let name = path.file_name().unwrap_or_default();
            if let Err(error) = File::open(path).and_then(|mut file| archive.append_file(name, &mut file)) {
                // The archive writes the mark when it is dropped.
                archive.get_mut().closed = true;
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
        }
        archive.into_inner()?.flush()
    }
}

/// A writer that takes nothing once it is closed.
struct Gate<W> {
    out: W,
    closed: bool,
}

impl<W: Write> Write for Gate<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed { Err(io::ErrorKind::BrokenPipe.into()) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_files_are_sent() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("members.csv", "12345"),
            ("usage.csv.gz", "123"),
            ("members.csv.rejects.csv", "x"),
            ("secrets.txt", "x"),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let upload = Upload::find(folder.path()).unwrap();
        assert_eq!(upload.bytes, 8);
        let mut bytes = Vec::new();
        upload.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["members.csv", "usage.csv.gz"]);
    }

    #[test]
    fn a_file_with_holes_is_sent_as_a_plain_file() {
        let folder = tempfile::tempdir().unwrap();
        File::create(folder.path().join("usage.csv")).unwrap().set_len(1 << 20).unwrap();
        let mut bytes = Vec::new();
        Upload::find(folder.path()).unwrap().write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert!(entry.header().entry_type().is_file(), "{:?}", entry.header().entry_type());
        assert_eq!(entry.size(), 1 << 20);
    }

    #[test]
    fn an_archive_that_fails_has_no_end_mark() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["members.csv", "usage.csv"] {
            fs::write(folder.path().join(name), "12345").unwrap();
        }
        let upload = Upload::find(folder.path()).unwrap();
        fs::remove_file(folder.path().join("usage.csv")).unwrap();
        let mut bytes = Vec::new();
        let error = upload.write(&mut bytes).unwrap_err();
        assert!(error.to_string().contains("usage.csv: No such file"), "{error}");
        // The header and the content of the first file, and nothing else.
        assert_eq!(bytes.len(), 1024);
    }

    #[test]
    fn a_folder_without_anything_to_load_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        assert_eq!(
            Upload::find(folder.path()),
            Err(Problem::usage(format!(
                "{path} contains nothing to load: none of members.csv, subscriptions.csv, grants.csv, \
                 adjustments.csv, usage.csv, manifest.yaml, pricebook.yaml"
            )))
        );
        let missing = folder.path().join("missing");
        assert_eq!(
            Upload::find(&missing),
            Err(Problem::usage(format!(
                "cannot open the folder {path}/missing: No such file or directory (os error 2)"
            )))
        );
        let file = folder.path().join("members.csv");
        fs::write(&file, "x").unwrap();
        assert_eq!(
            Upload::find(&file),
            Err(Problem::usage(format!(
                "{path}/members.csv is not a folder: give the folder that contains members.csv"
            )))
        );
    }
}
