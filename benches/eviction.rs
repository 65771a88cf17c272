//! Which eviction policy misses least: traces replayed on models of the known policies and on Cenote's own code.
//!
//! `cargo bench --bench eviction [-- REQUESTS KEYS]` prints the share of requests that miss, a line a trace. Every policy
//! holds the same number of keys; that Cenote holds more in the same memory is not counted. `optimum` is Belady's, which
//! knows the future. Redis's policies are modelled from their documentation: 5 samples and a pool of 16, clocks without
//! their resolution of a second, which favours them.

use cenote::keyspace::{Access, Event, Garbage, Keyspace, NewValue, News, Policy, Rank, Ttl};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Requests a second, for the policies that look at a clock.
const RATE: u64 = 20_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }
}

/// Ranks whose frequency falls with their power.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(ranks: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += (rank as f64).powf(-skew);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|part| *part /= sum);
        Self(cumulative)
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let x = random.unit();
        self.0.partition_point(|part| *part < x) as u32
    }
}

/// Keys that no other part of a trace uses, from this number on.
const ELSEWHERE: u32 = 100_000_000;

/// The next key of a trace, by the number of the request.
type Next = Box<dyn FnMut(usize, &mut Random) -> u32>;

fn traces(requests: usize, keys: usize) -> Vec<(String, Vec<u32>)> {
    let mut all: Vec<(String, Vec<u32>)> = Vec::new();
    let mut add = |name: &str, mut next: Next| {
        let mut random = Random(0x9e37_79b9 + name.len() as u64);
        all.push((name.to_owned(), (0..requests).map(|at| next(at, &mut random)).collect()));
    };
    for skew in [0.7, 0.8, 0.9, 1.0, 1.1, 1.2] {
        let zipf = Zipf::new(keys, skew);
        add(&format!("Zipf {skew}"), Box::new(move |_, random| zipf.draw(random)));
    }
    let zipf = |skew| Zipf::new(keys, skew);
    let wide = zipf(0.9);
    let scan = move |at: usize, random: &mut Random| {
        let is_scan = at / 2000 % 2 == 1;
        if is_scan { ELSEWHERE + (at / 2 % (2 * keys)) as u32 } else { wide.draw(random) }
    };
    add("Zipf 0.9, half scans", Box::new(scan));
    let wide = zipf(0.9);
    let once = move |at: usize, random: &mut Random| {
        if random.below(100) < 40 { ELSEWHERE + at as u32 } else { wide.draw(random) }
    };
    add("Zipf 0.9, 40 % wanted once", Box::new(once));
    add("loop over a quarter", Box::new(move |at, _| (at % (keys / 4)) as u32));
    let wide = zipf(0.9);
    let mixed = move |at: usize, random: &mut Random| {
        if random.below(100) < 70 { wide.draw(random) } else { ELSEWHERE + (at / 3 % (keys / 4)) as u32 }
    };
    add("Zipf 0.9, 30 % loop", Box::new(mixed));
    let steep = zipf(1.0);
    let phases = move |at: usize, random: &mut Random| {
        (steep.draw(random) + (at / (requests / 10) * keys / 10) as u32) % keys as u32
    };
    add("Zipf 1.0, ten phases", Box::new(phases));
    let steep = zipf(1.0);
    add("Zipf 1.0, drifting", Box::new(move |at, random| (steep.draw(random) + at as u32 / 50) % (4 * keys as u32)));
    let recent = Zipf::new(keys / 5, 0.9);
    add("news", Box::new(move |at, random| (at / 5 + keys) as u32 - recent.draw(random)));
    all
}

trait Cache {
    /// Asks for a key and keeps it; true if it was there.
    fn ask(&mut self, key: u32) -> bool;
}

/// Exact recency.
struct Lru {
    room: usize,
    at: HashMap<u32, u64>,
    order: BTreeMap<u64, u32>,
    now: u64,
}

impl Lru {
    fn new(room: usize) -> Self {
        Self { room, at: HashMap::new(), order: BTreeMap::new(), now: 0 }
    }

    fn has(&self, key: u32) -> bool {
        self.at.contains_key(&key)
    }

    fn touch(&mut self, key: u32) {
        self.now += 1;
        if let Some(before) = self.at.insert(key, self.now) {
            self.order.remove(&before);
        }
        self.order.insert(self.now, key);
    }

