//! Dropping what was taken out of the keyspace without making anyone wait for it. It must not know locks or commands.

use super::entry::Slot;
use super::table::Table;
use super::value::Value;
use std::sync::atomic::{AtomicU64, Ordering};

static PENDING: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// Keys, or elements of one, that are dropped at once, by the caller; more are dropped by a thread of their own. About 100 µs.
const AT_ONCE: usize = 1000;

/// Drops tables.
pub fn lazy_free(tables: Vec<Table>) {
    let keys = tables.iter().map(Table::len).sum::<usize>();
    if keys <= AT_ONCE {
        return;
    }
    free_elsewhere(tables, keys);
}

/// Drops entries, those aside that hold large collections: these are dropped by a thread of their own. Empties
/// `garbage`.
#[inline]
pub fn free(garbage: &mut Vec<Slot>) {
    let elements = |slot: &Slot| match slot.entry().value() {
        Value::Object(object) => object.len(),
        Value::Text(_) => 0,
    };
    for slot in garbage.drain(..) {
        if elements(&slot) > AT_ONCE {
            free_elsewhere(slot, 1);
        }
    }
}

#[cold]
fn free_elsewhere<T: Send + 'static>(what: T, keys: usize) {
    PENDING.fetch_add(keys as u64, Ordering::Relaxed);
    let free = move || {
        drop(what);
        FREED.fetch_add(keys as u64, Ordering::Relaxed);
        PENDING.fetch_sub(keys as u64, Ordering::Relaxed);
    };
    // Without a thread, the closure is dropped here, and what it holds with it.
    if std::thread::Builder::new().name("lazyfree".into()).spawn(free).is_err() {
        PENDING.fetch_sub(keys as u64, Ordering::Relaxed);
    }
}

/// Keys that wait to be dropped, and keys that were since the start, by [`lazy_free`]'s threads.
pub fn lazy_freed() -> (u64, u64) {
    (PENDING.load(Ordering::Relaxed), FREED.load(Ordering::Relaxed))
}
