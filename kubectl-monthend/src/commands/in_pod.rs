//! The commands that run in a pod, as `monthend` has them.

use std::path::Path;

use super::{Folders, Session};
use crate::args::{Explain, Late, Load, Log, Output, PodTime, Verify};
use crate::exit::{Problem, Result};
use crate::output::note;
use crate::pod::upload::Upload;
use crate::pod::{self, Printed};

impl Session<'_> {
    pub(super) async fn log(&self, log: &Log) -> Result {
        let mut args = vec!["log".to_owned()];
        args.extend(log.of.month.map(|month| month.to_string()));
        args.extend(log.limit.map(|limit| format!("--limit={limit}")));
        self.in_pod(&args, &log.time).await
    }

    pub(super) async fn explain(&self, explain: &Explain) -> Result {
        let mut args = vec!["explain".to_owned(), explain.member.to_string(), explain.of.month.to_string()];
        args.extend(explain.revision.map(|revision| format!("--revision={revision}")));
        args.extend(explain.usage.then(|| "--usage".to_owned()));
        self.in_pod(&args, &explain.time).await
    }

    pub(super) async fn late(&self, late: &Late) -> Result {
        self.in_pod(&["late".to_owned(), late.of.month.to_string()], &late.time).await
    }

    pub(super) async fn verify(&self, verify: &Verify) -> Result {
        let mut args = vec!["verify".to_owned(), format!("--month={}", verify.of.month)];
        if verify.replay {
            args.push("--replay".to_owned());
        }
        pod::run(&self.cluster, self.release(), &args, verify.time.timeout, Printed::Shown).await
    }

    pub(super) async fn load(&self, load: &Load) -> Result {
        let (upload, rejects) = check_folders(&load.folder, load.rejects_dir.as_deref())?;
        note(&format!(
            "sending {} files, {} bytes",
            upload.files.len(),
            crate::render::grouped(upload.bytes)
        ));
        pod::load(&self.cluster, self.release(), upload, rejects, load.time.timeout).await
    }

    /// Runs the sub-command, with the format that was asked for.
    pub(super) async fn in_pod(&self, args: &[String], time: &PodTime) -> Result {
        let mut args = args.to_vec();
        args.extend(format_option(self.output())?);
        pod::run(&self.cluster, self.release(), &args, time.timeout, Printed::Shown).await
    }
}

/// The option of `monthend` for this format.
fn format_option(output: Output) -> Result<Option<String>> {
    match output {
        Output::Table => Ok(None),
        Output::Json => Ok(Some("-o=json".to_owned())),
        Output::Yaml | Output::Name => {
            Err(Problem::usage("a command in a pod prints as table or json: choose one of them with -o"))
        }
    }
}

/// The files to send, and where their rejects go.
pub(super) fn check_folders<'a>(folder: &'a Path, rejects: Option<&'a Path>) -> Result<Folders<'a>> {
    let upload = Upload::find(folder)?;
    let rejects = rejects.unwrap_or(folder);
    // As `monthend load` does: a missing last part is created.
    if !rejects.is_dir() && std::fs::create_dir(rejects).is_err() {
        return Err(Problem::usage(format!("--rejects-dir {} is not a folder", rejects.display())));
    }
    Ok((upload, rejects))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_prints_what_monthend_prints() {
        assert_eq!(format_option(Output::Table), Ok(None));
        assert_eq!(format_option(Output::Json), Ok(Some("-o=json".to_owned())));
        for output in [Output::Yaml, Output::Name] {
            assert_eq!(
                format_option(output),
                Err(Problem::usage("a command in a pod prints as table or json: choose one of them with -o"))
            );
        }
    }

    #[test]
    fn the_rejects_need_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("members.csv"), "x").unwrap();
        assert_eq!(check_folders(folder.path(), None).unwrap().1, folder.path());
        let rejects = folder.path().join("rejects");
        assert_eq!(check_folders(folder.path(), Some(&rejects)).unwrap().1, rejects);
        assert!(rejects.is_dir());
        let missing = folder.path().join("missing/rejects");
        assert_eq!(
            check_folders(folder.path(), Some(&missing)).unwrap_err(),
            Problem::usage(format!("--rejects-dir {} is not a folder", missing.display()))
        );
    }
}
