//! Rates per second, as INFO's `instantaneous_…` fields give them: the mean of the last 16 samples, one every
//! 100 ms. It must not know who counts what.

use parking_lot::Mutex;

const SAMPLES: usize = 16;

#[derive(Debug, Default)]
struct Rate {
    at: i64,
    last: u64,
    samples: [u64; SAMPLES],
    next: usize,
}

impl Rate {
    fn sample(&mut self, now: i64, count: u64) {
        let ms = now - self.at;
        if self.at != 0 && ms > 0 {
            // The count falls only when it is reset.
            let grown = count.saturating_sub(self.last);
            self.samples[self.next] = (u128::from(grown) * 1000 / ms as u128) as u64;
            self.next = (self.next + 1) % SAMPLES;
        }
        (self.at, self.last) = (now, count);
    }
}

/// The rates of `N` counters.
#[derive(Debug)]
pub struct Rates<const N: usize>(Mutex<[Rate; N]>);

impl<const N: usize> Default for Rates<N> {
    fn default() -> Self {
        Self(Mutex::new(std::array::from_fn(|_| Rate::default())))
    }
}

impl<const N: usize> Rates<N> {
    /// Takes a sample of the counters at `now` (ms since the epoch).
    pub fn sample(&self, now: i64, counts: [u64; N]) {
        for (rate, count) in self.0.lock().iter_mut().zip(counts) {
            rate.sample(now, count);
        }
    }

    /// How fast each counter grows, per second.
    pub fn per_second(&self) -> [u64; N] {
        let rates = self.0.lock();
        std::array::from_fn(|n| rates[n].samples.iter().sum::<u64>() / SAMPLES as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_counter_shows_its_rate() {
        let rates = Rates::<2>::default();
        for n in 0..=20u64 {
            rates.sample(1_000 + n as i64 * 100, [n * 50, 0]);
        }
        assert_eq!(rates.per_second(), [500, 0]);
        // A reset is not a negative rate, and two samples at the same time divide nothing by zero.
        rates.sample(3_100, [0, 0]);
        rates.sample(3_100, [7, 0]);
        assert_eq!(rates.per_second(), [500 * 15 / 16, 0]);
    }
}
