//! Values in Redis's serialised format, as DUMP gives and RESTORE takes them: a type, the value, and a footer with the
//! format's version and a CRC64. Reads all that Redis up to 8.2 and Valkey 9.1 write, and writes what Redis 7.0 and all
//! later ones read. Knows bytes; no keys, and nothing of how values are kept.
//!
//! A payload is a client's word, checksum or not: everything read from it is checked against what is there, and nothing
//! is allocated for a number that only claims.

mod crc;
mod functions;
mod load;
mod lzf;
mod packed;
#[cfg(test)]
mod rdb_tests;
mod read;
mod stream;
mod write;
mod write_stream;

pub use functions::{dump_functions, load_functions};
pub use load::{Kind, Part, load};
pub use read::Bad;
pub use stream::{Group, StreamId, StreamInfo};
pub use write::{Dump, sign};
pub use write_stream::Node;
