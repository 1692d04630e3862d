//! The rows of docs/wrong-uses.md that need no cluster: the program says what the table says.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const TABLE: &str = include_str!("../../docs/wrong-uses.md");
const PROGRAM: &str = "kubectl monthend ";
/// A cluster that is away.
const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: test
contexts: [{ name: test, context: { cluster: test, user: test } }]
clusters: [{ name: test, cluster: { server: 'http://127.0.0.1:1' } }]
users: [{ name: test, user: {} }]
";

/// The rows of the program that need nothing: the command, and what it says.
fn rows() -> Vec<(&'static str, &'static str)> {
    let code = |cell: &'static str| cell.trim().trim_matches('`').trim();
    TABLE
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let [_, how, says, "nothing"] = cells[..] else { return None };
            Some((code(how).strip_prefix(PROGRAM)?, code(says)))
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

fn run(folder: &Path, arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-monthend"))
        .args(arguments)
        .current_dir(folder)
        .env("KUBECONFIG", folder.join("kubeconfig.yaml"))
        .env_remove("COMPLETE")
        .output()
        .expect("the program is built")
}

#[test]
fn the_program_says_what_the_table_says() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["october", "empty"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    fs::write(folder.path().join("october/members.csv"), "member_id,name,email,phone\n").expect("a file");
    fs::write(folder.path().join("kubeconfig.yaml"), KUBECONFIG).expect("a file");
    let rows = rows();
    assert!(rows.len() >= 20, "the table has {} rows", rows.len());
    for (how, words) in rows {
        let output = run(folder.path(), &shlex::split(how).expect("a command"));
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(says(&text, words), "`{PROGRAM}{how}` says, instead of `{words}`:\n{text}");
        assert!(matches!(output.status.code(), Some(2 | 75)), "`{how}`: {}", output.status);
        assert_eq!(output.stdout, b"", "`{how}`");
    }
}
