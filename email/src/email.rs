//! An e-mail that is ready to be sent: envelope and content. Neither can be printed.

use std::fmt;

use lettre::address::Envelope;

/// An e-mail that is ready to be sent. Its `Debug` form hides address and content.
pub struct Email {
    envelope: Envelope,
    message_id: String,
    content: Content,
}

impl Email {
    pub(crate) fn new(envelope: Envelope, message_id: String, content: Vec<u8>) -> Self {
        Self { envelope, message_id, content: Content(content) }
    }

    /// Sender and recipient. The `Debug` form of the envelope contains the address.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email")
            .field("message_id", &self.message_id)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

/// The data that follows the SMTP command DATA: headers and bodies (RFC 5322). Its `Debug` form
/// hides it.
pub struct Content(Vec<u8>);

impl Content {
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}
