//! CONFIG: looking at the directives and changing them while the server runs. What a value means is `config`'s.

use super::{Args, Ctx, Flags, Outcome, Run, SYNTAX_ERROR, Spec, acl_file, fail, help};
use crate::config::directives::{Effect, find};
use crate::config::{Config, SetError, io_text};
use crate::open_files;
use crate::protocol::Reply;
use crate::state::tls_of;

const ROW: Spec = Spec {
    arity: 2,
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    group: "server",
    since: "2.0.0",
    ..Spec::BASE
};

const EVERY_NODE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "config",
        arity: -2,
        flags: Flags::NONE,
        complexity: "Depends on subcommand.",
        summary: "Reads and changes the configuration.",
        run: Run::Container,
        ..ROW
    },
    Spec {
        name: "config|get",
        arity: -3,
        syntax: "parameter [parameter ...]",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Returns the values of the directives that match a pattern.",
        run: Run::Server(get),
        ..ROW
    },
    help::row("config|help", "5.0.0"),
    Spec {
        name: "config|resetstat",
        tips: EVERY_NODE,
        summary: "Sets the counters that INFO shows back to zero.",
        locks: true,
        run: Run::Server(resetstat),
        ..ROW
    },
    Spec {
        name: "config|rewrite",
        tips: EVERY_NODE,
        since: "2.8.0",
        summary: "Writes the values in force to the configuration file.",
        run: Run::Server(rewrite),
        ..ROW
    },
    Spec {
        name: "config|set",
        arity: -4,
        tips: EVERY_NODE,
        syntax: "parameter value [parameter value ...]",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Changes directives, all of those given or none.",
        locks: true,
        run: Run::Server(set),
        ..ROW
    },
];

fn get(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let patterns: Vec<&[u8]> = args.from(2).collect();
    let found = ctx.state.config.load().get(&patterns);
    reply.map(found.len());
    for (name, value) in &found {
        reply.text(name);
        reply.text(value);
    }
    Outcome::Done
}

fn set(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !args.len().is_multiple_of(2) {
        return fail(reply, SYNTAX_ERROR);
    }
    let pairs: Vec<(&[u8], &[u8])> = (2..args.len()).step_by(2).map(|at| (args.at(at), args.at(at + 1))).collect();
    let local = ctx.client.info.is_local();
    let mut changed = Vec::new();
    let updated = ctx.state.config.update(|before| {
        let after = before.set(&pairs, local)?;
        changed = before.changed(&after);
        // A file of the same name may hold something else by now.
        let of_tls = pairs.iter().map(|(name, _)| *name).find(|name| name.to_ascii_lowercase().starts_with(b"tls-"));
        try_out(ctx, before, &after, (&changed, of_tls))?;
        ctx.state.put_into_force(Some(before), &after);
        Ok::<_, SetError>(after)
    });
    if let Err(error) = updated {
        return fail(reply, &format!("ERR {error}"));
    }
    for name in changed {
        if find(name.as_bytes()).is_some_and(|found| found.directive.effect == Effect::Accepted) {
            tracing::warn!("CONFIG SET {name}: accepted, but without effect in Cenote");
        }
    }
    reply.ok();
    Outcome::Done
}

const LISTEN_FAILED: &str = "Unable to listen on this port. Check server logs.";

/// What a change needs besides the new values, and may not get: file descriptors, sockets. Last what can be undone least.
fn try_out(
    ctx: &Ctx<'_>,
    before: &Config,
    after: &Config,
    (changed, of_tls): (&[&str], Option<&[u8]>),
) -> Result<(), SetError> {
    let room = open_files::make_room_for(after.maxclients);
    if after.maxclients > before.maxclients && room < after.maxclients {
        let text = "The operating system is not able to handle the specified number of clients, try with";
        return Err(SetError::failed("maxclients", format!("{text} {room}")));
    }
    let tls = match of_tls {
        Some(name) => Some(tls_of(after).map_err(|why| {
            tracing::warn!("CONFIG SET of TLS failed: {why}");
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            SetError::failed(&name, "Unable to update TLS configuration. Check server logs.")
        })?),
        None => None,
    };
    let has = |name| changed.contains(&name);
    if before.oom_score != after.oom_score {
        ctx.state.set_oom_score(after.oom_score).map_err(|why| {
            tracing::warn!("CONFIG SET of oom-score-adj failed: {why}");
            let name = if has("oom-score-adj") { "oom-score-adj" } else { "oom-score-adj-values" };
            SetError::failed(name, "Failed to apply new oom_score_adj configuration, check server logs.")
        })?;
    }
    if has("port") || has("bind") || has("tls-port") {
        ctx.state.moves.ask(after.clone()).map_err(|why| {
            tracing::warn!("CONFIG SET of port, tls-port or bind failed: {why}");
            match has("bind") {
                true => SetError::failed("bind", "Failed to bind to specified addresses."),
                false if has("port") => SetError::failed("port", LISTEN_FAILED),
                false => SetError::failed("tls-port", LISTEN_FAILED),
            }
        })?;
    }
    if let Some(tls) = tls {
        ctx.state.tls.store(tls);
    }
    Ok(())
}

fn resetstat(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    ctx.state.reset_stats(ctx.now);
    reply.ok();
    Outcome::Done
}

fn rewrite(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(path) = &ctx.state.config_file else {
        return fail(reply, "ERR The server is running without a config file");
    };
    let config = ctx.state.config.load();
    let users = acl_file::lines_for_config(ctx.state, &config);
    match config.rewrite_file(path, users.as_deref()) {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(&format!("ERR Rewriting config file: {}", io_text(&error))),
    }
    Outcome::Done
}
