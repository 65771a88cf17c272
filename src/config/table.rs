//! The rows: every directive that Redis 8.2 and Valkey 9.1 list or take, and Cenote's own.
//!
//! Defaults, ranges and what may change are those of Redis 8.2; what only Valkey has is as in
//! Valkey 9.1. Cenote differs on purpose in:
//! - `save ""`: there is no persistence yet;
//! - `bind 127.0.0.1 -::1`: loopback, as the redis.conf that is shipped with Redis has it;
//! - `client-output-buffer-limit normal 1gb 0 0`: Redis sets no limit for normal clients, so one
//!   client that asks for much and reads nothing can take all the memory of the server;
//! - `lazyfree-lazy-…` are all `yes`, as in Valkey: nobody waits for memory to be freed unless he asks for it;
//! - `log-format text`: text or json (Valkey's legacy and logfmt are written as text);
//! - `log-timestamp-format iso8601`, which tells the year and the zone;
//! - `shutdown-timeout 2`: there are no replicas to wait for, only what clients have under way.
//!
//! `hide-user-data-from-log` counts as applied: no line of the log holds keys or values, whatever it says.

use crate::version;

use super::directives::{Change, Directive, Effect, Kind, Special, Words};

const INT: i64 = i32::MAX as i64;
const LONG: i64 = i64::MAX;

const LOCAL: &[&str] = &["no", "yes", "local"];
const SHUTDOWN: &[&str] = &["default", "save", "nosave", "now", "force"];
const SHUTDOWN_VALKEY: &[&str] = &["safe", "failover"];
const FACILITIES: &[&str] = &["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"];
const POLICIES: &[&str] = &[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
    "volatile-cost",
    "allkeys-cost",
];

