//! What the 24 access bits of an entry mean: the time of the last access (LRU) or a logarithmic counter with the
//! time it last decayed (LFU), as in Redis. Knows numbers only.

/// Seconds after which the LRU clock wraps: 24 bits.
const LRU_WRAP: u32 = 1 << 24;
/// A new key's counter, so that it is not the first to go.
const LFU_INITIAL: u32 = 5;

/// How an access is noted.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Not at all (CLIENT NO-TOUCH); a new key still gets the time.
    Untouched {
        /// Seconds since the epoch, modulo 2^24.
        clock: u32,
    },
    /// The time.
    Lru {
        /// Seconds since the epoch, modulo 2^24.
        clock: u32,
    },
    /// The counter.
    Lfu {
        /// Minutes since the epoch, modulo 2^16.
        minutes: u32,
        /// `lfu-log-factor`.
        log_factor: u32,
        /// `lfu-decay-time`, in minutes.
        decay: u32,
        /// Random bits that decide whether the counter moves.
        random: u32,
    },
}

impl Access {
    /// LRU at `now` (ms).
    pub fn lru(now: i64) -> Self {
        Self::Lru { clock: (now / 1000) as u32 % LRU_WRAP }
    }

    /// Nothing noted, at `now` (ms).
    pub fn untouched(now: i64) -> Self {
        Self::Untouched { clock: (now / 1000) as u32 % LRU_WRAP }
    }

    /// LFU at `now` (ms).
    pub fn lfu(now: i64, log_factor: u32, decay: u32, random: u32) -> Self {
        Self::Lfu { minutes: (now / 60_000) as u32 & 0xffff, log_factor, decay, random }
    }

    /// The bits of a new key.
    #[inline]
    pub fn first(self) -> u32 {
        match self {
            Self::Untouched { clock } | Self::Lru { clock } => clock,
            Self::Lfu { minutes, .. } => minutes << 8 | LFU_INITIAL,
        }
    }

    /// The bits after an access.
    #[inline]
    pub fn next(self, bits: u32) -> u32 {
        match self {
            Self::Untouched { .. } => bits,
            Self::Lru { clock } => clock,
            Self::Lfu { minutes, log_factor, random, .. } => {
                let counter = self.frequency(bits);
                // The counter's chance to move falls with its height, as in Redis: 1 / (height * factor + 1).
                let height = counter.saturating_sub(LFU_INITIAL) * log_factor + 1;
                let moved = counter < 255 && random % height == 0;
                minutes << 8 | (counter + u32::from(moved))
            }
        }
    }

    /// The counter, decayed to now. 0 without LFU.
    pub fn frequency(self, bits: u32) -> u32 {
        let Self::Lfu { minutes, decay, .. } = self else { return 0 };
        let passed = minutes.wrapping_sub(bits >> 8) & 0xffff;
        let periods = passed.checked_div(decay).unwrap_or(0);
        (bits & 0xff).saturating_sub(periods)
    }

    /// The bits of a key that was last accessed so many seconds before `now` (ms), or that has this counter, as the policy
    /// wants to know; else those of a new key.
    pub fn restored(self, idle_seconds: Option<u64>, counter: Option<u32>, now: i64) -> u32 {
        match (self, idle_seconds, counter) {
            (Self::Lfu { minutes, .. }, _, Some(counter)) => minutes << 8 | counter.min(255),
            (Self::Lru { .. } | Self::Untouched { .. }, Some(idle), _) => {
                let idle = idle.min(u64::from(LRU_WRAP) - 1);
                Self::lru(now).first().wrapping_sub(idle as u32) % LRU_WRAP
            }
            _ => self.first(),
        }
    }

    /// Seconds since the last access, under LRU at `now` (ms).
    pub fn idle_seconds(bits: u32, now: i64) -> u32 {
        ((now / 1000) as u32 % LRU_WRAP).wrapping_sub(bits) % LRU_WRAP
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
    fn a_restored_key_is_as_old_as_it_is_told_to_be() {
        let now = 1_000_000_000_000;
        let lru = Access::lru(now);
        assert_eq!(Access::idle_seconds(lru.restored(Some(1000), None, now), now), 1000);
        assert_eq!(lru.restored(None, Some(9), now), lru.first());
        let lfu = Access::lfu(now, 10, 1, 0);
        assert_eq!(lfu.frequency(lfu.restored(None, Some(77), now)), 77);
        assert_eq!(lfu.restored(Some(9), None, now), lfu.first());
    }

    #[test]
    fn idle_time_survives_the_wrap() {
        let start = i64::from(LRU_WRAP - 5) * 1000;
        let bits = Access::lru(start).first();
        assert_eq!(Access::idle_seconds(bits, start + 10_000), 10);
    }
}
