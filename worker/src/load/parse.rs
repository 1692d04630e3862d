//! Reads one file from its first line to its last, on a thread of its own, and sends the rows to
//! the database in batches while it reads.

use std::io;
use std::path::PathBuf;

use domain::zone::{MonthTable, Zone};
use store::copy::CopyRows;
use store::crypto::Keyring;
use store::load::Batch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::csv::{Next, Reader};
use super::file::{File, LineConverter, Sums};
use super::folder::{self, Source};
use super::progress::Progress;
use super::recognition::is_cp949_by_accident;
use super::rejects::{self, Rejected, Spool};
use super::warnings::Warnings;

/// Bytes of rows in a batch.
const BATCH_BYTES: usize = 512 << 10;
/// Lines between two progress reports and checks for a stop.
const REPORT_EVERY: u64 = 4096;

/// What is the same for every file of a load.
pub(crate) struct Context {
    pub(crate) zone: Zone,
    pub(crate) months: MonthTable,
    pub(crate) keys: Option<Keyring>,
    pub(crate) for_manifest: bool,
    pub(crate) rejects_dir: PathBuf,
    pub(crate) progress: Progress,
    pub(crate) stop: CancellationToken,
}

/// A file that was read.
pub(crate) struct Parsed {
    pub(crate) sums: Sums,
    pub(crate) rejects: Spool,
    pub(crate) warnings: Warnings,
}

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("interrupted")]
    Interrupted,
    /// The receiver of the rows has failed, and reports its own error.
    #[error("the staging table accepts no more rows")]
    ReceiverClosed,
    #[error("cannot read {0}")]
    Read(File, #[source] io::Error),
    #[error(
        "cannot write the rejects of {0} to {path}: name a folder that can be written to with --rejects-dir; \
         nothing was loaded", path = .1.display()
    )]
    Rejects(File, PathBuf, #[source] io::Error),
}

/// Reads a file. Lines with an error become rejects; the sums include them.
///
/// # Errors
/// See [`ParseError`].
pub(crate) fn parse(
    file: File,
    source: &Source,
    context: &Context,
    batches: &mpsc::Sender<Batch>,
) -> Result<Parsed, ParseError> {
    let cannot_read = |error| ParseError::Read(file, error);
    let Context { zone, months, keys, for_manifest, rejects_dir, progress, stop } = context;
    let cannot_spool = |error| ParseError::Rejects(file, rejects_dir.clone(), error);
    let mut reader = folder::open(&source.path).and_then(Reader::new).map_err(cannot_read)?;
    // The header line was checked when the folder was opened.
    reader.next().map_err(cannot_read)?;
    let header = &source.header;
    let mut lines = LineConverter::new(file, header, zone, months, keys.as_ref(), *for_manifest);
    let mut spool = Spool::new(rejects_dir);
    let mut warnings = Warnings::new(rejects_dir);
    let mut rows = CopyRows::default();
    let mut reported = 0;
    loop {
        match reader.next().map_err(cannot_read)? {
            Next::End => break,
            Next::Record(record) => {
                lines.sums.rows += 1;
                let converted = if source.some_cp949 && is_cp949_by_accident(record.data()) {
                    Err("CP949, not UTF-8".into())
                } else {
                    lines.convert(record, &mut rows)
                };
                for (member, warning) in lines.warnings.drain(..) {
                    warnings.put(record.line, member, warning);
                }
                if let Err(reason) = converted {
                    let row = rejects::row(file, header, record.line, &reason, Rejected::Record(record));
                    spool.put(record.line, &row).map_err(cannot_spool)?;
                }
            }
            Next::Malformed { line, reason, raw } => {
                lines.sums.rows += 1;
                let row = rejects::row(file, header, line, reason, Rejected::Line(raw));
                spool.put(line, &row).map_err(cannot_spool)?;
            }
        }
        if rows.size() >= BATCH_BYTES {
            batches.blocking_send(Batch::Rows(rows.take())).map_err(|_| ParseError::ReceiverClosed)?;
        }
        if lines.sums.rows - reported >= REPORT_EVERY {
            progress.add(lines.sums.rows - reported);
            reported = lines.sums.rows;
            if stop.is_cancelled() {
                return Err(ParseError::Interrupted);
            }
        }
    }
    batches.blocking_send(Batch::Last(rows.finish())).map_err(|_| ParseError::ReceiverClosed)?;
    let mut sums = lines.sums;
    sums.rejects = spool.count;
    Ok(Parsed { sums, rejects: spool, warnings })
}

/// Writes the rejects of a file in the order of its lines. Lines that only the merge found to
/// conflict are read from the file again, in the order of `conflicts`; `known` are the rejects from
/// reading it.
///
/// # Errors
/// A file cannot be read or written, or the loaded file has changed since it was read.
pub(crate) fn write_rejects(
    file: File,
    source: &Source,
    known: Spool,
    conflicts: Option<Spool>,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut known = known.read()?;
    let mut next_known = known.next()?;
    let mut before = |line: u64, out: &mut dyn io::Write| -> io::Result<()> {
        while let Some((_, row)) = next_known.take_if(|(known, _)| *known < line) {
            out.write_all(&row)?;
            next_known = known.next()?;
        }
        Ok(())
    };
    if let Some(conflicts) = conflicts.filter(|conflicts| conflicts.count > 0) {
        let mut conflicts = conflicts.read()?;
        let mut wanted = conflicts.next()?;
        let mut reader = folder::open(&source.path).and_then(Reader::new)?;
        while let Some((line, reason)) = &wanted {
            match reader.next()? {
                Next::End => {
                    return Err(io::Error::other(format!(
                        "line {line} does not exist any more: the file has changed since it was read"
                    )));
                }
                Next::Record(record) if record.line == *line => {
                    before(*line, out)?;
                    let reason = String::from_utf8_lossy(reason);
                    out.write_all(&rejects::row(
                        file,
                        &source.header,
                        *line,
                        &reason,
                        Rejected::Record(record),
                    ))?;
                    wanted = conflicts.next()?;
                }
                Next::Record(_) | Next::Malformed { .. } => {}
            }
        }
    }
    before(u64::MAX, out)
}
