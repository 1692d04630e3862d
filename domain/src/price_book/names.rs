//! What a plan or discount is called: one name for every language, or one for each.

use crate::locale::{Locale, language_of};

/// At least one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The language tag and the name, in the order they are written. Without a tag: of every
    /// language.
    names: Vec<(Option<String>, String)>,
}

impl Names {
    /// One name for every language.
    pub fn of_every_language(name: impl Into<String>) -> Self {
        Self { names: vec![(None, name.into())] }
    }

    /// A name for each language tag; None if there is none.
    pub(super) fn of_each(names: Vec<(String, String)>) -> Option<Self> {
        let names: Vec<_> = names.into_iter().map(|(tag, name)| (Some(tag), name)).collect();
        (!names.is_empty()).then_some(Self { names })
    }

    /// The name in the first of these locales that there is one in, otherwise the first name.
    pub fn in_first_of(&self, locales: &[Locale]) -> &str {
        let of = |locale: &Locale| self.in_locale(locale.as_str());
        locales
            .iter()
            .find_map(of)
            .unwrap_or_else(|| self.names.first().map_or("", |(_, name)| name.as_str()))
    }

    /// The name of exactly this tag, otherwise that of the language alone, otherwise that of the same
    /// language with another region.
    fn in_locale(&self, locale: &str) -> Option<&str> {
        let with = |matches: &dyn Fn(&str) -> bool| {
            let found = self.names.iter().find(|(tag, _)| tag.as_deref().is_none_or(matches));
            found.map(|(_, name)| name.as_str())
        };
        let language = language_of(locale);
        with(&|tag| tag == locale)
            .or_else(|| with(&|tag| tag == language))
            .or_else(|| with(&|tag| language_of(tag) == language))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_the_first_locale_that_has_one() {
        const KO: Locale = Locale::KO;
        const EN: Locale = Locale::EN;
        let brazil: &[Locale] = &["pt-BR".parse().unwrap()];
        let each = |names: &[(&str, &str)]| {
            let names = names.iter().map(|(tag, name)| ((*tag).to_owned(), (*name).to_owned()));
            Names::of_each(names.collect()).unwrap()
        };
        let both = each(&[("ko", "음악"), ("en", "Music")]);
        let german = each(&[("de", "Musik"), ("en-GB", "Music"), ("en", "Tunes")]);
        for (names, locales, expected) in [
            (&both, &[EN, KO][..], "Music"),
            (&both, &[KO, EN][..], "음악"),
            (&both, &[][..], "음악"),
            (&german, &[KO, EN][..], "Tunes"),
            (&german, &[KO][..], "Musik"),
            (&each(&[("ko-KR", "음악"), ("de", "Musik")]), &[EN, KO][..], "음악"),
            (&Names::of_every_language("Music"), &[KO][..], "Music"),
            (&each(&[("en", "a"), ("pt-PT", "b"), ("pt", "c"), ("pt-BR", "d")]), brazil, "d"),
            (&each(&[("en", "a"), ("pt-PT", "b"), ("pt", "c")]), brazil, "c"),
            (&each(&[("en", "a"), ("pt-PT", "b")]), brazil, "b"),
            (&each(&[("en", "a"), ("es", "b")]), brazil, "a"),
        ] {
            assert_eq!(names.in_first_of(locales), expected, "{names:?} {locales:?}");
        }
        assert_eq!(Names::of_each(Vec::new()), None);
    }
}
