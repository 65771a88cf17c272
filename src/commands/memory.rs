//! MEMORY: where the memory is. The figures come from `state`.

use super::{Args, Ctx, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, help};
use crate::keyspace::View;
use crate::protocol::Reply;
use crate::state::MemoryReport;

const ROW: Spec = Spec {
    arity: 2,
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    group: "server",
    since: "4.0.0",
    ..Spec::BASE
};

const DEPENDS: &str = "Depends on how much memory is allocated, could be slow";

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "memory",
        arity: -2,
        tips: &[],
        complexity: "Depends on subcommand.",
        summary: "Shows where the memory is.",
        run: Run::Container,
        ..ROW
    },
    Spec {
        name: "memory|doctor",
        summary: "Reports on memory in words.",
        locks: true,
        run: Run::Server(doctor),
        ..ROW
    },
    help::row("memory|help", "4.0.0"),
    Spec {
        name: "memory|malloc-stats",
        locks: true,
        complexity: DEPENDS,
        summary: "Returns the figures of the allocator.",
        run: Run::Server(malloc_stats),
        ..ROW
    },
    Spec {
        name: "memory|purge",
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        complexity: DEPENDS,
        summary: "Does nothing: the allocator gives memory back by itself.",
        run: Run::Server(purge),
        ..ROW
    },
    Spec { name: "memory|stats", summary: "Returns where the memory is.", locks: true, run: Run::Server(stats), ..ROW },
    Spec {
        name: "memory|usage",
        arity: -3,
        flags: Flags::READONLY,
        tips: &[],
        keys: Keys::Specs(&[KeySpec::one(2, KeyFlags::RO)]),
        syntax: "key [SAMPLES count]",
        complexity: "O(N) where N is the number of samples.",
        summary: "Returns the bytes that a key and its value take.",
        run: Run::Data(usage),
        ..ROW
    },
];

/// Bytes of the table that a key takes: its slot, and the part of a bucket that stays vacant on average.
const SLOT_BYTES: usize = 10;

fn usage(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut at = 3;
    while at < args.len() {
        if !args.is(at, "samples") || at + 1 >= args.len() {
            reply.error(SYNTAX_ERROR);
            return Outcome::Done;
        }
        match args.integer(at + 1) {
            None => return fail(reply, NOT_AN_INTEGER),
            Some(count) if count < 0 => return fail(reply, SYNTAX_ERROR),
            // Strings are measured whole; there is nothing to sample.
            Some(_) => at += 2,
        }
    }
    match db.find(0).map(|place| db.entry(0, place).memory()) {
        Some(bytes) => reply.integer((bytes + SLOT_BYTES) as i64),
        None => reply.null(),
    }
    Outcome::Done
}

enum Figure {
    Count(i64),
    Ratio(f64),
    /// Bytes of a database's tables.
    Database(i64),
}

fn figures(report: &MemoryReport) -> Vec<(String, Figure)> {
    use Figure::{Count, Database, Ratio};
    let bytes = |value: u64| Count(value as i64);
    let mut all: Vec<(String, Figure)> = Vec::new();
    let mut add = |name: &str, figure| all.push((name.to_owned(), figure));
    add("peak.allocated", bytes(report.peak));
    add("total.allocated", bytes(report.used));
    add("startup.allocated", bytes(report.startup));
    for none in ["replication.backlog", "replica.fullsync.buffer", "clients.slaves"] {
        add(none, Count(0));
    }
    add("clients.normal", bytes(report.clients));
    for none in ["cluster.links", "aof.buffer", "lua.caches", "functions.caches", "script.VMs"] {
        add(none, Count(0));
    }
    for (db, summary) in report.databases.iter().enumerate().filter(|(_, summary)| summary.keys > 0) {
        add(&format!("db.{db}"), Database(summary.table_bytes as i64));
    }
    add("overhead.db.hashtable.lut", bytes(report.databases.iter().map(|db| db.table_bytes as u64).sum()));
    add("overhead.db.hashtable.rehashing", Count(0));
    add("overhead.total", bytes(report.overhead));
    add("db.dict.rehashing.count", Count(0));
    add("keys.count", bytes(report.keys));
    let net = report.used.saturating_sub(report.startup);
    add("keys.bytes-per-key", bytes(net.checked_div(report.keys).unwrap_or(0)));
    add("dataset.bytes", bytes(report.dataset()));
    add("dataset.percentage", Ratio(report.dataset_percent()));
    add("peak.percentage", Ratio(report.peak_percent()));
    add("allocator.allocated", bytes(report.used));
    add("allocator.active", bytes(report.used));
    add("allocator.resident", bytes(report.resident));
    add("allocator.muzzy", Count(0));
    add("allocator-fragmentation.ratio", Ratio(1.0));
    add("allocator-fragmentation.bytes", Count(0));
    add("allocator-rss.ratio", Ratio(report.fragmentation()));
    add("allocator-rss.bytes", Count(report.fragmentation_bytes()));
    add("rss-overhead.ratio", Ratio(1.0));
    add("rss-overhead.bytes", Count(0));
    add("fragmentation", Ratio(report.fragmentation()));
    add("fragmentation.bytes", Count(report.fragmentation_bytes()));
    all
}

