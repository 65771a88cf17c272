//! Follows a source by notifications that triggers send, for servers without `wal_level=logical`.
//!
//! A trigger tells a statement's keys on the channel, in texts under the 8,000 bytes that Postgres allows, or that a
//! table has changed as a whole. Notifications arrive only once their transaction is visible, so they carry no
//! transaction's id. Nothing is repeated for who was away, so the channel is listened to before all is told to be stale;
//! and a connection that only looks alive is found by a notification that this session sends itself.

use super::super::session::{Notification, Problem, Session};
use super::catalog::{self, Catalog, flag, literal, text};
use super::mapping::Named;
use super::pgoutput::Field;
use super::{Feed, QUERY_TIMEOUT, SILENCE_MAX, Sink, flush, within};
use crate::clock;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Where triggers tell their changes.
pub(super) const CHANNEL: &str = "cenote";
/// The schema of the triggers' functions.
pub(super) const SCHEMA: &str = "cenote";
/// The triggers of a table: what they are for, and their names.
pub(super) const TRIGGERS: [(&str, &str); 4] = [
    ("INSERT", "cenote_insert"),
    ("UPDATE", "cenote_update"),
    ("DELETE", "cenote_delete"),
    ("TRUNCATE", "cenote_truncate"),
];
/// How often the session notifies itself.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Every so many heartbeats the tables are looked at.
const BEATS_PER_CATALOG: u32 = 5;

/// What a trigger tells.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Told {
    /// The table's id.
    t: u32,
    /// The columns.
    #[serde(default)]
    c: Vec<String>,
    /// Their values in each row; none: the table has changed as a whole.
    k: Option<Vec<Vec<Option<String>>>>,
}

/// Follows until something is wrong, which is returned.
pub(super) async fn follow(feed: &Feed, sink: &dyn Sink) -> Problem {
    match try_follow(feed, sink).await {
        Ok(never) => match never {},
        Err(problem) => problem,
    }
}

async fn try_follow(feed: &Feed, sink: &dyn Sink) -> Result<std::convert::Infallible, Problem> {
    let mut session = within(feed.connect_timeout, Session::open(&feed.connector, false)).await?;
    let own = format!("cenote_{:016x}", getrandom::u64().unwrap_or_else(|_| clock::monotonic_ns()));
    within(QUERY_TIMEOUT, session.query(&format!("LISTEN {CHANNEL}"))).await?;
    within(QUERY_TIMEOUT, session.query(&format!("LISTEN {own}"))).await?;
    let catalog = within(QUERY_TIMEOUT, prepare(feed, &mut session)).await?;
    feed.note(&catalog);
    if catalog.watched.is_empty() {
        return Err(Problem::new("no route can be served"));
    }
    feed.enter(sink, &catalog);
    for beat in 1u32.. {
        let sent = clock::now_ms();
        let token = beat.to_string();
        within(SILENCE_MAX, session.query(&format!("NOTIFY {own}, '{token}'"))).await?;
        let (next, patience) = (Instant::now() + HEARTBEAT, Instant::now() + SILENCE_MAX);
        let mut is_back = false;
        loop {
            let until = if is_back { next } else { patience };
            match timeout_at(until, session.notification()).await {
                Ok(notification) => {
                    let Notification { channel, payload } = notification?;
                    if channel == own && payload == token {
                        is_back = true;
                        // Notifications come in the order of their commits.
                        feed.status.in_step_at(sent);
                    } else if channel == CHANNEL {
                        apply(feed, sink, &catalog, &payload);
                    }
                }
                Err(_) if is_back => break,
                Err(_) => return Err(Problem::new("notifications do not arrive any more")),
            }
        }
        if beat % BEATS_PER_CATALOG == 0 {
            within(QUERY_TIMEOUT, look_at_tables(feed, &mut session, &catalog)).await?;
        }
    }
    Err(Problem::new("out of heartbeats"))
}

/// Looks up the tables, and whether their triggers tell what is needed.
pub(super) async fn prepare(feed: &Feed, session: &mut Session) -> Result<Catalog, Problem> {
    let standby = session.query("SELECT pg_is_in_recovery()").await?;
    if standby.first().is_some_and(|row| flag(row, 0)) {
        return Err(Problem::new("the server is a standby, which has no notifications; name the primary in the url"));
    }
    let mut catalog = catalog::resolve(session, &feed.config, &feed.routes).await?;
    trigger_faults(session, &mut catalog).await?;
    Ok(catalog)
}

