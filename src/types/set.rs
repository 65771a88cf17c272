//! Distinct members: integers in order, packed, or, of a large set, a table. Knows bytes only.

use super::hashing::hash_of;
use super::intset::{self, Ints};
use super::member::Member;
use super::packed::{Item, Items, PACKED_MAX, Packed};
use super::table::{Place, Table, tag_of};
use super::thin::{Form, Thin};
use crate::alloc::class_size;
use crate::config::Limits;

/// Distinct members. A marked sequence holds integers.
#[derive(Clone, Debug, Default)]
pub struct Set(Thin<Table<Member>>);

impl Set {
    /// A set of these members.
    pub fn from_members<'a>(members: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Self {
        let mut set = Self::default();
        for member in members {
            set.add(member, limits);
        }
        set
    }

    /// Members.
    #[inline]
    pub fn len(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) if packed.is_marked() => packed.len() - 1,
            Form::Packed(packed) => packed.len(),
            Form::Full(table) => table.len(),
        }
    }

    /// How it is kept, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match self.0.form() {
            Form::Packed(packed) if packed.is_marked() => "intset",
            Form::Packed(_) => "listpack",
            Form::Full(_) => "hashtable",
        }
    }

    /// Bytes that it takes from the allocator, the 8 of itself excepted; of a large one, about.
    pub fn memory(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.memory(),
            Form::Full(table) => class_size(size_of::<Table<Member>>()) + table.memory(Member::memory),
        }
    }

    /// True if it is a table, in which a random member costs little.
    pub fn is_table(&self) -> bool {
        self.0.is_full()
    }

    /// First of two hints that a member is about to be looked up; the member's hash, of a large set.
    #[inline]
    pub(super) fn prefetch_place(&self, member: &[u8]) -> Option<u64> {
        let Form::Full(table) = self.0.form() else { return None };
        let hash = hash_of(member);
        table.prefetch_bucket(hash);
        Some(hash)
    }

    /// Second hint.
    #[inline]
    pub(super) fn prefetch_element(&self, hash: u64) {
        if let Form::Full(table) = self.0.form() {
            table.prefetch_entry(hash);
        }
    }

    /// True with this member.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match self.0.form() {
            Form::Packed(packed) => position(packed, Item::of(member)).is_some(),
            Form::Full(table) => table.find(hash_of(member), member).is_some(),
        }
    }

    /// The same for a member of another set.
    #[inline]
    pub fn contains_item(&self, member: Item<'_>) -> bool {
        match self.0.form() {
            Form::Packed(packed) => position(packed, canonical(member)).is_some(),
            Form::Full(_) => self.contains(member.bytes(&mut itoa::Buffer::new())),
        }
    }

    /// Adds a member; true if it was not there.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        if let Form::Full(table) = self.0.form_mut() {
            return add_to(table, member);
        }
        self.add_packed(Item::of(member), limits)
    }

    /// Adds a member of another set; true if it was not there.
    pub fn add_item(&mut self, member: Item<'_>, limits: &Limits) -> bool {
        if let Form::Full(table) = self.0.form_mut() {
            return add_to(table, member.bytes(&mut itoa::Buffer::new()));
        }
        self.add_packed(canonical(member), limits)
    }

    /// Gives an empty or packed set the form that so many more members, beginning with `first`, make likely.
    pub fn reserve(&mut self, members: usize, first: &[u8], limits: &Limits) {
        let Form::Packed(packed) = self.0.form() else { return };
        let is_ints = packed.is_marked() || packed.is_empty() && matches!(Item::of(first), Item::Int(_));
        let most = if is_ints { limits.set_max_intset_entries } else { limits.set_max_listpack_entries };
        if members <= most {
            return;
        }
        if packed.is_empty() && is_ints && members <= limits.set_max_listpack_entries {
            // Too many for integers in order, but not for a packed set.
            return;
        }
        self.make_table();
    }

    fn add_packed(&mut self, member: Item<'_>, limits: &Limits) -> bool {
        let Form::Packed(packed) = self.0.form_mut() else { return false };
        if packed.is_empty() && matches!(member, Item::Int(_)) && limits.set_max_intset_entries > 0 {
            *packed = intset::empty();
        }
        match member {
            Item::Int(number) if packed.is_marked() => {
                let is_new = intset::add(packed, number);
                if packed.len() - 1 > limits.set_max_intset_entries.min(PACKED_MAX - 2) {
                    self.make_table();
                }
                return is_new;
            }
            _ if position(packed, member).is_some() => return false,
            _ => {}
        }
        let longest = if packed.is_marked() {
            let ints = Ints::of(packed);
            // The longest text is that of the least or the greatest.
            let ends = [0, ints.len() - 1].map(|at| Item::Int(ints.get(at)).len());
            ends[0].max(ends[1])
        } else {
            0
        };
        let len = if packed.is_marked() { packed.len() - 1 } else { packed.len() };
        let fits = len < limits.set_max_listpack_entries
            && longest.max(member.len()) <= limits.set_max_listpack_value
            && packed.has_room(1, member.len());
        if !fits {
            self.make_table();
            return self.add_item(member, limits);
        }
        if packed.is_marked() {
            let mut listed = Packed::new();
            Ints::of(packed).iter().for_each(|item| listed.push(item));
            *packed = listed;
        }
        packed.push(member);
        true
    }

    /// Removes a member; true if it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.0.form_mut() {
            Form::Packed(packed) => {
                let Some(at) = position(packed, Item::of(member)) else { return false };
                remove_at(packed, at);
                true
            }
            Form::Full(table) => {
                let place = table.find(hash_of(member), member);
                place.map(|place| table.remove(place)).is_some()
            }
        }
    }

    /// The members.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        match self.0.form() {
            Form::Packed(packed) if packed.is_marked() => Members::Ints { ints: Ints::of(packed), next: 0 },
            Form::Packed(packed) => Members::Packed(packed.iter()),
            Form::Full(table) => Members::Table(Box::new(table.iter())),
        }
    }

    /// Calls `found` for members, from `cursor` (0 at the start) on, about `count`; returns the cursor to go on with, 0 at
    /// the end. What is there from the first call to the last is found.
    pub fn scan(&self, cursor: u64, count: u64, mut found: impl FnMut(Item<'_>)) -> u64 {
        match self.0.form() {
            Form::Packed(_) => {
                self.iter().for_each(found);
                0
            }
            Form::Full(table) => table.scan_some(cursor, count, |element| found(Item::Text(element.name()))),
        }
    }

    /// A random member, every one equally likely. `random` gives 64 random bits.
    pub fn random(&self, mut random: impl FnMut() -> u64) -> Option<Item<'_>> {
        match self.0.form() {
            Form::Packed(_) if self.is_empty() => None,
            Form::Packed(packed) => Some(item_at(packed, (random() % self.len() as u64) as usize)),
            Form::Full(table) => table.random(&mut random).map(|element| Item::Text(element.name())),
        }
    }

    /// Takes a random member out, every one equally likely, and hands it to `f`.
    pub fn pop<R>(&mut self, mut random: impl FnMut() -> u64, f: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let len = self.len();
        match self.0.form_mut() {
            Form::Packed(_) if len == 0 => None,
            Form::Packed(packed) => {
                let index = (random() % len as u64) as usize;
                let result = f(item_at(packed, index));
                let at = if packed.is_marked() { index } else { packed.offset(index) };
                remove_at(packed, at);
                Some(result)
            }
            Form::Full(table) => {
                let place: Place = table.random_place(&mut random)?;
                let element = table.remove(place);
                Some(f(Item::Text(element.name())))
            }
        }
    }

    fn make_table(&mut self) {
        let mut table = Table::new(0);
        for member in self.iter() {
            add_to(&mut table, member.bytes(&mut itoa::Buffer::new()));
        }
        self.0 = Thin::full(table);
    }
}

