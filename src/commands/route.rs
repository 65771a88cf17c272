//! ROUTE: the read-through routes, seen and steered while the server runs. A command of Cenote's own. Knows routes and
//! their figures; what a database says is asked by `source`.

use super::{Args, Ctx, Flags, Outcome, Run, SYNTAX_ERROR, Spec, fail, help};
use crate::protocol::Reply;
use crate::source::{Dependencies, Route, Sources};
use std::sync::Arc;

pub(super) const ROW: Spec = Spec {
    arity: 2,
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    group: "server",
    since: "1.0.0",
    // Other routes mean that shards are looked at.
    locks: true,
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "route",
        arity: -2,
        flags: Flags::NONE,
        complexity: "Depends on subcommand.",
        summary: "Shows and changes the read-through routes.",
        run: Run::Container,
        ..ROW
    },
    Spec {
        name: "route|add",
        arity: -7,
        syntax: "name field value [field value ...]",
        complexity: "O(N) where N is the number of routes",
        summary: "Adds a route until the next RELOAD; the fields are those of [[route]] in the routes file.",
        run: Run::Server(add),
        ..ROW
    },
    Spec {
        name: "route|del",
        arity: 3,
        syntax: "name",
        complexity: "O(N) where N is the number of routes",
        summary: "Removes a route until the next RELOAD; what was loaded for it counts as stale.",
        run: Run::Server(del),
        ..ROW
    },
    Spec {
        name: "route|disable",
        arity: 3,
        syntax: "name",
        complexity: "O(N) where N is the number of routes",
        summary: "Switches a route off: its missing keys are nil, without a query.",
        run: Run::Server(|ctx, args, reply| switch(ctx, args, reply, false)),
        ..ROW
    },
    Spec {
        name: "route|enable",
        arity: 3,
        syntax: "name",
        complexity: "O(N) where N is the number of routes",
        summary: "Switches a route on again.",
        run: Run::Server(|ctx, args, reply| switch(ctx, args, reply, true)),
        ..ROW
    },
    Spec {
        name: "route|flush",
        arity: -2,
        syntax: "[name [name ...]]",
        complexity: "O(N) where N is the number of routes given, whatever the number of keys",
        summary: "Makes everything stale that was loaded for some or all routes; it is loaded anew when asked for.",
        run: Run::Server(flush),
        ..ROW
    },
    Spec {
        name: "route|get",
        arity: 3,
        syntax: "name",
        summary: "Returns the fields of a route, its source, and how its changes are heard.",
        run: Run::Server(get),
        ..ROW
    },
    help::row("route|help", "1.0.0"),
    Spec {
        name: "route|list",
        complexity: "O(N) where N is the number of routes",
        summary: "Returns all routes: name, key, source, whether switched on, and how its changes are heard.",
        run: Run::Server(list),
        ..ROW
    },
    Spec {
        name: "route|reload",
        complexity: "O(N) where N is the number of routes",
        summary: "Reads the routes file again, all of it or, if anything is wrong with it, nothing.",
        run: Run::Server(reload),
        ..ROW
    },
];

/// The name at argument 2, if it may be one.
fn name<'a>(args: &Args<'a>) -> &'a str {
    std::str::from_utf8(args.at(2)).unwrap_or("\u{fffd}")
}

/// Puts other routes into force; what was loaded for those that are gone counts as stale.
fn replace(ctx: &Ctx<'_>, reply: &mut Reply<'_>, change: impl FnOnce(&Sources) -> Result<Sources, String>) -> Outcome {
    match ctx.state.replace_sources(change, ctx.now) {
        Ok(()) => reply.ok(),
        Err(message) => return fail(reply, &format!("ERR {message}")),
    }
    Outcome::Done
}

fn add(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let texts: Option<Vec<&str>> = args.from(2).map(|arg| std::str::from_utf8(arg).ok()).collect();
    let Some(texts) = texts else { return fail(reply, "ERR a route's fields must be UTF-8") };
    if texts.len().is_multiple_of(2) {
        return fail(reply, SYNTAX_ERROR);
    }
    let mut fields = vec![("name", texts[0])];
    for pair in texts[1..].chunks_exact(2) {
        if fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(pair[0])) {
            return fail(reply, &format!("ERR the field {} is given twice", pair[0].escape_debug()));
        }
        fields.push((pair[0], pair[1]));
    }
    replace(ctx, reply, |sources| sources.with_route(&fields))
}

