//! The hash of an element in a large collection. Knows bytes only.

use foldhash::quality::SeedableRandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

/// Unpredictable to clients: members are chosen by them.
static STATE: LazyLock<SeedableRandomState> =
    LazyLock::new(|| SeedableRandomState::with_seed(crate::random::next(), foldhash::SharedSeed::global_random()));

/// The hash of an element under this process's seed.
#[inline]
pub fn hash_of(element: &[u8]) -> u64 {
    let mut hasher = STATE.build_hasher();
    hasher.write(element);
    hasher.finish()
}
