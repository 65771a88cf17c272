//! Scripts: a Lua engine with the sandbox, the libraries and the conversions that Redis's scripts know. It knows Lua,
//! bytes, and a [`Host`] that runs commands; no keys, locks, connections or sockets.

mod api;
mod bits;
mod bridge;
mod engine;
mod json;
mod library;
mod msgpack;
mod pack;
mod raw;
mod sandbox;
mod source;

pub use engine::{Engine, Program, Ran};
pub use library::{FunctionInfo, Library};
pub use source::{Flags, Script, sha1_hex};

use crate::protocol::{Output, Span, Version};

/// Whom a script asks.
pub trait Host {
    /// Runs a command, and writes its reply; an error reply is an error of the script.
    fn call(&mut self, buf: &[u8], spans: &[Span], version: Version, out: &mut Output);
    /// Whether the user may run a command; None if there is none of that name.
    fn may(&self, buf: &[u8], spans: &[Span]) -> Option<bool>;
    /// A line for the log; `level` is 0 (debug) to 3 (warning).
    fn log(&self, level: i64, line: &[u8]);
}
