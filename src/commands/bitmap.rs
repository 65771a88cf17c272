//! The commands that take a string for a row of bits, or of integers of any width (BITFIELD).

use super::string::edit;
use super::{
    Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type,
};
use crate::keyspace::{Event, NewValue, Text, Ttl, View, WrongType};
use crate::protocol::{Reply, SHARE_AT, parse_i64};
use crate::types::{self, BitOp, Field, Overflow};
use bytes::Bytes;
use std::ops::Range;

const READ: Spec = Spec {
    flags: Flags::READONLY,
    acl: Acl::BITMAP,
    keys: Keys::READ_ONE,
    fill: Fill::Read,
    group: "bitmap",
    ..Spec::BASE
};
const WRITE: Spec = Spec {
    flags: Flags::WRITE.or(Flags::DENYOOM),
    acl: Acl::BITMAP,
    keys: Keys::ACCESS_UPDATE_ONE,
    fill: Fill::Before,
    group: "bitmap",
    ..Spec::BASE
};

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "setbit",
        arity: 4,
        since: "2.2.0",
        syntax: "key offset value",
        summary: "Sets or clears a bit of the string at a key.",
        run: Run::Data(setbit),
        ..WRITE
    },
    Spec {
        name: "getbit",
        arity: 3,
        flags: Flags::READONLY.or(Flags::FAST),
        since: "2.2.0",
        syntax: "key offset",
        summary: "Returns a bit of the string at a key.",
        run: Run::Data(getbit),
        ..READ
    },
    Spec {
        name: "bitcount",
        arity: -2,
        since: "2.6.0",
        syntax: "key [start [end [BYTE | BIT]]]",
        complexity: "O(N)",
        summary: "Counts the set bits of the string at a key, or of a part of it.",
        run: Run::Data(bitcount),
        ..READ
    },
    Spec {
        name: "bitpos",
        arity: -3,
        since: "2.8.7",
        syntax: "key bit [start [end [BYTE | BIT]]]",
        complexity: "O(N)",
        summary: "Finds the first set or clear bit of the string at a key, or of a part of it.",
        run: Run::Data(bitpos),
        ..READ
    },
    Spec {
        name: "bitop",
        arity: -4,
        keys: Keys::Specs(&[
            KeySpec::one(2, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::range(3, -1, 1, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ]),
        since: "2.6.0",
        syntax: "<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]",
        complexity: "O(N)",
        summary: "Combines the strings at several keys bit by bit, and stores the result.",
        run: Run::Data(bitop),
        ..WRITE
    },
    Spec {
        name: "bitfield",
        arity: -2,
        keys: Keys::Specs(&[KeySpec::one(
            1,
            KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE).or(KeyFlags::VARIABLE_FLAGS),
        )]),
        since: "3.2.0",
        syntax: "key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | \
            INCRBY encoding offset increment>> ...]",
        complexity: "O(1) for each subcommand specified",
        summary: "Reads and changes integers of any width at any bits of the string at a key.",
        run: Run::Data(bitfield),
        ..WRITE
    },
    Spec {
        name: "bitfield_ro",
        arity: -2,
        flags: Flags::READONLY.or(Flags::FAST),
        since: "6.0.0",
        syntax: "key [GET encoding offset [GET encoding offset ...]]",
        complexity: "O(1) for each subcommand specified",
        summary: "Reads integers of any width at any bits of the string at a key.",
        run: Run::Data(bitfield_ro),
        ..READ
    },
];

const BAD_OFFSET: &str = "ERR bit offset is not an integer or out of range";

/// A bit's place in a string, in the text of an argument; None past what a string may grow to.
fn bit_offset(text: &[u8], max_string: usize) -> Option<u64> {
    let offset = u64::try_from(parse_i64(text)?).ok()?;
    (offset / 8 < max_string as u64).then_some(offset)
}

