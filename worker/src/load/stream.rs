//! `monthend load -`: a folder as a tar archive on standard input, and its rejects as a tar archive
//! on standard output. Owns both archives; what is loaded, and how, is the same as for a folder.
//!
//! Nothing is loaded of an archive that ends early, as when the connection to the pod breaks.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::load_folder;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;
use crate::output::Lines;

/// The folder that stands for standard input and output.
pub(super) const STREAM: &str = "-";
const REJECTS: &str = ".rejects.csv";

/// Loads the folder that standard input brings. What the command prints for people goes to standard
/// error.
pub(super) async fn load(global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
    if io::stdin().is_terminal() || io::stdout().is_terminal() {
        let usage = anyhow!(
            "`load -` reads a tar archive and writes one: monthend load - < FOLDER.tar > REJECTS.tar"
        );
        return Err(CommandError::usage(usage));
    }
    let folders = tempfile::Builder::new().prefix("load-").tempdir();
    let folders = folders.context("cannot create a folder for the files").or_exit(ExitStatus::Failed)?;
    let (files, rejects) = (folders.path().join("files"), folders.path().join("rejects"));
    for folder in [&files, &rejects] {
        let created = fs::create_dir(folder);
        created.with_context(|| format!("cannot create {}", folder.display())).or_exit(ExitStatus::Failed)?;
    }
    receive_all(&folders, &files, stop).await?;
    let done = load_folder(&files, Some(&rejects), Lines::ToStderr, global, stop).await;
    let sent = tokio::task::spawn_blocking(move || send(&rejects, io::stdout().lock())).await;
    if let Err(error) = sent.map_err(io::Error::other).flatten() {
        // What is loaded stays loaded. The same files again give the same rejects.
        tracing::warn!("nobody reads the rejected lines; load the same files again to get them: {error}");
    }
    done
}

async fn receive_all(folders: &TempDir, files: &Path, stop: &CancellationToken) -> CommandResult<()> {
    let files = files.to_owned();
    let receiving = tokio::task::spawn_blocking(move || receive(io::stdin().lock(), &files));
    let received = tokio::select! {
        received = receiving => received.context("reading standard input ended unexpectedly"),
        () = stop.cancelled() => {
            // The reading thread can block on its input without end.
            drop(fs::remove_dir_all(folders.path()));
            std::process::exit(i32::from(ExitStatus::TryAgain.code()));
        }
    };
    received.or_exit(ExitStatus::Failed)??;
    Ok(())
}

/// Writes the files of the archive into the folder.
///
/// # Errors
/// The archive ends before its end mark (`TryAgain`), or has anything but plain files in one folder
/// (`Usage`).
fn receive(input: impl Read, folder: &Path) -> CommandResult<()> {
    let mut input = Ending { input, ended: false };
    let mut archive = tar::Archive::new(&mut input);
    let mut files = 0_u32;
    let mut bytes = 0;
    for entry in archive.entries().map_err(incomplete)? {
        let mut entry = entry.map_err(incomplete)?;
        let path = entry.path().map_err(incomplete)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let name = plain_name(&path).filter(|_| kind.is_file());
        let name = name.ok_or_else(|| {
            let path = path.display();
            CommandError::usage(anyhow!("the archive has {path}: it may have plain files of one folder only"))
        })?;
        let target = folder.join(name);
        let cannot_write = || format!("cannot write {}: is there enough space for it?", target.display());
        let mut file = File::create_new(&target).with_context(cannot_write).or_exit(ExitStatus::Failed)?;
        let copied = copy(&mut entry, &mut file).map_err(|error| match error {
            Copied::Reading(error) => incomplete(error),
            Copied::Writing(error) => {
                CommandError::new(ExitStatus::Failed, anyhow::Error::new(error).context(cannot_write()))
            }
        })?;
        if copied != entry.size() {
            return Err(incomplete(io::ErrorKind::UnexpectedEof.into()));
        }
        files += 1;
        bytes += copied;
    }
    if input.ended {
        return Err(incomplete(io::ErrorKind::UnexpectedEof.into()));
    }
    // What tar pads the archive with, so that its writer does not fail.
    io::copy(&mut input, &mut io::sink()).map_err(incomplete)?;
    tracing::info!(files, bytes, "received");
    Ok(())
}

