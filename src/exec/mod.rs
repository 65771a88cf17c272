//! Running commands: the ordered guards, the locks of their keys, and what happens around a handler. Knows
//! commands and the keyspace's locks; no sockets.

mod admit;
mod block;
mod call;
mod dispatch;
mod fill;
mod locks;
mod logs;
mod multi;
mod script;
mod walking;
mod write;

pub use block::{Blocked, settle_shard};
pub use dispatch::{After, Dispatch, Request};
pub use fill::{Fill, Filled, Interest};
pub use script::Running;
pub use walking::{Walked, Walking};