/// Stores a string that was not there, which a command has just composed.
fn new_value(text: &Bytes) -> NewValue<'_> {
    if text.len() >= SHARE_AT { NewValue::Shared(text.clone()) } else { NewValue::Raw(text) }
}

fn setbit(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(at) = bit_offset(args.at(2), db.max_string()) else { return fail(reply, BAD_OFFSET) };
    let to = match args.integer(3) {
        Some(bit @ 0..=1) => bit == 1,
        _ => return fail(reply, "ERR bit is not an integer or out of range"),
    };
    let at = at as usize;
    let end = at / 8 + 1;
    let Some(place) = db.find(0) else {
        let text = types::edit(Bytes::new(), end, |text| types::set_bit(text, at, to));
        db.add(0, new_value(&text), None, Event::SETBIT);
        reply.integer(0);
        return Outcome::Done;
    };
    let Ok(text) = db.text_at(0, place) else { return wrong_type(reply) };
    let (before, len) = text.with(|text| (types::bit(text, at), text.len()));
    if before != to || len < end {
        edit(db, place, Event::SETBIT, end, |text| types::set_bit(text, at, to));
    }
    reply.integer(before.into());
    Outcome::Done
}

fn getbit(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(at) = bit_offset(args.at(2), db.max_string()) else { return fail(reply, BAD_OFFSET) };
    let Ok(text) = db.read(0) else { return wrong_type(reply) };
    let bit = text.is_some_and(|text| text.with(|text| types::bit(text, at as usize)));
    reply.integer(bit.into());
    Outcome::Done
}

/// The part of a string that BITCOUNT and BITPOS are told to look at.
struct Part {
    start: i64,
    end: Option<i64>,
    in_bits: bool,
}

