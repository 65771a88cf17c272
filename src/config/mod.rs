//! The directives of redis.conf: their table, the file reader, and the values in force.
//!
//! `directives` says what a directive is and `table` lists them all; `value` parses a value by
//! its kind; [`Config`] holds the values in force (`settings` typed, the rest as text), `load`
//! fills it from the command line and files, `rewrite` writes it back, [`ConfigHandle`] shares it.
//! Knows neither sockets nor keys nor the async runtime.

pub mod directives;
mod handle;
mod in_force;
mod limits;
pub mod line;
mod load;
mod rewrite;
mod settings;
mod table;
mod value;

pub use handle::{ConfigHandle, ConfigReader};
pub use in_force::{Config, Line, SetError};
pub use limits::Limits;
pub use load::{Fault, Loaded, Place};
pub use rewrite::write_in_one_step;
pub use settings::{
    Allowed, BindAddr, ClientMemory, LogFormat, LogLevel, LogTimestamp, MaxmemoryPolicy, OomScore, Settings, TlsAuth,
    TlsSettings,
};
pub use value::OutputLimit;

/// The system's text for an error, without Rust's ` (os error 2)`.
pub(crate) fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
