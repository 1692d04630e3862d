//! What sets are refused for.
