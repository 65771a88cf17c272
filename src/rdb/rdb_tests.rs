//! The format against payloads of real servers, against itself, and against odd bytes.

use super::*;
use crate::types::Item;
use proptest::prelude::*;

/// What a payload holds, a line a part.
fn parts(payload: &[u8]) -> Result<Vec<String>, Option<Bad>> {
    let mut parts = Vec::new();
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let known = load(payload, 1 << 20, false, &mut |part| {
        parts.push(match part {
            Part::Text(bytes) => text(&bytes),
            Part::Begin(kind) => format!("{kind:?}"),
            Part::Element(bytes) => text(bytes),
            Part::Scored(bytes, score) => format!("{} {score}", text(bytes)),
            Part::Field(field, value, None) => format!("{}={}", text(field), text(value)),
            Part::Field(field, value, Some(at)) => format!("{}={} until {at}", text(field), text(value)),
            Part::Entry { id: (ms, seq), fields: pairs, .. } => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(field, value)| text(&[field.to_vec(), value.to_vec()].join(&b'='))).collect();
                format!("{ms}-{seq} {}", pairs.join(" "))
            }
            Part::Stream(info) => format!(
                "{} last {:?} first {:?} deleted {:?} added {}",
                info.len, info.last_id, info.first_id, info.max_deleted_id, info.entries_added
            ),
            Part::Group(group) => format!("group {} {:?} {:?}", text(&group.name), group.last_id, group.entries_read),
            Part::Pending { id, at, count } => format!("pending {id:?} {at} {count}"),
            Part::Consumer { name, seen, active } => format!("consumer {} {seen} {active}", text(name)),
            Part::Owned(id) => format!("owned {id:?}"),
        });
        Ok(())
    });
    match known {
        Ok(true) => Ok(parts),
        Ok(false) => Err(None),
        Err(Bad) => Err(Some(Bad)),
    }
}

fn signed(value: &[u8], version: u16) -> Vec<u8> {
    sign(value.to_vec(), version)
}

/// What DUMP gave on real servers, 7.0 where nothing else is said, without the footer; and what is in it.
const REAL: &[(&[u8], u16, &[&str])] = &[
    (b"\x00\x05hello", 10, &["hello"]),
    (b"\x00\xc190", 10, &["12345"]),
    (b"\x12\x01\x02\x17\x17\x00\x00\x00\x05\x00\x81a\x02\x81b\x02\x01\x01\xc1,\x02\xf2\x90\xee\xfe\x04\xff", 10, &[
        "List", "a", "b", "1", "300", "-70000",
    ]),
    (b"\x0b\x0e\x02\x00\x00\x00\x03\x00\x00\x00\x01\x00\x02\x00\x03\x00", 10, &["Set", "1", "2", "3"]),
    (b"\x02\x03\x01b\x01a\xc0\x05", 10, &["Set", "b", "a", "5"]),
    (b"\x14\x0f\x0f\x00\x00\x00\x03\x00\x81a\x02\x81b\x02\x05\x01\xff", 12, &["Set", "a", "b", "5"]),
    (
        b"\x11!!\x00\x00\x00\x08\x00\x81d\x02\x00\x01\x81a\x02\x01\x01\x81b\x02\x832.5\x04\x81c\x02\x83inf\x04\xff",
        10,
        &["Zset", "d 0", "a 1", "b 2.5", "c inf"],
    ),
    (
        b"\x05\x03\x01c\x00\x00\x00\x00\x00\x00\xf0\x7f\x01b\x00\x00\x00\x00\x00\x00\x04@\x01a\x00\x00\x00\x00\x00\x00\xf0?",
        10,
        &["Zset", "c inf", "b 2.5", "a 1"],
    ),
    (b"\x10\x12\x12\x00\x00\x00\x04\x00\x81f\x02\x81v\x02\x81g\x02\x07\x01\xff", 10, &["Hash", "f=v", "g=7"]),
    (b"\x04\x02\x01g\xc0\x07\x01f\x01v", 10, &["Hash", "g=7", "f=v"]),
    // Fields that expire: Redis 8.2 packed and not, Valkey 9.1.
    (
        b"\x19{\xd8\xc3,\xbb\x03\x00\x00\x1e\x1e\x00\x00\x00\x06\x00\x81g\x02\x07\x01\xf4{\xd8\xc3,\xbb\x03\x00\x00\t\x81f\x02\x81v\x02\x00\x01\xff",
        12,
        &["Hash", "g=7 until 4102444800123", "f=v"],
    ),
    (b"\x18{\xd8\xc3,\xbb\x03\x00\x00\x02\x01\x01g\xc0\x07\x00\x01f\x01v", 12, &["Hash", "g=7 until 4102444800123", "f=v"]),
    (
        b"\x16\x02\x01f\x01v\xff\xff\xff\xff\xff\xff\xff\xff\x01g\xc0\x07{\xd8\xc3,\xbb\x03\x00\x00",
        80,
        &["Hash", "f=v", "g=7 until 4102444800123"],
    ),
    // A stream with a deleted entry and a group, from 7.0 and from 8.2.
    (STREAM_7, 10, &[
        "Stream",
        "1-1 a=1 b=2",
        "2-0 c=3",
        "2 last (2, 0) first (1, 1) deleted (1, 2) added 3",
        "group grp (1, 2) Some(2)",
        "pending (1, 1) 1795581426061 1",
        "pending (1, 2) 1795581426061 1",
        "consumer alice 1795581426061 1795581426061",
        "owned (1, 1)",
        "owned (1, 2)",
    ]),
    (STREAM_8, 12, &[
        "Stream",
        "1-1 a=1 b=2",
        "2-0 c=3",
        "2 last (2, 0) first (1, 1) deleted (1, 2) added 3",
        "group grp (1, 2) Some(2)",
        "pending (1, 1) 1795581426069 1",
        "pending (1, 2) 1795581426069 1",
        "consumer alice 1795581426069 1795581426069",
        "owned (1, 1)",
        "owned (1, 2)",
    ]),
    // Older forms, written by hand: a list, sets of scores as text, and the packed forms before listpack.
    (b"\x01\x02\x01a\xc0\x07", 1, &["List", "a", "7"]),
    (b"\x03\x03\x01a\x031.5\x01b\xfe\x01c\xff", 1, &["Zset", "a 1.5", "b inf", "c -inf"]),
    (b"\x09\x0a\x01\x01f\x01\x00v\xff", 1, &[]),
    (b"\x09\x07\x01\x01f\x01\x00v\xff", 1, &["Hash", "f=v"]),
    (b"\x0a\x14\x14\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x02ab\x04\xc0\x2c\x01\xff", 6, &[]),
    (b"\x0a\x13\x13\x00\x00\x00\x0e\x00\x00\x00\x02\x00\x00\x02ab\x04\xc0\x2c\x01\xff", 6, &["List", "ab", "300"]),
    (b"\x0e\x01\x13\x13\x00\x00\x00\x0e\x00\x00\x00\x02\x00\x00\x02ab\x04\xc0\x2c\x01\xff", 7, &["List", "ab", "300"]),
    (b"\x0c\x11\x11\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf2\xff\x00", 6, &[]),
    (b"\x0c\x10\x10\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf2\xff", 6, &["Zset", "a 1"]),
    (b"\x0d\x10\x10\x00\x00\x00\x0d\x00\x00\x00\x02\x00\x00\x01a\x03\xf2\xff", 6, &["Hash", "a=1"]),
];