/// All directives, sorted by name.
pub static DIRECTIVES: &[Directive] = &[
    one_of("acl-pubsub-default", &["allchannels", "resetchannels"], "resetchannels").applied(),
    text("aclfile", "").immutable().applied(),
    int("acllog-max-len", 0, LONG, "128").applied(),
    int("active-defrag-cycle-max", 1, 99, "25"),
    int("active-defrag-cycle-min", 1, 99, "1"),
    int("active-defrag-cycle-us", 0, 100000, "500"),
    umemory("active-defrag-ignore-bytes", 1, LONG, "104857600"),
    int("active-defrag-max-scan-fields", 1, LONG, "1000"),
    int("active-defrag-threshold-lower", 0, 1000, "10"),
    int("active-defrag-threshold-upper", 0, 1000, "100"),
    int("active-expire-effort", 1, 10, "1").applied(),
    yes_no("activedefrag", "no"),
    yes_no("activerehashing", "yes"),
    yes_no("always-show-logo", "no").immutable(),
    yes_no("aof-load-truncated", "yes"),
    text("aof-rewrite-cpulist", "").alias(&["aof_rewrite_cpulist"]).immutable(),
    yes_no("aof-rewrite-incremental-fsync", "yes"),
    yes_no("aof-timestamp-enabled", "no"),
    yes_no("aof-use-rdb-preamble", "yes"),
    special("appenddirname", Special::FileName, "appendonlydir").immutable(),
    special("appendfilename", Special::FileName, "appendonly.aof").immutable(),
    one_of("appendfsync", &["everysec", "always", "no"], "everysec"),
    yes_no("appendonly", "no"),
    memory("auto-aof-rewrite-min-size", 0, LONG, "67108864"),
    int("auto-aof-rewrite-percentage", 0, INT, "100"),
    text("availability-zone", "").applied(),
    text("bgsave-cpulist", "").alias(&["bgsave_cpulist"]).immutable(),
    special("bind", Special::Bind, "127.0.0.1 -::1").applied(),
    text("bind-source-addr", ""),
    text("bio-cpulist", "").alias(&["bio_cpulist"]).immutable().applied(),
    int("busy-reply-threshold", 0, LONG, "5000").alias(&["lua-time-limit"]).applied(),
    special(
        "client-output-buffer-limit",
        Special::OutputLimits,
        "normal 1073741824 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    )
    .applied(),
    umemory("client-query-buffer-limit", 1048576, LONG, "1073741824").applied(),
    yes_no("cluster-allow-pubsubshard-when-down", "yes"),
    yes_no("cluster-allow-reads-when-down", "no"),
    yes_no("cluster-allow-replica-migration", "yes"),
    int("cluster-announce-bus-port", 0, 65535, "0"),
    special("cluster-announce-client-ipv4", Special::Ipv4, ""),
    special("cluster-announce-client-ipv6", Special::Ipv6, ""),
    int("cluster-announce-client-port", 0, 65535, "0"),
    int("cluster-announce-client-tls-port", 0, 65535, "0"),
    special("cluster-announce-hostname", Special::Hostname, ""),
    special("cluster-announce-human-nodename", Special::NodeName, ""),
    text("cluster-announce-ip", ""),
    int("cluster-announce-port", 0, 65535, "0"),
    int("cluster-announce-tls-port", 0, 65535, "0"),
    int("cluster-blacklist-ttl", i64::MIN, LONG, "60"),
    int("cluster-compatibility-sample-ratio", 0, 100, "0"),
    text("cluster-config-file", "nodes.conf").immutable(),
    one_of("cluster-config-save-behavior", &["sync", "best-effort"], "sync"),
    int("cluster-databases", 1, INT, "1").immutable(),
    yes_no("cluster-enabled", "no").immutable(),
    umemory("cluster-link-sendbuf-limit", 0, LONG, "0"),
    int("cluster-manual-failover-timeout", 1, INT, "5000"),
    int("cluster-migration-barrier", 0, INT, "1"),
    int("cluster-node-timeout", 0, LONG, "15000"),
    int("cluster-ping-interval", 0, LONG, "0").hidden(),
    int("cluster-port", 0, 65535, "0").immutable(),
    one_of("cluster-preferred-endpoint-type", &["ip", "hostname", "unknown-endpoint"], "ip"),
    yes_no("cluster-replica-no-failover", "no").alias(&["cluster-slave-no-failover"]),
    int("cluster-replica-validity-factor", 0, INT, "10").alias(&["cluster-slave-validity-factor"]),
    yes_no("cluster-require-full-coverage", "yes"),
    int("cluster-slot-migration-log-max-len", 0, LONG, "1000"),
    yes_no("cluster-slot-stats-enabled", "no"),
    int("commandlog-large-reply-max-len", 0, LONG, "128").applied(),
    int("commandlog-large-request-max-len", 0, LONG, "128").applied(),
    int("commandlog-reply-larger-than", -1, LONG, "1048576").applied(),
    int("commandlog-request-larger-than", -1, LONG, "1048576").applied(),
    umemory("compress-threshold", 0, LONG, "0").applied(),
    yes_no("crash-log-enabled", "yes").applied(),
    yes_no("crash-memcheck-enabled", "yes"),
    yes_no("daemonize", "no").immutable().applied(),
    int("databases", 1, INT, "16").applied().immutable(),
    special("dbfilename", Special::FileName, "dump.rdb").protected(),
    special("dir", Special::Dir, ".").protected().applied(),
    yes_no("disable-thp", "yes").applied().immutable(),
    yes_no("dual-channel-replication-enabled", "no"),
    yes_no("dynamic-hz", "yes").applied(),
    one_of("enable-debug-command", LOCAL, "no").applied().immutable(),
    one_of("enable-module-command", LOCAL, "no").immutable(),
    one_of("enable-protected-configs", LOCAL, "no").applied().immutable(),
    yes_no("extended-redis-compatibility", "no"),
    uint("hash-max-listpack-entries", 0, LONG, "512").alias(&["hash-max-ziplist-entries"]).applied(),
    umemory("hash-max-listpack-value", 0, LONG, "64").alias(&["hash-max-ziplist-value"]).applied(),
    text("hash-seed", "").immutable().secret().applied(),
    yes_no("hide-user-data-from-log", "no").applied(),
    umemory("hll-sparse-max-bytes", 0, LONG, "3000").applied(),
    int("hz", 0, INT, "10").applied(),
    text("ignore-warnings", ""),
    yes_no("import-mode", "no").applied(),
    line("include", 1).applied(),
    int("io-threads", 1, 256, "1").immutable(),
    yes_no("io-threads-always-active", "no").hidden(),
    line("io-threads-do-reads", 1),
    yes_no("jemalloc-bg-thread", "yes"),
    int("key-load-delay", -INT - 1, INT, "0").hidden(),
    int("latency-monitor-threshold", 0, LONG, "0").applied(),
    yes_no("latency-tracking", "yes").applied(),
    special("latency-tracking-info-percentiles", Special::Percentiles, "50 99 99.9").applied(),
    yes_no("lazyfree-lazy-eviction", "yes").applied(),
    yes_no("lazyfree-lazy-expire", "yes").applied(),
    yes_no("lazyfree-lazy-server-del", "yes").applied(),
    yes_no("lazyfree-lazy-user-del", "yes").applied(),
    yes_no("lazyfree-lazy-user-flush", "yes").applied(),
    int("lfu-decay-time", 0, INT, "1").applied(),
    int("lfu-log-factor", 0, INT, "10").applied(),
    int("list-compress-depth", 0, INT, "0"),
    int("list-max-listpack-size", -INT - 1, INT, "-2").alias(&["list-max-ziplist-size"]).applied(),
    line("list-max-ziplist-entries", 1),
    line("list-max-ziplist-value", 1),
    int("loading-process-events-interval-bytes", 1024, INT, "524288").hidden(),
    line("loadmodule", 1),
    text("locale-collate", ""),
    one_of("log-format", &["text", "json"], "text").also(&["legacy", "logfmt"]).applied().immutable(),
    one_of("log-timestamp-format", &["legacy", "iso8601", "milliseconds"], "iso8601").applied(),
    text("logfile", "").applied().immutable(),
    one_of("loglevel", &["debug", "verbose", "notice", "warning", "nothing"], "notice").applied(),
    yes_no("lua-enable-deprecated-api", "no").immutable().hidden(),
    yes_no("lua-enable-insecure-api", "no").hidden(),
    line("lua-replicate-commands", 1),
    text("masterauth", "").alias(&["primaryauth"]).secret(),
    text("masteruser", "").alias(&["primaryuser"]),
    uint("max-new-connections-per-cycle", 1, 1000, "10"),
    uint("max-new-tls-connections-per-cycle", 1, 1000, "1"),
    uint("maxclients", 1, 4294967295, "10000").applied(),
    umemory("maxmemory", 0, LONG, "0").applied(),
    memory_or_percent("maxmemory-clients", "0").applied(),
    int("maxmemory-eviction-tenacity", 0, 100, "10").applied(),
    one_of("maxmemory-policy", POLICIES, "noeviction").applied(),
    int("maxmemory-samples", 1, 64, "5").applied(),
    text("metrics-bind", "127.0.0.1").applied().immutable(),
    int("metrics-port", 0, 65535, "0").applied().immutable(),
    int("min-replicas-max-lag", 0, INT, "10").alias(&["min-slaves-max-lag"]),
    int("min-replicas-to-write", 0, INT, "0").alias(&["min-slaves-to-write"]),
    yes_no("mptcp", "no").immutable().applied(),
    yes_no("no-appendfsync-on-rewrite", "no"),
    special("notify-keyspace-events", Special::NotifyEvents, "").applied(),
    one_of("oom-score-adj", &["no", "yes", "relative", "absolute"], "no").applied(),
    special("oom-score-adj-values", Special::OomScores, "0 200 800").applied(),
    text("pidfile", "").immutable().applied(),
    int("port", 0, 65535, "6379").applied(),
    int("prefetch-batch-max-size", 0, 128, "16"),
    special("proc-title-template", Special::TitleTemplate, "{title} {listen-addr} {server-mode}"),
    one_of("propagation-error-behavior", &["ignore", "panic", "panic-on-replicas"], "ignore"),
    yes_no("protected-mode", "yes").applied(),
    memory("proto-max-bulk-len", 1048576, LONG, "536870912").applied(),
    yes_no("rdb-del-sync-files", "no"),
    int("rdb-key-save-delay", -INT - 1, INT, "0").hidden(),
    yes_no("rdb-save-incremental-fsync", "yes"),
    one_of("rdb-version-check", &["strict", "relaxed"], "strict").applied(),
    yes_no("rdbchecksum", "yes").immutable(),
    yes_no("rdbcompression", "yes"),
    text("rdma-bind", ""),
    int("rdma-completion-vector", -1, 1024, "-1").immutable(),
    int("rdma-port", 0, 65535, "0"),
    int("rdma-rx-size", 65536, 16777216, "1048576").immutable(),
    special("redis-version", Special::Version, version::REDIS).applied(),
    line("rename-command", 2).applied(),
    memory("repl-backlog-size", 1, LONG, "1048576"),
    int("repl-backlog-ttl", 0, LONG, "3600"),
    yes_no("repl-disable-tcp-nodelay", "no"),
    one_of("repl-diskless-load", &["disabled", "on-empty-db", "swapdb"], "disabled").also(&["flush-before-load"]),
    yes_no("repl-diskless-sync", "yes"),
    int("repl-diskless-sync-delay", 0, INT, "5"),
    int("repl-diskless-sync-max-replicas", 0, INT, "0"),
    yes_no("repl-mptcp", "no").immutable(),
    int("repl-ping-replica-period", 1, INT, "10").alias(&["repl-ping-slave-period"]),
    yes_no("repl-rdb-channel", "yes").hidden(),
    int("repl-timeout", 1, INT, "60"),
    text("replica-announce-ip", "").alias(&["slave-announce-ip"]),
    int("replica-announce-port", 0, 65535, "0").alias(&["slave-announce-port"]),
    yes_no("replica-announced", "yes"),
    memory("replica-full-sync-buffer-limit", 0, LONG, "0"),
    yes_no("replica-ignore-disk-write-errors", "no"),
    yes_no("replica-ignore-maxmemory", "yes").alias(&["slave-ignore-maxmemory"]),
    yes_no("replica-lazy-flush", "no").alias(&["slave-lazy-flush"]),
    int("replica-priority", 0, INT, "100").alias(&["slave-priority"]),
    yes_no("replica-read-only", "yes").alias(&["slave-read-only"]),
    yes_no("replica-serve-stale-data", "yes").alias(&["slave-serve-stale-data"]),
    special("replicaof", Special::ReplicaOf, "").alias(&["slaveof"]).immutable(),
    text("requirepass", "").applied().secret(),
    text("routes", "").applied().immutable(),
    one_of("sanitize-dump-payload", &["no", "yes", "clients"], "no"),
    special("save", Special::Save, ""),
    text("server-cpulist", "").alias(&["server_cpulist"]).immutable().applied(),
    uint("set-max-intset-entries", 0, LONG, "512").applied(),
    uint("set-max-listpack-entries", 0, LONG, "128").applied(),
    uint("set-max-listpack-value", 0, LONG, "64").applied(),
    yes_no("set-proc-title", "yes").immutable(),
    flags("shutdown-on-sigint", SHUTDOWN, "default").also(SHUTDOWN_VALKEY).applied(),
    flags("shutdown-on-sigterm", SHUTDOWN, "default").also(SHUTDOWN_VALKEY).applied(),
    int("shutdown-timeout", 0, INT, "2").applied(),
    memory("slot-migration-max-failover-repl-bytes", -1, LONG, "0"),
    int("slowlog-log-slower-than", -1, LONG, "10000").alias(&["commandlog-execution-slower-than"]).applied(),
    int("slowlog-max-len", 0, LONG, "128").alias(&["commandlog-slow-execution-max-len"]).applied(),
    uint("socket-mark-id", 0, 4294967295, "0").immutable().applied(),
    yes_no("stop-writes-on-bgsave-error", "yes"),
    umemory("stream-node-max-bytes", 0, LONG, "4096").applied(),
    int("stream-node-max-entries", 0, LONG, "100").applied(),
    one_of("supervised", &["upstart", "systemd", "auto", "no"], "no").immutable().applied(),
    yes_no("syslog-enabled", "no").immutable().applied(),
    one_of("syslog-facility", FACILITIES, "local0").immutable().applied(),
    text("syslog-ident", "redis").immutable().applied(),
    int("tcp-backlog", 0, INT, "511").applied().immutable(),
    int("tcp-keepalive", 0, INT, "300").applied(),
    int("timeout", 0, INT, "0").applied(),
    one_of("tls-auth-clients", &["no", "yes", "optional"], "yes").applied(),
    one_of("tls-auth-clients-user", &["CN", "URI", "off"], "off"),
    int("tls-auto-reload-interval", 0, INT, "0").applied(),
    text("tls-ca-cert-dir", "").applied(),
    text("tls-ca-cert-file", "").applied(),
    text("tls-cert-file", "").applied(),
    text("tls-ciphers", "").applied(),
    text("tls-ciphersuites", "").applied(),
    text("tls-client-cert-file", ""),
    text("tls-client-key-file", ""),
    text("tls-client-key-file-pass", "").secret(),
    yes_no("tls-cluster", "no"),
    text("tls-dh-params-file", ""),
    text("tls-key-file", "").applied(),
    text("tls-key-file-pass", "").secret(),
    int("tls-port", 0, 65535, "0").applied(),
    yes_no("tls-prefer-server-ciphers", "no").applied(),
    text("tls-protocols", "").applied(),
    yes_no("tls-replication", "no"),
    int("tls-session-cache-size", 0, INT, "20480").applied(),
    int("tls-session-cache-timeout", 0, INT, "300").applied(),
    yes_no("tls-session-caching", "yes").applied(),
    uint("tracking-table-max-keys", 0, LONG, "1000000").applied(),
    text("unixsocket", "").applied().immutable(),
    text("unixsocketgroup", "").immutable().applied(),
    octal("unixsocketperm", 0o777, "0").applied().immutable(),
    yes_no("use-exit-on-panic", "no").hidden(),
    line("user", 1).applied().secret(),
    yes_no("vset-force-single-threaded-execution", "no"),
    int("watchdog-period", 0, INT, "0").hidden(),
    int("workers", 0, 1024, "0").applied().immutable(),
    uint("zset-max-listpack-entries", 0, LONG, "128").alias(&["zset-max-ziplist-entries"]).applied(),
    umemory("zset-max-listpack-value", 0, LONG, "64").alias(&["zset-max-ziplist-value"]).applied(),
];

const fn row(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    Directive {
        name,
        aliases: &[],
        kind,
        default,
        change: Change::Live,
        effect: Effect::Accepted,
        hidden: false,
        secret: false,
    }
}

const fn yes_no(name: &'static str, default: &'static str) -> Directive {
    row(name, Kind::Bool, default)
}

const fn int(name: &'static str, min: i64, max: i64, default: &'static str) -> Directive {
    row(name, Kind::Int { min, max, unsigned: false }, default)
}

const fn uint(name: &'static str, min: i64, max: i64, default: &'static str) -> Directive {
    row(name, Kind::Int { min, max, unsigned: true }, default)
}

const fn octal(name: &'static str, max: i64, default: &'static str) -> Directive {
    row(name, Kind::Octal { max }, default)
}

const fn memory(name: &'static str, min: i64, max: i64, default: &'static str) -> Directive {
    row(name, Kind::Memory { min, max, unsigned: false }, default)
}

const fn umemory(name: &'static str, min: i64, max: i64, default: &'static str) -> Directive {
    row(name, Kind::Memory { min, max, unsigned: true }, default)
}

const fn memory_or_percent(name: &'static str, default: &'static str) -> Directive {
    row(name, Kind::MemoryOrPercent, default)
}

const fn one_of(name: &'static str, listed: &'static [&'static str], default: &'static str) -> Directive {
    row(name, Kind::Enum(Words { listed, also: &[] }), default)
}

const fn flags(name: &'static str, listed: &'static [&'static str], default: &'static str) -> Directive {
    row(name, Kind::Flags(Words { listed, also: &[] }), default)
}

const fn text(name: &'static str, default: &'static str) -> Directive {
    row(name, Kind::Text, default)
}

const fn special(name: &'static str, special: Special, default: &'static str) -> Directive {
    row(name, Kind::Special(special), default)
}

const fn line(name: &'static str, words: usize) -> Directive {
    row(name, Kind::Line { words }, "")
}

impl Directive {
    const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn applied(mut self) -> Self {
        self.effect = Effect::Applied;
        self
    }

    const fn immutable(mut self) -> Self {
        self.change = Change::Immutable;
        self
    }

    const fn protected(mut self) -> Self {
        self.change = Change::Protected;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Takes further words, which error texts do not list.
    const fn also(mut self, also: &'static [&'static str]) -> Self {
        self.kind = match self.kind {
            Kind::Enum(words) => Kind::Enum(Words { listed: words.listed, also }),
            Kind::Flags(words) => Kind::Flags(Words { listed: words.listed, also }),
            other => other,
        };
        self
    }
}
