//! What a load found for a collection: its elements as texts, in one piece of memory. Knows nothing of rows, and not
//! what the elements become.

use hashbrown::HashSet;

/// What the elements belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Fields and values, in turn.
    Hash,
    /// Elements in order.
    List,
    /// Members.
    Set,
    /// Members, each with a score.
    Zset,
}

/// The elements of one collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Elements {
    kind: Kind,
    bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<u32>,
    /// For a sorted set: one for each text.
    scores: Vec<f64>,
}

/// Scores are numbers, never NaN.
impl Eq for Elements {}

impl Elements {
    /// None yet.
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, bytes: Vec::new(), ends: Vec::new(), scores: Vec::new() }
    }

    /// Where the next text is to be appended, behind the others. [`Elements::close`] ends it.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the text that was appended. A value has less than 4 GiB.
    pub(super) fn close(&mut self) {
        self.ends.push(self.bytes.len() as u32);
    }

    /// The score of the member that was closed last.
    pub(super) fn score(&mut self, score: f64) {
        self.scores.push(score);
    }

    /// What they belong to.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all texts.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn text(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[index] as usize]
    }

    /// All texts, in order.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|index| self.text(index))
    }

    /// A hash's fields with their values.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        (0..self.len() / 2).map(|index| (self.text(2 * index), self.text(2 * index + 1)))
    }

    /// A sorted set's members with their scores.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&[u8], f64)> + Clone {
        self.scores.iter().enumerate().map(|(index, score)| (self.text(index), *score))
    }

    /// True if a field or a member of a sorted set comes twice: there is no telling which of them counts.
    pub(super) fn has_double(&self) -> bool {
        let step = match self.kind {
            Kind::Hash => 2,
            Kind::Zset => 1,
            // A list may, and a set takes each once.
            Kind::List | Kind::Set => return false,
        };
        let mut seen = HashSet::with_capacity_and_hasher(self.len() / step, foldhash::quality::RandomState::default());
        (0..self.len()).step_by(step).any(|index| !seen.insert(self.text(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(kind: Kind, texts: &[&str]) -> Elements {
        let mut elements = Elements::new(kind);
        for text in texts {
            elements.open().extend_from_slice(text.as_bytes());
            elements.close();
            if kind == Kind::Zset {
                elements.score(text.len() as f64);
            }
        }
        elements
    }

    #[test]
    fn texts_are_kept_apart() {
        let hash = elements(Kind::Hash, &["a", "", "", "bc"]);
        assert_eq!(hash.texts().collect::<Vec<_>>(), [&b"a"[..], b"", b"", b"bc"]);
        assert_eq!(hash.pairs().collect::<Vec<_>>(), [(&b"a"[..], &b""[..]), (b"", b"bc")]);
        let zset = elements(Kind::Zset, &["", "xy"]);
        assert_eq!(zset.members().collect::<Vec<_>>(), [(&b""[..], 0.0), (b"xy", 2.0)]);
        assert_eq!((zset.len(), zset.bytes(), Elements::new(Kind::Set).is_empty()), (2, 2, true));
    }

    #[test]
    fn doubles_are_seen_where_they_matter() {
        assert!(elements(Kind::Hash, &["a", "b", "a", "c"]).has_double());
        assert!(!elements(Kind::Hash, &["a", "b", "b", "b"]).has_double());
        assert!(elements(Kind::Zset, &["a", "b", "a"]).has_double());
        assert!(!elements(Kind::List, &["a", "a"]).has_double() && !elements(Kind::Set, &["a", "a"]).has_double());
    }
}
