//! What all collections have in common, and one value that is any of them. Knows no keys.

use super::{Hash, Item, List, Set, Stream, Zset};
use itoa::Buffer;

/// A value that is not a string. It is 8 bytes, and empty by default without an allocation.
pub trait Collection: Default {
    /// The collection that `object` is, if it is of this type.
    fn of(object: ObjectRef<'_>) -> Option<&Self>;

    /// The same, to change it.
    fn of_mut(object: ObjectMut<'_>) -> Option<&mut Self>;

    /// As a value of any type.
    fn into_object(self) -> Object;

    /// True if its key is to be removed: it has no elements. An empty stream stays.
    fn is_over(&self) -> bool;

    /// None of its elements expires before this time.
    fn deadline(&self) -> Option<i64>;
}

impl ObjectRef<'_> {
    /// What dropping it frees one by one, about.
    pub fn burden(self) -> usize {
        if let Self::Stream(stream) = self { stream.burden() } else { self.len() }
    }

    /// First of two hints that an element is about to be looked up: in a large collection fetches where it would lie, and
    /// gives its hash for the second.
    #[inline]
    pub fn prefetch_place(self, element: &[u8]) -> Option<u64> {
        match self {
            Self::Hash(hash) => hash.prefetch_place(element),
            Self::Set(set) => set.prefetch_place(element),
            _ => None,
        }
    }

    /// Second hint: fetches the element.
    #[inline]
    pub fn prefetch_element(self, hash: u64) {
        match self {
            Self::Hash(of) => of.prefetch_element(hash),
            Self::Set(of) => of.prefetch_element(hash),
            _ => {}
        }
    }

    /// None of its elements expires before this time.
    #[inline]
    pub fn deadline(self) -> Option<i64> {
        if let Self::Hash(hash) = self { hash.deadline() } else { None }
    }
}

/// Elements of collections that are compared, at most.
const COMPARED_MAX: usize = 256;

/// Whether two collections of the same size have the same elements.
trait Same {
    fn has_same(&self, other: &Self) -> bool;
}

impl Same for Hash {
    /// Fields that expire are another matter.
    fn has_same(&self, other: &Self) -> bool {
        let has = |(field, value): (Item<'_>, Item<'_>)| other.get(field.bytes(&mut Buffer::new()), 0) == Some(value);
        self.deadline().is_none() && other.deadline().is_none() && self.iter(0).all(has)
    }
}

impl Same for List {
    fn has_same(&self, other: &Self) -> bool {
        (0..self.len()).all(|index| self.get(index) == other.get(index))
    }
}

impl Same for Set {
    fn has_same(&self, other: &Self) -> bool {
        self.iter().all(|member| other.contains_item(member))
    }
}

impl Same for Zset {
    fn has_same(&self, other: &Self) -> bool {
        self.iter_all().zip(other.iter_all()).all(|(a, b)| a == b)
    }
}

impl Same for Stream {
    /// Never asked: none is loaded.
    fn has_same(&self, _: &Self) -> bool {
        false
    }
}

macro_rules! objects {
    ($($name:ident = $text:literal, stays: $stays:literal, $doc:literal;)*) => {
        /// A collection of any type.
        #[derive(Clone, Debug)]
        pub enum Object { $(#[doc = $doc] $name($name),)* }

        /// A borrowed collection of any type.
        #[derive(Clone, Copy, Debug)]
        pub enum ObjectRef<'a> { $(#[doc = $doc] $name(&'a $name),)* }

        /// A collection of any type, to be changed.
        #[derive(Debug)]
        pub enum ObjectMut<'a> { $(#[doc = $doc] $name(&'a mut $name),)* }

        impl ObjectRef<'_> {
            /// The type's name, as TYPE gives it.
            pub fn type_name(self) -> &'static str {
                match self { $(Self::$name(_) => $text,)* }
            }

            /// How it is kept, in the words of OBJECT ENCODING.
            pub fn encoding(self) -> &'static str {
                match self { $(Self::$name(object) => object.encoding(),)* }
            }

            /// Elements.
            pub fn len(self) -> usize {
                match self { $(Self::$name(object) => object.len(),)* }
            }

            /// True without elements.
            pub fn is_empty(self) -> bool {
                self.len() == 0
            }

            /// Bytes that it takes from the allocator, the 8 of itself excepted. Costs a look at a bounded number of
            /// elements of a large one.
            pub fn memory(self) -> usize {
                match self { $(Self::$name(object) => object.memory(),)* }
            }

            /// The same type with the same elements. Says so of small ones only: the look is bounded.
            pub fn is_same(self, other: ObjectRef<'_>) -> bool {
                match (self, other) {
                    $((Self::$name(a), ObjectRef::$name(b)) => {
                        a.len() == b.len() && a.len() <= COMPARED_MAX && a.has_same(b)
                    })*
                    _ => false,
                }
            }

            /// A copy.
            pub fn to_object(self) -> Object {
                match self { $(Self::$name(object) => Object::$name(object.clone()),)* }
            }
        }

        impl Object {
            /// Borrowed.
            pub fn by_ref(&self) -> ObjectRef<'_> {
                match self { $(Self::$name(object) => ObjectRef::$name(object),)* }
            }
        }

        $(
            const _: () = assert!(size_of::<$name>() == 8 && align_of::<$name>() == 8);

            impl Collection for $name {
                #[inline]
                fn of(object: ObjectRef<'_>) -> Option<&Self> {
                    if let ObjectRef::$name(object) = object { Some(object) } else { None }
                }

                #[inline]
                fn of_mut(object: ObjectMut<'_>) -> Option<&mut Self> {
                    if let ObjectMut::$name(object) = object { Some(object) } else { None }
                }

                fn into_object(self) -> Object {
                    Object::$name(self)
                }

                #[inline]
                fn is_over(&self) -> bool {
                    !$stays && self.is_empty()
                }

                #[inline]
                fn deadline(&self) -> Option<i64> {
                    ObjectRef::$name(self).deadline()
                }
            }

            impl $name {
                /// True without elements.
                #[inline]
                pub fn is_empty(&self) -> bool {
                    self.len() == 0
                }
            }
        )*
    };
}

