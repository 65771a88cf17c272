//! Processes as `/proc` shows them, and signals to them, without the programs `ps` and `kill`, which a small machine
//! may lack. Knows no server. Also a part of `src/source/testdb.rs`.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to obey. Long, as the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// `kill -NAME pid`; false where there is no such process any more.
pub(crate) fn signal(pid: u32, name: &str) -> bool {
    let signal = match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "HUP" => Signal::HUP,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        _ => panic!("the signal {name} is not in this table"),
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process(pid, signal).is_ok()
}

/// Stops a process and its children where they stand, and returns when none of them runs any more. A signal only asks:
/// a process that has not stopped yet can still answer what is sent to it after.
pub(crate) fn freeze(parent: u32) {
    signal(parent, "STOP");
    until_all(&[parent], |state| matches!(state, None | Some('T' | 't')));
    // From now on there are no new ones.
    let children = children(parent);
    children.iter().for_each(|child| _ = signal(*child, "STOP"));
    until_all(&children, |state| matches!(state, None | Some('T' | 't' | 'Z')));
}

/// Undoes [`freeze`].
pub(crate) fn thaw(parent: u32) {
    children(parent).iter().for_each(|child| _ = signal(*child, "CONT"));
    signal(parent, "CONT");
}

/// Kills a process and its children at once, and returns when the children are gone; the parent is left to whoever
/// waits for it.
pub(crate) fn kill_all(parent: u32) {
    freeze(parent);
    let children = children(parent);
    children.iter().chain([&parent]).for_each(|pid| _ = signal(*pid, "KILL"));
    until_all(&children, |state| matches!(state, None | Some('Z')));
}

/// The processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
}

/// A process's state and parent: the two words behind its name, which may itself hold blanks and parentheses.
fn stat(pid: u32) -> Option<(char, u32)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = line.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn until_all(pids: &[u32], is_so: impl Fn(Option<char>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !pids.iter().all(|pid| is_so(stat(*pid).map(|(state, _)| state))) {
        assert!(Instant::now() < deadline, "of {pids:?} some do not obey a signal");
        thread::sleep(Duration::from_millis(1));
    }
}
