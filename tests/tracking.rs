//! Client-side caching beyond what the histories compare: bounds, expiry and eviction, connections that end, and a cache
//! that is right whatever happens at the same time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Random, Server, Value, until};

fn run(client: &mut Client, line: &str) -> Value {
    client.cmd(&line.split(' ').collect::<Vec<_>>())
}

pub(crate) fn tracking(server: &Server, options: &str) -> Client {
    let mut client = server.client();
    client.hello(3);
    assert_eq!(run(&mut client, format!("CLIENT TRACKING ON {options}").trim()), Value::ok());
    client
}

/// The keys of a message; None if it says that all are void.
fn keys(value: &Value) -> Option<Vec<String>> {
    let Value::Push(items) = value else { panic!("expected a push, got {value:?}") };
    assert_eq!(items[0].text().as_deref(), Some("invalidate"), "{value:?}");
    if items[1] == Value::Nil {
        return None;
    }
    Some(items[1].items().iter().filter_map(Value::text).collect())
}

#[track_caller]
fn expect(client: &mut Client, wanted: &[&str]) {
    let value = client.read_reply().expect("a message").value;
    assert_eq!(keys(&value).expect("keys"), wanted);
}

/// Nothing has come: the next thing that does is the answer to this.
#[track_caller]
pub(crate) fn expect_nothing(client: &mut Client) {
    assert_eq!(run(client, "PING"), Value::simple("PONG"));
}

