//! Running commands: the ordered guards, the locks of their keys, and what happens around a handler. Knows
//! commands and the keyspace's locks; no sockets.

mod dispatch;
mod fill;

pub use dispatch::{After, Dispatch, Request};
pub use fill::{Fill, Filled};
