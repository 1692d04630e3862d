//! Recognises a file that people have in another form than the one that is loaded: in UTF-16 or
//! CP949, or with another separator than commas. Names the command that converts it. Never quotes
//! content.

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use super::file::File;
use crate::output::shell_word;

/// Bytes from the start of a file that show UTF-16 and the separator.
const START: u64 = 64 << 10;
/// A longer line is judged in pieces.
const MAX_LINE: u64 = 1 << 20;
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
/// Separators that spreadsheets and databases write instead of a comma, and their names.
const SEPARATORS: [(u8, &str, &str); 3] =
    [(b';', "semicolons", "\";\""), (b'\t', "tabs", "\"\\t\""), (b'|', "vertical bars", "\"|\"")];

/// What is wrong with a file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// The encoding's name for `iconv`.
    Wide(&'static str),
    /// The first line that shows it.
    Cp949 { line: u64 },
    /// The separator's name, and Python's literal of it.
    Separator(&'static str, &'static str),
}

impl Foreign {
    /// What is wrong with the file, and the command that converts it.
    pub(crate) fn problem(self, name: impl std::fmt::Display, path: &Path, compressed: bool) -> String {
        let source = shell_word(path);
        let convert = |command: &str| match compressed {
            true => format!("gzip -dc {source} | {command} > {name}.new"),
            false => format!("{command} < {source} > {name}.new"),
        };
        let (what, command) = match self {
            Self::Wide(encoding) => {
                (format!("is in {encoding}, not UTF-8"), format!("iconv -f {encoding} -t UTF-8"))
            }
            Self::Cp949 { line } => (
                format!("is in CP949 (EUC-KR), not UTF-8, as line {line} shows"),
                "iconv -f CP949 -t UTF-8".to_owned(),
            ),
            // Replacing the separator alone would break fields that contain a comma.
            Self::Separator(separator, literal) => (
                format!("has its fields separated by {separator}, not by commas"),
                format!(
                    "python3 -c 'import csv,sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter={literal}))'"
                ),
            ),
        };
        format!("{name} {what}: convert it with `{}`, and load the result as {name}", convert(&command))
    }
}

/// What a whole file showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Foreign(Foreign),
    /// UTF-8, as far as it can be told.
    Utf8 {
        /// Whether some lines are CP949. They cannot all be told from UTF-8 by their bytes alone:
        /// [`is_cp949_by_accident`] finds the others.
        some_cp949: bool,
    },
}

/// Judges a file. Usage has no free text, so that its start is enough; every other file is read to
/// its end.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn recognize(file: File, mut input: impl Read) -> io::Result<Form> {
    let mut start = Vec::new();
    (&mut input).take(START).read_to_end(&mut start)?;
    if let Some(foreign) = wide_encoding(&start).or_else(|| other_separator(file, &start)) {
        return Ok(Form::Foreign(foreign));
    }
    if file == File::Usage || start.starts_with(UTF8_MARK) {
        return Ok(Form::Utf8 { some_cp949: false });
    }
    let mut input = BufReader::with_capacity(256 << 10, start.chain(input));
    let mut evidence = Evidence::default();
    let mut line = Vec::new();
    let mut number = 1;
    while (&mut input).take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        evidence.add(number, &line);
        number += u64::from(line.ends_with(b"\n"));
        line.clear();
    }
    Ok(evidence.form())
}

/// Judges a small file that is in memory.
pub(crate) fn recognize_text(bytes: &[u8]) -> Option<Foreign> {
    if let Some(wide) = wide_encoding(bytes) {
        return Some(wide);
    }
    if bytes.starts_with(UTF8_MARK) {
        return None;
    }
    let mut evidence = Evidence::default();
    for (line, number) in bytes.split(|b| *b == b'\n').zip(1..) {
        evidence.add(number, line);
    }
    match evidence.form() {
        Form::Foreign(foreign) => Some(foreign),
        Form::Utf8 { .. } => None,
    }
}

/// UTF-16 or UTF-32 by its byte-order mark, or UTF-16 by the zero bytes of its ASCII characters.
fn wide_encoding(start: &[u8]) -> Option<Foreign> {
    let encoding = match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        _ => {
            let start = &start[..start.len().min(4096)];
            let zeros = |offset: usize| start.iter().skip(offset).step_by(2).filter(|b| **b == 0).count();
            let (units, even, odd) = (start.len() / 2, zeros(0), zeros(1));
            let many = |count: usize| count * 5 > units;
            let few = |count: usize| count * 50 <= units;
            match () {
                () if many(odd) && few(even) => "UTF-16LE",
                () if many(even) && few(odd) => "UTF-16BE",
                () => return None,
            }
        }
    };
    Some(Foreign::Wide(encoding))
}

