//! The load of `scripts/bench-readthrough`: clients that speak the protocol, and what they are compared with. Prints one
//! line of JSON. It must not be what limits the figures: one thread a core, no allocation for a request of a few bytes.
//!
//! `readthrough_load COMMAND --name value ...`; the commands are the functions at the end of this file.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The command line's `--name value` pairs.
#[derive(Clone)]
struct Options(HashMap<String, String>);

impl Options {
    fn text(&self, name: &str) -> String {
        self.0.get(name).unwrap_or_else(|| panic!("--{name} is missing")).clone()
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or_else(|_| panic!("--{name} must be a number"))
    }

    fn number_or(&self, name: &str, default: u64) -> u64 {
        if self.0.contains_key(name) { self.number(name) } else { default }
    }
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}

/// What a reply was.
enum Reply {
    Text(Vec<u8>),
    Nil,
    Error(String),
}

/// A connection, one request at a time.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    input: Vec<u8>,
}

impl Client {
    async fn connect(port: u64) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port as u16)).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, request: Vec::new(), input: Vec::new() })
    }

    fn encode(&mut self, args: &[&[u8]]) {
        use std::io::Write;
        let _ = write!(self.request, "*{}\r\n", args.len());
        for arg in args {
            let _ = write!(self.request, "${}\r\n", arg.len());
            self.request.extend_from_slice(arg);
            self.request.extend_from_slice(b"\r\n");
        }
    }

    async fn ask(&mut self, args: &[&[u8]]) -> Outcome<Reply> {
        self.send(args).await?;
        self.reply().await
    }

    async fn send(&mut self, args: &[&[u8]]) -> Outcome<()> {
        self.request.clear();
        self.encode(args);
        Ok(self.stream.write_all(&self.request).await?)
    }

    async fn reply(&mut self) -> Outcome<Reply> {
        loop {
            if let Some((reply, length)) = parse(&self.input)? {
                self.input.drain(..length);
                return Ok(reply);
            }
            self.input.reserve(4096);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }

    async fn get(&mut self, key: &str) -> Outcome<Reply> {
        self.ask(&[b"GET", key.as_bytes()]).await
    }
}

/// A reply at the head of the input, and how long it is; None if it is not all there.
fn parse(input: &[u8]) -> Outcome<Option<(Reply, usize)>> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = std::str::from_utf8(&input[1..end])?;
    let reply = match input[0] {
        b'$' if line == "-1" => Reply::Nil,
        b'$' => {
            let (start, length): (usize, usize) = (end + 2, line.parse()?);
            return Ok(input
                .get(start..start + length + 2)
                .map(|text| (Reply::Text(text[..length].to_vec()), start + length + 2)));
        }
        b'-' => Reply::Error(line.to_owned()),
        b'_' => Reply::Nil,
        _ => Reply::Text(line.as_bytes().to_vec()),
    };
    Ok(Some((reply, end + 2)))
}

/// Times in microseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed().as_secs_f64() * 1e6);
    }

    fn quantile(&mut self, share: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let place = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(place).copied().unwrap_or(0.0)
    }
}

fn print(figures: &[(&str, f64)]) {
    let fields: Vec<String> = figures.iter().map(|(name, figure)| format!("\"{name}\": {figure:.3}")).collect();
    println!("{{{}}}", fields.join(", "));
}

/// Runs `work` for every client on `threads` threads, each with a runtime of its own; returns what the clients did.
fn on_threads<T, F, W>(threads: u64, clients: u64, work: W) -> Outcome<Vec<T>>
where
    T: Send + 'static,
    W: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = Outcome<T>> + 'static,
{
    let work = Arc::new(work);
    let handles: Vec<_> = (0..threads)
        .map(|thread| {
            let work = Arc::clone(&work);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let local = tokio::task::LocalSet::new();
                let own = (thread..clients).step_by(threads as usize);
                local.block_on(&runtime, async move {
                    let tasks: Vec<_> = own.map(|client| tokio::task::spawn_local(work(client))).collect();
                    let mut done = Vec::new();
                    for task in tasks {
                        done.push(task.await??);
                    }
                    Outcome::Ok(done)
                })
            })
        })
        .collect();
    let mut all = Vec::new();
    for handle in handles {
        all.extend(handle.join().map_err(|_| "a thread failed")??);
    }
    Ok(all)
}

/// Lets all clients begin at once: each waits here until the last has come.
#[derive(Clone)]
struct Start(Arc<(AtomicU64, u64)>);

impl Start {
    fn of(clients: u64) -> Start {
        Start(Arc::new((AtomicU64::new(0), clients)))
    }

