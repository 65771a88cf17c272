//! What a command may reach beyond its keys: the keyspace as a whole, the clients, the configuration, the
//! counters. No sockets, no locks held over a command.

pub mod acl;
mod client;
mod directives;
mod errors;
mod functions;
mod gate;
mod invalidation;
mod latency;
mod memory;
mod message;
mod monitor;
mod moves;
mod pause;
mod pubsub;
mod rates;
mod routes;
mod scripts;
mod slowlog;
mod sources;
mod stats;
mod tls;
mod tracking;
mod transaction;

pub use acl::{Acl, User};
pub use client::{Client, ClientInfo, Clients, DEFAULT_USER, Kind, Origin, ReplyMode};
pub use errors::ErrorKinds;
pub use functions::{Functions, LibrarySet, Policy};
pub use gate::{Gate, Inside};
pub use latency::{LatencyMonitor, Spike, Spikes};
pub use memory::{MemoryReport, access};
pub use monitor::Monitors;
pub use moves::{MoveRequest, Moves};
pub use pause::Pause;
pub use pubsub::{PubSub, Subject, Subscriptions, pubsub_limit};
pub use rates::Rates;
pub use scripts::{Kill, Running, Scripts};
pub use slowlog::{CommandLogs, SlowCommand, Slowlog, shorten};
pub use sources::SourcesHandle;
pub use stats::{Cell64, CommandStats, Histogram, WorkerStats, percentile_ns};
pub use tls::tls_of;
pub use tracking::{Tracking, TrackingMode, TrackingOptions, Trackings};
pub use transaction::{Multi, Watched, Watching};

use crate::config::{Config, ConfigHandle};
use crate::keyspace::Keyspace;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// What became of loads.
#[derive(Debug, Default)]
pub struct Fills {
    /// Loads under way now.
    pub loading: AtomicU64,
    /// Times that a command waited for loads, of one key or several.
    pub waits: AtomicU64,
    /// Keys that a command waited for while another had them loaded already.
    pub joined: AtomicU64,
    /// Values stored.
    pub stored: AtomicU64,
    /// Values answered but not stored, because the key changed during the load.
    pub voided: AtomicU64,
    /// Values answered but not stored, because a change was announced that the load did not see.
    pub fenced: AtomicU64,
    /// Values answered but not stored, because they would not fit in `maxmemory`.
    pub unkept: AtomicU64,
    /// Loads that found nothing.
    pub absent: AtomicU64,
    /// Loads of keys that were there, begun ahead of their end or while they were served stale.
    pub refreshed: AtomicU64,
    /// Loads begun for a later command of a pipeline.
    pub ahead: AtomicU64,
    /// Every load is stored, whatever changed meanwhile: only for tests that show why not (DEBUG READTHROUGH-FENCE).
    pub unfenced: AtomicBool,
    /// Loads ahead of a value's end that may be begun.
    refreshes: AtomicI64,
}

/// What loads ahead of a value's end may be saved up for, at most.
const REFRESHES_MAX: i64 = 256;

/// Lets the log follow the directives.
pub type LogFollows = Box<dyn Fn(&Config) + Send + Sync>;

impl Fills {
    /// A load began because somebody waits for it; so one more may begin ahead of a value's end. They are never more
    /// than these by more than some hundred: if keys are loaded ahead, it is at the cost of at most as many again.
    pub fn note_wanted(&self) {
        if self.refreshes.load(Ordering::Relaxed) < REFRESHES_MAX {
            self.refreshes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// True if a load may begin that nobody waits for; it then counts as begun.
    pub fn may_refresh(&self) -> bool {
        self.refreshes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left > 0).then(|| left - 1)).is_ok()
    }

