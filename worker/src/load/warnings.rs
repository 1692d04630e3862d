//! Warnings: lines that are loaded, but not with everything that they say. They are logged, up to
//! a number, and written to `FILE.warnings.csv`. They name the line and the member, and quote
//! nothing.

use std::io::{self, Write};
use std::path::Path;

use super::file::File;
use super::rejects::{self, Spool};

/// Warnings that are logged for a file.
const LOGGED: usize = 10;

/// The warnings of one file.
pub(crate) struct Warnings {
    pub(crate) count: u64,
    first: Vec<(u64, &'static str)>,
    /// None if the folder cannot be written to: warnings do not stop a load.
    spool: Option<Spool>,
}

impl Warnings {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { count: 0, first: Vec::new(), spool: Some(Spool::new(folder)) }
    }

    pub(crate) fn put(&mut self, line: u64, member: i64, warning: &'static str) {
        self.count += 1;
        if self.first.len() < LOGGED {
            self.first.push((line, warning));
        }
        if let Some(spool) = &mut self.spool
            && spool.put(line, format!("{line},{member},{warning}\n").as_bytes()).is_err()
        {
            self.spool = None;
        }
    }

    /// Logs the first warnings, and writes all of them to a file if the folder can be written to.
    pub(crate) fn report(self, folder: &Path, file: File) {
        let path = rejects::file_path(folder, file, "warnings");
        if self.count == 0 {
            rejects::remove_stale(&path).unwrap_or_else(|error| rejects::warn_of_stale(&path, &error));
            return;
        }
        for (line, warning) in &self.first {
            tracing::warn!(file = file.name(), line, "{warning}");
        }
        let place = match self.spool.map(|spool| write(&path, spool)) {
            Some(Ok(())) => format!("all of them are in {}", path.display()),
            Some(Err(_)) | None => format!(
                "{} cannot be written: name a folder with --rejects-dir to have all of them in a file",
                path.display()
            ),
        };
        let more = self.count - self.first.len() as u64;
        tracing::warn!(file = file.name(), warnings = self.count, "{more} more warnings; {place}");
    }
}

fn write(path: &Path, spool: Spool) -> io::Result<()> {
    rejects::write_file(path, b"line,member_id,warning\n", |out: &mut dyn Write| {
        let mut rows = spool.read()?;
        while let Some((_, row)) = rows.next()? {
            out.write_all(&row)?;
        }
        Ok(())
    })
}