/// Another separator, if the first line has no comma, and if it names a column of the file when it
/// is split there, or says so itself as spreadsheets do.
fn other_separator(file: File, start: &[u8]) -> Option<Foreign> {
    let start = start.strip_prefix(UTF8_MARK).unwrap_or(start);
    let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_column = |field: &[u8]| {
        let field = field.trim_ascii();
        let field = field.strip_prefix(b"\"").and_then(|field| field.strip_suffix(b"\"")).unwrap_or(field);
        file.columns().iter().any(|column| field.eq_ignore_ascii_case(column.as_bytes()))
    };
    let found = SEPARATORS.into_iter().find(|(separator, ..)| {
        let declared = line.strip_prefix(b"sep=").is_some_and(|rest| rest.starts_with(&[*separator]));
        let splits = !line.contains(&b',') && line.contains(separator);
        declared || splits && line.split(|b| b == separator).any(is_column)
    });
    found.map(|(_, name, literal)| Foreign::Separator(name, literal))
}

/// What a line with other characters than ASCII shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Utf8,
    /// Not valid as UTF-8, and Korean in CP949.
    Cp949,
    /// Valid as UTF-8, but only by accident: Korean in CP949.
    Cp949ByAccident,
}

/// What the lines of a file show together: one line alone can be read in several ways.
#[derive(Debug, Default)]
struct Evidence {
    utf8: u64,
    cp949: u64,
    by_accident: u64,
    first_cp949: u64,
}

impl Evidence {
    fn add(&mut self, number: u64, line: &[u8]) {
        match sign(line) {
            None => return,
            Some(Sign::Utf8) => {
                self.utf8 += 1;
                return;
            }
            Some(Sign::Cp949) => self.cp949 += 1,
            Some(Sign::Cp949ByAccident) => self.by_accident += 1,
        }
        if self.first_cp949 == 0 {
            self.first_cp949 = number;
        }
    }

    fn form(&self) -> Form {
        let certain_or_alone = self.cp949 > 0 || self.utf8 == 0;
        if certain_or_alone && self.cp949 + self.by_accident > self.utf8 {
            return Form::Foreign(Foreign::Cp949 { line: self.first_cp949 });
        }
        Form::Utf8 { some_cp949: self.cp949 > 0 }
    }
}

/// Whether a line is valid as UTF-8 only by accident, and Korean in CP949.
pub(crate) fn is_cp949_by_accident(line: &[u8]) -> bool {
    sign(line) == Some(Sign::Cp949ByAccident)
}

fn sign(line: &[u8]) -> Option<Sign> {
    if line.is_ascii() {
        return None;
    }
    if std::str::from_utf8(line).is_err() {
        return is_korean_in_cp949(line).then_some(Sign::Cp949);
    }
    // Korean in CP949 that is valid as UTF-8 consists of two-byte characters up to U+023F, because
    // the first byte of a syllable is at most C8.
    if line.iter().any(|b| *b > 0xc8) {
        return Some(Sign::Utf8);
    }
    let (mut latin, mut korean) = (0, 0);
    for word in line.split(|b| b.is_ascii() && !b.is_ascii_alphabetic()).filter(|word| !word.is_ascii()) {
        if word.iter().any(u8::is_ascii) {
            latin += 1;
        } else if is_korean_word(word) {
            korean += 1;
        }
    }
    match (latin, korean) {
        (0, 0) => None,
        (0, _) => Some(Sign::Cp949ByAccident),
        _ => Some(Sign::Utf8),
    }
}

/// Whether a word of two-byte characters without ASCII letters is a Korean one of at least two
/// common syllables, and as UTF-8 no word of a language: with letters that are rare, or with letters
/// and signs in one word.
fn is_korean_word(word: &[u8]) -> bool {
    let (syllables, _) = word.as_chunks::<2>();
    let common = syllables.iter().all(|[first, second]| is_common_syllable(*first, *second));
    // ơ, Ư and ư are common in Vietnamese.
    let rare = syllables
        .iter()
        .any(|pair| pair[0] >= 0xc6 && !matches!(pair, b"\xc6\xa1" | b"\xc6\xaf" | b"\xc6\xb0"));
    let sign = syllables.iter().any(|[first, _]| *first == 0xc2);
    let letter = syllables.iter().any(|[first, _]| *first >= 0xc3);
    common && syllables.len() >= 2 && (rare || sign && letter)
}

