//! Transactions, waiting and messages among many connections at a time: what must hold whatever the order in which
//! things happen. What one history must look like is in `tests/histories/`.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, PATIENCE, Random, Server, Value};

/// Queues a command behind one that needs all shards, and runs both.
fn in_transaction(client: &mut Client, words: &[&str]) -> Value {
    client.cmd(&["MULTI"]);
    client.cmd(&["DBSIZE"]);
    client.cmd(words);
    let reply = client.try_cmd(&["EXEC"]);
    reply.unwrap_or_else(|failure| panic!("{words:?}: {failure:?}")).value
}

#[test]
fn no_command_stops_a_transaction_that_holds_all_shards() {
    // A handler that locks shards by itself would wait for ever for the transaction that it is part of: its row must
    // say so (`locks`).
    let server = Server::cenote().args(["--enable-debug-command", "yes"]).start();
    let mut control = server.client();
    control.cmd(&["SET", "key", "value"]);
    let more = [
        "INFO",
        "INFO everything",
        "MEMORY STATS",
        "MEMORY DOCTOR",
        "MEMORY USAGE key",
        "DEBUG OBJECT key",
        "DEBUG DIGEST",
        "DEBUG DIGEST-VALUE key",
        "DEBUG HTSTATS 0",
        "DEBUG POPULATE 10",
        "CONFIG RESETSTAT",
        "CONFIG SET notify-keyspace-events KEA",
        "UNWATCH",
        "CLIENT LIST",
        "LATENCY DOCTOR",
        "PUBLISH c m",
        "SUBSCRIBE c",
        "SELECT 1",
        "ROUTE LIST",
        "ROUTE RELOAD",
        "METRICS",
    ];
    let more = more.iter().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let mut commands: Vec<Vec<String>> = more.collect();
    for row in control.cmd(&["COMMAND"]).items() {
        add_rows(row, &mut commands);
    }
    assert!(commands.len() > 150, "only {} commands", commands.len());
    for words in commands {
        // What stops the server, is not queued, or makes a monitor.
        if matches!(
            words[0].as_str(),
            "shutdown" | "multi" | "exec" | "discard" | "watch" | "quit" | "reset" | "monitor"
        ) {
            continue;
        }
        let mut client = server.client();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let reply = in_transaction(&mut client, &words);
        let refused = reply.is_error() && reply.text().is_some_and(|text| text.starts_with("EXECABORT"));
        assert!(refused || reply.items().len() == 2 || words[0].contains("subscribe"), "{words:?}: {reply:?}");
    }
    assert_eq!(control.cmd(&["PING"]), Value::simple("PONG"));
}

/// A command of each row, with arguments that fit its arity.
fn add_rows(row: &Value, commands: &mut Vec<Vec<String>>) {
    let items = row.items();
    let name = items[0].text().expect("a name");
    let mut words: Vec<String> = name.split('|').map(str::to_owned).collect();
    let arity = items[1].int().unsigned_abs() as usize;
    words.resize(arity.max(words.len()), "1".to_owned());
    commands.push(words);
    items[9].items().iter().for_each(|sub| add_rows(sub, commands));
}

#[test]
fn transactions_and_waiters_agree_on_every_element() {
    // Producers push numbers in transactions with a counter, consumers wait, movers move. Every number arrives at
    // exactly one consumer, each producer's numbers in order, and the counter agrees.
    const PRODUCERS: usize = 3;
    const EACH: usize = 300;
    let server = Server::cenote().start();
    let got: Vec<Vec<String>> = thread::scope(|scope| {
        let server = &server;
        for producer in 0..PRODUCERS {
            scope.spawn(move || produce(&mut server.client(), producer, EACH));
        }
        scope.spawn(move || {
            let mut client = server.client();
            while client.cmd(&["BLMOVE", "work:0", "moved", "LEFT", "RIGHT", "20"]) != Value::bulk("end") {}
        });
        let consumers: Vec<_> = (0..3).map(|_| scope.spawn(move || consume(&mut server.client()))).collect();
        let mut control = server.client();
        let deadline = Instant::now() + PATIENCE;
        while control.cmd(&["GET", "taken"]) != Value::bulk((PRODUCERS * EACH).to_string()) {
            assert!(Instant::now() < deadline, "taken: {:?}", control.cmd(&["GET", "taken"]));
            thread::sleep(Duration::from_millis(5));
        }
        control.cmd(&["RPUSH", "work:0", "end"]);
        (0..4).for_each(|_| drop(control.cmd(&["RPUSH", "work:1", "end"])));
        consumers.into_iter().map(|consumer| consumer.join().expect("a consumer ends")).collect()
    });
    let mut seen = BTreeSet::new();
    for values in &got {
        for value in values {
            assert!(seen.insert(value.clone()), "{value} was taken twice");
        }
        for producer in 1..PRODUCERS {
            let own = values.iter().filter_map(|value| value.strip_prefix(&format!("{producer}:"))?.parse().ok());
            assert!(own.collect::<Vec<usize>>().is_sorted(), "the elements of a list leave it in order");
        }
    }
    assert_eq!(seen.len(), PRODUCERS * EACH);
    assert_eq!(server.client().cmd(&["GET", "pushed"]), Value::bulk((PRODUCERS * EACH).to_string()));
}

