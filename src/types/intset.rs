//! Integers in ascending order, all as wide as the widest (2, 4 or 8 bytes), in a marked sequence: how a small set of
//! integers is kept. Knows bytes only.

use super::packed::{Item, Packed};

/// Bytes that a number takes in a set of no wider ones.
fn width_of(number: i64) -> usize {
    if i16::try_from(number).is_ok() {
        2
    } else if i32::try_from(number).is_ok() {
        4
    } else {
        8
    }
}

/// The integers of a sequence that holds nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ints<'a> {
    raw: &'a [u8],
    width: usize,
}

impl<'a> Ints<'a> {
    #[inline]
    pub(super) fn of(packed: &'a Packed) -> Self {
        let (raw, len) = (packed.raw(), packed.len() - 1);
        Self { raw, width: raw.len().checked_div(len).unwrap_or(2) }
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        self.raw.len() / self.width
    }

    #[inline]
    pub(super) fn get(self, index: usize) -> i64 {
        let bytes = &self.raw[index * self.width..(index + 1) * self.width];
        match *bytes {
            [a, b] => i16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => unreachable!("integers are 2, 4 or 8 bytes wide"),
        }
    }

    /// The index of a number, or that at which it would be.
    #[inline]
    pub(super) fn search(self, number: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(&number) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Item<'static>> + use<'a> {
        (0..self.len()).map(move |index| Item::Int(self.get(index)))
    }
}

/// A sequence for integers.
pub(super) fn empty() -> Packed {
    let mut packed = Packed::new();
    packed.mark();
    packed
}

/// Adds a number, for which there must be room; true if it was not there.
pub(super) fn add(packed: &mut Packed, number: i64) -> bool {
    let ints = Ints::of(packed);
    let Err(index) = ints.search(number) else { return false };
    let (len, width) = (ints.len(), if ints.len() == 0 { width_of(number) } else { ints.width });
    let wanted = width_of(number).max(width);
    if wanted > width {
        let wide: Vec<u8> = (0..len).flat_map(|at| ints.get(at).to_le_bytes().into_iter().take(wanted)).collect();
        let mut widened = empty();
        widened.raw_insert(0, &wide, len);
        *packed = widened;
    }
    packed.raw_insert(index * wanted, &number.to_le_bytes()[..wanted], 1);
    true
}

/// Removes the number at an index.
pub(super) fn remove_at(packed: &mut Packed, index: usize) {
    let width = Ints::of(packed).width;
    packed.raw_remove(index * width, width, 1);
}
