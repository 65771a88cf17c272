//! The values that Cenote acts on, typed, so that the hot path reads a field. Made from the
//! canonical texts of a `Config`; knows no parsing of user input.

use super::directives::find;
use super::limits::Limits;
use super::value::{OutputLimit, parse_limits};

/// How much is logged; each level includes those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Little of use in production.
    Verbose,
    /// The default.
    Notice,
    /// Only what matters.
    Warning,
    /// Nothing at all.
    Nothing,
}

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How a line of the log tells its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTimestamp {
    /// `25 Nov 2026 10:54:48.123`.
    Legacy,
    /// `2026-11-25T10:54:48.123Z`.
    Iso8601,
    /// Milliseconds since the epoch.
    Milliseconds,
}

/// How willing this process is to be killed when the machine has no memory left (`/proc/self/oom_score_adj`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomScore {
    /// As whoever started it wants it.
    Inherited,
    /// By so much more.
    Relative(i32),
    /// So much.
    Absolute(i32),
}

/// Which keys go when memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxmemoryPolicy {
    /// The least recently used of the keys with a TTL.
    VolatileLru,
    /// The least frequently used of the keys with a TTL.
    VolatileLfu,
    /// Any key with a TTL.
    VolatileRandom,
    /// The key with the shortest TTL.
    VolatileTtl,
    /// The least recently used key.
    AllkeysLru,
    /// The least frequently used key.
    AllkeysLfu,
    /// Any key.
    AllkeysRandom,
    /// Evicts the key whose loss costs least.
    AllkeysCost,
    /// The same among keys with a TTL.
    VolatileCost,
    /// None: writes are refused.
    NoEviction,
}

/// Who may use what is dangerous (`DEBUG`, protected directives).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Nobody.
    No,
    /// Everybody.
    Yes,
    /// Connections from this machine.
    Local,
}

impl Allowed {
    /// Whether a connection may, given whether it comes from this machine.
    pub fn permits(self, local: bool) -> bool {
        self == Allowed::Yes || self == Allowed::Local && local
    }
}

/// One address of `bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAddr {
    /// A host name, an address, `*` (any IPv4 address) or `::*` (any IPv6 address).
    pub host: String,
    /// It was written with a `-`: no fault if this machine does not have it.
    pub optional: bool,
}

/// `maxmemory-clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMemory {
    /// So many bytes; 0: no limit.
    Bytes(u64),
    /// So many percent of `maxmemory`.
    Percent(u64),
}

impl ClientMemory {
    /// Bytes that connections may take together, if that is limited.
    pub fn limit(self, maxmemory: u64) -> Option<u64> {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (u128::from(maxmemory) * u128::from(percent) / 100) as u64,
        };
        (bytes > 0).then_some(bytes)
    }
}