const STREAM_7: &[u8] = b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\xc34=\x12=\x00\x00\x00\x19\x00\x02\x01\x01\x01\x02\x01\x81a\x02\x81b\x02\x00 \t\x00\x00 \x01@\x11\x02\x05\x01\x03`\t\x80\x0b@\x13\x01\xdf\xff +\x07\x81c\x02\x03\x01\x06\x01\xff\x02\x02\x00\x01\x01\x01\x02\x03\x01\x03grp\x01\x02\x02\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x8d9\xfe\x10\xa2\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x8d9\xfe\x10\xa2\x01\x00\x00\x01\x01\x05alice\x8d9\xfe\x10\xa2\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02";

const STREAM_8: &[u8] = b"\x15\x01\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\xc34=\x12=\x00\x00\x00\x19\x00\x02\x01\x01\x01\x02\x01\x81a\x02\x81b\x02\x00 \t\x00\x00 \x01@\x11\x02\x05\x01\x03`\t\x80\x0b@\x13\x01\xdf\xff +\x07\x81c\x02\x03\x01\x06\x01\xff\x02\x02\x00\x01\x01\x01\x02\x03\x01\x03grp\x01\x02\x02\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x959\xfe\x10\xa2\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x959\xfe\x10\xa2\x01\x00\x00\x01\x01\x05alice\x959\xfe\x10\xa2\x01\x00\x00\x959\xfe\x10\xa2\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02";

#[test]
fn payloads_of_real_servers_are_read() {
    for (value, version, wanted) in REAL {
        let found = parts(&signed(value, *version));
        if wanted.is_empty() {
            assert_eq!(found, Err(Some(Bad)), "{}", value.escape_ascii());
        } else {
            assert_eq!(found.as_deref(), Ok(&wanted.map_strings()[..]), "{}", value.escape_ascii());
        }
    }
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}

