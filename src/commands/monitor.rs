//! MONITOR: the command, and the lines that a monitoring connection is sent. It must not know sockets.

use super::{Args, Ctx, Flags, Outcome, Run, Spec, is_secret};
use crate::clock;
use crate::protocol::Reply;
use crate::state::{Client, State, pubsub_limit};
use bytes::Bytes;
use std::sync::atomic::Ordering;

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "monitor",
    arity: 1,
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    group: "server",
    complexity: "",
    summary: "Shows every command that the server runs, as it runs them.",
    run: Run::Server(monitor),
    ..Spec::BASE
}];

fn monitor(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    // As in Redis, a second MONITOR is not even answered.
    if ctx.state.monitors.add(&ctx.client.info) {
        reply.ok();
    }
    Outcome::Done
}

/// Shows the monitors a command that `client` has run. One with too many bytes waiting is closed.
#[cold]
pub fn feed_monitors(state: &State, client: &Client, spec: &Spec, args: &Args<'_>) {
    if !spec.flags.any(Flags::ADMIN.or(Flags::SKIP_MONITOR)) {
        feed(state, client, spec.name, args);
    }
}

/// Shows them a command that runs a script: ahead of the script's own, so not when it is over as others.
#[cold]
pub fn feed_script(state: &State, client: &Client, args: &Args<'_>) {
    feed(state, client, "", args);
}

/// Shows them a command that a script runs, in database `db`.
#[cold]
pub fn feed_script_call(state: &State, db: usize, spec: &Spec, args: &Args<'_>) {
    if !spec.flags.any(Flags::ADMIN.or(Flags::SKIP_MONITOR)) {
        send(state, line(clock::now_us(), db, "lua", spec.name, args));
    }
}

fn feed(state: &State, client: &Client, command: &str, args: &Args<'_>) {
    let origin = &client.info.origin;
    let from = match origin.addr.strip_suffix(":0") {
        Some(path) if origin.is_unix => format!("unix:{path}"),
        _ => origin.addr.clone(),
    };
    send(state, line(clock::now_us(), client.db(), &from, command, args));
}

fn send(state: &State, line: Vec<u8>) {
    let limit = pubsub_limit(&state.config.load());
    let dropped = state.monitors.send(&Bytes::from(line), limit);
    if dropped > 0 {
        tracing::warn!("closed {dropped} monitors: more unsent lines than client-output-buffer-limit");
        state.clients.output_limit_hits.fetch_add(dropped as u64, Ordering::Relaxed);
    }
}

/// `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"` and a line end.
fn line(now_us: i64, db: usize, from: &str, command: &str, args: &Args<'_>) -> Vec<u8> {
    let (seconds, us) = (now_us / 1_000_000, now_us % 1_000_000);
    let mut line = format!("+{seconds}.{us:06} [{db} {from}]").into_bytes();
    for (index, arg) in args.from(0).enumerate() {
        line.push(b' ');
        if is_secret(command, args, index) {
            line.extend_from_slice(b"\"(redacted)\"");
        } else {
            quote(&mut line, arg);
        }
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Appends `bytes` in quotes, with escapes for what does not print.
fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            other => out.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Limits, Reader};

    fn shown(command: &str, request: &[u8]) -> String {
        let mut spans = Vec::new();
        let mut request = request.to_vec();
        let limits = Limits { max_bulk: 1000, authenticated: true };
        Reader::default().next(&mut request, 0, &mut spans, limits).unwrap();
        let line = line(1_339_518_083_007_412, 9, "127.0.0.1:60866", command, &Args::new(&request, &spans));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn lines_are_quoted_and_hide_secrets() {
        let text = shown("set", b"*3\r\n$3\r\nSet\r\n$12\r\na\0b\"\\\n\t\r\x07\x08\xe9'\r\n$0\r\n\r\n");
        let head = "+1339518083.007412 [9 127.0.0.1:60866] ";
        assert_eq!(text, format!("{head}\"Set\" \"a\\x00b\\\"\\\\\\n\\t\\r\\a\\b\\xe9'\" \"\"\r\n"));
        let hidden = "\"(redacted)\"";
        assert_eq!(shown("auth", b"AUTH u p\r\n"), format!("{head}\"AUTH\" {hidden} {hidden}\r\n"));
        assert_eq!(
            shown("hello", b"HELLO 3 auth u p SETNAME n\r\n"),
            format!("{head}\"HELLO\" \"3\" \"auth\" {hidden} {hidden} \"SETNAME\" \"n\"\r\n")
        );
        assert_eq!(shown("hello", b"HELLO 3\r\n"), format!("{head}\"HELLO\" \"3\"\r\n"));
    }
}
