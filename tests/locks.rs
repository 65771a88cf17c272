//! Locks as people take them: `SET lock token NX PX …`, released by comparing. A thousand clients want the same one.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::support::{Client, PATIENCE, Server, Value};

const CLIENTS: usize = 1000;
const THREADS: usize = 20;
const ROUNDS: usize = 30;

/// A thousand connections need more file descriptors than the usual soft limit allows.
fn raise_file_limit() {
    let pid = std::process::id().to_string();
    let status = std::process::Command::new("prlimit").args(["--pid", &pid, "--nofile=8192:"]).status();
    assert!(status.is_ok_and(|s| s.success()), "prlimit cannot raise the limit of open files to 8192");
}

#[test]
fn one_of_a_thousand_clients_takes_the_lock() {
    raise_file_limit();
    let server = Server::cenote().start();
    let barrier = Barrier::new(THREADS);
    let shares: Vec<Result<Vec<String>, String>> = thread::scope(|scope| {
        let share = |thread| {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || race(server, barrier, thread))
        };
        let threads: Vec<_> = (0..THREADS).map(share).collect();
        threads.into_iter().map(|t| t.join().expect("the thread ends")).collect()
    });
    let mut tokens: Vec<_> = shares.into_iter().flat_map(|share| share.unwrap_or_else(|e| panic!("{e}"))).collect();
    tokens.sort();
    let rounds: Vec<_> = tokens.iter().map(|token| token.split(':').next().unwrap_or_default().to_owned()).collect();
    let expected: Vec<_> = (0..ROUNDS).map(|round| format!("{round:03}")).collect();
    assert_eq!(rounds, expected, "exactly one winner in each round");
}

/// One thread's share of the clients, in step with the other threads. Returns the tokens that won, `round:client`.
/// A fault ends the share's requests but not its steps: the other threads wait for it at the barrier.
fn race(server: &Server, barrier: &Barrier, thread: usize) -> Result<Vec<String>, String> {
    let mut clients: Vec<Client> = (0..CLIENTS / THREADS).map(|_| server.client()).collect();
    let mut won = Ok(Vec::new());
    for round in 0..ROUNDS {
        let token = |index: usize| format!("{round:03}:{thread}-{index}");
        barrier.wait();
        let winner = if won.is_ok() { try_all(&mut clients, token) } else { Ok(None) };
        barrier.wait();
        // All have tried. Nobody but the owner can release it; then the next round may begin.
        won = won.and_then(|mut tokens| {
            if let Some(index) = winner? {
                release(&mut clients, index, &token(index))?;
                tokens.push(token(index));
            }
            Ok(tokens)
        });
    }
    won
}

/// All clients ask at once; which of them got the lock.
fn try_all(clients: &mut [Client], token: impl Fn(usize) -> String) -> Result<Option<usize>, String> {
    for (index, client) in clients.iter_mut().enumerate() {
        let sent = client.send(&["SET", "lock", &token(index), "NX", "PX", "600000"]);
        sent.map_err(|failure| format!("{failure:?}"))?;
    }
    let mut winner = None;
    for (index, client) in clients.iter_mut().enumerate() {
        match client.read_reply().map_err(|failure| format!("{failure:?}"))?.value {
            value if value == Value::ok() && winner.is_none() => winner = Some(index),
            Value::Nil => {}
            value => return Err(format!("{value:?} to client {index}, winner so far: {winner:?}")),
        }
    }
    Ok(winner)
}

/// The owner releases by comparing; another client cannot.
fn release(clients: &mut [Client], owner: usize, token: &str) -> Result<(), String> {
    let other = (owner + 1) % clients.len();
    let refused = clients[other].cmd(&["DELIFEQ", "lock", "somebody else"]);
    let released = clients[owner].cmd(&["DELIFEQ", "lock", token]);
    let right = refused == Value::Int(0) && released == Value::Int(1);
    if right {
        Ok(())
    } else {
        Err(format!("DELIFEQ gave {refused:?} to another client and {released:?} to the owner"))
    }
}

#[test]
fn expiry_hands_the_lock_on() {
    const WAITING: usize = 20;
    let server = Server::cenote().start();
    let turns: Vec<Vec<u64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..WAITING)
            .map(|index| {
                let server = &server;
                scope.spawn(move || take_once(&mut server.client(), index))
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("the thread ends")).collect()
    });
    let mut turns: Vec<_> = turns.into_iter().flatten().collect();
    turns.sort_unstable();
    assert_eq!(turns, (1..=WAITING as u64).collect::<Vec<_>>(), "each had it once, one after the other");
}

/// Tries until the lock is ours, counts the turn, and leaves the release to the lock's expiry.
fn take_once(client: &mut Client, index: usize) -> Vec<u64> {
    let token = format!("client-{index}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.cmd(&["SET", "lock", &token, "NX", "PX", "20"]) {
            value if value == Value::ok() => return vec![client.cmd(&["INCR", "turns"]).int() as u64],
            value => assert_eq!(value, Value::Nil),
        }
        assert!(Instant::now() < deadline, "the lock was never handed on");
    }
}

#[test]
fn set_nx_get_tells_the_loser_who_holds_the_lock() {
    let server = Server::cenote().start();
    let (mut first, mut second) = (server.client(), server.client());
    assert_eq!(first.cmd(&["SET", "lock", "first", "NX", "GET", "PX", "600000"]), Value::Nil);
    assert_eq!(second.cmd(&["SET", "lock", "second", "NX", "GET", "PX", "600000"]), Value::bulk("first"));
    assert_eq!(first.cmd(&["GET", "lock"]), Value::bulk("first"));
}