    async fn wait(&self) {
        self.0.0.fetch_add(1, Relaxed);
        while self.0.0.load(Relaxed) < self.0.1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn text(reply: Reply) -> Outcome<Vec<u8>> {
    match reply {
        Reply::Text(text) => Ok(text),
        Reply::Nil => Err("a nil where a row is".into()),
        Reply::Error(line) => Err(line.into()),
    }
}

/// The numbers from 1 to `rows`, each once, in an order that jumps about, as pgbench's random ones do.
fn scattered(number: u64, rows: u64) -> u64 {
    // A prime that is no factor of any number of rows here.
    1 + number.wrapping_mul(982_451_653) % rows
}

/// `clients` read keys that nobody has read before, `pipeline` at a time, for `ms`.
fn misses(options: &Options) -> Outcome<()> {
    let (port, clients, prefix) = (options.number("port"), options.number("clients"), options.text("prefix"));
    let (rows, pipeline) = (options.number("rows"), options.number_or("pipeline", 1));
    let time = Duration::from_millis(options.number("ms"));
    let (start, next) = (Start::of(clients), Arc::new(AtomicU64::new(options.number_or("first", 0))));
    let counter = Arc::clone(&next);
    let times = on_threads(options.number_or("threads", 1), clients, move |_| {
        let (start, next, prefix) = (start.clone(), Arc::clone(&next), prefix.clone());
        async move {
            let mut client = Client::connect(port).await?;
            start.wait().await;
            let (begun, mut times) = (Instant::now(), Times::default());
            while begun.elapsed() < time {
                let first = next.fetch_add(pipeline, Relaxed);
                if first + pipeline > rows {
                    return Err("there are too few keys for so much time".into());
                }
                let asked = Instant::now();
                client.request.clear();
                for number in first..first + pipeline {
                    let key = format!("{prefix}{}", scattered(number, rows));
                    client.encode(&[b"GET", key.as_bytes()]);
                }
                client.stream.write_all(&client.request).await?;
                for _ in 0..pipeline {
                    text(client.reply().await?)?;
                    times.add(asked);
                }
            }
            Ok((times, begun.elapsed()))
        }
    })?;
    let seconds = times.iter().map(|(_, time)| time.as_secs_f64()).fold(0.0, f64::max);
    let mut all = Times(times.into_iter().flat_map(|(times, _)| times.0).collect());
    let count = all.0.len() as f64;
    let next = counter.load(Relaxed) as f64;
    let (p50, p99) = (all.quantile(0.5), all.quantile(0.99));
    print(&[("misses", count), ("per_second", count / seconds), ("p50_us", p50), ("p99_us", p99), ("next", next)]);
    Ok(())
}

/// Alone and in turns: a miss, the same query by the driver, and a hit.
fn lone(options: &Options) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (database, connection) = tokio_postgres::connect(&options.text("url"), NoTls).await?;
        tokio::spawn(connection);
        let statement = database.prepare(&options.text("query")).await?;
        let mut client = Client::connect(options.number("port")).await?;
        let (prefix, first, count) = (options.text("prefix"), options.number("first"), options.number("count"));
        let [mut miss, mut query, mut hit] = [(); 3].map(|()| Times::default());
        for number in first..first + count {
            let key = format!("{prefix}{number}");
            let begun = Instant::now();
            text(client.get(&key).await?)?;
            miss.add(begun);
            // A row that the miss has not just brought into the caches of the database.
            let id = (number + count) as i32;
            let begun = Instant::now();
            database.query_one(&statement, &[&id]).await?;
            query.add(begun);
            let begun = Instant::now();
            text(client.get(&key).await?)?;
            hit.add(begun);
        }
        print(&[
            ("miss_p50_us", miss.quantile(0.5)),
            ("query_p50_us", query.quantile(0.5)),
            ("hit_p50_us", hit.quantile(0.5)),
            ("miss_p99_us", miss.quantile(0.99)),
            ("query_p99_us", query.quantile(0.99)),
        ]);
        Ok(())
    })
}

/// `clients` read `keys` keys at the same moment, all connected before.
fn herd(options: &Options) -> Outcome<()> {
    let (port, clients, keys) = (options.number("port"), options.number("clients"), options.number("keys"));
    let (prefix, first) = (options.text("prefix"), options.number("first"));
    let start = Start::of(clients);
    let times = on_threads(options.number_or("threads", 1), clients, move |number| {
        let (start, key) = (start.clone(), format!("{prefix}{}", first + number % keys));
        async move {
            let mut client = Client::connect(port).await?;
            start.wait().await;
            let begun = Instant::now();
            text(client.get(&key).await?)?;
            Ok(begun.elapsed().as_secs_f64() * 1e6)
        }
    })?;
    let mut times = Times(times);
    print(&[("clients", times.0.len() as f64), ("p50_us", times.quantile(0.5)), ("max_us", times.quantile(1.0))]);
    Ok(())
}

