//! What the database's catalogs say of the tables that routes depend on: whether their changes can be told, and which
//! column becomes which part of a key. Reads only; knows the catalogs, not how changes arrive.

use super::super::routes::Route;
use super::super::session::{Problem, Row, Session};
use super::derive::Dependency;
use super::mapping::{Rule, TypeName, writing};
use super::settings::{Dependencies, FeedConfig, Mode};
use std::sync::Arc;

/// The type without its domains, of the type `$type`: columns `oid` and `typname`.
const BASE_TYPE: &str = "LATERAL (WITH RECURSIVE b AS (\
    SELECT t.oid, t.typname, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = $type UNION ALL \
    SELECT t.oid, t.typname, t.typtype, t.typbasetype FROM b JOIN pg_catalog.pg_type t \
    ON b.typtype = 'd' AND t.oid = b.typbasetype) SELECT b.oid, b.typname FROM b WHERE b.typtype <> 'd') AS base";

/// A table that routes depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) id: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// `pg_class.relkind`.
    pub(super) kind: String,
    /// Written to the log, so that replication tells of it.
    pub(super) is_logged: bool,
    /// Other tables inherit from it without being its partitions.
    pub(super) has_children: bool,
    pub(super) columns: Vec<TableColumn>,
    /// What an UPDATE or DELETE tells of the row as it was; that of the partition which tells least.
    pub(super) identity: Identity,
}

/// A column of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub(super) name: String,
    pub(super) ty: TypeName,
    /// Equal texts are the same bytes.
    pub(super) is_deterministic: bool,
    pub(super) is_generated: bool,
    pub(super) is_not_null: bool,
}

/// REPLICA IDENTITY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// All columns.
    Full,
    /// These columns.
    Columns(Vec<String>),
    /// None: Postgres refuses UPDATE and DELETE of the table once it is published.
    Nothing,
}

impl Table {
    /// The name as people write it.
    pub(super) fn full_name(&self) -> String {
        match self.schema.as_str() {
            "public" => self.name.clone(),
            schema => format!("{schema}.{}", self.name),
        }
    }

    /// The name as SQL takes it.
    pub(super) fn sql_name(&self) -> String {
        super::derive::quoted(&[self.schema.clone(), self.name.clone()])
    }

    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Whether what UPDATE and DELETE tell of a row before its change has all these columns.
    pub(super) fn tells(&self, columns: &[String]) -> bool {
        match &self.identity {
            Identity::Full => true,
            Identity::Columns(known) => columns.iter().all(|column| known.contains(column)),
            Identity::Nothing => false,
        }
    }
}

/// A table with what its changes do.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) table: Table,
    pub(super) rules: Vec<Rule>,
    /// The columns that rules need, in the table's order.
    pub(super) needed: Vec<String>,
}

/// Something that is not as a route needs it, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    /// [`Route::id`].
    pub(super) route: u64,
    /// The route's changes are not told at all; otherwise they are told less well than they could be.
    pub(super) is_fatal: bool,
    pub(super) words: String,
}

/// What is known of all tables that some routes depend on.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    pub(super) watched: Vec<Watched>,
    pub(super) remarks: Vec<Remark>,
}

impl Catalog {
    /// The routes whose changes are told.
    pub(super) fn served(&self) -> Vec<Arc<Route>> {
        let mut routes: Vec<Arc<Route>> = Vec::new();
        for rule in self.watched.iter().flat_map(|watched| &watched.rules) {
            if !routes.iter().any(|route| route.id == rule.route.id) {
                routes.push(Arc::clone(&rule.route));
            }
        }
        routes
    }

