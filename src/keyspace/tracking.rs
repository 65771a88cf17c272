//! Which connections keep copies of which keys (client-side caching), and which of these copies are void. One list for
//! each shard, under the shard's lock. It must not know connections beyond their numbers, or how they are told.
//!
//! A key is on the list from the read that gave it away until its next change: who is told reads it again. It stands
//! there by its name alone, whichever database it was read in, as in Redis. What is told is a [`Lapse`]; it waits in the
//! shard's news until whoever made the change is done with its command.

use super::change::News;
use super::shard::{Shard, next_order, stir};
use super::stripes::Keyspace;
use super::table::Hash;
use hashbrown::{HashSet, HashTable};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A connection that keeps copies of what it reads.
#[derive(Debug)]
pub struct Tracker {
    id: u64,
    is_on: AtomicBool,
}

impl Tracker {
    /// For the connection of this number.
    pub fn new(id: u64) -> Self {
        Self { id, is_on: AtomicBool::new(true) }
    }

    /// The connection's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is to be told. One that is not is forgotten bit by bit.
    pub fn set(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// True if it is to be told.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }
}

/// Who has copies of a key: nearly always one.
#[derive(Debug)]
enum Trackers {
    One(Arc<Tracker>),
    Many(Vec<Arc<Tracker>>),
}

impl Trackers {
    fn all(&self) -> &[Arc<Tracker>] {
        match self {
            Self::One(tracker) => slice::from_ref(tracker),
            Self::Many(trackers) => trackers,
        }
    }

    /// Adds one that is not among them.
    fn add(&mut self, tracker: &Arc<Tracker>) {
        match self {
            Self::One(first) if first.is_on() => *self = Self::Many(vec![Arc::clone(first), Arc::clone(tracker)]),
            Self::One(first) => *first = Arc::clone(tracker),
            Self::Many(trackers) => {
                if trackers.len() == trackers.capacity() {
                    // Connections come and go while the key stays: the list is to follow those that are there.
                    trackers.retain(|tracker| tracker.is_on());
                }
                trackers.push(Arc::clone(tracker));
            }
        }
    }
}

/// Copies that are void.
#[derive(Debug)]
pub struct Lapse {
    /// Of this key; None: of all keys.
    pub key: Option<Box<[u8]>>,
    /// Who has read it since it was void last.
    trackers: Option<Trackers>,
    /// No command asked for it: its time had come, it had to make room, or it changed at its source. So it is news to
    /// whoever met it, too.
    pub is_unasked: bool,
    /// The key has changed: it is told to those who listen to its prefixes, too.
    pub is_change: bool,
    /// Ascending among the lapses of one thread, which may come from several shards.
    pub order: u64,
}

impl Lapse {
    /// Who has copies, as far as they are listed one by one.
    pub fn trackers(&self) -> &[Arc<Tracker>] {
        self.trackers.as_ref().map_or(&[], Trackers::all)
    }
}

/// Prefixes of keys all changes of which are told, whoever read them (BCAST).
#[derive(Debug, Default)]
pub struct Prefixes {
    all: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
    /// Their lengths, each once, ascending.
    lengths: Vec<usize>,
}

impl Prefixes {
    /// These.
    pub fn new<'a>(all: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let all: HashSet<Box<[u8]>, _> = all.into_iter().map(Box::from).collect();
        let mut lengths: Vec<usize> = all.iter().map(|prefix| prefix.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { all, lengths }
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that a key begins with.
    pub fn of<'k>(&self, key: &'k [u8]) -> impl Iterator<Item = &'k [u8]> {
        let fitting = self.lengths.iter().take_while(|&&len| len <= key.len());
        fitting.map(|&len| &key[..len]).filter(|prefix| self.all.contains(*prefix))
    }
}

#[derive(Debug)]
struct Tracked {
    hash: Hash,
    key: Box<[u8]>,
    trackers: Trackers,
}

/// The tracked keys of one shard.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    keys: HashTable<Tracked>,
    /// Trackers over all keys.
    items: usize,
    prefixes: Option<Arc<Prefixes>>,
    /// Tracked keys of all shards.
    total: Arc<AtomicUsize>,
}

impl Tracking {
    /// An empty list that counts its keys into `total`.
    pub(super) fn new(total: &Arc<AtomicUsize>) -> Self {
        Self { total: Arc::clone(total), ..Self::default() }
    }

