//! Entries with IDs, and groups of readers. Knows bytes only.

/// Entries with IDs, and groups of readers.
#[derive(Clone, Debug, Default)]
pub struct Stream(Box<[u8; 0]>);

impl Stream {
    /// Entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How it is kept, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        "stream"
    }

    /// Bytes that it takes from the allocator, the 8 of itself excepted.
    pub fn memory(&self) -> usize {
        0
    }
}
