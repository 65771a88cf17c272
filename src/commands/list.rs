//! The list commands, those that wait excepted.

use super::{
    Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail, wrong_type,
};
use crate::keyspace::{Edit, Event, View, WrongType, class};
use crate::protocol::Reply;
use crate::types::{Element, End, Item, List, Wanted};
use std::ops::Range;

const READ: Spec = Spec {
    arity: 4,
    flags: Flags::READONLY,
    acl: Acl::LIST,
    keys: Keys::READ_ONE,
    fill: Fill::Read,
    group: "list",
    ..Spec::BASE
};
const CHANGE: Spec = Spec {
    arity: 4,
    flags: Flags::WRITE,
    acl: Acl::LIST,
    keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))]),
    fill: Fill::Before,
    group: "list",
    ..Spec::BASE
};
const PUSH: Spec = Spec {
    arity: -3,
    flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
    keys: INSERT,
    syntax: "key element [element ...]",
    complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple \
        arguments.",
    ..CHANGE
};
const POP: Spec = Spec {
    arity: -2,
    flags: Flags::WRITE.or(Flags::FAST),
    keys: Keys::Specs(&[KeySpec::one(1, TAKE)]),
    syntax: "key [count]",
    complexity: "O(N) where N is the number of elements returned",
    ..CHANGE
};
const INSERT: Keys = Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::INSERT))]);
pub(super) const TAKE: KeyFlags = KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::DELETE);
pub(super) const MOVE: Keys = Keys::Specs(&[KeySpec::one(1, TAKE), KeySpec::one(2, KeyFlags::RW.or(KeyFlags::INSERT))]);

pub(super) const COMMANDS: &[Spec] = &[
    Spec { name: "lpush", summary: "Adds elements at the front of a list.", run: Run::Data(lpush), ..PUSH },
    Spec { name: "rpush", summary: "Adds elements at the back of a list.", run: Run::Data(rpush), ..PUSH },
    Spec {
        name: "lpushx",
        since: "2.2.0",
        summary: "Adds elements at the front of a list that exists.",
        run: Run::Data(lpushx),
        ..PUSH
    },
    Spec {
        name: "rpushx",
        since: "2.2.0",
        summary: "Adds elements at the back of a list that exists.",
        run: Run::Data(rpushx),
        ..PUSH
    },
    Spec { name: "lpop", summary: "Returns and removes the first elements of a list.", run: Run::Data(lpop), ..POP },
    Spec { name: "rpop", summary: "Returns and removes the last elements of a list.", run: Run::Data(rpop), ..POP },
    Spec {
        name: "llen",
        arity: 2,
        flags: Flags::READONLY.or(Flags::FAST),
        keys: Keys::LOOK_ONE,
        syntax: "key",
        summary: "Returns the length of a list.",
        run: Run::Data(llen),
        ..READ
    },
    Spec {
        name: "lindex",
        arity: 3,
        syntax: "key index",
        complexity: "O(N) where N is the number of elements to traverse to get to the element at index. This makes \
            asking for the first or the last element of the list O(1).",
        summary: "Returns the element of a list at an index.",
        run: Run::Data(lindex),
        ..READ
    },
    Spec {
        name: "lset",
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: Keys::UPDATE_ONE,
        syntax: "key index element",
        complexity: "O(N) where N is the length of the list. Setting either the first or the last element of the list \
            is O(1).",
        summary: "Replaces the element of a list at an index.",
        run: Run::Data(lset),
        ..CHANGE
    },
    Spec {
        name: "lrange",
        syntax: "key start stop",
        complexity: "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD \
            or TAIL) for large lists; and N is the number of elements in the specified range.",
        summary: "Returns a range of a list.",
        run: Run::Data(lrange),
        ..READ
    },
    Spec {
        name: "ltrim",
        syntax: "key start stop",
        complexity: "O(N) where N is the number of elements to be removed by the operation.",
        summary: "Removes what lies outside of a range of a list.",
        run: Run::Data(ltrim),
        ..CHANGE
    },
    Spec {
        name: "lrem",
        syntax: "key count element",
        complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
        summary: "Removes equal elements from a list.",
        run: Run::Data(lrem),
        ..CHANGE
    },
    Spec {
        name: "linsert",
        arity: 5,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: INSERT,
        since: "2.2.0",
        syntax: "key <BEFORE | AFTER> pivot element",
        complexity: "O(N) where N is the number of elements to traverse before seeing the value pivot. This means that \
            inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on \
            the right end (tail) is O(N).",
        summary: "Adds an element before or behind another one in a list.",
        run: Run::Data(linsert),
        ..CHANGE
    },
    Spec {
        name: "lpos",
        arity: -3,
        since: "6.0.6",
        syntax: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
        complexity: "O(N) where N is the number of elements in the list, for the average case. When searching for \
            elements near the head or the tail of the list, or when the MAXLEN option is provided, the command may run \
            in constant time.",
        summary: "Returns the indices of equal elements in a list.",
        run: Run::Data(lpos),
        ..READ
    },
    Spec {
        name: "lmove",
        arity: 5,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: MOVE,
        since: "6.2.0",
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
        summary: "Takes an element from one list, adds it to another one, and returns it.",
        run: Run::Data(lmove),
        ..CHANGE
    },
    Spec {
        name: "rpoplpush",
        arity: 3,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: MOVE,
        since: "1.2.0",
        syntax: "source destination",
        summary: "Takes the last element of one list, adds it at the front of another one, and returns it.",
        run: Run::Data(rpoplpush),
        ..CHANGE
    },
    Spec {
        name: "lmpop",
        arity: -4,
        flags: Flags::WRITE.or(Flags::MOVABLEKEYS),
        keys: Keys::Specs(&[KeySpec::numbered(1, 1, TAKE)]),
        since: "7.0.0",
        syntax: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        summary: "Returns and removes elements of the first of several lists that is not empty.",
        run: Run::Data(lmpop),
        ..CHANGE
    },
];

