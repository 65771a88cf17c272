//! How many files this process may have open. Knows nothing of what they are.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to `wanted` open files, as far as the system allows; returns the limit in force. A limit that is
/// higher already stays.
pub fn raise(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    let current = limit.current.unwrap_or(u64::MAX);
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let raise_to = |current: u64, maximum: u64| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: Some(maximum) }).is_ok()
    };
    // Past the hard limit only the superuser may go.
    if raise_to(wanted, wanted.max(allowed)) {
        return wanted;
    }
    let reachable = wanted.min(allowed);
    if reachable > current && raise_to(reachable, allowed) { reachable } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_lowered() {
        let before = raise(0);
        assert!(before > 0);
        assert_eq!(raise(before), before);
        assert!(raise(before.saturating_add(1)) >= before);
    }
}
