use super::super::csv::{Next, Reader};
use super::super::rejects::{self, Rejected};
use super::*;

fn keys() -> Keyring {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("k1"), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap();
    std::fs::write(folder.path().join("active"), "k1").unwrap();
    Keyring::from_folder(folder.path()).unwrap()
}

/// The line of the rejects file for a line after the header, if it is rejected.
fn rejected(file: File, header: &str, line: &[u8]) -> Option<String> {
    let header = Header::read(file, header.split(',').map(str::to_owned).collect()).unwrap();
    let zone = Zone::named("Asia/Seoul").unwrap();
    let months = MonthTable::new(&zone);
    let keys = keys();
    let mut lines = LineConverter::new(file, &header, &zone, &months, Some(&keys), true);
    let mut reader = Reader::new(line).unwrap();
    let row = match reader.next().unwrap() {
        Next::Record(record) => {
            let reason = lines.convert(record, &mut CopyRows::default()).err()?;
            rejects::row(file, &header, 2, &reason, Rejected::Record(record))
        }
        Next::Malformed { reason, raw, .. } => rejects::row(file, &header, 2, reason, Rejected::Line(raw)),
        Next::End => panic!("no line"),
    };
    Some(String::from_utf8(row).unwrap())
}

#[test]
fn wrong_lines_are_rejected_with_their_reason() {
    use File::{Adjustments, Grants, Members, Subscriptions, Usage};
    let id = "is not 1 to 9223372036854775807 in plain digits";
    let instant = "is not an instant of RFC 3339 with offset, such as 2026-10-01T09:00:00+09:00";
    let cases: [(File, &[u8], String); 38] = [
        (Members, b"0,Kim,kim@a.kr,010-1234-5678,ko", format!("member_id {id},0,K***,k***@a***.kr,010-****-5678,ko")),
        (Members, b"x1,Kim,kim@a.kr,,ko", format!("member_id {id},***,K***,k***@a***.kr,,ko")),
        (Members, b"7,Kim,kim@a.kr,,x!", "\"locale is neither empty nor a language of two or three letters, such as ko or en\",7,K***,k***@a***.kr,,***".into()),
        (Members, b"7,Kim,kim@a.kr,", "4 fields instead of 5,7,***,***,,".into()),
        (Members, b"7,Kim,Min,kim@a.kr,010,ko", "6 fields instead of 5,7,***,***,***,***".into()),
        (Members, b"7,\"Kim\"x,kim@a.kr,,ko", "text after a closing quote,7,***,***,,ko".into()),
        (Members, b"7,K\xff,kim@a.kr,,ko", "not UTF-8,7,K***,k***@a***.kr,,ko".into()),
        (Members, b"7,K\0,kim@a.kr,,ko", "a NUL character,7,K***,k***@a***.kr,,ko".into()),
        (Subscriptions, b"9223372036854775808,P,2026-10-01,", format!("member_id `9223372036854775808` {id},9223372036854775808,P,2026-10-01,")),
        (Subscriptions, b"+1,P,2026-10-01,", format!("member_id `+1` {id},+1,P,2026-10-01,")),
        (Subscriptions, b" 1,P,2026-10-01,", format!("member_id ` 1` {id}, 1,P,2026-10-01,")),
        (Subscriptions, b"1,,2026-10-01,", "plan_code is empty,1,,2026-10-01,".into()),
        (Subscriptions, b"1,P,,", "from `` is not a date written YYYY-MM-DD,1,P,,".into()),
        (Subscriptions, b"1,P,2026-2-01,", "from `2026-2-01` is not a date written YYYY-MM-DD,1,P,2026-2-01,".into()),
        (Subscriptions, b"1,P,2026-02-29,", "from `2026-02-29` is not a date written YYYY-MM-DD,1,P,2026-02-29,".into()),
        (Subscriptions, b"1,P,1999-12-31,", "from 1999-12-31 is outside 2000 to 2099,1,P,1999-12-31,".into()),
        (Subscriptions, b"1,P,2026-10-01,2100-01-01", "to 2100-01-01 is outside 2000 to 2099,1,P,2026-10-01,2100-01-01".into()),
        (Subscriptions, b"1,P,2026-10-02,2026-10-01", "to 2026-10-01 is before from 2026-10-02,1,P,2026-10-02,2026-10-01".into()),
        (Subscriptions, b"1,P,2026-10-02", "3 fields instead of 4,1,P,2026-10-02,".into()),
        (Grants, b"1,,2026-10-01,", "discount_code is empty,1,,2026-10-01,".into()),
        (Grants, b"1,D,2026-10-01,2026-13-01", "to `2026-13-01` is not a date written YYYY-MM-DD,1,D,2026-10-01,2026-13-01".into()),
        (Adjustments, b"0,1,2026-10,C,5,r", format!("adjustment_id `0` {id},0,1,2026-10,C,5,r")),
        (Adjustments, b"1,1,2026-13,C,5,r", "month `2026-13` is not YYYY-MM from 2000-01 to 2099-12,1,1,2026-13,C,5,r".into()),
        (Adjustments, b"1,1,2026-10,C,5.0,call 010-1234-5678", "amount `5.0` is not -9223372036854775808 to 9223372036854775807 in plain digits with at most a minus,1,1,2026-10,C,5.0,call 010-****-5678".into()),
        (Adjustments, b"1,1,2026-10,C,+5,r", "amount `+5` is not -9223372036854775808 to 9223372036854775807 in plain digits with at most a minus,1,1,2026-10,C,+5,r".into()),
        (Adjustments, b"1,1,2026-10,C,-9223372036854775809,r", "amount `-9223372036854775809` is not -9223372036854775808 to 9223372036854775807 in plain digits with at most a minus,1,1,2026-10,C,-9223372036854775809,r".into()),
        (Adjustments, b"1,1,2026-10,,5,r", "code is empty,1,1,2026-10,,5,r".into()),
        (Usage, b",1,voice,5,2026-10-01T00:00:00Z", "usage_id `` has 0 characters instead of 1 to 64,,1,voice,5,2026-10-01T00:00:00Z".into()),
        (Usage, b"u,0,voice,5,2026-10-01T00:00:00Z", format!("member_id `0` {id},u,0,voice,5,2026-10-01T00:00:00Z")),
        (Usage, b"u,1,Voice,5,2026-10-01T00:00:00Z", "\"kind `Voice` is not [a-z][a-z0-9_]{0,31}\",u,1,Voice,5,2026-10-01T00:00:00Z".into()),
        (Usage, b"u,1,voice,-5,2026-10-01T00:00:00Z", "quantity `-5` is not 0 to 9223372036854775807 in plain digits,u,1,voice,-5,2026-10-01T00:00:00Z".into()),
        (Usage, b"u,1,voice,,2026-10-01T00:00:00Z", "quantity `` is not 0 to 9223372036854775807 in plain digits,u,1,voice,,2026-10-01T00:00:00Z".into()),
        (Usage, b"u,1,voice,9223372036854775808,2026-10-01T00:00:00Z", "quantity `9223372036854775808` is not 0 to 9223372036854775807 in plain digits,u,1,voice,9223372036854775808,2026-10-01T00:00:00Z".into()),
        (Usage, b"u,1,voice,5,2026-10-01T00:00:00", format!("\"started_at `2026-10-01T00:00:00` {instant}\",u,1,voice,5,2026-10-01T00:00:00")),
        (Usage, b"u,1,voice,5,2026-10-01T00:00:60Z", "started_at `2026-10-01T00:00:60Z` has a second of 60,u,1,voice,5,2026-10-01T00:00:60Z".into()),
        (Usage, b"u,1,voice,5,2026-10-01T00:00:00.1234567Z", "started_at `2026-10-01T00:00:00.1234567Z` has more than six fraction digits,u,1,voice,5,2026-10-01T00:00:00.1234567Z".into()),
        (Usage, b"u,1,voice,5,2099-12-31T15:00:00Z", "\"started_at 2099-12-31T15:00:00Z is 2100-01-01 in Asia/Seoul, outside 2000 to 2099\",u,1,voice,5,2099-12-31T15:00:00Z".into()),
        (Usage, b"u,1,voice,5,2026-10-01T00:00:00Z,x", "6 fields instead of 5,u,1,voice,5,\"2026-10-01T00:00:00Z,x\"".into()),
    ];
    for (file, line, expected) in cases {
        let rejected = rejected(file, &file.columns().join(","), line);
        assert_eq!(rejected, Some(format!("2,{expected}\n")), "{file}: {}", String::from_utf8_lossy(line));
    }
}

