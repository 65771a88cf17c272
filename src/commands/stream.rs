//! The stream commands that know no groups.

use super::stream_args::{NewId, Options, parse_id, parse_ids, parse_range, parse_references, write_entries, write_id};
use super::{
    Acl, Args, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type,
};
use crate::config::Limits;
use crate::keyspace::{Edit, Event, View, WrongType, class};
use crate::protocol::Reply;
use crate::types::{Id, References, Removal, Stream, StreamLimits, Trim};

pub(super) const READ: Spec = Spec {
    arity: -4,
    flags: Flags::READONLY,
    acl: Acl::STREAM,
    keys: Keys::READ_ONE,
    group: "stream",
    since: "5.0.0",
    ..Spec::BASE
};
pub(super) const WRITE: Spec = Spec {
    flags: Flags::WRITE.or(Flags::FAST),
    acl: Acl::STREAM,
    keys: Keys::UPDATE_ONE,
    group: "stream",
    since: "5.0.0",
    ..Spec::BASE
};
const DELETE: Keys = Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))]);
pub(super) const CHANGING: &[&str] = &["nondeterministic_output"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "xadd",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
        tips: CHANGING,
        syntax: "key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] \
            <* | id> field value [field value ...]",
        complexity: "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
        summary: "Adds an entry to a stream, and trims it where asked.",
        run: Run::Data(xadd),
        ..WRITE
    },
    Spec {
        name: "xlen",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        keys: Keys::LOOK_ONE,
        syntax: "key",
        summary: "Returns the number of entries of a stream.",
        run: Run::Data(xlen),
        ..READ
    },
    Spec {
        name: "xrange",
        syntax: "key start end [COUNT count]",
        complexity: "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for \
            the first 10 elements with COUNT), you can consider it O(1).",
        summary: "Returns the entries of a stream in a range of IDs.",
        run: Run::Data(xrange),
        ..READ
    },
    Spec {
        name: "xrevrange",
        syntax: "key end start [COUNT count]",
        complexity: "O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the \
            first 10 elements with COUNT), you can consider it O(1).",
        summary: "Returns the entries of a stream in a range of IDs, the last first.",
        run: Run::Data(xrevrange),
        ..READ
    },
    Spec {
        name: "xdel",
        arity: -3,
        keys: DELETE,
        syntax: "key id [id ...]",
        complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
        summary: "Removes entries from a stream.",
        run: Run::Data(xdel),
        ..WRITE
    },
    Spec {
        name: "xdelex",
        arity: -5,
        keys: DELETE,
        since: "8.2.0",
        syntax: "key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
        complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
        summary: "Removes entries from a stream, and says what becomes of the groups' notes about them.",
        run: Run::Data(xdelex),
        ..WRITE
    },
    Spec {
        name: "xtrim",
        arity: -4,
        flags: Flags::WRITE,
        keys: DELETE,
        tips: CHANGING,
        syntax: "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]",
        complexity: "O(N), with N being the number of evicted entries. Constant times are very small however, since \
            entries are organized in macro nodes containing multiple entries that can be released with a single \
            deallocation.",
        summary: "Removes the first entries of a stream.",
        run: Run::Data(xtrim),
        ..WRITE
    },
    Spec {
        name: "xsetid",
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
        syntax: "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
        summary: "Sets the last ID of a stream, as replication needs it.",
        run: Run::Data(xsetid),
        ..WRITE
    },
];

/// An event about a stream.
pub(super) fn event(name: &'static str) -> Event {
    Event::new(class::STREAM, name)
}

fn block_limits(limits: &Limits) -> StreamLimits {
    StreamLimits { bytes: limits.stream_node_max_bytes, entries: limits.stream_node_max_entries }
}

