//! Random commands over few keys and many odd values, from templates. Nothing in them depends on the clock:
//! expiry times lie in the past or years ahead, and are far apart. No DBSIZE: servers may count a key that has expired
//! until they happen to remove it.
//!
//! A template's words: `$k` key, `$v` value, `$long` long value, `$id` ID of a stream's entry, `$i` integer, `$n` small offset, `$f` float, `$bit` offset
//! of a bit, `$field` kind of a bit field, `$elements` up to 100 values, `$sec` `$ms` `$at` `$atms` expiry times (relative
//! and absolute), `$db` database; `a|b` one of these; `a,b` both; `?…` one time in three; `…*` up to
//! three times.

use crate::support::{Oracle, Random};

/// Commands that belong together.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// The server whose replies count.
    pub(super) oracle: Oracle,
    templates: &'static [&'static str],
}

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "strings",
        oracle: Oracle::Redis8,
        templates: &[
            "SET $k $v",
            "SET $k $v ?NX|XX ?GET ?EX,$sec|PX,$ms|EXAT,$at|PXAT,$atms|KEEPTTL",
            "SET $k $i ?KEEPTTL|PX,$ms ?GET ?XX|NX",
            "GET $k",
            "GETSET $k $v",
            "GETDEL $k",
            "GETEX $k ?EX,$sec|PX,$ms|EXAT,$at|PXAT,$atms|PERSIST",
            "SETNX $k $v",
            "SETEX $k $sec $v",
            "PSETEX $k $ms $v",
            "APPEND $k $v",
            "STRLEN $k",
            "GETRANGE|SUBSTR $k $n $n",
            "SETRANGE $k $n $v",
            "INCR|DECR $k",
            "INCRBY|DECRBY $k $i",
            "INCRBYFLOAT $k $f",
            "MGET $k $k* $k",
            "MSET $k,$v $k,$v $k,$v*",
            "MSETNX $k,$v $k,$v*",
            "LCS $k $k ?LEN|IDX ?MINMATCHLEN,$n ?WITHMATCHLEN",
            "OBJECT ENCODING $k",
            "PTTL $k",
            "DEL $k",
        ],
    },
    Family {
        name: "expiry",
        oracle: Oracle::Redis8,
        templates: &[
            "SET $k $v ?EX,$sec|PX,$ms|EXAT,$at|PXAT,$atms|KEEPTTL",
            "EXPIRE $k $sec ?NX|XX|GT|LT ?NX|XX|GT|LT",
            "PEXPIRE $k $ms ?NX|XX|GT|LT ?NX|XX|GT|LT",
            "EXPIREAT $k $at ?NX|XX|GT|LT",
            "PEXPIREAT $k $atms ?NX|XX|GT|LT",
            "TTL|PTTL|EXPIRETIME|PEXPIRETIME $k",
            "PERSIST $k",
            "GETEX $k ?PERSIST|EX,$sec|PXAT,$atms",
            "RENAME $k $k",
            "COPY $k $k ?REPLACE",
            "GETDEL|GET $k",
            "INCR|STRLEN|EXISTS $k",
            "APPEND|GETSET|SETNX $k $v",
        ],
    },
    Family {
        name: "keys",
        oracle: Oracle::Redis8,
        templates: &[
            "SET $k $v ?PXAT,4000000000000|PX,$ms",
            "DEL|UNLINK|EXISTS|TOUCH $k $k*",
            "TYPE|PERSIST|PEXPIRETIME $k",
            "RENAME|RENAMENX $k $k",
            "COPY $k $k ?DB,$db ?REPLACE",
            "MOVE $k $db",
            "SELECT $db",
            "SWAPDB $db $db",
            "KEYS *|k*|k[12]|k?|[^k]*|\\k1|k[1-|?*?",
            "OBJECT ENCODING|REFCOUNT $k",
            "GET $k",
            "MGET $k $k $k",
            "FLUSHDB ?ASYNC|SYNC",
            "PING|ECHO ?$v",
        ],
    },
    Family {
        name: "valkey",
        oracle: Oracle::Valkey9,
        templates: &[
            "SET $k $v ?IFEQ,$v ?GET ?EX,$sec|PX,$ms|PXAT,$atms|KEEPTTL",
            "SET $k 0|1|10|abc",
            "SET $k $v IFEQ 0|1|10|abc ?GET",
            "DELIFEQ $k 0|1|10|abc|$v",
            "MSETEX $i $k,$v",
            "MSETEX 1 $k $v ?NX|XX ?EX,$sec|PX,$ms|EXAT,$at|PXAT,$atms|KEEPTTL",
            "MSETEX 2 $k $v $k $v ?NX|XX ?EX,$sec|PX,$ms|EXAT,$at|PXAT,$atms|KEEPTTL",
            "GET|PTTL|INCR|DEL $k",
            "APPEND $k $v",
        ],
    },
    Family { name: "bitmaps", oracle: Oracle::Redis8, templates: BITMAPS },
    Family { name: "hashes", oracle: Oracle::Valkey9, templates: super::hashes::HASHES },
    Family { name: "field_ttls", oracle: Oracle::Valkey9, templates: super::hashes::FIELD_TTLS },
    Family { name: "sets", oracle: Oracle::Redis8, templates: super::hashes::SETS },
    Family { name: "streams", oracle: Oracle::Redis8, templates: super::streams::TEMPLATES },
    Family { name: "sort", oracle: Oracle::Valkey9, templates: super::lists::SORT },
    Family { name: "lists", oracle: Oracle::Redis8, templates: super::lists::TEMPLATES },
    Family {
        name: "hyperloglog",
        oracle: Oracle::Redis8,
        templates: &[
            "PFADD $k $elements",
            "PFADD $k $elements",
            "PFADD $k $v*",
            "PFCOUNT $k",
            "PFCOUNT $k $k $k*",
            "PFMERGE $k $k*",
            "PFMERGE $k $k $k",
            "PFDEBUG ENCODING|TODENSE|DECODE $k",
            "GET|STRLEN|PEXPIRETIME $k",
            "SET $k $v",
            "DEL $k",
        ],
    },
    Family { name: "zsets", oracle: Oracle::Redis8, templates: super::zsets::TEMPLATES },
    Family { name: "geo", oracle: Oracle::Redis8, templates: super::zsets::GEO },
    Family { name: "zsets_lex", oracle: Oracle::Redis8, templates: super::zsets::LEX },
    // Redis 8.2 wants an end where BITCOUNT has a start, Valkey 9.1 does not; the operations are Redis's.
    Family {
        name: "bits_valkey",
        oracle: Oracle::Valkey9,
        templates: &[
            "SETBIT $k $bit 0|1",
            "BITCOUNT $k ?$n",
            "BITCOUNT $k $n $n ?BIT|BYTE",
            "BITPOS $k 0|1 $n $n BIT|BYTE",
            "BITOP AND|OR|XOR $k $k $k*",
            "BITOP NOT $k $k",
            "BITFIELD $k ?OVERFLOW,WRAP|OVERFLOW,SAT|OVERFLOW,FAIL SET|INCRBY $field $bit $i GET $field $bit",
            "SET $k $v",
            "DEL $k",
        ],
    },
];

