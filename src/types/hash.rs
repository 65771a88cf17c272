//! Fields with values, of which some may expire. Knows bytes only; who asks says what time it is.
//!
//! A small hash is packed: `field value …`; or, once a field had a time at which it expires, marked and
//! `field value time …`, in the order of the times, the fields without one (time 0) at the end. A large one is a table of
//! elements. A field whose time has come is never seen; [`Hash::remove_expired`] takes such fields out.

use super::hash_table::{Fields, is_over};
use super::hashing::hash_of;
use super::member::Member;
use super::packed::{Item, Items, Packed};
use super::thin::{Form, Thin};
use crate::config::Limits;

/// Fields with values.
#[derive(Clone, Debug, Default)]
pub struct Hash(Thin<Fields>);

/// What becomes of the time at which a field expires when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldTtl {
    /// It stays.
    Keep,
    /// It goes.
    Clear,
    /// It is this one, in ms since the epoch.
    At(i64),
}

/// A field's value and the time at which it expires.
pub type FieldValue<'a> = (Item<'a>, Option<i64>);

/// Where the elements of a marked sequence begin.
const BEHIND_MARK: usize = 1;
/// Members of a sequence for each field: field and value, or, in a marked one, with the time.
const PLAIN: usize = 2;
const TIMED: usize = 3;