#[test]
fn the_limits_are_accepted() {
    let cases: [(File, &[u8]); 9] = [
        (File::Members, b"9223372036854775807,,,,"),
        (File::Members, "1,\"김, 하늘\",no address,010,en".as_bytes()),
        (File::Subscriptions, b"1,P,2000-01-01,2099-12-31"),
        (File::Subscriptions, b"1,P,2026-10-01,2026-10-01"),
        (File::Adjustments, b"9223372036854775807,1,2099-12,C,-9223372036854775808,"),
        (File::Usage, b"u,1,a,0,1999-12-31T15:00:00Z"),
        (File::Usage, b"u,1,a,9223372036854775807,2099-12-31T14:59:59.999999Z"),
        (File::Usage, "\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600},1,abcdefghijklmnopqrstuvwxyz_01234,1,2026-10-01T00:00:00Z".as_bytes()),
        (File::Usage, b"\"u,\"\"1\"\"\",007,a,00,2026-10-01T00:00:00Z"),
    ];
    for (file, line) in cases {
        assert_eq!(
            rejected(file, &file.columns().join(","), line),
            None,
            "{}",
            String::from_utf8_lossy(line)
        );
    }
}

#[test]
fn columns_can_be_in_any_order_and_the_locale_can_be_missing() {
    assert_eq!(rejected(File::Members, "phone,email,name,member_id", b"010,kim@a.kr,Kim,7"), None);
    let shifted = rejected(File::Members, "phone,email,name,member_id", b"010,kim@a.kr,Kim,0").unwrap();
    assert!(
        shifted.ends_with(",010,k***@a***.kr,K***,0\n") || shifted.contains(",k***@a***.kr,K***,0\n"),
        "{shifted}"
    );
    let wrong = [
        ("member_id,name,email", "`phone` is missing"),
        ("member_id,name,email,phone,Kim Min", "field 5 is not one of its columns"),
        ("member_id,name,email,phone,phone", "`phone` occurs twice"),
        ("member_id,name,email,phone,Locale", "`Locale` is not one of its columns"),
        (" member_id,name,email,phone", "` member_id` is not one of its columns, `member_id` is missing"),
    ];
    for (header, problem) in wrong {
        let error = Header::read(File::Members, header.split(',').map(str::to_owned).collect()).unwrap_err();
        let form =
            "its header line must name member_id, name, email, phone, locale and nothing else, in any order";
        assert_eq!(error, format!("{form}: {problem}"));
    }
}
