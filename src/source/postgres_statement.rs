//! One route's query on one connection: preparing it, binding a key's captures, reading at most one row.

use super::param::{Encoded, ParamKind};
use super::postgres_link::{PgLink, explain, sqlstate};
use super::postgres_types::{Bound, Raw, form, param_kind, text_cast};
use super::routes::{Route, Shape};
use super::template::Params;
use super::value::{Form, Unwritable};
use super::{Cause, LoadError, Loaded};
use bytes::Bytes;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, RowStream, Statement};

/// How many rows too many are read to their end before the connection is given up instead.
const EXCESS_ROWS_MAX: usize = 64;

/// Why a query did not bring a value.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection ended under the query: it may be tried again on another one, a read has no effects.
    Lost(Trouble),
    /// The prepared statement no longer fits the schema: it may be prepared again. Nothing was run.
    Outdated(Trouble),
    /// It would fail again.
    Final(Trouble),
}

/// A failed load with what the log may say of it.
#[derive(Debug)]
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
    pub(super) fn into_trouble(self) -> Trouble {
        match self {
            Failure::Lost(trouble) | Failure::Outdated(trouble) | Failure::Final(trouble) => trouble,
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
            // "cached plan must not change result type"; the statement is unknown (behind a pooler).
            Some(b"0A000" | b"26000") => Failure::Outdated(trouble(Cause::Sql)),
            Some(b"57014") => Failure::Final(trouble(Cause::TimedOut)),
            // Conflicts, deadlocks, locks, resources.
            Some([b'4', b'0', ..] | [b'5', b'3', ..] | b"55P03") => Failure::Final(trouble(Cause::Busy)),
            Some(_) => Failure::Final(trouble(Cause::Sql)),
        }
    }
}

/// A statement with all that is known of its parameters and columns.
pub(super) struct Prepared {
    statement: Statement,
    /// For `$1`, `$2` ….
    pub(super) kinds: Arc<[ParamKind]>,
    columns: Vec<Column>,
    /// Returns the parameters that Postgres must check as it writes them, and which ones these are.
    check: Option<(Statement, Vec<usize>)>,
    /// The types' names, for people.
    pub(super) parameter_types: Vec<String>,
    /// The columns' names and types, for people.
    pub(super) column_types: Vec<(String, String)>,
}

struct Column {
    /// `{"name":` or `,"name":`.
    opening: Vec<u8>,
    form: Form,
}

