//! Error replies by their first word, as INFO's `errorstats` gives them. It must not know why a command failed.

use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Words that are told apart, at most; clients can make up words of their own.
const MAX_KINDS: usize = 128;
/// Bytes of a word that count.
const MAX_WORD: usize = 64;
/// What all further words are counted as.
const OVERFLOW: &[u8] = b"ERRORSTATS_OVERFLOW";

/// Counts by first word.
#[derive(Debug, Default)]
pub struct ErrorKinds(Mutex<BTreeMap<Vec<u8>, u64>>);

impl ErrorKinds {
    /// Counts an error reply: its text, with or without the leading `-`.
    pub fn note(&self, reply: &[u8]) {
        let text = reply.strip_prefix(b"-").unwrap_or(reply);
        let line = text.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let word = match line.iter().position(|&byte| byte == b' ') {
            Some(end) => &line[..end.min(MAX_WORD)],
            None => b"ERR",
        };
        let mut kinds = self.0.lock();
        if let Some(count) = kinds.get_mut(word) {
            *count += 1;
        } else if kinds.len() < MAX_KINDS {
            kinds.insert(word.to_vec(), 1);
        } else {
            *kinds.entry(OVERFLOW.to_vec()).or_default() += 1;
        }
    }

    /// Adds the counts to `sum`.
    pub fn add_to(&self, sum: &mut BTreeMap<Vec<u8>, u64>) {
        for (word, count) in &*self.0.lock() {
            *sum.entry(word.clone()).or_default() += count;
        }
    }

    /// Starts anew.
    pub fn reset(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_and_bounded() {
        let kinds = ErrorKinds::default();
        kinds.note(b"-WRONGTYPE Operation\r\n");
        kinds.note(b"WRONGTYPE again");
        kinds.note(b"-oops\r\n+OK\r\n");
        for n in 0..1000 {
            kinds.note(format!("-E{n} text\r\n").as_bytes());
        }
        let mut sum = BTreeMap::new();
        kinds.add_to(&mut sum);
        assert_eq!((sum[b"WRONGTYPE".as_slice()], sum[b"ERR".as_slice()]), (2, 1));
        assert_eq!((sum.len(), sum[OVERFLOW]), (129, 1000 - 126));
        kinds.reset();
        kinds.add_to(&mut sum);
        assert_eq!(sum.len(), 129);
    }
}
