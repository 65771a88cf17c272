//! CLIENT TRACKING and its kin: how a connection is told that the copies which it keeps of keys are void. Which words
//! go where is in `state/tracking`. It must not know keys or sockets.

use super::{Acl, Args, Ctx, Flags, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, c_text, fail};
use crate::protocol::Reply;
use crate::state::{TrackingMode, TrackingOptions};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

const PLAIN: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "client|tracking",
        arity: -3,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "6.0.0",
        syntax: "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] \
                 [NOLOOP]",
        complexity: "O(1). Some options may introduce additional complexity.",
        summary: "Turns invalidation messages for client-side caching on or off.",
        run: Run::Server(tracking),
        ..Spec::BASE
    },
    Spec {
        name: "client|trackinginfo",
        arity: 2,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "6.2.0",
        summary: "Tells how the connection tracks keys.",
        run: Run::Server(tracking_info),
        ..Spec::BASE
    },
    Spec {
        name: "client|caching",
        arity: 3,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "6.0.0",
        syntax: "<YES | NO>",
        summary: "Says whether the keys of the next command are tracked.",
        run: Run::Server(caching),
        ..Spec::BASE
    },
    Spec {
        name: "client|getredir",
        arity: 2,
        flags: PLAIN,
        acl: Acl::CONNECTION,
        group: "connection",
        since: "6.0.0",
        summary: "Tells which connection gets this one's invalidation messages.",
        run: Run::Server(get_redirection),
        ..Spec::BASE
    },
];

const SWITCH_BROADCAST: &str = "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                                re-enabling it with a different mode.";
const SWITCH_OPT: &str = "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
                          re-enabling it with a different mode.";

/// What follows ON or OFF.
#[derive(Default)]
struct Given<'a> {
    redirect: u64,
    prefixes: Vec<&'a [u8]>,
    is_broadcast: bool,
    is_opt_in: bool,
    is_opt_out: bool,
    no_loop: bool,
}

fn parse<'a>(ctx: &Ctx<'_>, args: &Args<'a>) -> Result<Given<'a>, &'static str> {
    let mut given = Given::default();
    let mut at = 3;
    while at < args.len() {
        let value = args.get(at + 1);
        if args.is(at, "REDIRECT") && value.is_some() {
            at += 1;
            if given.redirect != 0 {
                return Err("ERR A client can only redirect to a single other client");
            }
            let id = args.integer(at).ok_or(NOT_AN_INTEGER)?;
            let client = u64::try_from(id).ok().and_then(|id| ctx.state.clients.get(id));
            given.redirect = client.ok_or("ERR The client ID you want redirect to does not exist")?.id;
        } else if let (true, Some(prefix)) = (args.is(at, "PREFIX"), value) {
            at += 1;
            given.prefixes.push(prefix);
        } else if args.is(at, "BCAST") {
            given.is_broadcast = true;
        } else if args.is(at, "OPTIN") {
            given.is_opt_in = true;
        } else if args.is(at, "OPTOUT") {
            given.is_opt_out = true;
        } else if args.is(at, "NOLOOP") {
            given.no_loop = true;
        } else {
            return Err(SYNTAX_ERROR);
        }
        at += 1;
    }
    Ok(given)
}

