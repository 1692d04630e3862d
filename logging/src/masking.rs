//! Masks phone numbers and e-mail addresses: `010-****-1234`, `k***@e***.com`.
//!
//! [`mask_text`] is for arbitrary text, such as a log line. In doubt it masks, but it leaves dates,
//! times, ids and counts unchanged. It cannot recognise names, so names must not get into a text at
//! all.

use std::borrow::Cow;

const HIDDEN: &str = "****";

/// Masks a phone number in any format.
pub fn mask_phone(phone: &str) -> String {
    let digits = phone.bytes().filter(u8::is_ascii_digit).count();
    // Too short to show both ends.
    if digits < 8 {
        return HIDDEN.to_owned();
    }
    let first_digit = phone.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
    let head: String = phone[first_digit..].chars().take_while(char::is_ascii_digit).take(3).collect();
    let mut tail: Vec<char> = phone.chars().rev().filter(char::is_ascii_digit).take(4).collect();
    tail.reverse();
    let plus = if phone[..first_digit].contains('+') { "+" } else { "" };
    format!("{plus}{head}-{HIDDEN}-{}", tail.into_iter().collect::<String>())
}

/// Masks an e-mail address. The mask of a mask is the same mask.
pub fn mask_email(email: &str) -> String {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return "***".to_owned();
    };
    let first = |part: &str| part.chars().next().filter(|c| *c != '*').map_or_else(String::new, String::from);
    // A last label that is not a word can be anything, such as a phone number.
    let top = match domain.rsplit_once('.') {
        Some((_, top)) if top.chars().all(char::is_alphabetic) => format!(".{top}"),
        _ => String::new(),
    };
    format!("{}***@{}***{top}", first(local), first(domain))
}

/// Masks every phone number and e-mail address in a text. Returns the text itself if it has none.
pub fn mask_text(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut masked = String::new();
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        let found = match bytes[at] {
            b'@' => email_around(text, copied, at).map(|(from, to)| (from, to, mask_email(&text[from..to]))),
            b'0'..=b'9' | b'+' | b'(' => phone_at(bytes, at).map(|to| (at, to, mask_phone(&text[at..to]))),
            _ => None,
        };
        match found {
            Some((from, to, mask)) => {
                masked.push_str(&text[copied..from]);
                masked.push_str(&mask);
                copied = to;
                at = to;
            }
            // A number that is not a phone number is skipped completely, so that its end is not taken for
            // one.
            None if bytes[at].is_ascii_digit() => at += digits_at(bytes, at),
            None => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

/// The start and the end of the address around the `@` at `at`. The start is not before `floor`.
fn email_around(text: &str, floor: usize, at: usize) -> Option<(usize, usize)> {
    let delimiter = |c: char| c.is_whitespace() || c.is_control() || "<>()[]{},;:\"'`=\\|/".contains(c);
    let from = text[floor..at].rfind(delimiter).map_or(floor, |found| {
        let delimiter_len = text[floor + found..].chars().next().map_or(1, char::len_utf8);
        floor + found + delimiter_len
    });
    // A second `@` belongs to the same address, because the local part can be quoted.
    let to = text[at..].find(delimiter).map_or(text.len(), |found| at + found);
    // A final full stop ends the sentence and not the address.
    let to = at + 1 + text[at + 1..to].trim_end_matches(['.', '!', '?']).len();
    (from < at && to > at + 1).then_some((from, to))
}

/// The end of the phone number that starts at `at`, if there is one.
fn phone_at(bytes: &[u8], at: usize) -> Option<usize> {
    let inside_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts_inside = at > 0 && {
        let before = bytes[at - 1];
        // The position is inside a word, in the fraction of a number, or in a later part of a number.
        inside_word(before) || (matches!(before, b'.' | b'-') && at > 1 && bytes[at - 2].is_ascii_digit())
    };
    if starts_inside {
        return None;
    }
    let end = match bytes[at] {
        b'+' => international(bytes, at + 1),
        b'(' => parenthesised(bytes, at),
        _ => national(bytes, at),
    }?;
    // Reject the beginning of a longer number or word.
    bytes.get(end).is_none_or(|after| !inside_word(*after)).then_some(end)
}

/// `+82 10-1234-5678`, `+821012345678`: 8 to 15 digits with single separators.
fn international(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut digits, mut end, mut at) = (0, from, from);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                end = at + 1;
            }
            // `+82 (0)10-…`: only parentheses can be next to another separator.
            b' ' | b'-' | b'.' if at == end && at > from => {}
            b'(' | b')' if digits > 0 => {}
            _ => break,
        }
        at += 1;
    }
    (8..=15).contains(&digits).then_some(end)
}

/// `(02) 123-4567`, `(212)555-0123`.
fn parenthesised(bytes: &[u8], open: usize) -> Option<usize> {
    let area = digits_at(bytes, open + 1);
    let close = open + 1 + area;
    if !(2..=4).contains(&area) || bytes.get(close) != Some(&b')') {
        return None;
    }
    let middle = close + 1 + usize::from(matches!(bytes.get(close + 1), Some(b' ' | b'-')));
    let (middle_len, separator) = (digits_at(bytes, middle), middle + digits_at(bytes, middle));
    let separated = matches!(bytes.get(separator), Some(b'-' | b' ' | b'.'));
    let end = separator + 1 + 4;
    ((3..=4).contains(&middle_len) && separated && digits_at(bytes, separator + 1) == 4).then_some(end)
}