    fn remove(&mut self, key: u32) {
        if let Some(at) = self.at.remove(&key) {
            self.order.remove(&at);
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let (_, key) = self.order.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }
}

impl Cache for Lru {
    fn ask(&mut self, key: u32) -> bool {
        let found = self.has(key);
        self.touch(key);
        if self.at.len() > self.room {
            self.pop();
        }
        found
    }
}

#[derive(Clone, Copy)]
struct Entry {
    key: u32,
    used: u64,
    counter: u32,
    decayed: u64,
}

/// Redis's samples with a pool, by recency or by its logarithmic counter.
struct Sampled {
    room: usize,
    lfu: bool,
    entries: Vec<Entry>,
    places: HashMap<u32, usize>,
    pool: Vec<(u64, u32)>,
    now: u64,
    random: Random,
}

impl Sampled {
    fn new(room: usize, lfu: bool) -> Self {
        let (entries, places) = (Vec::new(), HashMap::new());
        Self { room, lfu, entries, places, pool: Vec::new(), now: 0, random: Random(3) }
    }

    fn counter(&self, entry: &Entry) -> u32 {
        entry.counter.saturating_sub((self.now / (60 * RATE) - entry.decayed) as u32)
    }

    fn evict(&mut self) {
        for _ in 0..5 {
            let entry = self.entries[self.random.below(self.entries.len())];
            let idle = if self.lfu { 255 - u64::from(self.counter(&entry)) } else { self.now - entry.used };
            let is_known = self.pool.iter().any(|(_, key)| *key == entry.key);
            if !is_known && (self.pool.len() < 16 || idle > self.pool[0].0) {
                self.pool.push((idle, entry.key));
                self.pool.sort_unstable();
                if self.pool.len() > 16 {
                    self.pool.remove(0);
                }
            }
        }
        while let Some((_, key)) = self.pool.pop() {
            if let Some(place) = self.places.remove(&key) {
                self.entries.swap_remove(place);
                if let Some(moved) = self.entries.get(place) {
                    self.places.insert(moved.key, place);
                }
                return;
            }
        }
    }
}

impl Cache for Sampled {
    fn ask(&mut self, key: u32) -> bool {
        self.now += 1;
        if let Some(&place) = self.places.get(&key) {
            let entry = self.entries[place];
            let mut counter = self.counter(&entry);
            let height = f64::from(counter.saturating_sub(5));
            if counter < 255 && self.random.unit() < 1.0 / (height * 10.0 + 1.0) {
                counter += 1;
            }
            self.entries[place] = Entry { used: self.now, counter, decayed: self.now / (60 * RATE), ..entry };
            return true;
        }
        while self.entries.len() >= self.room {
            self.evict();
        }
        self.places.insert(key, self.entries.len());
        self.entries.push(Entry { key, used: self.now, counter: 5, decayed: self.now / (60 * RATE) });
        false
    }
}

/// SIEVE (NSDI 2024): a queue, a mark, a hand.
struct Sieve {
    room: usize,
    /// Keys in the order of their arrival, newest last.
    order: BTreeMap<u64, u32>,
    marks: HashMap<u32, (u64, bool)>,
    hand: u64,
    now: u64,
}

impl Cache for Sieve {
    fn ask(&mut self, key: u32) -> bool {
        if let Some((_, mark)) = self.marks.get_mut(&key) {
            *mark = true;
            return true;
        }
        while self.marks.len() >= self.room {
            let Some((&at, &key)) = self.order.range(self.hand..).next() else {
                self.hand = 0;
                continue;
            };
            self.hand = at + 1;
            match self.marks.get_mut(&key) {
                Some((_, mark)) if *mark => *mark = false,
                _ => {
                    self.order.remove(&at);
                    self.marks.remove(&key);
                }
            }
        }
        self.now += 1;
        self.order.insert(self.now, key);
        self.marks.insert(key, (self.now, false));
        false
    }
}

/// S3-FIFO (SOSP 2023): a small queue, a main one, and the names of what left the small one.
struct S3Fifo {
    room: usize,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: VecDeque<u32>,
    is_ghost: HashSet<u32>,
    reads: HashMap<u32, u8>,
}

impl S3Fifo {
    fn evict(&mut self) {
        while self.small.len() >= self.room / 10 {
            let Some(key) = self.small.pop_front() else { break };
            if self.reads.get(&key).is_some_and(|reads| *reads > 1) {
                self.reads.insert(key, 0);
                self.main.push_back(key);
                continue;
            }
            self.reads.remove(&key);
            self.ghosts.push_back(key);
            self.is_ghost.insert(key);
            if self.ghosts.len() > self.room * 9 / 10
                && let Some(old) = self.ghosts.pop_front()
            {
                self.is_ghost.remove(&old);
            }
            return;
        }
        while let Some(key) = self.main.pop_front() {
            match self.reads.get_mut(&key) {
                Some(reads) if *reads > 0 => {
                    *reads -= 1;
                    self.main.push_back(key);
                }
                _ => {
                    self.reads.remove(&key);
                    return;
                }
            }
        }
    }
}

impl Cache for S3Fifo {
    fn ask(&mut self, key: u32) -> bool {
        if let Some(reads) = self.reads.get_mut(&key) {
            *reads = (*reads + 1).min(3);
            return true;
        }
        while self.reads.len() >= self.room {
            self.evict();
        }
        self.reads.insert(key, 0);
        if self.is_ghost.remove(&key) {
            self.main.push_back(key)
        } else {
            self.small.push_back(key)
        }
        false
    }
}

/// W-TinyLFU with a window of one part in a hundred: a sketch of frequencies decides who enters a segmented LRU.
struct TinyLfu {
    window: Lru,
    probation: Lru,
    protected: Lru,
    sketch: Vec<u8>,
    asked: usize,
}

impl TinyLfu {
    fn new(room: usize) -> Self {
        let window = (room / 100).max(1);
        let main = room - window;
        let sketch = vec![0; (room * 4).next_power_of_two()];
        Self {
            window: Lru::new(window),
            probation: Lru::new(main),
            protected: Lru::new(main * 8 / 10),
            sketch,
            asked: 0,
        }
    }