fn add_to(table: &mut Table<Member>, member: &[u8]) -> bool {
    let hash = hash_of(member);
    let is_new = table.find(hash, member).is_none();
    if is_new {
        let element = Member::new(tag_of(hash), member, None, None);
        table.insert_slot(hash, element, |element| hash_of(element.name()));
    }
    is_new
}

/// A member as packed sets keep it: a table gives integers as text.
fn canonical(member: Item<'_>) -> Item<'_> {
    if let Item::Text(text) = member { Item::of(text) } else { member }
}

/// Where a member of a packed set is: its index among integers, else its offset.
#[inline]
fn position(packed: &Packed, member: Item<'_>) -> Option<usize> {
    if packed.is_marked() {
        return if let Item::Int(number) = member { Ints::of(packed).search(number).ok() } else { None };
    }
    packed.find_item(0, member, 1)
}

fn item_at(packed: &Packed, index: usize) -> Item<'_> {
    if packed.is_marked() { Item::Int(Ints::of(packed).get(index)) } else { packed.at(packed.offset(index)) }
}

/// Removes the member at a [`position`].
fn remove_at(packed: &mut Packed, at: usize) {
    if !packed.is_marked() {
        packed.remove(at, 1);
        return;
    }
    intset::remove_at(packed, at);
    if packed.len() == 1 {
        *packed = Packed::new();
    }
}

/// The members of a set.
enum Members<'a> {
    /// Of integers in order.
    Ints {
        /// All of them.
        ints: Ints<'a>,
        /// The index of the next.
        next: usize,
    },
    /// Of a packed set.
    Packed(Items<'a>),
    /// Of a table.
    Table(Box<dyn Iterator<Item = &'a Member> + 'a>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match self {
            Self::Ints { ints, next } => {
                *next += 1;
                (*next <= ints.len()).then(|| Item::Int(ints.get(*next - 1)))
            }
            Self::Packed(items) => items.next().map(|(_, item)| item),
            Self::Table(elements) => elements.next().map(|element| Item::Text(element.name())),
        }
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
