//! Stand-in until the directives are in.
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
/// The values in force.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct Config {
    pub databases: i64,
    pub maxmemory: u64,
    pub port: u16,
    pub proto_max_bulk_len: u64,
    pub client_query_buffer_limit: u64,
    pub slowlog_log_slower_than: i64,
    pub latency_tracking: bool,
    pub requirepass: String,
    pub maxclients: i64,
    pub hz: i64,
    pub output_limits: [OutputLimit; 3],
}
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputLimit {
    pub hard: u64,
    pub soft: u64,
    pub soft_seconds: u64,
}
impl Default for Config {
    fn default() -> Self {
        Self {
            databases: 16,
            maxmemory: 0,
            port: 6379,
            proto_max_bulk_len: 512 << 20,
            client_query_buffer_limit: 1 << 30,
            slowlog_log_slower_than: 10_000,
            latency_tracking: true,
            requirepass: String::new(),
            maxclients: 10_000,
            hz: 10,
            output_limits: Default::default(),
        }
    }
}
/// Handle.
#[derive(Debug, Default)]
pub struct ConfigHandle {
    current: RwLock<Arc<Config>>,
    version: AtomicU64,
}
#[allow(missing_docs)]
impl ConfigHandle {
    pub fn new(config: Config) -> Self {
        Self { current: RwLock::new(Arc::new(config)), version: AtomicU64::new(1) }
    }
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
    pub fn load(&self) -> Arc<Config> {
        self.current.read().clone()
    }
}
