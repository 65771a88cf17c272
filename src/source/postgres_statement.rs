//! One route's query on one connection: preparing it, alone and for many keys at once, and what is known of its
//! parameters and columns.
//!
//! Both forms return the query's rows, each with the place of its key among those asked for. Where changes are told with
//! their transactions, there is one row more, with place 0: the snapshot that all of it ran under, which also says what an
//! absent row saw; elsewhere the database is spared that. The form for many keys sets
//! the query into a lateral join over an array for each parameter. What Postgres does not take in that place is run
//! key by key, and `cenote check` says why.

use super::param::{Encoded, ParamKind};
use super::postgres_link::{explain, sqlstate};
use super::postgres_types::{form, param_kind, text_cast};
use super::routes::{Route, Shape};
use super::template::Params;
use super::value::Form;
use super::{Cause, LoadError};
use std::sync::Arc;
use tokio_postgres::types::{BorrowToSql, Type};
use tokio_postgres::{Client, RowStream, Statement};

/// Why a query did not bring a value.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection ended under the query: it may be tried again on another one, a read has no effects.
    Lost(Trouble),
    /// The prepared statement no longer fits the schema: it may be prepared again. Nothing was run.
    Outdated(Trouble),
    /// It would fail again.
    Final(Trouble),
    /// It would fail again, and its rows were not read to their end.
    Unread(Trouble),
    /// It was asked for many keys, and each can only be loaded alone. Nothing was run.
    Alone,
}

/// A failed load with what the log may say of it.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) error: LoadError,
    pub(super) detail: String,
}

impl Trouble {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Trouble {
        Trouble { error: cause.into(), detail: detail.into() }
    }
}

impl Failure {
    pub(super) fn timed_out(detail: &str) -> Failure {
        Failure::Final(Trouble::new(Cause::TimedOut, detail))
    }

    /// Whether one key of many may have caused it.
    pub(super) fn may_be_one_keys(&self) -> bool {
        let (Failure::Final(trouble) | Failure::Unread(trouble)) = self else { return false };
        matches!(trouble.error.cause, Cause::Sql | Cause::Type | Cause::Size)
    }

    /// What there is to say of it.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        match self {
            Failure::Lost(trouble)
            | Failure::Outdated(trouble)
            | Failure::Final(trouble)
            | Failure::Unread(trouble) => Some(trouble),
            Failure::Alone => None,
        }
    }

    pub(super) fn into_trouble(self) -> Trouble {
        match self {
            Failure::Lost(trouble)
            | Failure::Outdated(trouble)
            | Failure::Final(trouble)
            | Failure::Unread(trouble) => trouble,
            Failure::Alone => Trouble::new(Cause::Sql, "each key can only be loaded alone"),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        let code = sqlstate(&error);
        let trouble = |cause| Trouble { error: LoadError { cause, sqlstate: code }, detail: explain(&error) };
        match code.as_ref().map(|code| &code[..]) {
            // The connection failed, not the query.
            None => Failure::Lost(trouble(Cause::Down)),
            // The server ends the session: shutdown, crash, termination, idle timeout.
            Some([b'5', b'7', b'P', ..] | [b'0', b'8', ..]) => Failure::Lost(trouble(Cause::Down)),
            // "cached plan must not change result type"; the statement is unknown (behind a pooler); names or types that
            // the schema no longer has.
            Some(b"0A000" | b"26000" | [b'4', b'2', ..]) => Failure::Outdated(trouble(Cause::Sql)),
            Some(b"57014") => Failure::Final(trouble(Cause::TimedOut)),
            // Conflicts, deadlocks, locks, resources.
            Some([b'4', b'0', ..] | [b'5', b'3', ..] | b"55P03") => Failure::Final(trouble(Cause::Busy)),
            Some(_) => Failure::Final(trouble(Cause::Sql)),
        }
    }
}

/// How a statement is sent.
pub(super) enum Asked {
    /// By the name under which it is prepared on the connection.
    Named(Statement),
    /// As text each time, as behind a pooler the next transaction is another connection's.
    Text { sql: String, types: Vec<Type> },
}

