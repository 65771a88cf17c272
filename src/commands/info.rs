//! INFO: the server in figures, with the fields and the order of Redis 8.2, so that dashboards find them. What makes
//! no sense here has Redis's neutral value. Knows the server's state only.

use super::{Acl, Args, Ctx, Flags, Outcome, Run, Spec, registry};
use crate::keyspace::{Access, Counts, lazy_freed};
use crate::protocol::Reply;
use crate::source::{BreakerSnapshot, Cause, FeedSnapshot, PoolSnapshot, SourceSnapshot};
use crate::state::acl::Denial;
use crate::state::{CommandStats, Kind, State, percentile_ns};
use crate::{clock, process, version};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "info",
    arity: -1,
    flags: Flags::LOADING.or(Flags::STALE),
    acl: Acl::DANGEROUS,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    group: "server",
    syntax: "[section [section ...]]",
    summary: "Returns figures about the server, by section.",
    locks: true,
    run: Run::Server(info),
    ..Spec::BASE
}];

/// A section: its name, its title, whether it is shown unless told, and what fills it.
struct Section(&'static str, &'static str, bool, fn(&mut Page<'_>));

const SECTIONS: &[Section] = &[
    Section("server", "Server", true, server),
    Section("clients", "Clients", true, clients),
    Section("memory", "Memory", true, memory),
    Section("persistence", "Persistence", true, persistence),
    Section("threads", "Threads", true, threads),
    Section("stats", "Stats", true, stats),
    Section("replication", "Replication", true, replication),
    Section("cpu", "CPU", true, cpu),
    Section("modules", "Modules", true, |_| {}),
    Section("commandstats", "Commandstats", false, command_stats),
    Section("errorstats", "Errorstats", true, error_stats),
    Section("latencystats", "Latencystats", false, latency_stats),
    Section("cluster", "Cluster", true, |page| page.add("cluster_enabled", 0)),
    Section("keyspace", "Keyspace", true, keyspace),
    Section("readthrough", "Readthrough", true, read_through),
];

fn info(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let named = |name: &str| (1..args.len()).any(|index| args.is(index, name));
    let all = named("all") || named("everything");
    let default = args.len() == 1 || named("default");
    let mut page = Page { text: String::new(), state: ctx.state, now: ctx.now };
    for Section(name, title, is_default, fill) in SECTIONS {
        if all || (default && *is_default) || named(name) {
            if !page.text.is_empty() {
                page.text += "\r\n";
            }
            page.text += &format!("# {title}\r\n");
            fill(&mut page);
        }
    }
    reply.verbatim("txt", page.text.as_bytes());
    Outcome::Done
}

/// The text as it grows, and where its figures come from.
struct Page<'a> {
    text: String,
    state: &'a State,
    now: i64,
}

impl Page<'_> {
    fn add(&mut self, name: &str, value: impl Display) {
        self.text += &format!("{name}:{value}\r\n");
    }

    /// Fields that are always 0 here.
    fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.add(name, 0));
    }

    /// A number of bytes, and the same for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), human(bytes));
    }
}

/// `1.50M`; bytes as `512B`.
fn human(bytes: u64) -> String {
    let mut amount = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    for unit in ["K", "M", "G", "T"] {
        amount /= 1024.0;
        if amount < 1024.0 {
            return format!("{amount:.2}{unit}");
        }
    }
    format!("{:.2}P", amount / 1024.0)
}

