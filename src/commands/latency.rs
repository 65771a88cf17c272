//! LATENCY: what was slow, and how long each command takes. What is noted is the business of dispatch and the
//! workers.

use super::{Args, Command, Ctx, Flags, Outcome, Run, Spec, find_sub, help, registry};
use crate::protocol::Reply;
use crate::state::{Histogram, Spikes, State};

const ROW: Spec = Spec {
    arity: 2,
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    group: "server",
    since: "2.8.13",
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "latency",
        arity: -2,
        flags: Flags::NONE,
        tips: &[],
        complexity: "Depends on subcommand.",
        summary: "Shows what was slow.",
        run: Run::Container,
        ..ROW
    },
    Spec { name: "latency|doctor", summary: "Reports on latency in words.", run: Run::Server(doctor), ..ROW },
    Spec {
        name: "latency|graph",
        arity: 3,
        syntax: "event",
        summary: "Draws the spikes of an event.",
        run: Run::Server(graph),
        ..ROW
    },
    help::row("latency|help", "2.8.13"),
    Spec {
        name: "latency|histogram",
        arity: -2,
        since: "7.0.0",
        syntax: "[command [command ...]]",
        complexity: "O(N) where N is the number of commands with latency information being retrieved.",
        summary: "Returns how often commands took how long: calls by microseconds, each including the faster ones.",
        run: Run::Server(histogram),
        ..ROW
    },
    Spec {
        name: "latency|history",
        arity: 3,
        syntax: "event",
        summary: "Returns the spikes of an event: when, and how many milliseconds.",
        run: Run::Server(history),
        ..ROW
    },
    Spec {
        name: "latency|latest",
        summary: "Returns the latest and the longest spike of every event.",
        run: Run::Server(latest),
        ..ROW
    },
    Spec {
        name: "latency|reset",
        arity: -2,
        tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
        syntax: "[event [event ...]]",
        summary: "Forgets the spikes of some or all events.",
        run: Run::Server(reset),
        ..ROW
    },
];

fn latest(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let events = ctx.state.latency.events();
    reply.array(events.len());
    for (event, spikes) in events {
        let (at, ms) = spikes.samples.back().map_or((0, 0), |last| (last.at, last.ms));
        reply.array(4);
        reply.text(event);
        reply.integer(at);
        reply.integer(ms as i64);
        reply.integer(spikes.max_ms as i64);
    }
    Outcome::Done
}

fn history(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let samples = ctx.state.latency.event(args.at(2)).map(|(_, spikes)| spikes.samples).unwrap_or_default();
    reply.array(samples.len());
    for spike in samples {
        reply.array(2);
        reply.integer(spike.at);
        reply.integer(spike.ms as i64);
    }
    Outcome::Done
}

fn reset(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let latency = &ctx.state.latency;
    let count = match args.len() {
        2 => latency.reset_all(),
        _ => args.from(2).filter(|event| latency.reset(event)).count(),
    };
    reply.integer(count as i64);
    Outcome::Done
}

fn histogram(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let chosen: Vec<&Command> = if args.len() == 2 {
        registry().all().collect()
    } else {
        let named = args.from(2).filter_map(find_sub);
        named.flat_map(|command| std::iter::once(command).chain(&command.subcommands)).collect()
    };
    let counted = |command: &&Command| {
        let counts = ctx.state.latency_counts(command.id);
        (!counts.is_empty()).then_some((command.spec.name, counts))
    };
    let found: Vec<(&str, Vec<u64>)> = chosen.iter().filter_map(counted).collect();
    reply.map(found.len());
    for (name, counts) in found {
        let steps = cumulate(&counts);
        reply.text(name);
        reply.map(2);
        reply.text("calls");
        reply.integer(counts.iter().sum::<u64>() as i64);
        reply.text("histogram_usec");
        reply.map(steps.len());
        for (us, count) in steps {
            reply.integer(us as i64);
            reply.integer(count as i64);
        }
    }
    Outcome::Done
}

/// Calls by the microseconds that they took at most, at the powers of two of about a microsecond where Redis has
/// its steps (1, 2, 4, 8, 16, 33, 66, 132 …); steps without further calls are left out.
fn cumulate(counts: &[u64]) -> Vec<(u64, u64)> {
    let mut steps: Vec<(u64, u64)> = Vec::new();
    let (mut calls, mut noted, mut edge_ns) = (0, 0, 1024u64);
    for (bucket, count) in counts.iter().enumerate() {
        while Histogram::upper_bound_ns(bucket) > edge_ns {
            if calls > noted {
                steps.push((label_us(edge_ns), calls));
                noted = calls;
            }
            edge_ns *= 2;
        }
        calls += count;
    }
    if calls > noted {
        steps.push((label_us(edge_ns), calls));
    }
    steps
}

/// The name of a step: Redis's histograms keep two digits, so a step reaches a 128th past its power of two.
fn label_us(edge_ns: u64) -> u64 {
    (edge_ns + edge_ns / 128 - 1) / 1000
}

/// Columns of a graph, at most.
const GRAPH_COLUMNS: usize = 80;
/// Rows of a graph, and steps that a row tells apart.
const GRAPH_ROWS: u64 = 4;
const GRAPH_STEPS: &[char] = &['_', 'o', '#'];

