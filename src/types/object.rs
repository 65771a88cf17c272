//! What all collections have in common, and one value that is any of them. Knows no keys.

use super::{Hash, List, Set, Stream, Zset};

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
    /// None of its elements expires before this time.
    #[inline]
    pub fn deadline(self) -> Option<i64> {
        if let Self::Hash(hash) = self { hash.deadline() } else { None }
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

            /// Elements: what DEL has to free one by one, at most.
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

            /// A copy.
            pub fn to_object(self) -> Object {
                match self { $(Self::$name(object) => Object::$name(object.clone()),)* }
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
