//! XREAD and XREADGROUP.

use super::stream::{READ, WRITE, event};
use super::stream_args::{parse_id, write_counted, write_entries, write_entry, write_id};
use super::{
    Args, Begin, Block, Find, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, c_text,
    fail, timeout_ms, wrong_type,
};
use crate::keyspace::{View, WrongType};
use crate::protocol::{Output, Reply};
use crate::types::{Id, Stream};
use std::time::Duration;

const fn streams(from: i32) -> KeySpec {
    KeySpec {
        flags: KeyFlags::RO.or(KeyFlags::ACCESS),
        begin: Begin::Keyword("STREAMS", from),
        find: Find::Range { last: -1, step: 1, limit: 2 },
    }
}

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "xread",
        flags: Flags::READONLY.or(Flags::BLOCKING).or(Flags::MOVABLEKEYS),
        keys: Keys::Specs(&[streams(1)]),
        syntax: "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
        complexity: "",
        summary: "Returns the entries of several streams behind given IDs, or waits for some.",
        run: Run::Data(xread),
        ..READ
    },
    Spec {
        name: "xreadgroup",
        arity: -7,
        flags: Flags::WRITE.or(Flags::BLOCKING).or(Flags::MOVABLEKEYS),
        keys: Keys::Specs(&[streams(4)]),
        syntax: "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]",
        complexity: "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant \
            (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side \
            when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream \
            getting new data.",
        summary: "Returns new entries of several streams to a consumer of a group, or waits for some; or what the \
            consumer has not acknowledged.",
        run: Run::Data(xreadgroup),
        ..WRITE
    },
];

/// The options, and where the keys begin; half of what follows are keys, the other half IDs.
struct Options<'a> {
    count: usize,
    /// BLOCK, with its timeout.
    block: Option<Option<Duration>>,
    group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    keys: usize,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, is_group: bool, now: i64) -> Result<Self, &'static str> {
        let mut options = Self { count: usize::MAX, block: None, group: None, no_ack: false, keys: 0 };
        let mut at = 1;
        while at < args.len() {
            let more = args.len() - 1 - at;
            if more > 0 && args.is(at, "block") {
                at += 1;
                options.block = Some(timeout_ms(args, at, now)?);
            } else if more > 0 && args.is(at, "count") {
                at += 1;
                let count = args.integer(at).ok_or(NOT_AN_INTEGER)?;
                options.count = usize::try_from(count).ok().filter(|&count| count > 0).unwrap_or(usize::MAX);
            } else if more > 0 && args.is(at, "streams") {
                options.keys = at + 1;
                if more % 2 == 1 {
                    return Err(if is_group {
                        "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be \
                            specified."
                    } else {
                        "ERR Unbalanced 'xread' list of streams: for each stream key an ID, '+', or '$' must be \
                            specified."
                    });
                }
                break;
            } else if more > 1 && args.is(at, "group") {
                if !is_group {
                    return Err("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.");
                }
                options.group = Some((args.at(at + 1), args.at(at + 2)));
                at += 2;
            } else if args.is(at, "noack") {
                if !is_group {
                    return Err("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.");
                }
                options.no_ack = true;
            } else {
                return Err(SYNTAX_ERROR);
            }
            at += 1;
        }
        if options.keys == 0 {
            return Err(SYNTAX_ERROR);
        }
        if is_group && options.group.is_none() {
            return Err("ERR Missing GROUP option for XREADGROUP");
        }
        Ok(options)
    }

    /// Where the ID of a key is.
    fn id_at(&self, args: &Args<'_>, key: usize) -> usize {
        self.keys + (args.len() - self.keys) / 2 + key
    }
}

