//! The generated parts of COMPATIBILITY.md. Knows the tables of commands, directives and
//! applications, and no server.

use std::collections::{BTreeMap, BTreeSet};

use cenote::commands::registry;
use cenote::config::directives::{DIRECTIVES, Effect};
use serde::Deserialize;

use super::{Known, KnownCommands};

/// Commands that are there, but do less than in Redis: full name, or `container|*` for its subcommands; the reason.
/// What has a row and is not named here does all that it does in Redis.
const PARTLY: &[(&str, &str)] = &[
    ("bgrewriteaof", "an error: nothing is kept on disk yet"),
    ("bgsave", "an error: nothing is kept on disk yet"),
    (
        "client|tracking",
        "SWAPDB is told as a flush is; BCAST tells what a transaction or a pipeline changed by command; an XREAD that had \
         to wait is not tracked",
    ),
    ("cluster|*", "the error of a server that is not in cluster mode, as Redis gives it with `cluster-enabled no`"),
    ("config|set", "directives without effect are stored and shown; see their list below"),
    ("debug", "a subset, see `DEBUG HELP`: nothing that crashes, leaks or restarts the server, or needs a file"),
    ("lastsave", "the start of the server: nothing is saved yet"),
    ("module|list", "always empty: there are no modules"),
    ("module|load", "an error: there are no modules"),
    ("module|loadex", "an error: there are no modules"),
    ("module|unload", "an error: there are no modules"),
    ("readonly", "the error of a server that is not in cluster mode"),
    ("readwrite", "the error of a server that is not in cluster mode"),
    ("replicaof", "`NO ONE` is accepted, a host is an error until replication comes"),
    ("role", "always `master`, without replicas"),
    ("save", "an error: nothing is kept on disk yet"),
    ("shutdown", "`SAVE` without `FORCE` is an error, as nothing can be saved"),
    ("slaveof", "as `REPLICAOF`"),
    ("wait", "0 at once: there are no replicas to wait for"),
    ("waitaof", "0 and 0 at once: there are neither files nor replicas to wait for"),
];

/// The groups in the order of the page.
const GROUPS: &[(&str, &str)] = &[
    ("string", "Strings"),
    ("generic", "Keys"),
    ("connection", "Connection"),
    ("server", "Server"),
    ("hash", "Hashes"),
    ("list", "Lists"),
    ("set", "Sets"),
    ("sorted-set", "Sorted sets"),
    ("stream", "Streams"),
    ("bitmap", "Bitmaps"),
    ("hyperloglog", "HyperLogLog"),
    ("geo", "Geo"),
    ("vector-set", "Vector sets"),
    ("pubsub", "Pub/sub"),
    ("transactions", "Transactions"),
    ("scripting", "Scripts and functions"),
    ("cluster", "Cluster"),
];

/// What Cenote does with a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Yes,
    Partly(&'static str),
    Later,
}

/// `config|get` as one types it.
pub(super) fn shown(name: &str) -> String {
    format!("`{}`", name.to_uppercase().replace('|', " "))
}

fn has_row(name: &str) -> bool {
    registry().all().any(|command| command.spec.name == name)
}

fn state(name: &str) -> State {
    let covers =
        |pattern: &str| pattern == name || pattern.strip_suffix('*').is_some_and(|head| name.starts_with(head));
    match PARTLY.iter().find(|(pattern, _)| covers(pattern)) {
        _ if !has_row(name) => State::Later,
        Some((_, reason)) => State::Partly(reason),
        None => State::Yes,
    }
}

/// The page with its generated parts made anew.
pub(super) fn renewed(page: &str, commands: &KnownCommands) -> String {
    check_notes(commands);
    let parts: BTreeMap<&str, String> = BTreeMap::from([
        ("summary", summary(commands)),
        ("commands", all_commands(commands)),
        ("directives", directives()),
        ("clients", clients()),
    ]);
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text += line;
        text.push('\n');
        let Some(name) = line.strip_prefix("<!-- generated: ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let part = parts.get(name).unwrap_or_else(|| panic!("COMPATIBILITY.md asks for an unknown part: {name}"));
        text += &format!("\n{}\n\n<!-- end -->\n", part.trim_end());
        assert!(lines.any(|line| line == "<!-- end -->"), "COMPATIBILITY.md: the part {name} has no end");
        seen.insert(name);
    }
    assert!(seen.len() == parts.len(), "COMPATIBILITY.md has no place for one of {:?}", parts.keys());
    text
}

