//! The registry: every command is one row and one function, in the file of its family. The rows are read by
//! dispatch, locking, read-through, COMMAND, the metrics and COMPATIBILITY.md. A handler knows its arguments, its
//! reply and either the locked keys ([`View`]) or the server's state ([`Ctx`]); no locks, sockets or databases.

mod acl;
mod acl_check;
mod acl_file;
mod acl_rules;
mod args;
mod bitmap;
mod block;
mod client;
mod client_list;
mod client_tracking;
mod cluster;
mod collection;
mod command;
mod config;
mod connection;
mod counter;
mod debug;
mod docs;
mod dump;
mod dump_value;
mod expire;
mod function;
mod geo;
mod geo_search;
mod hash;
mod hash_ttl;
mod help;
mod hyperloglog;
mod info;
mod key;
mod latency;
mod later;
mod lcs;
mod list;
mod list_block;
mod memory;
mod monitor;
mod options;
mod pubsub;
mod redact;
mod registry;
mod route;
mod route_look;
mod scan;
mod script;
mod server;
mod set;
mod set_algebra;
mod slowlog;
mod sort;
mod spec;
mod stream;
mod stream_args;
mod stream_group;
mod stream_info;
mod stream_pending;
mod stream_read;
mod string;
mod syntax;
mod transaction;
mod turns;
mod zset;
mod zset_combine;
mod zset_pop;
mod zset_range;

pub use crate::protocol::c_text;
pub use acl_check::{Denied, check_acl, may_reach, permit, permit_as};
pub use acl_file::load_users;
pub use args::Args;
pub use block::{Block, Nil, timeout_ms, timeout_seconds};
pub use later::{Answer, Later};
pub use monitor::{feed_monitors, feed_script, feed_script_call};
pub use redact::{is_secret, redacted};
use registry::find_whole;
pub use registry::{Command, find, find_sub, registry, rename_commands};
pub use script::{Call, Load, Naming};
pub use spec::{Acl, Begin, Fill, Find, Flags, KeyFlags, KeySpec, Keys, Spec, Write};
pub use turns::{Turn, Turns};

use crate::keyspace::{View, Walk};
use crate::protocol::Reply;
use crate::state::{Client, State};
use std::time::Duration;

const FAMILIES: &[&[Spec]] = &[
    acl::COMMANDS,
    bitmap::COMMANDS,
    client::COMMANDS,
    client_tracking::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    counter::COMMANDS,
    debug::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    function::COMMANDS,
    geo::COMMANDS,
    geo_search::COMMANDS,
    hash::COMMANDS,
    hash_ttl::COMMANDS,
    hyperloglog::COMMANDS,
    info::COMMANDS,
    key::COMMANDS,
    latency::COMMANDS,
    lcs::COMMANDS,
    list::COMMANDS,
    list_block::COMMANDS,
    memory::COMMANDS,
    monitor::COMMANDS,
    pubsub::COMMANDS,
    route::COMMANDS,
    route_look::COMMANDS,
    scan::COMMANDS,
    script::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    set_algebra::COMMANDS,
    slowlog::COMMANDS,
    sort::COMMANDS,
    stream::COMMANDS,
    stream_group::COMMANDS,
    stream_info::COMMANDS,
    stream_pending::COMMANDS,
    stream_read::COMMANDS,
    string::COMMANDS,
    transaction::COMMANDS,
    zset::COMMANDS,
    zset_combine::COMMANDS,
    zset_pop::COMMANDS,
    zset_range::COMMANDS,
];

/// What a handler leaves to be done.
#[derive(Debug)]
pub enum Outcome {
    /// The reply is written.
    Done,
    /// The reply is written; close the connection when it is sent.
    Close,
    /// Nothing is written: suspend this connection for so long, then answer `+OK`.
    Sleep(Duration),
    /// Nothing is written: suspend this connection until the reply is known.
    Later(Later),
    /// Nothing is written: a part is done, and the rest is when others have had their turn. Only of a [`Run::Walk`] row.
    Turns(Turns),
    /// Nothing is written: the connection waits for one of the command's keys to change. Only of a [`Run::Data`] row with
    /// [`Flags::BLOCKING`].
    Block(Box<Block>),
    /// The server is to stop.
    Shutdown,
}

/// What a command that needs no locked keys may reach.
pub struct Ctx<'a> {
    /// The server.
    pub state: &'a State,
    /// The connection that asked.
    pub client: &'a mut Client,
    /// The time of the command, in ms since the epoch.
    pub now: i64,
}

/// A function on locked keys.
pub type DataFn = fn(&mut View<'_, '_>, &Args<'_>, &mut Reply<'_>) -> Outcome;

/// Which function runs a command, and on what.
#[derive(Clone, Copy)]
pub enum Run {
    /// On its keys, whose shards are locked. Keys of [`Keys::All`]: every shard is.
    Data(DataFn),
    /// On the server and the connection; no shard is locked.
    Server(fn(&mut Ctx<'_>, &Args<'_>, &mut Reply<'_>) -> Outcome),
    /// On the whole keyspace, shard by shard.
    Walk(fn(&mut Walk<'_, '_>, &Args<'_>, &mut Reply<'_>) -> Outcome),
    /// EXEC, which is dispatch's own.
    Exec,
    /// A script, which runs alone in the keyspace.
    Script(Call),
    /// Code is to be loaded.
    Load(Load),
    /// It only has subcommands.
    Container,
}

/// The error of a command that does not understand its arguments.
pub const SYNTAX_ERROR: &str = "ERR syntax error";
/// What takes memory is refused past `maxmemory`.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// The error of an argument that must be an integer.
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Answers that a key holds a value of another type.
#[cold]
pub fn wrong_type(reply: &mut Reply<'_>) -> Outcome {
    fail(reply, "WRONGTYPE Operation against a key holding the wrong kind of value")
}

/// Writes an error and is done.
pub fn fail(reply: &mut Reply<'_>, text: &str) -> Outcome {
    reply.error(text);
    Outcome::Done
}