impl Hash {
    /// A hash of these fields with their values; of several with the same name, the last counts.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>, limits: &Limits) -> Self {
        let mut hash = Self::default();
        for (field, value) in pairs {
            hash.set(field, value, FieldTtl::Clear, 0, limits);
        }
        hash
    }

    /// Fields, those included that have expired and are not removed yet.
    #[inline]
    pub fn len(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) if packed.is_marked() => packed.len() / TIMED,
            Form::Packed(packed) => packed.len() / PLAIN,
            Form::Full(fields) => fields.len(),
        }
    }

    /// Fields that have not expired; costs a look at each only where some have and are not removed yet.
    pub fn live(&self, now: i64) -> usize {
        if self.deadline().is_none_or(|at| at > now) { self.len() } else { self.iter(now).count() }
    }

    /// How it is kept, in the words of OBJECT ENCODING.
    pub fn encoding(&self) -> &'static str {
        match self.0.form() {
            Form::Packed(packed) if packed.is_marked() => "listpackex",
            Form::Packed(_) => "listpack",
            Form::Full(_) => "hashtable",
        }
    }

    /// Bytes that it takes from the allocator, the 8 of itself excepted; of a large one, about.
    pub fn memory(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.memory(),
            Form::Full(fields) => fields.memory(),
        }
    }

    /// No field expires before this time; None if no field expires.
    #[inline]
    pub fn deadline(&self) -> Option<i64> {
        match self.0.form() {
            Form::Packed(packed) if packed.is_marked() => Walk::new(packed).next()?.expire_at,
            Form::Packed(_) => None,
            Form::Full(fields) => fields.deadline(),
        }
    }

    /// First of two hints that a field is about to be looked up; the field's hash, of a large one.
    #[inline]
    pub(super) fn prefetch_place(&self, field: &[u8]) -> Option<u64> {
        let Form::Full(fields) = self.0.form() else { return None };
        let hash = hash_of(field);
        fields.table().prefetch_bucket(hash);
        Some(hash)
    }

    /// Second hint.
    #[inline]
    pub(super) fn prefetch_element(&self, hash: u64) {
        if let Form::Full(fields) = self.0.form() {
            fields.table().prefetch_entry(hash);
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: &[u8], now: i64) -> Option<Item<'_>> {
        self.field(field, now).map(|(value, _)| value)
    }

    /// The value of a field, and when it expires.
    #[inline]
    pub fn field(&self, field: &[u8], now: i64) -> Option<FieldValue<'_>> {
        match self.0.form() {
            Form::Packed(packed) => {
                let at = find(packed, field)?;
                Some(at).filter(|at| !at.is_over(now)).map(|at| (packed.at(at.value), at.expire_at))
            }
            Form::Full(fields) => fields.get(field, now),
        }
    }

    /// Sets a field; true if it was not there.
    pub fn set(&mut self, field: &[u8], value: &[u8], ttl: FieldTtl, now: i64, limits: &Limits) -> bool {
        let is_long = field.len().max(value.len()) > limits.hash_max_listpack_value;
        if is_long || matches!(ttl, FieldTtl::At(_)) {
            self.prepare(is_long, matches!(ttl, FieldTtl::At(_)));
        }
        let is_new = match self.0.form_mut() {
            Form::Packed(packed) => match set_packed(packed, field, value, ttl, now) {
                Some(is_new) => is_new,
                None => {
                    // No room: it has to be a table, whatever the limits say.
                    self.prepare(true, false);
                    return self.set(field, value, ttl, now, limits);
                }
            },
            Form::Full(fields) => return fields.set(field, value, ttl, now),
        };
        if self.len() > limits.hash_max_listpack_entries {
            self.prepare(true, false);
        }
        is_new
    }

    /// Makes a packed hash a table if so many more fields, or one of so many bytes, make that likely.
    pub fn reserve(&mut self, fields: usize, longest: usize, limits: &Limits) {
        if fields > limits.hash_max_listpack_entries || longest > limits.hash_max_listpack_value {
            self.prepare(true, false);
        }
    }

    /// Sets or removes the time at which a field expires; false if the field is not there.
    pub fn set_expire(&mut self, field: &[u8], expire_at: Option<i64>, now: i64) -> bool {
        if expire_at.is_some() {
            self.prepare(false, true);
        }
        match self.0.form_mut() {
            Form::Packed(packed) => {
                let Some(at) = find(packed, field).filter(|at| !at.is_over(now)) else { return false };
                if at.expire_at == expire_at {
                    return true;
                }
                let value = packed.at(at.value).to_vec();
                packed.remove(at.field, TIMED);
                insert_timed(packed, Item::of(field), Item::of(&value), expire_at);
                true
            }
            Form::Full(fields) => fields.set_expire(field, expire_at, now),
        }
    }

    /// Removes a field; true if it was there.
    pub fn remove(&mut self, field: &[u8], now: i64) -> bool {
        match self.0.form_mut() {
            Form::Packed(packed) => {
                let Some(at) = find(packed, field) else { return false };
                let width = if packed.is_marked() { TIMED } else { PLAIN };
                packed.remove(at.field, width);
                if packed.len() == BEHIND_MARK {
                    *packed = Packed::new();
                }
                !at.is_over(now)
            }
            Form::Full(fields) => fields.remove(field, now),
        }
    }

    /// Removes fields that have expired at `now`, at most about `limit` of a large hash; returns how many.
    pub fn remove_expired(&mut self, now: i64, limit: usize) -> usize {
        match self.0.form_mut() {
            Form::Packed(packed) if packed.is_marked() => {
                let over = Walk::new(packed).take_while(|at| at.is_over(now)).count();
                packed.remove(BEHIND_MARK, over * TIMED);
                if packed.len() == BEHIND_MARK {
                    *packed = Packed::new();
                }
                over
            }
            Form::Packed(_) => 0,
            Form::Full(fields) => fields.remove_expired(now, limit),
        }
    }

    /// The fields with their values.
    pub fn iter(&self, now: i64) -> impl Iterator<Item = (Item<'_>, Item<'_>)> {
        match self.0.form() {
            Form::Packed(packed) => Pairs::Packed { walk: Walk::new(packed), packed, now },
            Form::Full(fields) => Pairs::Table { elements: Box::new(fields.iter()), now },
        }
    }

    /// The same, and when each expires.
    pub fn iter_timed(&self, now: i64) -> impl Iterator<Item = (Item<'_>, Item<'_>, Option<i64>)> {
        let (packed, table) = match self.0.form() {
            Form::Packed(packed) => (Some(packed), None),
            Form::Full(fields) => (None, Some(fields)),
        };
        let packed = packed.into_iter().flat_map(move |packed| {
            let live = Walk::new(packed).filter(move |at| !at.is_over(now));
            live.map(|at| (packed.at(at.field), packed.at(at.value), at.expire_at))
        });
        let live = table.into_iter().flat_map(Fields::iter).filter(move |element| !is_over(element, now));
        packed.chain(live.map(|element| {
            let (field, value) = element.pair();
            (Item::Text(field), Item::Text(value), element.expire_at())
        }))
    }

    /// Calls `found` for fields with their values, from `cursor` (0 at the start) on, about `count`; returns the cursor to
    /// go on with, 0 at the end. What is there from the first call to the last is found.
    pub fn scan(&self, cursor: u64, count: u64, now: i64, mut found: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        match self.0.form() {
            Form::Packed(_) => {
                self.iter(now).for_each(|(field, value)| found(field, value));
                0
            }
            Form::Full(fields) => fields.scan(cursor, count, now, |element| {
                let (field, value) = element.pair();
                found(Item::Text(field), Item::Text(value));
            }),
        }
    }

    /// A random field with its value, every one equally likely. `random` gives 64 random bits.
    pub fn random(&self, now: i64, mut random: impl FnMut() -> u64) -> Option<(Item<'_>, Item<'_>)> {
        if let Form::Full(fields) = self.0.form()
            && let Some(element) = fields.random(now, &mut random)
        {
            let (field, value) = element.pair();
            return Some((Item::Text(field), Item::Text(value)));
        }
        let live = self.iter(now).count();
        self.iter(now).nth((random() % live.max(1) as u64) as usize)
    }

    /// True if it is a table, in which a random field costs little.
    pub fn is_table(&self) -> bool {
        self.0.is_full()
    }

    /// Gives a packed hash another form: a table, or one whose fields may expire.
    fn prepare(&mut self, as_table: bool, timed: bool) {
        let Form::Packed(packed) = self.0.form() else { return };
        if as_table {
            let mut fields = Fields::default();
            for at in Walk::new(packed) {
                let (mut name, mut text) = (itoa::Buffer::new(), itoa::Buffer::new());
                let field = packed.at(at.field).bytes(&mut name);
                let ttl = at.expire_at.map_or(FieldTtl::Clear, FieldTtl::At);
                fields.set(field, packed.at(at.value).bytes(&mut text), ttl, i64::MIN);
            }
            self.0 = Thin::full(fields);
        } else if timed && !packed.is_marked() && packed.has_room(packed.len() / PLAIN + BEHIND_MARK, 0) {
            let mut marked = Packed::new();
            marked.mark();
            for at in Walk::new(packed) {
                [packed.at(at.field), packed.at(at.value), Item::Int(0)].into_iter().for_each(|item| marked.push(item));
            }
            self.0 = Thin::packed(marked);
        } else if timed && !packed.is_marked() {
            self.prepare(true, false);
        }
    }
}

