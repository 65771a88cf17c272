//! What the integration tests stand on: servers as processes, a client, a Postgres, other programs.
//! Nothing in here knows a command's meaning, nor whether a server is Cenote or a real Redis.

// A helper may wait for the test that will need it.
#![allow(dead_code)]

mod client;
mod oracle;
mod postgres;
mod process;
mod program;
mod random;
mod server;
mod temp;
mod value;
mod words;

pub(crate) use client::{Client, Failure, Reply};
pub(crate) use oracle::{Oracle, oracle_program, tool, tool_if_any};
pub(crate) use postgres::{Postgres, Session};
pub(crate) use program::{Finished, run};
pub(crate) use random::Random;
pub(crate) use server::{Port, Server, ServerBuilder, cenote_program};
pub(crate) use temp::TempDir;
pub(crate) use value::{Value, escape};
pub(crate) use words::{join_words, split_words};

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for anything before it calls it hung. Long, as the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until it is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
