//! What a request costs in the keyspace, without sockets, for one thread and for as many as the machine has cores.
//!
//! `cargo bench --bench cores [-- KEYS] [--json]` runs batches of 16 requests, parsed, dispatched and answered as a worker
//! does it, and prints CPU time a request by each thread's own clock: GET and SET of random keys, and GET of one key that
//! all threads read. Threads take turns, round by round; figures are medians. What two threads cost more than one each is
//! what they take from each other: locks, cache lines, the allocator.

use cenote::clock;
use cenote::commands;
use cenote::config::{Config, ConfigHandle};
use cenote::exec::{Dispatch, Request};
use cenote::keyspace::Garbage;
use cenote::protocol::{Limits, Output, Reader, Span, Step};
use cenote::source::Sources;
use cenote::state::{Client, Origin, State};
use std::io::Write;
use std::sync::{Arc, Barrier};
use std::time::Instant;

#[global_allocator]
static GLOBAL: cenote::alloc::Counting = cenote::alloc::Counting;

const PIPELINE: usize = 16;
/// Digits of a key, behind `key:`.
const DIGITS: usize = 12;
const ROUNDS: usize = 9;
const BATCHES: usize = 60_000;
const VALUE: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// What is asked of which keys.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    head: &'static str,
    tail: &'static str,
    /// Keys to choose from; 0 for all.
    keys: u64,
}

const ROWS: [Row; 4] = [
    Row { name: "GET", head: "*2\r\n$3\r\nGET\r\n$16\r\nkey:", tail: "\r\n", keys: 0 },
    Row { name: "SET", head: "*3\r\n$3\r\nSET\r\n$16\r\nkey:", tail: "\r\n$32\r\n", keys: 0 },
    Row { name: "GET of one hot key", head: "*2\r\n$3\r\nGET\r\n$16\r\nkey:", tail: "\r\n", keys: 1 },
    Row { name: "SET of one hot key", head: "*3\r\n$3\r\nSET\r\n$16\r\nkey:", tail: "\r\n$32\r\n", keys: 1 },
];

/// A worker with one connection.
struct Worker {
    state: Arc<State>,
    index: usize,
    client: Client,
    input: Vec<u8>,
    /// Where the digits of each request's key are.
    digits: Vec<usize>,
    output: Output,
    random: u64,
}

impl Worker {
    fn new(state: &Arc<State>, index: usize) -> Self {
        let origin = Origin { addr: String::new(), laddr: String::new(), fd: -1, is_unix: false, worker: index };
        Self {
            state: Arc::clone(state),
            index,
            client: state.clients.connect(origin, true, clock::now_ms()),
            input: Vec::new(),
            digits: Vec::new(),
            output: Output::new(),
            random: 0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1) << 32,
        }
    }

    /// Makes the batch's text, all but the keys.
    fn prepare(&mut self, row: Row) {
        self.input.clear();
        self.digits.clear();
        for _ in 0..PIPELINE {
            self.input.extend_from_slice(row.head.as_bytes());
            self.digits.push(self.input.len());
            self.input.extend_from_slice(&[b'0'; DIGITS]);
            self.input.extend_from_slice(row.tail.as_bytes());
            if row.head.contains("SET") {
                self.input.extend_from_slice(VALUE.as_bytes());
                self.input.extend_from_slice(b"\r\n");
            }
        }
    }

    fn name_key(&mut self, request: usize, mut number: u64) {
        let at = self.digits[request];
        for digit in self.input[at..at + DIGITS].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20
    }

    /// Parses and runs the batch.
    fn run(&mut self, spans: &mut Vec<Span>, requests: &mut Vec<Request>, config: &Config) {
        let limits = Limits { max_bulk: 1 << 20, authenticated: true };
        let (mut reader, mut at) = (Reader::default(), 0);
        spans.clear();
        requests.clear();
        while at < self.input.len() {
            match reader.next(&mut self.input[at..], at, spans, limits) {
                Ok(Step::Command(range, used)) => {
                    requests.push(range);
                    at += used;
                }
                other => panic!("{other:?}"),
            }
        }
        let mut dispatch = Dispatch {
            state: &self.state,
            config,
            stats: &self.state.workers[self.index],
            client: &mut self.client,
            garbage: &mut Garbage::new(),
            filled: None,
            ahead: &mut Vec::new(),
        };
        dispatch.run(&self.input, spans, requests, &mut self.output);
        self.output.clear(1 << 20);
    }

    /// Runs so many batches of random keys; CPU ns of this thread.
    fn work(&mut self, row: Row, keys: u64, batches: usize) -> u64 {
        self.prepare(row);
        let config = self.state.config.load();
        let (mut spans, mut requests) = (Vec::new(), Vec::new());
        let before = cpu_ns();
        for _ in 0..batches {
            for request in 0..PIPELINE {
                let number = self.next() % if row.keys == 0 { keys } else { row.keys };
                self.name_key(request, number);
            }
            self.run(&mut spans, &mut requests, &config);
        }
        cpu_ns() - before
    }

    fn fill(&mut self, keys: u64) {
        self.prepare(ROWS[1]);
        let config = self.state.config.load();
        let (mut spans, mut requests) = (Vec::new(), Vec::new());
        for first in (0..keys).step_by(PIPELINE) {
            (0..PIPELINE).for_each(|request| self.name_key(request, (first + request as u64) % keys));
            self.run(&mut spans, &mut requests, &config);
        }
    }
}

