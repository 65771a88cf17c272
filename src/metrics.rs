//! The server's figures as Prometheus text, taken from the counters at the moment they are asked for. It must not
//! know HTTP, and nothing on the hot path knows it.

use crate::commands::registry;
use crate::source::{Cause, FeedSnapshot, FeedState, HISTOGRAM_BUCKETS, SourceSnapshot};
use crate::state::{CommandStats, Histogram, State};
use crate::{process, version};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// All metrics at `now` (ms since the epoch), in Prometheus's text format.
pub fn render(state: &State, now: i64) -> String {
    // A recorder for each answer: a counter of a recorder cannot go back when CONFIG RESETSTAT starts it anew.
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        server(state, now);
        commands(state);
        keyspace(state, now);
        read_through(state, now);
    });
    let mut text = recorder.handle().render();
    durations(state, &mut text);
    query_durations(state, &mut text);
    text
}

fn describe() {
    for (name, text) in [
        ("cenote_commands_total", "Commands that ran, by name."),
        ("cenote_commands_failed_total", "Commands that ran and answered an error."),
        ("cenote_commands_rejected_total", "Commands that were refused before they ran."),
        ("cenote_errors_total", "Error replies by their first word."),
        ("cenote_keyspace_hits_total", "Lookups of reading commands that found the key."),
        ("cenote_keyspace_misses_total", "Lookups of reading commands that did not find the key."),
        ("cenote_expired_keys_total", "Keys removed because their time had come."),
        ("cenote_evicted_keys_total", "Keys removed to make room."),
        ("cenote_connections_received_total", "Connections accepted."),
        ("cenote_connections_rejected_total", "Connections refused because of maxclients."),
        ("cenote_net_input_bytes_total", "Bytes read from connections."),
        ("cenote_net_output_bytes_total", "Bytes written to connections."),
        ("cenote_waits_total", "Times that a command waited for loads."),
        ("cenote_joined_total", "Keys that a command waited for while another had them loaded already."),
        (
            "cenote_fills_total",
            "Loads by what became of them: stored, voided (the key changed), unkept (memory), absent.",
        ),
        ("cenote_loads_total", "Loads that ended, by source and result: row, absent or error."),
        ("cenote_load_errors_total", "Loads that failed, by source and cause."),
        ("cenote_loads_unparsable_total", "Loads of keys that could not name a row, which cost no query."),
        ("cenote_queries_total", "Queries sent to a source."),
        ("cenote_load_retries_total", "Loads tried another time."),
        ("cenote_pool_connects_total", "Connections opened to a source."),
        ("cenote_pool_connect_errors_total", "Attempts to connect to a source that failed."),
        ("cenote_pool_timeouts_total", "Loads that gave up waiting for a connection."),
        ("cenote_pool_refused_total", "Loads refused because too many waited for a connection."),
        ("cenote_breaker_opened_total", "Times that a source's circuit breaker opened."),
        ("cenote_breaker_refused_total", "Loads that a source's circuit breaker refused."),
        ("cenote_changes_transactions_total", "Transactions or notifications of a source that were applied."),
        ("cenote_changes_rows_total", "Changed rows that a source told."),
        ("cenote_changes_keys_total", "Keys that changed rows were turned into."),
        ("cenote_changes_removed_total", "Of these, cached keys that were removed."),
        ("cenote_changes_route_flushes_total", "Times that a whole route was told to be stale."),
        ("cenote_changes_gaps_total", "Times that changes of a source may have been missed."),
    ] {
        describe_counter!(name, text);
    }
    for (name, text) in [
        ("cenote_build_info", "1, labelled with the versions."),
        ("cenote_uptime_seconds", "Time since the start."),
        ("cenote_clients", "Connections now."),
        ("cenote_clients_blocked", "Connections that wait for something."),
        ("cenote_clients_max", "maxclients."),
        ("cenote_keys", "Keys, by database."),
        ("cenote_keys_with_ttl", "Keys with a TTL, by database."),
        ("cenote_memory_used_bytes", "Memory handed out by the allocator."),
        ("cenote_memory_peak_bytes", "The most memory that was handed out."),
        ("cenote_memory_resident_bytes", "Memory that the process holds."),
        ("cenote_memory_max_bytes", "maxmemory; 0 without a limit."),
        ("cenote_cpu_seconds", "Processor time used, by mode."),
        ("cenote_slowlog_length", "Entries of the slow log."),
        ("cenote_readthrough_enabled", "1 with routes."),
        ("cenote_loads_in_progress", "Loads under way."),
        ("cenote_absent_keys", "Keys that are known to have no row."),
        ("cenote_pool_connections", "Connections to a source, by state: idle or used."),
        ("cenote_pool_connections_max", "Most connections that a source may have."),
        ("cenote_pool_waiting", "Loads that wait for a connection."),
        ("cenote_breaker_open", "1 while a source's circuit breaker refuses loads."),
        ("cenote_changes_heard", "1 while every change of a source is heard."),
        ("cenote_changes_behind_seconds", "Everything that a source committed so long ago has been applied."),
        ("cenote_changes_lag_seconds", "From a transaction's commit to its application, for the last one."),
        ("cenote_changes_routes_unheard", "Routes of a source whose changes are not heard."),
    ] {
        describe_gauge!(name, text);
    }
}

