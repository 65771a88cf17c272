//! Histories of several connections: who waits, who is served, who is told of what, in which order. Each text in
//! `tests/histories/` is run on Cenote and on the real servers, and what every connection received is compared.
//!
//! ```text
//! # a comment
//! == title                 a new history: new connections, FLUSHALL
//! a: BLPOP k 0             connection `a` sends a command
//! a+ RPUSH k 1 ; LPOP k    several commands at once
//! a! BLPOP k 0.01          `a` sends a command that waits, and takes the answer
//! a x                      `a` is closed
//! a: CLIENT TRACKING ON REDIRECT %b    `%b` is the number of connection `b`
//! ```
//!
//! After each step all connections that do not wait are asked for an echo, so everything that the step caused has
//! arrived; of those that wait, CLIENT LIST tells whether they still do. So no step depends on time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Oracle, PATIENCE, Reply, Server, Value, escape, split_words};

const POLL: Duration = Duration::from_millis(2);
const MARKER: &str = "~marker~";

/// One step of a history.
struct Step {
    line: usize,
    text: String,
    client: String,
    action: Action,
}

enum Action {
    Send(Vec<Vec<Vec<u8>>>),
    Wait(Vec<Vec<u8>>),
    Close,
}

/// A title, and its steps.
struct History {
    title: String,
    steps: Vec<Step>,
}

fn parse(text: &str) -> Vec<History> {
    let mut histories: Vec<History> = Vec::new();
    for (index, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            histories.push(History { title: title.to_owned(), steps: Vec::new() });
            continue;
        }
        let end = line.find([':', '+', '!', ' ']).unwrap_or_else(|| panic!("line {index}: no connection in {line:?}"));
        let (client, rest) = line.split_at(end);
        let words = |text: &str| split_words(text).unwrap_or_else(|e| panic!("line {index}: {e}"));
        let action = match rest.split_at(1) {
            (":", command) => Action::Send(vec![words(command)]),
            ("+", commands) => Action::Send(commands.split(" ; ").map(words).collect()),
            ("!", command) => Action::Wait(words(command)),
            (" ", "x") => Action::Close,
            _ => panic!("line {index}: no step: {line:?}"),
        };
        let step = Step { line: index, text: line.to_owned(), client: client.to_owned(), action };
        histories.last_mut().expect("a title comes first").steps.push(step);
    }
    histories
}

/// A connection as its history sees it.
struct Peer {
    client: Client,
    id: i64,
    /// Its commands are queued: an echo would be, too.
    in_multi: bool,
    /// It has sent a command that is not answered yet.
    waits: bool,
}

/// A server with its named connections.
struct Stage {
    server: Server,
    control: Client,
    peers: BTreeMap<String, Peer>,
    /// The numbers of all connections of the history.
    ids: BTreeMap<String, i64>,
    resp3: bool,
}

impl Stage {
    fn new(server: Server, resp3: bool) -> Self {
        let control = Client::connect(server.port());
        Self { server, control, peers: BTreeMap::new(), ids: BTreeMap::new(), resp3 }
    }

    fn begin(&mut self) {
        self.peers.clear();
        self.ids.clear();
        let deadline = Instant::now() + PATIENCE;
        while self.control.cmd(&["CLIENT", "LIST"]).text().unwrap_or_default().lines().count() > 1 {
            assert!(Instant::now() < deadline, "{}: connections of the last history stay", self.server.name);
            thread::sleep(POLL);
        }
        self.control.cmd(&["FLUSHALL"]);
        self.control.cmd(&["CONFIG", "SET", "notify-keyspace-events", ""]);
    }

    fn peer(&mut self, name: &str) -> &mut Peer {
        let (port, resp3) = (self.server.port(), self.resp3);
        let ids = &mut self.ids;
        self.peers.entry(name.to_owned()).or_insert_with(|| {
            let mut client = Client::connect(port);
            if resp3 {
                client.hello(3);
            }
            let id = client.cmd(&["CLIENT", "ID"]).int();
            ids.insert(name.to_owned(), id);
            Peer { client, id, in_multi: false, waits: false }
        })
    }

    /// The connection's line in CLIENT LIST; empty if there is none.
    fn listed(&mut self, id: i64) -> String {
        self.control.cmd(&["CLIENT", "LIST", "ID", &id.to_string()]).text().unwrap_or_default()
    }

    /// True if a connection waits in a blocking command.
    fn is_blocked(&mut self, id: i64) -> bool {
        let list = self.listed(id);
        let flags = list.split(' ').find_map(|field| field.strip_prefix("flags=")).unwrap_or_default();
        flags.contains('b')
    }

    /// The words of a command, with the connections' numbers put in.
    fn fill_in(&mut self, command: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let word = |word: &Vec<u8>| match word.strip_prefix(b"%") {
            Some(name) => self.peer(&String::from_utf8_lossy(name)).id.to_string().into_bytes(),
            None => word.clone(),
        };
        command.iter().map(word).collect()
    }

    /// What a connection got, with the numbers of connections taken out where a command is about them.
    fn strip(&self, command: &[Vec<u8>], mut text: String) -> String {
        if command[0].eq_ignore_ascii_case(b"client") || text.contains("redir-broken") {
            for (name, id) in &self.ids {
                text = text.replace(&format!(":{id}\\r"), &format!(":%{name}\\r"));
            }
        }
        text
    }

