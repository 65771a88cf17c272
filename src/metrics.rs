//! The server's figures as Prometheus text, taken from the counters at the moment they are asked for. It must not
//! know HTTP, and nothing on the hot path knows it.

use crate::commands::registry;
use crate::source::Cause;
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
        keyspace(state);
        read_through(state);
    });
    let mut text = recorder.handle().render();
    durations(state, &mut text);
    query_times(state, &mut text);
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
        ("cenote_loads_total", "Loads of missing keys begun, by source."),
        ("cenote_load_rows_total", "Loads that brought a value."),
        ("cenote_load_retries_total", "Loads tried a second time."),
        ("cenote_load_errors_total", "Loads that failed, by cause."),
        ("cenote_load_waits_total", "Commands that waited for a load which another had started."),
        ("cenote_fills_total", "What became of loaded values."),
        ("cenote_queries_total", "Queries sent."),
        ("cenote_pool_connects_total", "Connections to the source opened."),
        ("cenote_pool_connect_errors_total", "Attempts to connect that failed."),
        ("cenote_pool_timeouts_total", "Loads that gave up waiting for a connection."),
        ("cenote_pool_refused_total", "Loads refused because too many waited."),
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
        ("cenote_loads_in_flight", "Loads running now."),
        ("cenote_absent_keys", "Keys remembered as absent rows."),
        ("cenote_pool_connections_max", "Most connections that the pool may have."),
        ("cenote_pool_connections", "Connections open."),
        ("cenote_pool_connections_idle", "Of those, how many are idle."),
        ("cenote_pool_waiting", "Loads waiting for a connection."),
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
    gauge!("cenote_slowlog_length").set(state.slowlog.len() as f64);
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
    for (db, summary) in memory.databases.iter().enumerate().filter(|(_, summary)| summary.keys > 0) {
        gauge!("cenote_keys", "db" => db.to_string()).set(summary.keys as f64);
        gauge!("cenote_keys_with_ttl", "db" => db.to_string()).set(summary.with_ttl as f64);
    }
}

fn keyspace(state: &State) {
    let counts = state.keyspace.counts();
    counter!("cenote_keyspace_hits_total").absolute(counts.hits);
    counter!("cenote_keyspace_misses_total").absolute(counts.misses);
    counter!("cenote_expired_keys_total").absolute(counts.expired);
    counter!("cenote_evicted_keys_total").absolute(0);
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

fn read_through(state: &State) {
    gauge!("cenote_readthrough_enabled").set(f64::from(u8::from(state.sources.has_routes())));
    if !state.sources.has_routes() {
        return;
    }
    let (in_flight, absent) = state.keyspace.lease_counts();
    gauge!("cenote_loads_in_flight").set(in_flight as f64);
    gauge!("cenote_absent_keys").set(absent as f64);
    let fills = &state.fills;
    counter!("cenote_load_waits_total").absolute(fills.joined.load(Ordering::Relaxed));
    for (outcome, count) in
        [("stored", &fills.stored), ("voided", &fills.voided), ("unkept", &fills.unkept), ("absent", &fills.absent)]
    {
        counter!("cenote_fills_total", "outcome" => outcome).absolute(count.load(Ordering::Relaxed));
    }
    for source in state.sources.snapshots() {
        let (name, pool) = (&source.name, &source.pool);
        for (metric, count) in [
            ("cenote_loads_total", source.loads),
            ("cenote_load_rows_total", source.rows),
            ("cenote_load_retries_total", source.retries),
            ("cenote_queries_total", source.queries),
            ("cenote_pool_connects_total", pool.connects),
            ("cenote_pool_connect_errors_total", pool.connect_errors),
            ("cenote_pool_timeouts_total", pool.timeouts),
            ("cenote_pool_refused_total", pool.refused),
        ] {
            counter!(metric, "source" => name.clone()).absolute(count);
        }
        for (cause, count) in Cause::ALL.iter().zip(source.errors) {
            counter!("cenote_load_errors_total", "source" => name.clone(), "cause" => cause.name()).absolute(count);
        }
        for (metric, count) in [
            ("cenote_pool_connections_max", pool.max),
            ("cenote_pool_connections", pool.size),
            ("cenote_pool_connections_idle", pool.idle),
            ("cenote_pool_waiting", pool.waiting),
        ] {
            gauge!(metric, "source" => name.clone()).set(count as f64);
        }
    }
}

/// How long queries took, by source.
fn query_times(state: &State, text: &mut String) {
    let sources = state.sources.snapshots();
    if sources.is_empty() {
        return;
    }
    head(text, QUERY, "Time from sending a query to its last row.");
    for source in sources {
        let label = format!("source=\"{}\"", sanitize_label_value(&source.name));
        let mut below = 0;
        for (bucket, count) in source.query_time.buckets.iter().enumerate() {
            below += count;
            // Every second bucket, from 64 µs to 67 s, says enough.
            if (6..=26).contains(&bucket) && bucket % 2 == 0 {
                let seconds = (1u64 << bucket) as f64 / 1e6;
                let _ = writeln!(text, "{QUERY}_bucket{{{label},le=\"{seconds}\"}} {below}");
            }
        }
        tail(text, QUERY, &label, below, source.query_time.sum_us as f64 / 1e6);
    }
    text.push('\n');
}

/// What stands above the lines of a histogram.
fn head(text: &mut String, name: &str, about: &str) {
    write_help_line(text, name, None, None, about);
    write_type_line(text, name, None, None, "histogram");
}

/// The last lines of a histogram.
fn tail(text: &mut String, name: &str, label: &str, count: u64, sum: f64) {
    let _ = writeln!(text, "{name}_bucket{{{label},le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "{name}_sum{{{label}}} {sum}");
    let _ = writeln!(text, "{name}_count{{{label}}} {count}");
}

/// Upper bounds of the buckets, as powers of two of nanoseconds: 1 µs, 4 µs … 4 s, about.
const EDGES: std::ops::RangeInclusive<u32> = 10..=32;
const DURATION: &str = "cenote_command_duration_seconds";
const QUERY: &str = "cenote_query_duration_seconds";

/// The latency histograms. The counters are histograms already, which a recorder cannot take over; so they are
/// written here.
fn durations(state: &State, text: &mut String) {
    head(text, DURATION, "Time that commands took.");
    for command in registry().all() {
        let calls = sum(state, command.id, |stats| stats.calls.get());
        if calls == 0 {
            continue;
        }
        let label = format!("command=\"{}\"", sanitize_label_value(command.spec.name));
        let counts = state.latency_counts(command.id);
        let (mut bucket, mut below) = (0, 0);
        for edge in EDGES.step_by(2) {
            while bucket < counts.len() && Histogram::upper_bound_ns(bucket) <= 1 << edge {
                below += counts[bucket];
                bucket += 1;
            }
            let seconds = (1u64 << edge) as f64 / 1e9;
            let _ = writeln!(text, "{DURATION}_bucket{{{label},le=\"{seconds}\"}} {below}");
        }
        let seconds = sum(state, command.id, |stats| stats.ns.get()) as f64 / 1e9;
        // A command may be counted between two of these readings; the last bucket holds all of them.
        let total = calls.max(counts.iter().sum());
        tail(text, DURATION, &label, total, seconds);
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