fn produce(client: &mut Client, producer: usize, count: usize) {
    for number in 0..count {
        client.cmd(&["MULTI"]);
        client.cmd(&["INCR", "pushed"]);
        client.cmd(&["RPUSH", &format!("work:{producer}"), &format!("{producer}:{number}")]);
        let reply = client.cmd(&["EXEC"]);
        assert_eq!(reply.items().len(), 2, "{reply:?}");
    }
}

/// Takes what comes from any list until the end is announced.
fn consume(client: &mut Client) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let reply = client.cmd(&["BLPOP", "work:1", "work:2", "moved", "20"]);
        let value = reply.items()[1].text().expect("an element");
        if value == "end" {
            return taken;
        }
        client.cmd(&["INCR", "taken"]);
        taken.push(value);
    }
}

#[test]
fn transactions_are_atomic_and_watches_hold() {
    // Two accounts whose sum never changes: some transfer in transactions, some compare and set with WATCH, some look.
    const ROUNDS: usize = 200;
    let server = Server::cenote().start();
    server.client().cmd(&["MSET", "a", "1000", "b", "1000", "sets", "0"]);
    let sets: Vec<usize> = thread::scope(|scope| {
        let server = &server;
        for seed in 0..2 {
            scope.spawn(move || {
                let (mut client, mut random) = (server.client(), Random::new(seed));
                for _ in 0..ROUNDS {
                    let amount = random.below(10).to_string();
                    let batch = [&["MULTI"][..], &["DECRBY", "a", &amount], &["INCRBY", "b", &amount], &["EXEC"]];
                    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect();
                    client.pipeline(&batch.map(words)).expect("four replies");
                }
            });
        }
        scope.spawn(move || {
            let mut client = server.client();
            for _ in 0..2 * ROUNDS {
                client.cmd(&["MULTI"]);
                client.cmd(&["GET", "a"]);
                client.cmd(&["GET", "b"]);
                let reply = client.cmd(&["EXEC"]);
                let sum: f64 = reply.items().iter().filter_map(Value::number).sum();
                assert_eq!(sum, 2000.0, "{reply:?}");
                let sum: f64 = client.cmd(&["MGET", "a", "b"]).items().iter().filter_map(Value::number).sum();
                assert_eq!(sum, 2000.0);
            }
        });
        let setters: Vec<_> =
            (0..2).map(|_| scope.spawn(move || compare_and_set(&mut server.client(), ROUNDS))).collect();
        setters.into_iter().map(|setter| setter.join().expect("a setter ends")).collect()
    });
    assert_eq!(server.client().cmd(&["GET", "sets"]), Value::bulk(sets.iter().sum::<usize>().to_string()));
}

/// Adds 1 by reading and writing, so often; how often nobody came between.
fn compare_and_set(client: &mut Client, rounds: usize) -> usize {
    let mut done = 0;
    for _ in 0..rounds {
        client.cmd(&["WATCH", "sets"]);
        let next = client.cmd(&["GET", "sets"]).number().expect("a number") as i64 + 1;
        client.cmd(&["MULTI"]);
        client.cmd(&["SET", "sets", &next.to_string()]);
        done += usize::from(client.cmd(&["EXEC"]) != Value::Nil);
    }
    done
}

