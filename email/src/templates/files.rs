//! The names of the template files.

/// The files of a set that has corrections. Those of corrections are all there or none of them.
pub const FILES: [&str; 12] = [
    "en.body.html.hbs",
    "en.body.txt.hbs",
    "en.correction.body.html.hbs",
    "en.correction.body.txt.hbs",
    "en.correction.subject.hbs",
    "en.subject.hbs",
    "ko.body.html.hbs",
    "ko.body.txt.hbs",
    "ko.correction.body.html.hbs",
    "ko.correction.body.txt.hbs",
    "ko.correction.subject.hbs",
    "ko.subject.hbs",
];

/// Whether the file is one of a correction.
pub(super) fn is_of_correction(file: &str) -> bool {
    file.contains(".correction.")
}

/// The files of bills, and those of corrections, each as a list for a message.
pub(super) fn list(of_corrections: bool) -> String {
    let files: Vec<&str> =
        FILES.into_iter().filter(|file| is_of_correction(file) == of_corrections).collect();
    files.join(", ")
}
