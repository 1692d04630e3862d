//! The e-mail that a member gets for a bill: templates, formatting of amounts and dates, the MIME
//! message. Pure: no database, no network, no clock.
//!
//! [`Templates`] are valid by construction: they have rendered every kind of bill. A [`Composer`]
//! makes an [`Email`] from a [`Bill`] and an address. No `Debug` or error text contains a name, an
//! address, an amount or the content.

mod bill;
mod compose_error;
mod composer;
mod context;
mod correction;
mod email;
mod formats;
mod formatting;
mod line_name;
pub mod mock;
mod templates;

pub use bill::{Bill, Line, SentBill};
pub use compose_error::ComposeError;
pub use composer::{Composer, is_valid_address, message_id};
pub use email::{Content, Email};
pub use lettre::message::Mailbox;
pub use templates::{TemplateError, Templates};
