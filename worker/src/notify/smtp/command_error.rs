//! Why an SMTP command failed: an error reply, a broken connection, or no reply in time.

use lettre::Address;
use lettre::transport::smtp::Error;
use tokio::time::{Instant, timeout_at};

use super::reply::ServerReply;

/// The server closes the connection after this reply.
const SERVICE_NOT_AVAILABLE: u16 = 421;

/// Why a command failed.
pub(super) enum CommandError {
    Smtp(Error),
    TimedOut,
}

impl CommandError {
    /// A 5xx reply.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Smtp(error) if error.is_permanent())
    }

    /// The server sent a reply, of any kind.
    pub(super) fn has_reply(&self) -> bool {
        matches!(self, Self::Smtp(error) if error.status().is_some())
    }

    /// The server replied, and keeps the connection open.
    pub(super) fn keeps_connection(&self) -> bool {
        match self {
            Self::Smtp(error) => error.status().is_some_and(|code| u16::from(code) != SERVICE_NOT_AVAILABLE),
            Self::TimedOut => false,
        }
    }

    /// The server's reply to `command`, or what happened instead of one.
    pub(super) fn reply_to(&self, command: &str, recipients: &[Address]) -> ServerReply {
        match self {
            Self::Smtp(_) if self.has_reply() => ServerReply::masking(&self.text(recipients), recipients),
            Self::Smtp(_) => {
                let text = format!("the connection broke off at {command}: {}", self.text(recipients));
                ServerReply::masking(&text, recipients)
            }
            Self::TimedOut => ServerReply::new(&format!("no answer to {command} in time")),
        }
    }

    /// The masked text of the reply or error.
    pub(super) fn text(&self, recipients: &[Address]) -> String {
        let text = match self {
            Self::Smtp(error) => {
                let text =
                    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
                error.status().map_or_else(|| text.clone(), |code| format!("{code} {text}"))
            }
            Self::TimedOut => "no answer in time".to_owned(),
        };
        ServerReply::masking(&text, recipients).into_string()
    }
}

/// Waits for a reply until the deadline.
pub(super) async fn with_deadline<T>(
    deadline: Instant,
    reply: impl Future<Output = Result<T, Error>>,
) -> Result<T, CommandError> {
    match timeout_at(deadline, reply).await {
        Ok(reply) => reply.map_err(CommandError::Smtp),
        Err(_) => Err(CommandError::TimedOut),
    }
}