fn server(state: &State, now: i64) {
    let config = state.config.load();
    let memory = state.memory(now);
    let cpu = process::cpu_time();
    gauge!("cenote_build_info", "version" => version::CENOTE, "redis_version" => version::REDIS).set(1.0);
    gauge!("cenote_uptime_seconds").set((now - state.started_at).max(0) as f64 / 1000.0);
    gauge!("cenote_memory_used_bytes").set(memory.used as f64);
    gauge!("cenote_memory_peak_bytes").set(memory.peak as f64);
    gauge!("cenote_memory_resident_bytes").set(memory.resident as f64);
    gauge!("cenote_memory_max_bytes").set(config.maxmemory as f64);
    gauge!("cenote_cpu_seconds", "mode" => "user").set(cpu.user);
    gauge!("cenote_cpu_seconds", "mode" => "system").set(cpu.system);
    gauge!("cenote_slowlog_length").set(state.command_logs.slow.len() as f64);
    let (mut clients, mut blocked) = (0, 0);
    state.clients.each(|client| {
        clients += 1;
        blocked += u32::from(client.blocked.load(Ordering::Relaxed));
    });
    gauge!("cenote_clients").set(clients);
    gauge!("cenote_clients_blocked").set(blocked);
    gauge!("cenote_clients_max").set(config.maxclients);
    counter!("cenote_connections_received_total").absolute(state.clients.accepted.load(Ordering::Relaxed));
    counter!("cenote_connections_rejected_total").absolute(state.clients.rejected.load(Ordering::Relaxed));
    counter!("cenote_net_input_bytes_total").absolute(state.sum(|worker| &worker.net_in));
    counter!("cenote_net_output_bytes_total").absolute(state.sum(|worker| &worker.net_out));
    for (db, summary) in memory.databases.iter().enumerate().filter(|(db, summary)| *db == 0 || summary.keys > 0) {
        gauge!("cenote_keys", "db" => db.to_string()).set(summary.keys as f64);
        gauge!("cenote_keys_with_ttl", "db" => db.to_string()).set(summary.with_ttl as f64);
    }
}

fn keyspace(state: &State, _now: i64) {
    let counts = state.keyspace.counts();
    counter!("cenote_keyspace_hits_total").absolute(counts.hits);
    counter!("cenote_keyspace_misses_total").absolute(counts.misses);
    counter!("cenote_expired_keys_total").absolute(counts.expired);
    counter!("cenote_evicted_keys_total").absolute(counts.evicted);
}

fn sum(state: &State, id: usize, counter: fn(&CommandStats) -> u64) -> u64 {
    state.workers.iter().map(|worker| counter(&worker.commands[id])).sum()
}

fn commands(state: &State) {
    for command in registry().all() {
        for (metric, count) in [
            ("cenote_commands_total", sum(state, command.id, |stats| stats.calls.get())),
            ("cenote_commands_failed_total", sum(state, command.id, |stats| stats.failed.get())),
            ("cenote_commands_rejected_total", sum(state, command.id, |stats| stats.rejected.get())),
        ] {
            if count > 0 {
                counter!(metric, "command" => command.spec.name).absolute(count);
            }
        }
    }
    for (word, count) in state.errors() {
        counter!("cenote_errors_total", "error" => String::from_utf8_lossy(&word).into_owned()).absolute(count);
    }
}

