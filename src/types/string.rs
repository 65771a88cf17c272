//! Changing a string in place, so that many small changes of a large one cost what they change. Knows bytes only.

use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Room kept behind a string that grows: as much again, up to this, ...
const ROOM: usize = 1 << 20;
/// ... but at least one part in this many, so that growing to any length copies each byte a bounded number of times.
const ROOM_PART: usize = 8;

/// `text` with `more` behind it. Copies `text` only if others hold it too or it has to move.
pub fn append(text: Bytes, more: &[u8]) -> Bytes {
    let mut text = writable(text, more.len());
    text.extend_from_slice(more);
    text.freeze()
}

/// `text`, filled up with zero bytes to at least `len` bytes, as `f` leaves it. Copies it only if others hold it too
/// or it has to move.
pub fn edit(text: Bytes, len: usize, f: impl FnOnce(&mut [u8])) -> Bytes {
    let more = len.saturating_sub(text.len());
    let mut text = writable(text, more);
    if len > text.len() {
        text.resize(len, 0);
    }
    f(&mut text);
    text.freeze()
}

fn writable(text: Bytes, more: usize) -> BytesMut {
    let len = text.len();
    let grown = |text: &[u8]| {
        let room = if more == 0 { 0 } else { len.min(ROOM).max(len / ROOM_PART) };
        let mut copy = BytesMut::with_capacity(len + more + room);
        copy.extend_from_slice(text);
        copy
    };
    match text.try_into_mut() {
        Ok(text) if text.capacity() - len >= more => text,
        Ok(text) => grown(&text),
        Err(text) => grown(&text),
    }
}

/// The part of a string of `len` bytes that GETRANGE means: both ends included, negative ones from the end.
pub fn range(len: usize, start: i64, end: i64) -> Range<usize> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let start = from_end(start).max(0);
    let end = from_end(end).max(0).min(len - 1);
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_a_string_copies_it_seldom() {
        let mut text = Bytes::from(vec![b'x'; 100_000]);
        let (mut copies, mut at) = (0, text.as_ptr());
        for _ in 0..100_000 {
            text = append(text, b"0123456789");
            copies += u32::from(text.as_ptr() != at);
            at = text.as_ptr();
        }
        assert_eq!(text.len(), 1_100_000);
        assert!(copies <= 5, "{copies}");
        assert!(text.ends_with(b"0123456789"));
    }

    #[test]
    fn a_string_that_is_being_sent_is_not_changed() {
        let text = Bytes::from(b"hello".to_vec());
        let sent = text.clone();
        assert_eq!(edit(append(text, b"!"), 0, |text| text[0] = b'J'), b"Jello!".as_slice());
        assert_eq!(sent, b"hello".as_slice());
    }

    #[test]
    fn a_gap_is_filled_with_zeros() {
        assert_eq!(edit(Bytes::from_static(b"ab"), 5, |text| text[4] = b'c'), b"ab\0\0c".as_slice());
        assert_eq!(edit(Bytes::from_static(b"abcd"), 2, |text| text[1] = b'X'), b"aXcd".as_slice());
        assert_eq!(edit(Bytes::new(), 0, |_| {}), b"".as_slice());
    }

    #[test]
    fn ranges_are_as_in_redis() {
        for (start, end, want) in [
            (0, -1, 0..5),
            (-3, -2, 2..4),
            (3, 1, 0..0),
            (-100, 100, 0..5),
            (i64::MAX, i64::MAX, 0..0),
            (i64::MIN, i64::MIN, 0..1),
            (0, i64::MIN, 0..1),
            (-1, -5, 0..0),
        ] {
            assert_eq!(range(5, start, end), want, "{start} {end}");
        }
        assert_eq!(range(0, 0, -1), 0..0);
    }
}