fn figure(client: &mut Client, section: &str, name: &str) -> i64 {
    let text = client.cmd(&["INFO", section]).text().unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn keys_that_expire_or_make_room_are_told() {
    let server = Server::cenote().start();
    let (mut a, mut b) = (tracking(&server, "NOLOOP"), server.client());
    run(&mut a, "SET k 1 PX 30");
    assert_eq!(run(&mut a, "GET k"), Value::bulk("1"));
    // Nobody asks for it: the sweep removes it.
    expect(&mut a, &["k"]);
    run(&mut a, "SET old 1");
    run(&mut a, "GET old");
    run(&mut b, "CONFIG SET maxmemory-policy allkeys-random");
    run(&mut b, "CONFIG SET maxmemory 1");
    expect(&mut a, &["old"]);
}

#[test]
fn the_table_is_bounded_and_what_is_forgotten_is_void() {
    let server = Server::cenote().args(["--tracking-table-max-keys", "100"]).start();
    let (mut a, mut b) = (tracking(&server, ""), server.client());
    let mut known: Vec<String> = Vec::new();
    for n in 0..1000 {
        a.send(&["GET", &format!("k{n}")]).unwrap();
        loop {
            match a.read_reply().unwrap().value {
                Value::Nil => break,
                push => known.retain(|key| !keys(&push).unwrap().contains(key)),
            }
        }
        known.push(format!("k{n}"));
    }
    until("it is within its bound", || figure(&mut b, "stats", "tracking_total_keys") <= 100);
    assert_eq!(figure(&mut b, "clients", "tracking_clients"), 1);
    run(&mut b, "CONFIG SET tracking-table-max-keys 10");
    until("it is within its bound", || figure(&mut b, "stats", "tracking_total_items") <= 10);
    // What is forgotten is told a moment later.
    until("each is tracked, or void", || {
        a.send(&["PING"]).unwrap();
        while let push @ Value::Push(_) = a.read_reply().unwrap().value {
            known.retain(|key| !keys(&push).unwrap().contains(key));
        }
        known.len() as i64 == figure(&mut b, "stats", "tracking_total_keys")
    });
    // What is left is told as ever.
    run(&mut b, &format!("SET {} 1", known[0]));
    expect(&mut a, &[&known[0]]);
}

/// Redis says nothing of SWAPDB. A client would go on with values of another database for ever.
#[test]
fn swapped_databases_leave_no_copy_worth_anything() {
    let server = Server::cenote().start();
    let (mut a, mut b) = (tracking(&server, ""), server.client());
    run(&mut a, "GET k");
    run(&mut b, "SWAPDB 0 1");
    assert_eq!(keys(&a.read_reply().unwrap().value), None);
    run(&mut a, "SWAPDB 0 1");
    assert_eq!(keys(&a.read_reply().unwrap().value), None);
}

#[test]
fn it_is_shown_and_ends_with_its_connection() {
    let server = Server::cenote().args(["--enable-debug-command", "yes"]).start();
    let (mut a, mut b, mut control) =
        (tracking(&server, ""), tracking(&server, "BCAST PREFIX x PREFIX y"), server.client());
    let b_id = run(&mut b, "CLIENT ID").int();
    let mut c = tracking(&server, &format!("REDIRECT {b_id}"));
    let c_id = run(&mut c, "CLIENT ID").int();
    let field = |control: &mut Client, id: i64, name: &str| {
        let line = run(control, &format!("CLIENT LIST ID {id}")).text().unwrap_or_default();
        line.split(' ').find_map(|word| word.strip_prefix(&format!("{name}="))).map(str::to_owned)
    };
    assert_eq!(field(&mut control, b_id, "flags").as_deref(), Some("tB"));
    assert_eq!(field(&mut control, c_id, "flags").as_deref(), Some("t"));
    assert_eq!(field(&mut control, c_id, "redir"), Some(b_id.to_string()));
    assert_eq!(field(&mut control, b_id, "redir").as_deref(), Some("0"));
    run(&mut c, "GET k");
    assert_eq!(figure(&mut control, "clients", "tracking_clients"), 3);
    assert_eq!(figure(&mut control, "stats", "tracking_total_prefixes"), 2);
    assert_eq!(run(&mut control, &format!("CLIENT KILL ID {b_id}")), Value::Int(1));
    until("it is gone", || figure(&mut control, "stats", "tracking_total_prefixes") == 0);
    run(&mut control, "SET k 1");
    let broken = c.read_reply().unwrap().value;
    assert_eq!(broken.items()[0].text().as_deref(), Some("tracking-redir-broken"));
    assert_eq!(broken.items()[1].int(), b_id);
    assert_eq!(field(&mut control, c_id, "flags").as_deref(), Some("tR"));
    // In RESP2 nothing can be sent that was not asked for; back in RESP3 it is told again.
    run(&mut a, "GET k");
    a.hello(2);
    run(&mut control, "SET k 2");
    expect_nothing(&mut a);
    a.hello(3);
    run(&mut a, "GET k");
    run(&mut control, "SET k 3");
    expect(&mut a, &["k"]);
    drop((a, c));
    until("they are gone", || figure(&mut control, "clients", "tracking_clients") == 0);
    run(&mut control, "SET k 4");
    assert_eq!(figure(&mut control, "stats", "tracking_total_keys"), 0);
}

#[test]
fn messages_are_sent_whatever_becomes_of_replies() {
    let server = Server::cenote().start();
    let (mut a, mut b) = (tracking(&server, ""), server.client());
    run(&mut a, "GET k");
    a.send(&["CLIENT", "REPLY", "OFF"]).unwrap();
    a.send(&["SET", "k", "1"]).unwrap();
    expect(&mut a, &["k"]);
    a.send(&["GET", "k"]).unwrap();
    a.send(&["CLIENT", "REPLY", "ON"]).unwrap();
    assert_eq!(a.read_reply().unwrap().value, Value::ok());
    run(&mut b, "SET k 2");
    expect(&mut a, &["k"]);
}

/// Who does not read its messages is closed, as a subscriber is.
#[test]
fn a_client_that_does_not_read_is_closed() {
    let server = Server::cenote().args(["--client-output-buffer-limit", "normal 1mb 0 0"]).start();
    let (mut a, mut b) = (tracking(&server, "BCAST"), server.client());
    let key = "k".repeat(50_000);
    let deadline = Instant::now() + PATIENCE;
    while figure(&mut b, "clients", "tracking_clients") == 1 {
        assert!(Instant::now() < deadline, "it is still there");
        (0..50).for_each(|_| drop(b.cmd(&["SET", &key, "1"])));
    }
    assert!(a.read_to_end().is_ok());
}

/// A client's cache: what it read, unless it was told since that this is void.
struct Cache {
    client: Client,
    values: HashMap<String, Value>,
}

impl Cache {
    fn note(&mut self, push: &Value) {
        match keys(push) {
            None => self.values.clear(),
            Some(keys) => keys.iter().for_each(|key| drop(self.values.remove(key))),
        }
    }

    fn read(&mut self, key: &str) {
        self.client.send(&["GET", key]).unwrap();
        loop {
            match self.client.read_reply().unwrap().value {
                push @ Value::Push(_) => self.note(&push),
                value => {
                    self.values.insert(key.to_owned(), value);
                    return;
                }
            }
        }
    }
}

/// Readers keep copies while writers change, expire, move and flush keys, on all workers at once. When all is quiet, every
/// copy that was not taken back is what the server has.
#[test]
fn copies_are_right_when_all_is_quiet() {
    let seed = Random::seed();
    println!("CENOTE_SEED={seed}");
    let server = Server::cenote().args(["--workers", "3"]).start();
    let stops = AtomicBool::new(false);
    let key = |random: &mut Random| format!("k{}", random.below(40));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4u64)
            .map(|number| {
                let (server, stops) = (&server, &stops);
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ number);
                    let way = ["", "NOLOOP", "BCAST", "BCAST NOLOOP PREFIX k"][number as usize];
                    let mut cache = Cache { client: tracking(server, way), values: HashMap::new() };
                    while !stops.load(Ordering::Relaxed) {
                        cache.read(&key(&mut random));
                    }
                    cache
                })
            })
            .collect();
        let writers = (0..3u64).map(|number| {
            let server = &server;
            scope.spawn(move || {
                let (mut random, mut client) = (Random::new(!seed ^ number), server.client());
                for round in 0..1500 {
                    let (key, other) = (key(&mut random), key(&mut random));
                    let line = match random.below(10) {
                        0 => format!("DEL {key} {other}"),
                        1 => format!("SET {key} {round} PX 3"),
                        2 => format!("RENAME {key} {other}"),
                        3 => format!("MSET {key} {round} {other} {round}"),
                        4 if random.one_in(40) => "FLUSHALL".to_owned(),
                        5 if random.one_in(20) => "SWAPDB 0 1".to_owned(),
                        _ => format!("SET {key} {round}"),
                    };
                    run(&mut client, &line);
                }
            })
        });
        writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
        thread::sleep(Duration::from_millis(20));
        stops.store(true, Ordering::Relaxed);
        let mut control = server.client();
        for reader in readers {
            let mut cache = reader.join().unwrap();
            cache.read("last");
            let due = Instant::now() + PATIENCE;
            // What expired a moment ago may still be on its way.
            loop {
                let stale: Vec<_> =
                    cache.values.iter().filter(|(key, value)| control.cmd(&["GET", key]) != **value).collect();
                if stale.is_empty() {
                    break;
                }
                assert!(Instant::now() < due, "stale copies: {stale:?}");
                cache.read("last");
            }
            assert!(!cache.values.is_empty());
        }
    });
}
