//! Read-through sources: what loads a missing key. Knows routes and databases, not the keyspace or the protocol.

mod matcher;
mod query;
mod template;

pub use matcher::{Matcher, Overlap};
pub use query::Query;
pub use template::{CAPTURES_MAX, Captures, Params, ROUTED_KEY_BYTES_MAX, TEMPLATE_BYTES_MAX, Template};
