//! COMPATIBILITY.md says of every command of Redis 8.2 and Valkey 9.1 whether Cenote has it. Its parts between
//! `<!-- generated: NAME -->` and `<!-- end -->` are made from the command table, from the directives' table and from
//! what the real servers list. That list is kept in `commands.txt` beside this file, so that a change of theirs shows.
//! The rest of the page is written by hand. `CENOTE_BLESS=1 cargo test compatibility` writes both files anew.

mod page;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Client, Oracle, Server, Value};

const REMEDY: &str = "run: CENOTE_BLESS=1 cargo test compatibility, and look at what it changed";

const HEAD: &str = "\
# Every command of Redis 8.2 and Valkey 9.1: name, since which version of each (-: it lacks the command), group.
# Written by CENOTE_BLESS=1 cargo test compatibility; do not edit.
";

/// A command that a real server has.
struct Known {
    /// Since which version of Redis, of Valkey.
    since: [Option<String>; 2],
    group: String,
}

/// By full name (`config|get`).
type KnownCommands = BTreeMap<String, Known>;

/// Compares a file with what it should be; writes it instead where that is wanted.
fn compare_or_bless(path: &Path, wanted: &str) {
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == wanted {
        return;
    }
    if std::env::var_os("CENOTE_BLESS").is_some_and(|value| value == "1") {
        fs::write(path, wanted).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        return;
    }
    let line = found.lines().zip(wanted.lines()).take_while(|(found, wanted)| found == wanted).count();
    let at = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").to_owned();
    let (name, number, is, should) = (path.display(), line + 1, at(&found), at(wanted));
    panic!("{name} is out of date, first in line {number}:\n    is         {is}\n    should be  {should}\n{REMEDY}");
}

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn write_list(commands: &KnownCommands) -> String {
    let lines = commands.iter().map(|(name, known)| {
        let [redis, valkey] = known.since.each_ref().map(|version| version.as_deref().unwrap_or("-"));
        format!("{name} {redis} {valkey} {}\n", known.group)
    });
    HEAD.to_owned() + &lines.collect::<String>()
}

/// Since when and in which group a server says that its commands are, by full name.
fn documented(docs: &Value, found: &mut BTreeMap<String, (String, String)>) {
    for (name, about) in docs.pairs() {
        let about = about.pairs();
        let field = |wanted: &str| about.iter().find(|(field, _)| field.text().as_deref() == Some(wanted));
        let text = |wanted| field(wanted).and_then(|(_, value)| value.text()).unwrap_or_else(|| "-".to_owned());
        found.insert(name.text().expect("a name").to_lowercase(), (text("since"), text("group")));
        if let Some((_, subcommands)) = field("subcommands") {
            documented(subcommands, found);
        }
    }
}

/// Adds what this server lists.
fn add_commands(client: &mut Client, server: usize, commands: &mut KnownCommands) {
    let mut about = BTreeMap::new();
    documented(&client.cmd(&["COMMAND", "DOCS"]), &mut about);
    // With a filter the subcommands are listed, too.
    for name in client.cmd(&["COMMAND", "LIST", "FILTERBY", "PATTERN", "*"]).items() {
        let name = name.text().expect("a name").to_lowercase();
        let (since, group) = about.remove(&name).unwrap_or_else(|| panic!("{name} is listed without documentation"));
        // Vector sets are built into Redis, as a module.
        let group = if group == "module" { "vector-set".to_owned() } else { group };
        let known = commands.entry(name).or_insert_with(|| Known { since: [None, None], group });
        known.since[server] = Some(since);
    }
}

/// The list first, as the page is made from it.
#[test]
fn the_page_is_as_the_real_servers_and_the_tables_say() {
    let mut commands = KnownCommands::new();
    for (index, oracle) in [Oracle::Redis8, Oracle::Valkey9].into_iter().enumerate() {
        add_commands(&mut Server::oracle(oracle).start().client(), index, &mut commands);
    }
    assert!(commands.len() > 400, "only {} commands are listed", commands.len());
    compare_or_bless(&in_project("tests/compatibility/commands.txt"), &write_list(&commands));
    let path = in_project("COMPATIBILITY.md");
    let page = fs::read_to_string(&path).expect("COMPATIBILITY.md can be read");
    let renewed = page::renewed(&page, &commands);
    let missing: Vec<_> = commands.keys().filter(|name| !renewed.contains(&page::shown(name))).collect();
    assert!(missing.is_empty(), "the page does not name {missing:?}");
    compare_or_bless(&path, &renewed);
}