    fn cells(&self, key: u32) -> [usize; 4] {
        let mask = self.sketch.len() - 1;
        [1u64, 2, 3, 4].map(|row| {
            let mixed = (u64::from(key) ^ row << 40).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20) as usize & mask
        })
    }

    fn frequency(&self, key: u32) -> u8 {
        self.cells(key).map(|cell| self.sketch[cell]).into_iter().min().unwrap_or(0)
    }

    fn count(&mut self, key: u32) {
        let least = self.frequency(key);
        for cell in self.cells(key) {
            if least < 15 && self.sketch[cell] == least {
                self.sketch[cell] += 1;
            }
        }
        self.asked += 1;
        if self.asked.is_multiple_of(10 * (self.window.room + self.probation.room)) {
            self.sketch.iter_mut().for_each(|count| *count /= 2);
        }
    }
}

impl Cache for TinyLfu {
    fn ask(&mut self, key: u32) -> bool {
        self.count(key);
        if self.window.has(key) {
            self.window.touch(key);
            return true;
        }
        if self.protected.has(key) {
            self.protected.touch(key);
            return true;
        }
        if self.probation.has(key) {
            self.probation.remove(key);
            self.protected.touch(key);
            if self.protected.at.len() > self.protected.room
                && let Some(key) = self.protected.pop()
            {
                self.probation.touch(key);
            }
            return true;
        }
        self.window.touch(key);
        if self.window.at.len() > self.window.room
            && let Some(candidate) = self.window.pop()
        {
            if self.probation.at.len() + self.protected.at.len() < self.probation.room {
                self.probation.touch(candidate);
            } else if let Some((_, &victim)) = self.probation.order.first_key_value()
                && self.frequency(candidate) > self.frequency(victim)
            {
                self.probation.pop();
                self.probation.touch(candidate);
            }
        }
        false
    }
}

/// Cenote's keyspace, held to a number of keys.
struct Cenote {
    room: usize,
    keys: usize,
    keyspace: Keyspace,
    policy: Policy,
    now: u64,
}

impl Cenote {
    fn new(room: usize, rank: Rank) -> Self {
        let policy = Policy { rank, volatile: false };
        Self { room, keys: 0, keyspace: Keyspace::new(1, 1, 1), policy, now: 0 }
    }

