//! Random numbers that need not be secret: which key RANDOMKEY gives, which keys an eviction looks at. Knows nothing.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = Cell::new(seed());
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without the system's randomness the time has to do.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => crate::clock::monotonic_ns(),
    }
}

/// 64 random bits (splitmix64, a generator per thread).
pub fn next() -> u64 {
    STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let z = state.get();
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A number from 0 up to 1.
pub fn share() -> f64 {
    (next() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #[test]
    fn bits_are_even() {
        let ones: u32 = (0..10_000).map(|_| super::next().count_ones()).sum();
        assert!((310_000..330_000).contains(&ones), "{ones}");
    }
}
