//! `cenote setup FILE`: the SQL that the databases of a routes file need, so that their changes are told and the file's
//! user may do what it must and no more. Printed as a script, or run.

use super::super::postgres::connector;
use super::super::routes::{Config, Route};
use super::super::session::{Problem, Row, Session};
use super::super::source_config::SourceConfig;
use super::catalog::{self, Catalog, Identity, Table, Watched, flag, literal, text};
use super::derive::quote;
use super::notify;
use super::settings::{Dependencies, FeedConfig, Mode};
use super::wal;
use super::{QUERY_TIMEOUT, within};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long one statement may take: it waits for locks on the tables.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// Writes the SQL for every source of the file at `path` to `out`, and runs it if `apply` is set. `url` is where to
/// connect, as somebody who may do these things; the rights are given to the user of the file's own url. Makes a
/// runtime of its own: not to be called from one.
pub fn run_setup(path: &Path, url: Option<&str>, apply: bool, out: &mut dyn Write) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(write(path, url, apply, out))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// A line for the reader, or a statement.
enum Line {
    Comment(String),
    Statement(String),
}

/// True if everything could be written, and run.
async fn write(path: &Path, url: Option<&str>, apply: bool, out: &mut dyn Write) -> io::Result<bool> {
    let (own, given) = match (Config::read(path, None), Config::read(path, url)) {
        (Ok(own), Ok(given)) => (own, given),
        (Err(faults), _) | (_, Err(faults)) => {
            for fault in &faults {
                writeln!(out, "-- {fault}")?;
            }
            return Ok(false);
        }
    };
    let mut good = true;
    for (index, (source, own)) in given.sources.iter().zip(&own.sources).enumerate() {
        let Some(feed) = &source.feed else {
            writeln!(out, "-- source {}: no invalidate is set, so there is nothing to set up", source.name)?;
            continue;
        };
        writeln!(out, "-- source {}: invalidate = \"{}\", at {}", source.name, feed.mode.name(), source.target)?;
        let routes: Vec<_> = given.routes.iter().filter(|route| route.source == index).cloned().collect();
        let user = own.target.user().unwrap_or_default();
        let mut session = match within(source.pool.connect_timeout, open(source, &routes)).await {
            Ok(session) => session,
            Err(problem) => {
                writeln!(out, "-- cannot connect: {problem}")?;
                good = false;
                continue;
            }
        };
        let lines = match within(QUERY_TIMEOUT, plan(&mut session, feed, &routes, &user)).await {
            Ok(lines) => lines,
            Err(problem) => {
                writeln!(out, "-- {problem}")?;
                good = false;
                continue;
            }
        };
        if !lines.iter().any(|line| matches!(line, Line::Statement(_))) {
            writeln!(out, "-- everything is in place")?;
        }
        for line in lines {
            match line {
                Line::Comment(text) => writeln!(out, "-- {}", text.replace('\n', " "))?,
                Line::Statement(sql) => {
                    writeln!(out, "{sql}")?;
                    if apply {
                        good &= run(&mut session, &sql, out).await?;
                    }
                }
            }
        }
    }
    Ok(good)
}

async fn open(source: &SourceConfig, routes: &[Arc<Route>]) -> Result<Session, Problem> {
    let mut session = Session::open(&connector(source, routes), false).await?;
    session.query("SET default_transaction_read_only = off").await?;
    Ok(session)
}

async fn run(session: &mut Session, sql: &str, out: &mut dyn Write) -> io::Result<bool> {
    match within(STATEMENT_TIMEOUT, session.query(sql)).await {
        Ok(_) => Ok(true),
        Err(problem) => {
            writeln!(out, "-- failed: {problem}")?;
            Ok(false)
        }
    }
}

