//! Locking the shards of several keys: the one place, with `Dispatch::group`, that does. It must not know commands.
//!
//! Why nobody waits for ever: whoever locks several shards takes them in ascending order, and holds none when he
//! begins. Who holds shards and needs another one (a waiter is served, and its command has keys elsewhere) only
//! *tries* to lock it, and never waits: if somebody has it, the service is put off until the own locks are given back,
//! and is then done with all shards locked, in ascending order again. What is locked inside of shards (a waiter, a
//! channel, an outbox) takes no shard in turn. A script locks shards in any order, and waits for them: it is alone behind
//! the gate (`state/gate`), where everybody else who holds a shard waits for no other.

use crate::keyspace::{Garbage, Key, Keyspace, MAX_SHARDS, Shard, ShardGuard};
use arrayvec::ArrayVec;

/// The place of a shard among locked ones of these numbers; 0 for one that is not locked.
#[inline]
pub(super) fn place_of(numbers: &[u16], shard: usize) -> usize {
    numbers.binary_search(&(shard as u16)).unwrap_or_default()
}

/// The shards of a group's keys, a bit each: so they come in ascending order whatever order the keys are in.
pub(super) struct ShardSet {
    bits: ArrayVec<u64, WORDS>,
    /// How many there are before those of each word.
    before: ArrayVec<u16, WORDS>,
}

const WORDS: usize = MAX_SHARDS / u64::BITS as usize;

impl ShardSet {
    /// None of so many.
    #[inline]
    pub(super) fn new(shards: usize) -> Self {
        let words = shards.div_ceil(u64::BITS as usize);
        Self { bits: std::iter::repeat_n(0, words).collect(), before: ArrayVec::new() }
    }

    /// Adds one.
    #[inline]
    pub(super) fn add(&mut self, shard: usize) {
        self.bits[shard / 64] |= 1 << (shard % 64);
    }

    /// Locks all, in ascending order; there are at most `N`, and no more are added then. Returns their numbers, too.
    #[inline]
    pub(super) fn lock<'k, const N: usize>(
        &mut self,
        keyspace: &'k Keyspace,
    ) -> (ArrayVec<u16, N>, ArrayVec<ShardGuard<'k>, N>) {
        let (mut numbers, mut guards) = (ArrayVec::new(), ArrayVec::new());
        for (word, bits) in self.bits.iter().enumerate() {
            self.before.push(numbers.len() as u16);
            let mut left = *bits;
            while left != 0 {
                let shard = word * 64 + left.trailing_zeros() as usize;
                numbers.push(shard as u16);
                guards.push(keyspace.lock(shard));
                left &= left - 1;
            }
        }
        (numbers, guards)
    }

    /// The place of a shard among those that [`ShardSet::lock`] has locked.
    #[inline]
    pub(super) fn place(&self, shard: usize) -> usize {
        let below = self.bits[shard / 64] & ((1 << (shard % 64)) - 1);
        usize::from(self.before[shard / 64]) + below.count_ones() as usize
    }
}

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

    /// Lets each key say where its shard is among the locked ones, instead of the shard's number.
    pub(super) fn place(&self, keys: &mut [Key<'_>]) {
        keys.iter_mut().for_each(|key| key.shard = place_of(&self.numbers, key.shard));
    }
}

/// The shards of a running script, in the order in which it has touched them.
pub(super) struct Held<'k> {
    keyspace: &'k Keyspace,
    numbers: Vec<u16>,
    guards: Vec<ShardGuard<'k>>,
}

impl<'k> Held<'k> {
    /// None yet.
    pub(super) fn new(keyspace: &'k Keyspace) -> Self {
        Self { keyspace, numbers: Vec::new(), guards: Vec::new() }
    }

    /// Locks a shard, unless it is; its place among them.
    pub(super) fn lock(&mut self, shard: usize) -> usize {
        let known = self.numbers.iter().position(|number| usize::from(*number) == shard);
        known.unwrap_or_else(|| {
            self.numbers.push(shard as u16);
            self.guards.push(self.keyspace.lock(shard));
            self.guards.len() - 1
        })
    }

    /// Locks those that are not locked yet: each is at the place of its number then.
    pub(super) fn lock_all(&mut self) {
        (0..self.keyspace.shards()).for_each(|shard| _ = self.lock(shard));
        let mut all: Vec<_> = self.numbers.drain(..).zip(self.guards.drain(..)).collect();
        all.sort_by_key(|(number, _)| *number);
        (self.numbers, self.guards) = all.into_iter().unzip();
    }

    /// The shards.
    pub(super) fn shards(&mut self) -> Vec<&mut Shard> {
        self.guards.iter_mut().map(|guard| &mut **guard).collect()
    }

    /// Gives them back.
    pub(super) fn release(&mut self, garbage: &mut Garbage) {
        for mut guard in self.guards.drain(..) {
            garbage.append(&mut guard.garbage);
        }
        self.numbers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_shards_is_in_order_and_knows_the_places() {
        let keyspace = Keyspace::new(1, 2, 1);
        let mut set = ShardSet::new(keyspace.shards());
        [255, 3, 64, 3, 0, 130, 63].into_iter().for_each(|shard| set.add(shard));
        let (numbers, guards) = set.lock::<6>(&keyspace);
        assert_eq!(numbers.as_slice(), [0, 3, 63, 64, 130, 255]);
        numbers.iter().enumerate().for_each(|(place, shard)| assert_eq!(set.place(usize::from(*shard)), place));
        assert!(keyspace.try_lock(255).is_none() && keyspace.try_lock(254).is_some());
        drop(guards);
    }
}
