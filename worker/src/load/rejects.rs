//! Rejected lines: kept in a spool file while a file is read, and written to `FILE.rejects.csv` at
//! the end. Personal data is masked before it is written to either. Nothing is created before the
//! first reject, so that a folder without rejects can be read-only.

use std::fs::{self, Permissions};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use logging::masking::{mask_email, mask_phone, mask_text};

use super::csv::{Record, write_field};
use super::file::{File, Header};

/// The columns of a rejects file before those of the rejected line.
const OWN_COLUMNS: [&str; 2] = ["line", "reason"];
/// What replaces personal data.
const MASK: &str = "***";

/// A rejected line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rejected<'a> {
    Record(Record<'a>),
    /// A line that could not be split into fields.
    Line(&'a [u8]),
}

/// The rejects of one file in the order of its lines, in an unnamed temporary file that disappears
/// with the process. It is created with the first line, in the folder of the rejects, which is
/// created as well if it is missing: if that cannot be written to, the first reject fails.
pub(crate) struct Spool {
    folder: PathBuf,
    out: Option<BufWriter<fs::File>>,
    pub(crate) count: u64,
}

impl Spool {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), out: None, count: 0 }
    }

    /// Appends a line; lines must come in the file's order.
    pub(crate) fn put(&mut self, line: u64, row: &[u8]) -> io::Result<()> {
        let out = match &mut self.out {
            Some(out) => out,
            None => {
                if !self.folder.is_dir() {
                    fs::create_dir(&self.folder)?;
                }
                self.out.insert(BufWriter::new(tempfile::tempfile_in(&self.folder)?))
            }
        };
        self.count += 1;
        out.write_all(&line.to_be_bytes())?;
        out.write_all(&u32::try_from(row.len()).map_err(io::Error::other)?.to_be_bytes())?;
        out.write_all(row)
    }

    /// Reads the lines from the first one.
    pub(crate) fn read(self) -> io::Result<SpoolReader> {
        let Some(out) = self.out else { return Ok(SpoolReader { input: None }) };
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(SpoolReader { input: Some(BufReader::new(file)) })
    }
}

pub(crate) struct SpoolReader {
    /// None if the spool has no line.
    input: Option<BufReader<fs::File>>,
}

impl SpoolReader {
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        let Some(input) = &mut self.input else { return Ok(None) };
        let mut line = [0; 8];
        match input.read_exact(&mut line) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let mut row = vec![0; usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?];
        input.read_exact(&mut row)?;
        Ok(Some((u64::from_be_bytes(line), row)))
    }
}

/// The path of the rejects or warnings of a file.
pub(crate) fn file_path(folder: &Path, file: File, what: &str) -> PathBuf {
    folder.join(format!("{file}.{what}.csv"))
}

/// Deletes a file of an earlier load, if there is one. Does not try to delete what does not exist:
/// a file system that is mounted read-only refuses that, too.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    if !path.try_exists()? {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file of an earlier load is no reason to refuse a load that has nothing to write.
pub(crate) fn warn_of_stale(path: &Path, error: &io::Error) {
    tracing::warn!("{} is of an earlier load, and cannot be deleted: {error}", path.display());
}

/// Writes a rejects file.
pub(crate) fn write(
    folder: &Path,
    file: File,
    header: &Header,
    rows: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = OWN_COLUMNS.join(",").into_bytes();
    for name in &header.names {
        line.push(b',');
        if OWN_COLUMNS.contains(&name.as_str()) {
            // Two columns of the same name could not be told apart.
            line.extend_from_slice(b"file_");
        }
        write_field(&mut line, name);
    }
    line.push(b'\n');
    write_file(&file_path(folder, file, "rejects"), &line, rows)
}

/// Writes a file. It appears under its name when `rows` has written all of its rows.
pub(crate) fn write_file(
    path: &Path,
    header: &[u8],
    rows: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let readable = Permissions::from_mode(0o644);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut out = BufWriter::new(tempfile::Builder::new().permissions(readable).tempfile_in(folder)?);
    out.write_all(header)?;
    rows(&mut out)?;
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.as_file().sync_all()?;
    out.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// One line of a rejects file.
pub(crate) fn row(file: File, header: &Header, line: u64, reason: &str, rejected: Rejected<'_>) -> Vec<u8> {
    let mut out = line.to_string().into_bytes();
    out.push(b',');
    write_field(&mut out, &mask_text(reason));
    for field in masked(file, header, rejected) {
        out.push(b',');
        write_field(&mut out, &field);
    }
    out.push(b'\n');
    out
}

/// The line's fields with personal data masked; as many as the file has columns.
fn masked(file: File, header: &Header, rejected: Rejected<'_>) -> Vec<String> {
    let columns = header.names.len();
    let fields: Vec<&[u8]> = match rejected {
        Rejected::Record(record) => record.iter().collect(),
        Rejected::Line(line) => line.split(|b| *b == b',').collect(),
    };
    let aligned = matches!(rejected, Rejected::Record(_)) && fields.len() == columns;
    let text = |field: &[u8]| String::from_utf8_lossy(field).replace('\0', "\u{fffd}");
    if aligned {
        return header
            .names
            .iter()
            .zip(fields)
            .map(|(column, field)| mask(file, column, &text(field)))
            .collect();
    }
    // Surplus fields go to the last column. In members.csv, any of the fields may be the name.
    let mut fields: Vec<Vec<u8>> = fields.into_iter().map(<[u8]>::to_vec).collect();
    if fields.len() > columns {
        let surplus = fields.split_off(columns - 1).join(&b","[..]);
        fields.push(surplus);
    }
    fields.resize(columns, Vec::new());
    let show = |field: &Vec<u8>| {
        if file == File::Members { mask_unknown(&text(field)) } else { mask_text(&text(field)).into_owned() }
    };
    fields.iter().map(show).collect()
}

fn mask(file: File, column: &str, field: &str) -> String {
    match (file, column) {
        (File::Members, "name") => match field.chars().next() {
            Some(first) => format!("{first}{MASK}"),
            None => String::new(),
        },
        (File::Members, "email") if field.contains('@') => mask_email(field),
        (File::Members, "phone") if field.bytes().any(|b| b.is_ascii_digit()) => mask_phone(field),
        (File::Members, "member_id") if field.bytes().all(|b| b.is_ascii_digit()) => field.to_owned(),
        (File::Members, _) => mask_unknown(field),
        // In a line that is shifted by a column, any field can have personal data.
        _ => mask_text(field).into_owned(),
    }
}

/// A field of members.csv that may be anything: only what cannot be personal data is shown.
fn mask_unknown(field: &str) -> String {
    let locale = ["", "ko", "en"].contains(&field);
    let id = field.len() <= 8 && field.bytes().all(|b| b.is_ascii_digit());
    if locale || id { field.to_owned() } else { MASK.to_owned() }
}
