//! ACL LOG: who was refused what. It must not know commands.

use super::selector::Denial;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Refusals of the same kind within this time, in ms, are one entry.
const SAME_WITHIN_MS: i64 = 60_000;
/// So many of the newest entries are looked at for one of the same kind.
const LOOKED_AT: usize = 10;

/// Why somebody was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A wrong password, or no such user.
    Auth,
    /// A permission is missing.
    Denied(Denial),
}

impl Reason {
    /// As ACL LOG has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Denied(Denial::Command) => "command",
            Self::Denied(Denial::Key) => "key",
            Self::Denied(Denial::Channel) => "channel",
            Self::Denied(Denial::Database) => "database",
        }
    }
}

/// Where somebody was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A command by itself.
    TopLevel,
    /// A command of a transaction.
    Multi,
    /// A command of a script.
    Script,
}

impl Context {
    /// As ACL LOG has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TopLevel => "toplevel",
            Self::Multi => "multi",
            Self::Script => "lua",
        }
    }
}

/// An entry.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Ascending; never used twice in a run.
    pub id: u64,
    /// How often.
    pub count: u64,
    /// Why.
    pub reason: Reason,
    /// Where.
    pub context: Context,
    /// The command, key or channel that was refused.
    pub object: Vec<u8>,
    /// Who.
    pub user: Box<[u8]>,
    /// The connection as CLIENT LIST shows it.
    pub client: String,
    /// When it happened first, in ms since the epoch.
    pub first_at: i64,
    /// When it happened last.
    pub last_at: i64,
}

impl Refusal {
    /// A refusal just now, of this connection.
    pub fn new(reason: Reason, context: Context, object: &[u8], user: &[u8], client: String, now: i64) -> Self {
        let (object, user) = (object.to_vec(), user.into());
        Self { id: 0, count: 1, reason, context, object, user, client, first_at: now, last_at: now }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.reason == other.reason
            && self.context == other.context
            && self.last_at - other.last_at <= SAME_WITHIN_MS
            && self.object == other.object
            && self.user == other.user
    }
}

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    /// Newest first.
    list: VecDeque<Refusal>,
}

/// The log.
#[derive(Debug, Default)]
pub struct AclLog(Mutex<Entries>);

impl AclLog {
    /// Notes a refusal; keeps `max_len` of them.
    pub fn add(&self, mut refusal: Refusal, max_len: u64) {
        let mut entries = self.0.lock();
        let known = entries.list.iter().take(LOOKED_AT).position(|other| refusal.is_like(other));
        if let Some(known) = known.and_then(|at| entries.list.remove(at)) {
            refusal = Refusal { id: known.id, count: known.count + 1, first_at: known.first_at, ..refusal };
        } else {
            refusal.id = entries.next_id;
            entries.next_id += 1;
        }
        entries.list.push_front(refusal);
        entries.list.truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
    }

    /// The newest entries, newest first.
    pub fn newest(&self, count: usize) -> Vec<Refusal> {
        self.0.lock().list.iter().take(count).cloned().collect()
    }

    /// Forgets all.
    pub fn reset(&self) {
        self.0.lock().list.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(log: &AclLog, object: &str, now: i64) {
        let reason = Reason::Denied(Denial::Key);
        let refusal = Refusal::new(reason, Context::TopLevel, object.as_bytes(), b"u", format!("at={now}"), now);
        log.add(refusal, 3);
    }

    #[test]
    fn the_same_refusal_is_counted_and_comes_to_the_front() {
        let log = AclLog::default();
        [("a", 0), ("b", 10), ("a", 60_000)].into_iter().for_each(|(object, now)| note(&log, object, now));
        let seen: Vec<_> = log.newest(10).iter().map(|e| (e.id, e.count, e.object[0], e.first_at, e.last_at)).collect();
        assert_eq!(seen, [(0, 2, b'a', 0, 60_000), (1, 1, b'b', 10, 10)]);
        assert_eq!(log.newest(1)[0].client, "at=60000");
        // After a minute without it, it is an entry of its own; the oldest goes.
        note(&log, "a", 120_001);
        note(&log, "c", 120_002);
        assert_eq!(log.newest(10).iter().map(|e| e.id).collect::<Vec<_>>(), [3, 2, 0]);
        log.reset();
        assert!(log.newest(10).is_empty());
    }
}
