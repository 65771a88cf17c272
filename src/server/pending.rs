//! Replies that a socket would not take yet: in order, large values by reference, small ones packed together. It
//! must not know sockets or limits.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Pieces below this size are copied into a common one.
const PACK_BELOW: usize = 4 * 1024;
/// Size at which a common piece is closed.
const PACKED_BYTES: usize = 32 * 1024;
/// Pieces that are offered to the socket at once.
pub(super) const SLICES: usize = 16;

/// Bytes to be sent.
#[derive(Debug, Default)]
pub(super) struct Pending {
    chunks: VecDeque<Bytes>,
    /// Behind all chunks; its first `tail_sent` bytes are gone already.
    tail: Vec<u8>,
    tail_sent: usize,
    /// Bytes in all.
    len: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pieces.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len() + usize::from(self.tail.len() > self.tail_sent)
    }

    /// Adds to the end.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if chunk.len() < PACK_BELOW && self.tail.len() + chunk.len() <= PACKED_BYTES {
            self.tail.extend_from_slice(&chunk);
            return;
        }
        self.close_tail();
        if chunk.len() < PACK_BELOW {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.chunks.push_back(chunk);
        }
    }

    fn close_tail(&mut self) {
        let mut tail = Bytes::from(std::mem::take(&mut self.tail));
        tail.advance(std::mem::take(&mut self.tail_sent));
        if !tail.is_empty() {
            self.chunks.push_back(tail);
        }
    }

    /// The front, as much as fits in `slices`, and at most so many bytes; returns how many slices are used.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES], mut most: usize) -> usize {
        let tail = &self.tail[self.tail_sent..];
        let all = self.chunks.iter().map(Bytes::as_ref).chain((!tail.is_empty()).then_some(tail));
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(all) {
            if most == 0 {
                break;
            }
            let chunk = &chunk[..chunk.len().min(most)];
            most -= chunk.len();
            *slice = IoSlice::new(chunk);
            used += 1;
        }
        used
    }

    /// Forgets `len` bytes from the front, which were sent.
    pub(super) fn sent(&mut self, mut len: usize) {
        self.len -= len;
        while let Some(chunk) = self.chunks.front_mut() {
            if len < chunk.len() {
                return chunk.advance(len);
            }
            len -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail_sent += len;
        if self.is_empty() {
            // A connection that keeps up owns no memory.
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        // A fixed pattern of small, large and middling pieces, taken in uneven steps.
        let mut pending = Pending::default();
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        for round in 0..32_usize {
            let size = [1, 5000, 100, 4095, 0, 4096, 20, 70_000][round % 8];
            let piece: Vec<u8> = (0..size).map(|n| (n * 7 + round) as u8).collect();
            expected.extend_from_slice(&piece);
            pending.push(Bytes::from(piece));
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = pending.fill(&mut slices, usize::MAX);
            let front: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
            let take = front.len().min(round * 37 % 40_000);
            got.extend_from_slice(&front[..take]);
            pending.sent(take);
            assert_eq!(pending.len(), expected.len() - got.len());
        }
        while !pending.is_empty() {
            assert!(pending.chunks() > 0);
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = pending.fill(&mut slices, 50_000);
            let front: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(front.len() <= 50_000);
            got.extend_from_slice(&front);
            pending.sent(front.len());
        }
        assert_eq!(got, expected);
        assert_eq!((pending.chunks(), pending.tail.capacity()), (0, 0));
    }

    #[test]
    fn small_pieces_are_packed() {
        let mut pending = Pending::default();
        for _ in 0..10_000 {
            pending.push(Bytes::from_static(b"+OK\r\n"));
        }
        assert_eq!((pending.len(), pending.chunks()), (50_000, 2));
    }
}