fn incomplete(error: io::Error) -> CommandError {
    let text = "the archive on standard input is incomplete, nothing was loaded: send it again";
    CommandError::new(ExitStatus::TryAgain, anyhow::Error::new(error).context(text))
}

/// The name of a file that lies in no folder, also as `./NAME`.
fn plain_name(path: &Path) -> Option<PathBuf> {
    let mut names = path.components().filter(|part| !matches!(part, Component::CurDir));
    match (names.next(), names.next()) {
        (Some(Component::Normal(name)), None) => Some(name.into()),
        _ => None,
    }
}

/// Which side of a copy failed.
enum Copied {
    Reading(io::Error),
    Writing(io::Error),
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<u64, Copied> {
    let mut buffer = vec![0; 256 << 10];
    let mut copied = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Copied::Reading(error)),
        };
        to.write_all(&buffer[..read]).map_err(Copied::Writing)?;
        copied += read as u64;
    }
}

/// A reader that knows whether its end was read. An archive ends with a mark before that.
struct Ending<R> {
    input: R,
    ended: bool,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

/// Writes the folder's rejects as an archive, which is empty if there are none.
fn send(folder: &Path, out: impl Write) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_string_lossy().ends_with(REJECTS) {
            names.push(name);
        }
    }
    names.sort();
    let mut archive = tar::Builder::new(out);
    archive.sparse(false);
    for name in names {
        archive.append_path_with_name(folder.join(&name), &name)?;
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn received(bytes: &[u8]) -> Result<Vec<(String, usize)>, (ExitStatus, String)> {
        let folder = tempfile::tempdir().unwrap();
        receive(bytes, folder.path()).map_err(|error| (error.status, format!("{:#}", error.error)))?;
        let mut files: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let length = fs::read(entry.path()).unwrap().len();
                (entry.file_name().into_string().unwrap(), length)
            })
            .collect();
        files.sort();
        Ok(files)
    }

    #[test]
    fn every_file_of_a_complete_archive_is_received() {
        let usage = vec![b'x'; 2000];
        let whole = archive(&[("./members.csv", b"a"), ("usage.csv.gz", &usage)]);
        let files = [("members.csv".to_owned(), 1), ("usage.csv.gz".to_owned(), 2000)];
        assert_eq!(received(&whole).unwrap(), files);
        // Other programs pad their archives.
        let padded = [whole, vec![0; 9216]].concat();
        assert_eq!(received(&padded).unwrap(), files);
        assert_eq!(received(&archive(&[])).unwrap(), []);
    }

    #[test]
    fn an_archive_that_ends_early_is_refused_wherever_it_was_cut() {
        let whole = archive(&[("members.csv", b"member_id\n1\n"), ("usage.csv", &[b'x'; 700])]);
        // The end mark is two empty blocks; one is enough to know that all files were before it.
        for length in 0..whole.len() - 1023 {
            let (status, text) = received(&whole[..length]).unwrap_err();
            assert_eq!(status, ExitStatus::TryAgain, "{length} bytes: {text}");
            assert!(
                text.starts_with("the archive on standard input is incomplete, nothing was loaded"),
                "{text}"
            );
        }
    }

    #[test]
    fn only_plain_files_of_one_folder_are_received() {
        for path in ["october/members.csv", "../members.csv"] {
            // The builder refuses `..`, so the name is written into the header.
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(0);
            header.set_cksum();
            let mut bytes = header.as_bytes().to_vec();
            bytes.extend([0; 1024]);
            let (status, text) = received(&bytes).unwrap_err();
            assert_eq!(status, ExitStatus::Usage, "{path}");
            assert_eq!(text, format!("the archive has {path}: it may have plain files of one folder only"));
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_path("members.csv").unwrap();
        link.set_link_name("/etc/passwd").unwrap();
        link.set_size(0);
        link.set_cksum();
        let bytes = [link.as_bytes().to_vec(), vec![0; 1024]].concat();
        assert_eq!(received(&bytes).unwrap_err().0, ExitStatus::Usage);
    }

    #[test]
    fn the_archive_of_rejects_has_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("usage.csv.rejects.csv", "line\n"), ("usage.csv", "usage_id\n")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut out = Vec::new();
        send(folder.path(), &mut out).unwrap();
        assert_eq!(received(&out).unwrap(), [("usage.csv.rejects.csv".to_owned(), 5)]);
    }
}