/// The values that Cenote acts on. Field names are the directives' own.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// TCP port; 0: none.
    pub port: u16,
    /// Addresses to listen on; none: no TCP.
    pub bind: Vec<BindAddr>,
    /// Whether clients from elsewhere are refused while there is no password.
    pub protected_mode: bool,
    /// The password of the default user; empty: none. A secret.
    pub requirepass: String,
    /// The file with the users; empty: none.
    pub aclfile: String,
    /// `acl-pubsub-default allchannels`: new users may use all channels.
    pub acl_pubsub_default_all: bool,
    /// Entries kept of ACL LOG.
    pub acllog_max_len: u64,
    /// Path of the Unix socket; empty: none.
    pub unixsocket: String,
    /// `notify-keyspace-events`: letters.
    pub notify_keyspace_events: String,
    /// Its file mode; 0: as the umask has it.
    pub unixsocketperm: u32,
    /// Its group, by name or number; empty: that of the process.
    pub unixsocketgroup: String,
    /// Whether TCP may use several paths at a time.
    pub mptcp: bool,
    /// The mark of TCP sockets, for the system's packet filters; 0: none.
    pub socket_mark_id: u32,
    /// Most connections at a time.
    pub maxclients: u32,
    /// Seconds after which an idle client is closed; 0: never.
    pub timeout: u32,
    /// Seconds between TCP keep-alives; 0: none.
    pub tcp_keepalive: u32,
    /// Backlog of `listen(2)`.
    pub tcp_backlog: u32,
    /// Number of databases.
    pub databases: u32,
    /// The log.
    pub log: LogSettings,
    /// File to write the process id to; empty: none.
    pub pidfile: String,
    /// Whether the server leaves the terminal that it is started from.
    pub daemonize: bool,
    /// How willing the process is to be killed for its memory.
    pub oom_score: OomScore,
    /// Seconds that commands and replies under way may still take once the server is to stop.
    pub shutdown_timeout: u32,
    /// SIGINT leaves them no time.
    pub shutdown_now_on_sigint: bool,
    /// SIGTERM leaves them no time.
    pub shutdown_now_on_sigterm: bool,
    /// Bytes of memory to use; 0: no limit.
    pub maxmemory: u64,
    /// What to do when they are used up.
    pub maxmemory_policy: MaxmemoryPolicy,
    /// How many keys are looked at to find one to evict, 1 to 64.
    pub maxmemory_samples: u32,
    /// How long a command may evict, 0 to 100.
    pub maxmemory_eviction_tenacity: u32,
    /// How many hits it takes to saturate an LFU counter.
    pub lfu_log_factor: u32,
    /// Minutes after which an LFU counter is halved; 0: never.
    pub lfu_decay_time: u32,
    /// Background work a second, 1 to 500; see [`Settings::hz_for`].
    pub hz: u32,
    /// Whether `hz` rises with the number of clients.
    pub dynamic_hz: bool,
    /// How hard expired keys are looked for, 1 to 10.
    pub active_expire_effort: u32,
    /// Most bytes of one argument.
    pub proto_max_bulk_len: u64,
    /// How values are kept.
    pub limits: Limits,
    /// Most bytes of a client's unread requests.
    pub client_query_buffer_limit: u64,
    /// Most bytes of unsent replies, of the classes normal, replica, pubsub.
    pub output_limits: [OutputLimit; 3],
    /// Microseconds from which a command is logged; 0: all; negative: none.
    pub slowlog_log_slower_than: i64,
    /// Entries kept of them.
    pub slowlog_max_len: u64,
    /// Bytes from which a request is logged; none is: `u64::MAX`.
    pub commandlog_request_larger_than: u64,
    /// Entries kept of them.
    pub commandlog_large_request_max_len: u64,
    /// Bytes from which a reply is logged; none is: `u64::MAX`.
    pub commandlog_reply_larger_than: u64,
    /// Entries kept of them.
    pub commandlog_large_reply_max_len: u64,
    /// `maxmemory-clients`: bytes that connections may take together; 0: no limit.
    pub maxmemory_clients: ClientMemory,
    /// Milliseconds from which on a script that runs is busy, and others are told so; 0: never.
    pub busy_reply_threshold: i64,
    /// Milliseconds from which an event is a latency spike; 0: none is.
    pub latency_monitor_threshold: u64,
    /// Whether command latencies are collected.
    pub latency_tracking: bool,
    /// Which percentiles of them INFO prints.
    pub latency_tracking_info_percentiles: Vec<f64>,
    /// Who may use DEBUG.
    pub enable_debug_command: Allowed,
    /// Who may set protected directives.
    pub enable_protected_configs: Allowed,
    /// `lazyfree-lazy-…`: whether values are freed in the background that were evicted, have expired, were replaced, were
    /// deleted, or flushed.
    pub lazyfree: [bool; 5],
    /// Keys that are remembered for CLIENT TRACKING, at most; 0: no limit.
    pub tracking_table_max_keys: u64,
    /// The version of Redis that clients are told.
    pub redis_version: String,
    /// The TCP port for TLS; 0: none.
    pub tls_port: u16,
    /// What TLS is made of.
    pub tls: TlsSettings,
    /// The file of sources and routes; empty: none.
    pub routes: String,
    /// Port of the metrics; 0: none.
    pub metrics_port: u16,
    /// Address of the metrics.
    pub metrics_bind: String,
    /// Number of workers; 0: one a core.
    pub workers: u32,
}

