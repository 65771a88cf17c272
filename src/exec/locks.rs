//! Locking the shards of several keys: the one place, with `Dispatch::group`, that does. It must not know commands.
//!
//! Why nobody waits for ever: whoever locks several shards takes them in ascending order, and holds none when he
//! begins. Who holds shards and needs another one (a waiter is served, and its command has keys elsewhere) only
//! *tries* to lock it, and never waits: if somebody has it, the service is put off until the own locks are given back,
//! and is then done with all shards locked, in ascending order again. What is locked inside of shards (a waiter, a
//! channel, an outbox) takes no shard in turn.

use crate::keyspace::{Key, Keyspace, Shard, ShardGuard};

/// Locked shards, in ascending order.
pub(super) struct Locks<'k> {
    /// Their numbers.
    pub(super) numbers: Vec<u16>,
    guards: Vec<ShardGuard<'k>>,
}

impl<'k> Locks<'k> {
    /// Locks these shards.
    pub(super) fn of(keyspace: &'k Keyspace, mut numbers: Vec<u16>) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        let guards = numbers.iter().map(|&number| keyspace.lock(number.into())).collect();
        Self { numbers, guards }
    }

    /// Locks all shards.
    pub(super) fn all(keyspace: &'k Keyspace) -> Self {
        Self { numbers: (0..keyspace.shards() as u16).collect(), guards: keyspace.lock_all() }
    }

    /// The shards.
    pub(super) fn shards(&mut self) -> Vec<&mut Shard> {
        self.guards.iter_mut().map(|guard| &mut **guard).collect()
    }

    /// The place of a shard among them; 0 for one that is not locked.
    pub(super) fn index(&self, shard: usize) -> usize {
        self.numbers.binary_search(&(shard as u16)).unwrap_or_default()
    }

    /// Lets each key say where its shard is among the locked ones, instead of the shard's number.
    pub(super) fn place(&self, keys: &mut [Key<'_>]) {
        keys.iter_mut().for_each(|key| key.shard = self.index(key.shard));
    }
}