/// Read-through: what became of misses, and each source's loads, queries and pool.
fn read_through(state: &State, now: i64) {
    gauge!("cenote_readthrough_enabled").set(f64::from(u8::from(state.sources.has_routes())));
    let fills = &state.fills;
    gauge!("cenote_loads_in_progress").set(fills.loading.load(Ordering::Relaxed) as f64);
    gauge!("cenote_absent_keys").set(state.keyspace.lease_counts(now).1 as f64);
    counter!("cenote_waits_total").absolute(fills.waits.load(Ordering::Relaxed));
    counter!("cenote_joined_total").absolute(fills.joined.load(Ordering::Relaxed));
    for (outcome, count) in [
        ("stored", &fills.stored),
        ("voided", &fills.voided),
        ("fenced", &fills.fenced),
        ("unkept", &fills.unkept),
        ("absent", &fills.absent),
    ] {
        counter!("cenote_fills_total", "outcome" => outcome).absolute(count.load(Ordering::Relaxed));
    }
    state.sources.load().snapshots().iter().for_each(read_through_source);
    state.sources.load().feeds().iter().for_each(|feed| read_through_feed(&feed.snapshot(now)));
}

fn read_through_source(source: &SourceSnapshot) {
    let labels = [("source", source.name.clone())];
    let failed = source.errors.iter().sum();
    for (result, count) in [("row", source.rows), ("absent", source.absent), ("error", failed)] {
        counter!("cenote_loads_total", "source" => source.name.clone(), "result" => result).absolute(count);
    }
    for cause in Cause::ALL {
        counter!("cenote_load_errors_total", "source" => source.name.clone(), "cause" => cause.name())
            .absolute(source.errors[cause.index()]);
    }
    let pool = &source.pool;
    for (state, count) in [("idle", pool.idle), ("used", pool.size.saturating_sub(pool.idle))] {
        gauge!("cenote_pool_connections", "source" => source.name.clone(), "state" => state).set(count as f64);
    }
    gauge!("cenote_pool_connections_max", &labels).set(pool.max as f64);
    gauge!("cenote_pool_waiting", &labels).set(pool.waiting as f64);
    gauge!("cenote_breaker_open", &labels).set(f64::from(u8::from(source.breaker.state != "closed")));
    for (metric, count) in [
        ("cenote_loads_unparsable_total", source.unparsable),
        ("cenote_queries_total", source.queries),
        ("cenote_load_retries_total", source.retries),
        ("cenote_pool_connects_total", pool.connects),
        ("cenote_pool_connect_errors_total", pool.connect_errors),
        ("cenote_pool_timeouts_total", pool.timeouts),
        ("cenote_pool_refused_total", pool.refused),
        ("cenote_breaker_opened_total", source.breaker.opened),
        ("cenote_breaker_refused_total", source.breaker.refused),
    ] {
        counter!(metric, &labels).absolute(count);
    }
}

/// How far a source's changes have come.
fn read_through_feed(feed: &FeedSnapshot) {
    let labels = [("source", feed.source.clone())];
    gauge!("cenote_changes_heard", &labels).set(f64::from(u8::from(feed.state == FeedState::InStep)));
    if let Some(behind_ms) = feed.behind_ms {
        gauge!("cenote_changes_behind_seconds", &labels).set(behind_ms as f64 / 1000.0);
    }
    gauge!("cenote_changes_lag_seconds", &labels).set(feed.last_lag_ms as f64 / 1000.0);
    gauge!("cenote_changes_routes_unheard", &labels).set(feed.unserved as f64);
    for (metric, count) in [
        ("cenote_changes_transactions_total", feed.transactions),
        ("cenote_changes_rows_total", feed.changes),
        ("cenote_changes_keys_total", feed.keys),
        ("cenote_changes_removed_total", feed.removed),
        ("cenote_changes_route_flushes_total", feed.flushes),
        ("cenote_changes_gaps_total", feed.gaps),
    ] {
        counter!(metric, &labels).absolute(count);
    }
}

/// Upper bounds of the buckets, as powers of two of nanoseconds: 1 µs, 4 µs … 4 s, about.
const EDGES: std::ops::RangeInclusive<u32> = 10..=32;
const DURATION: &str = "cenote_command_duration_seconds";