/// Prepares a route's query and settles how its parameters and columns are read.
pub(super) async fn prepare(client: &Client, route: &Route) -> Result<Prepared, Failure> {
    let sql = route.query.sql();
    let mut statement = client.prepare(&sql).await?;
    let kinds = kinds(route, statement.params()).map_err(Failure::Final)?;
    let named: Vec<(String, Type)> =
        statement.columns().iter().map(|column| (column.name().to_owned(), column.type_().clone())).collect();
    check_columns(route.shape, &named).map_err(Failure::Final)?;
    let mut forms: Vec<Option<Form>> = named.iter().map(|(_, ty)| form(ty)).collect();
    if forms.iter().any(Option::is_none) {
        statement = client.prepare_typed(&with_casts(&sql, &named), statement.params()).await?;
        forms = statement.columns().iter().map(|column| form(column.type_())).collect();
    }
    let mut columns = Vec::new();
    for ((name, ty), form) in named.iter().zip(forms) {
        let unreadable = || Trouble::new(Cause::Type, format!("column \"{name}\" has type {ty}, which has no text"));
        let form = form.ok_or_else(unreadable).map_err(Failure::Final)?;
        columns.push(Column { opening: opening(columns.is_empty(), name), form });
    }
    Ok(Prepared {
        check: prepare_check(client, &kinds, statement.params()).await?,
        parameter_types: statement.params().iter().map(ToString::to_string).collect(),
        column_types: named.into_iter().map(|(name, ty)| (name, ty.to_string())).collect(),
        statement,
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

fn check_columns(shape: Shape, columns: &[(String, Type)]) -> Result<(), Trouble> {
    let fault = match shape {
        _ if columns.is_empty() => "the query returns no columns".into(),
        Shape::String if columns.len() > 1 => {
            format!("as = \"string\" takes one column, the query returns {}", columns.len())
        }
        Shape::Json => {
            match columns.iter().enumerate().find(|(at, (name, _))| columns[..*at].iter().any(|c| c.0 == *name)) {
                Some((_, (name, _))) => format!("the query returns two columns named \"{name}\"; rename one with AS"),
                None => return Ok(()),
            }
        }
        Shape::String => return Ok(()),
    };
    Err(Trouble::new(Cause::Type, fault))
}

fn opening(first: bool, name: &str) -> Vec<u8> {
    let mut opening = vec![if first { b'{' } else { b',' }];
    // A string always has a JSON form, and a vector takes all that is written.
    let _ = serde_json::to_writer(&mut opening, name);
    opening.push(b':');
    opening
}

/// The query with the columns that have no form of their own cast to text.
fn with_casts(sql: &str, columns: &[(String, Type)]) -> String {
    let numbered = |index: usize| format!("c{}", index + 1);
    let shown: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(index, (name, ty))| {
            let cast = if form(ty).is_none() { format!("::{}", text_cast(ty)) } else { String::new() };
            format!("q.{}{cast} AS \"{}\"", numbered(index), name.replace('"', "\"\""))
        })
        .collect();
    let numbered: Vec<String> = (0..columns.len()).map(numbered).collect();
    // The query may end in a comment, so what follows stands on a new line.
    format!("SELECT {} FROM ({sql}\n) AS q({})", shown.join(", "), numbered.join(", "))
}

async fn prepare_check(
    client: &Client,
    kinds: &[ParamKind],
    types: &[Type],
) -> Result<Option<(Statement, Vec<usize>)>, Failure> {
    let checked: Vec<usize> = (0..kinds.len()).filter(|index| kinds[*index].is_checked()).collect();
    if checked.is_empty() {
        return Ok(None);
    }
    // format() calls the type's output function, as psql does; a cast to text may write more (inet's netmask).
    let texts: Vec<String> = (1..=checked.len()).map(|number| format!("format('%s', ${number})")).collect();
    let types: Vec<Type> = checked.iter().map(|index| types[*index].clone()).collect();
    let statement = client.prepare_typed(&format!("SELECT {}", texts.join(", ")), &types).await?;
    Ok(Some((statement, checked)))
}

/// Encodes a key's captures; `None` where one cannot be such a value.
pub(super) fn encode(kinds: &[ParamKind], route: &Route, params: &Params) -> Option<Vec<Encoded>> {
    kinds.iter().zip(&route.captures).map(|(kind, capture)| kind.encode(params.get(*capture))).collect()
}

impl Prepared {
    /// Runs the query for one key.
    pub(super) async fn run(
        &self,
        link: &mut PgLink,
        route: &Route,
        params: &Params,
        encoded: &[Encoded],
    ) -> Result<Loaded, Failure> {
        link.running = true;
        let PgLink { client, running, .. } = link;
        let query = self.fetch(client, route, encoded);
        let result = match &self.check {
            None => query.await,
            // Sent in one go: the check costs no round trip of its own.
            Some((statement, checked)) => {
                let (confirmed, result) =
                    tokio::join!(self.confirm(client, statement, checked, route, params, encoded), query);
                match confirmed {
                    Ok(true) => result,
                    Ok(false) => {
                        result.map(|fetched| Fetched { loaded: Ok(Loaded::Absent), ..fetched }).or_else(|failure| {
                            match failure {
                                // The same text failed the query as well.
                                Failure::Final(_) => Ok(Fetched { loaded: Ok(Loaded::Absent), ended: true }),
                                other => Err(other),
                            }
                        })
                    }
                    Err(failure) => Err(failure),
                }
            }
        };
        match result {
            Ok(Fetched { loaded, ended }) => {
                *running = !ended;
                loaded.map_err(Failure::Final)
            }
            Err(failure) => {
                // The server is done with a query that it reports as failed.
                *running = false;
                Err(failure)
            }
        }
    }

    /// Whether Postgres takes the checked parameters as values and writes them as they were captured.
    async fn confirm(
        &self,
        client: &Client,
        statement: &Statement,
        checked: &[usize],
        route: &Route,
        params: &Params,
        encoded: &[Encoded],
    ) -> Result<bool, Failure> {
        let bound = checked.iter().map(|index| Bound(&encoded[*index])).collect::<Vec<_>>();
        let read = async {
            let mut rows = pin!(client.query_raw(statement, bound).await?);
            let row = next(rows.as_mut()).await?;
            while next(rows.as_mut()).await?.is_some() {}
            Ok(row)
        };
        let row = match read.await {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(false),
            Err(error) => return if is_no_value(&error) { Ok(false) } else { Err(error.into()) },
        };
        for (place, index) in checked.iter().enumerate() {
            let captured = params.get(route.captures[*index]);
            let Raw(written) = row.try_get(place)?;
            if self.kinds[*index].is_compared() && written != captured {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs the query and reads its row.
    async fn fetch(&self, client: &Client, route: &Route, encoded: &[Encoded]) -> Result<Fetched, Failure> {
        let mut rows = pin!(client.query_raw(&self.statement, encoded.iter().map(Bound)).await?);
        let Some(row) = next(rows.as_mut()).await? else {
            return Ok(Fetched { loaded: Ok(Loaded::Absent), ended: true });
        };
        let loaded = self.value(route, &row)?;
        drop(row);
        let mut excess = 0;
        while next(rows.as_mut()).await?.is_some() {
            excess += 1;
            if excess == EXCESS_ROWS_MAX {
                return Ok(Fetched { loaded: Err(too_many()), ended: false });
            }
        }
        let loaded = if excess > 0 { Err(too_many()) } else { loaded };
        Ok(Fetched { loaded, ended: true })
    }

    /// The row in the route's shape.
    fn value(&self, route: &Route, row: &Row) -> Result<Result<Loaded, Trouble>, Failure> {
        let mut out = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            let raw = row.try_get::<_, Option<Raw<'_>>>(index)?.map(|Raw(bytes)| bytes);
            let written = match (route.shape, raw) {
                (Shape::Json, raw) => {
                    out.extend_from_slice(&column.opening);
                    // One byte is left for the closing brace.
                    column.form.json(raw, &mut out, route.max_value_bytes.saturating_sub(1))
                }
                (Shape::String, None) => return Ok(Ok(Loaded::Absent)),
                (Shape::String, Some(raw)) => column.form.text(raw, &mut out, route.max_value_bytes),
            };
            if let Err(unwritable) = written {
                return Ok(Err(self.unwritable(index, unwritable)));
            }
        }
        if route.shape == Shape::Json {
            out.push(b'}');
        }
        Ok(Ok(Loaded::Value(Bytes::from(out))))
    }

    fn unwritable(&self, index: usize, unwritable: Unwritable) -> Trouble {
        let (name, ty) = &self.column_types[index];
        match unwritable {
            Unwritable::TooLarge => Trouble::new(Cause::Size, format!("too large at column \"{name}\"")),
            Unwritable::Malformed => {
                Trouble::new(Cause::Type, format!("column \"{name}\" holds what is no {ty} in UTF-8"))
            }
        }
    }
}

/// What a query brought.
struct Fetched {
    loaded: Result<Loaded, Trouble>,
    /// Whether the server is done with it.
    ended: bool,
}

fn too_many() -> Trouble {
    Trouble::new(Cause::Rows, "more than one row; add a condition on a unique column, or LIMIT 1")
}

/// Whether the server says that a text is no value of its type: a data exception, or outside of a domain.
fn is_no_value(error: &tokio_postgres::Error) -> bool {
    matches!(sqlstate(error), Some([b'2', b'2' | b'3', ..]))
}

async fn next(mut rows: Pin<&mut RowStream>) -> Result<Option<Row>, tokio_postgres::Error> {
    poll_fn(|cx| rows.as_mut().poll_next(cx)).await.transpose()
}