/// Writes what `each` writes for the keys, which is one stream's entries if it returns true; or nothing, and waits, if it
/// never does.
fn answer(
    db: &mut View<'_, '_>,
    reply: &mut Reply<'_>,
    mut each: impl FnMut(&mut View<'_, '_>, usize, &mut Reply<'_>) -> bool,
) -> bool {
    let (mut output, version, mut count) = (Output::new(), reply.version(), 0);
    for key in 0..db.len() {
        let mark = output.mark();
        let mut part = Reply::new(&mut output, version);
        if !part.is_v3() {
            part.array(2);
        }
        part.bulk(db.key(key));
        if each(db, key, &mut part) {
            count += 1;
        } else {
            output.truncate(mark);
        }
    }
    if count == 0 {
        return false;
    }
    if reply.is_v3() {
        reply.map(count)
    } else {
        reply.array(count)
    }
    reply.output().append(output);
    true
}

/// Where XREAD begins in a stream.
#[derive(Clone, Copy)]
enum From {
    Behind(Id),
    Last,
}

fn xread(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = match Options::parse(args, false, db.now()) {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    let mut from = Vec::with_capacity(db.len());
    for key in 0..db.len() {
        let Ok(stream) = db.collection::<Stream>(key) else { return wrong_type(reply) };
        let last_id = stream.map_or(Id::MIN, Stream::last_id);
        from.push(match args.at(options.id_at(args, key)) {
            b"$" => From::Behind(last_id),
            b"+" => From::Last,
            b">" => {
                return fail(
                    reply,
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> \
                        option.",
                );
            }
            text => match parse_id(text, 0) {
                Ok(id) => From::Behind(id),
                Err(error) => return fail(reply, error),
            },
        });
    }
    let is_answered = answer(db, reply, |db, key, reply| {
        let Ok(Some(stream)) = db.read_as::<Stream>(key) else { return false };
        let range = match from[key] {
            From::Behind(id) => id.next().map(|next| next..=Id::MAX),
            From::Last => stream.range_back(Id::MIN..=Id::MAX).next().map(|last| last.id..=last.id),
        };
        let Some(range) = range else { return false };
        let mut entries = stream.range(range).take(options.count).peekable();
        let is_any = entries.peek().is_some();
        if is_any {
            write_entries(reply, entries);
        }
        is_any
    });
    match options.block {
        _ if is_answered => Outcome::Done,
        Some(timeout) => {
            let mut words: Vec<Vec<u8>> = args.from(0).map(<[u8]>::to_vec).collect();
            for (key, from) in from.iter().enumerate() {
                let id = match from {
                    From::Behind(id) => *id,
                    From::Last => db.collection::<Stream>(key).ok().flatten().map_or(Id::MIN, Stream::last_id),
                };
                words[options.id_at(args, key)] = id.to_string().into_bytes();
            }
            Block { args: Some(words), ..Block::new("stream", timeout) }.outcome()
        }
        None => {
            reply.null_array();
            Outcome::Done
        }
    }
}

/// Where XREADGROUP begins in a stream: behind an ID among what the consumer has got, or (None) with what is new.
fn parse_group_id(text: &[u8]) -> Result<Option<Id>, &'static str> {
    match text {
        b">" => Ok(None),
        b"$" => Err(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
                specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty \
                result set.",
        ),
        b"+" => Err(
            "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
                specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty \
                result set.",
        ),
        // The largest ID stands for `>`.
        text => parse_id(text, 0).map(|id| Some(id).filter(|id| *id != Id::MAX)),
    }
}

fn xreadgroup(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = match Options::parse(args, true, db.now()) {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    let Some((group, consumer)) = options.group else { return Outcome::Done };
    let mut from = Vec::with_capacity(db.len());
    for key in 0..db.len() {
        let has_group = match db.collection::<Stream>(key) {
            Ok(stream) => stream.is_some_and(|stream| stream.groups().contains_key(group)),
            Err(WrongType) => return wrong_type(reply),
        };
        if !has_group {
            let parts: [&[u8]; 5] = [
                b"NOGROUP No such key '",
                c_text(db.key(key)),
                b"' or consumer group '",
                c_text(group),
                b"' in XREADGROUP with GROUP option",
            ];
            reply.error_bytes(&parts.concat());
            return Outcome::Done;
        }
        match parse_group_id(args.at(options.id_at(args, key))) {
            Ok(id) => from.push(id),
            Err(error) => return fail(reply, error),
        }
    }
    let now = db.now();
    let reader = Reader { group, consumer, count: options.count, no_ack: options.no_ack, now };
    let is_answered = answer(db, reply, |db, key, reply| {
        let read = db.edit(key, |stream: &mut Stream, _| match from[key] {
            None => reader.read_new(stream, reply),
            Some(id) => reader.read_again(stream, id, reply),
        });
        let (is_any, is_new_consumer) = read.ok().flatten().unwrap_or_default();
        if is_new_consumer {
            db.note(key, event("xgroup-createconsumer"));
        }
        is_any
    });
    match options.block {
        _ if is_answered => Outcome::Done,
        Some(timeout) => Block { or_gone: true, ..Block::new("stream", timeout) }.outcome(),
        None => {
            reply.null_array();
            Outcome::Done
        }
    }
}

/// A consumer that asks.
struct Reader<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    count: usize,
    no_ack: bool,
    now: i64,
}

impl Reader<'_> {
    /// Writes what is new to the group; whether that is anything, and whether the consumer was.
    fn read_new(&self, stream: &mut Stream, reply: &mut Reply<'_>) -> (bool, bool) {
        let Some(group) = stream.group_mut(self.group) else { return (false, false) };
        let (number, is_new) = group.find_or_add(self.consumer, self.now);
        let Some(consumer) = group.consumer_mut(number) else { return (false, is_new) };
        consumer.seen = self.now;
        let Some(next) = group.last_id.next() else { return (false, is_new) };
        let (mut ids, mut output, version) = (Vec::new(), Output::new(), reply.version());
        for entry in stream.range(next..=Id::MAX).take(self.count) {
            write_entry(&mut Reply::new(&mut output, version), &entry);
            ids.push(entry.id);
        }
        if ids.is_empty() {
            return (false, is_new);
        }
        reply.array(ids.len());
        reply.output().append(output);
        for id in ids {
            stream.note_read(self.group, id);
            if let Some(group) = stream.group_mut(self.group)
                && !self.no_ack
            {
                group.assign(id, number, self.now, 1);
            }
        }
        if let Some(consumer) = stream.group_mut(self.group).and_then(|group| group.consumer_mut(number)) {
            consumer.active = self.now;
        }
        (true, is_new)
    }

    /// Writes what the consumer has got and not acknowledged, behind an ID; that may be nothing.
    fn read_again(&self, stream: &mut Stream, id: Id, reply: &mut Reply<'_>) -> (bool, bool) {
        let Some(group) = stream.group_mut(self.group) else { return (false, false) };
        let (number, is_new) = group.find_or_add(self.consumer, self.now);
        let mut ids = Vec::new();
        if let Some(consumer) = group.consumer_mut(number) {
            consumer.seen = self.now;
            if let Some(next) = id.next() {
                ids.extend(consumer.pending_from(next).take(self.count));
            }
        }
        write_counted(reply, |reply| {
            for id in &ids {
                if let Some(entry) = stream.get(*id) {
                    write_entry(reply, &entry);
                } else {
                    reply.array(2);
                    write_id(reply, *id);
                    reply.null_array();
                    continue;
                }
                if let Some(pending) = stream.group_mut(self.group).and_then(|group| group.get_mut(*id)) {
                    pending.time = self.now;
                    pending.count += 1;
                }
            }
            ids.len()
        });
        (true, is_new)
    }
}
