//! LZF, the compression of long strings in the format: runs of up to 32 literal bytes, and references of 3 to 264 bytes
//! to what came up to 8 KiB before. Knows bytes only.

const LITERALS_MAX: usize = 32;
const DISTANCE_MAX: usize = 1 << 13;
const LEN_MIN: usize = 3;
const LEN_MAX: usize = 264;
/// A reference takes three bytes at most, so no text grows further than this.
const EXPANSION_MAX: usize = LEN_MAX / 3 + 1;
const HASH_BITS: u32 = 13;

/// The text that `data` stands for, which is `len` bytes long; None if it is not.
pub(super) fn decompress(data: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > data.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut text = Vec::with_capacity(len);
    let mut rest = data;
    while let Some((&control, behind)) = rest.split_first() {
        let control = usize::from(control);
        rest = behind;
        if control < LITERALS_MAX {
            let (literals, behind) = rest.split_at_checked(control + 1)?;
            text.extend_from_slice(literals);
            rest = behind;
        } else {
            let mut count = (control >> 5) + 2;
            if count == 9 {
                count += usize::from(*rest.split_off_first()?);
            }
            let distance = ((control & 0x1f) << 8 | usize::from(*rest.split_off_first()?)) + 1;
            let from = text.len().checked_sub(distance)?;
            if text.len() + count > len {
                return None;
            }
            // What is referred to may reach into what is being written.
            for at in from..from + count {
                text.push(text[at]);
            }
        }
        if text.len() > len {
            return None;
        }
    }
    (text.len() == len).then_some(text)
}

/// `text` compressed; None if that would not make it shorter.
pub(super) fn compress(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    // Where three bytes of this hash were seen last, plus one.
    let mut seen = vec![0u32; 1 << HASH_BITS];
    let (mut at, mut literals) = (0, 0);
    while at + LEN_MIN <= text.len() {
        let three = u32::from_le_bytes([text[at], text[at + 1], text[at + 2], 0]);
        let slot = &mut seen[(three.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize];
        let before = (*slot as usize).checked_sub(1);
        *slot = u32::try_from(at + 1).ok()?;
        let found = before
            .filter(|before| at - before <= DISTANCE_MAX && text[*before..before + LEN_MIN] == text[at..at + LEN_MIN]);
        let Some(before) = found else {
            at += 1;
            continue;
        };
        let same = text[at..].iter().zip(&text[before..]).take(LEN_MAX).take_while(|(a, b)| a == b).count();
        push_literals(&mut out, &text[literals..at]);
        let (count, distance) = (same - 2, at - before - 1);
        if count < 7 {
            out.push((count << 5 | distance >> 8) as u8);
        } else {
            out.extend_from_slice(&[(7 << 5 | distance >> 8) as u8, (count - 7) as u8]);
        }
        out.push(distance as u8);
        at += same;
        literals = at;
        if out.len() >= text.len() {
            return None;
        }
    }
    push_literals(&mut out, &text[literals..]);
    (out.len() < text.len()).then_some(out)
}

fn push_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn redis_s_own_is_read() {
        let a = decompress(b"\x01aa\xe0\xbb\x00\x01aa", 200);
        assert_eq!(a, Some(vec![b'a'; 200]));
        assert_eq!(decompress(b"\x01aa\xe0\xbb\x00\x01aa", 201), None);
        assert_eq!(decompress(b"\x01aa\xe0\xbb\x00\x01aa", 199), None);
        assert_eq!(decompress(b"\x01aa\xe0\xbb\x02", 199), None);
        assert_eq!(decompress(b"\x05aa", 6), None);
        assert_eq!(decompress(b"\x00a", usize::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(words in prop::collection::vec("[ab]{1,9}|[a-z]{0,40}", 0..300)) {
            let text = words.concat().into_bytes();
            if let Some(data) = compress(&text) {
                prop_assert!(data.len() < text.len());
                prop_assert_eq!(decompress(&data, text.len()), Some(text));
            }
        }

        #[test]
        fn odd_bytes_are_refused_or_read(data: Vec<u8>, len in 0usize..10_000) {
            if let Some(text) = decompress(&data, len) {
                prop_assert_eq!(text.len(), len);
            }
        }
    }
}
