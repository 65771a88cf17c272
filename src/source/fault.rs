//! What is wrong with a routes file, and where: one fault a line, all of them at once.

use std::fmt;
use std::sync::Arc;

/// One thing that is wrong in a routes file. Shown as `file:line: message`; never holds a password or a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named to us.
    pub file: Arc<str>,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{}: {}", self.file, line, self.message),
        }
    }
}

/// The one of `known` that `name` was probably meant to be.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let scored = known.iter().map(|candidate| (distance(name, candidate), *candidate));
    let (score, candidate) = scored.min_by_key(|(score, _)| *score)?;
    (score <= 1 + name.len() / 3).then_some(candidate)
}

/// Insertions, deletions and replacements that turn `a` into `b`; names are cut at 64 bytes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (&a.as_bytes()[..a.len().min(64)], &b.as_bytes()[..b.len().min(64)]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(!x.eq_ignore_ascii_case(y))).min(above + 1).min(row[j] + 1);
            corner = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_or_nothing() {
        let known = ["key", "query", "ttl", "negative_ttl"];
        assert_eq!(nearest("qurey", &known), Some("query"));
        assert_eq!(nearest("TTL", &known), Some("ttl"));
        assert_eq!(nearest("negativ_ttl", &known), Some("negative_ttl"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
