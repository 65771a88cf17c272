//! HyperLogLog: an estimate of how many distinct elements were added, in at most 12 KiB. Knows bytes only.
//!
//! The strings are those of Redis byte for byte, so that one can be moved between servers with GET and SET:
//!
//! ```text
//! "HYLL" | form 1 (0 dense, 1 sparse) | zero 3 | cached count 8, little-endian; its highest bit: out of date | registers
//! ```
//!
//! An element's hash chooses one of 16,384 registers and a rank, which is rare the higher it is; a register keeps the
//! highest rank seen. Dense, a register takes six bits, lowest bits first. Sparse, runs of equal registers are written
//! as opcodes:
//!
//! ```text
//! 00rrrrrr             r + 1 registers are 0
//! 01rrrrrr rrrrrrrr    r + 1 registers are 0
//! 1vvvvvrr             r + 1 registers are v + 1
//! ```
//!
//! A sparse string is only ever what a client made of it: every read of it checks that its runs cover the registers.

const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash beyond the index; ranks are 1 to this and one more.
const RANK_BITS: u32 = 64 - INDEX_BITS;
const RANK_MAX: usize = RANK_BITS as usize + 1;
const MAGIC: &[u8] = b"HYLL";
const HEADER: usize = 16;
const DENSE: usize = HEADER + REGISTERS * REGISTER_BITS / 8;
const REGISTER_BITS: usize = 6;
const STALE: u8 = 0x80;

const ZERO_RUN: usize = 64;
const VALUE_RUN: usize = 4;
/// The highest rank that the sparse form can hold.
const SPARSE_RANK: u8 = 32;
/// How many opcodes around a change are looked at for runs that can be joined.
const JOIN_OPCODES: usize = 5;

/// The string has the head of a HyperLogLog, but its registers make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// How the registers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HllForm {
    /// Six bits each.
    Dense,
    /// As runs.
    Sparse,
}

/// All registers, a byte each.
pub struct Registers(Box<[u8; REGISTERS]>);

/// An empty HyperLogLog.
pub fn hll_new() -> Vec<u8> {
    let mut text = Vec::with_capacity(HEADER + 2);
    text.extend_from_slice(MAGIC);
    text.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    push_zeros(&mut text, REGISTERS);
    text
}

/// How a string is written as a HyperLogLog; None if it is none.
pub fn hll_form(text: &[u8]) -> Option<HllForm> {
    if text.len() < HEADER || !text.starts_with(MAGIC) {
        return None;
    }
    match text[4] {
        0 if text.len() == DENSE => Some(HllForm::Dense),
        1 => Some(HllForm::Sparse),
        _ => None,
    }
}

/// Adds an element to a HyperLogLog of any form; true if that changed it. A sparse one that outgrows `sparse_max`
/// bytes becomes dense.
pub fn hll_add(text: &mut Vec<u8>, element: &[u8], sparse_max: usize) -> Result<bool, Corrupt> {
    let (index, rank) = place(element);
    raise(text, index, rank, sparse_max)
}

/// Adds an element to a dense one in place; true if that changed it.
pub fn hll_add_dense(text: &mut [u8], element: &[u8]) -> bool {
    let (index, rank) = place(element);
    dense_raise(text, index, rank)
}

/// True if adding an element would change a dense one.
pub fn hll_lacks(text: &[u8], element: &[u8]) -> bool {
    let (index, rank) = place(element);
    dense_get(text, index) < rank
}

/// The count that was written into the string, if it is up to date.
pub fn hll_cached(text: &[u8]) -> Option<u64> {
    let count: [u8; 8] = text.get(8..HEADER)?.try_into().ok()?;
    (count[7] & STALE == 0).then(|| u64::from_le_bytes(count))
}

/// Writes the count into the string.
pub fn hll_set_cached(text: &mut [u8], count: u64) {
    text[8..HEADER].copy_from_slice(&count.to_le_bytes());
}

/// Marks the count in the string as out of date.
pub fn hll_set_stale(text: &mut [u8]) {
    text[HEADER - 1] |= STALE;
}