/// The log: what is written, how and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// What is logged.
    pub level: LogLevel,
    /// How it is logged.
    pub format: LogFormat,
    /// How a line tells its time.
    pub timestamp: LogTimestamp,
    /// Whether a fault of the program is logged with where it happened.
    pub tells_where: bool,
    /// Where it is logged; empty: standard output.
    pub file: String,
    /// As whom the system's log is told besides, and under which facility's number, if it is.
    pub syslog: Option<(String, u8)>,
}

/// What TLS for clients is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate, and those that lead from it to an authority.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// Authorities that may have signed clients' certificates.
    pub ca_cert_file: String,
    /// A folder of more such files.
    pub ca_cert_dir: String,
    /// Whether clients have to show a certificate.
    pub auth_clients: TlsAuth,
    /// Versions of the protocol; empty: all.
    pub protocols: String,
    /// Cipher suites of TLS 1.2; empty: all.
    pub ciphers: String,
    /// Cipher suites of TLS 1.3; empty: all.
    pub ciphersuites: String,
    /// The order of the server's suites counts, not that of the client's.
    pub prefer_server_ciphers: bool,
    /// A client may resume its session.
    pub session_caching: bool,
    /// Sessions that are remembered; 0: as many as is reasonable.
    pub session_cache_size: usize,
    /// How long they are remembered; 0: without a limit.
    pub session_cache_seconds: i64,
    /// The files are read anew so often; 0: never.
    pub auto_reload_seconds: u64,
}

/// `tls-auth-clients`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsAuth {
    /// They need no certificate.
    No,
    /// One that is shown must be good.
    Optional,
    /// They need one.
    #[default]
    Yes,
}

impl Settings {
    /// Reads the canonical texts, in the order of the table.
    pub(super) fn new(values: &[std::sync::Arc<str>]) -> Self {
        let get = |name: &str| -> &str { find(name.as_bytes()).map_or("", |found| &values[found.index]) };
        let yes = |name: &str| get(name) == "yes";
        let text = |name| get(name).to_owned();
        let uint = |name| number::<u32>(get(name));
        Settings {
            port: number(get("port")),
            bind: get("bind").split_whitespace().map(bind_addr).collect(),
            protected_mode: yes("protected-mode"),
            requirepass: text("requirepass"),
            aclfile: text("aclfile"),
            acl_pubsub_default_all: get("acl-pubsub-default") == "allchannels",
            acllog_max_len: number(get("acllog-max-len")),
            unixsocket: text("unixsocket"),
            notify_keyspace_events: text("notify-keyspace-events"),
            unixsocketgroup: text("unixsocketgroup"),
            mptcp: yes("mptcp"),
            socket_mark_id: uint("socket-mark-id"),
            unixsocketperm: u32::from_str_radix(get("unixsocketperm"), 8).unwrap_or(0),
            maxclients: uint("maxclients"),
            timeout: uint("timeout"),
            tcp_keepalive: uint("tcp-keepalive"),
            tcp_backlog: uint("tcp-backlog"),
            databases: uint("databases"),
            log: log(get),
            pidfile: text("pidfile"),
            daemonize: yes("daemonize"),
            oom_score: oom_score(get("oom-score-adj"), get("oom-score-adj-values")),
            shutdown_timeout: uint("shutdown-timeout"),
            shutdown_now_on_sigint: has_word(get("shutdown-on-sigint"), "now"),
            shutdown_now_on_sigterm: has_word(get("shutdown-on-sigterm"), "now"),
            maxmemory: number(get("maxmemory")),
            maxmemory_policy: policy(get("maxmemory-policy")),
            maxmemory_samples: uint("maxmemory-samples"),
            maxmemory_eviction_tenacity: uint("maxmemory-eviction-tenacity"),
            lfu_log_factor: uint("lfu-log-factor"),
            lfu_decay_time: uint("lfu-decay-time"),
            hz: uint("hz"),
            dynamic_hz: yes("dynamic-hz"),
            active_expire_effort: uint("active-expire-effort"),
            proto_max_bulk_len: number(get("proto-max-bulk-len")),
            limits: limits(get),
            client_query_buffer_limit: number(get("client-query-buffer-limit")),
            output_limits: parse_limits(get("client-output-buffer-limit")),
            slowlog_log_slower_than: number(get("slowlog-log-slower-than")),
            slowlog_max_len: number(get("slowlog-max-len")),
            commandlog_request_larger_than: size_or_none(get("commandlog-request-larger-than")),
            commandlog_large_request_max_len: number(get("commandlog-large-request-max-len")),
            commandlog_reply_larger_than: size_or_none(get("commandlog-reply-larger-than")),
            commandlog_large_reply_max_len: number(get("commandlog-large-reply-max-len")),
            maxmemory_clients: client_memory(get("maxmemory-clients")),
            busy_reply_threshold: number(get("busy-reply-threshold")),
            latency_monitor_threshold: number(get("latency-monitor-threshold")),
            latency_tracking: yes("latency-tracking"),
            latency_tracking_info_percentiles: get("latency-tracking-info-percentiles")
                .split_whitespace()
                .map(number)
                .collect(),
            enable_debug_command: allowed(get("enable-debug-command")),
            enable_protected_configs: allowed(get("enable-protected-configs")),
            lazyfree: ["eviction", "expire", "server-del", "user-del", "user-flush"]
                .map(|cause| yes(&format!("lazyfree-lazy-{cause}"))),
            tracking_table_max_keys: number(get("tracking-table-max-keys")),
            redis_version: text("redis-version"),
            tls_port: number(get("tls-port")),
            tls: tls(get),
            routes: text("routes"),
            metrics_port: number(get("metrics-port")),
            metrics_bind: text("metrics-bind"),
            workers: uint("workers"),
        }
    }