fn server(page: &mut Page<'_>) {
    let (state, now) = (page.state, page.now);
    let config = state.config.load();
    let uptime = (now - state.started_at).max(0) / 1000;
    let path = |path: Option<&std::path::Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
    page.add("redis_version", &config.redis_version);
    page.add("cenote_version", version::CENOTE);
    page.add("server_name", "cenote");
    page.add("redis_git_sha1", "00000000");
    page.zeros(&["redis_git_dirty", "redis_build_id"]);
    page.add("redis_mode", "standalone");
    page.add("os", process::os());
    page.add("arch_bits", usize::BITS);
    page.add("monotonic_clock", clock::monotonic_source());
    page.add("multiplexing_api", "epoll");
    page.add("atomicvar_api", "c11-builtin");
    page.add("gcc_version", "0.0.0");
    page.add("process_id", std::process::id());
    page.add("process_supervised", "no");
    page.add("run_id", &state.run_id);
    page.add("tcp_port", if config.port == 0 { config.tls_port } else { config.port });
    page.add("server_time_usec", clock::now_us());
    page.add("uptime_in_seconds", uptime);
    page.add("uptime_in_days", uptime / 86_400);
    page.add("hz", config.hz_for(state.clients.len()));
    page.add("configured_hz", config.hz);
    page.add("lru_clock", Access::lru(now).first());
    page.add("executable", path(std::env::current_exe().ok().as_deref()));
    page.add("config_file", path(state.config_file.as_deref()));
    page.add("availability_zone", config.value("availability-zone").unwrap_or_default());
    page.add("io_threads_active", 0);
    let listeners = state.listeners.lock().clone();
    for (number, listener) in listeners.iter().enumerate() {
        page.add(&format!("listener{number}"), listener);
    }
}

fn clients(page: &mut Page<'_>) {
    let state = page.state;
    let (mut count, mut input, mut output, mut blocked, mut subscribers, mut watching) = (0, 0, 0, 0, 0, 0);
    state.clients.each(|client| {
        count += 1;
        input = input.max(client.query_bytes.load(Ordering::Relaxed));
        output = output.max(client.output_bytes.load(Ordering::Relaxed));
        blocked += usize::from(client.is_blocked());
        subscribers += usize::from(client.kind() == Kind::Pubsub);
        watching += usize::from(client.watched.load(Ordering::Relaxed) > 0);
    });
    page.add("connected_clients", count);
    page.add("cluster_connections", 0);
    page.add("maxclients", state.config.load().maxclients);
    page.add("client_recent_max_input_buffer", input);
    page.add("client_recent_max_output_buffer", output);
    page.add("blocked_clients", blocked);
    let (watched, waited) = state.keyspace.interest_counts();
    page.add("tracking_clients", state.trackings.clients());
    page.add("pubsub_clients", subscribers);
    page.add("watching_clients", watching);
    page.add("clients_in_timeout_table", 0);
    page.add("total_watched_keys", watched);
    page.add("total_blocking_keys", waited);
    page.add("total_blocking_keys_on_nokey", 0);
}

