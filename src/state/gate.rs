//! Who may be in the keyspace: the workers with their commands, or one script alone. So a script locks no more than it
//! touches, and however long it takes, no other thread waits inside a lock for it. It knows no keys and no scripts.
//!
//! Whoever enters says so before he looks whether the gate is closed; whoever closes it does so before he looks who is
//! inside. So one of two that meet sees the other (both sides are sequentially consistent).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
/// Closed for long: it does not pay to wait for it with the processor.
const CLOSED_LONG: u8 = 2;
/// How often it is looked at again before it counts as closed for long.
const LOOKS: usize = 2_000;
/// Of these, how many come without letting another thread run.
const QUICK_LOOKS: usize = 200;

/// A worker's flag, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seat(AtomicBool);

/// The gate.
#[derive(Debug)]
pub struct Gate {
    closed: AtomicU8,
    seats: Box<[Seat]>,
    guests: AtomicUsize,
    /// A guest was turned away: what he came for is to be done when the gate is opened.
    unsettled: AtomicBool,
}

/// A worker's stay.
#[derive(Debug)]
pub struct Inside<'g>(&'g AtomicBool);

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A stay of somebody who is no worker, or not as one.
#[derive(Debug)]
pub struct Visit<'g>(&'g AtomicUsize);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Gate {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            closed: AtomicU8::new(OPEN),
            seats: (0..workers.max(1)).map(|_| Seat::default()).collect(),
            guests: AtomicUsize::new(0),
            unsettled: AtomicBool::new(false),
        }
    }

    /// Lets a worker in, unless the gate is closed. It is in once at a time.
    #[inline]
    pub fn enter(&self, worker: usize) -> Option<Inside<'_>> {
        let seat = &self.seats[worker % self.seats.len()].0;
        seat.store(true, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) == OPEN {
            return Some(Inside(seat));
        }
        seat.store(false, Ordering::Release);
        None
    }

    /// Waits for a moment for the gate to open; true if it has.
    #[cold]
    pub fn wait(&self) -> bool {
        for look in 0..LOOKS {
            match self.closed.load(Ordering::Relaxed) {
                OPEN => return true,
                CLOSED_LONG => return false,
                _ if look < QUICK_LOOKS => std::hint::spin_loop(),
                _ => std::thread::yield_now(),
            }
        }
        self.note_long();
        false
    }

    /// Lets somebody in who has to do with single shards, unless the gate is closed.
    pub fn visit(&self) -> Option<Visit<'_>> {
        self.guests.fetch_add(1, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) == OPEN {
            return Some(Visit(&self.guests));
        }
        self.guests.fetch_sub(1, Ordering::Release);
        self.unsettled.store(true, Ordering::Release);
        None
    }

    /// Closes it and waits until nobody is inside. False if somebody else has closed it.
    pub fn close(&self) -> bool {
        if self.closed.compare_exchange(OPEN, CLOSED, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        let is_inside =
            || self.seats.iter().any(|seat| seat.0.load(Ordering::SeqCst)) || self.guests.load(Ordering::SeqCst) > 0;
        let mut looks = 0;
        while is_inside() {
            looks += 1;
            if looks < QUICK_LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        true
    }

    /// It stays closed for some time.
    pub fn note_long(&self) {
        let _ = self.closed.compare_exchange(CLOSED, CLOSED_LONG, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Opens it.
    pub fn open(&self) {
        self.closed.store(OPEN, Ordering::SeqCst);
    }

    /// True if a guest was turned away since the last call.
    pub fn take_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed) && self.unsettled.swap(false, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn nobody_is_inside_while_it_is_closed() {
        const WORKERS: usize = 3;
        let gate = Arc::new(Gate::new(WORKERS));
        let (inside, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (gate, inside, closed) = (&gate, &inside, &closed);
                scope.spawn(move || {
                    for round in 0..2_000 {
                        if round % 7 == worker {
                            if gate.close() {
                                closed.fetch_add(1, Ordering::SeqCst);
                                assert_eq!(inside.load(Ordering::SeqCst), 0);
                                gate.open();
                            }
                        } else if let Some(stay) = gate.enter(worker) {
                            inside.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(stay);
                        } else {
                            gate.wait();
                        }
                    }
                });
            }
        });
        assert!(closed.load(Ordering::SeqCst) > 0);
    }

    #[test]
    fn a_guest_who_is_turned_away_leaves_word() {
        let gate = Gate::new(1);
        drop(gate.visit());
        assert!(!gate.take_unsettled() && gate.close() && !gate.close());
        assert!(gate.visit().is_none() && gate.enter(0).is_none());
        gate.note_long();
        assert!(!gate.wait());
        gate.open();
        assert!(gate.take_unsettled() && !gate.take_unsettled() && gate.enter(0).is_some());
    }
}
