//! Standard output and standard error. Colours are dropped where they do not belong: no terminal, or
//! NO_COLOR is set. A closed output is not an error.

use std::io::Write as _;

use crate::render::{BAD, WAITING, painted};

pub(crate) fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// For people, beside what scripts read.
pub(crate) fn note(text: &str) {
    drop(writeln!(anstream::stderr().lock(), "{text}"));
}

pub(crate) fn warning(text: &str) {
    note(&format!("{} {text}", painted(WAITING, "note:")));
}

pub(crate) fn error(text: &str) {
    note(&format!("{} {text}", painted(BAD, "error:")));
}
