//! LCS.

use super::{Acl, Args, Fill, Flags, KeyFlags, KeySpec, Keys, NOT_AN_INTEGER, Outcome, Run, SYNTAX_ERROR, Spec, fail};
use crate::keyspace::{Text, View};
use crate::protocol::Reply;
use crate::types::{Match, lcs as find_lcs, lcs_len};
use bytes::Bytes;

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "lcs",
    arity: -3,
    flags: Flags::READONLY,
    acl: Acl::STRING,
    keys: Keys::Specs(&[KeySpec::range(1, 1, 1, KeyFlags::RO.or(KeyFlags::ACCESS))]),
    fill: Fill::Read,
    group: "string",
    since: "7.0.0",
    syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
    complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
    summary: "Finds the longest common subsequence of the strings at two keys.",
    run: Run::Data(lcs),
    ..Spec::BASE
}];

/// Bytes that Redis takes for each pair of bytes (one of either string, or the empty start).
const REDIS_CELL: usize = 4;

#[derive(Clone, Copy, Default)]
struct Options {
    len: bool,
    idx: bool,
    min_match_len: i64,
    with_match_len: bool,
}

impl Options {
    fn parse(args: &Args<'_>) -> Result<Self, &'static str> {
        let mut options = Self::default();
        let mut index = 3;
        while index < args.len() {
            if args.is(index, "len") {
                options.len = true;
            } else if args.is(index, "idx") {
                options.idx = true;
            } else if args.is(index, "withmatchlen") {
                options.with_match_len = true;
            } else if args.is(index, "minmatchlen") && index + 1 < args.len() {
                index += 1;
                options.min_match_len = args.integer(index).ok_or(NOT_AN_INTEGER)?;
            } else {
                return Err(SYNTAX_ERROR);
            }
            index += 1;
        }
        if options.len && options.idx {
            return Err("ERR If you want both the length and indexes, please just use IDX.");
        }
        Ok(options)
    }
}

fn lcs(db: &mut View<'_, '_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (Some(a), Some(b)) = (string(db, 0), string(db, 1)) else {
        return fail(reply, "ERR The specified keys must contain string values");
    };
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(error) => return fail(reply, error),
    };
    // The table takes a 32nd of what it takes in Redis, but where Redis gives up its clients expect the error; and
    // so the time is bounded, too.
    let cells = (a.len() + 1).saturating_mul(b.len() + 1);
    if cells.saturating_mul(REDIS_CELL) > db.max_string() {
        return fail(reply, "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
    }
    if options.len {
        reply.integer(lcs_len(&a, &b) as i64);
        return Outcome::Done;
    }
    let found = find_lcs(&a, &b);
    if !options.idx {
        reply.bulk(&found.text);
        return Outcome::Done;
    }
    let is_shown = |run: &&Match| run.len as i64 >= options.min_match_len;
    reply.map(2);
    reply.text("matches");
    reply.array(found.matches.iter().filter(is_shown).count());
    for run in found.matches.iter().filter(is_shown) {
        reply.array(if options.with_match_len { 3 } else { 2 });
        for start in [run.a, run.b] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + run.len - 1) as i64);
        }
        if options.with_match_len {
            reply.integer(run.len as i64);
        }
    }
    reply.text("len");
    reply.integer(found.text.len() as i64);
    Outcome::Done
}

/// The string at a key, an empty one where there is none; None for a value of another type.
fn string(db: &mut View<'_, '_>, key: usize) -> Option<Bytes> {
    Some(db.read(key).ok()?.map_or_else(Bytes::new, Text::to_bytes))
}
