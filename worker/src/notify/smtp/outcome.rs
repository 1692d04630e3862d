//! How the two steps of sending an email end: first its envelope (MAIL, RCPT), then its content
//! (DATA).

use super::reply::ServerReply;

/// How sending an envelope ended. Nothing of the content is sent yet.
#[derive(Debug)]
pub(crate) enum EnvelopeOutcome {
    Accepted,
    /// 4xx from RCPT on: the email can be tried again.
    Deferred(ServerReply),
    /// 5xx from RCPT on, or the server cannot take such an email.
    Rejected(ServerReply),
    /// An error before RCPT: the server is unavailable, whatever the email.
    Unavailable(ServerReply),
}

/// How sending a content ended.
#[derive(Debug)]
pub(crate) enum ContentOutcome {
    Sent,
    /// The server certainly did not take the email, which can be tried again.
    Deferred(ServerReply),
    /// The server certainly did not take the email, and never will.
    Rejected(ServerReply),
    /// The reply to the complete content was lost.
    Unknown(ServerReply),
}
