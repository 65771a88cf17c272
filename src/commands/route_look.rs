//! ROUTE's looks at what happens: figures of each route, the plan of its query, why a key is as it is, and a load on
//! demand. Knows routes, and what the keyspace says of one key.

use super::route::{ROW, pair};
use super::{Args, Ctx, Fill, Flags, KeyFlags, KeySpec, Keys, Later, Outcome, Run, Spec, Write, fail};
use crate::keyspace::{Standing, View};
use crate::protocol::Reply;
use crate::source::{Cause, Plan, Route, RouteFigures};
use std::sync::Arc;

/// The key of ROUTE EXPLAIN, REFRESH and WHY.
const KEY: Keys = Keys::Specs(&[KeySpec::one(2, KeyFlags::RO)]);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "route|explain",
        arity: 3,
        // Its reply comes later, which a transaction cannot wait for.
        flags: ROW.flags.or(Flags::NO_MULTI),
        keys: KEY,
        syntax: "key",
        complexity: "O(1), and some queries to the database's catalogs",
        summary: "Returns the plan of the query that loads a key, what is wrong with it, and the index that would help.",
        run: Run::Server(explain),
        ..ROW
    },
    Spec {
        name: "route|refresh",
        arity: 3,
        flags: Flags::ADMIN.or(Flags::WRITE).or(Flags::NOSCRIPT),
        keys: Keys::Specs(&[KeySpec::one(2, KeyFlags::RW.or(KeyFlags::UPDATE))]),
        fill: Fill::Read,
        syntax: "key",
        write: Write::Ttl,
        summary: "Loads a key anew, whatever is known of it. Returns 1 if there is a row, 0 if not.",
        run: Run::Data(refresh),
        ..ROW
    },
    Spec {
        name: "route|stats",
        arity: -2,
        syntax: "[name [name ...]]",
        complexity: "O(N) where N is the number of routes",
        summary: "Returns the figures of some or all routes: reads, waits, loads, errors, times, hit ratio, time saved.",
        run: Run::Server(stats),
        ..ROW
    },
    Spec {
        name: "route|why",
        arity: 3,
        keys: KEY,
        syntax: "key",
        summary: "Tells which route loads a key, and whether and why it is cached, stale, absent or being loaded.",
        run: Run::Server(why),
        ..ROW
    },
];

fn explain(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sources = ctx.state.sources.load_full();
    let Some((route, _)) = sources.find(ctx.client.db() as u32, args.at(2)) else {
        return fail(reply, "ERR no route loads this key");
    };
    let (name, query) = (route.name.to_string(), route.query.sql());
    let plan = sources.explain(route);
    Outcome::Later(Later::new(async move {
        let plan = plan.await;
        Box::new(move |reply: &mut Reply<'_>| match plan {
            Ok(plan) => tell_plan(reply, &name, &query, &plan),
            Err(problem) => reply.error(&format!("ERR route '{name}': {problem}")),
        }) as super::Answer
    }))
}

fn tell_plan(reply: &mut Reply<'_>, name: &str, query: &str, plan: &Plan) {
    reply.map(6);
    pair(reply, "route", name);
    pair(reply, "query", query);
    pair(reply, "cost", &format!("{:.2}", plan.cost));
    reply.text("findings");
    reply.array(plan.findings.len());
    plan.findings.iter().for_each(|finding| reply.text(&finding.words));
    reply.text("indexes");
    let indexes: Vec<&String> = plan.findings.iter().filter_map(|finding| finding.index.as_ref()).collect();
    reply.array(indexes.len());
    indexes.into_iter().for_each(|index| reply.text(index));
    reply.text("plan");
    reply.array(plan.lines.len());
    plan.lines.iter().for_each(|line| reply.text(line));
}

/// Runs twice: first it makes what is known of the key void, so that it is loaded; then it sees what that brought.
fn refresh(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !db.is_filled() {
        db.make_stale(0);
    }
    let is_there = db.read_any(0) || db.loaded(0).is_some() && !db.was_absent(0);
    reply.integer(i64::from(is_there));
    Outcome::Done
}

fn stats(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sources = ctx.state.sources.load_full();
    let mut routes: Vec<Arc<Route>> = Vec::new();
    if args.len() == 2 {
        routes.extend(sources.all_routes().map(|(route, _)| Arc::clone(route)));
    }
    for given in args.from(2) {
        match sources.known(std::str::from_utf8(given).unwrap_or("\u{fffd}")) {
            Ok(route) => routes.push(Arc::clone(route)),
            Err(message) => return fail(reply, &format!("ERR {message}")),
        }
    }
    let breakers: Vec<&str> = sources.snapshots().iter().map(|source| source.breaker.state).collect();
    reply.array(routes.len());
    for route in &routes {
        let breaker = breakers.get(route.source).copied().unwrap_or_default();
        tell_figures(reply, &route.name, breaker, &route.stats.snapshot());
    }
    Outcome::Done
}

