//! Distinct members. Knows bytes only.

use super::packed::Packed;
use super::thin::{Form, Thin};

/// Distinct members.
#[derive(Clone, Debug, Default)]
pub struct Set(Thin<Packed>);

impl Set {
    /// Elements.
    pub fn len(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) | Form::Full(packed) => packed.len(),
        }
    }

    /// How it is kept, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        if self.0.is_full() { "hashtable" } else { "listpack" }
    }

    /// Bytes that it takes from the allocator, the 8 of itself excepted.
    pub fn memory(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) | Form::Full(packed) => packed.memory(),
        }
    }
}
