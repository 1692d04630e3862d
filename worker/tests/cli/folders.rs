//! Wrong folders, files and configurations are reported before anything is written.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::Site;

#[tokio::test]
async fn wrong_folders_are_refused_with_their_reason() {
    let site = Site::new().await;
    let cases: [(&[(&str, &str)], &str); 15] = [
        (
            &[],
            "IN contains nothing to load: none of members.csv, subscriptions.csv, grants.csv, adjustments.csv, usage.csv, manifest.yaml, pricebook.yaml",
        ),
        (
            &[("member.csv", "member_id\n")],
            "IN contains nothing to load: none of members.csv, subscriptions.csv, grants.csv, adjustments.csv, usage.csv, manifest.yaml, pricebook.yaml",
        ),
        (
            &[("usage.csv", "")],
            "IN: usage.csv is empty: the header line `usage_id,member_id,kind,quantity,started_at` is missing",
        ),
        (
            &[("grants.csv", "1,FAMILY,2026-10-01,\n")],
            "IN: grants.csv: its header line must name member_id, discount_code, from, to and nothing else, in any order: the first line has 4 fields and none of these names",
        ),
        (
            &[("grants.csv", "member_id;discount_code;from;to\n")],
            "IN: grants.csv has its fields separated by semicolons, not by commas: convert it with `python3 -c ",
        ),
        (
            &[("grants.csv", "\"member_id\n")],
            "IN: grants.csv: the header line is not valid CSV: a quote is never closed",
        ),
        (
            &[("grants.csv", "member_id,discount_code,from,to\n"), ("grants.csv.gz", "x")],
            "IN: both grants.csv and grants.csv.gz exist: keep one of them",
        ),
        (
            &[("grants.csv", "x\n"), ("usage.csv", "")],
            "IN: grants.csv: its header line must name member_id, discount_code, from, to and nothing else, in any order: the first line has 1 field and none of these names; usage.csv is empty: the header line `usage_id,member_id,kind,quantity,started_at` is missing",
        ),
        (
            &[("manifest.yaml", "sources: crm\n")],
            "manifest.yaml: sources: unknown field `sources`, expected one of",
        ),
        (&[("manifest.yaml", "source: crm\nsource: erp\n")], "manifest.yaml: "),
        (
            &[("manifest.yaml", "files: {usage.csv: {rows: 1.5}}")],
            "manifest.yaml: files.usage.csv.rows: invalid type: floating point `1.5`, expected u64",
        ),
        (
            &[("manifest.yaml", "files: {usage.csv: {days: {from: 2026-10-01, to: soon}}}")],
            "manifest.yaml: files.usage.csv.days.to: ",
        ),
        (&[("pricebook.yaml", "version: 1\n")], "IN/pricebook.yaml: the price book is invalid: "),
        (
            &[("pricebook.yaml", BOOK)],
            "IN/pricebook.yaml: the price book is invalid: currency: is USD, but the installation's currency is KRW; timeZone: is Asia/Tokyo, but the installation's time zone is Asia/Seoul",
        ),
        (
            &[("manifest.yaml", "files: {usage.csv: {rows: 1}}")],
            "the manifest does not match the folder, nothing was loaded: usage.csv is not in the folder",
        ),
    ];
    for (files, message) in cases {
        let folder = site.folder("in", files);
        let ended = site.load(&folder);
        let expected_status = if message.starts_with("the manifest does not match") { 4 } else { 2 };
        let told = ended.message().replace(folder.to_str().unwrap(), "IN");
        assert_eq!(ended.status, Some(expected_status), "{told}");
        assert!(told.starts_with(message), "{told}\ninstead of\n{message}");
        let exact = [
            " u64",
            "is missing",
            "keep one of them",
            "never closed",
            "Asia/Seoul",
            "in the folder",
            "pricebook.yaml",
        ];
        if exact.iter().any(|end| message.ends_with(end)) {
            assert_eq!(told.split(" at line ").next(), Some(message));
        }
    }
    assert_eq!(site.rows("select count(*)::text from load").await, ["0"], "something was begun");
}

const BOOK: &str = "version: \"1\"\ncurrency: USD\ntimeZone: Asia/Tokyo\nvalidFrom: 2026-01\nusageKinds: [data]\n\
                    plans: [{code: A, baseFee: 1}]\n";