const BITMAPS: &[&str] = &[
    "SETBIT $k $bit 0|1",
    "SETBIT $k $bit 0|1",
    "GETBIT $k $bit",
    "BITPOS $k 0|1",
    "BITPOS $k 0|1 $n",
    "BITPOS $k 0|1 $n $n ?BIT|BYTE",
    "BITOP AND|OR|XOR|NOT|DIFF|DIFF1|ANDOR|ONE $k $k",
    "BITOP AND|OR|XOR|DIFF|DIFF1|ANDOR|ONE $k $k $k $k*",
    "BITFIELD $k GET $field $bit",
    "BITFIELD $k ?OVERFLOW,WRAP|OVERFLOW,SAT|OVERFLOW,FAIL SET $field $bit $i",
    "BITFIELD $k ?OVERFLOW,WRAP|OVERFLOW,SAT|OVERFLOW,FAIL INCRBY $field $bit $i",
    "BITFIELD $k SET $field $bit $i OVERFLOW FAIL|SAT INCRBY $field $bit $i GET $field $bit",
    "BITFIELD_RO $k GET $field $bit ?GET,$field,$bit",
    "SET $k $v ?PXAT,4000000000000",
    "SETRANGE $k $n $v",
    "APPEND $k $v",
    "GET|STRLEN|PEXPIRETIME $k",
    "DEL $k",
];

