//! Commands on the whole keyspace that have more to do than one turn allows (KEYS, SCAN with a large COUNT): they are put
//! aside while their worker serves its other connections, and go on, again and again. In a transaction and in a script they
//! are done in one piece. It must not know sockets.

use super::dispatch::{Batch, Dispatch};
use crate::clock;
use crate::commands::{self, Args, Turn, Turns};
use crate::config::Config;
use crate::keyspace::Walk;
use crate::protocol::{Output, Reply, Span};
use crate::state::{Client, State};
use std::sync::atomic::Ordering;

/// A command that was put aside, with its request.
#[derive(Debug)]
pub struct Walking {
    turns: Turns,
    /// What its turns have taken so far, in ns.
    spent: u64,
    buf: Vec<u8>,
    spans: Vec<Span>,
    /// Its reply is wanted (CLIENT REPLY).
    answers: bool,
    reply: Output,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// The reply is complete.
    Done,
    /// There is more to do.
    On,
    /// A script has the keyspace for itself.
    Barred,
    /// The reply has become larger than the connection's may be.
    TooLarge,
}

impl Walking {
    pub(super) fn new(turns: Turns, spent: u64, args: &Args<'_>, answers: bool) -> Self {
        let (mut buf, mut spans) = (Vec::new(), Vec::new());
        Span::pack(args.from(0), &mut buf, &mut spans);
        Self { turns, spent, buf, spans, answers, reply: Output::new() }
    }

    /// Takes another turn.
    pub fn go_on(&mut self, state: &State, config: &Config, client: &Client) -> Walked {
        let Some(_inside) = state.gate.enter(client.info.origin.worker) else { return Walked::Barred };
        let begin = clock::monotonic_ns();
        let seen_at = client.seen_at(config, clock::wall_ms(begin));
        let mut walk = Walk::new(&state.keyspace, client.db(), seen_at).in_turns();
        let turn = self.turns.next(&mut walk, &mut Reply::new(&mut self.reply, client.version));
        self.spent += clock::monotonic_ns() - begin;
        match turn {
            Turn::Done => Walked::Done,
            Turn::On(bytes) => {
                client.info.output_bytes.store(bytes, Ordering::Relaxed);
                if state.is_over_output_limit(&client.info, config) { Walked::TooLarge } else { Walked::On }
            }
        }
    }
}

impl Dispatch<'_> {
    /// Counts a command that has taken its last turn; its reply.
    pub fn end_walk(&mut self, walking: Walking) -> Output {
        let Walking { spent, buf, spans, answers, mut reply, .. } = walking;
        let args = Args::new(&buf, &spans);
        if let Some(command) = commands::find(&args) {
            let began = clock::monotonic_ns() - spent;
            let mut batch = Batch::of_one(&buf, &spans, began, clock::now_ms(), self.slow_ns());
            let mark = Output::new().mark();
            self.record(&mut batch, command, &args, &reply, mark);
        }
        if !answers {
            reply.clear(0);
        }
        reply
    }
}
