//! Strings as rows of bits, the first bit being the highest of the first byte: single bits, counting, searching,
//! combining, and integers of any width at any bit. Knows bytes only.

use std::ops::Range;

/// True if the bit is set; bits behind the end are not.
#[inline]
pub fn bit(text: &[u8], at: usize) -> bool {
    text.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

/// Sets or clears a bit, which must be there.
#[inline]
pub fn set_bit(text: &mut [u8], at: usize, to: bool) {
    let mask = 0x80 >> (at % 8);
    let byte = &mut text[at / 8];
    *byte = if to { *byte | mask } else { *byte & !mask };
}

/// How many of the bits in `range`, which must be there, are set.
pub fn count_bits(text: &[u8], range: Range<usize>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let head = 0xff >> (range.start % 8);
    let tail = 0xff << (7 - (range.end - 1) % 8);
    if first == last {
        return u64::from((text[first] & head & tail).count_ones());
    }
    let ends = (text[first] & head).count_ones() + (text[last] & tail).count_ones();
    u64::from(ends) + count_ones(&text[first + 1..last])
}

/// Words that [`count_ones`] adds up before it counts.
const COUNT_WORDS: usize = 16;

/// The set bits of whole bytes. Sixteen words go through carry-save adders, bit by bit in parallel, so that only their
/// sums are counted: without the processor's own instruction, which not every x86-64 has, this is twice as fast as
/// counting word by word.
fn count_ones(text: &[u8]) -> u64 {
    let (mut ones, mut twos, mut fours, mut eights) = (0u64, 0u64, 0u64, 0u64);
    let mut sixteens = 0u64;
    let (blocks, rest) = text.as_chunks::<{ COUNT_WORDS * 8 }>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        let word = |index: usize| u64::from_ne_bytes(words[index]);
        let mut carries = [0u64; 2];
        for (half, carry) in carries.iter_mut().enumerate() {
            let mut inner = [0u64; 2];
            for (quarter, carry) in inner.iter_mut().enumerate() {
                let from = half * 8 + quarter * 4;
                let (a, b);
                (ones, a) = add(ones, word(from), word(from + 1));
                (ones, b) = add(ones, word(from + 2), word(from + 3));
                (twos, *carry) = add(twos, a, b);
            }
            (fours, *carry) = add(fours, inner[0], inner[1]);
        }
        let carry;
        (eights, carry) = add(eights, carries[0], carries[1]);
        sixteens += u64::from(carry.count_ones());
    }
    let count = |word: u64| u64::from(word.count_ones());
    let sums = 16 * sixteens + 8 * count(eights) + 4 * count(fours) + 2 * count(twos) + count(ones);
    sums + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// Adds three words bit by bit: the sums and the carries.
#[inline]
fn add(a: u64, b: u64, c: u64) -> (u64, u64) {
    let half = a ^ b;
    (half ^ c, (a & b) | (half & c))
}

/// The first bit in `range`, which must be there, that is `wanted`.
pub fn find_bit(text: &[u8], wanted: bool, range: Range<usize>) -> Option<usize> {
    if range.is_empty() {
        return None;
    }
    // With the bits turned over where a clear one is wanted, a set one is sought.
    let flip = if wanted { 0 } else { 0xff };
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let masked = |index: usize| {
        let mut byte = text[index] ^ flip;
        if index == first {
            byte &= 0xff >> (range.start % 8);
        }
        if index == last {
            byte &= 0xff << (7 - (range.end - 1) % 8);
        }
        byte
    };
    let found = |index: usize| Some(index * 8 + masked(index).leading_zeros() as usize);
    if masked(first) != 0 {
        return found(first);
    }
    if first + 1 < last {
        let inner = &text[first + 1..last];
        let (words, _) = inner.as_chunks::<8>();
        let nothing = [flip; 8];
        let skip = words.iter().position(|word| *word != nothing).unwrap_or(words.len()) * 8;
        if let Some(at) = inner[skip..].iter().position(|byte| *byte != flip) {
            return found(first + 1 + skip + at);
        }
    }
    if masked(last) != 0 { found(last) } else { None }
}

/// How BITOP makes one string of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitOp {
    /// Bits set in all.
    And,
    /// Bits set in any.
    Or,
    /// Bits set in an odd number.
    Xor,
    /// Bits not set in the only one.
    Not,
    /// Bits set in the first, and in none of the others.
    Diff,
    /// Bits not set in the first, but in any of the others.
    Diff1,
    /// Bits set in the first and in any of the others.
    AndOr,
    /// Bits set in exactly one.
    One,
}

