//! Why a set of templates is rejected. Each message says what to write instead.

use handlebars::{RenderError, RenderErrorReason, TemplateErrorReason};

use super::files::FILES;
use super::helpers::USAGE;
use crate::context::{IN_LISTS, TOP};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template {file} is missing; a set consists of exactly {}", FILES.join(", "))]
    Missing { file: String },
    #[error("{file} does not belong to a set of templates, which consists of exactly {}", FILES.join(", "))]
    Unknown { file: String },
    #[error("{file}, line {line}: {reason}")]
    Syntax { file: String, line: usize, reason: String },
    #[error(
        "{file}, line {line}: partials and decorators can't be used; each template must be self-contained"
    )]
    Include { file: String, line: usize },
    #[error("{file}, line {line}: {reason}; {}", available())]
    Rendering { file: String, line: usize, reason: String },
    #[error("{file} must render exactly one line of text that is not empty")]
    Subject { file: String },
    #[error("the templates can't be parsed: {0}")]
    Content(String),
}

impl TemplateError {
    pub(super) fn syntax(file: &str, error: &handlebars::TemplateError) -> Self {
        let reason = match error.reason() {
            TemplateErrorReason::MismatchingClosedHelper(opened, closed) => {
                format!("{{{{#{opened}}}}} is open, but {{{{/{closed}}}}} closes another block")
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

/// What is wrong. Quotes only the template, never a value of the bill.
pub(super) fn reason(error: &RenderError) -> String {
    match error.reason() {
        RenderErrorReason::MissingVariable(Some(path)) => format!("there is no `{path}` here"),
        RenderErrorReason::MissingVariable(None) => "an unknown variable is used".to_owned(),
        RenderErrorReason::HelperNotFound(name) => format!("there is no helper `{name}`"),
        RenderErrorReason::ParamNotFoundForIndex(helper, _) => {
            format!("`{helper}` is used without its value")
        }
        RenderErrorReason::Other(message) => message.clone(),
        _ => "the expression can't be used like this".to_owned(),
    }
}

fn available() -> String {
    let lists = IN_LISTS.map(|(list, variables)| format!("in {list} {}", variables.join(", ")));
    format!("there are {}; {}; and the helpers {}", TOP.join(", "), lists.join("; "), USAGE.join(", "))
}
