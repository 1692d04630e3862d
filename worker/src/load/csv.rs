//! Reads and writes CSV, strictly by RFC 4180: a field is quoted at both ends or not at all. Every
//! record has its line number. If a record cannot be read, only its first line is lost: reading
//! continues with the next line.

use std::io::{self, Read};
use std::ops::Range;

/// Bytes of the longest record. A longer one probably has a quote that is never closed.
const MAX_RECORD: usize = 1 << 20;
/// Bytes of one read.
const READ_SIZE: usize = 256 << 10;

/// The next thing in the file.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    Record(Record<'a>),
    /// A line that is not a record, as it is in the file.
    Malformed {
        line: u64,
        reason: &'static str,
        raw: &'a [u8],
    },
    End,
}

/// The fields of a record, without their quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) line: u64,
    data: &'a [u8],
    fields: &'a [Range<usize>],
}

impl<'a> Record<'a> {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The bytes of all fields, and of the separators between them.
    pub(crate) fn data(&self) -> &'a [u8] {
        self.data
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let data = self.data;
        self.fields.iter().map(move |field| &data[field.clone()])
    }

    pub(crate) fn range(&self, field: usize) -> Range<usize> {
        self.fields[field].clone()
    }
}

/// Reads one record after the other, and keeps only one in memory.
pub(crate) struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where the next record starts in the buffer.
    start: usize,
    at_end: bool,
    /// The line that `start` is on, from 1.
    line: u64,
    /// Quoted records without their quotes.
    unquoted: Vec<u8>,
    fields: Vec<Range<usize>>,
}

/// What kind of record it is, and where it ends.
enum Shape {
    Plain,
    Quoted { end: usize, lines: u64 },
    Malformed(&'static str),
}

impl<R: Read> Reader<R> {
    /// Reads from the start of a file; skips a byte-order mark.
    pub(crate) fn new(input: R) -> io::Result<Self> {
        let mut reader = Self {
            input,
            buffer: Vec::with_capacity(2 * READ_SIZE),
            start: 0,
            at_end: false,
            line: 1,
            unquoted: Vec::new(),
            fields: Vec::new(),
        };
        while reader.buffer.len() < 3 && reader.read_more()? {}
        if reader.buffer.starts_with(b"\xef\xbb\xbf") {
            reader.start = 3;
        }
        Ok(reader)
    }

    /// The next record; skips empty lines.
    pub(crate) fn next(&mut self) -> io::Result<Next<'_>> {
        let end = loop {
            let Some(end) = self.line_end()? else { return Ok(Next::End) };
            if self.content(end).is_empty() {
                self.start = end;
                self.line += 1;
            } else {
                break end;
            }
        };
        let line = self.line;
        let shape = if end - self.start > MAX_RECORD {
            Shape::Malformed("the line is longer than 1 MiB")
        } else if memchr::memchr(b'"', &self.buffer[self.start..end]).is_some() {
            self.quoted()?
        } else {
            Shape::Plain
        };
        let start = self.start;
        match shape {
            Shape::Plain => {
                let length = self.content(end).len();
                self.start = end;
                self.line += 1;
                let data = &self.buffer[start..start + length];
                if memchr::memchr(b'\r', data).is_some() {
                    return Ok(Next::Malformed {
                        line,
                        reason: "a carriage return outside quotes",
                        raw: data,
                    });
                }
                self.fields.clear();
                let mut from = 0;
                for comma in memchr::memchr_iter(b',', data) {
                    self.fields.push(from..comma);
                    from = comma + 1;
                }
                self.fields.push(from..length);
                Ok(Next::Record(Record { line, data, fields: &self.fields }))
            }
            Shape::Quoted { end, lines } => {
                self.start = end;
                self.line += lines;
                Ok(Next::Record(Record { line, data: &self.unquoted, fields: &self.fields }))
            }
            Shape::Malformed(reason) => {
                // Reading the quoted field may have moved the content of the buffer.
                let end = self.line_end()?.unwrap_or(self.buffer.len());
                let start = self.start;
                let length = self.content(end).len().min(MAX_RECORD);
                self.start = end;
                self.line += 1;
                Ok(Next::Malformed { line, reason, raw: &self.buffer[start..start + length] })
            }
        }
    }

