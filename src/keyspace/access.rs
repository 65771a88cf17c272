//! What the 24 access bits of an entry mean: the second of the last access, or a logarithmic counter with the time it
//! last decayed (LFU), both as in Redis, or recency with two marks for the `lru` policies of [`super::evict`], or the
//! counter with what it cost to load the key for the `cost` policies. Knows numbers only.

/// Seconds after which the clock wraps: 24 bits.
const CLOCK_WRAP: u32 = 1 << 24;
/// Ticks after which the finer clock wraps: 22 bits, six days.
const TICK_WRAP: u32 = 1 << 22;
/// Milliseconds of a tick.
const TICK_MS: i64 = 125;
/// The key has been read since it was new.
const READ: u32 = 2;
/// The key is not new any more.
const PROVEN: u32 = 1;
/// Minutes in a tick of the counter's clock beside a cost, which has 8 bits: it wraps after 17 hours.
const COST_TICK: u32 = 4;
/// Steps in which a doubling of the cost is noted.
const COST_STEPS: f64 = 8.0;
/// What a key is taken to cost that was not loaded, in µs.
const COST_UNKNOWN: f64 = 1000.0;
/// A new key's counter, so that it is not the first to go.
const LFU_INITIAL: u32 = 5;

/// How an access is noted.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    clock: Clock,
    /// False for a connection that leaves no trace (CLIENT NO-TOUCH); a new key gets its bits all the same.
    noted: bool,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    /// Seconds since the epoch, modulo 2^24.
    Seconds(u32),
    /// Ticks of 125 ms since the epoch, modulo 2^22, with marks.
    Ticks(u32),
    /// A counter with the time it last decayed, in minutes modulo 2^16.
    Counter { minutes: u32, log_factor: u32, decay: u32, random: u32 },
    /// The cost as a logarithm (0: not known), ticks of [`COST_TICK`] minutes modulo 2^8, and the counter.
    Cost { cost: u32, ticks: u32, log_factor: u32, decay: u32, random: u32 },
}

impl Access {
    const fn new(clock: Clock) -> Self {
        Self { clock, noted: true }
    }

    /// The second, at `now` (ms).
    #[inline]
    pub fn lru(now: i64) -> Self {
        Self::new(Clock::Seconds((now / 1000) as u32 % CLOCK_WRAP))
    }

    /// Recency with marks, at `now` (ms).
    #[inline]
    pub fn segmented(now: i64) -> Self {
        Self::new(Clock::Ticks((now / TICK_MS) as u32 % TICK_WRAP))
    }

    /// LFU at `now` (ms), with `lfu-log-factor`, `lfu-decay-time` (minutes) and random bits that decide whether a counter
    /// moves.
    #[inline]
    pub fn lfu(now: i64, log_factor: u32, decay: u32, random: u32) -> Self {
        Self::new(Clock::Counter { minutes: (now / 60_000) as u32 & 0xffff, log_factor, decay, random })
    }

    /// The same with what it cost to load a key, see [`Access::costing`].
    #[inline]
    pub fn cost(now: i64, log_factor: u32, decay: u32, random: u32) -> Self {
        let ticks = ((now / 60_000) as u32 / COST_TICK) & 0xff;
        Self::new(Clock::Cost { cost: 0, ticks, log_factor, decay, random })
    }

    /// The same for a key whose load took so many µs; nothing else where that is not noted.
    pub fn costing(mut self, us: u64) -> Self {
        if let Clock::Cost { cost, .. } = &mut self.clock {
            *cost = (1.0 + COST_STEPS * (us.max(1) as f64).log2()).min(255.0) as u32;
        }
        self
    }

    /// The same for a connection whose accesses are not to be noted.
    pub fn untouched(self) -> Self {
        Self { noted: false, ..self }
    }

    /// The same for a command that is about the access itself.
    pub fn touched(self) -> Self {
        Self { noted: true, ..self }
    }

    /// True where accesses are counted instead of timed.
    pub fn is_lfu(self) -> bool {
        matches!(self.clock, Clock::Counter { .. } | Clock::Cost { .. })
    }

    /// The bits of a new key.
    #[inline]
    pub fn first(self) -> u32 {
        match self.clock {
            Clock::Seconds(clock) => clock,
            Clock::Ticks(ticks) => ticks << 2,
            Clock::Counter { minutes, .. } => minutes << 8 | LFU_INITIAL,
            Clock::Cost { cost, ticks, .. } => cost << 16 | ticks << 8 | LFU_INITIAL,
        }
    }