impl Given<'_> {
    fn mode(&self) -> TrackingMode {
        match (self.is_broadcast, self.is_opt_in, self.is_opt_out) {
            (true, ..) => TrackingMode::Broadcast,
            (_, true, _) => TrackingMode::OptIn,
            (_, _, true) => TrackingMode::OptOut,
            _ => TrackingMode::All,
        }
    }

    /// Why this cannot follow what was asked for `before`, if so.
    fn fault(&self, before: Option<&TrackingOptions>) -> Option<Vec<u8>> {
        use TrackingMode::{Broadcast, OptIn, OptOut};
        let mode = before.map(|options| options.mode);
        let text = if !self.prefixes.is_empty() && !self.is_broadcast {
            "ERR PREFIX option requires BCAST mode to be enabled"
        } else if mode.is_some_and(|mode| (mode == Broadcast) != self.is_broadcast) {
            SWITCH_BROADCAST
        } else if self.is_broadcast && (self.is_opt_in || self.is_opt_out) {
            "ERR OPTIN and OPTOUT are not compatible with BCAST"
        } else if self.is_opt_in && self.is_opt_out {
            "ERR You can't specify both OPTIN mode and OPTOUT mode"
        } else if self.is_opt_in && mode == Some(OptOut) || self.is_opt_out && mode == Some(OptIn) {
            SWITCH_OPT
        } else {
            return self.overlap(before);
        };
        Some(text.into())
    }

    /// Names two prefixes that a key may both begin with.
    fn overlap(&self, before: Option<&TrackingOptions>) -> Option<Vec<u8>> {
        let overlaps = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        for (index, prefix) in self.prefixes.iter().enumerate() {
            let known = before.into_iter().flat_map(|options| &options.prefixes).find(|known| overlaps(known, prefix));
            let other = self.prefixes[index + 1..].iter().find(|other| overlaps(other, prefix));
            let (which, other) = match (known, other) {
                (Some(known), _) => ("an existing", &**known),
                (None, Some(other)) => ("another provided", *other),
                (None, None) => continue,
            };
            let middle = format!("' overlaps with {which} prefix '");
            let end = b"'. Prefixes for a single client must not overlap.";
            return Some([b"ERR Prefix '", c_text(prefix), middle.as_bytes(), c_text(other), end].concat());
        }
        None
    }
}

fn tracking(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let given = match parse(ctx, args) {
        Ok(given) => given,
        Err(text) => return fail(reply, text),
    };
    let options = if args.is(2, "OFF") {
        TrackingOptions::default()
    } else if args.is(2, "ON") {
        let before = ctx.client.tracking_options();
        if let Some(text) = given.fault(before) {
            reply.error_bytes(&text);
            return Outcome::Done;
        }
        let mut prefixes: BTreeSet<Box<[u8]>> = before.map(|options| options.prefixes.clone()).unwrap_or_default();
        prefixes.extend(given.prefixes.iter().map(|prefix| Box::from(*prefix)));
        if given.is_broadcast && given.prefixes.is_empty() {
            prefixes.insert(Box::default());
        }
        TrackingOptions { mode: given.mode(), no_loop: given.no_loop, redirect: given.redirect, prefixes }
    } else {
        return fail(reply, SYNTAX_ERROR);
    };
    ctx.state.set_tracking(ctx.client, options);
    reply.ok();
    Outcome::Done
}

fn tracking_info(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let is_caching = ctx.client.tracking.as_ref().is_some_and(|tracking| tracking.caching);
    let mut flags = Vec::new();
    let options = ctx.client.tracking_options();
    flags.push(if options.is_some() { "on" } else { "off" });
    if let Some(options) = options {
        match options.mode {
            TrackingMode::Broadcast => flags.push("bcast"),
            TrackingMode::OptIn => flags.extend(["optin", "caching-yes"].iter().take(1 + usize::from(is_caching))),
            TrackingMode::OptOut => flags.extend(["optout", "caching-no"].iter().take(1 + usize::from(is_caching))),
            TrackingMode::Off | TrackingMode::All => {}
        }
        if options.no_loop {
            flags.push("noloop");
        }
        if ctx.client.info.redirect_broken.load(Ordering::Relaxed) {
            flags.push("broken_redirect");
        }
    }
    reply.map(3);
    reply.text("flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.text(flag));
    reply.text("redirect");
    reply.integer(options.map_or(-1, |options| options.redirect as i64));
    reply.text("prefixes");
    let prefixes = options.map(|options| &options.prefixes);
    reply.array(prefixes.map_or(0, BTreeSet::len));
    prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
    Outcome::Done
}

fn caching(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mode = ctx.client.tracking_options().map(|options| options.mode);
    let (is_yes, is_no) = (args.is(2, "YES"), args.is(2, "NO"));
    let fault = match mode {
        None => {
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
             enabled"
        }
        Some(mode) if is_yes && mode != TrackingMode::OptIn => {
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
        }
        Some(mode) if is_no && mode != TrackingMode::OptOut => {
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
        }
        Some(_) if !is_yes && !is_no => SYNTAX_ERROR,
        Some(_) => {
            ctx.client.tracking.iter_mut().for_each(|tracking| tracking.caching = true);
            reply.ok();
            return Outcome::Done;
        }
    };
    fail(reply, fault)
}

fn get_redirection(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(ctx.client.tracking_options().map_or(-1, |options| options.redirect as i64));
    Outcome::Done
}
