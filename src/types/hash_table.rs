//! The fields of a large hash: a table of elements. Knows bytes only.

use super::hash::{FieldTtl, FieldValue};
use super::hashing::hash_of;
use super::member::Member;
use super::packed::Item;
use super::table::{Table, tag_of};
use crate::alloc::class_size;

/// Random fields that are tried for one that has not expired.
const RANDOM_TRIES: usize = 100;

/// The fields of a large hash.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    table: Table<Member>,
    /// No field expires before this time; `i64::MAX` if none does.
    next_expire: i64,
}

impl Default for Fields {
    fn default() -> Self {
        Self { table: Table::new(0), next_expire: i64::MAX }
    }
}

/// True if a field has expired.
pub(super) fn is_over(element: &Member, now: i64) -> bool {
    element.expire_at().is_some_and(|at| at <= now)
}

impl Fields {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub(super) fn table(&self) -> &Table<Member> {
        &self.table
    }

    pub(super) fn memory(&self) -> usize {
        class_size(size_of::<Self>()) + self.table.memory(Member::memory)
    }

    pub(super) fn deadline(&self) -> Option<i64> {
        (self.next_expire != i64::MAX).then_some(self.next_expire)
    }

    #[inline]
    pub(super) fn get(&self, field: &[u8], now: i64) -> Option<FieldValue<'_>> {
        let element = self.table.at(self.table.find(hash_of(field), field)?);
        (!is_over(element, now)).then(|| (Item::Text(element.value()), element.expire_at()))
    }

    pub(super) fn set(&mut self, field: &[u8], value: &[u8], ttl: FieldTtl, now: i64) -> bool {
        let hash = hash_of(field);
        let mut expire_at = if let FieldTtl::At(at) = ttl { Some(at) } else { None };
        let is_new = match self.table.find(hash, field) {
            Some(place) => {
                let is_new = is_over(self.table.at(place), now);
                self.table.change(place, |element| {
                    if ttl == FieldTtl::Keep && !is_new {
                        expire_at = element.expire_at();
                    }
                    element.set(value, expire_at);
                });
                is_new
            }
            None => {
                let element = Member::new(tag_of(hash), field, Some(value), expire_at);
                self.table.insert_slot(hash, element, |element| hash_of(element.name()));
                true
            }
        };
        self.next_expire = self.next_expire.min(expire_at.unwrap_or(i64::MAX));
        is_new
    }

    pub(super) fn set_expire(&mut self, field: &[u8], expire_at: Option<i64>, now: i64) -> bool {
        let place = self.table.find(hash_of(field), field);
        let Some(place) = place.filter(|&place| !is_over(self.table.at(place), now)) else { return false };
        self.table.change(place, |element| element.set_expire(expire_at));
        self.next_expire = self.next_expire.min(expire_at.unwrap_or(i64::MAX));
        true
    }

    pub(super) fn remove(&mut self, field: &[u8], now: i64) -> bool {
        match self.table.find(hash_of(field), field) {
            Some(place) => !is_over(&self.table.remove(place), now),
            None => false,
        }
    }

    pub(super) fn remove_expired(&mut self, now: i64, limit: usize) -> usize {
        let mut removed = 0;
        for segment in 0..self.table.segments() {
            if removed < limit && self.table.may_expire(segment, now) {
                removed += self.table.expire_segment(segment, now, limit - removed, |_| true, drop);
            }
        }
        self.next_expire = self.table.next_expire();
        removed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.table.iter()
    }

    pub(super) fn scan(&self, cursor: u64, count: u64, now: i64, mut found: impl FnMut(&Member)) -> u64 {
        self.table.scan_some(cursor, count, |element| {
            if !is_over(element, now) {
                found(element);
            }
        })
    }

    /// A random field; None if hardly any is left that has not expired.
    pub(super) fn random(&self, now: i64, mut random: impl FnMut() -> u64) -> Option<&Member> {
        (0..RANDOM_TRIES).find_map(|_| self.table.random(&mut random).filter(|element| !is_over(element, now)))
    }
}
