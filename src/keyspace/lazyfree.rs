//! Dropping what was taken out of the keyspace without making anyone wait for it, unless `lazyfree-lazy-*` says that
//! whoever removes it is to wait. It must not know locks or commands.

use super::entry::Slot;
use super::table::Table;
use super::value::Value;
use crate::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

static PENDING: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
/// `bio-cpulist`: where the threads run.
static CPUS: OnceLock<Box<str>> = OnceLock::new();
/// The causes for which nobody waits, a bit each.
static LAZY: AtomicU8 = AtomicU8::new(u8::MAX);

/// Keys, or elements of one, that are dropped at once, by the caller; more are dropped by a thread of their own. About 100 µs.
const AT_ONCE: usize = 1000;

/// Why something is removed, as far as `lazyfree-lazy-*` tells the causes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It had to make room.
    Evicted,
    /// Its time had come.
    Expired,
    /// A command put something else in its place, or nothing.
    Replaced,
    /// DEL.
    Deleted,
    /// FLUSHALL and FLUSHDB without a word.
    Flushed,
    /// UNLINK, FLUSHALL ASYNC, and parts of a value: nobody ever waits.
    Unlinked,
}

impl Cause {
    /// Causes that a directive is about, in this order.
    pub const DIRECTIVES: [Self; 5] = [Self::Evicted, Self::Expired, Self::Replaced, Self::Deleted, Self::Flushed];

    /// Whether nobody waits for what is removed for this cause.
    pub fn is_lazy(self) -> bool {
        LAZY.load(Ordering::Relaxed) & (1 << self as u8) != 0
    }
}

/// Says for which of [`Cause::DIRECTIVES`] nobody waits, in the whole process.
pub fn set_lazy(lazy: [bool; 5]) {
    let bits = Cause::DIRECTIVES.iter().zip(lazy).filter(|(_, lazy)| *lazy);
    LAZY.store(bits.fold(1 << Cause::Unlinked as u8, |bits, (cause, _)| bits | 1 << *cause as u8), Ordering::Relaxed);
}

/// Says on which processors threads free what nobody waits for, once for the whole process.
pub fn free_on(cpus: &str) {
    let _ = CPUS.set(cpus.into());
}

/// What was removed, to be dropped when the locks are given back.
#[derive(Debug, Default)]
pub struct Garbage {
    here: Vec<Slot>,
    /// Large collections, which are dropped by threads of their own.
    elsewhere: Vec<Slot>,
}

impl Garbage {
    /// Nothing.
    pub const fn new() -> Self {
        Self { here: Vec::new(), elsewhere: Vec::new() }
    }

    /// Takes what was removed.
    #[inline]
    pub(super) fn push(&mut self, slot: Slot, cause: Cause) {
        let is_large = matches!(slot.entry().value(), Value::Object(object) if object.len() > AT_ONCE);
        if is_large && cause.is_lazy() { &mut self.elsewhere } else { &mut self.here }.push(slot);
    }

    /// True if there is nothing to drop.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.here.is_empty() && self.elsewhere.is_empty()
    }

    /// Takes over what is in `other`.
    #[inline]
    pub fn append(&mut self, other: &mut Self) {
        self.here.append(&mut other.here);
        self.elsewhere.append(&mut other.elsewhere);
    }

    /// Drops all of it. To be called with no shard locked.
    #[inline]
    pub fn free(&mut self) {
        self.here.clear();
        self.elsewhere.drain(..).for_each(|slot| free_elsewhere(slot, 1));
    }
}

/// Drops tables.
pub fn free_tables(tables: Vec<Table>, cause: Cause) {
    let keys = tables.iter().map(Table::len).sum::<usize>();
    if keys > AT_ONCE && cause.is_lazy() {
        free_elsewhere(tables, keys);
    }
}

#[cold]
fn free_elsewhere<T: Send + 'static>(what: T, keys: usize) {
    PENDING.fetch_add(keys as u64, Ordering::Relaxed);
    let free = move || {
        if let Some(cpus) = CPUS.get() {
            // Wherever else it runs, it runs.
            let _ = process::pin(cpus);
        }
        drop(what);
        FREED.fetch_add(keys as u64, Ordering::Relaxed);
        PENDING.fetch_sub(keys as u64, Ordering::Relaxed);
    };
    // Without a thread, the closure is dropped here, and what it holds with it.
    if std::thread::Builder::new().name("lazyfree".into()).spawn(free).is_err() {
        PENDING.fetch_sub(keys as u64, Ordering::Relaxed);
    }
}

/// Keys that wait to be dropped, and keys that were since the start, by threads of their own.
pub fn lazy_freed() -> (u64, u64) {
    (PENDING.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed))
}