const OUT_OF_RANGE: &str = "ERR value is out of range, must be positive";

const NOT_NEGATABLE: &str =
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";

fn event(end: End, front: &'static str, back: &'static str) -> Event {
    Event::new(class::LIST, if end == End::Front { front } else { back })
}

fn pushed(end: End) -> Event {
    event(end, "lpush", "rpush")
}

pub(super) fn popped(end: End) -> Event {
    event(end, "lpop", "rpop")
}

/// Writes an element.
#[inline]
pub(super) fn bulk(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Item(Item::Text(text)) => reply.bulk(text),
        Element::Item(Item::Int(number)) => reply.bulk_integer(number),
        Element::Large(bytes) => reply.bulk_shared(bytes),
    }
}

fn lpush(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(db, args, reply, End::Front)
}

fn rpush(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(db, args, reply, End::Back)
}

fn lpushx(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push_if_there(db, args, reply, End::Front)
}

fn rpushx(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push_if_there(db, args, reply, End::Back)
}

/// An edit that adds the command's elements, and gives the length.
#[inline]
fn adding<'a>(args: &Args<'a>, end: End, directive: i32) -> impl FnOnce(&mut List, &mut Edit) -> usize + use<'a> {
    let values = args.from(2);
    move |list, edit| {
        list.push(end, values, directive);
        edit.changed(pushed(end));
        list.len()
    }
}

