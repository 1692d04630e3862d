//! Why a set of templates is refused, in words that say what to write instead.

use handlebars::{RenderError, RenderErrorReason, TemplateErrorReason};

use super::FILES;
use super::helpers::USAGE;
use crate::context::{IN_LISTS, TOP};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template {file} is missing; a set has exactly {}", FILES.join(", "))]
    Missing { file: String },
    #[error("{file} is not a template of a set, which has exactly {}", FILES.join(", "))]
    Unknown { file: String },
    #[error("{file}, line {line}: {reason}")]
    Syntax { file: String, line: usize, reason: String },
    #[error("{file}, line {line}: partials and decorators can't be used; a template stands alone")]
    Include { file: String, line: usize },
    #[error("{file}, line {line}: {reason}; {}", available())]
    Rendering { file: String, line: usize, reason: String },
    #[error("{file} must make one line of text, and no empty one")]
    Subject { file: String },
    #[error("the templates can't be read: {0}")]
    Content(String),
}

impl TemplateError {
    pub(super) fn syntax(file: &str, error: &handlebars::TemplateError) -> Self {
        let reason = match error.reason() {
            TemplateErrorReason::MismatchingClosedHelper(opened, closed) => {
                format!("{{{{#{opened}}}}} is open, but {{{{/{closed}}}}} closes another")
            }
            other => other.to_string(),
        };
        let line = error.pos().map_or(1, |(line, _)| line);
        Self::Syntax { file: file.to_owned(), line, reason }
    }

    pub(super) fn rendering(file: &str, error: &RenderError) -> Self {
        Self::Rendering { file: file.to_owned(), line: error.line_no.unwrap_or(1), reason: reason(error) }
    }
}

/// What is wrong, without any value: only what the template itself says.
pub(super) fn reason(error: &RenderError) -> String {
    match error.reason() {
        RenderErrorReason::MissingVariable(Some(path)) => format!("there is no `{path}` here"),
        RenderErrorReason::MissingVariable(None) => "a variable is used that is not there".to_owned(),
        RenderErrorReason::HelperNotFound(name) => format!("there is no helper `{name}`"),
        RenderErrorReason::ParamNotFoundForIndex(helper, _) => {
            format!("`{helper}` is used without its value")
        }
        RenderErrorReason::Other(ours) => ours.clone(),
        _ => "the expression can't be used like this".to_owned(),
    }
}

fn available() -> String {
    let lists = IN_LISTS.map(|(list, variables)| format!("in {list} {}", variables.join(", ")));
    format!("there are {}; {}; and the helpers {}", TOP.join(", "), lists.join("; "), USAGE.join(", "))
}
