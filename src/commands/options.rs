//! The options that SET, GETEX and MSETEX share, and times as they and the EXPIRE family take them. Knows arguments,
//! no keys.

use super::{Args, NOT_AN_INTEGER};
use crate::keyspace::Ttl;
use crate::protocol::parse_i64;

/// Under which condition a string is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    /// None.
    Always,
    /// NX.
    Absent,
    /// XX.
    Present,
    /// IFEQ.
    Equal(&'a [u8]),
}

/// What becomes of the TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry<'a> {
    /// No option says.
    Unchanged,
    /// KEEPTTL.
    Keep,
    /// PERSIST.
    Persist,
    /// EX, PX, EXAT, PXAT.
    At(Time<'a>),
}

/// A time as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time<'a> {
    pub(super) text: &'a [u8],
    pub(super) in_seconds: bool,
    /// Since the epoch, not from now on.
    pub(super) absolute: bool,
}

/// Which options a command has.
#[derive(Clone, Copy)]
pub(super) struct Words {
    conditions: bool,
    get_and_ifeq: bool,
    keepttl: bool,
    persist: bool,
}

impl Words {
    pub(super) const SET: Self = Self { conditions: true, get_and_ifeq: true, keepttl: true, persist: false };
    pub(super) const GETEX: Self = Self { conditions: false, get_and_ifeq: false, keepttl: false, persist: true };
    pub(super) const MSETEX: Self = Self { conditions: true, get_and_ifeq: false, keepttl: true, persist: false };
}

/// The options of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options<'a> {
    pub(super) condition: Condition<'a>,
    /// GET.
    pub(super) get: bool,
    pub(super) expiry: Expiry<'a>,
}

impl<'a> Options<'a> {
    /// Reads the options from argument `from` on; None for a word the command does not have, or two that exclude
    /// each other. The same word twice is allowed, and its last value counts.
    pub(super) fn parse(args: &Args<'a>, from: usize, words: Words) -> Option<Self> {
        let mut options = Self { condition: Condition::Always, get: false, expiry: Expiry::Unchanged };
        let mut index = from;
        while index < args.len() {
            if !(options.parse_condition(args, &mut index, words) || options.parse_expiry(args, &mut index, words)) {
                return None;
            }
            index += 1;
        }
        Some(options)
    }

    /// Reads an option other than a time at `index`, and moves `index` to its last argument; false if there is none.
    fn parse_condition(&mut self, args: &Args<'a>, index: &mut usize, words: Words) -> bool {
        let at = *index;
        let condition = if words.conditions && args.is(at, "nx") {
            Condition::Absent
        } else if words.conditions && args.is(at, "xx") {
            Condition::Present
        } else if words.get_and_ifeq && args.is(at, "ifeq") {
            let Some(value) = args.get(at + 1) else { return false };
            *index += 1;
            Condition::Equal(value)
        } else if words.get_and_ifeq && args.is(at, "get") {
            self.get = true;
            return true;
        } else {
            return false;
        };
        let fits = match self.condition {
            Condition::Always => true,
            Condition::Equal(_) => false,
            other => other == condition,
        };
        self.condition = condition;
        fits
    }

    fn parse_expiry(&mut self, args: &Args<'a>, index: &mut usize, words: Words) -> bool {
        let at = *index;
        let expiry = if words.keepttl && args.is(at, "keepttl") {
            Expiry::Keep
        } else if words.persist && args.is(at, "persist") {
            Expiry::Persist
        } else {
            let Some(time) = Time::parse(args, at) else { return false };
            *index += 1;
            Expiry::At(time)
        };
        std::mem::replace(&mut self.expiry, expiry).may_precede(expiry)
    }
}

impl<'a> Expiry<'a> {
    /// True if the one option may stand before the other: the same word twice is allowed.
    pub(super) fn may_precede(self, next: Expiry<'_>) -> bool {
        match (self, next) {
            (Self::Unchanged, _) => true,
            (Self::At(first), Expiry::At(next)) => {
                (first.in_seconds, first.absolute) == (next.in_seconds, next.absolute)
            }
            (first, next) => first == next,
        }
    }

    /// In so many seconds.
    pub(super) fn seconds(text: &'a [u8]) -> Self {
        Self::At(Time { text, in_seconds: true, absolute: false })
    }

    /// In so many milliseconds.
    pub(super) fn milliseconds(text: &'a [u8]) -> Self {
        Self::At(Time { text, in_seconds: false, absolute: false })
    }

    /// The TTL that a write is to leave, or the error of `command`.
    pub(super) fn ttl(self, now: i64, command: &str) -> Result<Ttl, String> {
        match self {
            Self::Unchanged | Self::Persist => Ok(Ttl::None),
            Self::Keep => Ok(Ttl::Keep),
            Self::At(time) => time.resolve(now, command).map(Ttl::At),
        }
    }
}

impl<'a> Time<'a> {
    /// EX, PX, EXAT or PXAT at an index, with the time behind it.
    pub(super) fn parse(args: &Args<'a>, at: usize) -> Option<Self> {
        let units = [("ex", true, false), ("px", false, false), ("exat", true, true), ("pxat", false, true)];
        let &(_, in_seconds, absolute) = units.iter().find(|(word, ..)| args.is(at, word))?;
        Some(Self { text: args.get(at + 1)?, in_seconds, absolute })
    }

    /// The time in ms since the epoch, which must not be negative as written, or the error of `command`.
    pub(super) fn resolve_not_negative(self, now: i64, command: &str) -> Result<i64, String> {
        let number = parse_i64(self.text).ok_or(NOT_AN_INTEGER)?;
        let at = if number >= 0 { self.scale(number, now) } else { None };
        at.ok_or_else(|| invalid_expire_time(command))
    }

    /// The time in ms since the epoch, which must be positive as written, or the error of `command`.
    pub(super) fn resolve(self, now: i64, command: &str) -> Result<i64, String> {
        let number = parse_i64(self.text).ok_or(NOT_AN_INTEGER)?;
        let at = if number > 0 { self.scale(number, now) } else { None };
        at.ok_or_else(|| invalid_expire_time(command))
    }

    /// The same for a time that may lie in the past; never below 0.
    pub(super) fn resolve_signed(self, now: i64, command: &str) -> Result<i64, String> {
        let number = parse_i64(self.text).ok_or(NOT_AN_INTEGER)?;
        self.scale(number, now).map(|at| at.max(0)).ok_or_else(|| invalid_expire_time(command))
    }

    fn scale(self, number: i64, now: i64) -> Option<i64> {
        let ms = if self.in_seconds { number.checked_mul(1000)? } else { number };
        if self.absolute { Some(ms) } else { ms.checked_add(now) }
    }
}

fn invalid_expire_time(command: &str) -> String {
    format!("ERR invalid expire time in '{command}' command")
}