    /// Does a step; what each connection received by its end.
    fn run(&mut self, step: &Step) -> BTreeMap<String, Vec<String>> {
        let mut got = BTreeMap::new();
        match &step.action {
            Action::Close => {
                let id = self.peers.remove(&step.client).map_or(0, |peer| peer.id);
                let deadline = Instant::now() + PATIENCE;
                while !self.listed(id).is_empty() {
                    assert!(Instant::now() < deadline, "{}: the connection stays", self.server.name);
                    thread::sleep(POLL);
                }
            }
            Action::Wait(command) => {
                let client = &mut self.peer(&step.client).client;
                client.send(command).expect("the server reads");
                got.insert(step.client.clone(), vec![show(client.read_reply().as_ref().ok())]);
            }
            Action::Send(commands) => {
                let commands = &commands.iter().map(|command| self.fill_in(command)).collect::<Vec<_>>();
                let peer = self.peer(&step.client);
                for command in commands {
                    peer.client.send(command).expect("the server reads");
                }
                peer.note(commands);
                if peer.in_multi {
                    let replies = commands.iter().map(|_| show(peer.client.read_reply().as_ref().ok())).collect();
                    got.insert(step.client.clone(), replies);
                } else {
                    peer.waits = true;
                }
            }
        }
        let names: Vec<String> = self.peers.keys().cloned().collect();
        // Who sent the command first: what it caused has happened when it is answered.
        let others = names.iter().filter(|name| **name != step.client);
        for name in names.iter().filter(|name| **name == step.client).chain(others) {
            let received = self.settle(name);
            got.entry(name.clone()).or_insert_with(Vec::new).extend(received);
        }
        got.retain(|_, replies| !replies.is_empty());
        if let Action::Send(commands) = &step.action {
            for replies in got.values_mut() {
                replies.iter_mut().for_each(|reply| *reply = self.strip(&commands[0], std::mem::take(reply)));
            }
        }
        got
    }

    /// What a connection has received, now that the server is done with the step.
    fn settle(&mut self, name: &str) -> Vec<String> {
        let id = self.peers[name].id;
        let mut replies = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let is_quiet = self.peers[name].in_multi;
        if is_quiet {
            return replies;
        }
        if self.peers[name].waits {
            // Either an answer comes, or the server says that it waits.
            loop {
                assert!(Instant::now() < deadline, "{}: {name} has no answer, and does not wait", self.server.name);
                let peer = self.peer(name);
                peer.client.set_patience(POLL);
                let reply = peer.client.read_reply();
                peer.client.set_patience(PATIENCE);
                if let Ok(reply) = reply {
                    peer.waits = false;
                    replies.push(show(Some(&reply)));
                    break;
                }
                if self.is_blocked(id) {
                    return replies;
                }
            }
        }
        let peer = self.peer(name);
        if peer.client.send(&["PING", MARKER]).is_err() {
            return vec!["(closed)".to_owned()];
        }
        while let Ok(reply) = peer.client.read_reply() {
            if is_marker(&reply.value) {
                return replies;
            }
            replies.push(show(Some(&reply)));
        }
        replies.push("(closed)".to_owned());
        replies
    }
}

impl Peer {
    /// Keeps up with what the commands do to the connection.
    fn note(&mut self, commands: &[Vec<Vec<u8>>]) {
        for command in commands {
            match command[0].to_ascii_uppercase().as_slice() {
                b"MULTI" => self.in_multi = true,
                b"EXEC" | b"DISCARD" | b"RESET" => self.in_multi = false,
                _ => {}
            }
        }
    }
}

fn is_marker(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.last().is_some_and(is_marker),
        value => value.text().as_deref() == Some(MARKER),
    }
}

fn show(reply: Option<&Reply>) -> String {
    reply.map_or_else(|| "(nothing)".to_owned(), |reply| escape(&reply.raw))
}

fn run(name: &str, resp3: bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    compare(&format!("tests/histories/{name}"), &text, resp3);
}

/// Runs the histories of a text, whose name is `place`, on all servers; panics where they part.
pub(super) fn compare(place: &str, text: &str, resp3: bool) {
    let mut tested = Stage::new(Server::cenote().start(), resp3);
    let newer = [Oracle::Redis8, Oracle::Valkey9];
    let mut oracles: Vec<_> = newer.iter().map(|oracle| Stage::new(Server::oracle(*oracle).start(), resp3)).collect();
    let (mut steps, mut faults) = (0, Vec::new());
    for history in parse(text) {
        tested.begin();
        oracles.iter_mut().for_each(Stage::begin);
        for step in &history.steps {
            let got = tested.run(step);
            let expected: Vec<_> = oracles.iter_mut().map(|oracle| oracle.run(step)).collect();
            steps += 1;
            if !expected.contains(&got) {
                let at = format!("{place}:{}: {} ({})", step.line, step.text, history.title);
                let real: String =
                    newer.iter().zip(&expected).map(|(o, e)| format!("\n  {:7} {e:?}", o.name())).collect();
                faults.push(format!("{at}\n  cenote  {got:?}{real}"));
            }
        }
    }
    println!("{place}: {steps} steps compared");
    assert!(faults.is_empty(), "{} differences in {steps} steps\n{}\n", faults.len(), faults.join("\n"));
}

macro_rules! histories {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn resp2() {
                super::run(concat!(stringify!($name), ".txt"), false);
            }
            #[test]
            fn resp3() {
                super::run(concat!(stringify!($name), ".txt"), true);
            }
        })*
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

histories!(
    transactions,
    pubsub,
    notifications,
    notifications_types,
    blocking,
    blocking_more,
    blocking_zsets,
    blocking_streams,
    tracking,
    imports,
    accesses
);

#[test]
fn every_history_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    for entry in fs::read_dir(folder).expect("there are histories") {
        let path = entry.expect("a file").path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        assert!(NAMES.contains(&name), "{} is not in the list in histories.rs", path.display());
    }
}
