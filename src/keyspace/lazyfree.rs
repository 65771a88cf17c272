//! Dropping what was taken out of the keyspace without making anyone wait for it, unless `lazyfree-lazy-*` says that
//! whoever removes it is to wait. It must not know locks or commands.
//!
//! What is large goes to one thread, which is there from the first time on. It gives way to the workers (a lower
//! priority): otherwise one that shares its core waits until the scheduler's slice is over, which is milliseconds.

use super::entry::Slot;
use super::table::Table;
use super::value::Value;
use crate::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

static PENDING: AtomicU64 = AtomicU64::new(0);
static PENDING_BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
/// `bio-cpulist`: where the thread runs.
static CPUS: OnceLock<Box<str>> = OnceLock::new();
/// The causes for which nobody waits, a bit each.
static LAZY: AtomicU8 = AtomicU8::new(u8::MAX);

/// Keys, or elements of one, that are dropped at once, by the caller; more are dropped by the thread. About 100 µs.
const AT_ONCE: usize = 1000;
/// The thread's place behind the others, as `nice` counts.
const NICENESS: i32 = 10;

/// What is to be dropped, how many keys that is, and about how many bytes.
struct Parcel {
    what: Box<dyn Send>,
    keys: u64,
    bytes: u64,
}

impl Parcel {
    fn open(self) {
        drop(self.what);
        FREED.fetch_add(self.keys, Ordering::Relaxed);
        PENDING.fetch_sub(self.keys, Ordering::Relaxed);
        PENDING_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Elements that dropping an entry frees one by one, about.
fn burden(slot: &Slot) -> usize {
    if let Value::Object(object) = slot.entry().value() { object.burden() } else { 0 }
}

fn memory(slot: &Slot) -> usize {
    slot.entry().memory()
}

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

/// Says on which processors the thread frees what nobody waits for, once for the whole process.
pub fn free_on(cpus: &str) {
    let _ = CPUS.set(cpus.into());
}

/// What was removed, to be dropped when the locks are given back.
#[derive(Debug, Default)]
pub struct Garbage {
    here: Vec<Slot>,
    /// Large collections, which are dropped by the thread.
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
        let is_large = burden(&slot) > AT_ONCE;
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
        for slot in self.elsewhere.drain(..) {
            let bytes = memory(&slot);
            free_elsewhere(slot, 1, bytes);
        }
    }
}

/// Drops tables.
pub fn free_tables(tables: Vec<Table>, cause: Cause) {
    let keys = tables.iter().map(Table::len).sum::<usize>();
    let elements = || tables.iter().flat_map(Table::iter).map(burden).sum::<usize>();
    if cause.is_lazy() && (keys > AT_ONCE || elements() > AT_ONCE) {
        let bytes = tables.iter().map(|table| table.memory(memory)).sum();
        free_elsewhere(tables, keys, bytes);
    }
}

#[cold]
fn free_elsewhere<T: Send + 'static>(what: T, keys: usize, bytes: usize) {
    static THREAD: OnceLock<Option<Sender<Parcel>>> = OnceLock::new();
    let parcel = Parcel { what: Box::new(what), keys: keys as u64, bytes: bytes as u64 };
    PENDING.fetch_add(parcel.keys, Ordering::Relaxed);
    PENDING_BYTES.fetch_add(parcel.bytes, Ordering::Relaxed);
    let unsent = match THREAD.get_or_init(start) {
        Some(thread) => thread.send(parcel).err().map(|error| error.0),
        None => Some(parcel),
    };
    unsent.into_iter().for_each(Parcel::open);
}

/// Starts the thread; None if there can be none, and who has something to drop does it.
fn start() -> Option<Sender<Parcel>> {
    let (sender, parcels) = channel::<Parcel>();
    let run = move || {
        if let Some(cpus) = CPUS.get() {
            // Wherever else it runs, it runs.
            let _ = process::pin(cpus);
        }
        #[cfg(not(miri))]
        // Where it is not allowed the thread is like any other.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        parcels.iter().for_each(Parcel::open);
    };
    std::thread::Builder::new().name("lazyfree".into()).spawn(run).ok().map(|_| sender)
}

/// Keys that wait to be dropped, and keys that were since the start, by the thread.
pub fn lazy_freed() -> (u64, u64) {
    (PENDING.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed))
}

/// Bytes that wait to be dropped, about: who makes room for more need not make it twice.
pub fn lazy_pending_bytes() -> u64 {
    PENDING_BYTES.load(Ordering::Relaxed)
}
