//! Sets against a model, in every form and across them, and how fair their random members are. Knows bytes only.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn member(n: i64, as_text: bool) -> Vec<u8> {
    if as_text { format!("m{n}").into_bytes() } else { n.to_string().into_bytes() }
}

fn sorted(set: &Set) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = set.iter().map(Item::to_vec).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn is_a_set(
        ops in prop::collection::vec((0..4u8, -40..40i64, 0..5u8, 0..30u8), 0..400),
        most in prop_oneof![Just(3usize), Just(20), Just(512)],
    ) {
        let limits = Limits { set_max_intset_entries: most, set_max_listpack_entries: most, ..Limits::DEFAULT };
        let (mut set, mut model) = (Set::default(), BTreeSet::new());
        for (op, number, scale, text) in ops {
            let member = member(number << (scale * 11), text == 0);
            match op {
                0 | 1 => prop_assert_eq!(set.add(&member, &limits), model.insert(member)),
                2 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                _ if number > 30 => {
                    let popped = set.pop(crate::random::next, |item| item.to_vec());
                    prop_assert_eq!(popped.is_some(), !model.is_empty());
                    prop_assert!(popped.is_none_or(|popped| model.remove(&popped)));
                }
                _ => prop_assert_eq!(set.contains(&member), model.contains(&member)),
            }
            prop_assert_eq!(set.len(), model.len());
        }
        prop_assert_eq!(&sorted(&set), &model.iter().cloned().collect::<Vec<_>>());
        prop_assert_eq!(sorted(&set.clone()), sorted(&set));
        prop_assert!(model.iter().all(|member| set.contains(member) && set.contains_item(Item::of(member))));
        let (mut cursor, mut scanned) = (0, BTreeSet::new());
        loop {
            cursor = set.scan(cursor, 3, |item| {
                scanned.insert(item.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(scanned, model);
    }
}

#[test]
fn forms_change_where_the_limits_say() {
    let limits = Limits { set_max_intset_entries: 3, set_max_listpack_entries: 4, ..Limits::DEFAULT };
    let mut set = Set::from_members([b"3".as_slice(), b"-70000", b"1"], &limits);
    assert_eq!(set.encoding(), "intset");
    assert_eq!(set.iter().collect::<Vec<_>>(), [-70_000, 1, 3].map(Item::Int));
    assert!(set.add(b"a", &limits) && !set.add(b"3", &limits));
    assert_eq!(set.encoding(), "listpack");
    assert!(set.add(b"b", &limits));
    assert_eq!((set.encoding(), set.len()), ("hashtable", 5));
    assert_eq!(Set::from_members([b"1".as_slice(), b"2", b"3", b"4"], &limits).encoding(), "hashtable");
    assert_eq!(Set::from_members([[b'x'; 65].as_slice()], &limits).encoding(), "hashtable");
}

/// A table gives all its members as text, also those that are integers; a packed set keeps these as integers. An
/// intersection of the two was empty, and a union stored the same member twice.
#[test]
fn integers_are_the_same_in_every_form() {
    let limits = &Limits::DEFAULT;
    let table = Set::from_members([b"7".as_slice(), &[b'x'; 65]], limits);
    let seven = table.iter().find(|member| member.len() == 1).unwrap();
    let mut set = Set::from_members([b"7".as_slice()], limits);
    assert_eq!((table.encoding(), set.encoding()), ("hashtable", "intset"));
    assert!(set.contains_item(seven) && !set.add_item(seven, limits) && table.contains_item(Item::Int(7)));
    let mut copy = Set::default();
    assert!(copy.add_item(seven, limits) && copy.encoding() == "intset");
}

/// Chi-square with a fixed seed: SPOP's and SRANDMEMBER's members in each form.
#[test]
fn random_members_are_equally_likely() {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 31)
    };
    for (members, as_text) in [(100, false), (100, true), (1000, true)] {
        let names: Vec<_> = (0..members).map(|n| member(n, as_text)).collect();
        let full = Set::from_members(names.iter().map(Vec::as_slice), &Limits::DEFAULT);
        let place = |item: Item<'_>| names.iter().position(|name| *name == item.to_vec()).unwrap();
        let rounds = members as usize * 60;
        let (mut seen, mut popped) = (vec![0u32; names.len()], vec![0u32; names.len()]);
        let mut set = full.clone();
        for _ in 0..rounds {
            seen[place(full.random(&mut random).unwrap())] += 1;
            // The first half of the members that a set gives up, again and again.
            if set.len() <= names.len() / 2 {
                set = full.clone();
            }
            popped[set.pop(&mut random, place).unwrap()] += 1;
        }
        for (counts, what) in [(seen, "random"), (popped, "pop")] {
            let chi_square: f64 = counts.iter().map(|&count| (f64::from(count) - 60.0).powi(2) / 60.0).sum();
            let (freedom, deviation) = (members as f64 - 1.0, (2.0 * members as f64).sqrt());
            assert!(chi_square < freedom + 4.0 * deviation, "{what} of {members}: {chi_square}");
        }
    }
}
