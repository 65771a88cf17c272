//! An update storm under load: writers change rows at full speed while readers read through, and once the writers stop,
//! what is cached equals its row.
//!
//! The long form, for a quiet machine: `CENOTE_STORM=10000000 cargo nextest run -E 'test(storm::)' --no-capture` reads at
//! least so often with the fence and as often without it, and prints how many keys were stale. With
//! `CENOTE_UNDER_TEST=target/release/cenote` it takes a few minutes.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::rig::{Rig, run, until};
use crate::support::{Client, Value, tool};

const ROWS: usize = 20;
const ROUTES: &str = "[[route]]\nkey = 'storm:{id}'\nquery = 'SELECT version FROM storm WHERE id = {id}'\nas = 'string'\n\
                      ttl = '1h'\n";

fn writers(rig: &Rig, seconds: &str) -> Child {
    let script = rig.postgres.socket_dir().join("storm.sql");
    let text = format!("\\set id random(1, {ROWS})\nUPDATE storm SET version = version + 1 WHERE id = :id;\n");
    std::fs::write(&script, text).expect("a script");
    let mut pgbench = Command::new(tool("PG_BIN").join("pgbench"));
    pgbench.args(["-n", "-c", "4", "-T", seconds, "-U", "postgres", "-p", &rig.postgres.port().to_string(), "-h"]);
    pgbench.arg(rig.postgres.socket_dir()).arg("-f").arg(script).arg("postgres");
    pgbench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgbench starts")
}

fn gets() -> Vec<Vec<Vec<u8>>> {
    (1..=ROWS).map(|id| vec![b"GET".to_vec(), format!("storm:{id}").into_bytes()]).collect()
}

/// Reads while writers write; returns how many keys are stale once they have stopped, and how many reads there were.
fn storm(rig: &Rig, marker: usize) -> (usize, usize) {
    let done = AtomicBool::new(false);
    let reads: usize = thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut reads) = (rig.client(), 0);
                    while !done.load(Ordering::Relaxed) {
                        let replies = client.pipeline(&gets()).expect("replies");
                        assert!(replies.iter().all(|reply| !reply.value.is_error()), "{replies:?}");
                        reads += replies.len();
                    }
                    reads
                })
            })
            .collect();
        writers(rig, "2").wait().expect("pgbench ends");
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("a reader")).sum()
    });
    // What is told of a later change comes after all that is told of earlier ones.
    let mut client = rig.client();
    let key = format!("storm:{}", ROWS + marker);
    run(&mut client, &format!("GET {key}"));
    rig.postgres.sql(&format!("INSERT INTO storm VALUES ({}, 1)", ROWS + marker));
    until("the last change to be heard", || run(&mut client, &format!("GET {key}")) == Value::bulk("1"));
    (stale(rig, &mut client), reads)
}

fn stale(rig: &Rig, client: &mut Client) -> usize {
    let rows = rig.postgres.sql(&format!("SELECT version FROM storm WHERE id <= {ROWS} ORDER BY id"));
    let cached = client.pipeline(&gets()).expect("replies");
    rows.lines().zip(&cached).filter(|(row, reply)| reply.value != Value::bulk(*row)).count()
}

#[test]
fn no_key_is_stale_after_an_update_storm_unless_the_fence_is_off() {
    let routes = format!("{ROUTES}negative_ttl = '1h'\n");
    let rig = Rig::with("invalidate = 'wal'", &routes, &["--workers", "2", "--enable-debug-command", "yes"]);
    rig.postgres.sql("CREATE TABLE storm (id int PRIMARY KEY, version int)");
    rig.postgres.sql(&format!("INSERT INTO storm SELECT id, 0 FROM generate_series(1, {ROWS}) id"));
    rig.set_up();
    until("the changes are heard", || rig.figures().text("source_main_changes.state") == "in_step");
    let (stale_keys, reads) = storm(&rig, 1);
    assert_eq!(stale_keys, 0, "after {reads} reads");
    let figures = rig.figures();
    assert!(figures.get("readthrough_voided") + figures.get("readthrough_fenced") > 0, "loads met changes");
    assert_eq!(figures.get("source_main_changes.gaps"), 0);
    // How soon a stale key shows depends on the machine: a check of the check, for a quiet one.
    let Some(wanted) = std::env::var("CENOTE_STORM").ok().and_then(|reads| reads.parse().ok()) else { return };
    let mut marker = 1;
    let (stale_keys, rounds) = many_storms(&rig, wanted, &mut marker, true);
    assert_eq!(stale_keys, 0, "in {rounds} storms");
    // The same with nothing that keeps a load from being stored: the test can fail.
    assert_eq!(run(&mut rig.client(), "DEBUG READTHROUGH-FENCE 0"), Value::ok());
    let (stale_keys, rounds) = many_storms(&rig, wanted, &mut marker, false);
    assert!(stale_keys > 0, "without the fence no key was stale in {rounds} storms: the check checks nothing");
}

/// Storms until there were so many reads, or without the fence until a key is stale, for ten times as many at most. Returns
/// how many keys were stale at the ends of all storms, and the storms.
fn many_storms(rig: &Rig, wanted: usize, marker: &mut usize, is_fenced: bool) -> (usize, usize) {
    let (mut all_stale, mut all_reads, mut rounds) = (0, 0, 0);
    let what = if is_fenced { "with the fence" } else { "without the fence" };
    while all_reads < wanted || !is_fenced && all_stale == 0 && all_reads < 10 * wanted {
        *marker += 1;
        let (stale_keys, reads) = storm(rig, *marker);
        (all_stale, all_reads, rounds) = (all_stale + stale_keys, all_reads + reads, rounds + 1);
    }
    let loads = rig.figures().get("source_main.loads");
    println!("{what}: {all_reads} reads, {loads} loads so far, {rounds} storms of {ROWS} keys, {all_stale} stale keys");
    (all_stale, rounds)
}
