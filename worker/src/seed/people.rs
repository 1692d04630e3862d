//! Generates names, email addresses and phone numbers of people who do not exist. The email domains
//! are reserved for examples.

use std::fmt::Write as _;

use super::random::Random;

/// A member's personal data. It has no `Debug`, so that it cannot be logged.
#[derive(Default)]
pub(super) struct Person {
    pub(super) name: String,
    /// Empty: none.
    pub(super) email: String,
    pub(super) phone: String,
    /// Empty: the installation's locale.
    pub(super) locale: &'static str,
}

const SURNAMES: [(&str, &str); 20] = [
    ("김", "kim"),
    ("이", "lee"),
    ("박", "park"),
    ("최", "choi"),
    ("정", "jung"),
    ("강", "kang"),
    ("조", "cho"),
    ("윤", "yoon"),
    ("장", "jang"),
    ("임", "lim"),
    ("한", "han"),
    ("오", "oh"),
    ("서", "seo"),
    ("신", "shin"),
    ("권", "kwon"),
    ("황", "hwang"),
    ("안", "ahn"),
    ("송", "song"),
    ("류", "ryu"),
    ("홍", "hong"),
];
const SYLLABLES: [(&str, &str); 24] = [
    ("민", "min"),
    ("서", "seo"),
    ("지", "ji"),
    ("준", "jun"),
    ("현", "hyun"),
    ("하", "ha"),
    ("은", "eun"),
    ("우", "woo"),
    ("예", "ye"),
    ("도", "do"),
    ("윤", "yoon"),
    ("수", "soo"),
    ("연", "yeon"),
    ("진", "jin"),
    ("영", "young"),
    ("주", "ju"),
    ("아", "ah"),
    ("성", "sung"),
    ("재", "jae"),
    ("원", "won"),
    ("혜", "hye"),
    ("경", "kyung"),
    ("태", "tae"),
    ("라", "ra"),
];
const FIRST: [&str; 20] = [
    "Alice", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "James", "Karen", "Liam",
    "Maria", "Noah", "Olivia", "Paul", "Rosa", "Samuel", "Tara", "William",
];
const LAST: [&str; 20] = [
    "Adams", "Baker", "Clark", "Davis", "Evans", "Foster", "Garcia", "Harris", "Irwin", "Jones", "Keller",
    "Lopez", "Miller", "Nelson", "O'Brien", "Parker", "Quinn", "Reed", "Smith", "Turner",
];
const DOMAINS: [&str; 3] = ["example.com", "example.net", "example.org"];

impl Person {
    /// Generates another person, and reuses the memory.
    pub(super) fn regenerate(&mut self, random: &mut Random, member: i64) {
        let Self { name, email, phone, locale } = self;
        for text in [&mut *name, email, phone] {
            text.clear();
        }
        let korean = random.chance(850);
        if korean {
            let (family, family_latin) = random.pick(&SURNAMES);
            let (one, one_latin) = random.pick(&SYLLABLES);
            let (two, two_latin) = random.pick(&SYLLABLES);
            name.extend([*family, one, two]);
            email.extend([*one_latin, two_latin, ".", family_latin]);
        } else {
            let (first, last) = (random.pick(&FIRST), random.pick(&LAST));
            name.extend([*first, " ", last]);
            email.extend(first.chars().map(|c| c.to_ascii_lowercase()));
            email.push('.');
            email.extend(last.chars().filter(|c| *c != '\'').map(|c| c.to_ascii_lowercase()));
        }
        *locale = match (korean, random.below(10)) {
            (true, 0) => "ko",
            (true, _) => "",
            (false, 0) => "",
            (false, _) => "en",
        };
        let domain = random.pick(&DOMAINS);
        write!(email, "{member}@{domain}").expect("writing to a string cannot fail");
        if random.chance(4) {
            email.clear();
        }
        write!(phone, "010-{:04}-{:04}", random.between(2000, 9999), random.below(10_000))
            .expect("writing to a string cannot fail");
    }
}
