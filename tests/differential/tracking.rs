//! Random histories of connections that keep copies of keys: who is told of which change, behind which reply. Each is
//! run on Cenote and on the real servers. `CENOTE_SEED` repeats a run.

use std::fmt::Write;

use crate::support::Random;

use super::histories::compare;

/// Histories of one run, and steps of each.
const HISTORIES: usize = 12;
const STEPS: usize = 60;

const KEYS: &[&str] = &["a", "b", "c", "user:1", "user:2", "user:10"];

/// How a connection may track the keys that it reads.
const WAYS: &[&str] = &["", "NOLOOP", "OPTIN", "OPTOUT", "OPTIN NOLOOP"];
/// How it may be told of all changes. What a transaction changes, the real servers tell at once, Cenote by command; and
/// for them, what a script changes its connection has not changed itself (NOLOOP), though without BCAST it has. So there
/// is neither where some connection is told in this way.
const BROADCASTS: &[&str] = &["", "OPTIN", "BCAST", "BCAST PREFIX user:", "BCAST NOLOOP"];

fn read(random: &mut Random) -> String {
    let (key, other) = (random.pick(KEYS), random.pick(KEYS));
    match random.below(9) {
        0 => format!("MGET {key} {other}"),
        1 => format!("EXISTS {key}"),
        2 => format!("STRLEN {key}"),
        3 => format!("TYPE {key}"),
        4 => format!("TTL {key}"),
        _ => format!("GET {key}"),
    }
}

fn write(random: &mut Random, is_broadcast: bool) -> String {
    let (key, other) = (random.pick(KEYS), random.pick(KEYS));
    match random.below(14) {
        0 => format!("DEL {key} {other}"),
        1 => format!("MSET {key} 1 {other} 2"),
        2 => format!("RENAME {key} {other}"),
        3 => format!("EXPIRE {key} 1000"),
        4 => format!("PERSIST {key}"),
        5 => format!("SETNX {key} 5"),
        6 => format!("GETDEL {key}"),
        7 if !is_broadcast => {
            format!("EVAL \"redis.call('get', KEYS[1]); return redis.call('set', KEYS[1], 7)\" 1 {key}")
        }
        8 => format!("COPY {key} {other} REPLACE"),
        9 => format!("INCR {key}"),
        10 => format!("SETRANGE {key} 0 \"\""),
        _ => format!("SET {key} 3"),
    }
}

fn history(number: usize, random: &mut Random) -> String {
    let mut text = format!("== random {number}\n");
    let mut is_in_multi = [false; 3];
    let is_broadcast = random.one_in(2);
    let ways = if is_broadcast { BROADCASTS } else { WAYS };
    for (name, place) in [("x", 0), ("y", 1)] {
        if place == 0 || random.one_in(2) {
            let way = random.pick(ways);
            let _ = writeln!(text, "{name}: CLIENT TRACKING ON {way}");
        }
    }
    for _ in 0..STEPS {
        let place = random.below(3);
        let name = ["x", "y", "z"][place];
        let command = match random.below(40) {
            0 => "FLUSHDB".to_owned(),
            1 => "CLIENT TRACKINGINFO".to_owned(),
            2..6 => "CLIENT CACHING YES".to_owned(),
            6..9 => "CLIENT CACHING NO".to_owned(),
            9..12 if !is_in_multi[place] && !is_broadcast => {
                is_in_multi[place] = true;
                "MULTI".to_owned()
            }
            12..20 if is_in_multi[place] => {
                is_in_multi[place] = false;
                "EXEC".to_owned()
            }
            12 => "CLIENT TRACKING OFF".to_owned(),
            13 => format!("CLIENT TRACKING ON {}", random.pick(ways)),
            14..28 => read(random),
            _ => write(random, is_broadcast),
        };
        let _ = writeln!(text, "{name}: {command}");
    }
    for (name, _) in ["x", "y", "z"].iter().zip(is_in_multi).filter(|(_, is_in_multi)| *is_in_multi) {
        let _ = writeln!(text, "{name}: EXEC");
    }
    text
}

fn run(resp3: bool) {
    let seed = Random::seed();
    println!("CENOTE_SEED={seed}");
    let mut random = Random::new(seed);
    let text: String = (0..HISTORIES).map(|number| history(number, &mut random)).collect();
    compare(&format!("seed {seed}, line"), &text, resp3);
}

#[test]
fn random_histories_resp3() {
    run(true);
}

#[test]
fn random_histories_resp2() {
    run(false);
}
