//! Plain data structures and algorithms on bytes: no reply, TTL, key, clock, lock or async in here.

mod lcs;
mod longdouble;
mod string;

pub use lcs::{Lcs, Match, lcs, lcs_len};
pub use longdouble::LongDouble;
pub use string::{append, range, write_at};
