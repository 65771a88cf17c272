//! CLIENT LIST, INFO and KILL: which connections are meant, and the line that describes one. It must not know
//! sockets.

use super::{Args, Ctx, Outcome, SYNTAX_ERROR, fail, registry};
use crate::protocol::{Reply, parse_i64};
use crate::state::{Acl, ClientInfo, Kind};
use std::mem::discriminant;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A condition on a connection.
#[derive(Debug, PartialEq, Eq)]
enum Test<'a> {
    Id(Vec<u64>),
    Kind(Class),
    Addr(&'a [u8]),
    Laddr(&'a [u8]),
    Ip(&'a [u8]),
    User(&'a [u8]),
    Name(&'a [u8]),
    LibName(&'a [u8]),
    LibVer(&'a [u8]),
    Db(u32),
    /// All these letters.
    Flags(&'a [u8]),
    Capa(&'a [u8]),
    /// Connected for at least so many seconds.
    MaxAge(i64),
    /// Idle for at least so many seconds.
    Idle(i64),
}

/// CLIENT KILL TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Normal,
    Pubsub,
    /// A replica or a master: there are none.
    Replication,
}

/// Letters that CLIENT LIST may show in `flags`.
const FLAG_LETTERS: &[u8] = b"AbBcdeiIMNOPrRStTuUx";

impl Test<'_> {
    fn holds(&self, client: &ClientInfo, now: i64) -> bool {
        match self {
            Self::Id(ids) => ids.contains(&client.id),
            Self::Kind(class) => match client.kind() {
                Kind::Normal => *class == Class::Normal,
                Kind::Pubsub => *class == Class::Pubsub,
            },
            Self::Addr(addr) => client.origin.addr.as_bytes() == *addr,
            Self::Laddr(addr) => client.origin.laddr.as_bytes() == *addr,
            Self::Ip(ip) => ip_of(&client.origin.addr).as_bytes() == *ip,
            Self::User(user) => *client.user.lock().name == **user,
            Self::Name(name) => client.labels.lock().name.as_bytes() == *name,
            Self::LibName(name) => client.labels.lock().lib_name.as_bytes() == *name,
            Self::LibVer(version) => client.labels.lock().lib_ver.as_bytes() == *version,
            Self::Db(db) => client.db.load(Relaxed) == *db,
            Self::Flags(letters) => {
                let flags = flags_of(client);
                letters.iter().all(|letter| flags.as_bytes().contains(letter))
            }
            Self::Capa(letters) => letters.is_empty() || client.capa_redirect.load(Relaxed),
            Self::MaxAge(seconds) => (now - client.created_at) / 1000 >= *seconds,
            Self::Idle(seconds) => (now - client.active_at.load(Relaxed)) / 1000 >= *seconds,
        }
    }
}

fn ip_of(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Which connections are meant.
#[derive(Debug, Default)]
struct Filter<'a> {
    /// Each with whether it must hold.
    tests: Vec<(bool, Test<'a>)>,
    skip_me: bool,
}

impl<'a> Filter<'a> {
    /// A test that is given again replaces the former one.
    fn add(&mut self, wanted: bool, test: Test<'a>) {
        self.tests.retain(|(was_wanted, other)| *was_wanted != wanted || discriminant(other) != discriminant(&test));
        self.tests.push((wanted, test));
    }

    fn passes(&self, client: &ClientInfo, me: u64, now: i64) -> bool {
        !(self.skip_me && client.id == me) && self.tests.iter().all(|(wanted, test)| test.holds(client, now) == *wanted)
    }

    /// The connections that pass, in the order in which they came or in which their ids are given.
    fn choose(&self, ctx: &Ctx<'_>) -> Vec<Arc<ClientInfo>> {
        let ids = self.tests.iter().find_map(|test| if let (true, Test::Id(ids)) = test { Some(ids) } else { None });
        let mut clients = match ids {
            Some(ids) => ids.iter().filter_map(|id| ctx.state.clients.get(*id)).collect(),
            None => ctx.state.clients.all(),
        };
        clients.retain(|client| self.passes(client, ctx.client.info.id, ctx.now));
        clients
    }
}

/// Reads `option value …` from argument 2 on.
struct Parser<'p, 'a> {
    args: &'p Args<'a>,
    at: usize,
    acl: &'p Acl,
    databases: usize,
    /// CLIENT KILL and CLIENT LIST differ in what they say of a bad id.
    is_kill: bool,
}

type Fault = Vec<u8>;

impl<'p, 'a> Parser<'p, 'a> {
    fn new(ctx: &Ctx<'p>, args: &'p Args<'a>, is_kill: bool) -> Self {
        Self { args, at: 2, acl: &ctx.state.acl, databases: ctx.state.keyspace.databases(), is_kill }
    }

    fn filter(mut self, skip_me: bool) -> Result<Filter<'a>, Fault> {
        let mut filter = Filter { tests: Vec::new(), skip_me };
        while self.at < self.args.len() {
            let option = self.args.at(self.at).to_ascii_uppercase();
            let Some(value) = self.args.get(self.at + 1) else { return Err(SYNTAX_ERROR.into()) };
            self.at += 2;
            let positive = option.strip_prefix(b"NOT-");
            let wanted = positive.is_none();
            match positive.unwrap_or(&option) {
                b"SKIPME" if wanted => {
                    filter.skip_me = match value.to_ascii_uppercase().as_slice() {
                        b"YES" => true,
                        b"NO" => false,
                        _ => return Err(SYNTAX_ERROR.into()),
                    };
                }
                b"MAXAGE" if wanted => filter.add(true, Test::MaxAge(seconds("maxage", value)?)),
                b"IDLE" if wanted => filter.add(true, Test::Idle(seconds("idle", value)?)),
                name => filter.add(wanted, self.test(name, value, wanted)?),
            }
        }
        Ok(filter)
    }

    fn test(&mut self, name: &[u8], value: &'a [u8], wanted: bool) -> Result<Test<'a>, Fault> {
        Ok(match name {
            b"ID" => Test::Id(self.ids(value, wanted)?),
            b"TYPE" => Test::Kind(class(value)?),
            b"ADDR" => Test::Addr(value),
            b"LADDR" => Test::Laddr(value),
            b"IP" => Test::Ip(value),
            b"USER" if self.acl.get(value).is_none() => return Err(quoted("ERR No such user '", value, "'")),
            b"USER" => Test::User(value),
            b"NAME" => Test::Name(value),
            b"LIB-NAME" => Test::LibName(value),
            b"LIB-VER" => Test::LibVer(value),
            b"DB" => Test::Db(self.db(value)?),
            b"FLAGS" => Test::Flags(letters("flags", value, FLAG_LETTERS, wanted)?),
            b"CAPA" => Test::Capa(letters("capa", value, b"r", wanted)?),
            _ => return Err(SYNTAX_ERROR.into()),
        })
    }

    /// One or more ids; `self.at` is behind the first.
    fn ids(&mut self, first: &[u8], wanted: bool) -> Result<Vec<u64>, Fault> {
        // What LIST ID says of a bad id is what Redis says, what the others say is Valkey's.
        let is_list = wanted && !self.is_kill;
        let mut ids = vec![self.id(first, wanted)?];
        while let Some(next) = self.args.get(self.at) {
            let is_option = self.at + 1 < self.args.len() && next.first().is_some_and(u8::is_ascii_alphabetic);
            if is_option || (!is_list && parse_i64(next).is_none()) {
                break;
            }
            ids.push(self.id(next, wanted)?);
            self.at += 1;
        }
        Ok(ids)
    }

    fn id(&self, text: &[u8], wanted: bool) -> Result<u64, Fault> {
        let text = match parse_i64(text) {
            Some(id) if id > 0 => return Ok(id as u64),
            // Nobody has it.
            Some(_) if wanted && !self.is_kill => return Ok(0),
            None if !wanted => SYNTAX_ERROR,
            None if !self.is_kill => "ERR Invalid client ID",
            _ => "ERR client-id should be greater than 0",
        };
        Err(text.into())
    }

    fn db(&self, text: &[u8]) -> Result<u32, Fault> {
        let Some(db) = parse_i64(text) else { return Err(b"ERR DB is not an integer or out of range".into()) };
        match u32::try_from(db) {
            Ok(index) if (index as usize) < self.databases => Ok(index),
            _ => Err(format!("ERR DB number should be between 0 and {}", self.databases - 1).into_bytes()),
        }
    }
}

fn seconds(name: &str, text: &[u8]) -> Result<i64, Fault> {
    match parse_i64(text) {
        None => Err(format!("ERR {name} is not an integer or out of range").into_bytes()),
        Some(seconds) if seconds <= 0 => Err(format!("ERR {name} should be greater than 0").into_bytes()),
        Some(seconds) => Ok(seconds),
    }
}

fn class(text: &[u8]) -> Result<Class, Fault> {
    match text.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Class::Normal),
        b"pubsub" => Ok(Class::Pubsub),
        b"master" | b"primary" | b"replica" | b"slave" => Ok(Class::Replication),
        _ => Err(quoted("ERR Unknown client type '", text, "'")),
    }
}

fn letters<'a>(what: &str, text: &'a [u8], known: &[u8], wanted: bool) -> Result<&'a [u8], Fault> {
    if text.iter().all(|letter| known.contains(letter)) {
        return Ok(text);
    }
    let place = match wanted {
        true => "provided filter".to_owned(),
        false => format!("NOT-{} filter", what.to_uppercase()),
    };
    Err(quoted(&format!("ERR Unknown {what} found in the {place}: "), text, ""))
}

fn quoted(before: &str, text: &[u8], after: &str) -> Fault {
    [before.as_bytes(), text, after.as_bytes()].concat()
}

pub(super) fn list(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let parser = Parser::new(ctx, args, false);
    match parser.filter(false) {
        Err(text) => reply.error_bytes(&text),
        Ok(filter) => {
            let mut text = String::new();
            for client in filter.choose(ctx) {
                text += &seen_by(ctx, &client, args);
                text.push('\n');
            }
            reply.verbatim("txt", text.as_bytes());
        }
    }
    Outcome::Done
}

pub(super) fn info(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let text = seen_by(ctx, &ctx.client.info, args) + "\n";
    reply.verbatim("txt", text.as_bytes());
    Outcome::Done
}

pub(super) fn kill(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() == 3 {
        // The old form: one address, and the connection that asks is not spared.
        let filter = Filter { tests: vec![(true, Test::Addr(args.at(2)))], skip_me: false };
        return match kill_all(ctx, &filter) {
            (0, _) => fail(reply, "ERR No such client"),
            (_, outcome) => {
                reply.ok();
                outcome
            }
        };
    }
    let parser = Parser::new(ctx, args, true);
    match parser.filter(true) {
        Err(text) => {
            reply.error_bytes(&text);
            Outcome::Done
        }
        Ok(filter) => {
            let (killed, outcome) = kill_all(ctx, &filter);
            reply.integer(killed as i64);
            outcome
        }
    }
}

/// Closes the chosen connections, the own one once its reply is sent. How many there were.
fn kill_all(ctx: &Ctx<'_>, filter: &Filter<'_>) -> (usize, Outcome) {
    let mut clients = filter.choose(ctx);
    clients.sort_by_key(|client| client.id);
    clients.dedup_by_key(|client| client.id);
    let mut outcome = Outcome::Done;
    for client in &clients {
        if client.id == ctx.client.info.id {
            outcome = Outcome::Close;
        } else {
            // Nobody meets it any more, although its task has yet to notice.
            ctx.state.disconnect(client);
            client.kill();
        }
    }
    (clients.len(), outcome)
}

/// The letters of CLIENT LIST's `flags`.
fn flags_of(client: &ClientInfo) -> String {
    let pubsub = client.kind() == Kind::Pubsub;
    let known = [
        (client.monitor.load(Relaxed), 'O'),
        (pubsub, 'P'),
        (client.multi.load(Relaxed) >= 0, 'x'),
        (client.is_blocked(), 'b'),
        (client.redirect.load(Relaxed) >= 0, 't'),
        (client.redirect_broken.load(Relaxed), 'R'),
        (client.broadcast.load(Relaxed), 'B'),
        (client.closing.load(Relaxed), 'c'),
        (client.killed.load(Relaxed), 'A'),
        (client.origin.is_unix, 'U'),
        (client.no_evict.load(Relaxed), 'e'),
        (client.no_touch.load(Relaxed), 'T'),
        (client.import_source.load(Relaxed), 'I'),
    ];
    let flags: String = known.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| letter).collect();
    if flags.is_empty() { "N".into() } else { flags }
}

/// A connection's line. Only of the own connection is it known which arguments it is running with.
fn seen_by(ctx: &Ctx<'_>, client: &ClientInfo, args: &Args<'_>) -> String {
    let argv = if client.id == ctx.client.info.id { args.from(0).map(<[u8]>::len).sum() } else { 0 };
    line(client, argv, ctx.now)
}

/// A connection's line; `argv` are the bytes of the arguments that it is running with.
pub(super) fn line(client: &ClientInfo, argv: usize, now: i64) -> String {
    let labels = client.labels.lock().clone();
    let user = String::from_utf8_lossy(&client.user.lock().name).into_owned();
    let seconds_since = |then: i64| (now - then).max(0) / 1000;
    let (query, capacity) = (client.query_bytes.load(Relaxed), client.query_capacity.load(Relaxed));
    let output = client.output_bytes.load(Relaxed);
    let origin = &client.origin;
    let multi = client.multi_bytes.load(Relaxed);
    let total = client.memory() + argv;
    let [channels, patterns, shards] = client.subscribed.each_ref().map(|count| count.load(Relaxed));
    let command = match client.last_command.load(Relaxed).checked_sub(1) {
        Some(id) => registry().name(id as usize).unwrap_or("NULL"),
        None => "NULL",
    };
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={channels} psub={patterns} ssub={shards} multi={} watch={} \
         qbuf={query} qbuf-free={} argv-mem={argv} multi-mem={multi} rbs=0 rbp=0 obl=0 oll={} omem={output} \
         tot-mem={total} events={} cmd={command} user={user} redir={} resp={} lib-name={} lib-ver={} \
         io-thread={} tot-net-in={} tot-net-out={} tot-cmds={}",
        client.id,
        origin.addr,
        origin.laddr,
        origin.fd,
        labels.name,
        seconds_since(client.created_at),
        seconds_since(client.active_at.load(Relaxed)),
        flags_of(client),
        client.db.load(Relaxed),
        client.multi.load(Relaxed),
        client.watched.load(Relaxed),
        capacity.saturating_sub(query),
        client.output_chunks.load(Relaxed),
        if output > 0 { "rw" } else { "r" },
        client.redirect.load(Relaxed),
        client.resp.load(Relaxed),
        labels.lib_name,
        labels.lib_ver,
        origin.worker,
        client.net_in.get(),
        client.net_out.get(),
        client.commands.get(),
    )
}
