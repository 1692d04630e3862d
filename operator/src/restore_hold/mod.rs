//! Recognises a database that was restored from before something that the cluster knows, and holds
//! the e-mails of the months concerned until a person lets them go.
//!
//! Each month has a high-water mark, which the leader moves on in the database and then in a
//! ConfigMap, as long as something of the month is billed or sent ([`keep_marks`]). A database that
//! does not have the cluster's mark has lost what came after its own ([`Hold`]). Only a month whose
//! marks agree is moved on, so the hold lasts until a person releases it ([`release`]).

mod cluster_marks;
mod hold;
mod keep_marks;
#[cfg(test)]
mod tests;

pub(crate) use self::hold::{Hold, Release};
pub(crate) use self::keep_marks::{find_hold, keep_marks, release};