    /// True if a change concerns nobody.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_none()
    }

    fn add(&mut self, hash: Hash, key: &[u8], tracker: &Arc<Tracker>) {
        let Some(tracked) = self.keys.find_mut(hash, |tracked| *tracked.key == *key) else {
            let tracked = Tracked { hash, key: key.into(), trackers: Trackers::One(Arc::clone(tracker)) };
            self.keys.insert_unique(hash, tracked, |tracked| tracked.hash);
            self.items += 1;
            self.total.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let trackers = &mut tracked.trackers;
        if !trackers.all().iter().any(|other| Arc::ptr_eq(other, tracker)) {
            let before = trackers.all().len();
            trackers.add(tracker);
            self.items = self.items + trackers.all().len() - before;
        }
    }

    /// Takes a key off the list.
    fn take(&mut self, hash: Hash, key: &[u8]) -> Option<Trackers> {
        let entry = self.keys.find_entry(hash, |tracked| *tracked.key == *key).ok()?;
        let trackers = entry.remove().0.trackers;
        self.lost(1, trackers.all().len());
        Some(trackers)
    }

    /// Takes the keys off the list of which `goes` says so, up to `limit`.
    fn take_some(&mut self, limit: usize, mut goes: impl FnMut(&[u8]) -> bool) -> Vec<(Box<[u8]>, Trackers)> {
        let taken: Vec<_> = self
            .keys
            .extract_if(|tracked| goes(&tracked.key))
            .take(limit)
            .map(|tracked| (tracked.key, tracked.trackers))
            .collect();
        self.lost(taken.len(), taken.iter().map(|(_, trackers)| trackers.all().len()).sum());
        taken
    }

    fn lost(&mut self, keys: usize, items: usize) {
        self.items -= items;
        self.total.fetch_sub(keys, Ordering::Relaxed);
        if self.keys.is_empty() {
            self.keys = HashTable::new();
        }
    }
}

impl Shard {
    /// A connection has a copy of a key from now on.
    pub fn track(&mut self, hash: Hash, key: &[u8], tracker: &Arc<Tracker>) {
        self.tracking.add(hash, key, tracker);
        self.look_around();
    }

    /// A key has changed: copies of it are void.
    pub(super) fn lapse(&mut self, hash: Hash, key: &[u8], is_unasked: bool) {
        let trackers = self.tracking.take(hash, key);
        let is_broadcast = || self.tracking.prefixes.as_ref().is_some_and(|all| all.of(key).next().is_some());
        if trackers.is_some() || is_broadcast() {
            self.tell_lapse(Lapse { key: Some(key.into()), trackers, is_unasked, is_change: true, order: 0 });
        }
    }

    /// What a connection was told of a key is not what is kept here: it is not to keep it either.
    pub fn disown(&mut self, key: &[u8], tracker: &Arc<Tracker>) {
        self.tell_unchanged(key.into(), Trackers::One(Arc::clone(tracker)));
    }

    /// Copies of the tracked keys that `concerns` names are void, of `limit` of them at most. Returns of how many.
    pub fn lapse_tracked(&mut self, limit: usize, concerns: impl FnMut(&[u8]) -> bool) -> usize {
        let taken = self.tracking.take_some(limit, concerns);
        let count = taken.len();
        for (key, trackers) in taken {
            self.tell_unchanged(key, trackers);
        }
        count
    }

    /// All databases, or one of them, are not what they were: no copy is worth anything. `tells`: this shard says so for
    /// all of them.
    pub(super) fn lapse_all(&mut self, tells: bool) {
        self.tracking.take_some(usize::MAX, |_| true);
        if tells {
            self.tell_lapse(Lapse { key: None, trackers: None, is_unasked: false, is_change: true, order: 0 });
        }
    }

    fn tell_unchanged(&mut self, key: Box<[u8]>, trackers: Trackers) {
        let (key, trackers) = (Some(key), Some(trackers));
        self.tell_lapse(Lapse { key, trackers, is_unasked: true, is_change: false, order: 0 });
    }

    fn tell_lapse(&mut self, lapse: Lapse) {
        self.news.lapses.push(Lapse { order: next_order(), ..lapse });
        stir();
    }
}

/// Shards that are looked at for keys to forget, at once.
const TRIM_SHARDS: usize = 64;
/// Keys of one shard that are forgotten under one lock, at most.
const TRIM_KEYS: usize = 64;

impl Keyspace {
    /// How many connections keep copies: a flush is told where there are any.
    pub fn set_trackers(&self, count: usize) {
        self.trackers.store(count, Ordering::Relaxed);
    }

    pub(super) fn has_trackers(&self) -> bool {
        self.trackers.load(Ordering::Relaxed) > 0
    }

    /// Tells all changes of keys with these prefixes from now on.
    pub fn set_prefixes(&self, prefixes: &Option<Arc<Prefixes>>) {
        for shard in 0..self.shards() {
            let mut shard = self.lock(shard);
            shard.tracking.prefixes.clone_from(prefixes);
            shard.look_around();
        }
    }

    /// Tracked keys.
    #[inline]
    pub fn tracked(&self) -> usize {
        self.tracked.load(Ordering::Relaxed)
    }

    /// Trackers over all tracked keys.
    pub fn tracked_items(&self) -> usize {
        (0..self.shards()).map(|shard| self.lock(shard).tracking.items).sum()
    }

    /// Forgets tracked keys, of which copies are void then, until there are no more than `limit`, or it has done enough
    /// for once. Returns what is to be told.
    pub fn trim_tracked(&self, limit: usize, random: u64) -> News {
        let mut news = News::default();
        let first = random as usize % self.shards();
        for shard in (0..self.shards()).cycle().skip(first).take(TRIM_SHARDS.min(self.shards())) {
            let excess = self.tracked().saturating_sub(limit);
            if excess == 0 {
                break;
            }
            let mut shard = self.lock(shard);
            shard.lapse_tracked(excess.min(TRIM_KEYS), |_| true);
            news.append(&mut shard.news);
        }
        news
    }
}