/// Hits of one key at a fixed rate, while `waiting` other clients wait for keys that do not come.
fn hits(options: &Options) -> Outcome<()> {
    let (port, waiting, rate) = (options.number("port"), options.number("waiting"), options.number("rate"));
    let (prefix, hot) = (options.text("prefix"), options.text("hot"));
    let time = Duration::from_millis(options.number("ms"));
    // Closed when it is over. Polling for that would be a load of its own.
    let done = Arc::new(Semaphore::new(0));
    let (ready, stalled) = (Arc::new(Barrier::new(2)), Arc::clone(&done));
    let begin = Arc::clone(&ready);
    let waiters = std::thread::spawn(move || {
        let start = Start::of(waiting + 1);
        on_threads(1, waiting + 1, move |number| {
            let (start, stalled, key) = (start.clone(), Arc::clone(&stalled), format!("{prefix}{}", number + 1));
            let begin = Arc::clone(&begin);
            async move {
                let mut client = Client::connect(port).await?;
                if number < waiting {
                    client.send(&[b"GET", key.as_bytes()]).await?;
                }
                start.wait().await;
                if number == waiting {
                    begin.wait();
                }
                let _ = stalled.acquire().await;
                Ok(())
            }
        })
    });
    ready.wait();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = runtime.block_on(async {
        let mut client = Client::connect(port).await?;
        let (begun, mut times) = (Instant::now(), Times::default());
        let mut due = begun;
        while begun.elapsed() < time {
            // Spun, not slept: the sleep's own delays would be measured.
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let asked = Instant::now();
            text(client.get(&hot).await?)?;
            times.add(asked);
            due += Duration::from_secs(1) / rate as u32;
            due = due.max(Instant::now());
        }
        Outcome::Ok(times)
    })?;
    done.close();
    waiters.join().map_err(|_| "the waiting clients failed")??;
    let count = times.0.len() as f64;
    print(&[("hits", count), ("p50_us", times.quantile(0.5)), ("p99_us", times.quantile(0.99))]);
    Ok(())
}

/// `clients` read random keys of `keys` for a time; a line of the reads so far every `tick_ms`.
fn reads(options: &Options) -> Outcome<()> {
    let (port, clients, keys) = (options.number("port"), options.number("clients"), options.number("keys"));
    let (prefix, time) = (options.text("prefix"), Duration::from_millis(options.number("ms")));
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let begun = Instant::now();
    on_threads(options.number_or("threads", 1), clients, move |number| {
        let (prefix, count, mut random) = (prefix.clone(), Arc::clone(&count), Random::new(number + 1));
        async move {
            let mut client = Client::connect(port).await?;
            while begun.elapsed() < time {
                text(client.get(&format!("{prefix}{}", 1 + random.below(keys))).await?)?;
                count.fetch_add(1, Relaxed);
            }
            Ok(())
        }
    })?;
    let count = counter.load(Relaxed) as f64;
    print(&[("reads", count), ("per_second", count / begun.elapsed().as_secs_f64())]);
    Ok(())
}

/// What `aside` shares among its clients.
struct Aside {
    port: u64,
    url: String,
    query: String,
    /// The loop that people write, instead of one GET.
    is_loop: bool,
    keys: u64,
    time: Duration,
    queries: AtomicU64,
    trips: AtomicU64,
    /// How often each writer writes.
    pause: Duration,
    writes: AtomicU64,
}

