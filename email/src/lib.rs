//! The e-mail that tells a member of a bill: its templates, its words and figures, its message. Pure: no database, no
//! network, no clock.
//!
//! [`Templates`] in hand are valid ones: they have rendered every kind of bill. A [`Composer`] makes an [`Email`] of a
//! [`Bill`] and an address. Nothing here prints a name, an address or what was composed.

mod bill;
mod context;
mod email;
pub mod mock;
mod templates;
mod words;

pub use bill::{Bill, Line};
pub use email::{ComposeError, Composer, Content, Email, message_id};
pub use lettre::message::Mailbox;
pub use templates::{FILES, TemplateError, Templates};