/// Fails once a table or trigger is not as it was.
async fn look_at_tables(feed: &Feed, session: &mut Session, catalog: &Catalog) -> Result<(), Problem> {
    let mut seen = catalog.look_again(session, &feed.config, &feed.routes).await?;
    trigger_faults(session, &mut seen).await?;
    match seen.remarks == catalog.remarks {
        true => Ok(()),
        false => Err(Problem::new("a trigger or a table was altered")),
    }
}

/// The first line of a trigger's function, which says what it tells.
pub(super) fn signature(columns: &[String]) -> String {
    format!("-- cenote 1 {}", serde_json::to_string(columns).unwrap_or_default())
}

/// Takes the tables whose triggers are missing or tell too little out of the catalog.
pub(super) async fn trigger_faults(session: &mut Session, catalog: &mut Catalog) -> Result<(), Problem> {
    let mut faults = Vec::new();
    for watched in &catalog.watched {
        let names = TRIGGERS.map(|(_, name)| literal(name)).join(", ");
        let rows = session
            .query(&format!(
                "SELECT t.tgname, split_part(p.prosrc, chr(10), 2) FROM pg_catalog.pg_trigger t \
                 JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = {} AND t.tgenabled IN ('O', 'A') \
                 AND t.tgname IN ({names})",
                watched.table.id
            ))
            .await?;
        let full = watched.table.full_name();
        let tells = |row: &Vec<Option<String>>| {
            let columns = text(row, 1).strip_prefix("-- cenote 1 ").map(serde_json::from_str::<Vec<String>>);
            columns.and_then(Result::ok).is_some_and(|told| watched.needed.iter().all(|column| told.contains(column)))
        };
        let words = if rows.len() < TRIGGERS.len() {
            format!("table {full} has no triggers that tell its changes; `cenote setup FILE` prints them")
        } else if !rows.iter().all(tells) {
            format!("the triggers of table {full} tell too few columns; `cenote setup FILE` prints the ones needed")
        } else {
            continue;
        };
        faults.push((watched.table.id, words));
    }
    catalog.withdraw(&faults);
    Ok(())
}

/// Tells what a notification means. One that is not understood concerns everything.
fn apply(feed: &Feed, sink: &dyn Sink, catalog: &Catalog, payload: &str) {
    let now = clock::now_ms();
    feed.status.transaction(0, now, now);
    let Ok(told) = serde_json::from_str::<Told>(payload) else {
        tracing::warn!(source = %feed.source, "a notification on the channel {CHANNEL} was not understood");
        return feed.flush_all(sink);
    };
    let Some(watched) = catalog.watched.iter().find(|watched| watched.table.id == told.t) else { return };
    let mut flushed = Vec::new();
    let Some(rows) = &told.k else {
        feed.status.changed(1);
        return watched.rules.iter().for_each(|rule| flush(sink, &feed.status, rule, None, &mut flushed));
    };
    let columns = &watched.table.columns;
    let places: Vec<Option<usize>> =
        columns.iter().map(|known| told.c.iter().position(|name| *name == known.name)).collect();
    feed.status.changed(rows.len() as u64);
    for row in rows {
        let field = |column: usize| match row.get((*places.get(column)?)?)? {
            Some(text) => Some(Field::Text(text.as_bytes())),
            None => Some(Field::Null),
        };
        for rule in &watched.rules {
            match rule.key(field) {
                Named::Key(key) => feed.status.key(sink.key(&rule.route, &key, None)),
                Named::Nothing => {}
                Named::Unknown => flush(sink, &feed.status, rule, None, &mut flushed),
            }
        }
    }
}