/// Bytes that [`combine`] works on at a time: what it reads twice is still in the cache.
const BLOCK: usize = 4096;

/// The combination of strings, as long as the longest; the others count as filled up with zero bytes.
pub fn combine(op: BitOp, sources: &[&[u8]]) -> Vec<u8> {
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = Vec::with_capacity(len);
    while result.len() < len {
        let start = result.len();
        let block = start..len.min(start + BLOCK);
        result.extend_from_slice(part(sources[0], &block));
        result.resize(block.end, 0);
        combine_block(op, &mut result[start..], sources, &block);
    }
    result
}

/// What a source has of a block.
fn part<'a>(source: &'a [u8], block: &Range<usize>) -> &'a [u8] {
    &source[block.start.min(source.len())..block.end.min(source.len())]
}

/// Combines what stands in `out`, the first source's part, with the others'.
fn combine_block(op: BitOp, out: &mut [u8], sources: &[&[u8]], block: &Range<usize>) {
    let others = || sources[1..].iter().map(|source| part(source, block));
    match op {
        BitOp::And => {
            for other in others() {
                each(out, other, |a, b| a & b);
                out[other.len()..].fill(0);
            }
        }
        BitOp::Or => others().for_each(|other| each(out, other, |a, b| a | b)),
        BitOp::Xor => others().for_each(|other| each(out, other, |a, b| a ^ b)),
        BitOp::Not => out.iter_mut().for_each(|byte| *byte = !*byte),
        BitOp::Diff | BitOp::Diff1 | BitOp::AndOr => {
            let mut any = [0; BLOCK];
            others().for_each(|other| each(&mut any, other, |a, b| a | b));
            let any = &any[..out.len()];
            match op {
                BitOp::Diff => each(out, any, |first, any| first & !any),
                BitOp::Diff1 => each(out, any, |first, any| any & !first),
                _ => each(out, any, |first, any| first & any),
            }
        }
        BitOp::One => {
            let mut more = [0; BLOCK];
            for other in others() {
                for ((once, more), byte) in out.iter_mut().zip(&mut more).zip(other) {
                    *more |= *once & byte;
                    *once |= byte;
                }
            }
            each(out, &more, |once, more| once & !more);
        }
    }
}

fn each(out: &mut [u8], other: &[u8], f: impl Fn(u8, u8) -> u8) {
    out.iter_mut().zip(other).for_each(|(a, b)| *a = f(*a, *b));
}

/// The form of an integer in a bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// With a sign, in two's complement.
    pub signed: bool,
    /// Width: 1 to 64, without a sign to 63.
    pub bits: u32,
}

