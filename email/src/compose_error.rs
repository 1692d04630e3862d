//! Why a bill cannot be rendered as an e-mail. The texts contain no personal data and no amounts.

/// The bill cannot be rendered as an e-mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    #[error("the member's e-mail address is not valid")]
    Address,
    #[error("line {line} of the bill is usage, but no plan precedes it")]
    UsageWithoutPlan { line: i32 },
    #[error("template {file}, line {line}, can't be rendered with this bill: {reason}")]
    Render { file: String, line: usize, reason: String },
    #[error("the e-mail would be a correction, and the run's templates have none")]
    NoCorrections,
    #[error("template {file} renders a subject for this bill that is not one line of text")]
    Subject { file: String },
}
