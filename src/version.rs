//! What this server says it is. Knows nothing else.

/// The version of Redis that clients may take this server for.
pub const REDIS: &str = "7.2.4";
/// The version of Cenote.
pub const CENOTE: &str = env!("CARGO_PKG_VERSION");
