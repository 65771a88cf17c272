//! A program that runs to its end: its input, output and exit code. Knows no server.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a program with `input` on its standard input; one that takes longer than `limit` is killed, and the test fails.
#[track_caller]
pub(crate) fn run(program: &Path, args: &[&str], input: &[u8], limit: Duration) -> Finished {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
    let mut stdin = child.stdin.take().expect("its input is piped");
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A program need not read what it is given.
        let _ = stdin.write_all(&input);
    });
    let out = read_all(child.stdout.take().expect("its output is piped"));
    let err = read_all(child.stderr.take().expect("its errors are piped"));
    let pid = child.id();
    let (ended, end) = mpsc::channel();
    let waiter = thread::spawn(move || ended.send(child.wait()));
    let status = end.recv_timeout(limit).ok();
    if status.is_none() {
        super::process::signal(pid, "KILL");
    }
    let _ = (waiter.join(), writer.join());
    let [out, err] = [out, err].map(|reader| reader.join().unwrap_or_default());
    match status {
        Some(status) => Finished { code: status.ok().and_then(|status| status.code()), out, err },
        None => panic!("{} {args:?} did not end in {limit:?}:\n{out}\n{err}", program.display()),
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