/// What is missing in one database.
async fn plan(
    session: &mut Session,
    feed: &FeedConfig,
    routes: &[Arc<Route>],
    user: &str,
) -> Result<Vec<Line>, Problem> {
    let mut lines = Vec::new();
    // What the identity lacks is to be mended, so it must not keep a table out.
    let lenient = FeedConfig { mode: Mode::Notify, ..feed.clone() };
    let routes: Vec<_> = routes.iter().filter(|route| route.dependencies != Dependencies::Off).cloned().collect();
    let mut wanted = catalog::resolve(session, &lenient, &routes).await?;
    for remark in &wanted.remarks {
        let route = routes.iter().find(|route| route.id == remark.route).map_or("", |route| &*route.name);
        lines.push(Line::Comment(format!("route {route} cannot be told of changes: {}", remark.words)));
    }
    match feed.mode {
        Mode::Wal => plan_wal(session, &feed.publication, &mut wanted, &mut lines).await?,
        Mode::Notify => plan_notify(session, &wanted, &mut lines).await?,
    }
    plan_rights(session, feed.mode, &wanted, user, &mut lines).await?;
    Ok(lines)
}

async fn plan_wal(
    session: &mut Session,
    publication: &str,
    wanted: &mut Catalog,
    lines: &mut Vec<Line>,
) -> Result<(), Problem> {
    let level = session.query("SHOW wal_level").await?;
    if level.first().map(|row| text(row, 0)).as_deref() != Some("logical") {
        lines.push(Line::Comment("wal_level is not logical: run this, then restart Postgres:".into()));
        lines.push(Line::Comment("  ALTER SYSTEM SET wal_level = 'logical';".into()));
    }
    for watched in &mut wanted.watched {
        let captures = watched.rules.iter().filter(|rule| rule.captures.is_some());
        let columns: Vec<String> = if captures.count() > 0 { watched.needed.clone() } else { Vec::new() };
        if watched.table.tells(&columns) {
            continue;
        }
        for (leaf, index) in leaves(session, &watched.table, &columns).await? {
            let form = index.as_ref().map_or("FULL".into(), |index| format!("USING INDEX {}", quote(&index.0)));
            lines.push(Line::Statement(format!("ALTER TABLE {leaf} REPLICA IDENTITY {form};")));
            watched.table.identity = match index {
                Some((_, columns)) => Identity::Columns(columns),
                None => Identity::Full,
            };
        }
    }
    let version = session.query("SELECT current_setting('server_version_num')::int >= 150000").await?;
    let has_lists = version.first().is_some_and(|row| flag(row, 0));
    let entry = |watched: &Watched| {
        let mut columns = watched.needed.clone();
        match &watched.table.identity {
            Identity::Columns(identity) if has_lists => {
                columns.extend(identity.iter().filter(|name| !watched.needed.contains(name)).cloned());
                let list = columns.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
                format!("{} ({list})", watched.table.sql_name())
            }
            // Of a row that is told whole, nothing may be left out.
            _ => watched.table.sql_name(),
        }
    };
    let name = quote(publication);
    let known = format!("SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = {}", literal(publication));
    if session.query(&known).await?.is_empty() {
        let tables = wanted.watched.iter().map(entry).collect::<Vec<_>>().join(", ");
        let tables = if tables.is_empty() { tables } else { format!(" FOR TABLE {tables}") };
        lines.push(Line::Statement(format!(
            "CREATE PUBLICATION {name}{tables} WITH (publish_via_partition_root = true);"
        )));
        return Ok(());
    }
    let mut served = wanted.clone();
    if let Err(problem) = wal::publication_faults(session, publication, &mut served).await {
        lines.push(Line::Comment(problem.to_string()));
        lines.push(Line::Statement(format!(
            "ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);"
        )));
    }
    for watched in &wanted.watched {
        if served.watched.iter().any(|known| known.table.id == watched.table.id) {
            continue;
        }
        let table = &watched.table;
        let listed = format!(
            "SELECT 1 FROM pg_catalog.pg_publication_tables WHERE pubname = {} AND schemaname = {} AND tablename = {}",
            literal(publication),
            literal(&table.schema),
            literal(&table.name)
        );
        if !session.query(&listed).await?.is_empty() {
            lines.push(Line::Statement(format!("ALTER PUBLICATION {name} DROP TABLE {};", table.sql_name())));
        }
        lines.push(Line::Statement(format!("ALTER PUBLICATION {name} ADD TABLE {};", entry(watched))));
    }
    Ok(())
}

