//! The guards: whether a request may run, and what it is told if not. In Redis's order, for a client can see it. It must
//! not know locks or sockets.

use super::dispatch::Dispatch;
use super::multi;
use crate::commands::{self, Args, Command, Flags, Run, Spec};
use crate::protocol::Version;
use crate::state::acl::Context;
use std::sync::atomic::Ordering;

impl Dispatch<'_> {
    /// The guards, in Redis's order. `is_inside`: no script of another one has the keyspace for itself.
    pub(super) fn admit(&self, args: &Args<'_>, now: i64, is_inside: bool) -> Result<&'static Command, Refusal> {
        let Some(command) = commands::find(args) else {
            // A browser was made to send a request here: an attack by cross-protocol scripting.
            let http = args.is(0, "post") || args.is(0, "host:");
            return Err(if http { Refusal::Http } else { Refusal::Error(unknown_command(args), None) });
        };
        let spec = command.spec;
        if !command.subcommands.is_empty() && args.len() > 1 {
            return Err(Refusal::Error(unknown_subcommand(command.called, args.at(1)), None));
        }
        if !spec.fits(args.len()) {
            let text = format!("ERR wrong number of arguments for '{}' command", spec.name);
            return Err(Refusal::error(text, command));
        }
        let multi = self.client.multi.as_deref();
        let is_exec = matches!(spec.run, Run::Exec);
        if spec.flags.has(Flags::PROTECTED) && !self.config.enable_debug_command.permits(self.client.info.is_local()) {
            return Err(Refusal::error(DEBUG_REFUSED.into(), command));
        }
        if !self.client.is_authenticated(&self.state.acl) && !spec.flags.has(Flags::NO_AUTH) {
            return Err(Refusal::error("NOAUTH Authentication required.".into(), command));
        }
        if multi.is_some() && spec.flags.has(Flags::NO_MULTI) {
            return Err(Refusal::error("ERR Command not allowed inside a transaction".into(), command));
        }
        if !self.client.user.is_free() {
            let context = if multi.is_some() { Context::Multi } else { Context::TopLevel };
            if let Err(denied) = commands::permit(self.state, self.client, context, command, args, now) {
                let text = [b"NOPERM ", denied.text(&self.client.user).as_slice()].concat();
                return Err(Refusal::Error(text, Some(command)));
            }
        }
        // What is queued takes memory, whatever it does.
        let takes_memory = match multi {
            Some(multi) if is_exec => multi.takes_memory,
            Some(_) => !multi::runs_at_once(spec),
            None => spec.flags.has(Flags::DENYOOM),
        };
        if takes_memory && !self.state.make_room(self.config, 0, now) {
            return Err(Refusal::error(commands::OUT_OF_MEMORY.into(), command));
        }
        if self.client.version == Version::V2 && self.client.is_subscriber() && !is_for_subscribers(spec) {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context",
                spec.name
            );
            return Err(Refusal::error(text, command));
        }
        let changes =
            spec.flags.any(Flags::WRITE.or(Flags::MAY_REPLICATE)) || is_exec && multi.is_some_and(|multi| multi.writes);
        if (changes || spec.flags.has(Flags::READONLY)) && self.client.info.monitor.load(Ordering::Relaxed) {
            // For Redis, a monitor is a kind of replica.
            return Err(Refusal::error("ERR Replica can't interact with the keyspace".into(), command));
        }
        if !is_inside && !spec.flags.has(Flags::ALLOW_BUSY) {
            // Until the script counts as busy, others wait for it, and not with their thread.
            return Err(match self.state.scripts.busy(now, self.config.busy_reply_threshold) {
                Some(text) => Refusal::error(text.into(), command),
                None => Refusal::Paused(0),
            });
        }
        if let Some(until) = self.state.pause.holds(changes, now) {
            self.client.info.last_command.store(command.id as u32 + 1, Ordering::Relaxed);
            return Err(Refusal::Paused(until));
        }
        Ok(command)
    }
}

/// Why a request does not run.
pub(super) enum Refusal {
    /// It is answered with this error; the command counts it, if there is one.
    Error(Vec<u8>, Option<&'static Command>),
    /// CLIENT PAUSE, until then (ms since the epoch).
    Paused(i64),
    /// It is HTTP: the connection is closed without a word.
    Http,
}

impl Refusal {
    pub(super) fn error(text: String, command: &'static Command) -> Self {
        Self::Error(text.into_bytes(), Some(command))
    }
}

/// True for what a connection may run that speaks RESP2 and is subscribed to something.
fn is_for_subscribers(spec: &Spec) -> bool {
    matches!(
        spec.name,
        "subscribe"
            | "ssubscribe"
            | "psubscribe"
            | "unsubscribe"
            | "sunsubscribe"
            | "punsubscribe"
            | "ping"
            | "quit"
            | "reset"
    )
}

const DEBUG_REFUSED: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
     you can run it from a local connection, otherwise you need to set this option in the configuration file, \
     and then restart the server.";

/// Bytes of a name or of arguments that an error repeats.
const QUOTED: usize = 128;

fn unknown_command(args: &Args<'_>) -> Vec<u8> {
    let name = commands::c_text(args.at(0));
    let mut text = b"ERR unknown command '".to_vec();
    text.extend(&name[..name.len().min(QUOTED)]);
    text.extend(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.from(1) {
        if text.len() - start >= QUOTED {
            break;
        }
        let room = QUOTED - (text.len() - start);
        let arg = commands::c_text(arg);
        text.push(b'\'');
        text.extend(&arg[..arg.len().min(room)]);
        text.extend(b"' ");
    }
    text
}

fn unknown_subcommand(container: &str, name: &[u8]) -> Vec<u8> {
    let name = commands::c_text(name);
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend(&name[..name.len().min(QUOTED)]);
    text.extend(format!("'. Try {} HELP.", container.to_uppercase()).bytes());
    text
}