/// CPU time that this thread has used.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("Linux with /proc and scheduler statistics")
}

/// One round of `threads` threads: CPU ns a request, and requests a second of all.
fn round(state: &Arc<State>, row: Row, keys: u64, threads: usize) -> (f64, f64) {
    let barrier = Barrier::new(threads);
    let begin = Instant::now();
    let spent: u64 = std::thread::scope(|scope| {
        let run = |index| {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut worker = Worker::new(state, index);
                worker.work(row, keys, BATCHES / 20);
                barrier.wait();
                worker.work(row, keys, BATCHES)
            })
        };
        let all: Vec<_> = (0..threads).map(run).collect();
        all.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
    });
    let requests = (threads * BATCHES * PIPELINE) as f64;
    (spent as f64 / requests, requests * 21.0 / 20.0 / begin.elapsed().as_secs_f64())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_json = words.iter().any(|word| word == "--json");
    // `cargo test --benches` runs every bench with no word at all: then it only shows that it works.
    let is_trial = !words.iter().any(|word| word == "--bench");
    let keys = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let keys: u64 = if is_trial && !is_json { 1000 } else { keys };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let counts: Vec<usize> = [1, 2, 4, 8, 16, 32, 64].into_iter().filter(|count| *count <= cores.max(2)).collect();
    let workers = counts.last().copied().unwrap_or(1);
    let rows = commands::registry().rows();
    let now = clock::now_ms();
    let state = State::new(ConfigHandle::new(Config::default()), Sources::default(), workers, rows, None, now);
    commands::load_users(&state).expect("there is no file of users");
    let state = Arc::new(state);
    Worker::new(&state, 0).fill(keys);
    let mut out = std::io::stdout().lock();
    if !is_json {
        let _ =
            writeln!(out, "{keys} keys, {PIPELINE} requests a batch\n\n{:<24}threads   CPU ns/request  requests/s", "");
    }
    let mut figures = Vec::new();
    for row in ROWS {
        let mut seen: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); counts.len()];
        for _ in 0..if is_trial && !is_json { 1 } else { ROUNDS } {
            for (count, (cpu, rate)) in counts.iter().zip(&mut seen) {
                let (spent, done) = round(&state, row, keys, *count);
                cpu.push(spent);
                rate.push(done);
            }
        }
        for (count, (cpu, rate)) in counts.iter().zip(seen) {
            let (cpu, rate) = (median(cpu), median(rate));
            if !is_json {
                let _ = writeln!(out, "{:<24}{count:>7}{cpu:>17.1}{rate:>12.0}", row.name);
            }
            figures.push(format!(
                "{{\"row\":\"{}\",\"threads\":{count},\"cpu_ns\":{cpu:.2},\"rps\":{rate:.0}}}",
                row.name
            ));
        }
    }
    if is_json {
        let _ = writeln!(out, "[{}]", figures.join(","));
    }
}
