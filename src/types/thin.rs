//! A collection in 8 bytes: packed while it is small, else a boxed structure. Knows neither's contents.
//!
//! The pointer's lowest bit says which: a [`Packed`] points to memory that is 8-aligned, and so does a box of `F`.
#![allow(unsafe_code)]

use super::packed::Packed;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Set in the pointer of a collection that is not packed.
pub const FULL: usize = 1;

/// A collection that is small and packed, or else an `F`.
#[repr(transparent)]
pub struct Thin<F> {
    pointer: NonNull<u8>,
    owner: PhantomData<F>,
}

/// Which of the two it is.
#[derive(Debug)]
pub enum Form<P, F> {
    /// Packed.
    Packed(P),
    /// The structure for large ones.
    Full(F),
}

impl<F> Default for Thin<F> {
    fn default() -> Self {
        Self::packed(Packed::new())
    }
}

impl<F> Thin<F> {
    /// A packed one.
    pub fn packed(packed: Packed) -> Self {
        let packed = ManuallyDrop::new(packed);
        // SAFETY: a `Packed` is one pointer, which is not null; `ManuallyDrop` keeps what it points to alive.
        let pointer = unsafe { (&raw const packed).cast::<NonNull<u8>>().read() };
        Self { pointer, owner: PhantomData }
    }

    /// A large one.
    pub fn full(full: F) -> Self {
        const { assert!(align_of::<F>() >= 2, "the pointer's lowest bit is free") };
        let pointer = NonNull::from(Box::leak(Box::new(full))).cast::<u8>();
        Self { pointer: pointer.map_addr(|address| address | FULL), owner: PhantomData }
    }

    /// True for a large one.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.pointer.addr().get() & FULL != 0
    }

    #[inline]
    fn boxed(&self) -> *mut F {
        self.pointer.as_ptr().map_addr(|address| address & !FULL).cast()
    }

    /// What it is.
    #[inline]
    pub fn form(&self) -> Form<&Packed, &F> {
        if self.is_full() {
            // SAFETY: the pointer came from a box that this owns.
            Form::Full(unsafe { &*self.boxed() })
        } else {
            // SAFETY: without the bit, the pointer is a `Packed`, which has the same layout.
            Form::Packed(unsafe { &*(&raw const self.pointer).cast::<Packed>() })
        }
    }

    /// What it is, to change it.
    #[inline]
    pub fn form_mut(&mut self) -> Form<&mut Packed, &mut F> {
        if self.is_full() {
            // SAFETY: the pointer came from a box that this owns; `&mut self` makes this the only access.
            Form::Full(unsafe { &mut *self.boxed() })
        } else {
            // SAFETY: without the bit, the pointer is a `Packed`, which has the same layout, and a `Packed` never sets
            // the bit.
            Form::Packed(unsafe { &mut *(&raw mut self.pointer).cast::<Packed>() })
        }
    }
}

impl<F> Drop for Thin<F> {
    fn drop(&mut self) {
        // SAFETY: the pointer is what `packed` or `full` took over, and is not used again.
        unsafe {
            if self.is_full() {
                drop(Box::from_raw(self.boxed()));
            } else {
                drop((&raw const self.pointer).cast::<Packed>().read());
            }
        }
    }
}

impl<F: Clone> Clone for Thin<F> {
    fn clone(&self) -> Self {
        match self.form() {
            Form::Packed(packed) => Self::packed(packed.clone()),
            Form::Full(full) => Self::full(full.clone()),
        }
    }
}

impl<F: fmt::Debug> fmt::Debug for Thin<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.form().fmt(f)
    }
}

// SAFETY: it owns a `Packed` or an `F`.
unsafe impl<F: Send> Send for Thin<F> {}
// SAFETY: as above; a shared one gives only shared access.
unsafe impl<F: Sync> Sync for Thin<F> {}

#[cfg(test)]
mod tests {
    use super::super::packed::Item;
    use super::*;

    #[test]
    fn both_forms_are_kept_and_dropped() {
        let mut thin: Thin<Vec<String>> = Thin::default();
        assert_eq!(size_of::<Thin<Vec<String>>>(), 8);
        assert!(!thin.is_full());
        if let Form::Packed(packed) = thin.form_mut() {
            packed.push(Item::of(b"one"));
        }
        let copy = thin.clone();
        thin = Thin::full(vec!["one".to_owned()]);
        if let Form::Full(full) = thin.form_mut() {
            full.push("two".to_owned());
        }
        assert_eq!((format!("{copy:?}"), thin.is_full()), ("Packed([Text([111, 110, 101])])".to_owned(), true));
        assert!(matches!(thin.clone().form(), Form::Full(full) if full.len() == 2));
    }
}