/// The latency histograms. The counters are histograms already, which a recorder cannot take over; so they are
/// written here.
fn durations(state: &State, text: &mut String) {
    write_help_line(text, DURATION, None, None, "Time that commands took.");
    write_type_line(text, DURATION, None, None, "histogram");
    for command in registry().all() {
        let calls = sum(state, command.id, |stats| stats.calls.get());
        if calls == 0 {
            continue;
        }
        let name = sanitize_label_value(command.spec.name);
        let counts = state.latency_counts(command.id);
        let (mut bucket, mut below) = (0, 0);
        for edge in EDGES.step_by(2) {
            while bucket < counts.len() && Histogram::upper_bound_ns(bucket) <= 1 << edge {
                below += counts[bucket];
                bucket += 1;
            }
            let seconds = (1u64 << edge) as f64 / 1e9;
            let _ = writeln!(text, "{DURATION}_bucket{{command=\"{name}\",le=\"{seconds}\"}} {below}");
        }
        let seconds = sum(state, command.id, |stats| stats.ns.get()) as f64 / 1e9;
        // A command may be counted between two of these readings; the last bucket holds all of them.
        let total = calls.max(counts.iter().sum());
        let _ = writeln!(text, "{DURATION}_bucket{{command=\"{name}\",le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "{DURATION}_sum{{command=\"{name}\"}} {seconds}");
        let _ = writeln!(text, "{DURATION}_count{{command=\"{name}\"}} {total}");
    }
    text.push('\n');
}

const QUERY: &str = "cenote_query_duration_seconds";

/// The histograms of the sources' query times.
fn query_durations(state: &State, text: &mut String) {
    let sources = state.sources.load().snapshots();
    if sources.is_empty() {
        return;
    }
    write_help_line(text, QUERY, None, None, "Time from sending a query to its last row, by source.");
    write_type_line(text, QUERY, None, None, "histogram");
    for SourceSnapshot { name, query_time, .. } in sources {
        let name = sanitize_label_value(&name);
        let mut below = 0;
        // The last bucket has no upper bound.
        for (bucket, count) in query_time.buckets[..HISTOGRAM_BUCKETS - 1].iter().enumerate() {
            below += count;
            if bucket % 2 == 0 && bucket <= 26 {
                let seconds = (1u64 << bucket) as f64 / 1e6;
                let _ = writeln!(text, "{QUERY}_bucket{{source=\"{name}\",le=\"{seconds}\"}} {below}");
            }
        }
        let (count, seconds) = (query_time.count(), query_time.sum_us as f64 / 1e6);
        let _ = writeln!(text, "{QUERY}_bucket{{source=\"{name}\",le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{QUERY}_sum{{source=\"{name}\"}} {seconds}");
        let _ = writeln!(text, "{QUERY}_count{{source=\"{name}\"}} {count}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::find_sub;
    use crate::config::{Config, ConfigHandle};
    use crate::keyspace::NewValue;
    use crate::source::Sources;

    #[test]
    fn the_text_shows_what_was_counted_and_follows_a_reset() {
        let sources = Sources::default();
        let state = State::new(ConfigHandle::new(Config::default()), sources, 2, registry().rows(), None, 1_000);
        let get = find_sub(b"get").unwrap().id;
        state.workers[0].commands[get].record(900, true);
        state.workers[1].commands[get].record(3_000_000, true);
        state.workers[1].commands[get].failed.add(1);
        state.workers[0].error_kinds.note(b"-WRONG\"TYPE x\r\n");
        state.keyspace.add(3, b"k", NewValue::Int(1), 1_000);
        let text = render(&state, 3_500);
        for line in [
            "cenote_commands_total{command=\"get\"} 2",
            "cenote_commands_failed_total{command=\"get\"} 1",
            "cenote_errors_total{error=\"WRONG\\\"TYPE\"} 1",
            "cenote_keys{db=\"3\"} 1",
            "cenote_uptime_seconds 2.5",
            "# TYPE cenote_command_duration_seconds histogram",
            "cenote_command_duration_seconds_bucket{command=\"get\",le=\"0.000001024\"} 1",
            "cenote_command_duration_seconds_bucket{command=\"get\",le=\"0.004194304\"} 2",
            "cenote_command_duration_seconds_bucket{command=\"get\",le=\"+Inf\"} 2",
            "cenote_command_duration_seconds_sum{command=\"get\"} 0.0030009",
            "cenote_command_duration_seconds_count{command=\"get\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        state.reset_stats(4_000);
        let text = render(&state, 4_000);
        assert!(!text.contains("command=\"get\"") && text.contains("cenote_keys{db=\"3\"} 1"), "{text}");
    }
}