fn tell_figures(reply: &mut Reply<'_>, name: &str, breaker: &str, figures: &RouteFigures) {
    let hits = figures.hits();
    let ratio = if figures.reads == 0 { 0.0 } else { hits as f64 / figures.reads as f64 };
    let causes: Vec<(&str, u64)> =
        Cause::ALL.iter().map(|cause| (cause.name(), figures.errors[cause.index()])).filter(|(_, n)| *n > 0).collect();
    let counts = [
        // Estimated from a sample of one in 64.
        ("hits", hits),
        ("waits", figures.waits),
        ("writes", figures.writes),
        ("write_errors", figures.write_errors),
        ("loads", figures.loads),
        ("rows", figures.rows),
        ("absent", figures.absent),
        ("queries", figures.queries),
        ("batches", figures.batches),
        ("batched_keys", figures.batched),
    ];
    let times = [("load", &figures.load_time), ("query", &figures.query_time), ("single_query", &figures.single_time)];
    reply.map(5 + counts.len() + 2 * times.len());
    pair(reply, "name", name);
    pair(reply, "breaker", breaker);
    for (field, count) in counts {
        reply.text(field);
        reply.integer(count as i64);
    }
    reply.text("errors");
    reply.map(causes.len());
    for (cause, count) in causes {
        reply.text(cause);
        reply.integer(count as i64);
    }
    for (what, time) in times {
        for (percent, share) in [(50, 0.5), (99, 0.99)] {
            reply.text(&format!("{what}_usec_p{percent}"));
            reply.integer(time.quantile_us(share) as i64);
        }
    }
    pair(reply, "hit_ratio", &format!("{ratio:.4}"));
    // What the hits would have cost it, at what the loads did.
    pair(reply, "database_seconds_saved", &format!("{:.3}", hits as f64 * figures.key_us() / 1e6));
}

fn why(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (state, db, key, now) = (ctx.state, ctx.client.db(), args.at(2), ctx.now);
    let sources = state.sources.load_full();
    let route = sources.find(db as u32, key).map(|(route, _)| route);
    let hash = state.keyspace.hash(key);
    let mut shard = state.keyspace.lock(state.keyspace.shard_of(hash));
    let place = shard.find(db, hash, key, now);
    let ttl = place.and_then(|place| shard.entry(db, place).expire_at()).map(|at| at - now);
    let loaded = place.and_then(|_| shard.loaded(db, hash, now));
    let invalidated = shard.invalidated_at(hash);
    let (is_absent, is_loading) = (shard.is_absent(db, hash, key, now), shard.is_loading(db, hash, key));
    drop(shard);
    let words = match (place.is_some(), loaded.map(|loaded| ((), loaded.standing))) {
        (true, Some((_, Standing::Fresh))) => "cached: it was loaded and is fresh",
        (true, Some((_, Standing::Due))) => "cached: it is fresh, and the next read loads it anew in the background",
        (true, Some((_, Standing::Stale))) => "stale: it is served while the next read loads it anew",
        (true, Some((_, Standing::Paused))) => "stale: it is served, because loading it failed a moment ago",
        (true, Some((_, Standing::Fallback))) => "stale: the next read loads it, and serves it only if that fails",
        (true, Some((_, Standing::Over))) => "stale: its source may have changed, and the next read loads it",
        (true, None) => "local: a command wrote it, so the database is not asked",
        (false, _) if is_loading => "being loaded: nothing is cached",
        (false, _) if is_absent => "absent: the database had no row a moment ago",
        (false, _) if route.is_some() => "not cached: the next read loads it",
        (false, _) => "not there, and no route loads it",
    };
    reply.map(11);
    pair(reply, "route", route.map_or("", |route| &route.name));
    pair(reply, "why", words);
    for (field, value) in [
        ("loading", i64::from(is_loading)),
        ("loaded_at_ms", loaded.map_or(-1, |loaded| loaded.at)),
        ("age_ms", loaded.map_or(-1, |loaded| (now - loaded.at).max(0))),
        // Waiting for a connection included.
        ("load_time_ms", loaded.map_or(-1, |loaded| loaded.took_ms.into())),
        ("ttl_ms", ttl.unwrap_or(-1)),
        ("route_load_usec_p50", route.map_or(-1, |route| route.stats.snapshot().load_time.quantile_us(0.5) as i64)),
        // When a change of its rows was last heard of; 0: not that anybody remembers. Of single keys, the last few are
        // remembered.
        ("invalidated_at_ms", invalidated.unwrap_or(0)),
        ("route_invalidated_at_ms", route.map_or(-1, |route| route.terms.changed_at())),
        // When all that was loaded for the route last became stale at once; 0: never.
        ("route_flushed_at_ms", route.map_or(-1, |route| route.terms.moved_at())),
    ] {
        reply.text(field);
        reply.integer(value);
    }
    Outcome::Done
}