    /// The bits after an access.
    #[inline]
    pub fn next(self, bits: u32) -> u32 {
        if !self.noted {
            return bits;
        }
        match self.clock {
            Clock::Seconds(clock) => clock,
            Clock::Ticks(ticks) => ticks << 2 | READ | bits & PROVEN,
            Clock::Counter { minutes, log_factor, random, .. } => minutes << 8 | self.counted(bits, log_factor, random),
            Clock::Cost { cost, ticks, log_factor, random, .. } => {
                let cost = if cost == 0 { bits >> 16 } else { cost };
                cost << 16 | ticks << 8 | self.counted(bits, log_factor, random)
            }
        }
    }

    /// The counter after an access.
    fn counted(self, bits: u32, log_factor: u32, random: u32) -> u32 {
        let counter = self.frequency(bits);
        // The counter's chance to move falls with its height, as in Redis: 1 / (height * factor + 1).
        let height = counter.saturating_sub(LFU_INITIAL) * log_factor + 1;
        counter + u32::from(counter < 255 && random.is_multiple_of(height))
    }

    /// The counter, decayed to now. 0 without LFU.
    pub fn frequency(self, bits: u32) -> u32 {
        let (passed, decay) = match self.clock {
            Clock::Counter { minutes, decay, .. } => (minutes.wrapping_sub(bits >> 8) & 0xffff, decay),
            Clock::Cost { ticks, decay, .. } => ((ticks.wrapping_sub(bits >> 8) & 0xff) * COST_TICK, decay),
            _ => return 0,
        };
        (bits & 0xff).saturating_sub(passed.checked_div(decay).unwrap_or(0))
    }

    /// What it is worth to keep a key of so many bytes: the µs that its accesses would have taken to load, for each byte,
    /// as a logarithm; the scale is of no meaning. 0 where no cost is noted.
    pub fn worth(self, bits: u32, bytes: usize) -> i64 {
        let Clock::Cost { log_factor, .. } = self.clock else { return 0 };
        let cost = match bits >> 16 {
            0 => COST_UNKNOWN.log2(),
            steps => f64::from(steps - 1) / COST_STEPS,
        };
        // The counter moves from height to height after `height * factor + 1` accesses on average.
        let height = f64::from(self.frequency(bits).saturating_sub(LFU_INITIAL));
        let accesses = 1.0 + height + f64::from(log_factor) * height * (height - 1.0).max(0.0) / 2.0;
        ((cost + accesses.log2() - (bytes.max(1) as f64).log2()) * 1024.0) as i64
    }

    /// How long ago the last access was, in units of the clock in use. 0 with LFU.
    pub fn age(self, bits: u32) -> u32 {
        match self.clock {
            Clock::Seconds(clock) => clock.wrapping_sub(bits) % CLOCK_WRAP,
            Clock::Ticks(ticks) => ticks.wrapping_sub(bits >> 2) % TICK_WRAP,
            Clock::Counter { .. } | Clock::Cost { .. } => 0,
        }
    }

    /// Seconds since the last access. 0 with LFU.
    pub fn idle_seconds(self, bits: u32) -> u32 {
        match self.clock {
            Clock::Ticks(_) => (i64::from(self.age(bits)) * TICK_MS / 1000) as u32,
            _ => self.age(bits),
        }
    }

    /// The bits of a key that was last used so many seconds ago, or that has this counter, as is noted; else those of a
    /// new key.
    pub fn restored(self, idle_seconds: Option<u64>, counter: Option<u32>) -> u32 {
        match (self.clock, idle_seconds, counter) {
            (Clock::Counter { minutes, .. }, _, Some(counter)) => minutes << 8 | counter.min(255),
            (Clock::Cost { ticks, .. }, _, Some(counter)) => ticks << 8 | counter.min(255),
            (Clock::Seconds(clock), Some(idle), _) => {
                clock.wrapping_sub(idle.min(u64::from(CLOCK_WRAP - 1)) as u32) % CLOCK_WRAP
            }
            (Clock::Ticks(ticks), Some(idle), _) => {
                let idle = idle.saturating_mul(1000 / TICK_MS as u64).min(u64::from(TICK_WRAP - 1)) as u32;
                (ticks.wrapping_sub(idle) % TICK_WRAP) << 2 | PROVEN
            }
            _ => self.first(),
        }
    }

