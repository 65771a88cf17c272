//! The command logs: the last commands that took long (the slow log), came in large requests, or had large replies. They
//! must not know which commands hold secrets; what is handed in is kept.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Arguments kept of one command, at most; the last one then says how many more there were.
const MAX_ARGS: usize = 32;
/// Bytes kept of one argument, at most.
const MAX_ARG_BYTES: usize = 128;

/// One entry.
#[derive(Debug)]
pub struct SlowCommand {
    /// Ascending; never used twice in a run.
    pub id: u64,
    /// When it ended, in seconds since the epoch.
    pub at: i64,
    /// How long it took, in µs, or how large its request or reply was, in bytes.
    pub figure: u64,
    /// The command, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub addr: String,
    /// The client's name.
    pub name: String,
}

/// All of them.
#[derive(Debug, Default)]
pub struct CommandLogs {
    /// Commands that took long.
    pub slow: Slowlog,
    /// Commands with large requests.
    pub large_requests: Slowlog,
    /// Commands with large replies.
    pub large_replies: Slowlog,
}

#[derive(Debug, Default)]
struct Log {
    next_id: u64,
    /// Newest first.
    entries: VecDeque<Arc<SlowCommand>>,
}

/// A log.
#[derive(Debug, Default)]
pub struct Slowlog(Mutex<Log>);

impl Slowlog {
    /// Adds an entry and forgets the oldest ones past `max_len`.
    pub fn add(&self, mut entry: SlowCommand, max_len: u64) {
        let mut log = self.0.lock();
        entry.id = log.next_id;
        log.next_id += 1;
        log.entries.push_front(Arc::new(entry));
        log.entries.truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
    }

    /// The newest entries, newest first.
    pub fn newest(&self, count: usize) -> Vec<Arc<SlowCommand>> {
        self.0.lock().entries.iter().take(count).cloned().collect()
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries.
    pub fn reset(&self) {
        self.0.lock().entries.clear();
    }
}

/// The arguments of a command as the log keeps them: at most 32, of at most 128 bytes.
pub fn shorten<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let len = args.len();
    let kept = if len > MAX_ARGS { MAX_ARGS - 1 } else { len };
    let mut short: Vec<Vec<u8>> = args
        .take(kept)
        .map(|arg| match arg.get(MAX_ARG_BYTES..) {
            Some(more) if !more.is_empty() => {
                let mut text = arg[..MAX_ARG_BYTES].to_vec();
                text.extend(format!("... ({} more bytes)", more.len()).bytes());
                text
            }
            _ => arg.to_vec(),
        })
        .collect();
    if kept < len {
        short.push(format!("... ({} more arguments)", len - kept).into_bytes());
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(args: &[Vec<u8>]) -> Vec<String> {
        let texts = shorten(args.iter().map(Vec::as_slice));
        texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn arguments_are_shortened_as_in_redis() {
        assert_eq!(short(&[vec![b'x'; 128]]), ["x".repeat(128)]);
        assert_eq!(short(&[vec![b'x'; 130]]), [format!("{}... (2 more bytes)", "x".repeat(128))]);
        assert_eq!(short(&vec![b"a".to_vec(); 32]).len(), 32);
        let long = short(&vec![b"a".to_vec(); 42]);
        assert_eq!((long.len(), long[31].as_str()), (32, "... (11 more arguments)"));
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let log = Slowlog::default();
        for n in 0..5 {
            let entry =
                SlowCommand { id: 0, at: n, figure: 1, args: Vec::new(), addr: String::new(), name: String::new() };
            log.add(entry, 3);
        }
        let ids: Vec<u64> = log.newest(10).iter().map(|entry| entry.id).collect();
        assert_eq!((ids, log.len(), log.newest(1).len()), (vec![4, 3, 2], 3, 1));
        log.reset();
        assert!(log.is_empty());
    }
}