fn graph(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match ctx.state.latency.event(args.at(2)) {
        Some((event, spikes)) => reply.verbatim("txt", draw(event, &spikes, ctx.now / 1000).as_bytes()),
        None => {
            let mut text = b"ERR No samples available for event '".to_vec();
            text.extend(args.at(2).iter().take(128));
            text.push(b'\'');
            reply.error_bytes(&text);
        }
    }
    Outcome::Done
}

/// One column a spike, the oldest left; below it, top down, how long ago it was.
fn draw(event: &str, spikes: &Spikes, now: i64) -> String {
    let shown: Vec<_> = spikes.samples.iter().rev().take(GRAPH_COLUMNS).rev().collect();
    let high = shown.iter().map(|spike| spike.ms).max().unwrap_or(0);
    let low = shown.iter().map(|spike| spike.ms).min().unwrap_or(0);
    let mut text = format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", spikes.max_ms);
    text += &"-".repeat(GRAPH_COLUMNS);
    text.push('\n');
    let steps = GRAPH_STEPS.len() as u64;
    let height = |ms: u64| ((ms - low) * (GRAPH_ROWS * steps - 1)).checked_div(high - low).unwrap_or(0);
    for row in (0..GRAPH_ROWS).rev() {
        let cell = |ms: u64| match height(ms).checked_sub(row * steps) {
            None => ' ',
            Some(above) if above >= steps => '|',
            Some(step) => GRAPH_STEPS[step as usize],
        };
        text.extend(shown.iter().map(|spike| cell(spike.ms)));
        text.push('\n');
    }
    let ages: Vec<String> = shown.iter().map(|spike| age(now - spike.at)).collect();
    let longest = ages.iter().map(String::len).max().unwrap_or(0);
    for row in 0..longest {
        text.push('\n');
        text.extend(ages.iter().map(|age| age.as_bytes().get(row).map_or(' ', |&byte| char::from(byte))));
    }
    text.push('\n');
    text
}

fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

fn doctor(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.verbatim("txt", report(ctx.state).as_bytes());
    Outcome::Done
}

fn report(state: &State) -> String {
    let config = state.config.load();
    let threshold = config.latency_monitor_threshold;
    let events = state.latency.events();
    if threshold == 0 && events.is_empty() {
        return "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> makes it note \
                everything that takes so long or longer.\n"
            .into();
    }
    if events.is_empty() {
        return format!("Nothing has taken {threshold} ms or longer since the latency monitor was started or reset.\n");
    }
    let mut text = "Latency spikes were seen:\n\n".to_owned();
    for (number, (event, spikes)) in events.iter().enumerate() {
        let count = spikes.samples.len() as u64;
        let mean = spikes.samples.iter().map(|spike| spike.ms).sum::<u64>() / count.max(1);
        let deviation = spikes.samples.iter().map(|spike| spike.ms.abs_diff(mean)).sum::<u64>() / count.max(1);
        let longest = spikes.max_ms;
        text += &format!(
            "{}. {event}: {count} spikes (average {mean} ms, mean deviation {deviation} ms). Longest ever: {longest} ms.\n",
            number + 1,
        );
    }
    text += "\nWhat may help:\n\n";
    let slower_than = config.slowlog_log_slower_than;
    if slower_than < 0 || slower_than as u64 > threshold.saturating_mul(1000) {
        let us = threshold * 1000;
        text += &format!("- The slow log misses some of these: CONFIG SET slowlog-log-slower-than {us}.\n");
    }
    if events.iter().any(|(event, _)| event.contains("command")) {
        text += "- SLOWLOG GET names the commands. One that touches many keys or elements (KEYS, FLUSHALL SYNC, \
                 large ranges) is better replaced by several small ones (SCAN, UNLINK, FLUSHALL ASYNC).\n";
    }
    if events.iter().any(|(event, _)| event.starts_with("expire")) {
        text += "- Many keys expire at once: spread their TTLs.\n";
    }
    text += "- A machine that swaps, or shares its processors with others, is slow at times whatever runs on it.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Spike;

    #[test]
    fn steps_are_cumulative_and_named_as_in_redis() {
        let histogram = Histogram::default();
        for ns in [900, 1_500, 1_600, 30_000, 100_000, 3_000_000] {
            histogram.record(ns);
        }
        let counts: Vec<u64> = histogram.counts().collect();
        assert_eq!(cumulate(&counts), [(1, 1), (2, 3), (33, 4), (132, 5), (4227, 6)]);
        assert!(cumulate(&[0; 8]).is_empty());
        assert!(cumulate(&[]).is_empty());
    }

    #[test]
    fn a_graph_has_a_column_for_each_spike() {
        let mut spikes = Spikes { max_ms: 500, ..Spikes::default() };
        for (at, ms) in [(0, 100), (60, 300), (100, 500)] {
            spikes.samples.push_back(Spike { at, ms });
        }
        let text = draw("command", &spikes, 3_650);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 500 ms, low 100 ms (all time high 500 ms)");
        assert_eq!(lines[2..6], ["  #", "  |", " #|", "_||"]);
        assert_eq!(lines[7..9], ["155", "h99"]);
        // One spike alone, and two of the same height.
        spikes.samples.truncate(1);
        assert!(draw("x", &spikes, 0).contains("_\n"));
    }
}