/// Where a packed field lies.
#[derive(Clone, Copy)]
struct At {
    /// Offset of its name.
    field: usize,
    /// Offset of its value.
    value: usize,
    expire_at: Option<i64>,
}

impl At {
    #[inline]
    fn is_over(self, now: i64) -> bool {
        self.expire_at.is_some_and(|at| at <= now)
    }
}

/// The fields of a packed hash, in order.
#[derive(Clone)]
struct Walk<'a> {
    items: Items<'a>,
    timed: bool,
}

impl<'a> Walk<'a> {
    fn new(packed: &'a Packed) -> Self {
        let timed = packed.is_marked();
        Self { items: packed.iter_from(if timed { BEHIND_MARK } else { 0 }), timed }
    }
}

impl Iterator for Walk<'_> {
    type Item = At;

    #[inline]
    fn next(&mut self) -> Option<At> {
        let (field, _) = self.items.next()?;
        let (value, _) = self.items.next()?;
        let expire_at = if self.timed { time(self.items.next()?.1) } else { None };
        Some(At { field, value, expire_at })
    }
}

fn time(item: Item<'_>) -> Option<i64> {
    if let Item::Int(at @ 1..) = item { Some(at) } else { None }
}

fn find(packed: &Packed, field: &[u8]) -> Option<At> {
    if !packed.is_marked() {
        let field = packed.find(field, PLAIN)?;
        return Some(At { field, value: packed.next(field), expire_at: None });
    }
    let field = packed.find_item(BEHIND_MARK, Item::of(field), TIMED)?;
    let value = packed.next(field);
    Some(At { field, value, expire_at: time(packed.at(packed.next(value))) })
}

/// Sets a field of a packed hash, which is marked if it is to expire; true if it was not there. None without room.
fn set_packed(packed: &mut Packed, field: &[u8], value: &[u8], ttl: FieldTtl, now: i64) -> Option<bool> {
    if !packed.has_room(TIMED, field.len() + value.len()) {
        return None;
    }
    let found = find(packed, field);
    let (name, value) = (Item::of(field), Item::of(value));
    let is_new = found.is_none_or(|at| at.is_over(now));
    if !packed.is_marked() {
        match found {
            Some(at) => packed.replace(at.value, value),
            None => [name, value].into_iter().for_each(|item| packed.push(item)),
        }
        return Some(is_new);
    }
    let before = found.and_then(|at| at.expire_at);
    let expire_at = match ttl {
        FieldTtl::Keep if !is_new => before,
        FieldTtl::Keep | FieldTtl::Clear => None,
        FieldTtl::At(at) => Some(at),
    };
    match found {
        Some(at) if before == expire_at => packed.replace(at.value, value),
        found => {
            if let Some(at) = found {
                packed.remove(at.field, TIMED);
            }
            insert_timed(packed, name, value, expire_at);
        }
    }
    Some(is_new)
}

/// Adds a field to a marked sequence, behind those that expire no later.
fn insert_timed(packed: &mut Packed, field: Item<'_>, value: Item<'_>, expire_at: Option<i64>) {
    let is_later = |at: &At| at.expire_at.is_none_or(|at| expire_at.is_some_and(|expire_at| at > expire_at));
    let behind = if expire_at.is_some() { Walk::new(packed).find(is_later) } else { None };
    let mut offset = behind.map_or(packed.size(), |at| at.field);
    for item in [field, value, Item::Int(expire_at.unwrap_or(0))] {
        packed.insert(offset, item);
        offset = packed.next(offset);
    }
}

/// The fields of a hash with their values.
enum Pairs<'a> {
    /// Of a packed one.
    Packed {
        /// Where they lie.
        walk: Walk<'a>,
        /// In what.
        packed: &'a Packed,
        /// The time.
        now: i64,
    },
    /// Of a table.
    Table {
        /// All of them.
        elements: Box<dyn Iterator<Item = &'a Member> + 'a>,
        /// The time.
        now: i64,
    },
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Packed { walk, packed, now } => {
                let at = walk.find(|at| !at.is_over(*now))?;
                Some((packed.at(at.field), packed.at(at.value)))
            }
            Self::Table { elements, now } => {
                let element = elements.find(|element| !is_over(element, *now))?;
                let (field, value) = element.pair();
                Some((Item::Text(field), Item::Text(value)))
            }
        }
    }
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
