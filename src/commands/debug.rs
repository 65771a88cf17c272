//! DEBUG, for tests of clients and of this server; behind `enable-debug-command`. What would crash, leak or restart
//! the server is left out.

use super::{Args, Ctx, Flags, NOT_AN_INTEGER, Outcome, Run, Spec, fail, help};
use crate::keyspace::{Entry, NewValue, Text, Value};
use crate::protocol::Reply;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "debug",
    arity: -2,
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE).or(Flags::PROTECTED),
    group: "server",
    complexity: "Depends on subcommand.",
    summary: "For tests; see DEBUG HELP.",
    locks: true,
    run: Run::Server(debug),
    ..Spec::BASE
}];

type Handler = fn(&mut Ctx<'_>, &Args<'_>, &mut Reply<'_>) -> Outcome;

/// A subcommand: name with arguments, how many words it takes with DEBUG and its name (least, most), what it does.
struct Sub(&'static str, (usize, usize), &'static str, Handler);

impl Sub {
    fn name(&self) -> &'static str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

const ACCEPTED: &str = "Accepted for the sake of test suites; changes nothing here.";
const ANY: usize = usize::MAX;

const SUBCOMMANDS: &[Sub] = &[
    Sub("CHANGE-REPL-ID", (2, 2), "Draws a new replication id.", change_replication_id),
    Sub("DIGEST", (2, 2), "Returns a digest of all keys and values, the same for the same data.", digest),
    Sub("DIGEST-VALUE <key> [<key> ...]", (2, ANY), "Returns a digest of each value.", digest_value),
    Sub("ERROR <string>", (3, 3), "Answers with this error.", error),
    Sub("HTSTATS <dbid> [full]", (3, 4), "Returns the size of a database's tables.", table_stats),
    Sub("LISTPACK <key>", (3, 3), "Would describe a listpack; no value is one yet.", listpack),
    Sub("LOADAOF", (2, 2), "Not available: nothing is kept on disk.", no_persistence),
    Sub("LOG <message>", (3, 3), "Writes a line to the log.", log),
    Sub("OBJECT <key>", (3, 4), "Describes the value of a key.", object),
    Sub(
        "POPULATE <count> [<prefix>] [<size>]",
        (3, 5),
        "Adds keys prefix:0, prefix:1 … with values value:0 …",
        populate,
    ),
    Sub("PROTOCOL <type>", (3, 3), "Answers with a value of this RESP type.", protocol),
    Sub("QUICKLIST-PACKED-THRESHOLD <size>", (3, 3), ACCEPTED, packed_threshold),
    Sub("READTHROUGH-FENCE <0|1>", (3, 3), "Keeps every load, stale or not (0), or as usual (1).", readthrough_fence),
    Sub("RELOAD [<option> ...]", (2, ANY), "Not available: nothing is kept on disk.", no_persistence),
    Sub("SDSLEN <key>", (3, 3), "Returns the lengths of a key and its string.", string_lengths),
    Sub(
        "SET-ACTIVE-EXPIRE <0|1>",
        (3, 3),
        "Removes expired keys only when they are met (0), or as usual (1).",
        active_expire,
    ),
    Sub("SLEEP <seconds>", (3, 3), "Suspends this connection, and no other; decimals allowed.", sleep),
    Sub("AOF-FLUSH-SLEEP <microsec>", (3, 3), ACCEPTED, accept),
    Sub("CLIENT-ENFORCE-REPLY-LIST <0|1>", (3, 3), ACCEPTED, accept),
    Sub("DELAY-RDB-CLIENT-FREE-SECONDS <seconds>", (3, 3), ACCEPTED, accept),
    Sub("DICT-RESIZING <0|1>", (3, 3), ACCEPTED, accept),
    Sub("KEYSIZES-HIST-ASSERT <0|1>", (3, 3), ACCEPTED, accept),
    Sub("PAUSE-CRON <0|1>", (3, 3), ACCEPTED, accept),
    Sub("REPLYBUFFER <RESIZING|PEAK-RESET-TIME> <value>", (4, 4), ACCEPTED, accept),
    Sub("SET-DISABLE-DENY-SCRIPTS <0|1>", (3, 3), ACCEPTED, accept),
    Sub("SET-SKIP-CHECKSUM-VALIDATION <0|1>", (3, 3), ACCEPTED, accept),
    Sub("HELP", (2, 2), "Lists the subcommands.", list),
];

/// What DEBUG PROTOCOL DOUBLE answers.
#[expect(clippy::approx_constant, reason = "the reply of the real server")]
const PROTOCOL_DOUBLE: f64 = 3.141;

fn debug(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let fits = |sub: &&Sub| args.is(1, sub.name()) && (sub.1.0..=sub.1.1).contains(&args.len());
    if let Some(sub) = SUBCOMMANDS.iter().find(fits) {
        return (sub.3)(ctx, args, reply);
    }
    help::wrong_subcommand("DEBUG", args, reply)
}

fn list(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    help::lines(reply, "debug", SUBCOMMANDS.iter().map(|sub| (sub.0, sub.2)));
    Outcome::Done
}

fn accept(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.ok();
    Outcome::Done
}

fn readthrough_fence(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    ctx.state.fills.unfenced.store(args.at(2) == b"0", Ordering::Relaxed);
    reply.ok();
    Outcome::Done
}

fn no_persistence(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = String::from_utf8_lossy(args.at(1)).to_uppercase();
    fail(reply, &format!("ERR DEBUG {name} is not available: Cenote keeps no data on disk"))
}

/// The longest sleep: a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn sleep(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    // What is no number counts as 0, as in Redis.
    let text = std::str::from_utf8(args.at(2)).unwrap_or_default();
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0).unwrap_or(0.0);
    if seconds > 0.0 {
        return Outcome::Sleep(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST));
    }
    reply.ok();
    Outcome::Done
}