fn stats(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let figures = figures(&ctx.state.memory(ctx.now));
    reply.map(figures.len());
    for (name, figure) in figures {
        reply.text(&name);
        match figure {
            Figure::Count(count) => reply.integer(count),
            Figure::Ratio(ratio) => reply.double(ratio),
            Figure::Database(bytes) => {
                reply.map(2);
                reply.text("overhead.hashtable.main");
                reply.integer(bytes);
                // TTLs stand in the entries.
                reply.text("overhead.hashtable.expires");
                reply.integer(0);
            }
        }
    }
    Outcome::Done
}

/// Below this, in bytes, ratios say nothing.
const SMALL: u64 = 5 * 1024 * 1024;

fn doctor(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let report = ctx.state.memory(ctx.now);
    let maxmemory = ctx.state.config.load().maxmemory;
    reply.verbatim("txt", diagnose(&report, maxmemory).as_bytes());
    Outcome::Done
}

fn diagnose(report: &MemoryReport, maxmemory: u64) -> String {
    if report.used < SMALL {
        return "This instance holds too little data to say anything about its memory.\n".into();
    }
    let mut findings = Vec::new();
    if report.peak > report.used + report.used / 2 {
        findings.push(
            "At its peak much more memory was in use than now. What was freed since may not have gone back to the \
             system; it is used again as the data grows.",
        );
    }
    if report.fragmentation() > 1.4 {
        findings.push(
            "The process holds over 1.4 times the memory that is in use. After many deletions that is normal; \
             if it stays, a restart gives it back.",
        );
    }
    if report.clients > report.used / 4 {
        findings.push("Over a quarter of the memory waits in connections: CLIENT LIST shows which (qbuf, omem).");
    }
    if maxmemory > 0 && report.used > maxmemory / 10 * 9 {
        findings.push("Over nine tenths of maxmemory are in use.");
    }
    if maxmemory == 0 && report.machine > 0 && report.used > report.machine / 4 * 3 {
        findings.push("Over three quarters of the machine's memory are in use, and maxmemory sets no limit.");
    }
    if findings.is_empty() {
        return "Nothing is wrong with the memory of this instance, as far as can be seen.\n".into();
    }
    findings.iter().map(|finding| format!("* {finding}\n")).collect()
}

fn malloc_stats(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let report = ctx.state.memory(ctx.now);
    let text = format!(
        "allocator: mimalloc\nallocated: {}\nallocated at the peak: {}\nresident: {}\n",
        report.used, report.peak, report.resident,
    );
    reply.verbatim("txt", text.as_bytes());
    Outcome::Done
}

fn purge(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.ok();
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::DatabaseSummary;

    fn report(used: u64) -> MemoryReport {
        MemoryReport {
            used,
            peak: used,
            peak_at: 0,
            startup: 1000,
            resident: used,
            machine: u64::MAX,
            clients: 0,
            overhead: 2000,
            keys: 10,
            databases: vec![DatabaseSummary::default(); 16],
        }
    }

    #[test]
    fn the_doctor_names_what_is_wrong() {
        assert!(diagnose(&report(1000), 0).contains("too little"));
        let fine = report(100 << 20);
        assert!(diagnose(&fine, 0).starts_with("Nothing"));
        assert!(diagnose(&fine, 105 << 20).contains("maxmemory"));
        assert!(diagnose(&MemoryReport { peak: 200 << 20, ..fine.clone() }, 0).contains("peak"));
        assert!(diagnose(&MemoryReport { resident: 200 << 20, ..fine.clone() }, 0).contains("1.4 times"));
    }

    #[test]
    fn no_figure_divides_by_zero() {
        let empty = MemoryReport { keys: 0, startup: 0, peak: 0, ..report(0) };
        for (name, figure) in figures(&empty) {
            if let Figure::Ratio(ratio) = figure {
                assert!(ratio.is_finite(), "{name}");
            }
        }
    }
}