impl Asked {
    /// Prepares it; `is_pooled`: only to see that it can be.
    async fn prepare(
        client: &Client,
        sql: &str,
        types: &[Type],
        is_pooled: bool,
    ) -> Result<Asked, tokio_postgres::Error> {
        let statement = client.prepare_typed(sql, types).await?;
        Ok(match is_pooled {
            false => Asked::Named(statement),
            true => Asked::Text { sql: sql.to_owned(), types: statement.params().to_vec() },
        })
    }

    /// Sends it.
    pub(super) async fn rows<P, I>(&self, client: &Client, params: I) -> Result<RowStream, tokio_postgres::Error>
    where
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        match self {
            Asked::Named(statement) => client.query_raw(statement, params).await,
            Asked::Text { sql, types } => {
                client.query_typed_raw(sql, params.into_iter().zip(types.iter().cloned())).await
            }
        }
    }
}

/// A statement with all that is known of its parameters and columns.
pub(super) struct Prepared {
    /// For one key.
    pub(super) single: Asked,
    /// For many, or why it cannot be.
    pub(super) batch: Result<Asked, String>,
    /// For `$1`, `$2` ….
    pub(super) kinds: Arc<[ParamKind]>,
    /// The parameters' types.
    pub(super) types: Vec<Type>,
    /// The types of a row's columns, the two before the query's own included; none where Postgres itself sees to it that
    /// they stay the same.
    pub(super) row: Option<Vec<Type>>,
    pub(super) columns: Vec<Column>,
    /// Returns the parameters that Postgres must check as it writes them, and which ones these are.
    pub(super) check: Option<(Asked, Vec<usize>)>,
    /// The types' names, for people.
    pub(super) parameter_types: Vec<String>,
    /// The columns' names and types, for people.
    pub(super) column_types: Vec<(String, String)>,
}

pub(super) struct Column {
    /// `{"name":` or `,"name":`.
    pub(super) opening: Vec<u8>,
    pub(super) form: Form,
}

/// Columns before the query's own: the key's place, and the snapshot.
pub(super) const COLUMNS_BEFORE: usize = 2;

/// Prepares a route's query and settles how its parameters and columns are read; `is_pooled`: to be sent as text, on any
/// connection.
pub(super) async fn prepare(client: &Client, route: &Route, is_pooled: bool) -> Result<Prepared, Failure> {
    if !is_pooled {
        return prepare_named(client, route, false).await;
    }
    // One connection for the length of a transaction. Names on it are those that another process may have left there.
    client.batch_execute("BEGIN READ ONLY; DEALLOCATE ALL").await?;
    let prepared = prepare_named(client, route, true).await;
    client.batch_execute("ROLLBACK; DEALLOCATE ALL").await?;
    prepared
}

async fn prepare_named(client: &Client, route: &Route, is_pooled: bool) -> Result<Prepared, Failure> {
    let sql = route.query.sql();
    let plain = client.prepare(&sql).await?;
    let types = plain.params().to_vec();
    let kinds = kinds(route, &types).map_err(Failure::Final)?;
    let named: Vec<(String, Type)> =
        plain.columns().iter().map(|column| (column.name().to_owned(), column.type_().clone())).collect();
    check_columns(route, &named).map_err(Failure::Final)?;
    let rows_max = if route.rows_many { route.max_rows + 1 } else { 2 };
    let form_of = Wrapping { columns: &named, rows_max, is_pooled, is_fenced: route.is_fenced };
    let sql = form_of.single(&sql);
    let single = client.prepare_typed(&sql, &types).await?;
    let mut columns = Vec::new();
    for ((name, ty), column) in named.iter().zip(&single.columns()[COLUMNS_BEFORE..]) {
        let unreadable = || Trouble::new(Cause::Type, format!("column \"{name}\" has type {ty}, which has no text"));
        let form = form(column.type_()).ok_or_else(unreadable).map_err(Failure::Final)?;
        columns.push(Column { opening: opening(columns.is_empty(), name), form });
    }
    let row = is_pooled.then(|| single.columns().iter().map(|column| column.type_().clone()).collect());
    let single = if is_pooled { Asked::Text { sql, types: types.clone() } } else { Asked::Named(single) };
    let check = prepare_check(client, &kinds, &types, is_pooled).await?;
    // Last: if it fails, it may end the transaction.
    let batch = match form_of.batch(route, &kinds, &types) {
        Ok(sql) => Asked::prepare(client, &sql, &[], is_pooled).await.map_err(|error| explain(&error)),
        Err(reason) => Err(reason),
    };
    Ok(Prepared {
        check,
        row,
        parameter_types: types.iter().map(ToString::to_string).collect(),
        column_types: named.into_iter().map(|(name, ty)| (name, ty.to_string())).collect(),
        single,
        batch,
        types,
        kinds: kinds.into(),
        columns,
    })
}