/// What a number that does not fit a field becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Its lowest bits.
    Wrap,
    /// The nearest number that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl Field {
    /// Reads `i5`, `u63`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (sign, digits) = text.split_first()?;
        let signed = match sign {
            b'i' => true,
            b'u' => false,
            _ => return None,
        };
        let bits = match digits {
            [tens @ b'1'..=b'9', ones @ b'0'..=b'9'] => u32::from(tens - b'0') * 10 + u32::from(ones - b'0'),
            [ones @ b'1'..=b'9'] => u32::from(ones - b'0'),
            _ => return None,
        };
        (bits <= if signed { 64 } else { 63 }).then_some(Self { signed, bits })
    }

    /// The number at a bit; what lies behind the end is zero.
    pub fn get(self, text: &[u8], at: u64) -> i64 {
        let (window, shift) = self.window(text, at);
        self.of_low_bits((window >> shift) as u64)
    }

    /// Writes a number, of which the lowest bits count, at a bit. All its bytes must be there.
    pub fn set(self, text: &mut [u8], at: u64, number: i64) {
        let (mut window, shift) = self.window(text, at);
        let mask = (u128::from(u64::MAX) >> (64 - self.bits)) << shift;
        window = window & !mask | ((number as u64 as u128) << shift) & mask;
        let first = (at / 8) as usize;
        let last = ((at + u64::from(self.bits) - 1) / 8) as usize;
        text[first..=last].copy_from_slice(&window.to_be_bytes()[..=last - first]);
    }

    /// Sixteen bytes from the field's first on, and how far from the low end of them it lies.
    fn window(self, text: &[u8], at: u64) -> (u128, u32) {
        let mut bytes = [0; 16];
        let rest = usize::try_from(at / 8).ok().and_then(|first| text.get(first..)).unwrap_or_default();
        let len = rest.len().min(9);
        bytes[..len].copy_from_slice(&rest[..len]);
        (u128::from_be_bytes(bytes), 128 - (at % 8) as u32 - self.bits)
    }

    fn of_low_bits(self, number: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { (number << unused).cast_signed() >> unused } else { (number << unused >> unused) as i64 }
    }

    /// A number as a field can hold it; None if it does not fit and [`Overflow::Fail`] is asked for.
    pub fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) =
            if self.signed { (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) } else { (0, (1 << self.bits) - 1) };
        if (min..=max).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.of_low_bits(number as u64)),
            Overflow::Saturate => Some(number.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }

    /// The number that SET's argument means to a field. One without a sign takes a negative one for a large one. One
    /// with a sign does so, too, with one so low that its distance from the field's largest is no 64-bit number: Redis
    /// computes that distance, and saturates accordingly.
    pub fn to_write(self, number: i64) -> i128 {
        let largest = if self.signed { (1 << (self.bits - 1)) - 1 } else { 0 };
        let is_far = self.bits < 64 && largest - i128::from(number) > i128::from(i64::MAX);
        if self.signed && !is_far { i128::from(number) } else { i128::from(number as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plainest form of a string of bits.
    fn bits_of(text: &[u8]) -> Vec<bool> {
        text.iter().flat_map(|byte| (0..8).map(move |at| byte >> (7 - at) & 1 == 1)).collect()
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(0xff), any::<u8>()];
        prop_oneof![
            9 => proptest::collection::vec(byte, 0..20),
            1 => (any::<u8>(), 4000usize..4200).prop_map(|(byte, len)| vec![byte; len]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn counting_and_finding_are_as_bit_by_bit(text in text(), a: usize, b: usize) {
            let bits = bits_of(&text);
            let (a, b) = (a % (bits.len() + 1), b % (bits.len() + 1));
            let range = a.min(b)..a.max(b);
            prop_assert_eq!(count_bits(&text, range.clone()), bits[range.clone()].iter().filter(|bit| **bit).count() as u64);
            for wanted in [false, true] {
                let found = range.clone().find(|at| bits[*at] == wanted);
                prop_assert_eq!(find_bit(&text, wanted, range.clone()), found);
            }
        }

        #[test]
        fn single_bits_are_set_and_read(mut text in text(), at: usize, to: bool) {
            let mut bits = bits_of(&text);
            prop_assert!(!bit(&text, bits.len()));
            if !bits.is_empty() {
                let at = at % bits.len();
                prop_assert_eq!(bit(&text, at), bits[at]);
                set_bit(&mut text, at, to);
                bits[at] = to;
                prop_assert_eq!(bits_of(&text), bits);
            }
        }

        #[test]
        fn combining_is_as_bit_by_bit(sources in proptest::collection::vec(text(), 1..5)) {
            let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let len = sources.iter().map(Vec::len).max().unwrap_or(0);
            let bits: Vec<_> = sources.iter().map(|source| bits_of(source)).collect();
            for op in [BitOp::And, BitOp::Or, BitOp::Xor, BitOp::Not, BitOp::Diff, BitOp::Diff1, BitOp::AndOr, BitOp::One] {
                let combined = bits_of(&combine(op, &slices));
                prop_assert_eq!(combined.len(), len * 8);
                for (at, combined) in combined.into_iter().enumerate() {
                    let set = |source: &Vec<bool>| source.get(at).copied().unwrap_or(false);
                    let (first, others) = (set(&bits[0]), bits[1..].iter().filter(|source| set(source)).count());
                    let count = others + usize::from(first);
                    let wanted = match op {
                        BitOp::And => count == bits.len(),
                        BitOp::Or => count > 0,
                        BitOp::Xor => count % 2 == 1,
                        BitOp::Not => !first,
                        BitOp::Diff => first && others == 0,
                        BitOp::Diff1 => !first && others > 0,
                        BitOp::AndOr => first && others > 0,
                        BitOp::One => count == 1,
                    };
                    prop_assert_eq!(combined, wanted, "{:?} at {}", op, at);
                }
            }
        }

        #[test]
        fn fields_hold_what_was_written(at in 0u64..100, bits in 1u32..=64, signed: bool, number: i64, fill: u8) {
            let field = Field { signed, bits: if signed { bits } else { bits.min(63) } };
            let mut text = vec![fill; 24];
            let mut bits = bits_of(&text);
            field.set(&mut text, at, number);
            for index in 0..field.bits {
                bits[at as usize + index as usize] = number >> (field.bits - 1 - index) & 1 == 1;
            }
            prop_assert_eq!(bits_of(&text), bits);
            prop_assert_eq!(Some(field.get(&text, at)), field.fit(i128::from(number), Overflow::Wrap));
        }
    }

    #[test]
    fn a_field_may_lie_across_or_behind_the_end() {
        let field = Field { signed: false, bits: 16 };
        assert_eq!(field.get(&[0xff], 0), 0xff00);
        assert_eq!(field.get(&[0xff], 4), 0xf000);
        assert_eq!(field.get(&[0xff], 8), 0);
        assert_eq!(field.get(&[0xff], u64::MAX), 0);
    }

    #[test]
    fn numbers_are_made_to_fit() {
        let i8 = Field { signed: true, bits: 8 };
        assert_eq!(i8.fit(128, Overflow::Wrap), Some(-128));
        assert_eq!(i8.fit(128, Overflow::Saturate), Some(127));
        assert_eq!(i8.fit(-129, Overflow::Saturate), Some(-128));
        assert_eq!(i8.fit(-129, Overflow::Fail), None);
        assert_eq!(i8.fit(i8.to_write(i64::MIN + 127), Overflow::Saturate), Some(127));
        assert_eq!(i8.fit(i8.to_write(i64::MIN + 128), Overflow::Saturate), Some(-128));
        assert_eq!(i8.fit(i8.to_write(i64::MIN + 1), Overflow::Wrap), Some(1));
        let i64 = Field { signed: true, bits: 64 };
        assert_eq!(i64.fit(i128::from(i64::MAX) + 1, Overflow::Wrap), Some(i64::MIN));
        assert_eq!(i64.fit(i128::from(i64::MIN) * 2, Overflow::Saturate), Some(i64::MIN));
        let u8 = Field { signed: false, bits: 8 };
        assert_eq!(u8.fit(u8.to_write(-1), Overflow::Saturate), Some(255));
        assert_eq!(u8.fit(-1, Overflow::Saturate), Some(0));
        assert_eq!(u8.fit(-1, Overflow::Wrap), Some(255));
    }

    #[test]
    fn widths_are_as_in_redis() {
        for (text, wanted) in [
            ("i1", Some((true, 1))),
            ("u63", Some((false, 63))),
            ("i64", Some((true, 64))),
            ("u64", None),
            ("i65", None),
            ("u0", None),
            ("u08", None),
            ("u+8", None),
            ("U8", None),
            ("8", None),
            ("u", None),
            ("", None),
            ("u100", None),
        ] {
            assert_eq!(Field::parse(text.as_bytes()).map(|field| (field.signed, field.bits)), wanted, "{text}");
        }
    }
}