/// Estimates how many distinct elements were added to a HyperLogLog.
pub fn hll_count(text: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = [0; 64];
    match hll_form(text) {
        Some(HllForm::Dense) => {
            (0..REGISTERS).for_each(|index| histogram[usize::from(dense_get(text, index))] += 1);
        }
        _ => sparse_runs(text, |_, run| histogram[usize::from(run.rank)] += run.len)?,
    }
    Ok(estimate(&histogram))
}

/// Makes a sparse one dense; false if it was dense.
pub fn hll_make_dense(text: &mut Vec<u8>) -> Result<bool, Corrupt> {
    if hll_form(text) == Some(HllForm::Dense) {
        return Ok(false);
    }
    let mut dense = vec![0; DENSE];
    dense[..HEADER].copy_from_slice(&text[..HEADER]);
    dense[4] = 0;
    sparse_runs(text, |first, run| {
        if run.rank > 0 {
            (first..first + run.len).for_each(|index| dense_set(&mut dense, index, run.rank));
        }
    })?;
    *text = dense;
    Ok(true)
}

/// The runs of a sparse one, in the notation of PFDEBUG DECODE.
pub fn hll_decode(text: &[u8]) -> Result<String, Corrupt> {
    let mut words = Vec::new();
    sparse_runs(text, |_, run| {
        words.push(match (run.rank, run.opcode) {
            (0, 1) => format!("z:{}", run.len),
            (0, _) => format!("Z:{}", run.len),
            (rank, _) => format!("v:{rank},{}", run.len),
        });
    })?;
    Ok(words.join(" "))
}

impl Default for Registers {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Raises the registers to those of a HyperLogLog where they are higher.
    pub fn merge(&mut self, text: &[u8]) -> Result<(), Corrupt> {
        if hll_form(text) == Some(HllForm::Dense) {
            for (index, register) in self.0.iter_mut().enumerate() {
                *register = (*register).max(dense_get(text, index));
            }
            return Ok(());
        }
        sparse_runs(text, |first, run| {
            if run.rank > 0 {
                self.0[first..first + run.len].iter_mut().for_each(|register| *register = (*register).max(run.rank));
            }
        })
    }

    /// What [`hll_count`] says of a HyperLogLog with these registers.
    pub fn count(&self) -> u64 {
        let mut histogram = [0; 64];
        self.0.iter().for_each(|register| histogram[usize::from(*register)] += 1);
        estimate(&histogram)
    }

    /// Raises the registers of a HyperLogLog to these where these are higher.
    pub fn write(&self, text: &mut Vec<u8>, sparse_max: usize) -> Result<(), Corrupt> {
        for (index, rank) in self.0.iter().enumerate().filter(|(_, rank)| **rank > 0) {
            raise(text, index, *rank, sparse_max)?;
        }
        Ok(())
    }

    /// The registers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u8> {
        self.0.iter().copied()
    }
}

