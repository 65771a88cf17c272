//! What a group has not acknowledged: XPENDING, XCLAIM and XAUTOCLAIM.

use super::stream::{CHANGING, READ, WRITE, event};
use super::stream_args::{INVALID_ID, parse_id, parse_range, parse_start, write_entry, write_id};
use super::{
    Args, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, c_text, fail, wrong_type,
};
use crate::keyspace::{View, WrongType};
use crate::protocol::{Output, Reply};
use crate::types::{Consumer, Group, Id, Stream};
use std::ops::RangeInclusive;

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "xpending",
        arity: -3,
        tips: CHANGING,
        syntax: "key group [[IDLE min-idle-time] start end count [consumer]]",
        complexity: "O(N) with N being the number of elements returned, so asking for a small fixed number of entries \
            per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. \
            When the command returns just the summary and the list of consumers is small, it runs in O(1) time; \
            otherwise, an additional O(N) time for iterating every consumer.",
        summary: "Returns which entries a group has not acknowledged.",
        run: Run::Data(xpending),
        ..READ
    },
    Spec {
        name: "xclaim",
        arity: -6,
        tips: CHANGING,
        syntax: "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] \
            [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
        complexity: "O(log N) with N being the number of messages in the PEL of the consumer group.",
        summary: "Gives a consumer entries that others have not acknowledged.",
        run: Run::Data(xclaim),
        ..WRITE
    },
    Spec {
        name: "xautoclaim",
        arity: -6,
        keys: Keys::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::DELETE))]),
        tips: CHANGING,
        since: "6.2.0",
        syntax: "key group consumer min-idle-time start [COUNT count] [JUSTID]",
        complexity: "O(1) if COUNT is small.",
        summary: "Gives a consumer entries that others have not acknowledged for long.",
        run: Run::Data(xautoclaim),
        ..WRITE
    },
];

/// Answers that there is no such group.
fn no_group(reply: &mut Reply<'_>, key: &[u8], group: &[u8]) -> Outcome {
    let parts: [&[u8]; 5] = [b"NOGROUP No such key '", c_text(key), b"' or consumer group '", c_text(group), b"'"];
    reply.error_bytes(&parts.concat());
    Outcome::Done
}

/// XPENDING with a range.
struct Search<'a> {
    min_idle: i64,
    range: RangeInclusive<Id>,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Search<'a> {
    /// None for the summary.
    fn parse(args: &Args<'a>) -> Result<Option<Self>, &'static str> {
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(SYNTAX_ERROR);
        }
        let (mut at, mut min_idle) = (3, 0);
        if args.is(3, "idle") {
            min_idle = args.integer(4).ok_or(NOT_AN_INTEGER)?;
            if args.len() < 8 {
                return Err(SYNTAX_ERROR);
            }
            at = 5;
        }
        let count = usize::try_from(args.integer(at + 2).ok_or(NOT_AN_INTEGER)?).unwrap_or(0);
        let range = parse_range(args.at(at), args.at(at + 1))?;
        Ok(Some(Self { min_idle, range, count, consumer: args.get(at + 3) }))
    }
}

fn xpending(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let search = match Search::parse(args) {
        Ok(search) => search,
        Err(error) => return fail(reply, error),
    };
    let (key, now) = (db.key(0), db.now());
    let Ok(stream) = db.read_as::<Stream>(0) else { return wrong_type(reply) };
    let Some(group) = stream.and_then(|stream| stream.groups().get(args.at(2))) else {
        return no_group(reply, key, args.at(2));
    };
    match search {
        None => summary(group, reply),
        Some(search) => details(group, search, now, reply),
    }
    Outcome::Done
}

fn summary(group: &Group, reply: &mut Reply<'_>) {
    reply.array(4);
    reply.integer(group.pending() as i64);
    let Some((first, last)) = group.pending_ends() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    write_id(reply, first);
    write_id(reply, last);
    let own = |(name, consumer): (_, Option<&Consumer>)| (name, consumer.map_or(0, Consumer::pending));
    let busy = || group.consumers().map(own).filter(|(_, pending)| *pending > 0);
    reply.array(busy().count());
    for (name, pending) in busy() {
        reply.array(2);
        reply.bulk(name);
        reply.bulk_integer(pending as i64);
    }
}

