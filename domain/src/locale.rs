//! The languages of the e-mails to members.

use std::fmt;
use std::str::FromStr;

/// A language tag: a language of two or three lower-case letters, with or without a script or
/// region: `ko`, `pt-BR`, `zh-Hant-TW`. It is copied with each member, so it has no text of its own
/// on the heap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locale {
    /// Zeros follow the tag.
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl Locale {
    /// The longest tag, in bytes.
    pub const MAX_LEN: usize = 15;
    pub const KO: Self = Self::of_two_letters(*b"ko");
    pub const EN: Self = Self::of_two_letters(*b"en");

    const fn of_two_letters([first, second]: [u8; 2]) -> Self {
        let mut bytes = [0; Self::MAX_LEN];
        bytes[0] = first;
        bytes[1] = second;
        Self { bytes, len: 2 }
    }

    /// A language alone, in any case.
    ///
    /// # Errors
    /// It does not have two or three letters of ASCII.
    pub fn of_language(text: &str) -> Result<Self, UnknownLocale> {
        let mut bytes = [0; Self::MAX_LEN];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(tag), Ok(len @ 2..=3)) if text.bytes().all(|b| b.is_ascii_alphabetic()) => {
                tag.copy_from_slice(text.as_bytes());
                tag.make_ascii_lowercase();
                Ok(Self { bytes, len })
            }
            _ => Err(UnknownLocale(text.to_owned())),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        let tag = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        // Only ASCII gets in.
        std::str::from_utf8(tag).unwrap_or_default()
    }

    /// The language without script and region.
    #[must_use]
    pub fn language(&self) -> &str {
        language_of(self.as_str())
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a locale, which is a language tag such as ko, en or pt-BR")]
pub struct UnknownLocale(String);

impl FromStr for Locale {
    type Err = UnknownLocale;

    fn from_str(text: &str) -> Result<Self, UnknownLocale> {
        let mut bytes = [0; Self::MAX_LEN];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(tag), Ok(len)) if is_language_tag(text) => {
                tag.copy_from_slice(text.as_bytes());
                Ok(Self { bytes, len })
            }
            _ => Err(UnknownLocale(text.to_owned())),
        }
    }
}

/// Whether the text is a language, with or without a script or region: `ko`, `pt-BR`, `zh-Hant-TW`.
pub(crate) fn is_language_tag(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The language of a tag.
pub(crate) fn language_of(tag: &str) -> &str {
    tag.split('-').next().unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_are_language_tags() {
        for (tag, language) in [
            ("ko", "ko"),
            ("en", "en"),
            ("vie", "vie"),
            ("pt-BR", "pt"),
            ("zh-Hant-TW", "zh"),
            ("es-419", "es"),
            ("zh-Hant-TW-abcd", "zh"),
        ] {
            let locale: Locale = tag.parse().unwrap();
            assert_eq!((locale.as_str(), locale.language()), (tag, language));
            assert_eq!(format!("{locale} {locale:?}"), format!("{tag} {tag}"));
        }
        assert_eq!(("ko".parse(), "en".parse()), (Ok(Locale::KO), Ok(Locale::EN)));
    }

    #[test]
    fn other_texts_are_no_locales() {
        for text in ["", "k", "KO", "ko_KR", "ko-", "kore", "한국어", "ko-KR.UTF-8", "x!", "zh-Hant-TW-abcde"]
        {
            let error = text.parse::<Locale>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("`{text}` is not a locale, which is a language tag such as ko, en or pt-BR")
            );
        }
    }

    #[test]
    fn locales_are_ordered_and_compared_as_their_tags() {
        let locales: Vec<Locale> = ["de", "en", "ko", "pt", "pt-BR"].map(|tag| tag.parse().unwrap()).into();
        assert!(locales.is_sorted());
        assert_ne!(locales[3], locales[4]);
    }
}