/// Notes, groups and rows that nothing on the page would show are mistakes.
fn check_notes(commands: &KnownCommands) {
    for (pattern, _) in PARTLY {
        let head = pattern.trim_end_matches('*');
        let used = registry().all().any(|command| command.spec.name == head || command.spec.name.starts_with(head));
        assert!(used, "a note for {pattern}, which has no row");
    }
    for (name, known) in commands {
        assert!(
            GROUPS.iter().any(|(group, _)| *group == known.group),
            "{name}: the group {} has no title",
            known.group
        );
    }
}

fn of_group<'a>(commands: &'a KnownCommands, group: &str) -> Vec<(&'a String, &'a Known)> {
    commands.iter().filter(|(_, known)| known.group == group).collect()
}

/// Commands of a group that are in a state: `[yes, partly, later]`.
fn counts(members: &[(&String, &Known)]) -> [usize; 3] {
    let mut counts = [0; 3];
    for (name, _) in members {
        counts[match state(name) {
            State::Yes => 0,
            State::Partly(_) => 1,
            State::Later => 2,
        }] += 1;
    }
    counts
}

fn summary(commands: &KnownCommands) -> String {
    let mut text = "| group | commands | yes | partly | later |\n|---|---:|---:|---:|---:|\n".to_owned();
    let mut row = |title: &str, members: &[(&String, &Known)]| {
        let [yes, partly, later] = counts(members);
        text += &format!("| {title} | {} | {yes} | {partly} | {later} |\n", members.len());
    };
    for (group, title) in GROUPS {
        row(title, &of_group(commands, group));
    }
    row("**all**", &commands.iter().collect::<Vec<_>>());
    text
}

/// The name, and which of the two servers has the command where the other lacks it.
fn entry(name: &str, known: &Known) -> String {
    let only = match &known.since {
        [Some(version), None] => format!(" (Redis {version})"),
        [None, Some(version)] => format!(" (Valkey {version})"),
        _ => String::new(),
    };
    shown(name) + &only
}

fn all_commands(commands: &KnownCommands) -> String {
    let mut text = String::new();
    for (group, title) in GROUPS {
        let members = of_group(commands, group);
        text += &format!("### {title}\n\n");
        let list = |wanted: State| {
            let names = members.iter().filter(|(name, _)| state(name) == wanted);
            names.map(|(name, known)| entry(name, known)).collect::<Vec<_>>()
        };
        let (yes, later) = (list(State::Yes), list(State::Later));
        let lines =
            [("yes:", yes, String::new()), ("partly:", Vec::new(), partly(&members)), ("later:", later, String::new())];
        for (word, names, lines) in lines.iter().filter(|(_, names, lines)| !names.is_empty() || !lines.is_empty()) {
            text += &format!("{}\n\n{lines}", filled(word, names));
        }
    }
    let own: Vec<_> =
        registry().all().map(|command| command.spec.name).filter(|n| !commands.contains_key(*n)).collect();
    if !own.is_empty() {
        let names: Vec<_> = own.into_iter().map(shown).collect();
        text += &format!("### Cenote's own\n\n{}\n", filled("yes:", &names));
    }
    text
}

/// A line for each reason, with the commands that share it.
fn partly(members: &[(&String, &Known)]) -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, known) in members {
        let State::Partly(reason) = state(name) else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(entry(name, known)),
            None => reasons.push((reason, vec![entry(name, known)])),
        }
    }
    let mut text = String::new();
    for (reason, names) in &reasons {
        // Where many share a reason, it comes first.
        text += &match &names[..] {
            [name] => format!("- {name}: {reason}\n"),
            _ => filled(&format!("- {reason}:"), names).replace('\n', "\n  ") + "\n",
        };
    }
    if text.is_empty() { text } else { text + "\n" }
}

