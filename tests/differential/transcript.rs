//! The texts in `tests/transcripts/`: what a line may be.
//!
//! ```text
//! # a comment
//! == title              a new section: new connections, FLUSHALL
//! SET k "a\x00b"        a command, quoted as in redis-cli, sent to all servers
//! @server --flag value  (only at the head) arguments for all servers
//! @hello 3              agree on RESP3 (2: RESP2) on this connection, replies not compared
//! @conn NAME            use the connection NAME from here on (the first is `main`)
//! @nil GET k            repeat the command on each server until it answers nil (or 0 or -2)
//! @wait CLIENT LIST     send on each server, ignore the reply
//! ~unordered KEYS *     arrays in the reply may have any order
//! ~type TIME            the same kind of reply, whatever it says
//! ~near 5 TTL k         numbers may differ by 5
//! ~fields INFO          names of fields (`name:value` or `name=value`) that all real servers have must be there
//! ~prefix 2 FOO         errors: only the first 2 words count
//! ~none CLIENT REPLY OFF   there is no reply
//! ~closes QUIT          after the reply the server closes the connection
//! #! only redis8        for the next command: the reply of this server counts (redis8 or valkey9)
//! #! differs: reason    for the next command: Cenote answers as it likes
//! ```
//!
//! In an argument: `{now+10}` seconds and `{nowms-10}` milliseconds since 1970, `{repeat:a:100}`, `{id:NAME}` and
//! `{addr:NAME}` for a connection's client ID and address, `{laddr}` for the server's.

use crate::support::{Oracle, split_words};

use super::judge::Rule;

/// A parsed transcript.
pub(super) struct Transcript {
    pub(super) server_args: Vec<String>,
    pub(super) steps: Vec<Step>,
}

pub(super) struct Step {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) action: Action,
}

pub(super) enum Action {
    Section,
    Connection(String),
    Hello(u8),
    UntilNil(Vec<Vec<u8>>),
    Send(Vec<Vec<u8>>),
    Compare { words: Vec<Vec<u8>>, rule: Rule, note: Option<Note>, ending: Ending },
}

/// What follows a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Reply,
    NoReply,
    ReplyAndClose,
}

/// An expected difference.
#[derive(Clone, Copy)]
pub(super) enum Note {
    Only(Oracle),
    Differs,
}

impl Transcript {
    /// `Err` names the line at fault.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut transcript = Self { server_args: Vec::new(), steps: Vec::new() };
        let mut note = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let at = |e: String| format!("line {}: {e}", index + 1);
            if let Some(text) = line.strip_prefix("#!") {
                note = Some(parse_note(text.trim()).map_err(at)?);
            } else if let Some(args) = line.strip_prefix("@server ") {
                transcript.server_args.extend(args.split_whitespace().map(str::to_owned));
            } else if !line.is_empty() && !line.starts_with('#') {
                let action = parse_action(line, &mut note).map_err(at)?;
                transcript.steps.push(Step { line: index + 1, text: line.to_owned(), action });
            }
        }
        Ok(transcript)
    }
}

fn parse_note(text: &str) -> Result<Note, String> {
    match text.split_once(char::is_whitespace) {
        Some(("only", "redis8")) => Ok(Note::Only(Oracle::Redis8)),
        Some(("only", "valkey9")) => Ok(Note::Only(Oracle::Valkey9)),
        Some(("differs:", reason)) if !reason.trim().is_empty() => Ok(Note::Differs),
        _ => Err(format!("{text:?} is neither `only redis8|valkey9` nor `differs: reason`")),
    }
}

fn parse_action(line: &str, note: &mut Option<Note>) -> Result<Action, String> {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let action = match first {
        "==" => Action::Section,
        "@conn" => Action::Connection(rest.trim().to_owned()),
        "@hello" => Action::Hello(rest.trim().parse().map_err(|_| "@hello takes 2 or 3".to_owned())?),
        "@nil" => Action::UntilNil(split_words(rest)?),
        "@wait" => Action::Send(split_words(rest)?),
        directive if directive.starts_with('@') => {
            return Err(format!("unknown directive {directive}"));
        }
        _ => parse_command(line, note.take())?,
    };
    if note.is_some() { Err("a note must stand before a command".to_owned()) } else { Ok(action) }
}

fn parse_command(line: &str, note: Option<Note>) -> Result<Action, String> {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let with_number = || {
        let (number, rest) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest, ""));
        number.parse::<u32>().map(|n| (n, rest)).map_err(|_| format!("{first} takes a number"))
    };
    let mut ending = Ending::Reply;
    let (rule, command) = match first {
        "~unordered" => (Rule::Unordered, rest),
        "~type" => (Rule::Kind, rest),
        "~fields" => (Rule::Fields, rest),
        "~near" => with_number().map(|(n, rest)| (Rule::Near(f64::from(n)), rest))?,
        "~prefix" => with_number().map(|(n, rest)| (Rule::Prefix(n as usize), rest))?,
        "~none" | "~closes" => {
            ending = if first == "~none" { Ending::NoReply } else { Ending::ReplyAndClose };
            (Rule::Exact, rest)
        }
        directive if directive.starts_with('~') => return Err(format!("unknown rule {directive}")),
        _ => (Rule::Exact, line),
    };
    let words = split_words(command)?;
    if words.is_empty() { Err("no command".to_owned()) } else { Ok(Action::Compare { words, rule, note, ending }) }
}
