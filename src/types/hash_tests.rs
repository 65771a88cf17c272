//! Hashes against a model, in every form and across them. Knows bytes only.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    Set(u8, u16, Option<u8>),
    Keep(u8, u16),
    SetExpire(u8, Option<u8>),
    Remove(u8),
    Tick(u8),
    Sweep,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let ttl = || prop::option::weighted(0.3, any::<u8>());
    let op = prop_oneof![
        6 => (any::<u8>(), any::<u16>(), ttl()).prop_map(|(field, value, ttl)| Op::Set(field, value, ttl)),
        2 => (any::<u8>(), any::<u16>()).prop_map(|(field, value)| Op::Keep(field, value)),
        2 => (any::<u8>(), ttl()).prop_map(|(field, ttl)| Op::SetExpire(field, ttl)),
        3 => any::<u8>().prop_map(Op::Remove),
        1 => (0..20u8).prop_map(Op::Tick),
        1 => Just(Op::Sweep),
    ];
    prop::collection::vec(op, 0..400)
}

fn name(field: u8) -> Vec<u8> {
    if field.is_multiple_of(2) { field.to_string().into_bytes() } else { format!("field:{field}").into_bytes() }
}

fn text(value: u16) -> Vec<u8> {
    if value.is_multiple_of(3) { vec![b'v'; usize::from(value % 40)] } else { value.to_string().into_bytes() }
}

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

fn apply(hash: &mut Hash, model: &mut Model, now: &mut i64, op: Op, limits: &Limits) {
    let expires = |ttl: Option<u8>, now: i64| ttl.map(|ttl| now + i64::from(ttl));
    model.retain(|_, (_, at)| at.is_none_or(|at| at > *now));
    match op {
        Op::Set(field, value, ttl) => {
            let (field, value, at) = (name(field), text(value), expires(ttl, *now + 1));
            let is_new = hash.set(&field, &value, at.map_or(FieldTtl::Clear, FieldTtl::At), *now, limits);
            assert_eq!(is_new, model.insert(field, (value, at)).is_none());
        }
        Op::Keep(field, value) => {
            let (field, value) = (name(field), text(value));
            let before = model.get(&field).and_then(|(_, at)| *at);
            let is_new = hash.set(&field, &value, FieldTtl::Keep, *now, limits);
            assert_eq!(is_new, model.insert(field, (value, before)).is_none());
        }
        Op::SetExpire(field, ttl) => {
            let (field, at) = (name(field), expires(ttl, *now + 1));
            let found = hash.set_expire(&field, at, *now);
            assert_eq!(found, model.get_mut(&field).map(|held| held.1 = at).is_some());
        }
        Op::Remove(field) => {
            assert_eq!(hash.remove(&name(field), *now), model.remove(&name(field)).is_some());
        }
        Op::Tick(by) => *now += i64::from(by),
        Op::Sweep => {
            while hash.deadline().is_some_and(|at| at <= *now) {
                hash.remove_expired(*now, 7);
            }
            assert_eq!(hash.len(), model.len());
        }
    }
}

fn check(hash: &Hash, model: &Model, now: i64) {
    let live: Model = model.clone().into_iter().filter(|(_, (_, at))| at.is_none_or(|at| at > now)).collect();
    let mut found: Vec<_> = hash.iter(now).map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
    let mut scanned = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = hash.scan(cursor, 3, now, |field, value| scanned.push((field.to_vec(), value.to_vec())));
        if cursor == 0 {
            break;
        }
    }
    found.sort();
    scanned.sort();
    let wanted: Vec<_> = live.iter().map(|(field, (value, _))| (field.clone(), value.clone())).collect();
    assert_eq!((&found, &scanned, hash.live(now)), (&wanted, &wanted, wanted.len()));
    for (field, (value, at)) in &live {
        assert_eq!(hash.field(field, now).map(|(value, at)| (value.to_vec(), at)), Some((value.clone(), *at)));
        assert!(at.is_none_or(|at| hash.deadline().is_some_and(|deadline| deadline <= at)));
    }
    assert_eq!(hash.random(now, crate::random::next).is_some(), !live.is_empty());
    assert!(hash.is_empty() || hash.memory() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn is_a_map_with_times(ops in ops(), entries in prop_oneof![Just(4usize), Just(60), Just(512)]) {
        let limits = Limits { hash_max_listpack_entries: entries, ..Limits::DEFAULT };
        let (mut hash, mut model, mut now) = (Hash::default(), Model::new(), 1000);
        for op in ops {
            apply(&mut hash, &mut model, &mut now, op, &limits);
        }
        check(&hash, &model, now);
        check(&hash.clone(), &model, now);
    }
}

#[test]
fn forms_change_where_the_limits_say() {
    let limits = Limits { hash_max_listpack_entries: 2, hash_max_listpack_value: 4, ..Limits::DEFAULT };
    let mut hash = Hash::from_pairs([(b"a".as_slice(), b"1".as_slice()), (b"b", b"2"), (b"a", b"3")], &limits);
    assert_eq!((hash.len(), hash.encoding(), hash.get(b"a", 0)), (2, "listpack", Some(Item::Int(3))));
    assert!(hash.set_expire(b"a", Some(50), 0) && !hash.set_expire(b"c", Some(50), 0));
    assert_eq!((hash.encoding(), hash.deadline()), ("listpackex", Some(50)));
    assert_eq!((hash.get(b"a", 50), hash.len(), hash.live(50)), (None, 2, 1));
    assert!(hash.set(b"long", b"longer", FieldTtl::Clear, 0, &limits));
    assert_eq!((hash.encoding(), hash.field(b"a", 49)), ("hashtable", Some((Item::Text(b"3"), Some(50)))));
    assert_eq!((hash.remove_expired(50, 10), hash.deadline(), hash.len()), (1, None, 2));
    let mut hash = Hash::default();
    hash.reserve(3, 0, &limits);
    assert_eq!(hash.encoding(), "hashtable");
}
