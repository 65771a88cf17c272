//! How many files this process may have open, and so how many connections. Knows nothing of sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside the connections: standard streams, listeners, runtimes, sources, the log.
pub const OTHERS: u64 = 64;

/// Raises the limit of open files for so many clients, as far as the system allows; returns how many of them there
/// may be.
pub fn make_room_for(clients: u32) -> u32 {
    let limit = raise(u64::from(clients) + OTHERS);
    clients.min(u32::try_from(limit.saturating_sub(OTHERS)).unwrap_or(u32::MAX))
}

/// Raises the limit to `wanted` open files, as far as the system allows; returns the limit in force. A limit that is
/// higher already stays.
fn raise(wanted: u64) -> u64 {
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
        assert_eq!(make_room_for(1), 1);
    }
}
