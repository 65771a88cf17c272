//! The table against a model, with hashes that collide, and the guarantees of its walks. Knows members only.

use super::super::member::Member;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SHARD_BITS: u32 = 4;

/// A hash that collides as `mask` wants it: the model test runs with all bits, few prefixes, few tags.
fn hash(key: &[u8], mask: u64) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for &byte in key {
        h = (h ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= h >> 29;
    }
    h & mask
}

fn insert(table: &mut Table<Member>, mask: u64, key: &[u8], value: i64, ttl: Option<i64>) {
    let h = hash(key, mask);
    match table.find(h, key) {
        Some(place) => table.change(place, |member| member.set(&value.to_le_bytes(), ttl)),
        None => {
            let member = Member::new(tag_of(h), key, Some(&value.to_le_bytes()), ttl);
            table.insert_slot(h, member, |member| hash(member.name(), mask));
        }
    }
}

fn get(table: &Table<Member>, mask: u64, key: &[u8]) -> Option<i64> {
    let value = table.at(table.find(hash(key, mask), key)?).value();
    Some(i64::from_le_bytes(value.try_into().unwrap()))
}

fn check_invariants(table: &Table<Member>) {
    let mut len = 0;
    for segment in &table.segments {
        let count = segment.buckets.len();
        let mut here = 0;
        for (at, bucket) in segment.buckets.iter().enumerate() {
            for slot in bucket.0.iter().filter(|slot| !slot.is_vacant()) {
                here += 1;
                let mut home = segment.home(slot.tag());
                while home != at {
                    assert!(segment.buckets[home].vacant().is_none(), "a hole before a displaced entry");
                    home = (home + 1) % count;
                }
                if let Some(expire_at) = slot.expire_at() {
                    assert!(segment.next_expire <= expire_at);
                }
            }
        }
        assert_eq!(segment.len, here);
        len += here as usize;
    }
    assert_eq!(table.len, len);
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, Option<i64>),
    Remove(u16),
    Expire(i64, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..2000u16, prop::option::of(1..100i64)).prop_map(|(k, t)| Op::Insert(k, t)),
        3 => (0..2000u16).prop_map(Op::Remove),
        1 => (1..100i64, 1..50usize).prop_map(|(now, limit)| Op::Expire(now, limit)),
    ];
    prop::collection::vec(op, 0..3000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn is_a_map(ops in ops(), mask in prop_oneof![Just(u64::MAX), Just(0x0fff_ffff_ffff_000f), Just(0x7),
            Just(0x0ff0_0000_0000_ffff), Just(0xf)]) {
        let (mut table, mut model) = (Table::<Member>::new(SHARD_BITS), BTreeMap::new());
        for (step, op) in ops.into_iter().enumerate() {
            match op {
                Op::Insert(key, ttl) => {
                    insert(&mut table, mask, &key.to_be_bytes(), step as i64, ttl);
                    model.insert(key, (step as i64, ttl));
                }
                Op::Remove(key) => {
                    let bytes = key.to_be_bytes();
                    let place = table.find(hash(&bytes, mask), &bytes);
                    prop_assert_eq!(place.is_some(), model.remove(&key).is_some());
                    if let Some(place) = place {
                        let slot = table.remove(place);
                        prop_assert_eq!(slot.name(), bytes);
                    }
                }
                Op::Expire(now, limit) => {
                    for segment in 0..table.segments() {
                        while table.may_expire(segment, now) {
                            let mut gone = Vec::new();
                            table.expire_segment(segment, now, limit, |_| true, |slot| gone.push(slot));
                            for slot in gone {
                                let key = u16::from_be_bytes(slot.name().try_into().unwrap());
                                let (_, ttl) = model.remove(&key).unwrap();
                                prop_assert!(ttl.unwrap() <= now);
                            }
                        }
                    }
                    prop_assert!(model.values().all(|(_, ttl)| ttl.is_none_or(|at| at > now)));
                }
            }
        }
        check_invariants(&table);
        prop_assert_eq!(table.len(), model.len());
        prop_assert_eq!(table.with_ttl(), model.values().filter(|v| v.1.is_some()).count());
        prop_assert_eq!(table.expire_sum(), model.values().filter_map(|v| v.1).map(i128::from).sum::<i128>());
        for (key, (value, _)) in &model {
            prop_assert_eq!(get(&table, mask, &key.to_be_bytes()), Some(*value));
        }
    }
}

/// SCAN's guarantee: what is there from the first call to the last is returned, while the table grows from
/// nothing to many segments and shrinks again between the calls; and a call's cost is bounded.
#[test]
fn a_scan_returns_all_that_stays_while_the_table_grows_and_shrinks() {
    for (before, during) in [(100u32, 20_000u32), (20_000, 0), (3000, 3000)] {
        let mut table = Table::<Member>::new(SHARD_BITS);
        let key = |kind: u8, n: u32| [&[kind], n.to_be_bytes().as_slice()].concat();
        for n in 0..before {
            insert(&mut table, u64::MAX, &key(b'o', n), 0, None);
        }
        for n in 0..500 {
            insert(&mut table, u64::MAX, &key(b's', n), 0, None);
        }
        let (mut cursor, mut calls, mut seen) = (Some(0), 0, BTreeSet::new());
        while let Some(at) = cursor {
            let mut found = Vec::new();
            let looked_at = std::cell::Cell::new(0);
            cursor = table.scan(
                at,
                |slot| {
                    found.push(slot.name().to_vec());
                },
                |_| {
                    looked_at.set(looked_at.get() + 1);
                    looked_at.get() >= 3
                },
            );
            assert!(found.len() <= 100, "a call returned {}", found.len());
            seen.extend(found);
            calls += 1;
            let turn = calls * 97;
            for n in 0..97 {
                if turn + n < during {
                    insert(&mut table, u64::MAX, &key(b'n', turn + n), 0, None);
                } else if let Some(n) = before.checked_sub(turn + n) {
                    let k = key(b'o', n);
                    if let Some(place) = table.find(hash(&k, u64::MAX), &k) {
                        table.remove(place);
                    }
                }
            }
            assert!(calls < 100_000);
        }
        assert_eq!(seen.iter().filter(|key| key[0] == b's').count(), 500);
    }
}

/// Chi-square over many segments that are filled unevenly, and over a table that is nearly empty again.
#[test]
fn a_random_entry_is_each_as_often_as_any_other() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let mut table = Table::<Member>::new(SHARD_BITS);
    assert!(table.random(&mut random).is_none());
    for (entries, kept) in [(40, 40), (5000, 5000), (5000, 30)] {
        for n in 0..entries as u16 {
            insert(&mut table, u64::MAX, &n.to_be_bytes(), 0, None);
        }
        for n in kept..entries {
            let key = (n as u16).to_be_bytes();
            table.remove(table.find(hash(&key, u64::MAX), &key).unwrap());
        }
        let mut counts = vec![0u32; kept];
        for _ in 0..kept * 100 {
            let name = table.random(&mut random).unwrap().name();
            counts[usize::from(u16::from_be_bytes(name.try_into().unwrap()))] += 1;
        }
        let chi_square: f64 = counts.iter().map(|&count| (f64::from(count) - 100.0).powi(2) / 100.0).sum();
        let (freedom, deviation) = (kept as f64 - 1.0, (2.0 * kept as f64).sqrt());
        assert!((chi_square - freedom).abs() < 4.0 * deviation, "{entries} {kept}: {chi_square}");
    }
}
