//! What a mail server or the system said, made fit for the database and the log: one line of
//! limited length, without addresses.

use lettre::Address;

/// A reply, or the error in place of one. At most [`ServerReply::MAX_CHARS`] characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerReply(String);

impl ServerReply {
    const MAX_CHARS: usize = 300;

    /// Masks what looks like personal data.
    pub(crate) fn new(text: &str) -> Self {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let masked = logging::masking::mask_text(line.trim());
        Self(masked.chars().take(Self::MAX_CHARS).collect())
    }

    /// Also masks `recipients`: a server may repeat an address, or a part of it, in a form that
    /// does not look like one.
    pub(super) fn masking(text: &str, recipients: &[Address]) -> Self {
        let mut text = text.to_owned();
        for address in recipients {
            let domain = format!("@{}", address.domain());
            let parts =
                [<Address as AsRef<str>>::as_ref(address), address.user().trim_matches('"'), domain.as_str()];
            for part in parts {
                text = mask_word(&text, part);
            }
        }
        Self::new(&text)
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl std::fmt::Display for ServerReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Replaces every `part` that is not inside a longer word by `***`, ignoring case.
fn mask_word(text: &str, part: &str) -> String {
    let (folded, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
    let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut masked, mut copied) = (String::with_capacity(text.len()), 0);
    for (start, found) in folded.match_indices(&part).filter(|(_, found)| !found.is_empty()) {
        let end = start + found.len();
        if in_word(folded[..start].chars().next_back()) || in_word(folded[end..].chars().next()) {
            continue;
        }
        masked.push_str(&text[copied..start]);
        masked.push_str("***");
        copied = end;
    }
    masked.push_str(&text[copied..]);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_masks_its_recipient_in_every_form() {
        let to: Address = "Haneul.Kim@example.com".parse().unwrap();
        let masking = |text: &str| ServerReply::masking(text, std::slice::from_ref(&to)).into_string();
        assert_eq!(masking("550 5.1.1 <haneul.kim@EXAMPLE.com>: unknown"), "550 5.1.1 <***>: unknown");
        assert_eq!(masking("550 no HANEUL.KIM here\r\n"), "550 no *** here");
        assert_eq!(masking("550 try other@example.com"), "550 try o***@e***.com");
        assert_eq!(masking("550 \"haneul.kim\"@example.com is busy"), "550 \"***\"*** is busy");
        assert_eq!(masking("450 a\u{0}b"), "450 a b");
        assert_eq!(masking(&"x".repeat(1000)).len(), ServerReply::MAX_CHARS);
        let short: Address = "a@example.com".parse().unwrap();
        assert_eq!(ServerReply::masking("450 a bad day", &[short]).into_string(), "450 *** bad day");
    }
}