/// `010-1234-5678`, `212-555-0123`. Blanks, full stops or no separator are accepted only with a
/// leading zero, which counts and ids do not have.
fn national(bytes: &[u8], at: usize) -> Option<usize> {
    let head = digits_at(bytes, at);
    let trunk = bytes[at] == b'0';
    if trunk && (9..=11).contains(&head) {
        return Some(at + head);
    }
    let separator = *bytes.get(at + head)?;
    let allowed = separator == b'-' || (trunk && matches!(separator, b'.' | b' '));
    let middle = at + head + 1;
    let middle_len = digits_at(bytes, middle);
    let tail = middle + middle_len + 1;
    let shaped = (2..=4).contains(&head)
        && (3..=4).contains(&middle_len)
        && bytes.get(tail - 1) == Some(&separator)
        && digits_at(bytes, tail) == 4;
    (allowed && shaped).then_some(tail + 4)
}

fn digits_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..).map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_phone_numbers_and_addresses() {
        let phones = [
            ("010-1234-5678", "010-****-5678"),
            ("01012345678", "010-****-5678"),
            ("02-123-4567", "02-****-4567"),
            ("+82 10-1234-5678", "+82-****-5678"),
            ("+821012345678", "+821-****-5678"),
            ("(212) 555-0123", "212-****-0123"),
            ("1234567", "****"),
            ("", "****"),
            ("call me", "****"),
        ];
        for (phone, masked) in phones {
            assert_eq!(mask_phone(phone), masked, "{phone}");
        }
        let emails = [
            ("kim@example.com", "k***@e***.com"),
            ("kim.minsu+bill@mail.example.co.kr", "k***@m***.kr"),
            ("k@localhost", "k***@l***"),
            ("김민수@예시.한국", "김***@예***.한국"),
            ("a@b@example.com", "a***@e***.com"),
            ("kim@example.01012345678", "k***@e***"),
            ("kim@", "k***@***"),
            ("k***@***", "k***@***"),
            ("*@*", "***@***"),
            ("nobody", "***"),
            ("@", "***@***"),
        ];
        for (email, masked) in emails {
            assert_eq!(mask_email(email), masked, "{email}");
        }
    }

    #[test]
    fn masks_every_match_in_a_text() {
        let cases = [
            ("kim@example.com", "k***@e***.com"),
            ("to <kim@example.com>, cc lee@example.net.", "to <k***@e***.com>, cc l***@e***.net."),
            (
                r#"{"email":"kim@example.com","phone":"010-1234-5678"}"#,
                r#"{"email":"k***@e***.com","phone":"010-****-5678"}"#,
            ),
            ("email=kim@example.com phone=01012345678", "email=k***@e***.com phone=010-****-5678"),
            ("3,Kim,kim@example.com,010-1234-5678,ko", "3,Kim,k***@e***.com,010-****-5678,ko"),
            ("김민수@예시.한국 님", "김***@예***.한국 님"),
            ("전화 010-1234-5678입니다", "전화 010-****-5678입니다"),
            ("a@b.com c@d.com", "a***@b***.com c***@d***.com"),
            ("\"kim@home\"@example.com x@y@example.com", "\"k***@h***\"@example.com x***@e***.com"),
            ("call +82 10 1234 5678 now", "call +82-****-5678 now"),
            ("+82-(0)10-1234-5678", "+82-****-5678"),
            ("010.1234.5678/010 1234 5678", "010-****-5678/010-****-5678"),
            ("(02) 123-4567, (212)555-0123", "02-****-4567, 212-****-0123"),
            ("212-555-0123", "212-****-0123"),
            ("postgres://worker:secret@db.example.com/x", "postgres://worker:s***@d***.com/x"),
        ];
        for (text, masked) in cases {
            assert_eq!(mask_text(text), masked, "{text}");
        }
    }

    #[test]
    fn leaves_other_text_unchanged() {
        let texts = [
            "",
            "member 9007199254740993 chunk 12 took 0.123456789 s",
            "2026-10-11T00:00:00.123456+09:00",
            "2026-10-11 09:00:00.123456789 +0900",
            "10.244.0.13:8080 and 192.168.100.1234",
            "1000000 members, 5000000 rows, 61110 won, -1774",
            "4f9d0c0123456789ab, v0123456789, 0123456789_x",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "a @ b, @, @x, x@ y",
            "(12) and (123) 4",
            "+09:00 +1 +1234567",
            "3-4567-8901 12345-678-9012 010-12-3456",
        ];
        for text in texts {
            assert!(
                matches!(mask_text(text), Cow::Borrowed(same) if same == text),
                "{text}: {}",
                mask_text(text)
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn surrounding_text_does_not_prevent_masking(
            before in proptest::prelude::any::<String>(),
            after in proptest::prelude::any::<String>(),
        ) {
            let text = format!("{before} canary.kim@secret.example.com, 010-9876-5432 {after}");
            let masked = mask_text(&text);
            assert!(!masked.contains("canary") && !masked.contains("secret") && !masked.contains("9876"), "{masked}");
            assert_eq!(mask_text(&masked), masked);
        }
    }
}
