//! CLUSTER, READONLY and READWRITE, as a server that is no cluster node answers them. Knows nothing else.

use super::{Acl, Args, Ctx, Flags, Outcome, Run, Spec, fail};
use crate::protocol::Reply;

const DISABLED: &str = "ERR This instance has cluster support disabled";

const STALE: Flags = Flags::STALE;
const ADMIN: Flags = Flags::ADMIN.or(Flags::STALE);
const CHANGE: Flags = ADMIN.or(Flags::NO_ASYNC_LOADING);
const LOOK: Flags = Flags::LOADING.or(Flags::STALE);
const MODE: Flags = LOOK.or(Flags::FAST);

const NONE: &[&str] = &[];
const VARIES: &[&str] = &["nondeterministic_output"];

const fn row(name: &'static str, arity: i32, flags: Flags, tips: &'static [&'static str]) -> Spec {
    Spec {
        name,
        arity,
        flags,
        tips,
        group: "cluster",
        since: "3.0.0",
        summary: "Only in a cluster, which this server is not.",
        run: Run::Server(disabled),
        ..Spec::BASE
    }
}

const fn since(since: &'static str, row: Spec) -> Spec {
    Spec { since, ..row }
}

const fn with(syntax: &'static str, row: Spec) -> Spec {
    Spec { syntax, ..row }
}

pub(super) const COMMANDS: &[Spec] = &[
    Spec { acl: Acl::CONNECTION, ..row("asking", 1, Flags::FAST, NONE) },
    Spec { complexity: "Depends on subcommand.", run: Run::Container, ..row("cluster", -2, Flags::NONE, NONE) },
    with("slot [slot ...]", row("cluster|addslots", -3, CHANGE, NONE)),
    since(
        "7.0.0",
        with("start-slot end-slot [start-slot end-slot ...]", row("cluster|addslotsrange", -4, CHANGE, NONE)),
    ),
    row("cluster|bumpepoch", 2, CHANGE, VARIES),
    with("node-id", row("cluster|count-failure-reports", 3, ADMIN, VARIES)),
    with("slot", row("cluster|countkeysinslot", 3, STALE, NONE)),
    with("slot [slot ...]", row("cluster|delslots", -3, CHANGE, NONE)),
    since(
        "7.0.0",
        with("start-slot end-slot [start-slot end-slot ...]", row("cluster|delslotsrange", -4, CHANGE, NONE)),
    ),
    with("[FORCE | TAKEOVER]", row("cluster|failover", -2, CHANGE, NONE)),
    row("cluster|flushslots", 2, CHANGE, NONE),
    with("node-id", row("cluster|forget", 3, CHANGE, NONE)),
    with("slot count", row("cluster|getkeysinslot", 4, STALE, VARIES)),
    since("5.0.0", row("cluster|help", 2, LOOK, NONE)),
    row("cluster|info", 2, STALE, VARIES),
    with("key", row("cluster|keyslot", 3, STALE, NONE)),
    since("7.0.0", row("cluster|links", 2, STALE, VARIES)),
    with("ip port [cluster-bus-port]", row("cluster|meet", -4, CHANGE, NONE)),
    row("cluster|myid", 2, STALE, NONE),
    since("7.2.0", row("cluster|myshardid", 2, STALE, VARIES)),
    row("cluster|nodes", 2, STALE, VARIES),
    since("5.0.0", with("node-id", row("cluster|replicas", 3, ADMIN, VARIES))),
    with("node-id", row("cluster|replicate", 3, CHANGE, NONE)),
    with("[HARD | SOFT]", row("cluster|reset", -2, ADMIN.or(Flags::NOSCRIPT), NONE)),
    row("cluster|saveconfig", 2, CHANGE, NONE),
    with("config-epoch", row("cluster|set-config-epoch", 3, CHANGE, NONE)),
    with(
        "slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>",
        row("cluster|setslot", -4, CHANGE, NONE),
    ),
    since("7.0.0", row("cluster|shards", 2, LOOK, VARIES)),
    with("node-id", row("cluster|slaves", 3, ADMIN, VARIES)),
    Spec {
        since: "8.2.0",
        syntax: "<SLOTSRANGE start-slot end-slot | ORDERBY metric [LIMIT limit] [ASC | DESC]>",
        ..row("cluster|slot-stats", -4, LOOK, &["nondeterministic_output", "request_policy:all_shards"])
    },
    row("cluster|slots", 2, LOOK, VARIES),
    Spec { acl: Acl::CONNECTION, ..row("readonly", 1, MODE, NONE) },
    Spec { acl: Acl::CONNECTION, ..row("readwrite", 1, MODE, NONE) },
];

fn disabled(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    fail(reply, DISABLED)
}
