//! Commands on the whole keyspace that take turns with their worker's other connections: a part of the work at a time.
//! Knows no command.

use super::Outcome;
use crate::keyspace::Walk;
use crate::protocol::Reply;
use std::fmt;

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do; so many bytes of the reply are at hand.
    On(usize),
    /// The reply is written.
    Done,
}

type Take = dyn FnMut(&mut Walk<'_, '_>, &mut Reply<'_>) -> Turn + Send;

/// A command of which only a part is done.
pub struct Turns(Box<Take>);

impl Turns {
    /// Takes the first turn, with which most are done. Where others have no turn ([`Walk::turn`]), all are.
    pub(super) fn begin(
        walk: &mut Walk<'_, '_>,
        reply: &mut Reply<'_>,
        mut turn: impl FnMut(&mut Walk<'_, '_>, &mut Reply<'_>) -> Turn + Send + 'static,
    ) -> Outcome {
        match turn(walk, reply) {
            Turn::Done => Outcome::Done,
            Turn::On(_) => Outcome::Turns(Self(Box::new(turn))),
        }
    }

    /// Takes another turn.
    pub fn next(&mut self, walk: &mut Walk<'_, '_>, reply: &mut Reply<'_>) -> Turn {
        (self.0)(walk, reply)
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}