#[test]
fn waiters_that_are_killed_take_nothing() {
    let server = Server::cenote().start();
    let mut control = server.client();
    for round in 0..100 {
        let (mut killed, mut other) = (server.client(), server.client());
        let id = killed.cmd(&["CLIENT", "ID"]).int().to_string();
        killed.send(&["BLPOP", "k", "0"]).expect("it is sent");
        wait_for_blocked(&mut control, 1);
        other.send(&["BLPOP", "k", "0"]).expect("it is sent");
        wait_for_blocked(&mut control, 2);
        match round % 3 {
            0 => assert_eq!(control.cmd(&["CLIENT", "KILL", "ID", &id]), Value::Int(1)),
            1 => {
                assert_eq!(control.cmd(&["CLIENT", "UNBLOCK", &id]), Value::Int(1));
                assert_eq!(killed.read_reply().expect("an answer").value, Value::Nil);
            }
            _ => {
                assert_eq!(control.cmd(&["CLIENT", "UNBLOCK", &id, "ERROR"]), Value::Int(1));
                let reply = killed.read_reply().expect("an answer").value;
                assert_eq!(reply, Value::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".to_owned()));
            }
        }
        assert_eq!(control.cmd(&["CLIENT", "UNBLOCK", &id]), Value::Int(0));
        let value = round.to_string();
        assert_eq!(control.cmd(&["RPUSH", "k", &value]), Value::Int(1));
        let reply = other.read_reply().expect("an answer").value;
        assert_eq!(reply, Value::Array(vec![Value::bulk("k"), Value::bulk(&value)]));
        assert_eq!(control.cmd(&["EXISTS", "k"]), Value::Int(0));
    }
    assert!(control.cmd(&["INFO", "clients"]).text().expect("text").contains("total_blocking_keys:0\r\n"));
}

/// Waits until so many connections wait in blocking commands.
fn wait_for_blocked(control: &mut Client, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    let line = format!("blocked_clients:{count}\r\n");
    while !control.cmd(&["INFO", "clients"]).text().expect("text").contains(&line) {
        assert!(Instant::now() < deadline, "there are never {count} blocked clients");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_server_that_stops_does_not_wait_for_waiters() {
    let mut server = Server::cenote().start();
    let (mut waiting, mut control) = (server.client(), server.client());
    waiting.send(&["BLPOP", "k", "0"]).expect("it is sent");
    wait_for_blocked(&mut control, 1);
    control.send(&["SHUTDOWN"]).expect("it is sent");
    assert!(server.wait_for_exit().success());
    assert!(waiting.is_closed());
}

#[test]
fn messages_of_one_publisher_keep_their_order_and_slow_subscribers_go() {
    const MESSAGES: usize = 2000;
    let server = Server::cenote().args(["--client-output-buffer-limit", "pubsub", "8mb", "0", "0"]).start();
    let mut slow = server.client();
    slow.cmd(&["SUBSCRIBE", "big"]);
    let mut listeners: Vec<Client> = (0..4).map(|_| server.client()).collect();
    listeners.iter_mut().for_each(|listener| drop(listener.cmd(&["PSUBSCRIBE", "c*"])));
    thread::scope(|scope| {
        let server = &server;
        for publisher in 0..2 {
            scope.spawn(move || {
                let mut client = server.client();
                for number in 0..MESSAGES {
                    client.cmd(&["PUBLISH", &format!("c{publisher}"), &number.to_string()]);
                }
            });
        }
        for listener in &mut listeners {
            scope.spawn(move || {
                let mut next = [0, 0];
                while next.iter().sum::<usize>() < 2 * MESSAGES {
                    let message = listener.read_reply().expect("a message").value;
                    let publisher = usize::from(message.items()[2] == Value::bulk("c1"));
                    assert_eq!(message.items()[3], Value::bulk(next[publisher].to_string()));
                    next[publisher] += 1;
                }
            });
        }
    });
    let mut client = server.client();
    let deadline = Instant::now() + PATIENCE;
    while client.cmd(&["PUBLISH", "big", &"x".repeat(1 << 20)]) != Value::Int(0) {
        assert!(Instant::now() < deadline, "who does not read is never closed");
    }
    assert!(
        client
            .cmd(&["INFO", "stats"])
            .text()
            .expect("text")
            .contains("client_output_buffer_limit_disconnections:1\r\n")
    );
}