fn active_expire(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    ctx.state.active_expire.store(args.integer(2).unwrap_or(0) != 0, Ordering::Relaxed);
    reply.ok();
    Outcome::Done
}

fn change_replication_id(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    ctx.state.change_replication_id();
    reply.ok();
    Outcome::Done
}

fn log(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    tracing::warn!("DEBUG LOG: {}", args.at(2).escape_ascii());
    reply.ok();
    Outcome::Done
}

fn error(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.error_bytes(args.at(2));
    Outcome::Done
}

fn packed_threshold(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let size = args.integer(2).or_else(|| {
        let text = std::str::from_utf8(args.at(2)).ok()?.to_ascii_lowercase();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &text[digits.len()..] {
            "b" => 0,
            "kb" => 10,
            "mb" => 20,
            "gb" => 30,
            _ => return None,
        };
        digits.parse::<i64>().ok()?.checked_mul(1 << shift)
    });
    match size {
        Some(size) if (0..=4 << 30).contains(&size) => reply.ok(),
        _ => reply.error("ERR argument must be a memory value bigger than 1 and smaller than 4gb"),
    }
    Outcome::Done
}

/// Keys added between two looks at the memory limit.
const POPULATE_STEP: i64 = 1024;

fn populate(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    const OUT_OF_RANGE: &str = "ERR value is out of range, must be positive";
    let Some(count) = args.integer(2).filter(|count| *count >= 0) else { return fail(reply, OUT_OF_RANGE) };
    let prefix = args.get(3).unwrap_or(b"key");
    let limits = ctx.state.config.load();
    let size = match args.get(4).map(|_| args.integer(4)) {
        None => None,
        Some(Some(size)) if size >= 0 && size as u64 <= limits.proto_max_bulk_len => Some(size as usize),
        Some(_) => return fail(reply, OUT_OF_RANGE),
    };
    for number in 0..count {
        let full = limits.maxmemory > 0 && crate::alloc::used() > limits.maxmemory;
        if number % POPULATE_STEP == 0 && full {
            return fail(reply, super::OUT_OF_MEMORY);
        }
        let key = [prefix, format!(":{number}").as_bytes()].concat();
        let mut value = format!("value:{number}").into_bytes();
        if let Some(size) = size {
            value.resize(size, 0);
        }
        ctx.state.keyspace.add(ctx.client.db(), &key, NewValue::of(&value), ctx.now);
    }
    reply.ok();
    Outcome::Done
}