fn del(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    replace(ctx, reply, |sources| sources.without_route(name(args)))
}

fn switch(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>, on: bool) -> Outcome {
    replace(ctx, reply, |sources| sources.switched(name(args), on))
}

fn reload(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match ctx.state.reload_routes(ctx.now) {
        Ok(()) => reply.ok(),
        Err(message) => return fail(reply, &format!("ERR {message}")),
    }
    Outcome::Done
}

fn flush(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sources = ctx.state.sources.load_full();
    let mut routes: Vec<Arc<Route>> = Vec::new();
    if args.len() == 2 {
        routes.extend(sources.routes().iter().cloned());
    }
    for given in args.from(2) {
        match sources.known(std::str::from_utf8(given).unwrap_or("\u{fffd}")) {
            Ok(route) => routes.push(Arc::clone(route)),
            Err(message) => return fail(reply, &format!("ERR {message}")),
        }
    }
    routes.iter().for_each(|route| ctx.state.bump_epoch(route, None, ctx.now));
    reply.ok();
    Outcome::Done
}

fn list(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sources = ctx.state.sources.load_full();
    let routes = sources.all_routes();
    reply.array(routes.len());
    for (route, is_on) in routes {
        reply.map(5);
        pair(reply, "name", &route.name);
        pair(reply, "key", route.key.text());
        pair(reply, "source", sources.source_of(route).map_or("", |source| &source.name));
        pair(reply, "enabled", if is_on { "yes" } else { "no" });
        pair(reply, "invalidate", invalidate(&sources, route));
    }
    Outcome::Done
}

fn get(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sources = ctx.state.sources.load_full();
    let route = match sources.known(name(args)) {
        Ok(route) => route,
        Err(message) => return fail(reply, &format!("ERR {message}")),
    };
    let is_on = sources.all_routes().any(|(other, is_on)| Arc::ptr_eq(other, route) && is_on);
    let changes = changes(&sources, route);
    let own: Vec<_> =
        route.fields.iter().filter(|(name, _)| !["name", "source", "invalidate"].contains(&&**name)).collect();
    reply.map(5 + own.len());
    pair(reply, "name", &route.name);
    for (name, value) in own {
        pair(reply, name, value);
    }
    pair(reply, "source", sources.source_of(route).map_or("", |source| &source.name));
    pair(reply, "enabled", if is_on { "yes" } else { "no" });
    pair(reply, "invalidate", invalidate(&sources, route));
    reply.text("changes");
    reply.array(changes.len());
    changes.iter().for_each(|line| reply.text(line));
    Outcome::Done
}

pub(super) fn pair(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.text(name);
    reply.text(value);
}

/// How the changes of a route's rows are heard.
fn invalidate(sources: &Sources, route: &Route) -> &'static str {
    let feed = sources.source_of(route).and_then(|source| source.feed.as_ref());
    match (&route.dependencies, feed) {
        (Dependencies::On(_), Some(feed)) => feed.mode.name(),
        _ => "none",
    }
}

/// What the route's values depend on, and what there is to say of it.
fn changes(sources: &Sources, route: &Route) -> Vec<String> {
    let name_of = |capture: usize| route.key.names().get(capture).map_or("", |name| &**name);
    let mut lines: Vec<String> = match &route.dependencies {
        Dependencies::Off => Vec::new(),
        Dependencies::Unknown(why) => vec![format!("not heard: {why}; declare depends = [...]")],
        Dependencies::On(list) => list
            .iter()
            .map(|dependency| {
                let columns = dependency.columns.iter().enumerate();
                let pairs: Vec<String> =
                    columns.map(|(capture, column)| format!("{column} -> {}", name_of(capture))).collect();
                if pairs.is_empty() {
                    dependency.table.clone()
                } else {
                    format!("{}({})", dependency.table, pairs.join(", "))
                }
            })
            .collect(),
    };
    lines.extend(sources.feeds().iter().flat_map(|feed| feed.remarks(route)));
    lines
}