fn memory(page: &mut Page<'_>) {
    let report = page.state.memory(page.now);
    let config = page.state.config.load();
    page.bytes("used_memory", report.used);
    page.bytes("used_memory_rss", report.resident);
    page.bytes("used_memory_peak", report.peak);
    page.add("used_memory_peak_time", report.peak_at / 1000);
    page.add("used_memory_peak_perc", format!("{:.2}%", report.peak_percent()));
    page.add("used_memory_overhead", report.overhead);
    page.add("used_memory_startup", report.startup);
    page.add("used_memory_dataset", report.dataset());
    page.add("used_memory_dataset_perc", format!("{:.2}%", report.dataset_percent()));
    page.add("allocator_allocated", report.used);
    page.add("allocator_active", report.used);
    page.add("allocator_resident", report.resident);
    page.add("allocator_muzzy", 0);
    page.bytes("total_system_memory", report.machine);
    // Scripts and functions share it.
    let lua = page.state.sum(|worker| &worker.lua_bytes);
    // In Redis's order, in which the readable form stands behind another figure.
    page.add("used_memory_lua", lua);
    page.add("used_memory_vm_eval", lua);
    page.add("used_memory_lua_human", human(lua));
    let (scripts, bytes) = page.state.scripts.totals();
    page.add("used_memory_scripts_eval", bytes);
    page.add("number_of_cached_scripts", scripts);
    let functions = page.state.functions.load();
    page.add("number_of_functions", functions.functions());
    page.add("number_of_libraries", functions.libraries.len());
    page.add("used_memory_vm_functions", 0);
    page.bytes("used_memory_vm_total", lua);
    page.add("used_memory_functions", functions.memory());
    page.bytes("used_memory_scripts", (bytes + functions.memory()) as u64);
    page.bytes("maxmemory", config.maxmemory);
    page.add("maxmemory_policy", config.value("maxmemory-policy").unwrap_or_default());
    page.add("allocator_frag_ratio", "1.00");
    page.add("allocator_frag_bytes", 0);
    page.add("allocator_rss_ratio", format!("{:.2}", report.fragmentation()));
    page.add("allocator_rss_bytes", report.fragmentation_bytes());
    page.add("rss_overhead_ratio", "1.00");
    page.add("rss_overhead_bytes", 0);
    page.add("mem_fragmentation_ratio", format!("{:.2}", report.fragmentation()));
    page.add("mem_fragmentation_bytes", report.fragmentation_bytes());
    page.zeros(&["mem_not_counted_for_evict", "mem_replication_backlog", "mem_total_replication_buffers"]);
    page.zeros(&["mem_replica_full_sync_buffer", "mem_clients_slaves"]);
    page.add("mem_clients_normal", report.clients);
    page.zeros(&["mem_cluster_links", "mem_aof_buffer"]);
    page.add("mem_allocator", "mimalloc");
    page.zeros(&["mem_overhead_db_hashtable_rehashing", "active_defrag_running"]);
    let (pending, freed) = lazy_freed();
    page.add("lazyfree_pending_objects", pending);
    page.add("lazyfreed_objects", freed);
}

fn persistence(page: &mut Page<'_>) {
    let dirty = page.state.keyspace.counts().dirty;
    page.zeros(&["loading", "async_loading", "current_cow_peak", "current_cow_size", "current_cow_size_age"]);
    page.add("current_fork_perc", "0.00");
    page.zeros(&["current_save_keys_processed", "current_save_keys_total"]);
    page.add("rdb_changes_since_last_save", dirty);
    page.add("rdb_bgsave_in_progress", 0);
    page.add("rdb_last_save_time", page.state.started_at / 1000);
    page.add("rdb_last_bgsave_status", "ok");
    page.add("rdb_last_bgsave_time_sec", -1);
    page.add("rdb_current_bgsave_time_sec", -1);
    page.zeros(&["rdb_saves", "rdb_last_cow_size", "rdb_last_load_keys_expired", "rdb_last_load_keys_loaded"]);
    page.zeros(&["aof_enabled", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]);
    page.add("aof_last_rewrite_time_sec", -1);
    page.add("aof_current_rewrite_time_sec", -1);
    page.add("aof_last_bgrewrite_status", "ok");
    page.zeros(&["aof_rewrites", "aof_rewrites_consecutive_failures"]);
    page.add("aof_last_write_status", "ok");
    page.zeros(&["aof_last_cow_size", "module_fork_in_progress", "module_fork_last_cow_size"]);
}

/// The workers, as Redis names its threads for input and output.
fn threads(page: &mut Page<'_>) {
    let state = page.state;
    let mut clients = vec![0; state.workers.len()];
    state.clients.each(|client| {
        if let Some(count) = clients.get_mut(client.origin.worker) {
            *count += 1;
        }
    });
    for (index, (worker, clients)) in state.workers.iter().zip(clients).enumerate() {
        let figures = format!("clients={clients},reads={},writes={}", worker.reads.get(), worker.writes.get());
        page.add(&format!("io_thread_{index}"), figures);
    }
}

