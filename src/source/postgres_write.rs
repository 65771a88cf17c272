//! Writes to the database: a statement in a transaction of its own, and what is known of it afterwards.
//!
//! Until COMMIT is sent nothing has happened, whatever breaks: so that far it may be tried again. From then on an answer
//! that does not come leaves the outcome unknown, and it is told so. The values of a command go as text, which Postgres
//! reads as the parameter's type; only bytea takes them as they are.

use super::param::ParamKind;
use super::postgres::STATEMENTS_MAX;
use super::postgres_link::{PgLink, explain, sqlstate};
use super::postgres_statement::{Failure, Trouble};
use super::postgres_types::{Bound, param_kind};
use super::routes::Route;
use super::template::Params;
use super::writes::{Argument, Statement, Verb};
use super::{Cause, LoadError};
use bytes::{BufMut, Bytes, BytesMut};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, SimpleQueryMessage};

/// What a command writes to one key.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which of the route's statements.
    pub verb: Verb,
    /// The key with its captures.
    pub params: Params,
    /// SET: the string, as the value of a field without a name. HSET: the fields with their values.
    pub values: Vec<(Bytes, Bytes)>,
}

/// What a write has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows that the statement wrote, over all fields.
    pub rows: u64,
    /// The low half of the transaction's id, if it has one.
    pub xid: Option<u32>,
}

/// Why a write failed. All but [`WriteError::Unknown`] mean that nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// As a load would have.
    Failed(LoadError),
    /// A constraint of the database, if it says which, or a value that is none of its column's.
    Refused {
        /// The constraint's or the column's name.
        by: Option<Box<str>>,
        /// Postgres's code.
        sqlstate: [u8; 5],
    },
    /// The statement wrote no row.
    NoRow,
    /// The key cannot name a row.
    NoKey,
    /// The statement has no place for a field.
    NoField(Bytes),
    /// The connection was lost, or the time was up, when the transaction was to end.
    Unknown,
}

impl From<LoadError> for WriteError {
    fn from(error: LoadError) -> Self {
        Self::Failed(error)
    }
}

impl WriteError {
    /// The error as a reply's text, as [`LoadError::line`].
    pub fn line(&self, route: &str) -> String {
        let text = match self {
            Self::Failed(error) => return error.line(route),
            Self::Refused { by, sqlstate } => {
                let by = by.as_ref().map_or_else(String::new, |by| format!(", {}", by.escape_debug()));
                let what = if sqlstate.starts_with(b"23") { "a constraint of the database" } else { "the database" };
                format!("{what} refuses the write{by} (SQLSTATE {})", sqlstate.escape_ascii())
            }
            Self::NoRow => "the write found no row".into(),
            Self::NoKey => "the key cannot name a row".into(),
            Self::NoField(field) => {
                format!("its writes have no field '{}'", field[..field.len().min(64)].escape_ascii())
            }
            Self::Unknown => "it is unknown whether the write was done: the database did not answer".into(),
        };
        format!("ERR route '{route}': {text}")
    }
}

/// How an attempt ended.
pub(super) enum Attempt {
    /// Nothing was written, and it may be tried again; on another connection, if this one is lost.
    Again(Trouble, bool),
    /// It is over.
    Over(WriteError, String),
}

impl Attempt {
    fn over(error: WriteError) -> Self {
        Self::Over(error, String::new())
    }

    pub(super) fn of(failure: Failure) -> Self {
        match failure {
            Failure::Lost(trouble) => Self::Again(trouble, true),
            Failure::Outdated(trouble) => Self::Again(trouble, false),
            other => {
                let Trouble { error, detail } = other.into_trouble();
                Self::Over(error.into(), detail)
            }
        }
    }
}

/// A statement that is prepared on one connection.
#[derive(Debug)]
pub(super) struct PreparedWrite {
    statement: tokio_postgres::Statement,
    /// For each parameter that is a capture.
    kinds: Vec<Option<ParamKind>>,
}

/// Prepares one of a route's statements.
pub(super) async fn prepare_write(client: &Client, written: &Statement) -> Result<PreparedWrite, Failure> {
    let statement = client.prepare(&written.query.sql()).await?;
    let mut kinds = Vec::new();
    for (argument, ty) in written.arguments.iter().zip(statement.params()) {
        let Argument::Capture(_) = argument else {
            kinds.push(None);
            continue;
        };
        let kind = param_kind(ty).filter(|kind| !kind.is_checked());
        let name = &written.query.names()[kinds.len()];
        let odd = || Trouble::new(Cause::Type, format!("{{{name}}} is a {ty}, of which one value has several texts"));
        kinds.push(Some(kind.ok_or_else(odd).map_err(Failure::Final)?));
    }
    Ok(PreparedWrite { statement, kinds })
}