/// A client that reads: by one GET, or by the loop GET, SET NX, SELECT, SETEX, DEL.
async fn read_aside(aside: &Aside, number: u64, start: Start) -> Outcome<Times> {
    let mut client = Client::connect(aside.port).await?;
    let (database, connection) = tokio_postgres::connect(&aside.url, NoTls).await?;
    tokio::task::spawn_local(connection);
    let statement = database.prepare(&aside.query).await?;
    let (mut random, mut times, mut trips) = (Random::new(number + 1), Times::default(), 0);
    start.wait().await;
    let end = Instant::now() + aside.time;
    while Instant::now() < end {
        let id = 1 + random.below(aside.keys);
        let (key, begun) = (format!("item:{id}"), Instant::now());
        loop {
            trips += 1;
            match client.get(&key).await? {
                Reply::Text(_) => break,
                Reply::Error(line) => return Err(line.into()),
                Reply::Nil if !aside.is_loop => return Err("a nil where a row is".into()),
                Reply::Nil => {}
            }
            trips += 1;
            let lock = format!("lock:{id}");
            let locked = client.ask(&[b"SET", lock.as_bytes(), b"1", b"NX", b"PX", b"2000"]).await?;
            if matches!(locked, Reply::Nil) {
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            let row = database.query_one(&statement, &[&(id as i32)]).await?;
            aside.queries.fetch_add(1, Relaxed);
            let value: String = row.get(0);
            trips += 3;
            text(client.ask(&[b"SETEX", key.as_bytes(), b"3600", value.as_bytes()]).await?)?;
            client.ask(&[b"DEL", lock.as_bytes()]).await?;
            break;
        }
        times.add(begun);
    }
    aside.trips.fetch_add(trips, Relaxed);
    Ok(times)
}

/// A client that writes, and in the loop's world drops the key after the commit.
async fn write_aside(aside: &Aside, number: u64, update: String, start: Start) -> Outcome<Times> {
    let mut client = Client::connect(aside.port).await?;
    let (database, connection) = tokio_postgres::connect(&aside.url, NoTls).await?;
    tokio::task::spawn_local(connection);
    let statement = database.prepare(&update).await?;
    let mut random = Random::new(number + 77);
    start.wait().await;
    let mut due = Instant::now();
    let end = due + aside.time;
    loop {
        tokio::time::sleep_until(due.into()).await;
        if Instant::now() >= end {
            break;
        }
        due += aside.pause;
        aside.writes.fetch_add(1, Relaxed);
        let id = 1 + random.below(aside.keys);
        database.execute(&statement, &[&(id as i32)]).await?;
        if aside.is_loop {
            client.ask(&[b"DEL", format!("item:{id}").as_bytes()]).await?;
        }
    }
    Ok(Times::default())
}

/// Readers and writers of the same rows; then how many cached values differ from their rows.
fn aside(options: &Options) -> Outcome<()> {
    let (readers, writers) = (options.number("readers"), options.number("writers"));
    let aside = Arc::new(Aside {
        port: options.number("port"),
        url: options.text("url"),
        query: options.text("query"),
        is_loop: options.number("loop") == 1,
        keys: options.number("keys"),
        time: Duration::from_millis(options.number("ms")),
        queries: AtomicU64::new(0),
        trips: AtomicU64::new(0),
        pause: Duration::from_secs(writers) / options.number("writes") as u32,
        writes: AtomicU64::new(0),
    });
    let (start, update, shared) = (Start::of(readers + writers), options.text("update"), Arc::clone(&aside));
    let times = on_threads(1, readers + writers, move |number| {
        let (aside, start, update) = (Arc::clone(&shared), start.clone(), update.clone());
        async move {
            if number < readers {
                read_aside(&aside, number, start).await
            } else {
                write_aside(&aside, number, update, start).await
            }
        }
    })?;
    let mut times = Times(times.into_iter().flat_map(|times| times.0).collect());
    let reads = times.0.len() as f64;
    let count = |counter: &AtomicU64| counter.load(Relaxed) as f64;
    let stale = stale(&aside, Duration::from_millis(options.number_or("settle_ms", 500)))?;
    print(&[
        ("reads", reads),
        ("per_second", reads / aside.time.as_secs_f64()),
        ("p50_us", times.quantile(0.5)),
        ("p99_us", times.quantile(0.99)),
        ("trips_per_read", count(&aside.trips) / reads),
        ("queries", count(&aside.queries)),
        ("writes_per_second", count(&aside.writes) / aside.time.as_secs_f64()),
        ("stale", stale as f64),
    ]);
    Ok(())
}

/// Cached values that differ from their rows once what is under way has settled.
fn stale(aside: &Aside, settle: Duration) -> Outcome<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::sleep(settle).await;
        let mut client = Client::connect(aside.port).await?;
        let (database, connection) = tokio_postgres::connect(&aside.url, NoTls).await?;
        tokio::spawn(connection);
        let statement = database.prepare(&aside.query).await?;
        let mut stale = 0;
        for id in 1..=aside.keys {
            if let Reply::Text(cached) = client.get(&format!("item:{id}")).await? {
                let row: String = database.query_one(&statement, &[&(id as i32)]).await?.get(0);
                stale += usize::from(cached != row.as_bytes());
            }
        }
        Ok(stale)
    })
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let command = args.next().unwrap_or_default();
    let mut options = HashMap::new();
    while let (Some(name), Some(value)) = (args.next(), args.next()) {
        options.insert(name.trim_start_matches("--").to_owned(), value);
    }
    let options = Options(options);
    match command.as_str() {
        "misses" => misses(&options),
        "lone" => lone(&options),
        "herd" => herd(&options),
        "hits" => hits(&options),
        "reads" => reads(&options),
        "aside" => aside(&options),
        // `cargo bench` without a name runs every bench.
        "" => Ok(()),
        other => Err(format!("there is no load \"{other}\"").into()),
    }
}