/// An element's register and rank.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = hash(element);
    let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
    (hash as usize & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A with the seed that Redis uses.
fn hash(data: &[u8]) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = 0xadc8_3b19 ^ (data.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        hash = (hash ^ (word ^ word >> SHIFT).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(FACTOR);
    hash ^ hash >> SHIFT
}

/// Raises a register to at least `rank`; true if that changed it.
fn raise(text: &mut Vec<u8>, index: usize, rank: u8, sparse_max: usize) -> Result<bool, Corrupt> {
    if hll_form(text) == Some(HllForm::Dense) {
        return Ok(dense_raise(text, index, rank));
    }
    if rank <= SPARSE_RANK
        && let Some(changed) = sparse_raise(text, index, rank, sparse_max)?
    {
        return Ok(changed);
    }
    hll_make_dense(text)?;
    Ok(dense_raise(text, index, rank))
}

fn dense_raise(text: &mut [u8], index: usize, rank: u8) -> bool {
    let is_higher = dense_get(text, index) < rank;
    if is_higher {
        dense_set(text, index, rank);
        hll_set_stale(text);
    }
    is_higher
}

#[inline]
fn dense_get(text: &[u8], index: usize) -> u8 {
    let (at, shift) = (HEADER + index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let next = text.get(at + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([text[at], next]) >> shift) as u8 & 0x3f
}

fn dense_set(text: &mut [u8], index: usize, rank: u8) {
    let (at, shift) = (HEADER + index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let [keep, bits] = [!(0x3f_u16 << shift), u16::from(rank) << shift].map(u16::to_le_bytes);
    text[at] = text[at] & keep[0] | bits[0];
    if shift > 2 {
        text[at + 1] = text[at + 1] & keep[1] | bits[1];
    }
}

/// A run of equal registers in the sparse form.
#[derive(Clone, Copy)]
struct Run {
    rank: u8,
    len: usize,
    /// Bytes of its opcode.
    opcode: usize,
}

impl Run {
    /// The run whose opcode stands at `at`.
    fn read(text: &[u8], at: usize) -> Result<Self, Corrupt> {
        let byte = *text.get(at).ok_or(Corrupt)?;
        Ok(match byte >> 6 {
            0 => Self { rank: 0, len: usize::from(byte) + 1, opcode: 1 },
            1 => {
                let low = *text.get(at + 1).ok_or(Corrupt)?;
                Self { rank: 0, len: (usize::from(byte & 0x3f) << 8 | usize::from(low)) + 1, opcode: 2 }
            }
            _ => Self { rank: (byte >> 2 & 0x1f) + 1, len: usize::from(byte & 3) + 1, opcode: 1 },
        })
    }
}

fn push_zeros(text: &mut Vec<u8>, len: usize) {
    if len > ZERO_RUN {
        text.extend_from_slice(&(0x4000 | (len - 1) as u16).to_be_bytes());
    } else if len > 0 {
        text.push((len - 1) as u8);
    }
}

fn push_values(text: &mut Vec<u8>, rank: u8, len: usize) {
    if len > 0 {
        text.push(0x80 | (rank - 1) << 2 | (len - 1) as u8);
    }
}

/// Calls `found` with each run and its first register, of runs that cover all registers.
fn sparse_runs(text: &[u8], mut found: impl FnMut(usize, Run)) -> Result<(), Corrupt> {
    let (mut at, mut first) = (HEADER, 0);
    while at < text.len() {
        let run = Run::read(text, at)?;
        if first + run.len > REGISTERS {
            return Err(Corrupt);
        }
        found(first, run);
        at += run.opcode;
        first += run.len;
    }
    if first == REGISTERS { Ok(()) } else { Err(Corrupt) }
}

/// Raises a register of a sparse one to at least `rank`, which the form can hold; true if that changed it, None if it
/// would outgrow `sparse_max`. Which runs are split and joined decides the bytes, and so follows Redis.
fn sparse_raise(text: &mut Vec<u8>, index: usize, rank: u8, sparse_max: usize) -> Result<Option<bool>, Corrupt> {
    let (mut at, mut first, mut before) = (HEADER, 0, None);
    let run = loop {
        let run = Run::read(text, at)?;
        if index < first + run.len {
            break run;
        }
        before = Some(at);
        first += run.len;
        at += run.opcode;
    };
    if first + run.len > REGISTERS {
        return Err(Corrupt);
    }
    if run.rank >= rank {
        return Ok(Some(false));
    }
    let mut parts = Vec::with_capacity(5);
    let (left, right) = (index - first, first + run.len - index - 1);
    let push = if run.rank == 0 { |parts: &mut Vec<u8>, _, len| push_zeros(parts, len) } else { push_values };
    push(&mut parts, run.rank, left);
    push_values(&mut parts, rank, 1);
    push(&mut parts, run.rank, right);
    let growth = parts.len().saturating_sub(run.opcode);
    if growth > 0 && text.len() + growth > sparse_max {
        return Ok(None);
    }
    text.splice(at..at + run.opcode, parts);
    join(text, before.unwrap_or(HEADER));
    hll_set_stale(text);
    Ok(Some(true))
}

/// Joins neighbouring runs of the same rank among the few from the opcode at `at` on.
fn join(text: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOIN_OPCODES {
        let Ok(run) = Run::read(text, at) else { return };
        let next = Run::read(text, at + run.opcode);
        match next {
            Ok(next) if run.rank > 0 && next.rank == run.rank && run.len + next.len <= VALUE_RUN => {
                let mut joined = Vec::with_capacity(1);
                push_values(&mut joined, run.rank, run.len + next.len);
                text.splice(at..at + 2, joined);
            }
            _ => at += run.opcode,
        }
    }
}

/// Ertl's improved estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017), of how many
/// registers have which rank.
fn estimate(histogram: &[usize; 64]) -> u64 {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let registers = REGISTERS as f64;
    let share = |rank: usize| histogram[rank] as f64 / registers;
    let mut sum = registers * tau((registers - histogram[RANK_MAX] as f64) / registers);
    for rank in (1..RANK_MAX).rev() {
        sum = (sum + histogram[rank] as f64) * 0.5;
    }
    sum += registers * sigma(share(0));
    let estimate = (ALPHA * registers * registers / sum).round();
    // Only registers that no element can have brought about give more.
    if estimate < i64::MAX as f64 { estimate as u64 } else { 1 << 63 }
}

/// The part of the registers that are full.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        y *= 0.5;
        let before = z;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The part of the registers that are empty.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// Adds known elements, and tells what is wrong with the registers or the counts. Takes a few milliseconds.
pub fn hll_self_test() -> Result<(), String> {
    const ELEMENTS: u64 = 50_000;
    const SPARSE: u64 = 1000;
    let mut sparse = hll_new();
    let mut dense = hll_new();
    hll_make_dense(&mut dense).map_err(|Corrupt| "an empty one is corrupt".to_owned())?;
    for element in 1..=ELEMENTS {
        let bytes = element.to_le_bytes();
        let changed = hll_add_dense(&mut dense, &bytes);
        if element <= SPARSE && hll_add(&mut sparse, &bytes, usize::MAX) != Ok(changed) {
            return Err(format!("sparse and dense registers differ after {element} elements"));
        }
        if element.is_power_of_two() || element == ELEMENTS || element == SPARSE {
            let count = hll_count(&dense).map_err(|Corrupt| "a dense one is corrupt".to_owned())?;
            if element <= SPARSE && hll_count(&sparse) != Ok(count) {
                return Err(format!("sparse and dense counts differ after {element} elements"));
            }
            // Four times the standard error of 1.04/√16384, and one for the smallest counts.
            let tolerance = 1.0 + element as f64 * 0.0325;
            if count.abs_diff(element) as f64 > tolerance {
                return Err(format!("the count {count} is too far from {element}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(elements: impl IntoIterator<Item = u64>, sparse_max: usize) -> Vec<u8> {
        let mut text = hll_new();
        for element in elements {
            hll_add(&mut text, &element.to_le_bytes(), sparse_max).unwrap();
        }
        text
    }

    fn registers(text: &[u8]) -> Vec<u8> {
        let mut registers = Registers::default();
        registers.merge(text).unwrap();
        registers.iter().collect()
    }

    #[test]
    fn the_count_is_near_in_both_forms() {
        for count in [0, 1, 10, 100, 1000, 10_000, 50_000] {
            let text = of(0..count, 3000);
            let error = hll_count(&text).unwrap().abs_diff(count);
            // The standard error is 0.81 %.
            assert!(error as f64 <= count as f64 * 0.03, "{count}: off by {error}");
            let mut dense = text.clone();
            assert_eq!(hll_make_dense(&mut dense).unwrap(), hll_form(&text) == Some(HllForm::Sparse));
            assert_eq!(hll_count(&dense), hll_count(&text));
            assert_eq!(registers(&dense), registers(&text));
        }
    }

    #[test]
    fn the_self_test_passes() {
        assert_eq!(hll_self_test(), Ok(()));
    }

    #[test]
    fn both_forms_hold_the_same_registers() {
        let mut model = vec![0; REGISTERS];
        let mut dense = hll_new();
        hll_make_dense(&mut dense).unwrap();
        let mut sparse = hll_new();
        for element in 0..3000_u64 {
            let element = element.to_le_bytes();
            let (index, rank) = place(&element);
            let is_higher = model[index] < rank;
            model[index] = model[index].max(rank);
            assert_eq!(hll_lacks(&dense, &element), is_higher);
            assert_eq!(hll_add(&mut sparse, &element, usize::MAX), Ok(is_higher));
            assert_eq!(hll_add_dense(&mut dense, &element), is_higher);
        }
        assert_eq!(hll_form(&sparse), Some(HllForm::Sparse));
        assert_eq!(registers(&sparse), model);
        assert_eq!(registers(&dense), model);
    }

    #[test]
    fn a_sparse_one_becomes_dense_when_it_is_large_or_a_rank_is_high() {
        let text = of(0..100_000, 500);
        assert_eq!(hll_form(&text), Some(HllForm::Dense));
        let mut text = of(0..100, 3000);
        assert_eq!(raise(&mut text, 5, SPARSE_RANK, 3000), Ok(true));
        assert_eq!(hll_form(&text), Some(HllForm::Sparse));
        assert_eq!(raise(&mut text, 5, SPARSE_RANK + 1, 3000), Ok(true));
        assert_eq!((hll_form(&text), dense_get(&text, 5)), (Some(HllForm::Dense), SPARSE_RANK + 1));
    }

    #[test]
    fn merging_is_adding_both() {
        let (a, b) = (of(0..2000, 3000), of(1500..9000, 3000));
        let mut merged = Registers::default();
        merged.merge(&a).unwrap();
        merged.merge(&b).unwrap();
        let mut text = hll_new();
        merged.write(&mut text, 3000).unwrap();
        assert_eq!(registers(&text), registers(&of(0..9000, 3000)));
        assert_eq!(hll_count(&text), Ok(merged.count()));
    }

    #[test]
    fn the_cached_count_is_kept_until_a_change() {
        let mut text = of(0..10, 3000);
        assert_eq!(hll_cached(&text), None);
        hll_set_cached(&mut text, 10);
        assert_eq!(hll_cached(&text), Some(10));
        hll_add(&mut text, &3_u64.to_le_bytes(), 3000).unwrap();
        assert_eq!(hll_cached(&text), Some(10));
        hll_add(&mut text, b"new", 3000).unwrap();
        assert_eq!(hll_cached(&text), None);
        assert_eq!(hll_decode(&hll_new()).unwrap(), "Z:16384");
    }

    #[test]
    fn registers_that_no_element_has_are_counted_without_a_panic() {
        let mut text = hll_new();
        hll_make_dense(&mut text).unwrap();
        text[HEADER..].fill(0xff);
        assert_eq!(hll_count(&text), Ok(1 << 63));
    }

    proptest! {
        /// What a client may write over a HyperLogLog is refused or taken, but nothing panics.
        #[test]
        fn odd_bytes_are_refused_or_taken(body in prop::collection::vec(any::<u8>(), 0..300), cut: bool, max in 0usize..400) {
            let mut text = hll_new();
            text.truncate(HEADER);
            text.extend_from_slice(&body);
            if cut {
                // Whatever follows, the registers are covered.
                let covered: usize = runs_before_the_end(&text);
                push_zeros(&mut text, REGISTERS.saturating_sub(covered));
            }
            let count = hll_count(&text);
            prop_assert_eq!(hll_decode(&text).is_ok(), count.is_ok());
            prop_assert_eq!(Registers::default().merge(&text).is_ok(), count.is_ok());
            prop_assert_eq!(hll_make_dense(&mut text.clone()).is_ok(), count.is_ok());
            for element in 0..50_u64 {
                if hll_add(&mut text, &element.to_le_bytes(), max).is_err() {
                    break;
                }
            }
        }
    }

    fn runs_before_the_end(text: &[u8]) -> usize {
        let mut covered = 0;
        let _ = sparse_runs(text, |_, run| covered += run.len);
        covered
    }
}