    /// Takes out the routes that depend on tables which do not tell their changes after all, with the reasons.
    pub(super) fn withdraw(&mut self, faults: &[(u32, String)]) {
        for (table, words) in faults {
            let watched = self.watched.iter().find(|watched| watched.table.id == *table);
            let rules = watched.map_or(&[][..], |watched| &watched.rules);
            let ids: Vec<u64> = rules.iter().map(|rule| rule.route.id).collect();
            self.remarks.extend(ids.iter().map(|id| Remark { route: *id, is_fatal: true, words: words.clone() }));
            self.watched.iter_mut().for_each(|watched| watched.rules.retain(|rule| !ids.contains(&rule.route.id)));
        }
        self.watched.retain(|watched| !watched.rules.is_empty());
    }

    /// The same catalog as it stands now. A table that is not as it was is a [`Problem`]; a route that was not served
    /// may be now, which shows in the remarks.
    pub(super) async fn look_again(
        &self,
        session: &mut Session,
        config: &FeedConfig,
        routes: &[Arc<Route>],
    ) -> Result<Catalog, Problem> {
        for watched in &self.watched {
            if table(session, watched.table.id).await?.as_ref() != Some(&watched.table) {
                return Err(Problem::new(format!("table {} was altered", watched.table.full_name())));
            }
        }
        match self.remarks.iter().any(|remark| remark.is_fatal) {
            true => resolve(session, config, routes).await,
            false => Ok(self.clone()),
        }
    }
}

/// Looks up all that `routes` depend on. Fails only where the session does.
pub(super) async fn resolve(
    session: &mut Session,
    config: &FeedConfig,
    routes: &[Arc<Route>],
) -> Result<Catalog, Problem> {
    let mut catalog = Catalog::default();
    for route in routes {
        let list = match &route.dependencies {
            Dependencies::Off => continue,
            Dependencies::Unknown(why) => {
                let words = format!(
                    "what its query depends on is not clear from its text ({why}); \
                     declare it, as in depends = [\"orders(user_id -> id)\"]"
                );
                catalog.remarks.push(Remark { route: route.id, is_fatal: true, words });
                continue;
            }
            Dependencies::On(list) => list,
        };
        let types = match parameter_types(session, route).await {
            Ok(types) => types,
            Err(problem) if problem.sqlstate.is_some() => {
                let words = format!("its query cannot be prepared: {problem}");
                catalog.remarks.push(Remark { route: route.id, is_fatal: true, words });
                continue;
            }
            Err(problem) => return Err(problem),
        };
        let mut rules = Vec::new();
        let mut faults = Vec::new();
        for dependency in list {
            match find(session, &mut catalog, dependency).await? {
                Some(place) => {
                    let table = &catalog.watched[place].table;
                    match rule(config.mode, route, dependency, &types, table) {
                        Ok(rule) => rules.push((place, rule)),
                        Err(words) => faults.push(words),
                    }
                }
                None => faults.push(format!("there is no table {}", dependency.table)),
            }
        }
        // A route that hears of half of its changes is worse than one that is known to hear of none.
        if faults.is_empty() {
            for (place, rule) in rules {
                catalog.remarks.extend(coarse(&catalog.watched[place].table, &rule));
                catalog.watched[place].rules.push(rule);
            }
        }
        catalog.remarks.extend(faults.into_iter().map(|words| Remark { route: route.id, is_fatal: true, words }));
    }
    catalog.watched.retain(|watched| !watched.rules.is_empty());
    for watched in &mut catalog.watched {
        let needs = |column: usize| {
            let captures = watched.rules.iter().filter_map(|rule| rule.captures.as_ref());
            captures.flatten().any(|(needed, _)| *needed == column)
        };
        let columns = watched.table.columns.iter().enumerate();
        watched.needed = columns.filter(|(index, _)| needs(*index)).map(|(_, column)| column.name.clone()).collect();
    }
    Ok(catalog)
}