fn kinds(route: &Route, types: &[Type]) -> Result<Vec<ParamKind>, Trouble> {
    let names = route.query.names();
    if types.len() != names.len() {
        let detail = format!("the query has {} parameters, Postgres finds {}", names.len(), types.len());
        return Err(Trouble::new(Cause::Type, detail));
    }
    let kind = |(name, ty)| {
        param_kind(ty).ok_or_else(|| {
            let detail = format!(
                "parameter {{{name}}} has type {ty}, of which one value may be written in several ways, so many keys \
                 could name one row; compare as text instead, as in column::text = {{{name}}}"
            );
            Trouble::new(Cause::Type, detail)
        })
    };
    names.iter().zip(types).map(kind).collect()
}

/// Whether the columns can make the route's shape.
fn check_columns(route: &Route, columns: &[(String, Type)]) -> Result<(), Trouble> {
    let wanted = match route.shape {
        Shape::Json => None,
        Shape::Hash if !route.rows_many => None,
        Shape::String => Some((1, "one column")),
        Shape::List => Some((1, "one column")),
        Shape::Set => Some((1, "one column")),
        Shape::Hash => Some((2, "two columns (field, value) of many rows")),
        Shape::Zset => Some((2, "two columns (member, score)")),
    };
    let fault = match wanted {
        _ if columns.is_empty() => "the query returns no columns".into(),
        Some((number, words)) if columns.len() != number => {
            format!("as = \"{}\" takes {words}, the query returns {}", route.shape.name(), columns.len())
        }
        Some(_) if route.shape == Shape::Zset && !columns.get(1).is_some_and(|(_, ty)| is_number(ty)) => {
            let (name, ty) = &columns[1];
            format!("as = \"zset\" takes its scores from a column of numbers; \"{name}\" is of type {ty}")
        }
        Some(_) => return Ok(()),
        None => match columns.iter().enumerate().find(|(at, (name, _))| columns[..*at].iter().any(|c| c.0 == *name)) {
            Some((_, (name, _))) => format!("the query returns two columns named \"{name}\"; rename one with AS"),
            None => return Ok(()),
        },
    };
    Err(Trouble::new(Cause::Type, fault))
}

fn is_number(ty: &Type) -> bool {
    let numbers = [Form::Int2, Form::Int4, Form::Int8, Form::Oid, Form::Float4, Form::Float8, Form::Numeric].map(Some);
    numbers.contains(&form(ty))
}

fn opening(first: bool, name: &str) -> Vec<u8> {
    let mut opening = vec![if first { b'{' } else { b',' }];
    // A string always has a JSON form, and a vector takes all that is written.
    let _ = serde_json::to_writer(&mut opening, name);
    opening.push(b':');
    opening
}

/// Writes the forms in which a query is run.
struct Wrapping<'a> {
    columns: &'a [(String, Type)],
    /// Rows that are fetched for one key: one more than are allowed.
    rows_max: usize,
    /// Only types that need no look into the catalog, for which a pooler may give another connection.
    is_pooled: bool,
    /// The snapshot is of interest.
    is_fenced: bool,
}

/// The snapshot, and whether a standby answers.
const SNAPSHOT: &str =
    "pg_catalog.pg_current_snapshot()::text || CASE WHEN pg_catalog.pg_is_in_recovery() THEN 's' ELSE 'p' END";