fn directives() -> String {
    let names = |effect: Effect| {
        let rows = DIRECTIVES.iter().filter(move |row| row.effect == effect);
        rows.map(|row| format!("`{}`", row.name)).collect::<Vec<_>>()
    };
    let (applied, mut accepted) = (names(Effect::Applied), names(Effect::Accepted));
    let (with, without) = (applied.len(), accepted.len());
    let mut text = filled(&format!("**In force** ({with}):"), &applied);
    text += &format!("\n\n**Accepted without effect** ({without}), for Cenote has nothing of the kind:");
    for (kind, starts) in KINDS {
        let is_of = |name: &String| starts.iter().any(|start| name[1..].starts_with(start));
        let (of_kind, others): (Vec<_>, Vec<_>) = accepted.into_iter().partition(is_of);
        assert!(!of_kind.is_empty(), "no directive is about {kind}");
        text += &format!("\n\n{}", filled(&format!("- {kind} ({}):", of_kind.len()), &of_kind));
        accepted = others;
    }
    text + "\n\n" + &filled(&format!("- the rest ({}):", accepted.len()), &accepted)
}

/// What directives are about that have no effect, by how their names begin.
const KINDS: &[(&str, &[&str])] = &[
    (
        "persistence",
        &[
            "aof",
            "append",
            "auto-aof",
            "bgsave",
            "dbfilename",
            "key-load",
            "loading",
            "no-append",
            "rdb",
            "save",
            "stop-writes",
        ],
    ),
    (
        "replication",
        &[
            "bind-source",
            "dual-channel",
            "masterauth",
            "masteruser",
            "min-replicas",
            "propagation",
            "repl-",
            "replica",
            "tls-client",
            "tls-replication",
        ],
    ),
    ("cluster", &["cluster", "slot-migration", "tls-cluster"]),
    ("modules and RDMA", &["enable-module", "loadmodule", "rdma", "vset"]),
    ("the allocator, and tables that are rehashed as a whole", &["active", "jemalloc"]),
    ("threads for input and output; there is `workers`", &["io-threads", "max-new", "prefetch"]),
];

/// What clients.toml says of an application; `scripts/test-clients` holds it against the truth.
#[derive(Deserialize)]
struct Application {
    name: String,
    language: String,
    packages: Vec<String>,
    does: String,
    #[serde(default)]
    cenote: Vec<String>,
    #[serde(default = "works")]
    state: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Applications {
    client: Vec<Application>,
}

fn works() -> String {
    "works".to_owned()
}

/// `ioredis 6.0.0` of `ioredis@6.0.0`; Debian's packages are named without a version.
fn package(pinned: &str) -> String {
    match pinned.rsplit_once("==").or_else(|| pinned.rsplit_once('@').filter(|(name, _)| !name.is_empty())) {
        Some((name, version)) => format!("{name} {version}"),
        None => format!("{pinned} (Debian)"),
    }
}

fn clients() -> String {
    let Applications { client } = toml::from_str(include_str!("../clients/clients.toml")).expect("clients.toml");
    let works = client.iter().filter(|row| row.state == "works").count();
    let mut text = format!(
        "{works} of {} work.\n\n| scenario | packages | what it does | state |\n|---|---|---|---|\n",
        client.len()
    );
    for row in client {
        let packages: Vec<_> = row.packages.iter().map(|pinned| package(pinned)).collect();
        let options = if row.cenote.is_empty() { String::new() } else { format!(" with `{}`", row.cenote.join(" ")) };
        let reason = if row.reason.is_empty() { String::new() } else { format!(": {}", row.reason) };
        let state = row.state + &options + &reason;
        text += &format!("| {} ({}) | {} | {} | {state} |\n", row.name, row.language, packages.join(", "), row.does);
    }
    text
}

/// Columns of a line of the page.
const WIDTH: usize = 118;

/// `head` and the names, separated by commas, in lines that are not too long.
fn filled(head: &str, names: &[String]) -> String {
    let mut text = head.to_owned();
    let mut column = head.len();
    for (index, name) in names.iter().enumerate() {
        let word = if index + 1 < names.len() { format!("{name},") } else { name.clone() };
        let fits = column + 1 + word.len() <= WIDTH;
        text.push(if fits { ' ' } else { '\n' });
        column = if fits { column + 1 } else { 0 } + word.len();
        text += &word;
    }
    text
}