fn push(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, end: End) -> Outcome {
    match db.edit_or_new(0, adding(args, end, db.limits().list_max_listpack_size)) {
        Ok(len) => reply.integer(len as i64),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn push_if_there(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, end: End) -> Outcome {
    match db.edit(0, adding(args, end, db.limits().list_max_listpack_size)) {
        Ok(len) => reply.integer(len.unwrap_or(0) as i64),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn lpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(db, args, reply, End::Front, "ERR wrong number of arguments for 'lpop' command")
}

fn rpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(db, args, reply, End::Back, "ERR wrong number of arguments for 'rpop' command")
}

fn pop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>, end: End, wrong_arity: &str) -> Outcome {
    let count = match args.len() {
        2 => None,
        3 => match args.integer(2).and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Some(count),
            None => return fail(reply, OUT_OF_RANGE),
        },
        _ => return fail(reply, wrong_arity),
    };
    let directive = db.limits().list_max_listpack_size;
    let found = match count {
        None => db.edit(0, |list: &mut List, edit| {
            list.pop(end, directive, |element| bulk(reply, element));
            edit.changed(popped(end));
        }),
        Some(count) => db.edit(0, |list, edit| take(list, edit, end, count, directive, reply)),
    };
    match found {
        Ok(Some(())) => {}
        Ok(None) if count.is_some() => reply.null_array(),
        Ok(None) => reply.null(),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

/// Writes an array of elements, at most `count`, and removes them.
fn take(list: &mut List, edit: &mut Edit, end: End, count: usize, directive: i32, reply: &mut Reply<'_>) {
    let count = count.min(list.len());
    reply.array(count);
    if count == 0 {
        return;
    }
    match end {
        End::Front => list.each(0..count, |element| bulk(reply, element)),
        End::Back => list.each_back(count, |element| bulk(reply, element)),
    }
    shorten(list, edit, end, count, directive);
    edit.changed(popped(end));
}

/// Removes so many elements at an end; most of many are dropped later.
fn shorten(list: &mut List, edit: &mut Edit, end: End, count: usize, directive: i32) {
    let cut = list.cut(end, count);
    list.drop(end, count - cut.len(), directive);
    if !cut.is_empty() {
        edit.discard(cut);
    }
}

fn llen(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Ok(list) = db.read_as::<List>(0) else { return wrong_type(reply) };
    reply.integer(list.map_or(0, List::len) as i64);
    Outcome::Done
}

/// The number of the element at `index`, which is counted from the end if it is negative.
fn number(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok().filter(|&index| index < len)
}

/// The elements from `start` to `stop`, as many of them as there are.
fn range(start: i64, stop: i64, len: usize) -> Range<usize> {
    let len = len as i64;
    let from_end = |index: i64| if index < 0 { index + len } else { index };
    let start = from_end(start).max(0);
    let end = from_end(stop).min(len - 1) + 1;
    if start < end { start as usize..end as usize } else { 0..0 }
}

fn lindex(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match db.read_as::<List>(0) {
        Ok(Some(list)) => {
            let Some(index) = args.integer(2) else { return fail(reply, NOT_AN_INTEGER) };
            match number(index, list.len()).and_then(|index| list.get(index)) {
                Some(element) => bulk(reply, element),
                None => reply.null(),
            }
        }
        Ok(None) => reply.null(),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn lset(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let directive = db.limits().list_max_listpack_size;
    let result = db.edit(0, |list: &mut List, edit| {
        let index = args.integer(2).ok_or(NOT_AN_INTEGER)?;
        let index = number(index, list.len()).ok_or("ERR index out of range")?;
        list.set(index, args.at(3), directive);
        edit.changed(Event::new(class::LIST, "lset"));
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

fn lrange(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (Some(start), Some(stop)) = (args.integer(2), args.integer(3)) else { return fail(reply, NOT_AN_INTEGER) };
    match db.read_as::<List>(0) {
        Ok(Some(list)) => {
            let range = range(start, stop, list.len());
            reply.array(range.len());
            list.each(range, |element| bulk(reply, element));
        }
        Ok(None) => reply.array(0),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn ltrim(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (Some(start), Some(stop)) = (args.integer(2), args.integer(3)) else { return fail(reply, NOT_AN_INTEGER) };
    let directive = db.limits().list_max_listpack_size;
    let result = db.edit(0, |list: &mut List, edit| {
        let (len, kept) = (list.len(), range(start, stop, list.len()));
        shorten(list, edit, End::Back, len - kept.end, directive);
        shorten(list, edit, End::Front, kept.start, directive);
        edit.changed(Event::new(class::LIST, "ltrim"));
    });
    match result {
        Ok(_) => reply.ok(),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn lrem(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(count) = args.integer(2) else { return fail(reply, NOT_AN_INTEGER) };
    if count == i64::MIN {
        return fail(reply, NOT_NEGATABLE);
    }
    let end = if count < 0 { End::Back } else { End::Front };
    let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let directive = db.limits().list_max_listpack_size;
    let result = db.edit(0, |list: &mut List, edit| {
        let removed = list.remove(args.at(3), end, most, directive);
        if removed > 0 {
            edit.changed(Event::new(class::LIST, "lrem"));
        }
        removed
    });
    match result {
        Ok(removed) => reply.integer(removed.unwrap_or(0) as i64),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

fn linsert(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let is_before = args.is(2, "before");
    if !is_before && !args.is(2, "after") {
        return fail(reply, SYNTAX_ERROR);
    }
    let directive = db.limits().list_max_listpack_size;
    let result = db.edit(0, |list: &mut List, edit| {
        if !list.insert(is_before, args.at(3), args.at(4), directive) {
            return -1;
        }
        edit.changed(Event::new(class::LIST, "linsert"));
        list.len() as i64
    });
    match result {
        Ok(len) => reply.integer(len.unwrap_or(0)),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

/// LPOS's options.
struct Search {
    end: End,
    skip: usize,
    /// Without COUNT, the reply is no array.
    count: Option<usize>,
    look_at: usize,
}

impl Search {
    fn parse(args: &Args<'_>) -> Result<Self, &'static str> {
        let mut search = Self { end: End::Front, skip: 0, count: None, look_at: usize::MAX };
        let no_limit = |number: usize| if number == 0 { usize::MAX } else { number };
        for index in (3..args.len()).step_by(2) {
            let has_value = index + 1 < args.len();
            let number = args.integer(index + 1);
            let natural = number.and_then(|number| usize::try_from(number).ok());
            if has_value && args.is(index, "rank") {
                let rank = number.ok_or(NOT_AN_INTEGER)?;
                if rank == i64::MIN {
                    return Err(NOT_NEGATABLE);
                }
                search.end = if rank < 0 { End::Back } else { End::Front };
                search.skip = (rank.unsigned_abs() as usize).checked_sub(1).ok_or(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use \
                        negative to start from the end of the list",
                )?;
            } else if has_value && args.is(index, "count") {
                search.count = Some(natural.map(no_limit).ok_or("ERR COUNT can't be negative")?);
            } else if has_value && args.is(index, "maxlen") {
                search.look_at = natural.map(no_limit).ok_or("ERR MAXLEN can't be negative")?;
            } else {
                return Err(SYNTAX_ERROR);
            }
        }
        Ok(search)
    }
}

fn lpos(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Search { end, skip, count, look_at } = match Search::parse(args) {
        Ok(search) => search,
        Err(error) => return fail(reply, error),
    };
    let Ok(list) = db.read_as::<List>(0) else { return wrong_type(reply) };
    let wanted = Wanted::new(args.at(2));
    let found = list.map_or(Vec::new(), |list| list.find(wanted, end, skip, count.unwrap_or(1), look_at));
    match found.first() {
        None if count.is_none() => reply.null(),
        Some(&index) if count.is_none() => reply.integer(index as i64),
        _ => {
            reply.array(found.len());
            found.iter().for_each(|&index| reply.integer(index as i64));
        }
    }
    Outcome::Done
}

/// An end of a list as LMOVE and LMPOP name it.
pub(super) fn parse_end(args: &Args<'_>, index: usize) -> Option<End> {
    if args.is(index, "left") {
        return Some(End::Front);
    }
    args.is(index, "right").then_some(End::Back)
}

fn lmove(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (Some(from), Some(to)) = (parse_end(args, 3), parse_end(args, 4)) else { return fail(reply, SYNTAX_ERROR) };
    answer_move(db, from, to, reply)
}

fn rpoplpush(db: &mut View<'_, '_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    answer_move(db, End::Back, End::Front, reply)
}

fn answer_move(db: &mut View<'_, '_>, from: End, to: End, reply: &mut Reply<'_>) -> Outcome {
    match move_element(db, from, to, reply) {
        Ok(true) => {}
        Ok(false) => reply.null(),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}

/// Takes an element from the first key's list, adds it to the second key's, and writes it; false if there is none.
pub(super) fn move_element(
    db: &mut View<'_, '_>,
    from: End,
    to: End,
    reply: &mut Reply<'_>,
) -> Result<bool, WrongType> {
    let directive = db.limits().list_max_listpack_size;
    let write = |element: Element<'_>, reply: &mut Reply<'_>| {
        bulk(reply, element);
        element.to_vec()
    };
    if db.collection::<List>(0)?.is_none() {
        return Ok(false);
    }
    if db.key(0) == db.key(1) {
        let moved = db.edit(0, |list: &mut List, edit| {
            if let Some(value) = list.pop(from, directive, |element| write(element, reply)) {
                list.push(to, std::iter::once(&value[..]), directive);
                edit.changed(pushed(to));
                edit.changed(popped(from));
            }
        });
        return moved.map(|moved| moved.is_some());
    }
    db.collection::<List>(1)?;
    // The destination first: so its events are told first.
    let Some(element) = db.collection::<List>(0)?.and_then(|list| list.end(from)) else { return Ok(false) };
    let value = write(element, reply);
    db.edit_or_new(1, |list: &mut List, edit| {
        list.push(to, std::iter::once(&value[..]), directive);
        edit.changed(pushed(to));
    })?;
    db.edit(0, |list: &mut List, edit| {
        list.drop(from, 1, directive);
        edit.changed(popped(from));
    })?;
    Ok(true)
}

/// What LMPOP and BLMPOP take, from the arguments behind their keys, which begin at `index`.
pub(super) fn parse_pop(args: &Args<'_>, index: usize) -> Result<(End, usize), &'static str> {
    let end = parse_end(args, index).ok_or(SYNTAX_ERROR)?;
    if args.len() == index + 1 {
        return Ok((end, 1));
    }
    if !args.is(index + 1, "count") || args.len() < index + 3 {
        return Err(SYNTAX_ERROR);
    }
    let count = args.integer(index + 2).and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    let count = count.ok_or("ERR count should be greater than 0")?;
    if args.len() > index + 3 { Err(SYNTAX_ERROR) } else { Ok((end, count)) }
}

/// The number of keys at `index`, and where what follows the keys begins.
pub(super) fn parse_numkeys(args: &Args<'_>, index: usize) -> Result<usize, &'static str> {
    let count = args.integer(index).and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
    let count = count.ok_or("ERR numkeys should be greater than 0")?;
    index.checked_add(count).map(|last| last + 1).filter(|&behind| behind < args.len()).ok_or(SYNTAX_ERROR)
}

/// Takes up to `count` elements from the first list that is there, and writes its key and them; false if none is.
pub(super) fn pop_first(
    db: &mut View<'_, '_>,
    end: End,
    count: usize,
    reply: &mut Reply<'_>,
) -> Result<bool, WrongType> {
    let directive = db.limits().list_max_listpack_size;
    for key in 0..db.len() {
        if db.collection::<List>(key)?.is_none() {
            continue;
        }
        reply.array(2);
        reply.bulk(db.key(key));
        db.edit(key, |list: &mut List, edit| take(list, edit, end, count, directive, reply))?;
        return Ok(true);
    }
    Ok(false)
}

fn lmpop(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (end, count) = match parse_numkeys(args, 1).and_then(|index| parse_pop(args, index)) {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    match pop_first(db, end, count, reply) {
        Ok(true) => {}
        Ok(false) => reply.null_array(),
        Err(WrongType) => return wrong_type(reply),
    }
    Outcome::Done
}