objects! {
    Hash = "hash", stays: false, "Fields with values.";
    List = "list", stays: false, "Values in order.";
    Set = "set", stays: false, "Distinct members.";
    Zset = "zset", stays: false, "Distinct members with scores, in the order of the scores.";
    Stream = "stream", stays: true, "Entries with IDs, and groups of readers.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn the_same_elements_make_the_same_collection() {
        let limits = &Limits::DEFAULT;
        let pairs = [(&b"a"[..], &b"1"[..]), (b"b", b"x")];
        let hash =
            |pairs: &[(&'static [u8], &'static [u8])]| Hash::from_pairs(pairs.iter().copied(), limits).into_object();
        let is_same = |a: &Object, b: &Object| a.by_ref().is_same(b.by_ref());
        assert!(is_same(&hash(&pairs), &hash(&[pairs[1], pairs[0]])));
        assert!(!is_same(&hash(&pairs), &hash(&[pairs[0], (b"b", b"y")])));
        assert!(!is_same(&hash(&pairs), &hash(&pairs[..1])));
        let texts = [&b"1"[..], b"22", b"x"];
        let list = |texts: &[&'static [u8]]| List::of(texts.iter().copied(), -2).into_object();
        assert!(
            is_same(&list(&texts), &list(&texts)) && !is_same(&list(&texts), &list(&[texts[1], texts[0], texts[2]]))
        );
        let set = |texts: &[&'static [u8]]| Set::from_members(texts.iter().copied(), limits).into_object();
        assert!(is_same(&set(&texts), &set(&[texts[2], texts[0], texts[1]])));
        assert!(!is_same(&set(&texts), &set(&[texts[0], texts[1], b"y"])) && !is_same(&set(&texts), &list(&texts)));
        let zset = |scores: [f64; 2]| {
            Zset::from_sorted([(&b"a"[..], scores[0]), (b"b", scores[1])].into_iter(), limits).into_object()
        };
        assert!(is_same(&zset([1.0, 2.0]), &zset([1.0, 2.0])) && !is_same(&zset([1.0, 2.0]), &zset([1.0, 3.0])));
    }
}
