//! The only file that reads the time. Everything else is handed `now`.

#[cfg(not(miri))]
use fastant::Instant;
use std::cell::Cell;
use std::sync::OnceLock;
/// fastant asks the processor what it can do before `main`, which Miri cannot.
#[cfg(miri)]
use std::time::Instant;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as TTLs count.
pub fn now_ms() -> i64 {
    now_us() / 1000
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros() as i64
}

/// Nanoseconds on a clock that never goes back, from an arbitrary start.
#[inline]
pub fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    start.elapsed().as_nanos() as u64
}

/// What [`monotonic_ns`] reads, as INFO names it.
pub fn monotonic_source() -> &'static str {
    if fastant::is_tsc_available() { "X86 TSC" } else { "POSIX clock_gettime" }
}

thread_local! {
    static WALL: Cell<(u64, i64)> = const { Cell::new((0, 0)) };
}

/// How long a wall-clock reading is carried forward with the monotonic clock before it is taken anew.
const WALL_READING_VALID_NS: u64 = 1_000_000_000;

/// [`now_ms`] from a [`monotonic_ns`] reading that is at hand anyway: the wall clock itself is read once a
/// second a thread, so that a batch costs one clock reading, not two.
#[inline]
pub fn wall_ms(monotonic: u64) -> i64 {
    WALL.with(|wall| {
        let (at, ms_x1000) = wall.get();
        let passed = monotonic.wrapping_sub(at);
        if at != 0 && passed < WALL_READING_VALID_NS {
            return (ms_x1000 + (passed / 1000) as i64) / 1000;
        }
        let us = now_us();
        wall.set((monotonic.max(1), us));
        us / 1000
    })
}
