//! Each row of Cenote's command table, as COMMAND INFO shows it, against the same row of a real server. Clients, proxies
//! and ACL rules are built on these rows: a wrong key position sends a command to the wrong shard.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Client, Oracle, Server, Value};

/// What may differ from both servers: command (or `command|subcommand`), field, reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("cluster|slot-stats", "missing", "of clusters only"),
    ("module|load", "missing", "there are no modules to load"),
    ("module|loadex", "missing", "there are no modules to load"),
    ("module|unload", "missing", "there are no modules to load"),
];

/// Commands of Cenote's own, which no other server has.
const OWN: &[&str] = &["route", "metrics"];

/// The fields of a row in COMMAND INFO's order, after the name.
const FIELDS: [&str; 8] = ["arity", "flags", "first key", "last key", "step", "ACL categories", "tips", "key specs"];

/// The rows of one server by full name, subcommands among them.
type Rows = BTreeMap<String, Row>;

struct Row {
    fields: Vec<Value>,
    subcommands: Vec<String>,
}

fn rows(client: &mut Client, names: &[String]) -> Rows {
    let mut args = vec!["COMMAND".to_owned(), "INFO".to_owned()];
    args.extend(names.iter().cloned());
    let mut rows = Rows::new();
    for row in client.cmd(&args).items() {
        if *row != Value::Nil {
            add_row(row, &mut rows);
        }
    }
    rows
}

fn add_row(row: &Value, rows: &mut Rows) {
    let items = row.items();
    assert_eq!(items.len(), 10, "a row has ten fields: {row:?}");
    let name = items[0].text().expect("a name").to_lowercase();
    let subcommands = items[9].items();
    let names = subcommands.iter().map(|sub| sub.items()[0].text().expect("a name").to_lowercase()).collect();
    for sub in subcommands {
        add_row(sub, rows);
    }
    // Flags, categories, tips and specs are sets: their order means nothing.
    let fields = items[1..9].iter().map(|field| without_notes(field).sorted()).collect();
    rows.insert(name, Row { fields, subcommands: names });
}

/// A key specification's notes are prose: each server has its own.
fn without_notes(value: &Value) -> Value {
    let note = |value: &Value| matches!(value, Value::Bulk(text) | Value::Simple(text) if text == b"notes");
    match value {
        Value::Map(pairs) => {
            Value::Map(pairs.iter().filter(|(k, _)| !note(k)).map(|(k, v)| (k.clone(), without_notes(v))).collect())
        }
        Value::Array(items) => {
            let start = items.iter().position(note).unwrap_or(items.len());
            let kept = items[..start].iter().chain(items.iter().skip(start + 2));
            Value::Array(kept.map(without_notes).collect())
        }
        other => other.clone(),
    }
}

fn allowed(name: &str, field: &str) -> bool {
    ALLOWED.iter().any(|(n, f, _)| *n == name && *f == field)
}

/// The differences of a row from the servers that have it; none where each field is as in one of them.
fn differences(name: &str, row: &Row, others: &[(Oracle, Rows)]) -> Vec<String> {
    let known: Vec<_> = others.iter().filter_map(|(oracle, rows)| Some((oracle, rows.get(name)?))).collect();
    let own = OWN.contains(&name.split('|').next().unwrap_or(name));
    if known.is_empty() {
        return if own { Vec::new() } else { vec![format!("{name}: no other server has this command")] };
    }
    let mut found = Vec::new();
    for (index, field) in FIELDS.iter().enumerate() {
        if known.iter().any(|(_, other)| other.fields[index] == row.fields[index]) || allowed(name, field) {
            continue;
        }
        found.push(format!("{name}: {field}\n    cenote  {:?}", row.fields[index]));
        found.extend(known.iter().map(|(oracle, other)| format!("    {:7} {:?}", oracle.name(), other.fields[index])));
    }
    // What both servers have below a command must be there, or be given a reason.
    let shared = known[0].1.subcommands.iter().filter(|sub| known.iter().all(|(_, o)| o.subcommands.contains(sub)));
    for sub in shared.filter(|sub| !row.subcommands.contains(sub) && !allowed(sub, "missing")) {
        found.push(format!("{sub}: missing"));
    }
    found
}

