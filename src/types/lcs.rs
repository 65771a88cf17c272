//! The longest common subsequence of two strings, as LCS finds it. Knows bytes only.
//!
//! The table of lengths is never built. Its row `i` only ever steps up by 0 or 1 from one column to the next, and a
//! row's steps follow from those of the row above, 64 columns at a time (the bit-parallel form of the
//! recurrence). One bit a cell is also all that the way back needs: where the two bytes differ, a step between
//! column `j-1` and `j` means that the length comes from the row above, no step that it comes from the column before.

/// Bytes that both strings have, in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where the run begins in the first string.
    pub a: usize,
    /// Where it begins in the second.
    pub b: usize,
    /// Bytes.
    pub len: usize,
}

/// A longest common subsequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lcs {
    /// The bytes.
    pub text: Vec<u8>,
    /// Where they are, from the end to the start.
    pub matches: Vec<Match>,
}

/// Steps of the rows, one bit a column; a set bit is a column where the length does not step up.
struct Rows {
    /// For every byte that `a` has: the columns where `b` has it. No larger than one bit a pair of bytes either.
    masks: Vec<u64>,
    /// Where a byte's columns are among the masks.
    place: [usize; 256],
    words: usize,
}

impl Rows {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let words = b.len().div_ceil(64);
        let mut place = [usize::MAX; 256];
        let mut distinct = 0;
        for &byte in a {
            if place[usize::from(byte)] == usize::MAX {
                place[usize::from(byte)] = distinct * words;
                distinct += 1;
            }
        }
        let mut masks = vec![0u64; distinct * words];
        for (column, &byte) in b.iter().enumerate() {
            if place[usize::from(byte)] != usize::MAX {
                masks[place[usize::from(byte)] + column / 64] |= 1 << (column % 64);
            }
        }
        Self { masks, place, words }
    }

    /// Turns a row into the next one, whose byte is `byte`.
    fn advance(&self, row: &mut [u64], byte: u8) {
        let mask = &self.masks[self.place[usize::from(byte)]..][..self.words];
        let mut carry = false;
        for (word, &mask) in row.iter_mut().zip(mask) {
            let here = *word & mask;
            let (sum, over) = word.overflowing_add(here);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            carry = over || over_again;
            *word = sum | (*word & !mask);
        }
    }
}

/// The length of a longest common subsequence. Takes memory in proportion to the shorter string.
pub fn lcs_len(a: &[u8], b: &[u8]) -> usize {
    let (a, b) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let rows = Rows::new(a, b);
    let mut row = vec![u64::MAX; rows.words];
    for &byte in a {
        rows.advance(&mut row, byte);
    }
    (0..b.len()).filter(|column| !is_set(&row, *column)).count()
}

/// A longest common subsequence: where several are, the one that Redis finds. Takes one bit of memory for each
/// pair of bytes; the caller bounds their number.
pub fn lcs(a: &[u8], b: &[u8]) -> Lcs {
    let rows = Rows::new(a, b);
    let mut table = vec![u64::MAX; rows.words * (a.len() + 1)];
    for (index, &byte) in a.iter().enumerate() {
        let (above, below) = table.split_at_mut((index + 1) * rows.words);
        let row = &mut below[..rows.words];
        row.copy_from_slice(&above[index * rows.words..]);
        rows.advance(row, byte);
    }
    let mut found = Lcs::default();
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            (i, j) = (i - 1, j - 1);
            found.text.push(a[i]);
            match found.matches.last_mut() {
                Some(last) if last.a == i + 1 && last.b == j + 1 => *last = Match { a: i, b: j, len: last.len + 1 },
                _ => found.matches.push(Match { a: i, b: j, len: 1 }),
            }
        } else if is_set(&table[i * rows.words..], j - 1) {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    found.text.reverse();
    found
}

fn is_set(row: &[u64], column: usize) -> bool {
    row[column / 64] >> (column % 64) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, with the whole table.
    fn plain(a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut table = vec![vec![0u32; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] =
                    if a[i - 1] == b[j - 1] { table[i - 1][j - 1] + 1 } else { table[i - 1][j].max(table[i][j - 1]) };
            }
        }
        let (mut i, mut j, mut text) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                text.push(a[i - 1]);
                (i, j) = (i - 1, j - 1);
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        text.reverse();
        text
    }

    #[test]
    fn the_runs_are_those_that_redis_reports() {
        let found = lcs(b"ohmytext", b"mynewtext");
        assert_eq!(found.text, b"mytext");
        assert_eq!(found.matches, [Match { a: 4, b: 5, len: 4 }, Match { a: 2, b: 0, len: 2 }]);
        assert_eq!(lcs(b"", b"abc"), Lcs::default());
        assert_eq!(lcs(b"abc", b"xyz"), Lcs::default());
    }

    proptest! {
        #[test]
        fn is_the_one_of_the_whole_table(a in prop::collection::vec(b'a'..b'd', 0..200),
                b in prop::collection::vec(b'a'..b'e', 0..200)) {
            let found = lcs(&a, &b);
            prop_assert_eq!(&found.text, &plain(&a, &b));
            prop_assert_eq!(lcs_len(&a, &b), found.text.len());
            let mut runs = Vec::new();
            for run in found.matches.iter().rev() {
                prop_assert_eq!(&a[run.a..run.a + run.len], &b[run.b..run.b + run.len]);
                runs.extend_from_slice(&a[run.a..run.a + run.len]);
            }
            prop_assert_eq!(runs, found.text);
        }
    }
}