    /// Background work a second with so many connections: `hz`, or, with `dynamic-hz`, doubled until no more than
    /// [`CONNECTIONS_AT_ONCE`] of them fall to each time.
    pub fn hz_for(&self, connections: usize) -> u32 {
        let mut hz = self.hz.max(1);
        while self.dynamic_hz && hz < HZ_MAX && connections / hz as usize > CONNECTIONS_AT_ONCE {
            hz *= 2;
        }
        hz.min(HZ_MAX)
    }
}

/// The most that `hz` may be.
const HZ_MAX: u32 = 500;
/// Connections that are looked at at a time, with `dynamic-hz`, as in Redis.
const CONNECTIONS_AT_ONCE: usize = 200;

fn log<'a>(get: impl Fn(&str) -> &'a str) -> LogSettings {
    LogSettings {
        level: loglevel(get("loglevel")),
        format: if get("log-format") == "json" { LogFormat::Json } else { LogFormat::Text },
        timestamp: match get("log-timestamp-format") {
            "legacy" => LogTimestamp::Legacy,
            "milliseconds" => LogTimestamp::Milliseconds,
            _ => LogTimestamp::Iso8601,
        },
        tells_where: get("crash-log-enabled") == "yes",
        file: get("logfile").to_owned(),
        syslog: (get("syslog-enabled") == "yes")
            .then(|| (get("syslog-ident").to_owned(), facility(get("syslog-facility")))),
    }
}

/// The number of a facility of the system's log: `user` is 1, `local0` 16.
fn facility(name: &str) -> u8 {
    name.strip_prefix("local").and_then(|number| number.parse::<u8>().ok()).map_or(1, |number| 16 + number)
}

fn tls<'a>(get: impl Fn(&str) -> &'a str) -> TlsSettings {
    let text = |name| get(name).to_owned();
    TlsSettings {
        cert_file: text("tls-cert-file"),
        key_file: text("tls-key-file"),
        ca_cert_file: text("tls-ca-cert-file"),
        ca_cert_dir: text("tls-ca-cert-dir"),
        auth_clients: match get("tls-auth-clients") {
            "no" => TlsAuth::No,
            "optional" => TlsAuth::Optional,
            _ => TlsAuth::Yes,
        },
        protocols: text("tls-protocols"),
        ciphers: text("tls-ciphers"),
        ciphersuites: text("tls-ciphersuites"),
        prefer_server_ciphers: get("tls-prefer-server-ciphers") == "yes",
        session_caching: get("tls-session-caching") == "yes",
        session_cache_size: number(get("tls-session-cache-size")),
        session_cache_seconds: number(get("tls-session-cache-timeout")),
        auto_reload_seconds: number(get("tls-auto-reload-interval")),
    }
}

