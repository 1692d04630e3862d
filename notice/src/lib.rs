//! The e-mail that tells a member of a bill: its templates, its words and figures, its message. Pure: no database, no
//! network, no clock.