    /// True for a key that has not been proven. False where that is not noted.
    pub fn is_new(self, bits: u32) -> bool {
        matches!(self.clock, Clock::Ticks(_)) && bits & PROVEN == 0
    }

    /// True for a key that has been read since it was new.
    pub fn was_read(self, bits: u32) -> bool {
        bits & READ != 0
    }

    /// The same bits for a key that is not new any more.
    pub fn proven(self, bits: u32) -> u32 {
        if matches!(self.clock, Clock::Ticks(_)) { bits | PROVEN } else { bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lfu_counter_climbs_slowly_and_decays() {
        let mut bits = Access::lfu(0, 10, 1, 0).first();
        assert_eq!(Access::lfu(0, 10, 1, 0).frequency(bits), 5);
        for random in 0..100_000u32 {
            bits = Access::lfu(0, 10, 1, random.wrapping_mul(2_654_435_761) >> 3).next(bits);
        }
        let high = Access::lfu(0, 10, 1, 0).frequency(bits);
        assert!((100..=200).contains(&high), "{high}");
        assert_eq!(Access::lfu(7 * 60_000, 10, 1, 0).frequency(bits), high - 7);
    }

    #[test]
    fn what_is_dear_to_load_small_and_often_wanted_is_worth_most() {
        let access = Access::cost(0, 10, 1, 0);
        let of = |us: u64, reads: usize, bytes: usize| {
            let bits = (0..reads).fold(access.costing(us).first(), |bits, _| access.next(bits));
            access.worth(bits, bytes)
        };
        assert!(of(10_000, 0, 100) > of(1000, 0, 100), "dearer");
        assert!(of(1000, 0, 100) > of(1000, 0, 200), "smaller");
        assert!(of(1000, 3, 100) > of(1000, 0, 100), "wanted more often");
        let ratio = of(64_000, 0, 100) - of(1000, 0, 100);
        assert!((ratio - 6 * 1024).abs() < 256, "64 times dearer is six doublings: {ratio}");
        let loaded = access.costing(5000).first();
        assert_eq!(access.next(loaded) >> 16, loaded >> 16, "an access leaves the cost as it is");
        assert_ne!(access.costing(9000).next(loaded) >> 16, loaded >> 16, "a new load changes it");
        assert_eq!(
            access.worth(access.first(), 100) / 1024,
            (of(1000, 0, 100)) / 1024,
            "what is not known is a millisecond"
        );
        // An hour later, the counter has fallen by as many steps as minutes have passed.
        let bits = access.costing(1000).first() & !0xff | 100;
        assert_eq!(Access::cost(60 * 60_000, 10, 1, 0).frequency(bits), 40);
    }

    #[test]
    fn a_restored_key_is_as_old_as_it_is_told_to_be() {
        let now = 1_000_000_000_000;
        let lru = Access::lru(now);
        let ticks = Access::segmented(now);
        assert_eq!([lru, ticks].map(|access| access.idle_seconds(access.restored(Some(1000), None))), [1000; 2]);
        assert_eq!(lru.restored(None, Some(9)), lru.first());
        let lfu = Access::lfu(now, 10, 1, 0);
        assert_eq!(lfu.frequency(lfu.restored(None, Some(77))), 77);
        assert_eq!(lfu.restored(Some(9), None), lfu.first());
    }

    #[test]
    fn idle_time_survives_the_wrap() {
        let start = i64::from(CLOCK_WRAP - 5) * 1000;
        let bits = Access::lru(start).first();
        assert_eq!(Access::lru(start + 10_000).idle_seconds(bits), 10);
        let start = i64::from(TICK_WRAP - 5) * TICK_MS;
        let bits = Access::segmented(start).first();
        assert_eq!(Access::segmented(start + 10_000).idle_seconds(bits), 10);
    }

    #[test]
    fn a_key_is_new_until_it_is_proven() {
        let access = Access::segmented(5000);
        let bits = access.first();
        assert!(access.is_new(bits) && !access.was_read(bits));
        let read = access.next(bits);
        assert!(access.is_new(read) && access.was_read(read));
        let proven = access.proven(read);
        assert!(!access.is_new(proven) && !access.is_new(access.next(proven)));
        assert!(!Access::lru(5000).is_new(bits), "only where it is noted");
    }
}