/// The SQL that makes a table's triggers.
pub(super) fn triggers(table: &catalog::Table, columns: &[String]) -> String {
    let quote = super::derive::quote;
    let name = function_name(table);
    let values = columns.iter().map(|column| format!("r.{}::text", quote(column))).collect::<Vec<_>>().join(", ");
    let key = format!("pg_catalog.json_build_array({values})::text");
    let head = serde_json::to_string(columns).unwrap_or_default().replace('\'', "''");
    let gather = |from: &str| {
        format!("SELECT array_agg(DISTINCT {key}), count(*) INTO keys, seen FROM ({from} LIMIT 10001) AS r;")
    };
    let needed = columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ");
    let needed = if needed.is_empty() { "1".to_owned() } else { needed };
    let (new, old) = (format!("SELECT {needed} FROM new_rows"), format!("SELECT {needed} FROM old_rows"));
    let (insert, delete, update) = (gather(&new), gather(&old), gather(&format!("({new} UNION ALL {old})")));
    let sql = format!(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql\n\
         SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET IntervalStyle = 'iso_8601'\n\
         SET extra_float_digits = 1 SET bytea_output = 'hex' AS $cenote$\n{signature}\nDECLARE\n  keys text[];\n  \
         seen bigint := 0;\n  head text := '{{\"t\":' || TG_RELID || ',\"c\":{head},\"k\":[';\n  part text := '';\n  \
         one text;\n  sent int := 0;\nBEGIN\n  \
         IF TG_OP = 'INSERT' THEN\n    {insert}\n  ELSIF TG_OP = 'DELETE' THEN\n    {delete}\n  \
         ELSIF TG_OP = 'UPDATE' THEN\n    {update}\n  END IF;\n  \
         IF TG_OP <> 'TRUNCATE' AND seen = 0 THEN\n    RETURN NULL;\n  END IF;\n  \
         -- Too much to tell one by one: the table has changed as a whole.\n  \
         IF TG_OP = 'TRUNCATE' OR seen > 10000 THEN\n    \
         PERFORM pg_notify('{CHANNEL}', '{{\"t\":' || TG_RELID || '}}');\n    RETURN NULL;\n  END IF;\n  \
         FOREACH one IN ARRAY keys LOOP\n    \
         IF octet_length(part) + octet_length(one) + octet_length(head) > 7800 THEN\n      \
         IF sent = 20 OR part = '' THEN\n        \
         PERFORM pg_notify('{CHANNEL}', '{{\"t\":' || TG_RELID || '}}');\n        RETURN NULL;\n      END IF;\n      \
         PERFORM pg_notify('{CHANNEL}', head || part || ']}}');\n      sent := sent + 1;\n      part := '';\n    END IF;\n    \
         part := part || CASE WHEN part = '' THEN '' ELSE ',' END || one;\n  END LOOP;\n  \
         PERFORM pg_notify('{CHANNEL}', head || part || ']}}');\n  RETURN NULL;\nEND\n$cenote$;\n",
        signature = signature(columns),
    );
    let made = TRIGGERS.map(|(event, trigger)| {
        let rows = match event {
            "INSERT" => " REFERENCING NEW TABLE AS new_rows",
            "UPDATE" => " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
            "DELETE" => " REFERENCING OLD TABLE AS old_rows",
            _ => "",
        };
        let table = table.sql_name();
        format!(
            "DROP TRIGGER IF EXISTS {trigger} ON {table};\nCREATE TRIGGER {trigger} AFTER {event} ON {table}{rows}\n  \
             FOR EACH STATEMENT EXECUTE FUNCTION {name}();\n"
        )
    });
    sql + &made.concat()
}

/// The name of a table's function: of the table's, as far as it fits, and of its id.
fn function_name(table: &catalog::Table) -> String {
    let mut name = format!("{}_{}", table.schema, table.name);
    while name.len() > 45 {
        name.pop();
    }
    super::derive::quoted(&[SCHEMA.to_owned(), format!("{name}_{}", table.id)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_triggers_tell() {
        let told: Told = serde_json::from_str(r#"{"t":7,"c":["id"],"k":[["1"],[null]]}"#).unwrap();
        assert_eq!(told, Told { t: 7, c: vec!["id".into()], k: Some(vec![vec![Some("1".into())], vec![None]]) });
        assert_eq!(serde_json::from_str::<Told>(r#"{"t":7}"#).unwrap().k, None);
        assert!(serde_json::from_str::<Told>(&"[".repeat(7000)).is_err());
    }
}
