//! What a command may reach beyond its keys: the keyspace as a whole, the clients, the configuration, the
//! counters. No sockets, no locks held over a command.

mod client;
mod stats;

pub use client::{Client, ClientInfo, Clients, Kind, ReplyMode};
pub use stats::{Cell64, CommandStats, Histogram, WorkerStats};

use crate::config::ConfigHandle;
use crate::keyspace::Keyspace;
use crate::source::Sources;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

/// The server, as commands and connections see it.
pub struct State {
    /// All keys.
    pub keyspace: Keyspace,
    /// The directives in force.
    pub config: ConfigHandle,
    /// Where missing keys come from.
    pub sources: Sources,
    /// The connections.
    pub clients: Clients,
    /// Counters, one set per worker.
    pub workers: Vec<Arc<WorkerStats>>,
    /// The redis.conf of the command line: CONFIG REWRITE writes it.
    pub config_file: Option<PathBuf>,
    /// When the server started, in ms since the epoch.
    pub started_at: i64,
    /// 40 hexadecimal digits that tell this run from others.
    pub run_id: String,
    /// Set once the server is to stop.
    pub stopping: AtomicBool,
    /// Connections in MONITOR mode.
    pub monitors: AtomicUsize,
    /// Keys are removed when their time has come, not only when they are met (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expire: AtomicBool,
    /// CLIENT PAUSE: until when (ms since the epoch), and whether only writes wait.
    pub paused_until: AtomicI64,
    /// See `paused_until`.
    pub pause_writes_only: AtomicBool,
}

impl State {
    /// A server without connections, for a command table of so many rows.
    pub fn new(
        config: ConfigHandle,
        sources: Sources,
        workers: usize,
        command_rows: usize,
        config_file: Option<PathBuf>,
        now: i64,
    ) -> Self {
        let seed = |bytes: &mut [u8]| {
            // Without the system's randomness the time has to do.
            if getrandom::fill(bytes).is_err() {
                bytes.iter_mut().zip(crate::clock::monotonic_ns().to_le_bytes()).for_each(|(b, t)| *b = t);
            }
        };
        let mut hash_seed = [0u8; 8];
        seed(&mut hash_seed);
        let mut run_id = [0u8; 20];
        seed(&mut run_id);
        let databases = config.load().databases as usize;
        Self {
            keyspace: Keyspace::new(databases, workers, u64::from_le_bytes(hash_seed)),
            config,
            sources,
            clients: Clients::default(),
            workers: (0..workers).map(|_| Arc::new(WorkerStats::new(command_rows))).collect(),
            config_file,
            started_at: now,
            run_id: run_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            stopping: AtomicBool::new(false),
            monitors: AtomicUsize::new(0),
            active_expire: AtomicBool::new(true),
            paused_until: AtomicI64::new(0),
            pause_writes_only: AtomicBool::new(false),
        }
    }

    /// A counter summed over the workers.
    pub fn sum(&self, counter: impl Fn(&WorkerStats) -> &Cell64) -> u64 {
        self.workers.iter().map(|worker| counter(worker).get()).sum()
    }

    /// Asks the server to stop: connections are closed once their current command is done.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.clients.each(|client| client.kill());
    }
}