#[tokio::test]
async fn wrong_configurations_are_refused_with_their_reason() {
    let site = Site::new().await;
    let folder = site.folder("in", &[("members.csv", "member_id,name,email,phone\n")]);
    let load = ["load", folder.to_str().unwrap()];

    let ended = site.run(&["load", "/nowhere/at/all"]).with(2);
    assert_eq!(
        ended.message(),
        "cannot open the folder /nowhere/at/all: No such file or directory (os error 2)"
    );
    let file = folder.join("members.csv");
    let ended = site.load(&file).with(2);
    assert_eq!(
        ended.message(),
        format!("{} is not a folder: give the folder that contains members.csv", file.display())
    );
    let ended = site.run(&["load", folder.to_str().unwrap(), "--rejects-dir", "/nowhere/at/all"]).with(2);
    assert_eq!(ended.message(), "--rejects-dir /nowhere/at/all is not a folder");

    let run = |change: &dyn for<'c> Fn(&'c mut Command) -> &'c mut Command| {
        let mut command = site.command(&load);
        change(&mut command);
        crate::harness::ended(command.spawn().unwrap())
    };
    let ended = run(&|command| command.env_remove("MONTHEND_KEYS_DIR")).with(2);
    assert_eq!(ended.message(), "no keys: set MONTHEND_KEYS_DIR or give --keys-dir");
    let ended = run(&|command| command.env("MONTHEND_KEYS_DIR", Path::new("/nowhere"))).with(2);
    assert_eq!(ended.message(), "cannot read the keys in /nowhere: No such file or directory (os error 2)");
    let ended = run(&|command| command.env_remove("DATABASE_URL")).with(2);
    assert_eq!(ended.message(), "no database: set DATABASE_URL or give --database-url");
    let ended = run(&|command| command.env("DATABASE_URL", "postgres://x@127.0.0.1:1/x")).with(75);
    assert!(ended.message().starts_with("cannot connect to the database: "), "{}", ended.message());
    let ended = run(&|command| command.env("RUST_LOG", "info,==")).with(2);
    assert!(ended.log.contains("log filter \"info,==\" is not valid"), "{}", ended.log);
    run(&|command| command.arg("--what")).with(2);

    let empty = store::testing::TestDatabase::empty().await;
    let url = secrecy::ExposeSecret::expose_secret(&empty.url).to_owned();
    let ended = run(&|command| command.env("DATABASE_URL", &url)).with(5);
    assert!(ended.message().starts_with("the database has no installation yet, "), "{}", ended.message());
}

#[tokio::test]
async fn a_price_book_alone_is_checked_and_not_stored() {
    let site = Site::new().await;
    let book = BOOK.replace("USD", "KRW").replace("Tokyo", "Seoul").replace("\"1\"", "2026-07/B");
    let folder = site.folder("in", &[("pricebook.yaml", &book)]);
    let ended = site.load(&folder).with(0);
    let command = "kubectl create configmap pricebook-2026-07-b --from-file=pricebook.yaml=";
    assert!(
        ended.out.contains(&format!("{command}{}", folder.join("pricebook.yaml").display())),
        "{}",
        ended.out
    );
    assert_eq!(site.rows("select count(*)::text from price_book").await, ["0"]);
    assert_eq!(site.rows("select count(*)::text from load").await, ["0"]);
}

#[tokio::test]
async fn the_output_of_a_load_of_an_archive_is_an_archive_and_people_read_the_rest() {
    let site = Site::new().await;
    let grants = "member_id,discount_code,from,to\n1,FAMILY,2026-10-01,\n1,FAMILY,2026-02-31,\n";
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(grants.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "grants.csv", grants.as_bytes()).unwrap();
    let mut command = site.command(&["load", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&archive.into_inner().unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    for line in ["load 1 is finished (", "1 lines were rejected: see *.rejects.csv in ", "grants.csv "] {
        assert!(said.lines().any(|said| said.starts_with(line)), "{line} is not in:\n{said}");
    }
    let mut rejects = tar::Archive::new(output.stdout.as_slice());
    let mut entries = rejects.entries().unwrap();
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap().to_str(), Some("grants.csv.rejects.csv"));
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    assert!(text.contains("2026-02-31"), "{text}");
    assert!(entries.next().is_none());
}
