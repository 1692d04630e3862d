//! Files as people have them: other encodings and separators, missing headers, line breaks and
//! addresses that are none, folders that cannot be written to.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::Site;

const HEADER: &str = "member_id,name,email,phone,locale\n";
/// 홍철호 in CP949, which is valid as UTF-8.
const BY_ACCIDENT: &[u8] = b"\xc8\xab\xc3\xb6\xc8\xa3";

fn with_name(name: &[u8]) -> Vec<u8> {
    [HEADER.as_bytes(), b"1,", name, b",kim@example.com,,\n"].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn a_file_in_another_form_is_refused_as_a_whole_with_the_command_that_converts_it() {
    let site = Site::new().await;
    let cp949 = "members.csv is in CP949 (EUC-KR), not UTF-8, as line 2 shows: convert it with";
    let python =
        "python3 -c 'import csv,sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter=";
    let whole = with_name("김하늘".as_bytes());
    let cut = gzip(&whole)[..40].to_vec();
    let book = b"version: \"1\"\nname: \xb1\xe8\xc7\xcf\xb4\xc3\n".to_vec();
    let cases = [
        ("members.csv", with_name(BY_ACCIDENT), format!("{cp949} `iconv -f CP949 -t UTF-8 < IN/members.csv > members.csv.new`, and load the result as members.csv")),
        ("members.csv.gz", gzip(&with_name(b"\xb1\xe8\xc7\xcf\xb4\xc3")), format!("{cp949} `gzip -dc IN/members.csv.gz | iconv -f CP949 -t UTF-8 > members.csv.new`, and load the result as members.csv")),
        ("members.csv", utf16(&format!("{HEADER}1,홍철호,,,\n")), "members.csv is in UTF-16, not UTF-8: convert it with `iconv -f UTF-16 -t UTF-8 < IN/members.csv > members.csv.new`, and load the result as members.csv".to_owned()),
        ("usage.csv", utf16("usage_id,member_id,kind,quantity,started_at\n")[2..].to_vec(), "usage.csv is in UTF-16LE, not UTF-8: convert it with `iconv -f UTF-16LE -t UTF-8 < IN/usage.csv > usage.csv.new`, and load the result as usage.csv".to_owned()),
        ("grants.csv", b"member_id;discount_code;from;to\n1;F;2026-10-01;\n".to_vec(), format!("grants.csv has its fields separated by semicolons, not by commas: convert it with `{python}\";\"))' < IN/grants.csv > grants.csv.new`, and load the result as grants.csv")),
        ("grants.csv", b"member_id\tdiscount_code\tfrom\tto\n".to_vec(), format!("grants.csv has its fields separated by tabs, not by commas: convert it with `{python}\"\\t\"))' < IN/grants.csv > grants.csv.new`, and load the result as grants.csv")),
        ("pricebook.yaml", book, "pricebook.yaml is in CP949 (EUC-KR), not UTF-8, as line 2 shows: convert it with `iconv -f CP949 -t UTF-8 < IN/pricebook.yaml > pricebook.yaml.new`, and load the result as pricebook.yaml".to_owned()),
        ("manifest.yaml", b"source: a\nfiles: {} # \xff\n".to_vec(), "manifest.yaml is not UTF-8 on line 2".to_owned()),
        ("members.csv.gz", cut, "cannot read IN/members.csv.gz: ".to_owned()),
    ];
    for (name, content, problem) in cases {
        // The other file is in order, and is not loaded either.
        let subscriptions = "member_id,plan_code,from,to\n1,LTE-33,2026-01-01,\n";
        let folder = site.folder("in", &[("subscriptions.csv", subscriptions)]);
        std::fs::write(folder.join(name), content).unwrap();
        let ended = site.load(&folder).with(2);
        let message = ended.message().replace(folder.to_str().unwrap(), "IN");
        match problem.strip_suffix(": ") {
            Some(_) => assert!(message.starts_with(&format!("IN: {problem}")), "{message}"),
            None => assert_eq!(message, format!("IN: {problem}")),
        }
    }
    let stored = "select concat_ws(' ', (select count(*) from load), (select count(*) from subscription))";
    assert_eq!(site.rows(stored).await, ["0 0"]);
}

#[tokio::test]
async fn broken_lines_of_a_utf_8_file_are_rejected_with_those_that_are_valid_by_accident() {
    let site = Site::new().await;
    let mut members = format!("{HEADER}1,김하늘,,,\n2,박새봄,,,\n3,이나래,,,\n").into_bytes();
    for name in [b"\xb1\xe8\xc7\xcf\xb4\xc3", BY_ACCIDENT] {
        members.extend([b"9,", name, b",,,\n"].concat());
    }
    let folder = site.folder("in", &[]);
    std::fs::write(folder.join("members.csv"), members).unwrap();
    site.load(&folder).with(3);
    let rejects = std::fs::read_to_string(folder.join("members.csv.rejects.csv")).unwrap();
    let reasons: Vec<String> =
        rejects.lines().skip(1).map(|line| line.split(",9,").next().unwrap().to_owned()).collect();
    assert_eq!(reasons, ["5,not UTF-8", "6,\"CP949, not UTF-8\""]);
    assert_eq!(site.rows("select member_id::text from member order by 1").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_missing_header_line_does_not_print_a_persons_data() {
    let site = Site::new().await;
    let form = "members.csv: its header line must name member_id, name, email, phone, locale and nothing else, in any order";
    let cases = [
        (
            "1,Canaria Bird,canary@tweety.example,010-8765-4321,ko",
            "the first line has 5 fields and none of these names",
        ),
        (
            "Canaria Bird;canary@tweety.example;010-8765-4321",
            "the first line has 1 field and none of these names",
        ),
        ("회원번호,이름,이메일,전화번호,언어", "the first line has 5 fields and none of these names"),
        (
            "name,Canaria Bird,canary@tweety.example",
            "field 2 is not one of its columns, field 3 is not one of its columns, `member_id` is missing, `email` is missing, `phone` is missing",
        ),
        (
            "Member ID,name,E-Mail,phone,plan_code,",
            "`Member ID` is not one of its columns, field 3 is not one of its columns, `plan_code` is not one of its columns, field 6 is empty, `member_id` is missing, `email` is missing",
        ),
    ];
    for (line, problem) in cases {
        let folder = site.folder("in", &[("members.csv", &format!("{line}\n{line}\n"))]);
        let ended = site.run(&["load", folder.to_str().unwrap(), "--log", "trace"]).with(2);
        assert_eq!(ended.message(), format!("{}: {form}: {problem}", folder.display()));
        for data in ["Canaria", "tweety", "8765"] {
            assert!(!ended.log.contains(data) && !ended.out.contains(data), "{}", ended.log);
        }
    }
}

#[tokio::test]
async fn members_keep_their_locales_if_the_file_has_no_such_column() {
    let site = Site::new().await;
    let versions = "select concat_ws(' ', member_id, load, coalesce(locale, 'none')) from member order by member_id, load";
    let with = "member_id,name,email,phone,locale\n1,Kim,k@e.kr,,EN\n2,Lee,l@e.kr,,en-US\n3,Park,p@e.kr,,ko_KR\n5,Weber,w@e.de,,de-AT\n";
    site.load(&site.folder("in", &[("members.csv", with)])).with(0);
    let without = "member_id,name,email,phone\n1,Kim,k@e.kr,\n2,Lee,other@e.kr,\n4,New,n@e.kr,\n";
    let again = site.load(&site.folder("in", &[("members.csv", without)])).with(0);
    assert_eq!(site.rows(versions).await, ["1 1 en", "2 1 en", "2 2 en", "3 1 ko", "4 2 none", "5 1 de"]);
    let words: Vec<_> =
        again.out.lines().find(|line| line.starts_with("members.csv")).unwrap().split_whitespace().collect();
    assert_eq!(words, ["members.csv", "3", "2", "1", "0", "0"]);
    // An empty locale is one: the installation's.
    let empty = "member_id,name,email,phone,locale\n1,Kim,k@e.kr,,\n";
    site.load(&site.folder("in", &[("members.csv", empty)])).with(0);
    // What counts is the version that was not taken back.
    site.run(&["load", "--take-back", "3", "--reason", "test"]).with(0);
    let renamed = "member_id,name,email,phone\n1,Kim Min,k@e.kr,\n";
    site.load(&site.folder("in", &[("members.csv", renamed)])).with(0);
    let of_first =
        site.rows(versions).await.into_iter().filter(|row| row.starts_with("1 ")).collect::<Vec<_>>();
    assert_eq!(of_first, ["1 1 en", "1 3 none", "1 5 en"]);
}

#[tokio::test]
async fn addresses_that_get_no_e_mail_and_line_breaks_are_warnings() {
    let site = Site::new().await;
    let mut members = HEADER.to_owned();
    members.push_str("1,\"Canaria\nBird\",canary@tweety.example,,\n");
    members.push_str("2,Canaria,\"canary@tweety.example\r\nBcc: x@tweety.example\",\"010\n8765\",\n");
    for id in 3..15 {
        members.push_str(&format!("{id},Canaria,canary;x@tweety.example,,\n"));
    }
    members.push_str("15,Canaria,,,\n");
    let folder = site.folder("in", &[("members.csv", &members)]);
    let ended = site.run(&["load", folder.to_str().unwrap(), "--log", "trace"]).with(0);
    let no_address = "no e-mail can be sent to this address: the member is stored without one";
    let path = folder.join("members.csv.warnings.csv");
    let warnings = std::fs::read_to_string(&path).unwrap();
    let mut lines = warnings.lines();
    let first = [
        "line,member_id,warning".to_owned(),
        "2,1,the name has a line break or another control character: e-mails show a blank instead".to_owned(),
        format!("4,2,{no_address}"),
        "4,2,the phone number has a line break or another control character".to_owned(),
        format!("7,3,{no_address}"),
    ];
    assert_eq!(lines.by_ref().take(5).collect::<Vec<_>>(), first);
    assert_eq!(lines.count(), 11);
    assert_eq!(ended.log.matches(no_address).count(), 8, "{}", ended.log);
    assert!(
        ended.log.contains(&format!("5 more warnings; all of them are in {}", path.display())),
        "{}",
        ended.log
    );
    for text in [&ended.log, &ended.out, &warnings] {
        assert!(!text.contains("Canaria") && !text.contains("tweety") && !text.contains("8765"), "{text}");
    }
    assert_eq!(
        site.rows("select concat_ws(' ', detail->'files'->'members.csv'->>'warnings', detail->'files'->'members.csv'->>'addressesDropped') from job_log").await,
        ["15 13"]
    );
    assert_eq!(
        site.rows(
            "select string_agg(member_id::text, ' ' order by member_id) from member where email is not null"
        )
        .await,
        ["1"]
    );
    // Without warnings, the file of the earlier load is gone.
    site.load(&site.folder("in", &[("members.csv", HEADER)])).with(0);
    std::fs::write(&path, "").unwrap();
    site.load(&folder).with(0);
    assert!(!path.exists());
}

#[tokio::test]
async fn only_a_reject_needs_a_folder_that_can_be_written_to() {
    let site = Site::new().await;
    // Nobody can create a file in /proc.
    let run = |folder: &Path| site.run(&["load", folder.to_str().unwrap(), "--rejects-dir", "/proc"]);
    let members = format!("{HEADER}1,Kim,nothing,,\n");
    let ended = run(&site.folder("in", &[("members.csv", &members)])).with(0);
    assert!(
        ended.log.contains("/proc/members.csv.warnings.csv cannot be written: name a folder with --rejects-dir to have all of them in a file"),
        "{}",
        ended.log
    );
    let wrong = "adjustment_id,member_id,month,code,amount,reason\n7,1,2026-10,G,-5,x\n";
    for (name, second) in [("a reject", "0,1,2026-10,G,-5,x\n"), ("a conflict", "7,1,2026-10,G,-5,y\n")] {
        let folder = site.folder("in", &[("adjustments.csv", &format!("{wrong}{second}"))]);
        let ended = run(&folder).with(2);
        let message = "cannot write the rejects of adjustments.csv to /proc: name a folder that can be written to with \
                       --rejects-dir; nothing was loaded: ";
        assert!(ended.message().starts_with(message), "{name}: {}", ended.message());
    }
    assert_eq!(site.rows("select count(*)::text from adjustment").await, ["0"]);
    // The folder is created with the first reject, and not before.
    let rejects = site.path().join("of-today");
    let run = |second: &str| {
        let folder = site.folder("in", &[("adjustments.csv", &format!("{wrong}{second}"))]);
        site.run(&["load", folder.to_str().unwrap(), "--rejects-dir", rejects.to_str().unwrap()])
    };
    run("").with(0);
    assert!(!rejects.exists());
    run("0,1,2026-10,G,-5,x\n").with(3);
    assert!(rejects.join("adjustments.csv.rejects.csv").exists());
    assert_eq!(
        site.rows("select string_agg(state, ' ' order by number) from load").await,
        ["FINISHED DEAD DEAD FINISHED FINISHED"]
    );
}