/// How values are kept.
fn limits<'a>(get: impl Fn(&str) -> &'a str) -> Limits {
    Limits {
        max_string: number(get("proto-max-bulk-len")),
        compress_threshold: number(get("compress-threshold")),
        hash_max_listpack_entries: number(get("hash-max-listpack-entries")),
        hash_max_listpack_value: number(get("hash-max-listpack-value")),
        list_max_listpack_size: number(get("list-max-listpack-size")),
        set_max_intset_entries: number(get("set-max-intset-entries")),
        set_max_listpack_entries: number(get("set-max-listpack-entries")),
        set_max_listpack_value: number(get("set-max-listpack-value")),
        zset_max_listpack_entries: number(get("zset-max-listpack-entries")),
        zset_max_listpack_value: number(get("zset-max-listpack-value")),
        stream_node_max_bytes: number(get("stream-node-max-bytes")),
        stream_node_max_entries: number(get("stream-node-max-entries")),
        hll_sparse_max_bytes: number(get("hll-sparse-max-bytes")),
        import_mode: get("import-mode") == "yes",
        any_dump_version: get("rdb-version-check") == "relaxed",
    }
}

/// A number of a canonical text, whose range the table has checked.
fn number<T: std::str::FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

/// A size from which something is done; a negative one means never.
fn size_or_none(text: &str) -> u64 {
    text.parse().unwrap_or(u64::MAX)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|other| other == word)
}

/// `values` are those of a master, a replica and a child that saves; here is a master alone.
fn oom_score(how: &str, values: &str) -> OomScore {
    let value = number(values.split_whitespace().next().unwrap_or_default());
    match how {
        "yes" | "relative" => OomScore::Relative(value),
        "absolute" => OomScore::Absolute(value),
        _ => OomScore::Inherited,
    }
}

fn client_memory(text: &str) -> ClientMemory {
    match text.strip_suffix('%') {
        Some(percent) => ClientMemory::Percent(number(percent)),
        None => ClientMemory::Bytes(number(text)),
    }
}

fn bind_addr(word: &str) -> BindAddr {
    let (host, optional) = match word.strip_prefix('-') {
        Some(host) => (host, true),
        None => (word, false),
    };
    BindAddr { host: host.to_owned(), optional }
}

fn loglevel(text: &str) -> LogLevel {
    match text {
        "debug" => LogLevel::Debug,
        "verbose" => LogLevel::Verbose,
        "warning" => LogLevel::Warning,
        "nothing" => LogLevel::Nothing,
        _ => LogLevel::Notice,
    }
}

fn policy(text: &str) -> MaxmemoryPolicy {
    match text {
        "volatile-lru" => MaxmemoryPolicy::VolatileLru,
        "volatile-lfu" => MaxmemoryPolicy::VolatileLfu,
        "volatile-random" => MaxmemoryPolicy::VolatileRandom,
        "volatile-ttl" => MaxmemoryPolicy::VolatileTtl,
        "allkeys-lru" => MaxmemoryPolicy::AllkeysLru,
        "allkeys-lfu" => MaxmemoryPolicy::AllkeysLfu,
        "allkeys-random" => MaxmemoryPolicy::AllkeysRandom,
        "allkeys-cost" => MaxmemoryPolicy::AllkeysCost,
        "volatile-cost" => MaxmemoryPolicy::VolatileCost,
        _ => MaxmemoryPolicy::NoEviction,
    }
}

fn allowed(text: &str) -> Allowed {
    match text {
        "yes" => Allowed::Yes,
        "local" => Allowed::Local,
        _ => Allowed::No,
    }
}