fn xadd(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = match Options::parse(args, true, db.limits()) {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    let words = args.len() - options.fields;
    if words < 2 || words % 2 == 1 {
        return fail(reply, "ERR wrong number of arguments for 'xadd' command");
    }
    if matches!(options.id, NewId::Given(Id::MIN)) {
        return fail(reply, "ERR The ID specified in XADD must be greater than 0-0");
    }
    let (now, limits) = (db.now() as u64, block_limits(db.limits()));
    if !options.makes_stream {
        match db.collection::<Stream>(0) {
            Ok(Some(_)) => {}
            Ok(None) => {
                reply.null();
                return Outcome::Done;
            }
            Err(WrongType) => return wrong_type(reply),
        }
    }
    let added = db.edit_or_new(0, |stream: &mut Stream, edit| {
        let id = options.id.resolve(stream.last_id(), now)?;
        stream.add(id, args.from(options.fields), limits);
        edit.changed(event("xadd"));
        if let Some(trim) = &options.trim {
            cut(stream, trim, edit);
        }
        Ok(id)
    });
    match added {
        Ok(Ok(id)) => write_id(reply, id),
        Ok(Err(error)) => return fail(reply, error),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn xlen(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(stream) = db.read_as::<Stream>(0) else { return wrong_type(reply) };
    reply.integer(stream.map_or(0, Stream::len) as i64);
    Outcome::Done
}

fn xrange(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, false)
}

fn xrevrange(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(db, args, reply, true)
}

fn range(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, is_back: bool) -> Outcome {
    let (start, end) = if is_back { (3, 2) } else { (2, 3) };
    let range = match parse_range(args.at(start), args.at(end)) {
        Ok(range) => range,
        Err(error) => return fail(reply, error),
    };
    let mut count = None;
    for index in (4..args.len()).step_by(2) {
        if !args.is(index, "count") || index + 1 == args.len() {
            return fail(reply, SYNTAX_ERROR);
        }
        let Some(number) = args.integer(index + 1) else { return fail(reply, NOT_AN_INTEGER) };
        count = Some(usize::try_from(number).unwrap_or(0));
    }
    match db.read_as::<Stream>(0) {
        Ok(Some(_)) if count == Some(0) => reply.null_array(),
        Ok(Some(stream)) if is_back => write_entries(reply, stream.range_back(range).take(count.unwrap_or(usize::MAX))),
        Ok(Some(stream)) => write_entries(reply, stream.range(range).take(count.unwrap_or(usize::MAX))),
        Ok(None) => reply.array(0),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn xdel(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let result = db.edit(0, |stream: &mut Stream, edit| {
        let ids = parse_ids(args, 2, args.len())?;
        let removed = ids.iter().filter(|id| stream.remove(**id, References::Keep) == Removal::Done).count();
        if removed > 0 {
            edit.changed(event("xdel"));
        }
        Ok(removed)
    });
    match result {
        Ok(None) => reply.integer(0),
        Ok(Some(Ok(removed))) => reply.integer(removed as i64),
        Ok(Some(Err(error))) => return fail(reply, error),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

/// The options of XDELEX and XACKDEL from argument `from` on: what becomes of the groups' notes, and where the IDs are.
pub(super) fn parse_removal(args: &Args<'_>, from: usize) -> Result<(References, usize, usize), &'static str> {
    let (mut references, mut ids, mut at) = (None, None, from);
    while at < args.len() {
        if references.is_none() && parse_references(args, at).is_some() {
            references = parse_references(args, at);
        } else if ids.is_none() && args.is(at, "ids") && at + 1 < args.len() {
            let count = args.integer(at + 1).and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
            let count = count.ok_or("ERR Number of IDs must be a positive integer")?;
            let start = at + 2;
            let end = start.checked_add(count).filter(|&end| end <= args.len());
            let end = end.ok_or("ERR The `numids` parameter must match the number of arguments")?;
            ids = Some((start, end));
            at = end - 1;
        } else {
            return Err(SYNTAX_ERROR);
        }
        at += 1;
    }
    let (start, end) = ids.ok_or(SYNTAX_ERROR)?;
    Ok((references.unwrap_or(References::Keep), start, end))
}

/// What XDELEX and XACKDEL say of an entry.
pub(super) fn removal_code(removal: Removal) -> i64 {
    match removal {
        Removal::Done => 1,
        Removal::Missing => -1,
        Removal::Referenced => 2,
    }
}

fn xdelex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if db.collection::<Stream>(0).is_err() {
        return wrong_type(reply);
    }
    let (references, start, end) = match parse_removal(args, 2) {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    let result = db.edit(0, |stream: &mut Stream, edit| {
        let ids = parse_ids(args, start, end)?;
        let codes: Vec<_> = ids.iter().map(|id| removal_code(stream.remove(*id, references))).collect();
        if codes.contains(&1) {
            edit.changed(event("xdel"));
        }
        Ok(codes)
    });
    answer_codes(result, end - start, reply)
}

/// Writes what became of each entry; they are all missing where there is no stream.
pub(super) fn answer_codes(
    result: Result<Option<Result<Vec<i64>, &'static str>>, WrongType>,
    count: usize,
    reply: &mut Reply<'_>,
) -> Outcome {
    let codes = match result {
        Ok(None) => vec![-1; count],
        Ok(Some(Ok(codes))) => codes,
        Ok(Some(Err(error))) => return fail(reply, error),
        Err(WrongType) => return wrong_type(reply),
    };
    reply.array(codes.len());
    codes.iter().for_each(|code| reply.integer(*code));
    Outcome::Done
}

/// Trims a stream; returns how many entries went.
fn cut(stream: &mut Stream, trim: &Trim, edit: &mut Edit) -> usize {
    let (removed, cut) = stream.trim(trim);
    if removed > 0 {
        edit.changed(event("xtrim"));
    }
    if !cut.is_empty() {
        edit.discard(cut);
    }
    removed
}

fn xtrim(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = match Options::parse(args, false, db.limits()) {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    let result =
        db.edit(0, |stream: &mut Stream, edit| options.trim.as_ref().map_or(0, |trim| cut(stream, trim, edit)));
    match result {
        Ok(removed) => reply.integer(removed.unwrap_or(0) as i64),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

/// What XSETID sets: the last ID, the number of entries added, the largest ID removed.
fn parse_setid(args: &Args<'_>) -> Result<(Id, Option<u64>, Option<Id>), &'static str> {
    let id = parse_id(args.at(2), 0)?;
    let (mut added, mut deleted, mut at) = (None, None, 3);
    while at < args.len() {
        let has_value = at + 1 < args.len();
        if has_value && args.is(at, "entriesadded") {
            let number = args.integer(at + 1).ok_or(NOT_AN_INTEGER)?;
            added = Some(u64::try_from(number).map_err(|_| "ERR entries_added must be positive")?);
        } else if has_value && args.is(at, "maxdeletedid") {
            let deleted_id = parse_id(args.at(at + 1), 0)?;
            if deleted_id > id {
                return Err("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id");
            }
            deleted = Some(deleted_id);
        } else {
            return Err(SYNTAX_ERROR);
        }
        at += 2;
    }
    Ok((id, added, deleted))
}

fn xsetid(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (id, added, deleted) = match parse_setid(args) {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    let result = db.edit(0, |stream: &mut Stream, edit| {
        if id < stream.max_deleted_id() {
            return Err("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id");
        }
        if stream.range_back(Id::MIN..=Id::MAX).next().is_some_and(|last| id < last.id) {
            return Err("ERR The ID specified in XSETID is smaller than the target stream top item");
        }
        if added.is_some_and(|added| added < stream.len() as u64) {
            return Err("ERR The entries_added specified in XSETID is smaller than the target stream length");
        }
        stream.set_ids(id, added, deleted.filter(|id| *id != Id::MIN));
        edit.told(event("xsetid"));
        Ok(())
    });
    match result {
        Ok(Some(Ok(()))) => reply.ok(),
        Ok(Some(Err(error))) => return fail(reply, error),
        Ok(None) => return fail(reply, "ERR no such key"),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}
