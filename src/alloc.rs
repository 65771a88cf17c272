//! The global allocator: mimalloc, with an exact count of the bytes it has handed out.
//!
//! `used_memory` and `maxmemory` rest on this count. Each thread adds to a counter of its own, so counting
//! touches no cache line that another thread writes; a reader sums them. It must not know who allocates.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// The allocator to install with `#[global_allocator]`.
pub struct Counting;

const SLOTS: usize = 256;

#[repr(align(128))]
struct Slot(AtomicI64);

static COUNTS: [Slot; SLOTS] = [const { Slot(AtomicI64::new(0)) }; SLOTS];
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);
const UNASSIGNED: usize = usize::MAX;

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(UNASSIGNED) };
}

#[inline]
fn count(delta: i64) {
    // A thread that is being torn down has no thread-local any more: it uses the shared last slot.
    let slot = MINE
        .try_with(|mine| {
            let slot = mine.get();
            if slot != UNASSIGNED {
                return slot;
            }
            let slot = NEXT_SLOT.fetch_add(1, Ordering::Relaxed).min(SLOTS - 1);
            mine.set(slot);
            slot
        })
        .unwrap_or(SLOTS - 1);
    let counter = &COUNTS[slot].0;
    if slot < SLOTS - 1 {
        // The only writer of this slot: a plain load and store, no locked instruction.
        counter.store(counter.load(Ordering::Relaxed) + delta, Ordering::Relaxed);
    } else {
        counter.fetch_add(delta, Ordering::Relaxed);
    }
}

/// Bytes that mimalloc sets aside for a request of `size` bytes: its size classes are the multiples of 8 up
/// to 64, then four to each power of two.
#[inline]
pub const fn class_size(size: usize) -> usize {
    if size <= 64 {
        let rounded = (size + 7) & !7;
        return if rounded == 0 { 8 } else { rounded };
    }
    let words = size.div_ceil(8) - 1;
    let step = 1usize << (usize::BITS - 1 - words.leading_zeros() - 2);
    ((words / step) + 1) * step * 8
}

/// Bytes allocated now, over all threads, in size classes as the allocator rounds them.
pub fn used() -> u64 {
    let assigned = NEXT_SLOT.load(Ordering::Relaxed).min(SLOTS - 1);
    // The last slot is shared by all threads that got no slot of their own.
    let slots = COUNTS[..assigned].iter().chain(&COUNTS[SLOTS - 1..]);
    let sum: i64 = slots.map(|slot| slot.0.load(Ordering::Relaxed)).sum();
    sum.max(0) as u64
}

// SAFETY: every call goes to mimalloc unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(class_size(layout.size()) as i64);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(class_size(layout.size()) as i64);
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(class_size(layout.size()) as i64));
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.dealloc(ptr, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(class_size(new_size) as i64 - class_size(layout.size()) as i64);
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.realloc(ptr, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_hold_the_request_and_waste_at_most_a_quarter() {
        for size in 1..100_000usize {
            let class = class_size(size);
            assert!(class >= size, "{size} -> {class}");
            assert!(class - size < 8 || class - size <= size / 4, "{size} -> {class}");
            assert_eq!(class_size(class), class);
        }
        assert_eq!([class_size(54), class_size(62), class_size(65)], [56, 64, 80]);
    }

    #[test]
    fn a_thread_that_frees_what_another_allocated_leaves_the_sum_right() {
        let before = COUNTS.iter().map(|s| s.0.load(Ordering::Relaxed)).sum::<i64>();
        count(1000);
        std::thread::spawn(|| count(-1000)).join().unwrap();
        let after = COUNTS.iter().map(|s| s.0.load(Ordering::Relaxed)).sum::<i64>();
        // Other tests of this process allocate meanwhile only if the allocator is installed, which it is not here.
        assert_eq!(before, after);
    }
}