    fn access(&self) -> Access {
        let now = (self.now * 1000 / RATE) as i64;
        let mixed = (self.now.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        match self.policy.rank {
            Rank::Lfu => Access::lfu(now, 10, 1, mixed),
            Rank::Cost => Access::cost(now, 10, 1, mixed),
            _ => Access::segmented(now),
        }
    }
}

impl Cache for Cenote {
    fn ask(&mut self, key: u32) -> bool {
        self.now += 1;
        let (key, access) = (key.to_be_bytes(), self.access());
        let hash = self.keyspace.hash(&key);
        let at = self.keyspace.shard_of(hash);
        if self.keyspace.lock(at).read(0, hash, &key, 0, access).is_some() {
            return true;
        }
        let access = access.costing(cost_of(u32::from_be_bytes(key)));
        if self.keys >= self.room {
            self.keys -= self.keyspace.evict(
                self.policy,
                access,
                5,
                cenote::random::next,
                || true,
                Garbage::free,
                &mut News::default(),
            );
        }
        self.keyspace.lock(at).set(0, hash, &key, NewValue::Int(0), Ttl::None, 0, access, Event::SET);
        self.keys += 1;
        false
    }
}

/// What it costs to load a key, in µs: from 100 to 100,000, as many keys in each tenfold of it.
fn cost_of(key: u32) -> u64 {
    let mixed = (u64::from(key) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (100.0 * 1000f64.powf(mixed as f64 / f64::from(1 << 24))) as u64
}

/// The time that the misses of a trace take to load under the `cost` policy and under `lru` and `lfu`, of the whole.
fn costs(traces: &[(String, Vec<u32>)], room: usize) {
    println!("\ntime to load what misses, in percent of loading every request; keys take 0.1 to 100 ms\n");
    println!("{:<28}{:>11}{:>11}{:>11}", "", "Cenote lru", "Cenote lfu", "Cenote cost");
    for (name, trace) in traces {
        print!("{name:<28}");
        let whole: u64 = trace.iter().map(|&key| cost_of(key)).sum();
        for rank in [Rank::Lru, Rank::Lfu, Rank::Cost] {
            let mut cache = Cenote::new(room, rank);
            let missed: u64 = trace.iter().map(|&key| if cache.ask(key) { 0 } else { cost_of(key) }).sum();
            print!("{:>11.2}", 100.0 * missed as f64 / whole as f64);
        }
        println!();
    }
}

/// Misses of the optimum: what is wanted latest goes first.
fn optimum(trace: &[u32], room: usize) -> usize {
    let mut next = vec![usize::MAX; trace.len()];
    let mut later: HashMap<u32, usize> = HashMap::new();
    for (at, &key) in trace.iter().enumerate().rev() {
        next[at] = later.insert(key, at).unwrap_or(trace.len() + at);
    }
    let (mut wanted, mut order, mut misses) = (HashMap::new(), BTreeSet::new(), 0);
    for (at, &key) in trace.iter().enumerate() {
        if let Some(before) = wanted.insert(key, next[at]) {
            order.remove(&(before, key));
        } else {
            misses += 1;
        }
        order.insert((next[at], key));
        if wanted.len() > room
            && let Some((_, key)) = order.pop_last()
        {
            wanted.remove(&key);
        }
    }
    misses
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let (requests, keys) = (numbers.first().copied().unwrap_or(800_000), numbers.get(1).copied().unwrap_or(100_000));
    let names =
        ["optimum", "LRU", "Redis lru", "Redis lfu", "SIEVE", "S3-FIFO", "W-TinyLFU", "Cenote lru", "Cenote lfu"];
    let all = traces(requests, keys);
    for room in [keys / 50, keys / 10] {
        println!("\n{requests} requests, room for {room} of {keys} keys: share of requests that miss, in percent\n");
        print!("{:<28}", "");
        names.iter().for_each(|name| print!("{name:>11}"));
        println!();
        for (name, trace) in &all {
            let caches: [Box<dyn Cache>; 8] = [
                Box::new(Lru::new(room)),
                Box::new(Sampled::new(room, false)),
                Box::new(Sampled::new(room, true)),
                Box::new(Sieve { room, order: BTreeMap::new(), marks: HashMap::new(), hand: 0, now: 0 }),
                Box::new(S3Fifo {
                    room,
                    small: VecDeque::new(),
                    main: VecDeque::new(),
                    ghosts: VecDeque::new(),
                    is_ghost: HashSet::new(),
                    reads: HashMap::new(),
                }),
                Box::new(TinyLfu::new(room)),
                Box::new(Cenote::new(room, Rank::Lru)),
                Box::new(Cenote::new(room, Rank::Lfu)),
            ];
            let percent = |misses: usize| 100.0 * misses as f64 / trace.len() as f64;
            print!("{name:<28}{:>11.2}", percent(optimum(trace, room)));
            for mut cache in caches {
                let misses = trace.iter().filter(|key| !cache.ask(**key)).count();
                print!("{:>11.2}", percent(misses));
            }
            println!();
        }
        costs(&all, room);
    }
}
