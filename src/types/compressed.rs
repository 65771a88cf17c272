//! Long strings in compressed form: the length, then one LZ4 block. Knows bytes only.

use lz4_flex::block;

/// Bytes of the length in front of a block.
const HEAD: usize = 4;
/// One part in so many must be saved, or the string stays as it is.
const SAVED_PART: usize = 8;
/// A string longer than this shows by so many bytes of its middle whether it is worth while.
const TRIAL: usize = 8 * 1024;

/// The compressed form of a string; None if it would save too little.
pub fn compress(text: &[u8]) -> Option<Box<[u8]>> {
    let middle = text.len() / 2;
    if text.len() > 2 * TRIAL && pack(&text[middle..middle + TRIAL]).is_none() {
        return None;
    }
    pack(text)
}

fn pack(text: &[u8]) -> Option<Box<[u8]>> {
    let len = u32::try_from(text.len()).ok()?;
    let mut packed = vec![0; HEAD + block::get_maximum_output_size(text.len())];
    packed[..HEAD].copy_from_slice(&len.to_le_bytes());
    let used = HEAD + block::compress_into(text, &mut packed[HEAD..]).ok()?;
    (used <= text.len() - text.len() / SAVED_PART).then(|| packed[..used].into())
}

/// The length of a string that [`compress`] made this of.
pub fn expanded_len(packed: &[u8]) -> usize {
    packed.first_chunk().map_or(0, |head: &[u8; HEAD]| u32::from_le_bytes(*head) as usize)
}

/// The string that [`compress`] made this of.
///
/// # Panics
/// With anything else.
pub fn expand(packed: &[u8]) -> Vec<u8> {
    let mut text = vec![0; expanded_len(packed)];
    let len = block::decompress_into(&packed[HEAD..], &mut text).expect("a block of our own");
    assert_eq!(len, text.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_while_comes_back_as_it_was() {
        let mut number = 1u64;
        let mut random = || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (number >> 33) as u8
        };
        for len in [64, 1000, 16 * 1024, 100_000, 1 << 20] {
            let words: Vec<u8> = (0..len).map(|at| if at % 3 == 0 { random() % 4 } else { b'a' }).collect();
            let packed = compress(&words).expect("words repeat");
            assert!(packed.len() <= len - len / SAVED_PART);
            assert_eq!((expanded_len(&packed), expand(&packed)), (len, words));
            let noise: Vec<u8> = (0..len).map(|_| random()).collect();
            assert!(compress(&noise).is_none());
        }
        assert!(compress(b"").is_none() && compress(b"short").is_none());
    }
}
