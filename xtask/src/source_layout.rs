//! The layout of Rust sources that rustfmt's stable options do not cover: one `use` for each
//! module, in three groups; the width of comments; the length of files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;

/// Characters of a line of comment, without its indentation: as wide as code.
const COMMENT_WIDTH: usize = 110;
const FILE_LINES: usize = 500;

/// What a `use` brings in, in the order of the groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Standard,
    Other,
    This,
}

/// Every tracked Rust file of the checkout.
pub(crate) fn check(paths: &Paths, progress: &Progress) -> Result<()> {
    progress.step("source layout", |step| {
        let files = exec::output(Command::new("git").current_dir(&paths.repo).args(["ls-files", "*.rs"]))?;
        let mut faults = Vec::new();
        for file in files.lines() {
            let path = paths.repo.join(file);
            if !path.exists() {
                continue;
            }
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            faults.extend(self::faults(&text).into_iter().map(|fault| format!("{file}:{fault}")));
            faults.extend(misplaced(&paths.repo, file));
        }
        if !faults.is_empty() {
            bail!("{} places are not laid out as the others:\n{}", faults.len(), faults.join("\n"));
        }
        step.note(format!("{} files", files.lines().count()));
        Ok(())
    })
}

/// A module with a folder has its file in it, as `mod.rs`.
fn misplaced(repo: &Path, file: &str) -> Option<String> {
    let folder = repo.join(file.strip_suffix(".rs")?);
    folder.is_dir().then(|| format!("{file}: belongs into its folder, as mod.rs"))
}

/// `LINE: what is wrong`, in the order of the lines.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut before: Option<Origin> = None;
    let mut statement: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let comment = line.trim_start().starts_with("//");
        if comment && line.trim_start().chars().count() > COMMENT_WIDTH {
            faults.push(format!("{number}: a comment of more than {COMMENT_WIDTH} characters"));
        }
        if let Some((_, uses)) = &mut statement {
            uses.push_str(line.trim());
        } else if line.starts_with("use ") {
            statement = Some((number, line.to_owned()));
        } else {
            // A blank line ends a group; anything else ends the list of uses.
            before = if line.is_empty() { before } else { None };
            continue;
        }
        let Some((start, uses)) = statement.take_if(|(_, uses)| uses.ends_with(';')) else { continue };
        if uses.matches('{').count() > 1 {
            faults.push(format!("{start}: braces within braces: one `use` for each module"));
        }
        let origin = origin(&uses);
        if before.is_some_and(|before| before > origin) {
            faults.push(format!("{start}: `use` out of order: std, then crates, then this crate"));
        }
        before = Some(origin);
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        faults.push(format!("{lines}: more than {FILE_LINES} lines: make two files of it"));
    }
    faults
}

fn origin(uses: &str) -> Origin {
    let path = uses.trim_start_matches("use ");
    let first = path.split([':', ';', ' ', '{']).next().unwrap_or_default();
    match first {
        "std" | "core" | "alloc" => Origin::Standard,
        "crate" | "super" | "self" => Origin::This,
        _ => Origin::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_order_has_no_faults() {
        let text = "//! A file.\n\nuse std::fs;\nuse std::path::{Path, PathBuf};\n\nuse anyhow::{\n    Context,\n    Result,\n};\n\n\
                    use crate::paths::Paths;\n\nfn main() {}\n";
        assert_eq!(faults(text), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named_with_its_line() {
        let long = format!("// {}", "x".repeat(COMMENT_WIDTH));
        let lines = "\n".repeat(FILE_LINES + 1);
        for (text, fault) in [
            ("use std::{\n    fs::{self, File},\n};\n", "1: braces within braces: one `use` for each module"),
            ("use crate::a;\nuse std::fs;\n", "2: `use` out of order: std, then crates, then this crate"),
            (
                "use anyhow::Result;\n\nuse std::fs;\n",
                "3: `use` out of order: std, then crates, then this crate",
            ),
            (long.as_str(), "1: a comment of more than 110 characters"),
            (lines.as_str(), "501: more than 500 lines: make two files of it"),
        ] {
            assert_eq!(faults(text), [fault], "{text:?}");
        }
    }

    #[test]
    fn a_modules_file_lies_in_its_folder() {
        let repo = tempfile::tempdir().unwrap();
        fs::create_dir_all(repo.path().join("src/load")).unwrap();
        assert_eq!(
            misplaced(repo.path(), "src/load.rs").as_deref(),
            Some("src/load.rs: belongs into its folder, as mod.rs")
        );
        assert_eq!(misplaced(repo.path(), "src/load/mod.rs"), None);
        assert_eq!(misplaced(repo.path(), "src/main.rs"), None);
    }
}