/// The tables that hold a table's rows, each with a unique index over the columns, if it has one that can be its
/// identity: its name and columns.
async fn leaves(
    session: &mut Session,
    table: &Table,
    columns: &[String],
) -> Result<Vec<(String, Option<(String, Vec<String>)>)>, Problem> {
    let id = table.id;
    let rows = session
        .query(&format!(
            "SELECT c.oid::regclass, (SELECT json_agg(json_build_array(x.relname, x.columns)) FROM (\
             SELECT i.indexrelid, ic.relname, (SELECT json_agg(a.attname) FROM pg_catalog.pg_attribute a WHERE \
             a.attrelid = c.oid AND a.attnum = ANY (i.indkey)) AS columns FROM pg_catalog.pg_index i JOIN \
             pg_catalog.pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid \
             AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT 1 FROM \
             pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull) \
             ORDER BY i.indnatts, i.indexrelid) x) FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.oid IN \
             (SELECT {id} UNION ALL SELECT relid FROM pg_catalog.pg_partition_tree({id}) WHERE isleaf) ORDER BY c.oid"
        ))
        .await?;
    let index = |row: &Row| {
        let json = row.get(1)?.as_ref()?;
        let indexes: Vec<(String, Vec<String>)> = serde_json::from_str(json).ok()?;
        indexes.into_iter().find(|(_, known)| columns.iter().all(|column| known.contains(column)))
    };
    Ok(rows.iter().map(|row| (text(row, 0), index(row))).collect())
}

async fn plan_notify(session: &mut Session, wanted: &Catalog, lines: &mut Vec<Line>) -> Result<(), Problem> {
    let mut served = wanted.clone();
    notify::trigger_faults(session, &mut served).await?;
    let missing =
        wanted.watched.iter().filter(|watched| !served.watched.iter().any(|known| known.table.id == watched.table.id));
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        lines.push(Line::Statement(format!("CREATE SCHEMA IF NOT EXISTS {};", notify::SCHEMA)));
    }
    for watched in missing {
        if watched.table.kind == "p" {
            let name = watched.table.full_name();
            lines.push(Line::Comment(format!(
                "what is written to a partition of {name} by its own name does not fire these triggers"
            )));
        }
        lines.push(Line::Statement(notify::triggers(&watched.table, &watched.needed)));
    }
    Ok(())
}

/// What the user needs: to log in, to read the tables, and for `wal` to replicate.
async fn plan_rights(
    session: &mut Session,
    mode: Mode,
    wanted: &Catalog,
    user: &str,
    lines: &mut Vec<Line>,
) -> Result<(), Problem> {
    let role = quote(user);
    let found = session
        .query(&format!("SELECT rolsuper, rolreplication FROM pg_catalog.pg_roles WHERE rolname = {}", literal(user)))
        .await?;
    let replication = if mode == Mode::Wal { " REPLICATION" } else { "" };
    match found.first() {
        None => {
            lines.push(Line::Comment(format!("give it a password: \\password {role}")));
            lines.push(Line::Statement(format!("CREATE ROLE {role} LOGIN{replication};")));
        }
        Some(row) if flag(row, 0) => {
            lines.push(Line::Comment(format!("the user {user} is a superuser; a role with fewer rights would do")));
            return Ok(());
        }
        Some(row) if mode == Mode::Wal && !flag(row, 1) => {
            lines.push(Line::Statement(format!("ALTER ROLE {role} REPLICATION;")));
        }
        Some(_) => {}
    }
    let mut schemas: Vec<&str> = Vec::new();
    for watched in &wanted.watched {
        let table = &watched.table;
        let (schema, name) = (literal(&quote(&table.schema)), literal(&table.sql_name()));
        // A role that is not there has no rights.
        let held = match found.is_empty() {
            true => Vec::new(),
            false => {
                let sql = format!(
                    "SELECT has_schema_privilege({0}, {schema}::regnamespace, 'USAGE'), \
                     has_table_privilege({0}, {name}::regclass, 'SELECT')",
                    literal(user)
                );
                session.query(&sql).await?
            }
        };
        let holds = |column| held.first().is_some_and(|row| flag(row, column));
        if !holds(0) && !schemas.contains(&&*table.schema) {
            schemas.push(&table.schema);
            lines.push(Line::Statement(format!("GRANT USAGE ON SCHEMA {} TO {role};", quote(&table.schema))));
        }
        if !holds(1) {
            lines.push(Line::Statement(format!("GRANT SELECT ON {} TO {role};", table.sql_name())));
        }
    }
    Ok(())
}