fn details(group: &Group, search: Search<'_>, now: i64, reply: &mut Reply<'_>) {
    let Search { min_idle, range, count, consumer } = search;
    let (mut output, version) = (Output::new(), reply.version());
    let mut written = 0;
    let mut write = |(id, pending, owner): (Id, crate::types::Pending, &[u8])| {
        let mut reply = Reply::new(&mut output, version);
        reply.array(4);
        write_id(&mut reply, id);
        reply.bulk(owner);
        reply.integer((now - pending.time).max(0));
        reply.integer(pending.count);
        written += 1;
    };
    let is_idle = |pending: &crate::types::Pending| min_idle == 0 || now - pending.time >= min_idle;
    if range.start() <= range.end() {
        match consumer {
            None => {
                group.pending_range(range).filter(|(_, pending, _)| is_idle(pending)).take(count).for_each(&mut write);
            }
            Some(name) => {
                if let Some(number) = group.find(name) {
                    let own = group.pending_of(number, range);
                    own.filter(|(_, pending, _)| is_idle(pending)).take(count).for_each(&mut write);
                }
            }
        }
    }
    reply.array(written);
    reply.output().append(output);
}

/// How entries are claimed.
struct Claim<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    min_idle: i64,
    now: i64,
    /// When they count as delivered.
    time: i64,
    /// How often they count as delivered.
    count: Option<i64>,
    force: bool,
    only_ids: bool,
}

/// What came of claiming one entry.
enum Claimed {
    Yes,
    No,
    /// The stream has lost it: nobody has to acknowledge it any more.
    Lost,
}

impl Claim<'_> {
    /// Claims an entry for consumer `number`, and writes it.
    fn claim(&self, stream: &mut Stream, number: u32, id: Id, reply: &mut Reply<'_>) -> Claimed {
        let is_there = stream.get(id).is_some();
        let Some(group) = stream.group_mut(self.group) else { return Claimed::No };
        let before = group.get(id);
        if !is_there {
            return if group.acknowledge(id) { Claimed::Lost } else { Claimed::No };
        }
        let count = match before {
            Some(pending) if self.min_idle > 0 && self.now - pending.time < self.min_idle => return Claimed::No,
            Some(pending) => pending.count,
            None if self.force => 1,
            None => return Claimed::No,
        };
        let count = self.count.unwrap_or(count + i64::from(!self.only_ids));
        group.assign(id, number, self.time, count);
        if let Some(consumer) = group.consumer_mut(number) {
            consumer.active = self.now;
        }
        match stream.get(id) {
            Some(entry) if !self.only_ids => write_entry(reply, &entry),
            _ => write_id(reply, id),
        }
        Claimed::Yes
    }

    /// The consumer's number, and whether it is new.
    fn reader(&self, group: &mut Group) -> (u32, bool) {
        let (number, is_new) = group.find_or_add(self.consumer, self.now);
        if let Some(consumer) = group.consumer_mut(number) {
            consumer.seen = self.now;
        }
        (number, is_new)
    }
}

/// XCLAIM's options from argument `at` on; also LASTID.
fn parse_claim(args: &Args<'_>, mut at: usize, claim: &mut Claim<'_>) -> Result<Id, Vec<u8>> {
    let mut last_id = Id::MIN;
    let number = |at: usize, error: &str| args.integer(at).ok_or_else(|| error.as_bytes().to_vec());
    while at < args.len() {
        let has_value = at + 1 < args.len();
        let mut width = 2;
        if args.is(at, "force") {
            (claim.force, width) = (true, 1);
        } else if args.is(at, "justid") {
            (claim.only_ids, width) = (true, 1);
        } else if has_value && args.is(at, "idle") {
            let idle = number(at + 1, "ERR Invalid IDLE option argument for XCLAIM")?;
            claim.time = claim.now.wrapping_sub(idle);
        } else if has_value && args.is(at, "time") {
            claim.time = number(at + 1, "ERR Invalid TIME option argument for XCLAIM")?;
        } else if has_value && args.is(at, "retrycount") {
            let count = number(at + 1, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
            claim.count = Some(count).filter(|count| *count >= 0);
        } else if has_value && args.is(at, "lastid") {
            last_id = parse_id(args.at(at + 1), 0).map_err(|error| error.as_bytes().to_vec())?;
        } else {
            let parts: [&[u8]; 3] = [b"ERR Unrecognized XCLAIM option '", c_text(args.at(at)), b"'"];
            return Err(parts.concat());
        }
        at += width;
    }
    if claim.time < 0 || claim.time > claim.now {
        claim.time = claim.now;
    }
    Ok(last_id)
}

fn xclaim(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, now) = (db.key(0), db.now());
    match db.collection::<Stream>(0) {
        Ok(Some(stream)) if stream.groups().contains_key(args.at(2)) => {}
        Ok(_) => return no_group(reply, key, args.at(2)),
        Err(WrongType) => return wrong_type(reply),
    }
    let Some(min_idle) = args.integer(4) else { return fail(reply, "ERR Invalid min-idle-time argument for XCLAIM") };
    let ids: Vec<Id> = (5..args.len()).map_while(|index| parse_id(args.at(index), 0).ok()).collect();
    let (group, consumer) = (args.at(2), args.at(3));
    let mut claim = Claim { group, consumer, min_idle, now, time: now, count: None, force: false, only_ids: false };
    let last_id = match parse_claim(args, 5 + ids.len(), &mut claim) {
        Ok(last_id) => last_id,
        Err(error) => {
            reply.error_bytes(&error);
            return Outcome::Done;
        }
    };
    let (mut output, version, mut count) = (Output::new(), reply.version(), 0);
    let is_new = db.edit(0, |stream: &mut Stream, _| {
        let Some(group) = stream.group_mut(claim.group) else { return false };
        group.last_id = group.last_id.max(last_id);
        let (number, is_new) = claim.reader(group);
        for id in ids {
            let claimed = claim.claim(stream, number, id, &mut Reply::new(&mut output, version));
            count += usize::from(matches!(claimed, Claimed::Yes));
        }
        is_new
    });
    if matches!(is_new, Ok(Some(true))) {
        db.note(0, event("xgroup-createconsumer"));
    }
    reply.array(count);
    reply.output().append(output);
    Outcome::Done
}

