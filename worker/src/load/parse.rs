//! Reads one file from its first line to its last, on a thread of its own, while what it has read is already on its way
//! to the database.

use std::io;

use domain::zone::{MonthTable, Zone};
use store::copy::CopyRows;
use store::crypto::Keyring;
use store::load::Batch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::csv::{Next, Reader};
use super::file::{File, Lines, Sums};
use super::folder::{self, Source};
use super::rejects::{self, Rejected, Spool};
use super::report::Progress;

/// Rows of so many bytes are sent together.
const BATCH: usize = 512 << 10;
/// Lines between two looks at the rest of the world.
const LINES_AT_ONCE: u64 = 4096;

/// What is the same for every file of a load.
pub(crate) struct Context {
    pub(crate) zone: Zone,
    pub(crate) months: MonthTable,
    pub(crate) keys: Option<Keyring>,
    pub(crate) for_manifest: bool,
    pub(crate) progress: Progress,
    pub(crate) stop: CancellationToken,
}

/// A file that was read.
pub(crate) struct Parsed {
    pub(crate) sums: Sums,
    pub(crate) rejects: Spool,
}

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("interrupted")]
    Interrupted,
    /// Nobody takes the rows any more; the reason is with whoever took them.
    #[error("the staging table takes no more rows")]
    NotTaken,
    #[error("cannot read {0}")]
    Read(File, #[source] io::Error),
    #[error("cannot keep the rejects of {0} in the folder for temporary files")]
    Rejects(File, #[source] io::Error),
}

/// Reads a file. Everything it can't take goes to the rejects; the sums are of the file as a whole.
pub(crate) fn parse(
    file: File,
    source: &Source,
    context: &Context,
    batches: &mpsc::Sender<Batch>,
) -> Result<Parsed, ParseError> {
    let unreadable = |error| ParseError::Read(file, error);
    let unkept = |error| ParseError::Rejects(file, error);
    let mut reader = folder::open(&source.path).and_then(Reader::new).map_err(unreadable)?;
    // The header line was read and judged when the folder was opened.
    reader.next().map_err(unreadable)?;
    let header = &source.header;
    let Context { zone, months, keys, for_manifest, progress, stop } = context;
    let mut lines = Lines::new(file, header, zone, months, keys.as_ref(), *for_manifest);
    let mut spool = Spool::new().map_err(unkept)?;
    let mut rows = CopyRows::default();
    let mut told = 0;
    loop {
        match reader.next().map_err(unreadable)? {
            Next::End => break,
            Next::Record(record) => {
                lines.sums.rows += 1;
                if let Err(reason) = lines.take(record, &mut rows) {
                    let row = rejects::row(file, header, record.line, &reason, Rejected::Record(record));
                    spool.put(record.line, &row).map_err(unkept)?;
                }
            }
            Next::Malformed { line, reason, raw } => {
                lines.sums.rows += 1;
                let row = rejects::row(file, header, line, reason, Rejected::Line(raw));
                spool.put(line, &row).map_err(unkept)?;
            }
        }
        if rows.size() >= BATCH {
            batches.blocking_send(Batch::Rows(rows.take())).map_err(|_| ParseError::NotTaken)?;
        }
        if lines.sums.rows - told >= LINES_AT_ONCE {
            progress.add(lines.sums.rows - told);
            told = lines.sums.rows;
            if stop.is_cancelled() {
                return Err(ParseError::Interrupted);
            }
        }
    }
    batches.blocking_send(Batch::Last(rows.finish())).map_err(|_| ParseError::NotTaken)?;
    let mut sums = lines.sums;
    sums.rejects = spool.count;
    Ok(Parsed { sums, rejects: spool })
}

/// The rows of lines that were found to contradict only when they were merged: read from the file once more, in the order
/// of `conflicts`, and written together with the rejects that are known already.
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
                        "line {line} is gone: the file was changed meanwhile"
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
