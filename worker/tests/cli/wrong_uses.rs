//! The rows of docs/wrong-uses.md about `monthend load`: the program says what the table says.

use crate::harness::{Site, ended};

const TABLE: &str = include_str!("../../../docs/wrong-uses.md");

/// The rows about loads: the command, and what it says.
fn rows() -> Vec<(&'static str, &'static str)> {
    let code = |cell: &'static str| cell.trim().trim_matches('`').trim();
    TABLE
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let [_, how, says, "a database"] = cells[..] else { return None };
            Some((code(how), code(says)))
        })
        .collect()
}

/// Whether the text has these words; `…` stands for any.
fn says(text: &str, words: &str) -> bool {
    let mut rest = text;
    words.split('…').map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// The folders that the commands name.
fn write_folders(site: &Site) {
    const MEMBERS: &str = "member_id,name,email,phone\n1,Kim,kim@example.com,\n";
    const GRANTS: &str = "member_id,discount_code,from,to\n";
    const BOOK: &str = "version: \"1\"\ncurrency: USD\ntimeZone: Asia/Seoul\nvalidFrom: 2026-01\nusageKinds: [data]\n\
                        plans: [{code: A, baseFee: 1}]\n";
    let folders: [(&str, &[(&str, &str)]); 11] = [
        ("october", &[("members.csv", MEMBERS)]),
        ("empty", &[]),
        ("misspelt", &[("member.csv", MEMBERS)]),
        ("semicolons", &[("grants.csv", "member_id;discount_code;from;to\n")]),
        ("no-header", &[("grants.csv", "1,FAMILY,2026-10-01,\n")]),
        ("empty-file", &[("usage.csv", "")]),
        ("both", &[("grants.csv", GRANTS), ("grants.csv.gz", GRANTS)]),
        ("wrong-manifest", &[("members.csv", MEMBERS), ("manifest.yaml", "sources: crm\n")]),
        ("cut", &[("members.csv", MEMBERS), ("manifest.yaml", "files: {members.csv: {rows: 2}}")]),
        ("other-book", &[("pricebook.yaml", BOOK)]),
        ("wrong-line", &[("grants.csv", "member_id,discount_code,from,to\n1,FAMILY,2026-02-31,\n")]),
    ];
    for (name, files) in folders {
        site.folder(name, files);
    }
    let cp949 = b"member_id,name,email,phone\n1,\xb1\xe8\xc7\xcf\xb4\xc3,,\n";
    std::fs::write(site.folder("cp949", &[]).join("members.csv"), cp949).unwrap();
}

/// Runs `[env -u VARIABLE] monthend ARGUMENTS` among the folders. Returns its exit status and what it
/// says, as the output, the last message and the log.
fn run(site: &Site, how: &str) -> (Option<i32>, String) {
    let words = shlex::split(how).unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (removed, arguments) = match words[..] {
        ["env", "-u", variable, "monthend", ref arguments @ ..] => (Some(variable), arguments.to_vec()),
        ["monthend", ref arguments @ ..] => (None, arguments.to_vec()),
        _ => panic!("`{how}` is no command of monthend"),
    };
    let mut command = site.command(&arguments);
    command.current_dir(site.path());
    if let Some(variable) = removed {
        command.env_remove(variable);
    }
    let ended = ended(command.spawn().unwrap());
    let text = [ended.out.as_str(), &ended.message(), &ended.log].join("\n");
    (ended.status, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn the_program_says_what_the_table_says() {
    let site = Site::new().await;
    write_folders(&site);
    let rows = rows();
    assert!(rows.len() >= 20, "the table has {} rows", rows.len());
    for (how, words) in rows {
        let (status, text) = run(&site, how);
        assert!(says(&text, words), "`{how}` says, instead of `{words}`:\n{text}");
        assert!(matches!(status, Some(2 | 3 | 4 | 75)), "`{how}`: {status:?}");
    }
    assert!(!site.path().join("missing").exists());
}
