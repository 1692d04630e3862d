//! Why a set of templates is rejected. Each message says what to write instead.

use domain::locale::Locale;
use handlebars::{RenderError, RenderErrorReason, TemplateErrorReason};

use super::files::set;
use super::helpers::USAGE;
use crate::context::{IN_LISTS, TOP};
use crate::correction;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the file {file} is missing; {}", set())]
    Missing { file: String },
    #[error(
        "there are no templates of {locale}, the installation's locale, in which members of a locale without templates get \
         their e-mails; {}",
        set()
    )]
    NoInstallationLocale { locale: Locale },
    /// `problem` names the field.
    #[error("{file}: {problem}")]
    Formats { file: String, problem: String },
    #[error("{file} does not belong to a set of templates; {}", set())]
    Unknown { file: String },
    #[error("a run that sends corrections needs the templates {files} too")]
    NoCorrections { files: String },
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
    format!(
        "there are {}; {}; in a correction also {}, in lines {}; and the helpers {}",
        TOP.join(", "),
        lists.join("; "),
        correction::TOP.join(", "),
        correction::IN_LINES.join(", "),
        USAGE.join(", ")
    )
}
