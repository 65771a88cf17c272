//! Members of a large sorted set by their hash: linear hashing, so that growing and shrinking never move more than one
//! bucket's worth, whatever the size. Knows hashes and small values, not what they stand for.
//!
//! Bucket `b` holds the hashes whose lower bits are `b`: as many bits as the number of buckets has, or one fewer
//! where the upper half is not there yet. A scan goes in the order of the hashes with their bits reversed, in which every
//! bucket is one run, and splitting one gives two runs in its place; so what was before the cursor stays before it.

use hashbrown::HashTable;

/// Elements of a bucket, on average, at most.
const LOAD: usize = 300;
/// Below this average a bucket is given up.
const SPARSE: usize = LOAD / 4;
/// Bits of a cursor: so many of a reversed hash, that clients may keep it as a double.
const CURSOR_BITS: u32 = 48;

/// A set of values by hash.
#[derive(Clone, Debug)]
pub(super) struct Index<T> {
    buckets: Vec<HashTable<T>>,
    len: usize,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { buckets: vec![HashTable::new()], len: 0 }
    }
}

impl<T: Copy> Index<T> {
    /// Bytes that it takes from the allocator.
    pub(super) fn memory(&self) -> usize {
        let buckets: usize = self.buckets.iter().map(HashTable::allocation_size).sum();
        buckets + self.buckets.capacity() * size_of::<HashTable<T>>()
    }

    /// The bucket of a hash, and how many of the hash's lower bits all its elements share.
    #[inline]
    fn bucket(&self, hash: u64) -> (usize, u32) {
        let bits = self.buckets.len().next_power_of_two().trailing_zeros();
        let at = (hash & ((1 << bits) - 1)) as usize;
        if at < self.buckets.len() {
            // Its counterpart may not have been split off yet.
            let split = bits == 0 || at ^ (1 << (bits - 1)) < self.buckets.len();
            return (at, if split { bits } else { bits - 1 });
        }
        (at ^ (1 << (bits - 1)), bits - 1)
    }

    /// The value of this hash that `is` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<T> {
        self.buckets[self.bucket(hash).0].find(hash, is).copied()
    }

    /// Adds a value; `rehash` gives the hash of any.
    pub(super) fn insert(&mut self, hash: u64, value: T, rehash: impl Fn(&T) -> u64) {
        if self.len >= self.buckets.len() * LOAD {
            let new = self.buckets.len();
            let old = new ^ (1 << (usize::BITS - 1 - new.leading_zeros()));
            let bit = (new ^ old) as u64;
            let full = std::mem::take(&mut self.buckets[old]);
            self.buckets.push(HashTable::new());
            for value in full {
                let hash = rehash(&value);
                let bucket = if hash & bit == 0 { old } else { new };
                self.buckets[bucket].insert_unique(hash, value, &rehash);
            }
        }
        let bucket = self.bucket(hash).0;
        self.buckets[bucket].insert_unique(hash, value, rehash);
        self.len += 1;
    }

    /// Takes out the value of this hash that `is` accepts.
    pub(super) fn remove(&mut self, hash: u64, is: impl FnMut(&T) -> bool, rehash: impl Fn(&T) -> u64) -> Option<T> {
        let bucket = self.bucket(hash).0;
        let (value, _) = self.buckets[bucket].find_entry(hash, is).ok()?.remove();
        self.len -= 1;
        if self.len < self.buckets.len() * SPARSE && self.buckets.len() > 1 {
            let last = self.buckets.len() - 1;
            let into = last ^ (1 << (usize::BITS - 1 - last.leading_zeros()));
            for value in self.buckets.pop().unwrap_or_default() {
                self.buckets[into].insert_unique(rehash(&value), value, &rehash);
            }
            self.buckets[into].shrink_to_fit(&rehash);
        }
        Some(value)
    }

    /// Calls `found` for the values of some buckets from `cursor` (0 at the start) on, until there were `count`; gives the
    /// next cursor, 0 at the end.
    pub(super) fn scan(&self, cursor: u64, count: usize, rehash: impl Fn(&T) -> u64, mut found: impl FnMut(T)) -> u64 {
        let (mut at, mut seen) = (cursor & ((1 << CURSOR_BITS) - 1), 0);
        loop {
            let start = at << (64 - CURSOR_BITS);
            let (bucket, bits) = self.bucket(start.reverse_bits());
            for value in &self.buckets[bucket] {
                // The bucket may reach back to before the cursor if it has been joined since.
                if rehash(value).reverse_bits() >= start {
                    found(*value);
                    seen += 1;
                }
            }
            let width = 1u64 << (CURSOR_BITS - bits);
            at = (at & !(width - 1)) + width;
            if at >> CURSOR_BITS != 0 {
                return 0;
            }
            if seen >= count {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hash(value: &u32) -> u64 {
        u64::from(*value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }

    #[test]
    fn values_are_found_while_it_grows_and_shrinks() {
        let mut index = Index::default();
        for n in 0..10_000u32 {
            index.insert(hash(&n), n, hash);
            assert_eq!(index.find(hash(&(n / 2)), |other| *other == n / 2), Some(n / 2));
        }
        assert!(index.buckets.len() > 30 && index.memory() < 10_000 * 20);
        for n in 0..10_000u32 {
            assert_eq!(index.remove(hash(&n), |other| *other == n, hash), Some(n));
            assert_eq!(index.find(hash(&n), |other| *other == n), None);
            let last = 9_999;
            assert_eq!(index.find(hash(&last), |other| *other == last).is_some(), n < last);
        }
        assert_eq!((index.buckets.len(), index.len), (1, 0));
    }

    #[test]
    fn a_scan_gives_what_is_there_throughout_however_the_index_changes() {
        let mut index = Index::default();
        (0..3_000u32).for_each(|n| index.insert(hash(&n), n, hash));
        let (mut cursor, mut seen, mut next) = (0, BTreeSet::new(), 3_000u32);
        let mut rounds = 0;
        loop {
            cursor = index.scan(cursor, 50, hash, |value| {
                seen.insert(value);
            });
            if cursor == 0 {
                break;
            }
            rounds += 1;
            // It grows far, then shrinks to less than it was.
            if rounds < 8 {
                (0..1_000).for_each(|n| index.insert(hash(&(next + n)), next + n, hash));
                next += 1_000;
            } else {
                for n in (1_000..next).rev().take(1_500) {
                    index.remove(hash(&n), |other| *other == n, hash);
                }
                next = next.saturating_sub(1_500).max(1_000);
            }
        }
        assert!((0..1_000).all(|n| seen.contains(&n)), "{rounds} rounds");
    }
}