fn stats(page: &mut Page<'_>) {
    let state = page.state;
    let clients = &state.clients;
    let Counts { hits, misses, expired, evicted, .. } = state.keyspace.counts();
    let [commands, input, output] = state.rates.per_second();
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    page.add("total_connections_received", clients.accepted.load(Ordering::Relaxed));
    page.add("total_commands_processed", state.sum(|worker| &worker.processed));
    page.add("instantaneous_ops_per_sec", commands);
    page.add("total_net_input_bytes", state.sum(|worker| &worker.net_in));
    page.add("total_net_output_bytes", state.sum(|worker| &worker.net_out));
    page.zeros(&["total_net_repl_input_bytes", "total_net_repl_output_bytes"]);
    page.add("instantaneous_input_kbps", kilobytes(input));
    page.add("instantaneous_output_kbps", kilobytes(output));
    page.add("instantaneous_input_repl_kbps", "0.00");
    page.add("instantaneous_output_repl_kbps", "0.00");
    page.add("rejected_connections", clients.rejected.load(Ordering::Relaxed));
    page.zeros(&["sync_full", "sync_partial_ok", "sync_partial_err", "expired_subkeys"]);
    page.add("expired_keys", expired);
    page.add("expired_stale_perc", "0.00");
    page.zeros(&["expired_time_cap_reached_count", "expire_cycle_cpu_milliseconds"]);
    page.add("evicted_keys", evicted);
    page.add("evicted_clients", clients.evicted.load(Ordering::Relaxed));
    page.add("evicted_scripts", page.state.scripts.evicted.load(Ordering::Relaxed));
    page.zeros(&["total_eviction_exceeded_time", "current_eviction_exceeded_time"]);
    page.add("keyspace_hits", hits);
    page.add("keyspace_misses", misses);
    let [channels, patterns, shard_channels] = state.pubsub.counts();
    page.add("pubsub_channels", channels);
    page.add("pubsub_patterns", patterns);
    page.add("pubsubshard_channels", shard_channels);
    page.zeros(&["latest_fork_usec", "total_forks"]);
    page.zeros(&["migrate_cached_sockets", "slave_expires_tracked_keys", "active_defrag_hits"]);
    page.zeros(&["active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]);
    page.zeros(&["total_active_defrag_time", "current_active_defrag_time"]);
    page.add("tracking_total_keys", state.keyspace.tracked());
    page.add("tracking_total_items", state.keyspace.tracked_items());
    page.add("tracking_total_prefixes", state.trackings.prefixes());
    page.add("unexpected_error_replies", 0);
    page.add("total_error_replies", state.sum(|worker| &worker.errors));
    page.add("dump_payload_sanitizations", 0);
    page.add("total_reads_processed", state.sum(|worker| &worker.reads));
    page.add("total_writes_processed", state.sum(|worker| &worker.writes));
    page.zeros(&["io_threaded_reads_processed", "io_threaded_writes_processed"]);
    page.zeros(&["io_threaded_total_prefetch_batches", "io_threaded_total_prefetch_entries"]);
    page.add("client_query_buffer_limit_disconnections", clients.query_limit_hits.load(Ordering::Relaxed));
    page.add("client_output_buffer_limit_disconnections", clients.output_limit_hits.load(Ordering::Relaxed));
    page.zeros(&["reply_buffer_shrinks", "reply_buffer_expands"]);
    page.zeros(&["eventloop_cycles", "eventloop_duration_sum", "eventloop_duration_cmd_sum"]);
    page.zeros(&["instantaneous_eventloop_cycles_per_sec", "instantaneous_eventloop_duration_usec"]);
    let refused = &state.acl.refused;
    page.add("acl_access_denied_auth", refused.auth.load(Ordering::Relaxed));
    for (name, denial) in
        [("cmd", Denial::Command), ("key", Denial::Key), ("channel", Denial::Channel), ("db", Denial::Database)]
    {
        page.add(&format!("acl_access_denied_{name}"), refused.denied[denial as usize].load(Ordering::Relaxed));
    }
}

fn replication(page: &mut Page<'_>) {
    page.add("role", "master");
    page.add("connected_slaves", 0);
    page.add("master_failover_state", "no-failover");
    page.add("master_replid", page.state.replication_id.lock().clone());
    page.add("master_replid2", "0".repeat(40));
    page.add("master_repl_offset", 0);
    page.add("second_repl_offset", -1);
    page.add("repl_backlog_active", 0);
    let size = page.state.config.load().value("repl-backlog-size").unwrap_or("0").to_owned();
    page.add("repl_backlog_size", size);
    page.zeros(&["repl_backlog_first_byte_offset", "repl_backlog_histlen"]);
}

fn cpu(page: &mut Page<'_>) {
    let (all, main) = (process::cpu_time(), process::cpu_time_main_thread());
    let fields = [
        ("sys", all.system),
        ("user", all.user),
        ("sys_children", all.children_system),
        ("user_children", all.children_user),
        ("sys_main_thread", main.system),
        ("user_main_thread", main.user),
    ];
    for (name, seconds) in fields {
        page.add(&format!("used_cpu_{name}"), format!("{seconds:.6}"));
    }
}

/// The counters of a command over all workers: calls, ns, rejected, failed.
fn sums(state: &State, id: usize) -> [u64; 4] {
    let sum = |counter: fn(&CommandStats) -> u64| state.workers.iter().map(|w| counter(&w.commands[id])).sum();
    [sum(|c| c.calls.get()), sum(|c| c.ns.get()), sum(|c| c.rejected.get()), sum(|c| c.failed.get())]
}

fn command_stats(page: &mut Page<'_>) {
    for command in registry().all() {
        let [calls, ns, rejected, failed] = sums(page.state, command.id);
        if calls + rejected + failed == 0 {
            continue;
        }
        let us = ns / 1000;
        let per_call = if calls == 0 { 0.0 } else { ns as f64 / 1000.0 / calls as f64 };
        let figures = format!(
            "calls={calls},usec={us},usec_per_call={per_call:.2},rejected_calls={rejected},failed_calls={failed}"
        );
        page.add(&format!("cmdstat_{}", command.spec.name), figures);
    }
}

fn error_stats(page: &mut Page<'_>) {
    for (word, count) in page.state.errors() {
        let word: String = word.escape_ascii().to_string().replace(['#', ':', '\n', '\r'], "_");
        page.add(&format!("errorstat_{word}"), format!("count={count}"));
    }
}

fn latency_stats(page: &mut Page<'_>) {
    let percentiles = page.state.config.load().latency_tracking_info_percentiles.clone();
    for command in registry().all() {
        let counts = page.state.latency_counts(command.id);
        if counts.is_empty() {
            continue;
        }
        let us = |percent: f64| percentile_ns(&counts, percent) as f64 / 1000.0;
        let shown: Vec<String> = percentiles.iter().map(|percent| format!("p{percent}={:.3}", us(*percent))).collect();
        page.add(&format!("latency_percentiles_usec_{}", command.spec.name), shown.join(","));
    }
}

fn keyspace(page: &mut Page<'_>) {
    for (db, summary) in page.state.keyspace.summary().iter().enumerate().filter(|(_, summary)| summary.keys > 0) {
        let (keys, expires, ttl) = (summary.keys, summary.with_ttl, summary.mean_ttl(page.now));
        page.add(&format!("db{db}"), format!("keys={keys},expires={expires},avg_ttl={ttl},subexpiry=0"));
    }
}

/// Cenote's own section. First what became of misses; then five lines for each source: its loads, the errors among
/// them, its queries' times, its pool, its circuit breaker.
fn read_through(page: &mut Page<'_>) {
    let state = page.state;
    let fills = &state.fills;
    page.add("readthrough_enabled", u8::from(state.sources.has_routes()));
    page.add("readthrough_routes", state.sources.load().routes().len());
    let (leases, absent) = state.keyspace.lease_counts(page.now);
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (name, count) in [
        // Loads under way, and those of them whose key has not changed since they began.
        ("loading", load(&fills.loading)),
        ("leases", leases as u64),
        // Keys that are known to have no row.
        ("absent_keys", absent as u64),
        // Commands that waited; keys among theirs that another command had loading already.
        ("waits", load(&fills.waits)),
        ("joined", load(&fills.joined)),
        // Loads by what became of them: kept, answered but not kept because the key changed meanwhile or for want of
        // memory, and no row.
        ("stored", load(&fills.stored)),
        ("voided", load(&fills.voided)),
        ("fenced", load(&fills.fenced)),
        ("unkept", load(&fills.unkept)),
        ("absent", load(&fills.absent)),
        ("refreshed", load(&fills.refreshed)),
        ("ahead", load(&fills.ahead)),
    ] {
        page.add(&format!("readthrough_{name}"), count);
    }
    for source in state.sources.load().snapshots() {
        read_through_source(page, &source);
    }
    for feed in state.sources.load().feeds() {
        read_through_feed(page, &feed.snapshot(page.now));
    }
}

/// How far a source's changes have come: whether they are heard, how old is what is not (-1: never heard), the last
/// transaction that was applied, and what all of them came to.
fn read_through_feed(page: &mut Page<'_>, feed: &FeedSnapshot) {
    let name: String = feed.source.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let FeedSnapshot { last_lag_ms, last_commit_at, last_xid, gaps, unserved, .. } = feed;
    let behind = feed.behind_ms.unwrap_or(-1);
    let figures = format!(
        "mode={},state={},behind_ms={behind},last_lag_ms={last_lag_ms},last_commit_ms={last_commit_at},\
         last_xid={last_xid},gaps={gaps},routes_unheard={unserved}",
        feed.mode.name(),
        feed.state.name()
    );
    page.add(&format!("source_{name}_changes"), figures);
    let FeedSnapshot { transactions, changes, keys, removed, flushes, .. } = feed;
    let figures =
        format!("transactions={transactions},rows={changes},keys={keys},removed={removed},route_flushes={flushes}");
    page.add(&format!("source_{name}_invalidations"), figures);
}

fn read_through_source(page: &mut Page<'_>, source: &SourceSnapshot) {
    let name: String = source.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let SourceSnapshot { loads, rows, absent, unparsable, queries, batches, batched, retries, .. } = source;
    let figures = format!(
        "loads={loads},rows={rows},absent={absent},unparsable={unparsable},queries={queries},batches={batches},\
         batched={batched},retries={retries}"
    );
    page.add(&format!("source_{name}"), figures);
    let causes = Cause::ALL.map(|cause| format!("{}={}", cause.name(), source.errors[cause.index()]));
    page.add(&format!("source_{name}_errors"), causes.join(","));
    let time = &source.query_time;
    let [p50, p99] = [0.5, 0.99].map(|share| time.quantile_us(share));
    page.add(&format!("source_{name}_query_usec"), format!("total={},p50={p50},p99={p99}", time.sum_us));
    let PoolSnapshot { max, size, idle, waiting, connects, connect_errors, timeouts, refused } = &source.pool;
    let figures = format!(
        "max={max},size={size},idle={idle},waiting={waiting},connects={connects},connect_errors={connect_errors},\
         timeouts={timeouts},refused={refused}"
    );
    page.add(&format!("source_{name}_pool"), figures);
    let BreakerSnapshot { state, opened, trials, refused } = &source.breaker;
    let figures = format!("state={state},opened={opened},trials={trials},refused={refused}");
    page.add(&format!("source_{name}_breaker"), figures);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_in_redis() {
        let shown = [0, 1023, 1024, 95_019_160, 25_276_502_016, 5 << 50].map(human);
        assert_eq!(shown, ["0B", "1023B", "1.00K", "90.62M", "23.54G", "5.00P"]);
    }
}
