//! Sockets: the listener, the worker threads and the sessions. Knows bytes, buffers and limits; what a command
//! means it leaves to `exec`.

mod housekeeping;
mod http;
mod listener;
mod parsed;
mod pending;
mod session;
mod sockets;
mod stream;
mod tls;
mod worker;

pub use http::serve_metrics;
pub use listener::serve;