impl Wrapping<'_> {
    /// The query's columns; those without a form of their own cast to text. Where none is cast, the list is left to
    /// Postgres, which then notices if the query's columns change.
    fn list(&self) -> (String, String) {
        let is_cast = |ty: &Type| form(ty).is_none() || self.is_pooled && Type::from_oid(ty.oid()).is_none();
        if !self.columns.iter().any(|(_, ty)| is_cast(ty)) {
            return ("cenote_q.*".into(), String::new());
        }
        let shown = self.columns.iter().enumerate().map(|(index, (name, ty))| {
            let cast = if is_cast(ty) { format!("::{}", text_cast(ty)) } else { String::new() };
            format!("cenote_q.c{}{cast} AS \"{}\"", index + 1, name.replace('"', "\"\""))
        });
        let numbered: Vec<String> = (1..=self.columns.len()).map(|number| format!("c{number}")).collect();
        (shown.collect::<Vec<_>>().join(", "), format!("({})", numbered.join(", ")))
    }

    /// The query itself, bounded. It may end in a comment, so what follows stands on a new line.
    fn bounded(&self, sql: &str) -> String {
        format!("(SELECT * FROM ({sql}\n) AS cenote_r LIMIT {})", self.rows_max)
    }

    /// The row that says what the others saw; none where nobody asks.
    fn seen(&self) -> String {
        if !self.is_fenced {
            return String::new();
        }
        format!(" UNION ALL SELECT 0, {SNAPSHOT}{}", ", NULL".repeat(self.columns.len()))
    }

    fn single(&self, sql: &str) -> String {
        let (list, names) = self.list();
        let (query, seen) = (self.bounded(sql), self.seen());
        format!("SELECT 1::int8, NULL::text, {list} FROM {query} AS cenote_q{names}{seen}")
    }

    fn batch(&self, route: &Route, kinds: &[ParamKind], types: &[Type]) -> Result<String, String> {
        if route.batch_max == 1 {
            return Err("batch_max is 1".into());
        }
        if types.is_empty() {
            return Err("it has no parameters".into());
        }
        if let Some(index) = kinds.iter().position(ParamKind::is_checked) {
            let (name, ty) = (&route.query.names()[index], &types[index]);
            return Err(format!("Postgres itself must say of each {{{name}}} whether it is a {ty}"));
        }
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let array =
            |(index, ty): (usize, &Type)| format!("${}::{}.{}[]", index + 1, quoted(ty.schema()), quoted(ty.name()));
        let arrays: Vec<String> = types.iter().enumerate().map(array).collect();
        let names: Vec<String> = (1..=types.len()).map(|number| format!("p{number}")).collect();
        let (list, columns) = self.list();
        let query = self.bounded(&route.query.sql_with(|index| format!("cenote_k.p{}", index + 1)));
        let keys = format!("unnest({}) WITH ORDINALITY AS cenote_k({}, place)", arrays.join(", "), names.join(", "));
        let seen = self.seen();
        Ok(format!(
            "SELECT cenote_k.place, NULL::text, {list} FROM {keys} CROSS JOIN LATERAL {query} AS cenote_q{columns}{seen}"
        ))
    }
}

async fn prepare_check(
    client: &Client,
    kinds: &[ParamKind],
    types: &[Type],
    is_pooled: bool,
) -> Result<Option<(Asked, Vec<usize>)>, Failure> {
    let checked: Vec<usize> = (0..kinds.len()).filter(|index| kinds[*index].is_checked()).collect();
    if checked.is_empty() {
        return Ok(None);
    }
    // format() calls the type's output function, as psql does; a cast to text may write more (inet's netmask).
    let texts: Vec<String> = (1..=checked.len()).map(|number| format!("format('%s', ${number})")).collect();
    let types: Vec<Type> = checked.iter().map(|index| types[*index].clone()).collect();
    let asked = Asked::prepare(client, &format!("SELECT {}", texts.join(", ")), &types, is_pooled).await?;
    Ok(Some((asked, checked)))
}

/// Whether [`encode`] finds values in a key's captures.
pub(super) fn can_encode(kinds: &[ParamKind], route: &Route, params: &Params) -> bool {
    kinds.iter().zip(&route.captures).all(|(kind, capture)| kind.encode(params.get(*capture)).is_some())
}

/// Encodes a key's captures; `None` where one cannot be such a value.
pub(super) fn encode(kinds: &[ParamKind], route: &Route, params: &Params) -> Option<Vec<Encoded>> {
    kinds.iter().zip(&route.captures).map(|(kind, capture)| kind.encode(params.get(*capture))).collect()
}