/// Runs a write on a connection, to its end. `is_ending` is set once COMMIT is sent.
pub(super) async fn run_write(
    link: &mut PgLink,
    route: &Route,
    write: &Write,
    is_ending: &mut bool,
) -> Result<Written, Attempt> {
    let Some(statement) = route.writes.statement(write.verb) else { return Err(Attempt::over(WriteError::NoRow)) };
    let is_unknown = |field: &[u8]| write.verb == Verb::Hset && !statement.takes(field);
    if let Some((field, _)) = write.values.iter().find(|(field, _)| is_unknown(field)) {
        return Err(Attempt::over(WriteError::NoField(field.clone())));
    }
    link.running = true;
    let result = transact(link, route, statement, write, is_ending).await;
    let is_settled = match &result {
        Ok(_) => true,
        Err(Attempt::Again(_, true) | Attempt::Over(WriteError::Unknown, _)) => false,
        // The transaction is open, or never began.
        Err(_) => link.client.batch_execute("ROLLBACK").await.is_ok(),
    };
    link.running = !is_settled;
    link.doomed |= !is_settled;
    result
}

async fn transact(
    link: &mut PgLink,
    route: &Route,
    statement: &Statement,
    write: &Write,
    is_ending: &mut bool,
) -> Result<Written, Attempt> {
    let place = (route.id, write.verb);
    let prepared = match link.writes.get(&place) {
        Some(prepared) => Arc::clone(prepared),
        None => {
            let prepared = Arc::new(prepare_write(&link.client, statement).await.map_err(Attempt::of)?);
            if link.writes.len() >= STATEMENTS_MAX {
                link.writes.clear();
            }
            link.writes.insert(place, Arc::clone(&prepared));
            prepared
        }
    };
    let client = &link.client;
    // The session is one that reads.
    client.batch_execute("BEGIN READ WRITE").await.map_err(|error| Attempt::of(error.into()))?;
    let mut rows = 0;
    let rounds = if statement.is_by_field() { write.values.len() } else { 1 };
    for round in 0..rounds {
        let arguments = prepared.arguments(statement, write, round).ok_or_else(|| Attempt::over(WriteError::NoKey))?;
        let arguments: Vec<&(dyn ToSql + Sync)> = arguments.iter().map(|one| one as &(dyn ToSql + Sync)).collect();
        let written = client.execute(&prepared.statement, &arguments).await.map_err(refused)?;
        if written == 0 && write.verb != Verb::Del {
            return Err(Attempt::over(WriteError::NoRow));
        }
        rows += written;
    }
    let xid = client.simple_query("SELECT pg_catalog.pg_current_xact_id_if_assigned()").await.map_err(refused)?;
    let xid = xid.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<u64>().ok(),
        _ => None,
    });
    *is_ending = true;
    match client.batch_execute("COMMIT").await {
        Ok(()) => Ok(Written { rows, xid: xid.map(|xid| xid as u32) }),
        // A constraint that is checked at the end.
        Err(error) if is_refusal(&error) => Err(refused(error)),
        Err(error) => Err(Attempt::Over(WriteError::Unknown, explain(&error))),
    }
}

/// Whether the server says that the transaction was rolled back.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    sqlstate(error).is_some_and(|code| !matches!(&code, [b'5', b'7', b'P', ..] | [b'0', b'8', ..]))
}

/// What a statement's error means.
fn refused(error: tokio_postgres::Error) -> Attempt {
    match (sqlstate(&error), error.as_db_error()) {
        (Some(code @ [b'2', b'2' | b'3', ..]), Some(server)) => {
            let by = server.constraint().or(server.column()).map(Into::into);
            Attempt::Over(WriteError::Refused { by, sqlstate: code }, explain(&error))
        }
        _ => Attempt::of(error.into()),
    }
}

impl PreparedWrite {
    /// The parameters for a round; None if the key cannot name a row.
    fn arguments<'a>(&self, statement: &Statement, write: &'a Write, round: usize) -> Option<Vec<Given<'a>>> {
        let given = |(argument, kind): (&Argument, &Option<ParamKind>)| match argument {
            Argument::Capture(index) => kind.as_ref()?.encode(write.params.get(*index)).map(Given::Capture),
            Argument::Value => Some(Given::Text(write.values.get(round).map(|(_, value)| &value[..]))),
            Argument::Field => Some(Given::Text(write.values.get(round).map(|(field, _)| &field[..]))),
            Argument::Named(name) => {
                // Of several values for one field, the last counts.
                let found = write.values.iter().rev().find(|(field, _)| field == name.as_bytes());
                Some(Given::Text(found.map(|(_, value)| &value[..])))
            }
        };
        statement.arguments.iter().zip(&self.kinds).map(given).collect()
    }
}

/// A parameter on its way to the driver. Its value is never shown.
enum Given<'a> {
    Capture(super::param::Encoded),
    /// None: NULL.
    Text(Option<&'a [u8]>),
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl ToSql for Given<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Given::Capture(encoded) => Bound(encoded).to_sql(ty, out),
            Given::Text(None) => Ok(IsNull::Yes),
            Given::Text(Some(text)) => {
                out.put_slice(text);
                Ok(IsNull::No)
            }
        }
    }

    /// The statement says what it takes, and Postgres whether it is that.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, ty: &Type) -> Format {
        match self {
            Given::Capture(encoded) => Bound(encoded).encode_format(ty),
            Given::Text(_) if *ty == Type::BYTEA => Format::Binary,
            Given::Text(_) => Format::Text,
        }
    }

    to_sql_checked!();
}
