//! The hash table and its entries against a `BTreeMap`: the unsafe code of the keyspace, under AddressSanitizer.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use cenote::keyspace::{Hash, NewValue, Place, Table, Text, Value};
use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeMap, BTreeSet};

const SHARD_BITS: u32 = 4;

#[derive(Arbitrary, Debug)]
enum Op {
    Set(Key, Content, Option<u8>),
    /// So many keys from this one on, to make the table grow.
    Fill(u16, u8),
    SetExpire(Key, Option<u8>),
    SetAccess(Key, u32),
    TakeShared(Key),
    Remove(Key),
    /// The same backwards, to make it shrink.
    Clear(u16, u8),
    Expire(u8, u8),
    Scan(u8),
    Random(u64),
}

/// Few keys, so that they meet; some are longer than 255 bytes.
#[derive(Arbitrary, Debug, Clone, Copy)]
struct Key(u16, bool);

impl Key {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = (self.0 % 2048).to_be_bytes().to_vec();
        bytes.resize(if self.1 { 300 } else { 2 }, b'k');
        bytes
    }
}

#[derive(Arbitrary, Debug)]
enum Content {
    Int(i64),
    Bytes(u16),
    Raw(u8),
    Shared(u8),
}

/// What a slot holds, owned.
#[derive(Debug, Clone, PartialEq)]
enum Held {
    Int(i64),
    Inline(Vec<u8>, bool),
    Shared(Bytes),
}

impl Content {
    fn held(&self) -> Held {
        match *self {
            Content::Int(number) => Held::Int(number),
            Content::Bytes(len) => Held::Inline(vec![b'v'; usize::from(len % 1000)], false),
            Content::Raw(len) => Held::Inline(vec![b'r'; usize::from(len)], true),
            Content::Shared(byte) => Held::Shared(Bytes::from(vec![byte; 17_000])),
        }
    }
}

impl Held {
    fn new_value(&self) -> NewValue<'_> {
        match self {
            Held::Int(number) => NewValue::Int(*number),
            Held::Inline(bytes, false) => NewValue::Bytes(bytes),
            Held::Inline(bytes, true) => NewValue::Raw(bytes),
            Held::Shared(bytes) => NewValue::Shared(bytes.clone()),
        }
    }

    fn of(value: Value<'_>) -> Held {
        match value {
            Value::Text(Text::Int(number)) => Held::Int(number),
            Value::Text(Text::Inline(bytes, raw)) => Held::Inline(bytes.to_vec(), raw),
            Value::Text(Text::Shared(bytes)) => Held::Shared(bytes.clone()),
            Value::Text(Text::Compressed(_)) => panic!("nothing was compressed"),
            Value::Object(object) => panic!("no collection was put in, but there is a {}", object.type_name()),
        }
    }
}

/// The table and what it should hold.
struct Both {
    table: Table,
    model: BTreeMap<Vec<u8>, (Held, Option<i64>)>,
    /// Which bits of the hashes differ: all, or few, so that prefixes or tags collide.
    mask: u64,
}

