//! The names of the six template files.

/// The files of a set, all of them and no others.
pub const FILES: [&str; 6] = [
    "en.body.html.hbs",
    "en.body.txt.hbs",
    "en.subject.hbs",
    "ko.body.html.hbs",
    "ko.body.txt.hbs",
    "ko.subject.hbs",
];