/// XAUTOCLAIM's COUNT and JUSTID.
fn parse_autoclaim(args: &Args<'_>) -> Result<(usize, bool), &'static str> {
    let (mut count, mut only_ids, mut at) = (100, false, 6);
    while at < args.len() {
        if args.is(at, "count") && at + 1 < args.len() {
            let most = i64::MAX / size_of::<Id>() as i64;
            let number = args.integer(at + 1).filter(|number| (1..=most).contains(number));
            count = number.ok_or("ERR COUNT must be > 0")? as usize;
            at += 2;
        } else if args.is(at, "justid") {
            only_ids = true;
            at += 1;
        } else {
            return Err(SYNTAX_ERROR);
        }
    }
    Ok((count, only_ids))
}

fn xautoclaim(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(min_idle) = args.integer(4) else {
        return fail(reply, "ERR Invalid min-idle-time argument for XAUTOCLAIM");
    };
    let parsed = parse_start(args.at(5)).and_then(|start| Ok((start, parse_autoclaim(args)?)));
    let (start, (mut left, only_ids)) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return fail(reply, error),
    };
    let (key, now) = (db.key(0), db.now());
    match db.collection::<Stream>(0) {
        Ok(Some(stream)) if stream.groups().contains_key(args.at(2)) => {}
        Ok(_) => return no_group(reply, key, args.at(2)),
        Err(WrongType) => return wrong_type(reply),
    }
    let (group, consumer) = (args.at(2), args.at(3));
    let claim = Claim { group, consumer, min_idle, now, time: now, count: None, force: false, only_ids };
    let (mut output, version, mut count, mut lost) = (Output::new(), reply.version(), 0, Vec::new());
    let result = db.edit(0, |stream: &mut Stream, _| {
        let group = stream.group_mut(claim.group)?;
        let (number, is_new) = claim.reader(group);
        let looked_at = left.saturating_mul(10);
        let mut ids: Vec<Id> =
            group.pending_range(start..=Id::MAX).take(looked_at.saturating_add(1)).map(|(id, ..)| id).collect();
        let beyond = (ids.len() > looked_at).then(|| ids.pop()).flatten();
        let mut next = beyond;
        for id in ids {
            if left == 0 {
                next = Some(id);
                break;
            }
            match claim.claim(stream, number, id, &mut Reply::new(&mut output, version)) {
                Claimed::Yes => (left, count) = (left - 1, count + 1),
                Claimed::No => {}
                Claimed::Lost => {
                    left -= 1;
                    lost.push(id);
                }
            }
        }
        Some((next, is_new))
    });
    let Ok(Some(Some((next, is_new)))) = result else { return fail(reply, INVALID_ID) };
    if is_new {
        db.note(0, event("xgroup-createconsumer"));
    }
    reply.array(3);
    write_id(reply, next.unwrap_or(Id::MIN));
    reply.array(count);
    reply.output().append(output);
    reply.array(lost.len());
    lost.iter().for_each(|id| write_id(reply, *id));
    Outcome::Done
}