    fn reset(&self) {
        for counter in [
            &self.waits,
            &self.joined,
            &self.stored,
            &self.voided,
            &self.fenced,
            &self.unkept,
            &self.absent,
            &self.refreshed,
            &self.ahead,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// The server, as commands and connections see it.
pub struct State {
    /// All keys.
    pub keyspace: Keyspace,
    /// The directives in force.
    pub config: ConfigHandle,
    /// Where missing keys come from.
    pub sources: SourcesHandle,
    /// What became of loads.
    pub fills: Fills,
    /// The connections.
    pub clients: Clients,
    /// The users.
    pub acl: Acl,
    /// Counters, one set per worker.
    pub workers: Vec<Arc<WorkerStats>>,
    /// The redis.conf of the command line: CONFIG REWRITE writes it.
    pub config_file: Option<PathBuf>,
    /// What CONFIG SET calls for the log, once there is one.
    pub log_follows: OnceLock<LogFollows>,
    /// `oom_score_adj` of the process as it was before it was set.
    oom_score_inherited: OnceLock<i32>,
    /// When the server started, in ms since the epoch.
    pub started_at: i64,
    /// 40 hexadecimal digits that tell this run from others.
    pub run_id: String,
    /// The same for this history of the data (INFO's `master_replid`).
    pub replication_id: Mutex<String>,
    /// COMMANDLOG and SLOWLOG.
    pub command_logs: CommandLogs,
    /// LATENCY.
    pub latency: LatencyMonitor,
    /// What happened a second: commands, bytes received, bytes sent.
    pub rates: Rates<3>,
    /// Bytes in use before there were keys; 0 before the first [`State::tick`].
    startup_memory: AtomicU64,
    /// The most memory that was seen in use, and when (ms since the epoch).
    peak_memory: Mutex<(u64, i64)>,
    /// When an eviction found nothing last, in ms since the epoch.
    barren_at: AtomicI64,
    /// Set once the server is to stop.
    pub stopping: AtomicBool,
    /// Nothing that is under way is waited for then.
    pub hurried: AtomicBool,
    stopped: Notify,
    /// Connections in MONITOR mode.
    pub monitors: Monitors,
    /// Channels.
    pub pubsub: PubSub,
    /// Connections that keep copies of keys.
    pub trackings: Trackings,
    /// What the server listens on, as INFO's `listener0` and so on tell it.
    pub listeners: Mutex<Vec<String>>,
    /// Asks for other sockets.
    pub moves: Moves,
    /// How TLS is spoken, where there is a port for it.
    pub tls: ArcSwapOption<ServerConfig>,
    /// Keys are removed when their time has come, not only when they are met (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: AtomicBool,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// Loaded scripts, and the one that runs.
    pub scripts: Scripts,
    /// Loaded libraries.
    pub functions: Functions,
    /// Closed while a script runs.
    pub gate: Gate,
}

fn fill_random(bytes: &mut [u8]) {
    // Without the system's randomness the time has to do.
    if getrandom::fill(bytes).is_err() {
        bytes.iter_mut().zip(crate::clock::monotonic_ns().to_le_bytes()).for_each(|(b, t)| *b = t);
    }
}

/// 40 hexadecimal digits.
fn random_id() -> String {
    let mut id = [0u8; 20];
    fill_random(&mut id);
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `hash-seed` says; without one nobody can know which keys fall together.
fn hash_seed(text: &str) -> u64 {
    let mut seed = [0; 8];
    if text.is_empty() {
        fill_random(&mut seed);
    } else {
        seed.copy_from_slice(&Sha256::digest(text)[..8]);
    }
    u64::from_le_bytes(seed)
}

impl State {
    /// A server without connections, for a command table of so many rows.
    pub fn new(
        config: ConfigHandle,
        sources: impl Into<SourcesHandle>,
        workers: usize,
        command_rows: usize,
        config_file: Option<PathBuf>,
        now: i64,
    ) -> Self {
        let databases = config.load().databases as usize;
        let acl = Acl::new(command_rows, &config.load().requirepass);
        let hash_seed = hash_seed(config.load().value("hash-seed").unwrap_or_default());
        let state = Self {
            keyspace: Keyspace::new(databases, workers, hash_seed),
            config,
            sources: sources.into(),
            fills: Fills::default(),
            clients: Clients::default(),
            acl,
            workers: (0..workers).map(|_| Arc::new(WorkerStats::new(command_rows))).collect(),
            config_file,
            log_follows: OnceLock::new(),
            oom_score_inherited: OnceLock::new(),
            started_at: now,
            run_id: random_id(),
            replication_id: Mutex::new(random_id()),
            command_logs: CommandLogs::default(),
            latency: LatencyMonitor::default(),
            rates: Rates::default(),
            startup_memory: AtomicU64::new(0),
            peak_memory: Mutex::new((0, now)),
            barren_at: AtomicI64::new(0),
            stopping: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            stopped: Notify::new(),
            monitors: Monitors::default(),
            pubsub: PubSub::default(),
            trackings: Trackings::default(),
            listeners: Mutex::default(),
            moves: Moves::default(),
            tls: ArcSwapOption::empty(),
            active_expire: AtomicBool::new(true),
            pause: Pause::default(),
            scripts: Scripts::default(),
            functions: Functions::default(),
            gate: Gate::new(workers),
        };
        state.put_into_force(None, &state.config.load());
        state
    }

    /// A counter summed over the workers.
    pub fn sum(&self, counter: impl Fn(&WorkerStats) -> &Cell64) -> u64 {
        self.workers.iter().map(|worker| counter(worker).get()).sum()
    }

    /// Forgets a connection that has ended.
    pub fn disconnect(&self, client: &ClientInfo) {
        self.monitors.remove(client);
        self.clients.disconnect(client.id);
    }

    /// Forgets what a connection that ends has asked for.
    pub fn leave(&self, client: &mut Client) {
        client.set_multi(None);
        client.unwatch(&self.keyspace);
        self.pubsub.leave(client);
        self.set_tracking(client, TrackingOptions::default());
        self.settle_tracking(client);
        self.disconnect(&client.info);
    }

    /// Ends CLIENT PAUSE; the connections that wait go on.
    pub fn unpause(&self) {
        self.pause.end();
        self.clients.each(|client| client.wake());
    }

    /// Takes the samples that INFO's rates and peaks rest on; to be called every 100 ms.
    pub fn tick(&self, now: i64) {
        let counts = [self.sum(|w| &w.processed), self.sum(|w| &w.net_in), self.sum(|w| &w.net_out)];
        self.rates.sample(now, counts);
        let used = crate::alloc::used();
        if self.startup_memory.load(Ordering::Relaxed) == 0 {
            self.startup_memory.store(used, Ordering::Relaxed);
        }
        self.note_memory(used, now);
    }

    /// Bytes in use before there were keys.
    pub fn startup_memory(&self) -> u64 {
        self.startup_memory.load(Ordering::Relaxed)
    }

    /// The most memory that was seen in use, `used` at `now` included, and when (ms since the epoch).
    pub fn note_memory(&self, used: u64, now: i64) -> (u64, i64) {
        let mut peak = self.peak_memory.lock();
        if used > peak.0 {
            *peak = (used, now);
        }
        *peak
    }

    /// Notes how long something took, if that is a latency spike: `latency-monitor-threshold` or longer.
    pub fn note_latency(&self, event: &'static str, ns: u64, now: i64) {
        let threshold = self.config.load().latency_monitor_threshold;
        let ms = ns / 1_000_000;
        if threshold > 0 && ms >= threshold {
            self.latency.add(event, now / 1000, ms);
        }
    }

    /// How often a command took how long, by bucket of a [`Histogram`], over all workers; `id` as in
    /// [`crate::commands::Command::id`]. Empty if it never ran.
    pub fn latency_counts(&self, id: usize) -> Vec<u64> {
        let mut sum: Vec<u64> = Vec::new();
        for histogram in self.workers.iter().filter_map(|worker| worker.commands[id].latency()) {
            let counts = histogram.counts();
            match sum.is_empty() {
                true => sum = counts.collect(),
                false => sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count),
            }
        }
        if sum.iter().all(|count| *count == 0) { Vec::new() } else { sum }
    }

    /// Error replies by their first word.
    pub fn errors(&self) -> BTreeMap<Vec<u8>, u64> {
        let mut sum = BTreeMap::new();
        self.workers.iter().for_each(|worker| worker.error_kinds.add_to(&mut sum));
        sum
    }

    /// Begins another history of the data.
    pub fn change_replication_id(&self) {
        *self.replication_id.lock() = random_id();
    }

    /// Forgets what was counted, as CONFIG RESETSTAT does.
    pub fn reset_stats(&self, now: i64) {
        self.workers.iter().for_each(|worker| worker.reset());
        self.keyspace.reset_counts();
        self.clients.reset_counts();
        self.acl.reset_counts();
        self.fills.reset();
        self.scripts.evicted.store(0, Ordering::Relaxed);
        self.sources.load().reset_counts();
        *self.peak_memory.lock() = (crate::alloc::used(), now);
    }

    /// `client-output-buffer-limit`: too much at once, or more than the soft limit for too long.
    pub fn is_over_output_limit(&self, client: &ClientInfo, config: &Config) -> bool {
        let limit = config.output_limits[client.output_class() as usize];
        let is_over = client.is_over_limit(limit, crate::clock::now_ms());
        if is_over {
            self.clients.output_limit_hits.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(client = client.id, "closed: more unsent replies than client-output-buffer-limit");
        }
        is_over
    }

    /// Asks the server to stop: no connection is accepted any more, and each is closed once its current command is
    /// done and its replies are sent.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stopped.notify_waiters();
        self.clients.each(|client| client.wake());
    }

    /// Waits for [`State::stop`].
    pub async fn stopped(&self) {
        let notified = self.stopped.notified();
        if !self.stopping.load(Ordering::Acquire) {
            notified.await;
        }
    }
}