impl Part {
    /// Reads `[start [end [BYTE | BIT]]]` from argument `from` on.
    fn parse(args: &Args<'_>, from: usize) -> Result<Self, &'static str> {
        let number = |index| args.integer(index).ok_or(NOT_AN_INTEGER);
        if args.len() > from + 3 {
            return Err(SYNTAX_ERROR);
        }
        let start = if args.len() > from { number(from)? } else { 0 };
        let in_bits = args.is(from + 2, "bit");
        if args.len() == from + 3 && !in_bits && !args.is(from + 2, "byte") {
            return Err(SYNTAX_ERROR);
        }
        let end = if args.len() > from + 1 { Some(number(from + 1)?) } else { None };
        Ok(Self { start, end, in_bits })
    }

    /// The bits that it means of a string of `len` bytes.
    fn bits(&self, len: usize) -> Range<usize> {
        let unit = if self.in_bits { 1 } else { 8 };
        let len = (len * 8 / unit) as i64;
        let from_end = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
        let start = from_end(self.start);
        let end = from_end(self.end.unwrap_or(-1)).min(len - 1);
        if start > end { 0..0 } else { start as usize * unit..(end as usize + 1) * unit }
    }
}

fn bitcount(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let part = match Part::parse(args, 2) {
        Ok(part) => part,
        Err(error) => return fail(reply, error),
    };
    // Both before the start, and the wrong way round: nothing, though BITPOS takes that for the first byte.
    let is_reversed = part.start < 0 && part.end.is_some_and(|end| end < 0 && part.start > end);
    let Ok(text) = db.read(0) else { return wrong_type(reply) };
    let text = text.filter(|_| !is_reversed);
    let count = text.map_or(0, |text| text.with(|text| types::count_bits(text, part.bits(text.len()))));
    reply.integer(count as i64);
    Outcome::Done
}

fn bitpos(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let wanted = match args.integer(2) {
        Some(bit @ 0..=1) => bit == 1,
        Some(_) => return fail(reply, "ERR The bit argument must be 1 or 0."),
        None => return fail(reply, NOT_AN_INTEGER),
    };
    let part = match Part::parse(args, 3) {
        Ok(part) => part,
        Err(error) => return fail(reply, error),
    };
    let Ok(text) = db.read(0) else { return wrong_type(reply) };
    let position = text.map(|text| {
        text.with(|text| {
            let bits = part.bits(text.len());
            // A string without an end is followed by clear bits.
            let behind = if wanted || part.end.is_some() || bits.is_empty() { None } else { Some(bits.end) };
            types::find_bit(text, wanted, bits).or(behind)
        })
    });
    // A key that is not there has clear bits only.
    let position = position.unwrap_or(if wanted { None } else { Some(0) });
    reply.integer(position.map_or(-1, |at| at as i64));
    Outcome::Done
}

const OPERATIONS: &[(&str, BitOp)] = &[
    ("and", BitOp::And),
    ("or", BitOp::Or),
    ("xor", BitOp::Xor),
    ("not", BitOp::Not),
    ("diff", BitOp::Diff),
    ("diff1", BitOp::Diff1),
    ("andor", BitOp::AndOr),
    ("one", BitOp::One),
];

fn bitop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some((name, op)) = OPERATIONS.iter().find(|(name, _)| args.is(1, name)) else {
        return fail(reply, SYNTAX_ERROR);
    };
    let count = db.len() - 1;
    match op {
        BitOp::Not if count > 1 => {
            return fail(reply, "ERR BITOP NOT must be called with a single source key.");
        }
        BitOp::Diff | BitOp::Diff1 | BitOp::AndOr if count < 2 => {
            let name = name.to_ascii_uppercase();
            return fail(reply, &format!("ERR BITOP {name} must be called with at least two source keys."));
        }
        _ => {}
    }
    let source = |key| Ok(db.read(key)?.map_or_else(Bytes::new, Text::to_bytes));
    let sources: Result<Vec<Bytes>, WrongType> = (1..=count).map(source).collect();
    let Ok(sources) = sources else { return wrong_type(reply) };
    let slices: Vec<&[u8]> = sources.iter().map(Bytes::as_ref).collect();
    let result = Bytes::from(types::combine(*op, &slices));
    if result.is_empty() {
        db.remove(0);
    } else {
        db.set(0, new_value(&result), Ttl::None, Event::SET);
    }
    reply.integer(result.len() as i64);
    Outcome::Done
}

/// What BITFIELD does with a field.
#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// One of BITFIELD's subcommands, OVERFLOW applied.
#[derive(Clone, Copy)]
struct Step {
    action: Action,
    field: Field,
    at: u64,
    overflow: Overflow,
}

/// BITFIELD's subcommands, read one after the other. They are read twice, to be checked and to be run, which costs
/// less than to keep them.
#[derive(Clone, Copy)]
struct Steps<'a> {
    args: Args<'a>,
    index: usize,
    overflow: Overflow,
    max_string: usize,
}

impl<'a> Steps<'a> {
    fn new(args: &Args<'a>, max_string: usize) -> Self {
        Self { args: *args, index: 2, overflow: Overflow::Wrap, max_string }
    }

    fn parse(&mut self) -> Result<Option<Step>, &'static str> {
        loop {
            let (args, index) = (&self.args, self.index);
            if index >= args.len() {
                return Ok(None);
            }
            let more = args.len() - index - 1;
            if args.is(index, "overflow") && more >= 1 {
                self.overflow = match () {
                    () if args.is(index + 1, "wrap") => Overflow::Wrap,
                    () if args.is(index + 1, "sat") => Overflow::Saturate,
                    () if args.is(index + 1, "fail") => Overflow::Fail,
                    () => return Err("ERR Invalid OVERFLOW type specified"),
                };
                self.index += 2;
                continue;
            }
            let (is_get, is_set) = (args.is(index, "get"), args.is(index, "set"));
            let operands = match () {
                () if is_get => 2,
                () if is_set || args.is(index, "incrby") => 3,
                () => return Err(SYNTAX_ERROR),
            };
            if more < operands {
                return Err(SYNTAX_ERROR);
            }
            let field = Field::parse(args.at(index + 1)).ok_or(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            )?;
            let at = field_offset(args.at(index + 2), field, self.max_string).ok_or(BAD_OFFSET)?;
            let number = || args.integer(index + 3).ok_or(NOT_AN_INTEGER);
            let action = match () {
                () if is_get => Action::Get,
                () if is_set => Action::Set(number()?),
                () => Action::Add(number()?),
            };
            self.index += 1 + operands;
            return Ok(Some(Step { action, field, at, overflow: self.overflow }));
        }
    }
}