/// One of the 2350 syllables of KS X 1001.
fn is_common_syllable(first: u8, second: u8) -> bool {
    (0xb0..=0xc8).contains(&first) && (0xa1..=0xfe).contains(&second)
}

/// Whether the line is valid in CP949 and most of it is common syllables.
fn is_korean_in_cp949(line: &[u8]) -> bool {
    let (mut common, mut all) = (0, 0);
    let mut bytes = line.iter().copied();
    while let Some(first) = bytes.next() {
        if first.is_ascii() {
            continue;
        }
        let Some(second) = bytes.next() else { return false };
        let (extended, high) =
            (matches!(second, b'A'..=b'Z' | b'a'..=b'z' | 0x81..=0xa0), (0xa1..=0xfe).contains(&second));
        let valid = match first {
            0x81..=0xa0 => extended || high,
            0xa1..=0xc6 if extended => true,
            0xa1..=0xc8 | 0xca..=0xfd => high,
            _ => false,
        };
        if !valid {
            return false;
        }
        all += 1;
        common += u64::from(is_common_syllable(first, second));
    }
    common > 0 && common * 2 >= all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 홍철호 in CP949, which is valid as UTF-8.
    const ACCIDENT: &[u8] = b"\xc8\xab\xc3\xb6\xc8\xa3";
    /// 김하늘 in CP949.
    const CERTAIN: &[u8] = b"\xb1\xe8\xc7\xcf\xb4\xc3";
    const HEADER: &str = "member_id,name,email,phone\n";

    fn members(names: &[&[u8]]) -> Vec<u8> {
        let mut file = HEADER.as_bytes().to_vec();
        for (name, id) in names.iter().zip(1..) {
            file.extend_from_slice(format!("{id},").as_bytes());
            file.extend_from_slice(name);
            file.extend_from_slice(b",a@example.com,010-1234-5678\n");
        }
        file
    }

    fn form(file: &[u8]) -> Form {
        recognize(File::Members, file).unwrap()
    }

    fn cp949(line: u64) -> Form {
        Form::Foreign(Foreign::Cp949 { line })
    }

    const UTF8: Form = Form::Utf8 { some_cp949: false };

    #[test]
    fn korean_in_cp949_is_recognized_in_a_whole_file() {
        assert_eq!(std::str::from_utf8(ACCIDENT), Ok("ȫöȣ"));
        let kim: &[u8] = b"Kim";
        let cases: [(&[&[u8]], Form); 8] = [
            (&[ACCIDENT], cp949(2)),
            (&[kim, kim, ACCIDENT], cp949(4)),
            (&[CERTAIN], cp949(2)),
            (&[kim, CERTAIN, ACCIDENT], cp949(3)),
            // Some broken lines in a file that is UTF-8.
            (&["홍철호".as_bytes(), "김하늘".as_bytes(), CERTAIN], Form::Utf8 { some_cp949: true }),
            (&["홍철호".as_bytes(), CERTAIN, ACCIDENT], cp949(3)),
            (&["홍철호".as_bytes(), b"K\xff"], UTF8),
            (&[b"K\xff"], UTF8),
        ];
        for (names, expected) in cases {
            assert_eq!(form(&members(names)), expected, "{names:?}");
        }
        let mut with_mark = UTF8_MARK.to_vec();
        with_mark.extend(members(&[ACCIDENT]));
        assert_eq!(form(&with_mark), UTF8);
        // A line that is longer than what is judged at once.
        let mut long = vec![b'x'; 3 << 20];
        long.extend_from_slice(CERTAIN);
        assert_eq!(form(&members(&[&long, kim])), cp949(2));
    }

    #[test]
    fn names_in_latin_letters_and_other_scripts_are_utf8() {
        let names = [
            "café",
            "Ångström",
            "Nguyễn",
            "Nguyên Ðức",
            "Đỗ Ươm",
            "ươ",
            "Żółć",
            "Łódź",
            "Öğüt",
            "Șerban",
            "Țîru",
            "Ǎn",
            "Lǚ",
            "Þórður",
            "Æsir",
            "Ümit",
            "É",
            "Ö. Ä.",
            "«ô»té",
            "£5",
            "§§ 3",
            "½¾",
            "Ørsted",
            "Žižek",
            "Ķēniņš",
            "Şükrü",
            "Иванов",
            "Αθηνά",
            "דוד",
            "محمد",
            "山田",
            "홍철호",
            "김Á",
            "ÀÉ",
            "ÖÄÜ",
            "ÄÖ",
        ];
        for name in names {
            assert_eq!(form(&members(&[name.as_bytes()])), UTF8, "{name}");
        }
        let all: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        assert_eq!(form(&members(&all)), UTF8);
        // Windows-1252 is not CP949: its lines are rejected one by one.
        for name in [&b"M\xfcller"[..], b"Jos\xe9", b"\xc1ngel", b"\xc5gren", b"\xd1and\xfa"] {
            assert_eq!(form(&members(&[name])), UTF8, "{name:?}");
        }
    }

    #[test]
    fn every_syllable_that_is_valid_as_utf8_is_recognized() {
        let mut seen = 0;
        for first in 0xc6..=0xc8 {
            for second in 0xa1..=0xbf {
                if first == 0xc6 && [0xa1, 0xaf, 0xb0].contains(&second) {
                    continue;
                }
                let name = [first, second, 0xc3, 0xb6];
                assert_eq!(form(&members(&[&name])), cp949(2), "{name:x?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 90);
    }

    #[test]
    fn utf_16_is_recognized_with_and_without_its_mark() {
        let text = format!("{HEADER}1,홍길동,hong@example.com,010-1234-5678\n");
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let marked = |mark: [u8; 2], bytes: &[u8]| [&mark[..], bytes].concat();
        let cases = [
            (little.clone(), "UTF-16LE"),
            (big.clone(), "UTF-16BE"),
            (marked([0xff, 0xfe], &little), "UTF-16"),
            (marked([0xfe, 0xff], &big), "UTF-16"),
            (text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(), "UTF-32"),
        ];
        for (bytes, encoding) in cases {
            let bytes = if encoding == "UTF-32" { [&[0xff, 0xfe, 0, 0], &bytes[..]].concat() } else { bytes };
            assert_eq!(form(&bytes), Form::Foreign(Foreign::Wide(encoding)), "{encoding}");
            assert_eq!(recognize(File::Usage, &bytes[..]).unwrap(), Form::Foreign(Foreign::Wide(encoding)));
        }
        assert_eq!(form(b"member_id,name,email,phone\n7,K\0,kim@a.kr,\n"), UTF8);
        assert_eq!(form(b""), UTF8);
    }

    #[test]
    fn other_separators_are_recognized_by_the_header() {
        let separator = |name, literal| Form::Foreign(Foreign::Separator(name, literal));
        let cases: [(&[u8], Form); 8] = [
            (b"member_id;name;email;phone\r\n", separator("semicolons", "\";\"")),
            (b"\xef\xbb\xbf\"member_id\"\t\"name\"\n", separator("tabs", "\"\\t\"")),
            (b"Member_ID|Name", separator("vertical bars", "\"|\"")),
            (b"sep=;\nmember_id;name\n", separator("semicolons", "\";\"")),
            (b"member_id,name;x\n", UTF8),
            // Rather a person's data than a header line.
            (b"Kim;kim@example.com\n", UTF8),
            (b"member_id\n", UTF8),
            (b"", UTF8),
        ];
        for (bytes, expected) in cases {
            assert_eq!(form(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_problem_names_the_command_that_converts() {
        let path = Path::new("/in/my members.csv.gz");
        assert_eq!(
            Foreign::Cp949 { line: 7 }.problem("members.csv", path, true),
            "members.csv is in CP949 (EUC-KR), not UTF-8, as line 7 shows: convert it with \
             `gzip -dc '/in/my members.csv.gz' | iconv -f CP949 -t UTF-8 > members.csv.new`, and load the result as members.csv"
        );
        assert_eq!(
            Foreign::Separator("tabs", "\"\\t\"").problem("usage.csv", Path::new("usage.csv"), false),
            "usage.csv has its fields separated by tabs, not by commas: convert it with `python3 -c 'import csv,sys; \
             csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter=\"\\t\"))' < usage.csv > usage.csv.new`, \
             and load the result as usage.csv"
        );
    }
}
