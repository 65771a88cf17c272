//! Cenote: a Redis-protocol-compatible caching server that fills itself from Postgres.
//!
//! The rooms, from the ground up; each may import only from rooms named before it:
//! plain things (`alloc`, `clock`, `glob`, `open_files`, `config`), then `protocol`, `tls` and `types`, then `rdb`, then `keyspace` and
//! `source`, then `state`, `commands`, `exec` and `server`. `main.rs` wires them.
//! ARCHITECTURE.md walks through them.

pub mod alloc;
pub mod clock;
pub mod commands;
pub mod config;
pub mod exec;
pub mod freshness;
pub mod glob;
pub mod invalidate;
pub mod keyspace;
pub mod metrics;
pub mod number;
pub mod open_files;
pub mod process;
pub mod protocol;
pub mod random;
pub mod rdb;
pub mod script;
pub mod server;
pub mod source;
pub mod state;
pub mod supervise;
pub mod tls;
pub mod types;
pub mod version;