    /// The line from `start` to `end`, without its line break.
    fn content(&self, end: usize) -> &[u8] {
        let line = &self.buffer[self.start..end];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// Where the line that starts at `start` ends, after its line break; none at the end of the
    /// file. Of a line that is too long, the buffer keeps only the start.
    fn line_end(&mut self) -> io::Result<Option<usize>> {
        let mut looked = 0;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[self.start + looked..]) {
                return Ok(Some(self.start + looked + found + 1));
            }
            looked = self.buffer.len() - self.start;
            if looked > 2 * MAX_RECORD {
                self.buffer.truncate(self.start + MAX_RECORD + 1);
                looked = MAX_RECORD + 1;
            }
            if !self.read_more()? {
                return Ok((self.start < self.buffer.len()).then_some(self.buffer.len()));
            }
        }
    }

    /// Moves the rest of the buffer to its front and reads more; false at the end of the file.
    /// Changes `start`.
    fn read_more(&mut self) -> io::Result<bool> {
        if self.at_end {
            return Ok(false);
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_SIZE, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.truncate(filled + read);
        self.at_end = read == 0;
        Ok(!self.at_end)
    }

    /// Reads a record with quotes, which may span several lines.
    fn quoted(&mut self) -> io::Result<Shape> {
        self.unquoted.clear();
        self.fields.clear();
        // Positions are relative to the start of the record, because reading more moves it.
        let mut at = 0;
        let mut lines = 1;
        loop {
            let field = self.unquoted.len();
            if self.byte(at)? == Some(b'"') {
                at += 1;
                loop {
                    if at > MAX_RECORD {
                        return Ok(Shape::Malformed("a quote is never closed"));
                    }
                    match self.byte(at)? {
                        None => return Ok(Shape::Malformed("a quote is never closed")),
                        Some(b'"') if self.byte(at + 1)? == Some(b'"') => {
                            self.unquoted.push(b'"');
                            at += 2;
                        }
                        Some(b'"') => break,
                        Some(byte) => {
                            lines += u64::from(byte == b'\n');
                            self.unquoted.push(byte);
                            at += 1;
                        }
                    }
                }
                at += 1;
            } else {
                while let Some(byte) = self.byte(at)? {
                    match byte {
                        b',' | b'\r' | b'\n' => break,
                        b'"' => {
                            return Ok(Shape::Malformed(
                                "a quote inside a field that does not start with one",
                            ));
                        }
                        _ => self.unquoted.push(byte),
                    }
                    at += 1;
                }
            }
            self.fields.push(field..self.unquoted.len());
            // A separator as in any other record, so that no UTF-8 character can span two fields.
            self.unquoted.push(b',');
            match (self.byte(at)?, self.byte(at + 1)?) {
                (Some(b','), _) => at += 1,
                (None, _) => return Ok(Shape::Quoted { end: self.start + at, lines }),
                (Some(b'\n'), _) => return Ok(Shape::Quoted { end: self.start + at + 1, lines }),
                (Some(b'\r'), Some(b'\n')) => return Ok(Shape::Quoted { end: self.start + at + 2, lines }),
                (Some(b'\r'), None) => return Ok(Shape::Quoted { end: self.start + at + 1, lines }),
                (Some(b'\r'), _) => return Ok(Shape::Malformed("a carriage return outside quotes")),
                (Some(_), _) => return Ok(Shape::Malformed("text after a closing quote")),
            }
        }
    }

    fn byte(&mut self, at: usize) -> io::Result<Option<u8>> {
        while self.start + at >= self.buffer.len() {
            if !self.read_more()? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer[self.start + at]))
    }
}