impl MapStrings for [&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn a_payload_is_as_redis_7_writes_it() {
    assert_eq!(Dump::text(b"hello").finish(), b"\x00\x05hello\n\x00cr\xdfve4 \n");
    assert_eq!(Dump::text(b"12345").finish(), b"\x00\xc190\n\x00\x9d\x94\xea'\x93\xfc\x08\xb9");
    let items: [&[u8]; 5] = [b"a", b"b", b"1", b"300", b"-70000"];
    let list = Dump::list(|found| items.iter().for_each(|item| found(item))).finish();
    assert_eq!(list, b"\x12\x01\x02\x17\x17\x00\x00\x00\x05\x00\x81a\x02\x81b\x02\x01\x01\xc1,\x02\xf2\x90\xee\xfe\x04\xff\n\x00\x16\x95\xf3K\x0b\x82l2");
}

#[test]
fn a_wrong_footer_and_unknown_versions_are_told_from_a_bad_value() {
    assert_eq!(parts(b""), Err(None));
    assert_eq!(parts(&[0; 9]), Err(None));
    let value = b"\x00\x05hello";
    for version in [1, 9, 10, 11, 12, 80] {
        assert!(parts(&signed(value, version)).is_ok(), "{version}");
    }
    for version in [13, 79, 81, u16::MAX] {
        assert_eq!(parts(&signed(value, version)), Err(None), "{version}");
    }
    let mut payload = signed(value, 10);
    payload[3] ^= 1;
    assert_eq!(parts(&payload), Err(None));
    for value in
        [b"\x00\x05hell".as_slice(), b"\x00\x05hello!", b"\x02\x00", b"\x63", b"", b"\x12\x00", b"\x03\x01\x01a\xfd"]
    {
        assert_eq!(parts(&signed(value, 10)), Err(Some(Bad)), "{}", value.escape_ascii());
    }
    // Valkey's type 22 was another one before.
    assert_eq!(parts(&signed(REAL[12].0, 12)), Err(Some(Bad)));
}

/// Claims of lengths that nothing stands behind must not make anyone allocate.
#[test]
fn a_large_claim_is_refused_at_once() {
    for kind in 0..30 {
        for claim in [
            b"\x80\xff\xff\xff\xff".as_slice(),
            b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\xc3\x01\x80\xff\xff\xff\xff\x00",
        ] {
            let value = [&[kind][..], claim].concat();
            assert_eq!(parts(&signed(&value, 10)), Err(Some(Bad)));
        }
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..80),
        4 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        2 => (-200i64..200).prop_map(|number| number.to_string().into_bytes()),
        1 => (any::<u8>(), 0usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_written_is_read(texts in prop::collection::vec(text(), 2..40)) {
        let shown: Vec<String> = texts.iter().map(|text| text.escape_ascii().to_string()).collect();
        prop_assert_eq!(parts(&Dump::text(&texts[0]).finish()), Ok(vec![shown[0].clone()]));
        let begun = |kind: &str, parts: Vec<String>| Ok([vec![kind.to_owned()], parts].concat());
        let list = Dump::list(|found| texts.iter().for_each(|text| found(text)));
        prop_assert_eq!(parts(&list.finish()), begun("List", shown.clone()));
        let set = Dump::set(texts.len(), texts.iter().map(|text| Item::of(text)));
        prop_assert_eq!(parts(&set.finish()), begun("Set", shown.clone()));
        let score = |index: usize| [0.5, -3.0, 1e300, f64::INFINITY, 17.0, -0.25][index % 6];
        let scored = || texts.iter().enumerate().map(|(index, text)| (Item::of(text), score(index)));
        let wanted: Vec<_> = shown.iter().enumerate().map(|(index, text)| format!("{text} {}", score(index))).collect();
        prop_assert_eq!(parts(&Dump::zset(texts.len(), scored()).finish()), begun("Zset", wanted.clone()));
        prop_assert_eq!(parts(&Dump::packed_zset(scored()).finish()), begun("Zset", wanted));
        let pairs: Vec<_> = texts.chunks_exact(2).collect();
        let wanted: Vec<_> = shown.chunks_exact(2).map(|pair| format!("{}={}", pair[0], pair[1])).collect();
        let items = || pairs.iter().map(|pair| (Item::of(&pair[0]), Item::of(&pair[1])));
        let hash = Dump::hash(pairs.len(), items());
        prop_assert_eq!(parts(&hash.finish()), begun("Hash", wanted.clone()));
        prop_assert_eq!(parts(&Dump::packed_hash(items()).finish()), begun("Hash", wanted));
        let fields = items().enumerate().map(|(at, (field, value))| (field, value, (at % 2 == 0).then_some(5000 + at as i64)));
        let wanted: Vec<_> = shown.chunks_exact(2).enumerate().map(|(at, pair)| match at % 2 {
            0 => format!("{}={} until {}", pair[0], pair[1], 5000 + at),
            _ => format!("{}={}", pair[0], pair[1]),
        }).collect();
        prop_assert_eq!(parts(&Dump::expiring_hash(pairs.len(), 5000, fields).finish()), begun("Hash", wanted));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Changed anywhere and signed again, a payload is read or refused.
    #[test]
    fn corrupt_payloads_are_refused_or_read(
        which in 0..REAL.len(),
        changes in prop::collection::vec((any::<usize>(), any::<u8>(), 0..4u8), 1..6),
    ) {
        let (value, version, _) = REAL[which];
        let mut value = value.to_vec();
        for (at, byte, how) in changes {
            let at = at % value.len().max(1);
            match how {
                0 => value.truncate(at),
                1 => value.insert(at, byte),
                2 if !value.is_empty() => drop(value.remove(at)),
                _ if !value.is_empty() => value[at] = byte,
                _ => {}
            }
        }
        let _ = parts(&signed(&value, version));
    }
}