/// Runs `look` on the entry of the key that is argument 2.
fn look<T>(ctx: &Ctx<'_>, args: &Args<'_>, look: impl FnOnce(Entry<'_>) -> T) -> Result<T, &'static str> {
    let found = ctx.state.keyspace.inspect(ctx.client.db(), args.at(2), ctx.now, look);
    found.ok_or("ERR no such key")
}

fn object(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let access = crate::state::access(&ctx.state.config.load(), ctx.now, 0);
    let described = look(ctx, args, |entry| {
        let bits = entry.access();
        let idle = access.idle_seconds(bits);
        let length = serialized_length(entry.value());
        let encoding = entry.value().encoding();
        format!(
            "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{length} lru:{bits} lru_seconds_idle:{idle}"
        )
    });
    match described {
        Ok(text) => reply.simple(&text),
        Err(text) => reply.error(text),
    }
    Outcome::Done
}

/// Bytes of the value in an RDB file, uncompressed.
fn serialized_length(value: Value<'_>) -> usize {
    let string = |len: usize| {
        len + match len {
            0..64 => 1,
            64..16_384 => 2,
            _ => 5,
        }
    };
    match value {
        Value::Text(Text::Int(-128..=127)) => 2,
        Value::Text(Text::Int(-32_768..=32_767)) => 3,
        Value::Text(Text::Int(-2_147_483_648..=2_147_483_647)) => 5,
        Value::Text(text) => string(text.len()),
        Value::Object(object) => object.memory(),
    }
}

fn listpack(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match look(ctx, args, |_| ()) {
        Ok(()) => fail(reply, "ERR Not a listpack encoded object."),
        Err(text) => fail(reply, text),
    }
}

fn string_lengths(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let lengths = look(ctx, args, |entry| {
        let len = match entry.value() {
            Value::Text(Text::Int(_)) | Value::Object(_) => return Err("ERR Not an sds encoded string."),
            Value::Text(text) => text.len(),
        };
        let memory = entry.memory();
        Ok(format!(
            "key_sds_len:{}, key_sds_avail:0, key_zmalloc: {memory}, val_sds_len:{len}, val_sds_avail:0, val_zmalloc: 0",
            entry.key().len(),
        ))
    });
    match lengths.and_then(|lengths| lengths) {
        Ok(text) => reply.simple(&text),
        Err(text) => reply.error(text),
    }
    Outcome::Done
}

fn table_stats(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(db) = args.integer(2) else { return fail(reply, NOT_AN_INTEGER) };
    let databases = ctx.state.keyspace.summary();
    let found = usize::try_from(db).ok().and_then(|db| databases.get(db));
    let Some(summary) = found else { return fail(reply, "ERR Out of range database") };
    let text = format!(
        "[Dictionary HT]\nHash table 0 stats (main hash table):\n buckets: {}\n bytes: {}\n number of elements: {}\n\
         [Expires HT]\n number of elements: {}\n",
        summary.buckets, summary.table_bytes, summary.keys, summary.with_ttl,
    );
    reply.verbatim("txt", text.as_bytes());
    Outcome::Done
}

/// 20 bytes that stand for the parts.
fn hash(parts: &[&[u8]]) -> [u8; 20] {
    let mut out = [0; 20];
    for (seed, chunk) in out.chunks_mut(8).enumerate() {
        let digest = FixedState::with_seed(seed as u64).hash_one(parts).to_le_bytes();
        chunk.copy_from_slice(&digest[..chunk.len()]);
    }
    out
}

fn with_bytes<T>(value: Value<'_>, run: impl FnOnce(&[u8]) -> T) -> T {
    match value {
        Value::Text(text) => text.with(run),
        Value::Object(object) => run(format!("{} {}", object.type_name(), object.len()).as_bytes()),
    }
}

fn hex(bytes: [u8; 20]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let keyspace = &ctx.state.keyspace;
    let mut sum = [0u8; 20];
    for shard in 0..keyspace.shards() {
        let shard = keyspace.lock(shard);
        for db in 0..keyspace.databases() {
            let add = |entry: Entry<'_>| {
                let expire_at = entry.expire_at();
                if expire_at.is_some_and(|at| at <= ctx.now) {
                    return;
                }
                let (db, ttl) = (db.to_le_bytes(), [u8::from(expire_at.is_some())]);
                let one = with_bytes(entry.value(), |value| hash(&[&db, entry.key(), value, &ttl]));
                // Keys come in no order, so the sum must not depend on one.
                sum.iter_mut().zip(one).for_each(|(sum, byte)| *sum ^= byte);
            };
            let mut add = add;
            shard.table(db).scan(0, |slot| add(slot.entry()), |_| false);
        }
    }
    reply.simple(&hex(sum));
    Outcome::Done
}

fn digest_value(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(args.len() - 2);
    for key in args.from(2) {
        let digest = |entry: Entry<'_>| with_bytes(entry.value(), |value| hash(&[value]));
        let found = ctx.state.keyspace.inspect(ctx.client.db(), key, ctx.now, digest);
        reply.simple(&hex(found.unwrap_or_default()));
    }
    Outcome::Done
}

fn protocol(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    const BIG: &str = "1234567999999999999999999999999999999";
    let v3 = reply.is_v3();
    let kind = args.at(2).to_ascii_lowercase();
    match kind.as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double(PROTOCOL_DOUBLE),
        b"bignum" if v3 => reply.output().raw(format!("({BIG}\r\n").as_bytes()),
        b"bignum" => reply.text(BIG),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if v3 {
                reply.output().raw(b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n");
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" if v3 => {
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"push" => reply.error("ERR RESP2 is not supported by this command"),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        _ => reply.error(
            "ERR Wrong protocol type name. Please use one of the following: \
             string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
        ),
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_parts_apart() {
        let digests = [hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]), hash(&[b"abc"]), hash(&[])];
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[..index].contains(digest));
            assert_eq!(hex(*digest).len(), 40);
        }
    }
}
