//! Follows a source by logical replication: a temporary slot, so that a server never keeps its log for a cache that is
//! gone, and the plugin pgoutput.
//!
//! Transactions come after their commit, whole, in its order. A commit can be told before new snapshots see it, so each
//! change goes on with its transaction's id. A second session looks at the tables and at the log's end from time to
//! time: an altered table is not told by the stream, and without the log's end nobody could say how far behind it is.

use super::super::session::{Problem, Session, Streamed};
use super::catalog::{self, Catalog, flag, literal, number, text};
use super::derive::quote;
use super::mapping::Named;
use super::pgoutput::{self, Field, Message, Old, Relation, Tuple};
use super::status::Status;
use super::{Feed, QUERY_TIMEOUT, SILENCE_MAX, Sink, flush, within};
use crate::clock;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long making a slot may take: it waits for the transactions that are running.
const SLOT_TIMEOUT: Duration = Duration::from_secs(600);
/// How often the server hears from us, and is asked for an answer when it says nothing.
const PING: Duration = Duration::from_secs(1);
/// How often the log's end is asked for; every so many times, the tables are looked at too.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS_PER_CATALOG: u32 = 5;
/// Ends of the log that are remembered while the stream is behind them.
const MARKS_MAX: usize = 600;
/// Transactions that were committed but not yet visible when a slot began to tell: more than these are not waited for.
const EARLIER_MAX: usize = 256;
/// Microseconds and milliseconds from 1970 to 2000, where Postgres's clock starts.
const EPOCH_MS: i64 = 946_684_800_000;

/// Follows until something is wrong, which is returned.
pub(super) async fn follow(feed: &Feed, sink: &dyn Sink) -> Problem {
    match try_follow(feed, sink).await {
        Ok(never) => match never {},
        Err(problem) => problem,
    }
}

async fn try_follow(feed: &Feed, sink: &dyn Sink) -> Result<std::convert::Infallible, Problem> {
    let connect_timeout = feed.connect_timeout;
    let mut looker = within(connect_timeout, Session::open(&feed.connector, false)).await?;
    let mut stream = within(connect_timeout, Session::open(&feed.connector, true)).await?;
    let catalog = within(SLOT_TIMEOUT, prepare(feed, &mut looker)).await?;
    feed.note(&catalog);
    if catalog.watched.is_empty() {
        return Err(Problem::new("no route can be served"));
    }
    let slot = format!("cenote_{:016x}", getrandom::u64().unwrap_or_else(|_| clock::monotonic_ns()));
    let create = format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT");
    let made = within(SLOT_TIMEOUT, stream.query(&create)).await?;
    let start = made.first().map(|row| text(row, 1)).unwrap_or_default();
    let publication = literal(&quote(&feed.config.publication));
    let start_stream =
        format!("START_REPLICATION SLOT {slot} LOGICAL {start} (proto_version '1', publication_names {publication})");
    within(QUERY_TIMEOUT, stream.start_stream(&start_stream)).await?;
    feed.enter(sink, &catalog);
    for xid in within(QUERY_TIMEOUT, in_progress(&mut looker)).await? {
        catalog.served().iter().for_each(|route| sink.route(route, Some(xid)));
    }
    let marks = Mutex::new(VecDeque::new());
    let mut follower = Follower::new(&catalog, sink, &feed.status, &marks);
    tokio::select! {
        outcome = follower.run(&mut stream) => outcome,
        outcome = look(feed, &mut looker, &catalog, &marks) => outcome,
    }
}

/// Looks up the tables, and whether the publication tells of them.
pub(super) async fn prepare(feed: &Feed, session: &mut Session) -> Result<Catalog, Problem> {
    let level = session.query("SHOW wal_level").await?;
    let level = level.first().map(|row| text(row, 0)).unwrap_or_default();
    if level != "logical" {
        return Err(Problem::new(format!(
            "wal_level is {level}; set it to logical and restart Postgres, or use invalidate = \"notify\""
        )));
    }
    let mut catalog = catalog::resolve(session, &feed.config, &feed.routes).await?;
    for words in publication_faults(session, &feed.config.publication, &mut catalog).await? {
        tracing::warn!(source = %feed.source, "{words}");
    }
    Ok(catalog)
}