/// The same, of subcommands that have been checked.
impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.parse().ok().flatten()
    }
}

/// A field's place: `#n` counts in fields of its width.
fn field_offset(text: &[u8], field: Field, max_string: usize) -> Option<u64> {
    match text.strip_prefix(b"#") {
        None => bit_offset(text, max_string),
        Some(number) => {
            let at = u64::try_from(parse_i64(number)?).ok()?.checked_mul(u64::from(field.bits))?;
            (at / 8 < max_string as u64).then_some(at)
        }
    }
}

/// What a string must grow to, in bytes, to hold all fields that are written; 0 if none is. The error is the client's.
fn check(mut steps: Steps<'_>, may_write: bool) -> Result<usize, &'static str> {
    let mut len = 0;
    while let Some(Step { action, field, at, .. }) = steps.parse()? {
        if !matches!(action, Action::Get) {
            len = len.max(((at + u64::from(field.bits) - 1) / 8 + 1) as usize);
        }
    }
    if len > 0 && !may_write { Err("ERR BITFIELD_RO only supports the GET subcommand") } else { Ok(len) }
}

fn bitfield(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let steps = Steps::new(args, db.max_string());
    let len = match check(steps, true) {
        Ok(0) => return read_fields(db, steps, reply),
        Ok(len) => len,
        Err(error) => return fail(reply, error),
    };
    let place = db.find(0);
    if place.is_some_and(|place| db.text_at(0, place).is_err()) {
        return wrong_type(reply);
    }
    reply.array(steps.count());
    let mut is_changed = false;
    let run = |text: &mut [u8]| steps.for_each(|step| is_changed |= run_step(text, step, reply));
    match place {
        Some(place) => edit(db, place, Event::QUIET, len, run),
        None => {
            let text = types::edit(Bytes::new(), len, run);
            db.add(0, new_value(&text), None, Event::QUIET);
        }
    }
    if is_changed {
        db.note(0, Event::SETBIT);
    }
    Outcome::Done
}

/// Runs a subcommand; true if it has written.
fn run_step(text: &mut [u8], Step { action, field, at, overflow }: Step, reply: &mut Reply<'_>) -> bool {
    let before = field.get(text, at);
    let (number, is_set) = match action {
        Action::Get => {
            reply.integer(before);
            return false;
        }
        Action::Set(number) => (field.to_write(number), true),
        Action::Add(by) => (i128::from(before) + i128::from(by), false),
    };
    match field.fit(number, overflow) {
        Some(number) => {
            field.set(text, at, number);
            reply.integer(if is_set { before } else { number });
            true
        }
        None => {
            reply.null();
            false
        }
    }
}

fn bitfield_ro(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let steps = Steps::new(args, db.max_string());
    match check(steps, false) {
        Ok(_) => read_fields(db, steps, reply),
        Err(error) => fail(reply, error),
    }
}

fn read_fields(db: &mut View<'_, '_>, steps: Steps<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(text) = db.read(0) else { return wrong_type(reply) };
    reply.array(steps.count());
    let read = |text: &[u8]| steps.for_each(|Step { field, at, .. }| reply.integer(field.get(text, at)));
    text.unwrap_or(Text::Inline(b"", true)).with(read);
    Outcome::Done
}
