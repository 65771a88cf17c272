//! What gets into SLOWLOG, COMMANDLOG and LATENCY: commands that took long, came in large requests, or had large replies.
//! It must not know how the logs are kept.

use super::dispatch::Dispatch;
use crate::commands::{self, Args, Command, Flags};
use crate::state::{SlowCommand, Slowlog, shorten};

/// What stands around a request's arguments, at most, in bytes.
const HEADER: u64 = 40;

impl Dispatch<'_> {
    /// The shortest time, in ns, that the slow log or the latency monitor wants to know of.
    pub(super) fn slow_ns(&self) -> u64 {
        let slowlog = u64::try_from(self.config.slowlog_log_slower_than).unwrap_or(u64::MAX).saturating_mul(1000);
        match self.config.latency_monitor_threshold {
            0 => slowlog,
            ms => slowlog.min(ms.saturating_mul(1_000_000)),
        }
    }

    /// A command that took so long that a log may want to know.
    #[cold]
    pub(super) fn slow(&self, command: &Command, args: &Args<'_>, ns: u64, now: i64) {
        let (us, ms) = (ns / 1000, ns / 1_000_000);
        let threshold_us = self.config.slowlog_log_slower_than;
        if threshold_us >= 0 && us >= threshold_us as u64 {
            self.log(&self.state.command_logs.slow, (us, self.config.slowlog_max_len), command, args, now);
        }
        let threshold_ms = self.config.latency_monitor_threshold;
        if threshold_ms > 0 && ms >= threshold_ms {
            let event = if command.spec.flags.has(Flags::FAST) { "fast-command" } else { "command" };
            self.state.latency.add(event, now / 1000, ms);
        }
    }

    /// Notes a command whose request or reply is large enough for COMMANDLOG.
    #[inline]
    pub(super) fn note_size(&self, command: &Command, args: &Args<'_>, reply: usize, now: i64) {
        let is_large = args.extent() as u64 + HEADER >= self.config.commandlog_request_larger_than;
        if is_large || reply as u64 >= self.config.commandlog_reply_larger_than {
            self.large(command, args, reply as u64, now);
        }
    }

    #[cold]
    fn large(&self, command: &Command, args: &Args<'_>, reply: u64, now: i64) {
        let (logs, config, request) = (&self.state.command_logs, self.config, args.request_len() as u64);
        if request >= config.commandlog_request_larger_than {
            self.log(&logs.large_requests, (request, config.commandlog_large_request_max_len), command, args, now);
        }
        if reply >= config.commandlog_reply_larger_than {
            self.log(&logs.large_replies, (reply, config.commandlog_large_reply_max_len), command, args, now);
        }
    }

    fn log(&self, log: &Slowlog, (figure, max_len): (u64, u64), command: &Command, args: &Args<'_>, now: i64) {
        if command.spec.flags.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        let info = &self.client.info;
        let entry = SlowCommand {
            id: 0,
            at: now / 1000,
            figure,
            args: shorten(commands::redacted(command, args).into_iter()),
            addr: info.origin.addr.clone(),
            name: info.labels.lock().name.clone(),
        };
        log.add(entry, max_len);
    }
}
