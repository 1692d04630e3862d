//! The rejected lines that come back from `load`, as an archive.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

const REJECTS: &str = ".rejects.csv";

/// Writes the files of the archive into the folder, each as a whole or not at all, and removes those
/// of an earlier load. Returns the files that were written.
pub(super) fn unpack(input: impl Read, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut archive = tar::Archive::new(input);
    let mut written = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut parts = path.components();
        let name = match (parts.next(), parts.next()) {
            (Some(Component::Normal(name)), None) if name.to_string_lossy().ends_with(REJECTS) => name,
            _ => {
                return Err(io::Error::other(format!(
                    "the pod sent {}, which is no rejects file",
                    path.display()
                )));
            }
        };
        let target = folder.join(name);
        let part = folder.join(format!(".{}.part", name.to_string_lossy()));
        let copied = fs::File::create(&part).and_then(|mut file| io::copy(&mut entry, &mut file));
        let whole = copied.and_then(|copied| {
            if copied == entry.size() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        });
        if let Err(error) = whole.and_then(|()| fs::rename(&part, &target)) {
            drop(fs::remove_file(&part));
            return Err(error);
        }
        written.push(target);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stale = path.file_name().is_some_and(|name| is_of_load(&name.to_string_lossy()));
        if stale && !written.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(written)
}

/// Whether `load` writes rejects of this name.
fn is_of_load(name: &str) -> bool {
    ["members", "subscriptions", "grants", "adjustments", "usage"]
        .iter()
        .any(|file| name.strip_prefix(file).is_some_and(|rest| rest == ".csv.rejects.csv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn rejects_come_back_and_those_of_an_earlier_load_go() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["members.csv.rejects.csv", "members.csv", "mine.rejects.csv"] {
            fs::write(folder.path().join(name), "old").unwrap();
        }
        let bytes = archive(&[("usage.csv.rejects.csv", "line,reason\n")]);
        let written = unpack(bytes.as_slice(), folder.path()).unwrap();
        assert_eq!(written, [folder.path().join("usage.csv.rejects.csv")]);
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["members.csv", "mine.rejects.csv", "usage.csv.rejects.csv"]);
    }

    #[test]
    fn nothing_else_is_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["members.csv", "october/usage.csv.rejects.csv"] {
            let error = unpack(archive(&[(name, "x")]).as_slice(), folder.path()).unwrap_err();
            assert_eq!(error.to_string(), format!("the pod sent {name}, which is no rejects file"));
        }
        let cut = archive(&[("usage.csv.rejects.csv", &"x".repeat(600))]);
        assert!(unpack(&cut[..700], folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