/// Takes the tables that the publication does not tell of out of the catalog, with a remark for their routes; returns
/// what else is wrong.
pub(super) async fn publication_faults(
    session: &mut Session,
    publication: &str,
    catalog: &mut Catalog,
) -> Result<Vec<String>, Problem> {
    let name = literal(publication);
    let rows = session
        .query(&format!(
            "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot FROM pg_catalog.pg_publication \
             WHERE pubname = {name}"
        ))
        .await?;
    let Some(row) = rows.first() else {
        let words = format!("there is no publication \"{publication}\"; `cenote setup FILE` prints what makes it");
        return Err(Problem::new(words));
    };
    let (tells_all, via_root) = (flag(row, 0), flag(row, 1));
    let version = session.query("SELECT current_setting('server_version_num')::int >= 150000").await?;
    let lists =
        if version.first().is_some_and(|row| flag(row, 0)) { "to_json(attnames), rowfilter" } else { "NULL, NULL" };
    let rows = session
        .query(&format!(
            "SELECT schemaname, tablename, {lists} FROM pg_catalog.pg_publication_tables WHERE pubname = {name}"
        ))
        .await?;
    let fault = |watched: &catalog::Watched| {
        let table = &watched.table;
        let full = table.full_name();
        let row = rows.iter().find(|row| text(row, 0) == table.schema && text(row, 1) == table.name);
        let Some(row) = row else {
            return Some(match table.kind == "p" && !via_root {
                true => format!("the publication tells of {full} only by its partitions (publish_via_partition_root)"),
                false => format!("table {full} is not in the publication; `cenote setup FILE` prints what adds it"),
            });
        };
        if !text(row, 3).is_empty() {
            return Some(format!("the publication tells of some rows of table {full} only"));
        }
        let columns: Option<Vec<String>> = row.get(2).and_then(|json| serde_json::from_str(json.as_ref()?).ok());
        let missing = columns.and_then(|list| watched.needed.iter().find(|name| !list.contains(name)).cloned());
        missing.map(|column| format!("the publication leaves out the column {full}.{column}"))
    };
    let faults: Vec<(u32, String)> =
        catalog.watched.iter().filter_map(|watched| Some((watched.table.id, fault(watched)?))).collect();
    catalog.withdraw(&faults);
    match tells_all {
        true => Ok(Vec::new()),
        false => Err(Problem::new("the publication does not tell of every INSERT, UPDATE, DELETE and TRUNCATE")),
    }
}

/// The transactions that new queries do not see yet. Some may have been committed before the slot began to tell.
async fn in_progress(session: &mut Session) -> Result<Vec<u32>, Problem> {
    let sql = format!(
        "SELECT (x::text::numeric % 4294967296)::bigint FROM pg_snapshot_xip(pg_current_snapshot()) x LIMIT {EARLIER_MAX}"
    );
    match session.query(&sql).await {
        Ok(rows) => Ok(rows.iter().filter_map(|row| number(row, 0)).collect()),
        // Before Postgres 13.
        Err(problem) if problem.sqlstate.is_some() => Ok(Vec::new()),
        Err(problem) => Err(problem),
    }
}

/// Ends of the log, and when they were: once the stream is there, all before is applied.
type Marks = Mutex<VecDeque<(u64, i64)>>;

/// Looks at the log's end and at the tables for ever, or until something is not as it was.
async fn look(
    feed: &Feed,
    session: &mut Session,
    catalog: &Catalog,
    marks: &Marks,
) -> Result<std::convert::Infallible, Problem> {
    let mut looks = 0;
    loop {
        sleep(LOOK).await;
        let now = clock::now_ms();
        let rows = within(SILENCE_MAX, session.query("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")).await?;
        if let Some(end) = rows.first().and_then(|row| number(row, 0)) {
            let mut marks = marks.lock();
            if marks.len() < MARKS_MAX {
                marks.push_back((end, now));
            }
        }
        looks += 1;
        if looks % LOOKS_PER_CATALOG == 0 {
            within(SLOT_TIMEOUT, look_at_tables(feed, session, catalog)).await?;
        }
    }
}

