//! Composes an e-mail from a bill: headers, both bodies, encodings.

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
use crate::compose_error::ComposeError;
use crate::context;
use crate::email::Email;
use crate::templates::{Rendered, Templates};

/// Composes e-mails with one set of templates and one sender.
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

    /// Composes the e-mail of a bill. The same bill, address and date always give the same bytes.
    ///
    /// # Errors
    /// The address is not valid, or the templates fail for this bill although they passed
    /// validation with sample bills.
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
        Ok(Email::new(envelope, message_id, message.formatted()))
    }
}

/// Whether an e-mail can be composed for this address.
#[must_use]
pub fn is_valid_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}

fn part(kind: ContentType, text: String) -> SinglePart {
    // Base64 is much faster to encode than quoted-printable, and shorter for Korean.
    let body = Body::new_with_encoding(text, ContentTransferEncoding::Base64);
    let body = body.unwrap_or_else(Body::new);
    SinglePart::builder().header(kind).body(body)
}

/// The Message-ID of a bill. It is the same each time the bill is sent, so that duplicates can be
/// recognised.
#[must_use]
pub fn message_id(month: BillingMonth, member: MemberId, revision: Revision, domain: &str) -> String {
    format!("<{month}.{member}.{revision}@{domain}>")
}

/// Prevents automatic replies such as vacation notices (RFC 3834).
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
