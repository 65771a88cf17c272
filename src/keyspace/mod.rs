//! The keyspace: keys, TTLs and their memory, in shards that are locked one by one. Knows bytes and time as it is
//! handed; no commands, replies, sockets or databases.

mod access;
mod change;
mod entry;
mod evict;
mod interest;
mod lazyfree;
mod lease;
mod loads;
#[cfg(test)]
mod loads_tests;
mod shard;
mod stripes;
mod sweep;
mod table;
mod tracking;
#[cfg(test)]
mod tracking_tests;
mod value;
mod view;
mod walk;

pub use access::Access;
pub use change::{Edit, Event, News, Note, class};
pub use entry::{Entry, Slot};
pub use evict::{Policy, Rank};
pub use interest::{Ending, Ready, Served, Waiter, Watch};
pub use lazyfree::{Cause, Garbage, free_on, free_tables, lazy_freed, lazy_pending_bytes, set_lazy};
pub use lease::{Flight, Found, Loaded, LoadedKey, Standing};
pub use loads::{Landed, Landing};
pub use shard::{Counts, Shard, Ttl, take_stirred};
pub use stripes::{DatabaseSummary, Keyspace, MAX_SHARDS, ShardGuard};
pub use sweep::{Sweep, Swept};
pub use table::{Hash, Table};
pub use tracking::{Lapse, Prefixes, Tracker};
pub use value::{NewValue, Text, Value, WrongType};
pub use view::{Key, View, seen_at};
pub use walk::Walk;

pub use crate::types::Place;