/// Fails once a table or the publication is not as it was.
async fn look_at_tables(feed: &Feed, session: &mut Session, catalog: &Catalog) -> Result<(), Problem> {
    let mut seen = catalog.look_again(session, &feed.config, &feed.routes).await?;
    publication_faults(session, &feed.config.publication, &mut seen).await?;
    match seen.remarks == catalog.remarks {
        true => Ok(()),
        false => Err(Problem::new("the publication or a table was altered")),
    }
}

/// A table as the stream describes it.
struct Shape {
    /// Its place in the catalog; None: no route depends on it.
    place: Option<usize>,
    /// For each column of the table in the catalog, its place in the stream's rows.
    positions: Vec<Option<usize>>,
    /// Of the whole description: it is sent again now and then, and may differ.
    print: u64,
}

struct Follower<'a> {
    catalog: &'a Catalog,
    sink: &'a dyn Sink,
    status: &'a Status,
    marks: &'a Marks,
    shapes: HashMap<u32, Shape>,
    xid: u32,
    committed_at: i64,
    in_transaction: bool,
    /// Routes that were flushed for this transaction.
    flushed: Vec<u64>,
    /// Everything before is applied.
    applied: u64,
}

impl<'a> Follower<'a> {
    fn new(catalog: &'a Catalog, sink: &'a dyn Sink, status: &'a Status, marks: &'a Marks) -> Follower<'a> {
        Follower {
            catalog,
            sink,
            status,
            marks,
            shapes: HashMap::new(),
            xid: 0,
            committed_at: 0,
            in_transaction: false,
            flushed: Vec::new(),
            applied: 0,
        }
    }

    async fn run(&mut self, stream: &mut Session) -> Result<std::convert::Infallible, Problem> {
        let (mut heard, mut confirmed) = (Instant::now(), Instant::now());
        loop {
            match timeout(PING, stream.streamed()).await {
                Ok(streamed) => {
                    heard = Instant::now();
                    let wants_reply = match streamed? {
                        Streamed::Data(bytes) => {
                            self.apply(&bytes)?;
                            false
                        }
                        Streamed::Alive { end_lsn, wants_reply } => {
                            if !self.in_transaction {
                                self.reached(end_lsn);
                            }
                            wants_reply
                        }
                    };
                    if wants_reply || confirmed.elapsed() >= PING {
                        confirmed = Instant::now();
                        self.confirm(stream, false).await?;
                    }
                }
                Err(_) if heard.elapsed() >= SILENCE_MAX => return Err(Problem::new("the server has gone silent")),
                Err(_) => {
                    confirmed = Instant::now();
                    self.confirm(stream, true).await?;
                }
            }
        }
    }

    async fn confirm(&self, stream: &mut Session, ping: bool) -> Result<(), Problem> {
        let clock_us = (clock::now_ms() - EPOCH_MS) * 1000;
        within(SILENCE_MAX, stream.confirm(self.applied, clock_us, ping)).await
    }

    /// The stream has told everything before `lsn`.
    fn reached(&mut self, lsn: u64) {
        self.applied = self.applied.max(lsn);
        let mut marks = self.marks.lock();
        while marks.front().is_some_and(|(end, _)| *end <= self.applied) {
            if let Some((_, at)) = marks.pop_front() {
                self.status.in_step_at(at);
            }
        }
    }

    fn apply(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let message = pgoutput::read(bytes).map_err(|_| Problem::new("a message of the stream is malformed"))?;
        match message {
            Message::Begin { committed_us, xid, .. } => {
                self.xid = xid;
                self.committed_at = committed_us.saturating_div(1000).saturating_add(EPOCH_MS);
                self.in_transaction = true;
                self.flushed.clear();
            }
            Message::Commit { end_lsn } => {
                self.in_transaction = false;
                self.status.transaction(self.xid, self.committed_at, clock::now_ms());
                self.reached(end_lsn);
            }
            Message::Relation(relation) => self.describe(&relation)?,
            Message::Insert { table, new } => self.change(table, None, Some(new), true)?,
            Message::Update { table, old, new } => self.change(table, old, Some(new), false)?,
            Message::Delete { table, old } => self.change(table, Some(old), None, false)?,
            Message::Truncate { tables } => {
                for table in tables.ids() {
                    self.truncate(table)?;
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    fn describe(&mut self, relation: &Relation<'_>) -> Result<(), Problem> {
        let mut hasher = DefaultHasher::new();
        (relation.schema, relation.name, relation.identity).hash(&mut hasher);
        relation.columns().for_each(|column| (column.name, column.type_id).hash(&mut hasher));
        let print = hasher.finish();
        if let Some(shape) = self.shapes.get(&relation.table) {
            return match shape.print == print || shape.place.is_none() {
                true => Ok(()),
                false => {
                    let name = String::from_utf8_lossy(relation.name);
                    Err(Problem::new(format!("table {name} was altered")))
                }
            };
        }
        let place = self.catalog.watched.iter().position(|watched| watched.table.id == relation.table);
        let positions = place.map_or_else(Vec::new, |place| {
            let columns = &self.catalog.watched[place].table.columns;
            columns
                .iter()
                .map(|known| relation.columns().position(|column| column.name == known.name.as_bytes()))
                .collect()
        });
        if let Some(watched) = place.map(|place| &self.catalog.watched[place]) {
            let lacks = |name: &&String| !relation.columns().any(|column| column.name == name.as_bytes());
            if let Some(name) = watched.needed.iter().find(lacks) {
                return Err(Problem::new(format!(
                    "table {} is told without its column {name}",
                    watched.table.full_name()
                )));
            }
        }
        self.shapes.insert(relation.table, Shape { place, positions, print });
        Ok(())
    }

    fn truncate(&mut self, table: u32) -> Result<(), Problem> {
        let shape = self.shapes.get(&table).ok_or_else(undescribed)?;
        for rule in shape.place.map_or(&[][..], |place| &self.catalog.watched[place].rules) {
            flush(self.sink, self.status, rule, Some(self.xid), &mut self.flushed);
        }
        Ok(())
    }

    /// A row was added (`new`), removed (`old`), or changed (`new`, and `old` where it tells more).
    fn change(
        &mut self,
        table: u32,
        old: Option<Old<'_>>,
        new: Option<Tuple<'_>>,
        is_insert: bool,
    ) -> Result<(), Problem> {
        let shape = self.shapes.get(&table).ok_or_else(undescribed)?;
        let Some(place) = shape.place else { return Ok(()) };
        self.status.changed(1);
        let old: Option<Vec<Field<'_>>> = old.map(|old| old.tuple().fields().collect());
        let new: Option<Vec<Field<'_>>> = new.map(|new| new.fields().collect());
        let position = |column: usize| shape.positions.get(column).copied().flatten();
        let old_field = |column: usize| old.as_ref()?.get(position(column)?).copied();
        let new_field = |column: usize| match new.as_ref()?.get(position(column)?).copied() {
            // The identity has it, or all of the old row was sent.
            Some(Field::Unchanged) => old_field(column),
            field => field,
        };
        for rule in &self.catalog.watched[place].rules {
            let mut named = Vec::with_capacity(2);
            if rule.tells_old || is_insert {
                if new.is_some() {
                    named.push(rule.key(new_field));
                }
                if old.is_some() {
                    named.push(rule.key(old_field));
                    named.dedup();
                }
            } else {
                named.push(Named::Unknown);
            }
            for named in named {
                match named {
                    Named::Key(key) => self.status.key(self.sink.key(&rule.route, &key, Some(self.xid))),
                    Named::Nothing => {}
                    Named::Unknown => flush(self.sink, self.status, rule, Some(self.xid), &mut self.flushed),
                }
            }
        }
        Ok(())
    }
}

fn undescribed() -> Problem {
    Problem::new("the stream tells of a table that it has not described")
}