fn hash(key: &[u8], mask: u64) -> Hash {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for &byte in key {
        h = (h ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= h >> 29;
    }
    h & mask
}

impl Both {
    fn find(&self, key: &[u8]) -> Option<Place> {
        let place = self.table.find(hash(key, self.mask), key);
        assert_eq!(place.is_some(), self.model.contains_key(key));
        place
    }

    fn set(&mut self, key: Vec<u8>, held: Held, expire_at: Option<i64>) {
        let mask = self.mask;
        match self.find(&key) {
            Some(place) => self.table.store(place, held.new_value(), expire_at),
            None => {
                let rehash = |key: &[u8]| hash(key, mask);
                self.table.insert(hash(&key, mask), &key, held.new_value(), expire_at, 7, rehash);
            }
        }
        self.model.insert(key, (held, expire_at));
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(place) = self.find(key) {
            let slot = self.table.remove(place);
            let (held, expire_at) = self.model.remove(key).expect("the model has it");
            assert_eq!((slot.entry().key(), Held::of(slot.entry().value())), (key, held));
            assert_eq!(slot.entry().expire_at(), expire_at);
        }
    }

    fn expire(&mut self, now: i64, limit: usize) {
        for segment in 0..self.table.segments() {
            while self.table.may_expire(segment, now) {
                let mut gone = Vec::new();
                self.table.expire_segment(segment, now, limit, |_| true, |slot| gone.push(slot));
                for slot in gone {
                    let (_, expire_at) = self.model.remove(slot.entry().key()).expect("the model has it");
                    assert!(expire_at.is_some_and(|at| at <= now));
                }
            }
        }
        assert!(self.model.values().all(|(_, expire_at)| expire_at.is_none_or(|at| at > now)));
    }

    fn scan(&self, each: usize) {
        let (mut cursor, mut seen) = (Some(0), BTreeSet::new());
        while let Some(at) = cursor {
            let mut looked_at = 0;
            let found = |slot: &cenote::keyspace::Slot| assert!(seen.insert(slot.entry().key().to_vec()));
            cursor = self.table.scan(at, found, |_| {
                looked_at += 1;
                looked_at >= each
            });
        }
        assert!(seen.iter().eq(self.model.keys()));
    }

    fn apply(&mut self, op: Op) {
        let ttl = |ttl: Option<u8>| ttl.map(|at| i64::from(at) + 1);
        match op {
            Op::Set(key, content, expire_at) => self.set(key.bytes(), content.held(), ttl(expire_at)),
            Op::Fill(from, count) => {
                for n in 0..u16::from(count) {
                    let key = Key(from.wrapping_add(n), false).bytes();
                    self.set(key, Held::Int(n.into()), (n % 3 == 0).then(|| 1 + i64::from(n)));
                }
            }
            Op::SetExpire(key, expire_at) => {
                if let Some(place) = self.find(&key.bytes()) {
                    self.table.set_expire(place, ttl(expire_at));
                    self.model.get_mut(&key.bytes()).expect("the model has it").1 = ttl(expire_at);
                }
            }
            Op::SetAccess(key, access) => {
                if let Some(place) = self.find(&key.bytes()) {
                    self.table.set_access(place, access & 0xff_ffff);
                    assert_eq!(self.table.at(place).entry().access(), access & 0xff_ffff);
                }
            }
            Op::TakeShared(key) => {
                if let Some(place) = self.find(&key.bytes())
                    && let Some(bytes) = self.table.take_shared(place)
                {
                    let (held, expire_at) = self.model[&key.bytes()].clone();
                    assert_eq!(held, Held::Shared(bytes.clone()));
                    self.table.store(place, NewValue::Shared(bytes), expire_at);
                }
            }
            Op::Remove(key) => self.remove(&key.bytes()),
            Op::Clear(from, count) => {
                for n in (0..u16::from(count)).rev() {
                    self.remove(&Key(from.wrapping_add(n), false).bytes());
                }
            }
            Op::Expire(now, limit) => self.expire(now.into(), usize::from(limit).max(1)),
            Op::Scan(each) => self.scan(usize::from(each).max(1)),
            Op::Random(mut state) => {
                let random = self.table.random(|| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state >> 11
                });
                assert_eq!(random.is_some(), !self.model.is_empty());
                assert!(random.is_none_or(|slot| self.model.contains_key(slot.entry().key())));
            }
        }
    }
}

fuzz_target!(|input: (u8, Vec<Op>)| {
    let (mask, ops) = input;
    let mask = [u64::MAX, 0x0fff_ffff_ffff_000f, 0x7, 0x0ff0_0000_0000_ffff, 0xf][usize::from(mask) % 5];
    let mut both = Both { table: Table::new(SHARD_BITS), model: BTreeMap::new(), mask };
    for op in ops {
        both.apply(op);
    }
    assert_eq!(both.table.len(), both.model.len());
    assert_eq!(both.table.with_ttl(), both.model.values().filter(|(_, expire_at)| expire_at.is_some()).count());
    let sum: i128 = both.model.values().filter_map(|(_, expire_at)| *expire_at).map(i128::from).sum();
    assert_eq!(both.table.expire_sum(), sum);
    for (key, (held, expire_at)) in &both.model {
        let entry = both.table.at(both.find(key).expect("the model has it")).entry();
        assert_eq!((&Held::of(entry.value()), &entry.expire_at()), (held, expire_at));
    }
});
