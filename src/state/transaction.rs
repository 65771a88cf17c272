//! What a connection keeps for MULTI and WATCH: the commands that wait for EXEC, and the keys that must not change
//! before it. It must not know what the commands mean.

use crate::keyspace::{Hash, Keyspace, Watch};
use crate::protocol::Span;
use std::ops::Range;
use std::sync::Arc;

/// The commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Multi {
    /// The bytes of all their arguments.
    pub buf: Vec<u8>,
    /// The arguments.
    pub spans: Vec<Span>,
    /// The commands: which arguments are theirs.
    pub requests: Vec<Range<usize>>,
    /// A command was refused: EXEC will be, too.
    pub failed: bool,
    /// Some command changes data.
    pub writes: bool,
    /// Some command may take memory.
    pub takes_memory: bool,
    /// Some command runs a script.
    pub has_script: bool,
    /// The database whose keys EXEC waited for last.
    pub filled_db: usize,
}

impl Multi {
    /// Adds a command.
    pub fn push<'a>(&mut self, args: impl Iterator<Item = &'a [u8]>) {
        let first = self.spans.len();
        Span::pack(args, &mut self.buf, &mut self.spans);
        self.requests.push(first..self.spans.len());
    }

    /// Bytes that it takes, about.
    pub fn memory(&self) -> usize {
        self.buf.len() + size_of_val(&self.spans[..]) + size_of_val(&self.requests[..])
    }
}

/// A key that is watched.
#[derive(Debug)]
pub struct Watched {
    /// Its database.
    pub db: usize,
    /// Its hash.
    pub hash: Hash,
    /// The key.
    pub key: Box<[u8]>,
}

/// The keys that one connection watches.
#[derive(Debug, Default)]
pub struct Watching {
    /// Whether one has changed.
    pub watch: Arc<Watch>,
    /// The keys.
    pub keys: Vec<Watched>,
}

impl Watching {
    /// Watches a key from now on, in ms since the epoch; one whose time has come counts as absent.
    pub fn add(&mut self, keyspace: &Keyspace, db: usize, key: &[u8], now: i64) {
        if self.keys.iter().any(|watched| watched.db == db && *watched.key == *key) {
            return;
        }
        let hash = keyspace.hash(key);
        keyspace.watch(db, hash, key, &self.watch, now);
        self.keys.push(Watched { db, hash, key: key.into() });
    }

    /// Watches nothing any more.
    pub fn end(self, keyspace: &Keyspace) {
        for Watched { db, hash, key } in self.keys {
            keyspace.lock(keyspace.shard_of(hash)).unwatch(db, hash, &key, &self.watch);
        }
    }
}
