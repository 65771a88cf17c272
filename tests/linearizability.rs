//! Every command takes effect at one moment between its sending and its answer, whichever worker runs it: short
//! histories of several connections are recorded, and an order is sought in which a model gives the same answers.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::{Client, Random, Server, Value};

const ROUNDS: usize = 250;
const CLIENTS: usize = 5;
/// Commands of a connection in one round. All of a round's must fit in the bits of a word.
const EACH: usize = 8;

/// What clients do. Strings are `a` and `b`, lists `x` and `y`.
#[derive(Clone, Debug)]
enum Op {
    Set(&'static str, i64),
    Get(&'static str),
    GetDel(&'static str),
    Incr(&'static str, i64),
    SetNew(&'static str, i64),
    SetBoth(i64),
    GetBoth,
    /// In a transaction: takes from one, adds to the other.
    Transfer(i64),
    Push(&'static str, i64),
    Pop(&'static str),
    /// Waits a moment if both lists are empty.
    WaitAndPop,
    Move,
    Range(&'static str),
    Rename,
    Delete,
}

impl Op {
    fn random(random: &mut Random, number: i64) -> Self {
        let string = random.pick(&["a", "b"]);
        let list = random.pick(&["x", "y"]);
        match random.below(16) {
            0 => Self::Set(string, number),
            1 | 2 => Self::Get(string),
            3 => Self::GetDel(string),
            4 => Self::Incr(string, number),
            5 => Self::SetNew(string, number),
            6 => Self::SetBoth(number),
            7 => Self::GetBoth,
            8 => Self::Transfer(number),
            9 | 10 => Self::Push(list, number),
            11 => Self::Pop(list),
            12 => Self::WaitAndPop,
            13 => Self::Move,
            14 => Self::Range(list),
            _ => {
                if random.one_in(2) {
                    Self::Rename
                } else {
                    Self::Delete
                }
            }
        }
    }

    fn send(&self, client: &mut Client) -> Value {
        let words = |line: &str| -> Vec<Vec<u8>> { line.split(' ').map(|word| word.as_bytes().to_vec()).collect() };
        let line = match self {
            Self::Set(key, number) => format!("SET {key} {number}"),
            Self::Get(key) => format!("GET {key}"),
            Self::GetDel(key) => format!("GETDEL {key}"),
            Self::Incr(key, number) => format!("INCRBY {key} {number}"),
            Self::SetNew(key, number) => format!("SETNX {key} {number}"),
            Self::SetBoth(number) => format!("MSET a {number} b {number}"),
            Self::GetBoth => "MGET a b".to_owned(),
            Self::Transfer(number) => {
                let lines =
                    ["MULTI".to_owned(), format!("DECRBY a {number}"), format!("INCRBY b {number}"), "EXEC".into()];
                let replies = client.pipeline(&lines.map(|line| words(&line))).expect("four replies");
                return replies[3].value.clone();
            }
            Self::Push(key, number) => format!("RPUSH {key} {number}"),
            Self::Pop(key) => format!("LPOP {key}"),
            Self::WaitAndPop => "BLPOP x y 0.002".to_owned(),
            Self::Move => "LMOVE x y LEFT RIGHT".to_owned(),
            Self::Range(key) => format!("LRANGE {key} 0 -1"),
            Self::Rename => "RENAME x y".to_owned(),
            Self::Delete => "DEL a x".to_owned(),
        };
        client.cmd(&words(&line))
    }
}

/// What the server should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Model {
    strings: BTreeMap<&'static str, i64>,
    lists: BTreeMap<&'static str, VecDeque<i64>>,
}

fn bulk(number: Option<i64>) -> Value {
    number.map_or(Value::Nil, |number| Value::bulk(number.to_string()))
}

impl Model {
    /// Runs a command; its answer.
    fn run(&mut self, op: &Op) -> Value {
        match op {
            Op::Set(key, number) => {
                self.strings.insert(key, *number);
                Value::ok()
            }
            Op::Get(key) => bulk(self.strings.get(key).copied()),
            Op::GetDel(key) => bulk(self.strings.remove(key)),
            Op::Incr(key, number) => Value::Int(self.add(key, *number)),
            Op::SetNew(key, number) => {
                let is_new = !self.strings.contains_key(key);
                self.strings.entry(key).or_insert(*number);
                Value::Int(is_new.into())
            }
            Op::SetBoth(number) => {
                self.strings = [("a", *number), ("b", *number)].into();
                Value::ok()
            }
            Op::GetBoth => Value::Array(["a", "b"].map(|key| bulk(self.strings.get(key).copied())).into()),
            Op::Transfer(number) => {
                let sums = [self.add("a", -number), self.add("b", *number)];
                Value::Array(sums.map(Value::Int).into())
            }
            Op::Push(key, number) => {
                let list = self.lists.entry(key).or_default();
                list.push_back(*number);
                Value::Int(list.len() as i64)
            }
            Op::Pop(key) => bulk(self.pop(key)),
            Op::WaitAndPop => {
                let popped = ["x", "y"].iter().find_map(|key| Some((key, self.pop(key)?)));
                popped.map_or(Value::Nil, |(key, number)| Value::Array(vec![Value::bulk(*key), bulk(Some(number))]))
            }
            Op::Move => {
                let popped = self.pop("x");
                popped.into_iter().for_each(|number| self.lists.entry("y").or_default().push_back(number));
                bulk(popped)
            }
            Op::Range(key) => {
                let numbers = self.lists.get(key).into_iter().flatten();
                Value::Array(numbers.map(|number| bulk(Some(*number))).collect())
            }
            Op::Rename => match self.lists.remove("x") {
                Some(list) => {
                    self.lists.insert("y", list);
                    Value::ok()
                }
                None => Value::Error("ERR no such key".to_owned()),
            },
            Op::Delete => {
                let found = [self.strings.remove("a").is_some(), self.lists.remove("x").is_some()];
                Value::Int(found.into_iter().filter(|found| *found).count() as i64)
            }
        }
    }

    fn add(&mut self, key: &'static str, number: i64) -> i64 {
        let sum = self.strings.entry(key).or_default();
        *sum += number;
        *sum
    }

    fn pop(&mut self, key: &'static str) -> Option<i64> {
        let list = self.lists.get_mut(key)?;
        let number = list.pop_front();
        if list.is_empty() {
            self.lists.remove(key);
        }
        number
    }
}

/// A command with its answer, and the moments when it was sent and answered.
#[derive(Debug)]
struct Event {
    op: Op,
    reply: Value,
    sent: u64,
    answered: u64,
}

/// True if there is an order of the commands that keeps to their times and gives their answers.
fn is_linearizable(history: &[Event]) -> bool {
    let all = (1u64 << history.len()) - 1;
    let mut open = vec![(0u64, Model::default())];
    let mut seen = HashSet::new();
    while let Some((done, model)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || (0..history.len()).filter(|index| done & (1 << index) == 0);
        // What was sent after another command was answered does not come before it.
        let first_answer = left().map(|index| history[index].answered).min().unwrap_or(u64::MAX);
        for index in left().filter(|index| history[*index].sent < first_answer) {
            let mut next = model.clone();
            if next.run(&history[index].op) == history[index].reply {
                let state = (done | 1 << index, next);
                if seen.insert(state.clone()) {
                    open.push(state);
                }
            }
        }
    }
    false
}

/// One round: all connections send at the same time, each its own commands.
fn record(clients: &mut [Client], plans: &[Vec<Op>]) -> Vec<Event> {
    let (clock, start) = (AtomicU64::new(0), Barrier::new(clients.len()));
    thread::scope(|scope| {
        let (clock, start) = (&clock, &start);
        let threads: Vec<_> = clients
            .iter_mut()
            .zip(plans)
            .map(|(client, plan)| {
                scope.spawn(move || {
                    start.wait();
                    let step = |op: &Op| {
                        let sent = clock.fetch_add(1, Ordering::SeqCst);
                        let reply = op.send(client);
                        Event { op: op.clone(), reply, sent, answered: clock.fetch_add(1, Ordering::SeqCst) }
                    };
                    plan.iter().map(step).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a connection works")).collect()
    })
}

#[test]
fn histories_of_several_workers_have_an_order() {
    let seed = Random::seed();
    println!("CENOTE_SEED={seed}");
    let mut random = Random::new(seed);
    let server = Server::cenote().args(["--workers", "4"]).start();
    let mut control = server.client();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
    let mut number = 0;
    for round in 0..ROUNDS {
        control.cmd(&["FLUSHALL"]);
        let mut op = || {
            number += 1;
            Op::random(&mut random, number)
        };
        let plans: Vec<Vec<Op>> = (0..CLIENTS).map(|_| (0..EACH).map(|_| op()).collect()).collect();
        let history = record(&mut clients, &plans);
        assert!(is_linearizable(&history), "CENOTE_SEED={seed}, round {round}: no order explains {history:#?}");
    }
}

/// The checker itself: what cannot be is found.
#[test]
fn a_history_without_an_order_is_seen() {
    let event = |op, reply, sent, answered| Event { op, reply, sent, answered };
    let written = || event(Op::Set("a", 1), Value::ok(), 0, 1);
    let read = |number, sent, answered| event(Op::Get("a"), bulk(number), sent, answered);
    assert!(is_linearizable(&[written(), read(Some(1), 2, 3)]));
    assert!(!is_linearizable(&[written(), read(None, 2, 3)]), "a read that misses what was written before");
    let slow = || event(Op::Set("a", 1), Value::ok(), 0, 9);
    assert!(is_linearizable(&[slow(), read(None, 1, 2), read(Some(1), 3, 4)]));
    assert!(!is_linearizable(&[slow(), read(Some(1), 1, 2), read(None, 3, 4)]), "a value that comes and goes");
    let popped = |sent| event(Op::Pop("x"), bulk(Some(7)), sent, sent + 5);
    let pushed = event(Op::Push("x", 7), Value::Int(1), 0, 1);
    assert!(!is_linearizable(&[pushed, popped(2), popped(3)]), "an element taken twice");
}