const KEYS: &[&[u8]] = &[b"k1", b"k2", b"k3", b"key four", b"", b"\xff\x00\r\n"];

const VALUES: &[&[u8]] = &[
    b"",
    b"0",
    b"1",
    b"10",
    b"abc",
    b"-1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"3.0",
    b"3.14159",
    b"1e5",
    b"-0",
    b"0.1",
    b" 5",
    b"5 ",
    b"05",
    b"+7",
    b"inf",
    b"-inf",
    b"nan",
    b"1e400",
    b"1e-5",
    b"hello world",
    b"xaybzc",
    b"abcabcabc",
    b"\xff\x00\x01",
    b"\r\n",
    b"99999999999999999999999",
    b"0x10",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"a value that is a little longer than what any server keeps inside of its small object header",
];

const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "7",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1.0",
    "abc",
    "",
    "4611686018427387904",
    "-9223372036854775807",
    "+1",
    "01",
];

const FLOATS: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.1",
    "0.2",
    "-0.3",
    "1.5",
    "3.14159",
    "1e10",
    "1e-10",
    "5e20",
    "1e300",
    "-1e300",
    "inf",
    "nan",
    "abc",
    "",
    "0.00000000000000001",
    "123456789.123456789",
    "1e4000",
    "0x10",
    " 1",
    "9223372036854775807",
];

/// No offset just below the 512 MB that a string may have: it would really be allocated.
const OFFSETS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "5",
    "12",
    "44",
    "-1",
    "-2",
    "-5",
    "-100",
    "100",
    "536870912",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "abc",
    "1.5",
];

/// No offset that makes a string of megabytes: it would be read back after each chunk.
const ODD_BITS: &[&str] = &[
    "-1",
    "#-1",
    "4294967296",
    "#4294967296",
    "9223372036854775807",
    "#9223372036854775807",
    "abc",
    "#",
    "",
    "+1",
    "01",
];

const ODD_TIMES: &[&str] =
    &["0", "-1", "-1000", "9223372036854775807", "-9223372036854775808", "9223372036854775", "abc", "1.5", ""];

impl Family {
    /// One command. One in twenty is spoilt: an argument lost, doubled, replaced, or moved.
    pub(super) fn command(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        for token in random.pick(self.templates).split(' ') {
            expand(token, random, &mut words);
        }
        if random.one_in(20) {
            spoil(&mut words, random);
        }
        if random.one_in(8) {
            let at = random.below(words.len());
            if words[at].iter().all(u8::is_ascii_uppercase) {
                words[at].make_ascii_lowercase();
            }
        }
        if super::lists::is_cut_short(&words) || super::zsets::is_disputed(&words) {
            self.command(random)
        } else {
            words
        }
    }

