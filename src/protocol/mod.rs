//! RESP on the wire: the request reader, the reply writer, and the number forms both need. Knows bytes only:
//! no sockets, no commands, no keyspace.

mod reply;
mod request;

pub use crate::number::{format_double, parse_double, parse_i64};
pub use reply::{Mark, Output, Reply, SHARE_AT, Version, c_text};
pub use request::{Limits, MAX_INLINE, ProtocolError, Reader, Span, Step};