/// What it costs that UPDATE and DELETE do not tell the old values.
fn coarse(table: &Table, rule: &Rule) -> Option<Remark> {
    if rule.tells_old || rule.captures.is_none() {
        return None;
    }
    let name = table.full_name();
    let words = format!(
        "table {name}: an UPDATE or DELETE does not tell which key the row belonged to, because REPLICA IDENTITY lacks \
         the column, so each of them makes the whole route stale; ALTER TABLE {name} REPLICA IDENTITY FULL (or USING \
         INDEX) would tell it"
    );
    Some(Remark { route: rule.route.id, is_fatal: false, words })
}

/// The rule that a dependency comes to, or why it cannot be kept.
fn rule(
    mode: Mode,
    route: &Arc<Route>,
    dependency: &Dependency,
    types: &[TypeName],
    table: &Table,
) -> Result<Rule, String> {
    let name = table.full_name();
    match (mode, table.kind.as_str()) {
        (_, "r" | "p") => {}
        (_, "v" | "m") => return Err(format!("{name} is a view; declare the tables that it reads with depends")),
        (_, _) => return Err(format!("{name} is no table that tells its changes")),
    }
    if mode == Mode::Wal && !table.is_logged {
        return Err(format!("table {name} is unlogged or temporary: its changes are not in the write-ahead log"));
    }
    if table.has_children {
        return Err(format!("tables inherit from {name}, and their changes would not be told"));
    }
    if mode == Mode::Wal && table.identity == Identity::Nothing {
        return Err(format!(
            "table {name} has no REPLICA IDENTITY (no primary key): once it is published, Postgres refuses UPDATE and \
             DELETE; add a primary key, or ALTER TABLE {name} REPLICA IDENTITY FULL"
        ));
    }
    if dependency.columns.is_empty() && !route.key.names().is_empty() {
        return Ok(Rule::new(route, None, true));
    }
    let mut captures = Vec::new();
    for (capture, column_name) in dependency.columns.iter().enumerate() {
        let place = table.column(column_name).ok_or_else(|| format!("table {name} has no column {column_name}"))?;
        let column = &table.columns[place];
        let capture_name = &route.key.names()[capture];
        let Some(ty) = route.captures.iter().position(|other| *other == capture).and_then(|n| types.get(n)) else {
            return Err(format!("{{{capture_name}}} is no parameter of the query"));
        };
        let Some(writing) = writing(ty, &column.ty) else {
            return Err(format!(
                "column {name}.{column_name} is {} but {{{capture_name}}} is {}: a changed row does not tell its key; \
                 compare both as one type",
                column.ty.name, ty.name
            ));
        };
        if !column.is_deterministic {
            return Err(format!(
                "column {name}.{column_name} has a collation in which different texts are equal, so that many keys name \
                 one row"
            ));
        }
        if mode == Mode::Wal && column.is_generated {
            return Err(format!("column {name}.{column_name} is generated: replication does not tell it"));
        }
        captures.push((place, writing));
    }
    let tells_old = mode == Mode::Notify || table.tells(&dependency.columns);
    Ok(Rule::new(route, Some(captures), tells_old))
}

/// The place of a table among the watched, looked up if it is new; None if there is no such table.
async fn find(session: &mut Session, catalog: &mut Catalog, dependency: &Dependency) -> Result<Option<usize>, Problem> {
    let Some(id) = table_id(session, &dependency.table).await? else { return Ok(None) };
    if let Some(place) = catalog.watched.iter().position(|watched| watched.table.id == id) {
        return Ok(Some(place));
    }
    let Some(table) = table(session, id).await? else { return Ok(None) };
    catalog.watched.push(Watched { table, rules: Vec::new(), needed: Vec::new() });
    Ok(Some(catalog.watched.len() - 1))
}