#[test]
fn rows_are_as_in_real_servers() {
    let tested = Server::cenote().start();
    let mut client = tested.client();
    let list = client.cmd(&["COMMAND", "LIST"]);
    let names: Vec<_> = list.items().iter().map(|name| name.text().expect("a name")).collect();
    assert!(!names.is_empty(), "COMMAND LIST names commands");
    let top_level = names.iter().filter(|name| !name.contains('|')).count();
    assert_eq!(client.cmd(&["COMMAND", "COUNT"]).int(), top_level as i64, "COMMAND COUNT counts them");
    let ours = rows(&mut client, &names);
    let missing: Vec<_> = names.iter().filter(|name| !ours.contains_key(&name.to_lowercase())).collect();
    assert!(missing.is_empty(), "listed, but without a row: {missing:?}");
    let servers = [Oracle::Redis8, Oracle::Valkey9].map(|oracle| (oracle, Server::oracle(oracle).start()));
    let others = servers.each_ref().map(|(oracle, server)| (*oracle, rows(&mut server.client(), &names)));
    let found: Vec<_> = ours.iter().flat_map(|(name, row)| differences(name, row, &others)).collect();
    println!("{} rows compared", ours.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
    let unused: Vec<_> = ALLOWED.iter().filter(|(name, ..)| !ours.contains_key(*name)).collect();
    assert!(unused.is_empty(), "exceptions for commands that do not exist: {unused:?}");
}

/// The rows are the same whichever way they are asked for.
#[test]
fn command_without_arguments_gives_the_rows_of_command_info() {
    let tested = Server::cenote().start();
    let mut client = tested.client();
    let mut all = Rows::new();
    for row in client.cmd(&["COMMAND"]).items() {
        add_row(row, &mut all);
    }
    let top: Vec<_> = all.keys().filter(|name| !name.contains('|')).cloned().collect();
    let asked = rows(&mut client, &top);
    let names = |rows: &Rows| rows.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&asked), names(&all));
    for (name, row) in &asked {
        assert_eq!(row.fields, all[name].fields, "{name}");
    }
}

/// What COMMAND DOCS says of one command: since when, in which group, and the words of its arguments (`EX`, `NX` …).
type Documented = (Option<String>, Option<String>, BTreeSet<String>);

fn documentation(docs: &Value, found: &mut BTreeMap<String, Documented>) {
    for (name, about) in docs.pairs() {
        let field = |wanted| field(&about, wanted);
        let text = |wanted| field(wanted).and_then(|value| value.text());
        let mut words = BTreeSet::new();
        field("arguments").iter().for_each(|arguments| collect_words(arguments, &mut words));
        let name = name.text().expect("a name").to_lowercase();
        found.insert(name, (text("since"), text("group"), words));
        field("subcommands").iter().for_each(|subcommands| documentation(subcommands, found));
    }
}

fn field(map: &Value, wanted: &str) -> Option<Value> {
    map.pairs().into_iter().find_map(|(name, value)| (name.text().as_deref() == Some(wanted)).then_some(value))
}

fn collect_words(arguments: &Value, words: &mut BTreeSet<String>) {
    for argument in arguments.items() {
        words.extend(field(argument, "token").and_then(|token| token.text()));
        field(argument, "arguments").iter().for_each(|inner| collect_words(inner, words));
    }
}

/// A word of CLIENT LIST's syntax once was `NOT- LADDR`, split where a line of the source ended: redis-cli's hints showed
/// it, and whoever builds commands from COMMAND DOCS would have sent it.
#[test]
fn the_words_of_arguments_are_those_of_real_servers() {
    let read = |server: &Server| {
        let mut found = BTreeMap::new();
        documentation(&server.client().cmd(&["COMMAND", "DOCS"]), &mut found);
        found
    };
    let ours = read(&Server::cenote().start());
    let others = [Oracle::Redis8, Oracle::Valkey9].map(|oracle| read(&Server::oracle(oracle).start()));
    assert!(ours.len() > 100, "{} commands are documented", ours.len());
    let mut wrong = Vec::new();
    for (name, (since, group, words)) in ours {
        let known: Vec<_> = others.iter().filter_map(|other| other.get(&name)).collect();
        if known.is_empty() || known.iter().any(|(s, g, w)| (s, g, w) == (&since, &group, &words)) {
            continue;
        }
        wrong.push(format!("{name}: {since:?} {group:?} {words:?}, but there {known:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
