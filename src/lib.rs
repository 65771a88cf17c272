//! Cenote: a Redis-protocol-compatible caching server that fills itself from Postgres.
//!
//! The rooms, from the ground up; each may import only from rooms named before it:
//! plain things (`clock`, `glob`, `config`), then `protocol` and `types`, then `keyspace`,
//! `source`, `state`, `commands`, `exec` and `server`. `main.rs` wires them.
//! ARCHITECTURE.md walks through them.

pub mod config;
pub mod glob;
pub mod source;