    /// Reads that show what all the others have left behind.
    pub(super) fn inspection(&self) -> Vec<Vec<Vec<u8>>> {
        let ask = |words: &[&[u8]]| -> Vec<Vec<u8>> { words.iter().map(|word| word.to_vec()).collect() };
        let each = |key: &&[u8]| {
            [
                ask(&[b"GET", key]),
                ask(&[b"PEXPIRETIME", key]),
                ask(&[b"LRANGE", key, b"0", b"-1"]),
                ask(&[b"HGETALL", key]),
                ask(&[b"SMEMBERS", key]),
                ask(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
                ask(&[b"XRANGE", key, b"-", b"+"]),
            ]
        };
        KEYS.iter().flat_map(each).collect()
    }
}

fn expand(token: &str, random: &mut Random, words: &mut Vec<Vec<u8>>) {
    if let Some(rest) = token.strip_prefix('?') {
        // `k?` and `?*?` are patterns of KEYS; only a leading `?` before a word is an option.
        if random.one_in(3) {
            expand(rest, random, words);
        }
        return;
    }
    // `*` alone, or after anything but a placeholder, is a pattern of KEYS.
    if let Some(repeated) = token.strip_suffix('*').filter(|t| t.starts_with('$') && !t.contains('|')) {
        for _ in 0..random.below(3) {
            expand(repeated, random, words);
        }
        return;
    }
    if token == "$elements" {
        let count = [1, 2, 10, 100][random.below(4)];
        words.extend((0..count).map(|_| random.below(5000).to_string().into_bytes()));
        return;
    }
    let choices: Vec<&str> = token.split('|').collect();
    for part in random.pick(&choices).split(',') {
        words.push(word(part, random));
    }
}

fn word(part: &str, random: &mut Random) -> Vec<u8> {
    let text = |s: &str| s.as_bytes().to_vec();
    match part {
        "$k" => random.pick(KEYS).to_vec(),
        "$v" => random.pick(VALUES).to_vec(),
        "$id" => super::streams::id(random),
        "$long" => {
            let len: [usize; 10] = [100, 127, 128, 500, 3000, 4090, 8100, 8192, 8193, 20_000];
            vec![b'x' + random.below(3) as u8; len[random.below(len.len())]]
        }
        "$i" => text(random.pick(INTEGERS)),
        "$n" => text(random.pick(OFFSETS)),
        "$bit" if random.one_in(16) => text(random.pick(ODD_BITS)),
        "$bit" if random.one_in(8) => format!("#{}", random.below(20)).into_bytes(),
        "$bit" => random.below(400).to_string().into_bytes(),
        "$field" if random.one_in(20) => {
            text(random.pick(&["u64", "i65", "u0", "i0", "x8", "u", "U8", "u08", "", "8"]))
        }
        "$field" => format!("{}{}", random.pick(&["i", "u"]), 1 + random.below(63)).into_bytes(),
        "$f" => text(random.pick(FLOATS)),
        "$db" => text(random.pick(&["0", "0", "1", "1", "2", "15", "16", "-1", "abc", "9223372036854775808"])),
        "$sec" | "$ms" | "$at" | "$atms" if random.one_in(8) => text(random.pick(ODD_TIMES)),
        "$sec" => (1_000_000 + random.below(1_000_000_000)).to_string().into_bytes(),
        "$ms" => (1_000_000_000 + random.below(1_000_000_000_000)).to_string().into_bytes(),
        "$at" => text(random.pick(&["4000000000", "5000000000", "6000000000", "7000000001", "1"])),
        "$atms" => text(random.pick(&["4000000000000", "5000000000001", "6000000000002", "7000000000003", "1"])),
        other => super::zsets::word(other, random).unwrap_or_else(|| text(other)),
    }
}

fn spoil(words: &mut Vec<Vec<u8>>, random: &mut Random) {
    let at = random.below(words.len());
    match random.below(5) {
        0 if words.len() > 1 && at > 0 => drop(words.remove(at)),
        1 => words.insert(at + 1, random.pick(VALUES).to_vec()),
        2 if at > 0 => words[at] = random.pick(VALUES).to_vec(),
        3 if at > 0 => words.insert(at, words[at].clone()),
        _ => {
            let other = 1 + random.below(words.len().max(2) - 1);
            if at > 0 && other < words.len() {
                words.swap(at, other);
            }
        }
    }
}
