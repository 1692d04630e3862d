//! The question before something that cannot be undone: asked on a terminal, answered in advance by
//! `--yes`, refused where nobody can be asked.

use std::io::{self, BufRead, IsTerminal as _, Write};

use crate::exit::{Problem, Result};

/// Who can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `--yes` was given.
    Yes,
    /// A person at a terminal.
    Person,
    /// Nobody: a script without `--yes`.
    Nobody,
}

impl Asked {
    pub(crate) fn of(yes: bool) -> Self {
        match (yes, io::stdin().is_terminal() && io::stderr().is_terminal()) {
            (true, _) => Self::Yes,
            (false, true) => Self::Person,
            (false, false) => Self::Nobody,
        }
    }
}

/// Asks on the terminal.
pub(crate) fn confirm(asked: Asked, question: &str) -> Result<()> {
    confirm_with(asked, question, &mut io::stdin().lock(), &mut io::stderr().lock())
}

fn confirm_with(asked: Asked, question: &str, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<()> {
    match asked {
        Asked::Yes => return Ok(()),
        Asked::Nobody => {
            let text = format!("{question} There is no terminal to answer on: if you are sure, add --yes");
            return Err(Problem::usage(text));
        }
        Asked::Person => {}
    }
    let mut answer = String::new();
    let answered = write!(output, "{question} [y/N] ")
        .and_then(|()| output.flush())
        .and_then(|()| input.read_line(&mut answer));
    if let Err(error) = answered {
        return Err(Problem::usage(format!("the answer cannot be read: {error}")));
    }
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Problem::usage("you did not answer yes: nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn answered(asked: Asked, answer: &str) -> (Result<()>, String) {
        let mut output = Vec::new();
        let result = confirm_with(asked, "Take revision 1 back?", &mut answer.as_bytes(), &mut output);
        (result, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_person_has_to_say_yes() {
        for (answer, agreed) in [("y\n", true), ("YES\n", true), ("n\n", false), ("\n", false), ("", false)] {
            let (result, shown) = answered(Asked::Person, answer);
            assert_eq!(shown, "Take revision 1 back? [y/N] ");
            assert_eq!(result.is_ok(), agreed, "{answer:?}");
            if let Err(problem) = result {
                assert_eq!(problem, Problem::usage("you did not answer yes: nothing was changed"));
            }
        }
    }

    #[test]
    fn yes_is_an_answer_in_advance() {
        assert_eq!(answered(Asked::Yes, ""), (Ok(()), String::new()));
    }

    #[test]
    fn without_a_terminal_and_without_yes_nothing_happens() {
        let (result, shown) = answered(Asked::Nobody, "y\n");
        let problem = result.unwrap_err();
        assert_eq!(problem.exit, Exit::Usage);
        assert_eq!(
            problem.text,
            "Take revision 1 back? There is no terminal to answer on: if you are sure, add --yes"
        );
        assert_eq!(shown, "");
    }
}
