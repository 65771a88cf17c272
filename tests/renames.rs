//! `rename-command`: what clients call a command changes, and nothing else.

use crate::support::{Oracle, Server, Value};

const CONFIG: &str = "rename-command FLUSHALL \"\"\nrename-command GET fetch\nrename-command config myconfig\n";

/// Replies must be as those of both real servers.
const COMMANDS: &[&str] = &[
    "FLUSHALL",
    "GET x",
    "SET x 1",
    "fetch x",
    "FETCH x",
    "fetch",
    "fetch a b",
    "CONFIG GET port",
    "myconfig get maxmemory-samples",
    "MYCONFIG nosuch",
    "COMMAND INFO get flushall myconfig|nosuch",
    "COMMAND INFO config|get",
    "COMMAND GETKEYS fetch x",
    "COMMAND GETKEYS get x",
    "COMMAND LIST FILTERBY PATTERN *etch*",
    "COMMAND LIST FILTERBY PATTERN get",
    "COMMAND LIST FILTERBY PATTERN flushall",
    "COMMAND DOCS get",
    "ACL SETUSER v on nopass ~* +fetch",
    "ACL SETUSER v on nopass ~* +get",
    "ACL SETUSER v +myconfig|get",
    "ACL SETUSER v +config|get",
    "ACL SETUSER v +flushall",
    "ACL DRYRUN v get x",
    "ACL DRYRUN v fetch x",
    "ACL DRYRUN v myconfig get x",
    "ACL DRYRUN v myconfig set x y",
    "MULTI",
    "fetch x",
    "EXEC",
    "MULTI",
    "fetch x",
    "GET x",
    "EXEC",
    "AUTH v x",
    "fetch x",
    "get x",
    "myconfig set a b",
];

#[test]
fn commands_are_called_by_other_names_as_in_real_servers() {
    let tested = Server::cenote().config(CONFIG).start();
    let oracles = [Oracle::Redis8, Oracle::Valkey9].map(|oracle| Server::oracle(oracle).config(CONFIG).start());
    let (mut client, mut others) = (tested.client(), oracles.each_ref().map(Server::client));
    for command in COMMANDS {
        let words: Vec<_> = command.split(' ').collect();
        let reply = client.cmd(&words);
        let theirs = others.each_mut().map(|other| other.cmd(&words));
        assert!(theirs.contains(&reply), "{command}: {reply:?}, there {theirs:?}");
    }
    let help = tested.client().cmd(&["myconfig", "help"]);
    assert!(help.items()[0].text().unwrap_or_default().starts_with("MYCONFIG <subcommand>"), "{help:?}");
    let count = |server: &Server| server.client().cmd(&["COMMAND", "COUNT"]).int();
    assert_eq!(count(&tested) + 1, count(&Server::cenote().start()), "one command is gone");
}

/// A refused EXEC was known by the client's word for it: under another name it left the transaction open.
#[test]
fn a_refused_transaction_is_over_whatever_exec_is_called() {
    let config = "rename-command exec commit\n";
    let tested = Server::cenote().config(config).start();
    let oracles = [Oracle::Redis8, Oracle::Valkey9].map(|oracle| Server::oracle(oracle).config(config).start());
    let (mut client, mut others) = (tested.client(), oracles.each_ref().map(Server::client));
    for command in ["MULTI", "SET k v", "commit x", "GET k", "MULTI", "SET k v", "commit", "GET k", "EXEC"] {
        let words: Vec<_> = command.split(' ').collect();
        let reply = client.cmd(&words);
        let theirs = others.each_mut().map(|other| other.cmd(&words));
        assert!(theirs.contains(&reply), "{command}: {reply:?}, there {theirs:?}");
    }
}

#[test]
fn names_that_cannot_be_stop_the_start() {
    for (line, told) in [("rename-command nosuch x", "no such command"), ("rename-command get set", "already")] {
        let (status, log) = Server::cenote().config(&format!("{line}\n")).start_and_fail();
        assert!(!status.success() && log.contains(told), "{line}: {log}");
    }
    let server = Server::cenote().config("rename-command get \"\"\nrename-command set get\n").start();
    let mut client = server.client();
    assert_eq!(client.cmd(&["GET", "k", "v"]), Value::ok());
}
