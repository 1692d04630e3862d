//! The message as it goes over the wire: headers, both bodies, encodings.

use std::fmt;
use std::time::SystemTime;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use jiff::Timestamp;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{self, ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Mailboxes, MultiPart, SinglePart};
use secrecy::{ExposeSecret as _, SecretString};

use crate::bill::Bill;
use crate::context;
use crate::templates::{Rendered, Templates};

/// Why no message can be made of a bill. Says nothing that is private.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    #[error("the member's address is not one that mail can be sent to")]
    Address,
    #[error("line {line} of the bill is usage that no plan comes before")]
    Orphan { line: i32 },
    #[error("the template {file} can't be rendered with this bill, in line {line}: {reason}")]
    Render { file: String, line: usize, reason: String },
    #[error("the subject that {file} makes for this bill is not one line of text")]
    Subject { file: String },
}

/// Makes messages of bills, with one set of templates and one sender.
pub struct Composer {
    templates: Templates,
    from: Mailbox,
}

impl fmt::Debug for Composer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Composer").field("templates", &self.templates).finish_non_exhaustive()
    }
}

impl Composer {
    #[must_use]
    pub fn new(templates: Templates, from: Mailbox) -> Self {
        Self { templates, from }
    }

    /// The same bill, address and date always make the same bytes.
    ///
    /// # Errors
    /// Mail can't be sent to the address, or the bill is unlike any that the templates were tried with.
    pub fn compose(
        &self,
        bill: &Bill<'_>,
        to: &SecretString,
        date: Timestamp,
    ) -> Result<Email, ComposeError> {
        let to: Address = to.expose_secret().parse().map_err(|_| ComposeError::Address)?;
        let name = context::cleaned(bill.name.expose_secret());
        let Rendered { subject, html, text } = self.templates.render(bill)?;
        let message_id = message_id(bill.month, bill.member, bill.revision, self.from.email.domain());
        let boundary = format!("=_{}_{}_{}", bill.month, bill.member, bill.revision);
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()]);
        let envelope = envelope.map_err(|_| ComposeError::Address)?;
        let name = Some(name.into_owned()).filter(|name| !name.is_empty());
        let message = MultiPart::alternative()
            .boundary(boundary)
            .header(header::From::from(Mailboxes::from(self.from.clone())))
            .header(header::To::from(Mailboxes::from(Mailbox::new(name, to))))
            .header(header::Subject::from(subject))
            .header(header::Date::new(SystemTime::from(date)))
            .header(header::MessageId::from(message_id.clone()))
            .header(AutoSubmitted)
            .header(header::MIME_VERSION_1_0)
            .singlepart(part(ContentType::TEXT_PLAIN, text))
            .singlepart(part(ContentType::TEXT_HTML, html));
        Ok(Email { envelope, message_id, content: Content(message.formatted()) })
    }
}

fn part(kind: ContentType, text: String) -> SinglePart {
    // Unlike quoted-printable it costs next to nothing, and Korean is shorter in it.
    let body = Body::new_with_encoding(text, ContentTransferEncoding::Base64);
    let body = body.unwrap_or_else(Body::new);
    SinglePart::builder().header(kind).body(body)
}

/// The one Message-ID of a bill: whoever sends it again sends the same.
#[must_use]
pub fn message_id(month: BillingMonth, member: MemberId, revision: Revision, domain: &str) -> String {
    format!("<{month}.{member}.{revision}@{domain}>")
}

/// Keeps vacation notices from answering (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// A message that is ready to be sent. Can't be printed.
pub struct Email {
    envelope: Envelope,
    message_id: String,
    content: Content,
}

impl Email {
    /// Sender and recipient. Printing it would print the address.
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

/// What goes after DATA: headers and bodies (RFC 5322). Can't be printed.
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