/// Appends a field to a line, with quotes if it needs them.
pub(crate) fn write_field(out: &mut Vec<u8>, field: &str) {
    if field.bytes().any(|b| matches!(b, b',' | b'"' | b'\r' | b'\n')) {
        out.push(b'"');
        for byte in field.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(field.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at each read, so that every position is the end of a read once.
    struct OneByteReads<'a>(&'a [u8]);

    impl Read for OneByteReads<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn collect(mut reader: Reader<impl Read>) -> Vec<(u64, Result<Vec<String>, String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut read = Vec::new();
        loop {
            match reader.next().unwrap() {
                Next::Record(record) => read.push((record.line, Ok(record.iter().map(text).collect()))),
                Next::Malformed { line, reason, raw } => {
                    read.push((line, Err(format!("{reason}: {}", text(&raw[..raw.len().min(40)])))));
                }
                Next::End => return read,
            }
        }
    }

    fn fields(line: u64, fields: &[&str]) -> (u64, Result<Vec<String>, String>) {
        (line, Ok(fields.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn records_of_the_standard_are_read() {
        let text = "\u{feff}a,b\r\n1,2\n\n\"x,\"\"y\"\"\",\"two\r\nlines\"\r\n,\n\"\",z";
        let expected = [
            fields(1, &["a", "b"]),
            fields(2, &["1", "2"]),
            fields(4, &["x,\"y\"", "two\r\nlines"]),
            fields(6, &["", ""]),
            fields(7, &["", "z"]),
        ];
        assert_eq!(collect(Reader::new(text.as_bytes()).unwrap()), expected);
        assert_eq!(collect(Reader::new(OneByteReads(text.as_bytes())).unwrap()), expected);
        assert_eq!(collect(Reader::new(&b""[..]).unwrap()), []);
    }

    #[test]
    fn a_broken_line_does_not_affect_the_lines_after_it() {
        let text = "1,\"open\n2,ok\n3,\"a\"b\n4,a\"b\n5,a\rb\n6,\"x\ry\"\n7,\"never closed\n8,last\n";
        let expected = [
            (1, Err("text after a closing quote: 1,\"open".to_owned())),
            fields(2, &["2", "ok"]),
            (3, Err("text after a closing quote: 3,\"a\"b".to_owned())),
            (4, Err("a quote inside a field that does not start with one: 4,a\"b".to_owned())),
            (5, Err("a carriage return outside quotes: 5,a\rb".to_owned())),
            fields(6, &["6", "x\ry"]),
            (7, Err("a quote is never closed: 7,\"never closed".to_owned())),
            fields(8, &["8", "last"]),
        ];
        assert_eq!(collect(Reader::new(text.as_bytes()).unwrap()), expected);
        assert_eq!(collect(Reader::new(OneByteReads(text.as_bytes())).unwrap()), expected);
    }

    #[test]
    fn an_endless_line_is_not_kept_in_memory() {
        let mut text = vec![b'x'; 5 * MAX_RECORD];
        text.extend_from_slice(b"\n1,2\n\"");
        text.extend(std::iter::repeat_n(b'y', 3 * MAX_RECORD));
        text.extend_from_slice(b"\n3,4");
        let mut reader = Reader::new(text.as_slice()).unwrap();
        let mut read = Vec::new();
        loop {
            match reader.next().unwrap() {
                Next::Record(record) => read.push((record.line, record.len().to_string())),
                Next::Malformed { line, reason, .. } => read.push((line, reason.to_owned())),
                Next::End => break,
            }
        }
        let long = "the line is longer than 1 MiB";
        let expected = [(1, long), (2, "2"), (3, long), (4, "2")].map(|(line, what)| (line, what.to_owned()));
        assert_eq!(read, expected);
        assert!(reader.buffer.capacity() < 8 * MAX_RECORD);
    }

    #[test]
    fn written_fields_can_be_read_again() {
        let fields = ["", "a", "a,b", "say \"x\"", "two\nlines", "\r"];
        let mut line = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            if at > 0 {
                line.push(b',');
            }
            write_field(&mut line, field);
        }
        line.push(b'\n');
        assert_eq!(collect(Reader::new(line.as_slice()).unwrap()), [super::tests::fields(1, &fields)]);
    }
}