async fn table_id(session: &mut Session, name: &str) -> Result<Option<u32>, Problem> {
    let rows = session.query(&format!("SELECT pg_catalog.to_regclass({})::oid", literal(name))).await;
    match rows {
        Ok(rows) => Ok(rows.first().and_then(|row| number(row, 0))),
        // A name of too many parts.
        Err(problem) if problem.sqlstate.is_some() => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Reads a table by its id.
pub(super) async fn table(session: &mut Session, id: u32) -> Result<Option<Table>, Problem> {
    let rows = session
        .query(&format!(
            "SELECT n.nspname, c.relname, c.relkind, c.relpersistence = 'p', \
             c.relkind = 'r' AND EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {id}"
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let columns = session
        .query(&format!(
            "SELECT a.attname, base.oid, base.typname, coalesce(co.collisdeterministic, true), a.attgenerated <> '', \
             a.attnotnull FROM pg_catalog.pg_attribute a \
             LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation, {} \
             WHERE a.attrelid = {id} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            BASE_TYPE.replace("$type", "a.atttypid")
        ))
        .await?;
    let columns = columns.iter().map(|row| TableColumn {
        name: text(row, 0),
        ty: TypeName { id: number(row, 1).unwrap_or(0), name: text(row, 2) },
        is_deterministic: flag(row, 3),
        is_generated: flag(row, 4),
        is_not_null: flag(row, 5),
    });
    let mut table = Table {
        id,
        schema: text(row, 0),
        name: text(row, 1),
        kind: text(row, 2),
        is_logged: flag(row, 3),
        has_children: flag(row, 4),
        columns: columns.collect(),
        identity: Identity::Full,
    };
    table.identity = identity(session, id).await?;
    Ok(Some(table))
}

/// The identity of a table, or what all its partitions tell.
async fn identity(session: &mut Session, id: u32) -> Result<Identity, Problem> {
    let rows = session
        .query(&format!(
            "SELECT c.relreplident, (SELECT json_agg(a.attname) FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
             WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN \
             i.indisreplident ELSE false END) FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.oid IN \
             (SELECT {id} UNION ALL SELECT relid FROM pg_catalog.pg_partition_tree({id}) WHERE isleaf)"
        ))
        .await?;
    let mut least = Identity::Full;
    for row in &rows {
        let columns: Option<Vec<String>> = row.get(1).and_then(|json| serde_json::from_str(json.as_ref()?).ok());
        let next = match (text(row, 0).as_str(), columns) {
            ("f", _) => Identity::Full,
            (_, Some(columns)) => Identity::Columns(columns),
            _ => Identity::Nothing,
        };
        least = match (least, next) {
            (Identity::Full, other) | (other, Identity::Full) => other,
            (Identity::Columns(mut a), Identity::Columns(b)) => {
                a.retain(|column| b.contains(column));
                Identity::Columns(a)
            }
            _ => Identity::Nothing,
        };
    }
    Ok(least)
}

/// The types that Postgres gives the parameters of a route's query.
async fn parameter_types(session: &mut Session, route: &Route) -> Result<Vec<TypeName>, Problem> {
    session.query(&format!("PREPARE cenote_route AS {}", route.query.sql())).await?;
    let rows = session
        .query(&format!(
            "SELECT base.oid, base.typname FROM pg_catalog.pg_prepared_statements s, \
             unnest(s.parameter_types::oid[]) WITH ORDINALITY AS u(type, place), {} WHERE s.name = 'cenote_route' \
             ORDER BY u.place",
            BASE_TYPE.replace("$type", "u.type")
        ))
        .await?;
    session.query("DEALLOCATE cenote_route").await?;
    Ok(rows.iter().map(|row| TypeName { id: number(row, 0).unwrap_or(0), name: text(row, 1) }).collect())
}

/// A text as SQL takes it.
pub(in super::super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

pub(super) fn text(row: &Row, column: usize) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

pub(super) fn number<T: std::str::FromStr>(row: &Row, column: usize) -> Option<T> {
    row.get(column)?.as_ref()?.parse().ok()
}

pub(super) fn flag(row: &Row, column: usize) -> bool {
    matches!(row.get(column), Some(Some(text)) if text == "t")
}
