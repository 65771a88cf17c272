//! Running a prepared query: for one key, or for many with an array for each parameter.

use super::Cause;
use super::param::{Encoded, ParamKind};
use super::postgres_link::{PgLink, sqlstate};
use super::postgres_rows::{Brought, Rows};
use super::postgres_statement::{Asked, Failure, Prepared, Trouble};
use super::postgres_types::{Bound, Raw};
use super::routes::Route;
use super::template::Params;
use crate::freshness::Snapshot;
use bytes::{BufMut, BytesMut};
use futures_core::Stream;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row, RowStream};

/// Bytes of a value that is too large which are read to their end before the connection is given up instead.
const EXCESS_BYTES_MAX: usize = 1 << 20;

/// What a query brought.
pub(super) struct Fetched {
    /// By key.
    pub(super) keys: Vec<Brought>,
    pub(super) snapshot: Option<Snapshot>,
}

impl Prepared {
    /// Runs the query for `keys`, each with its parameters encoded: many only if there is a form for that.
    pub(super) async fn run(
        &self,
        link: &mut PgLink,
        route: &Route,
        keys: &[(&Params, Vec<Encoded>)],
    ) -> Result<Fetched, Failure> {
        link.running = true;
        let PgLink { client, running, transaction, .. } = link;
        let result = match transaction {
            None => self.run_keys(client, route, keys).await,
            Some(begin) => {
                // Sent in one go: it costs no round trip of its own.
                let (begun, result, _) = tokio::join!(
                    client.batch_execute(begin),
                    self.run_keys(client, route, keys),
                    client.batch_execute("COMMIT")
                );
                begun.map_err(Failure::from).and(result)
            }
        };
        // The server is done, also with a query that it reports as failed; unless its rows were not read to their end.
        *running = matches!(&result, Err(Failure::Unread(_)));
        result
    }

    async fn run_keys(
        &self,
        client: &Client,
        route: &Route,
        keys: &[(&Params, Vec<Encoded>)],
    ) -> Result<Fetched, Failure> {
        match (keys, &self.batch) {
            ([(params, encoded)], _) => self.run_single(client, route, params, encoded).await,
            (_, Ok(asked)) => {
                let arrays: Vec<Arrayed<'_>> = self
                    .types
                    .iter()
                    .enumerate()
                    .map(|(index, ty)| Arrayed { keys, index, ty, kind: &self.kinds[index] })
                    .collect();
                let rows = asked.rows(client, arrays.iter()).await;
                self.fetch(rows, route, keys.len()).await
            }
            (_, Err(reason)) => Err(Failure::Final(Trouble::new(Cause::Sql, reason.clone()))),
        }
    }

    async fn run_single(
        &self,
        client: &Client,
        route: &Route,
        params: &Params,
        encoded: &[Encoded],
    ) -> Result<Fetched, Failure> {
        let query = async {
            let bound: Vec<Bound<'_>> = encoded.iter().map(Bound).collect();
            let rows = self.single.rows(client, bound).await;
            self.fetch(rows, route, 1).await
        };
        let Some((asked, checked)) = &self.check else { return query.await };
        // Sent in one go: the check costs no round trip of its own.
        let (confirmed, result) = tokio::join!(self.confirm(client, asked, checked, route, params, encoded), query);
        match (confirmed?, result) {
            (true, result) => result,
            (false, Ok(Fetched { snapshot, .. })) => Ok(Fetched { keys: vec![Brought::ABSENT], snapshot }),
            // The same text failed the query as well.
            (false, Err(Failure::Final(_))) => Ok(Fetched { keys: vec![Brought::ABSENT], snapshot: None }),
            (false, Err(failure)) => Err(failure),
        }
    }

    /// Whether Postgres takes the checked parameters as values and writes them as they were captured.
    async fn confirm(
        &self,
        client: &Client,
        asked: &Asked,
        checked: &[usize],
        route: &Route,
        params: &Params,
        encoded: &[Encoded],
    ) -> Result<bool, Failure> {
        let bound = checked.iter().map(|index| Bound(&encoded[*index])).collect::<Vec<_>>();
        let read = async {
            let mut rows = pin!(asked.rows(client, bound).await?);
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

    /// Reads all rows and gives each key its own.
    async fn fetch(
        &self,
        rows: Result<RowStream, tokio_postgres::Error>,
        route: &Route,
        keys: usize,
    ) -> Result<Fetched, Failure> {
        let mut stream = pin!(rows?);
        let mut rows: Vec<Rows> = (0..keys).map(|_| Rows::new(route.shape)).collect();
        let (mut snapshot, mut excess_bytes) = (None, 0);
        while let Some(row) = next(stream.as_mut()).await? {
            if let Some(types) = &self.row
                && !row.columns().iter().map(|column| column.type_()).eq(types)
            {
                return Err(Failure::Outdated(Trouble::new(Cause::Sql, "the query's columns have changed")));
            }
            let Raw(place) = row.try_get(0)?;
            let place = <[u8; 8]>::try_from(place).map_or(0, i64::from_be_bytes) as usize;
            if place == 0 {
                let Raw(text) = row.try_get(1)?;
                snapshot = read_snapshot(text);
            } else if let Some(rows) = rows.get_mut(place - 1) {
                excess_bytes += rows.add(self, route, &row)?;
                if excess_bytes > EXCESS_BYTES_MAX {
                    return Err(Failure::Unread(Trouble::new(Cause::Size, "far larger than max_value_bytes")));
                }
            }
        }
        Ok(Fetched { keys: rows.into_iter().map(|rows| rows.finish(route)).collect(), snapshot })
    }
}

/// A snapshot's text, with a letter behind it that tells a standby from a primary.
fn read_snapshot(text: &[u8]) -> Option<Snapshot> {
    let (kind, text) = text.split_last()?;
    Snapshot::parse(std::str::from_utf8(text).ok()?, *kind == b's')
}

/// Whether the server says that a text is no value of its type: a data exception, or outside of a domain.
fn is_no_value(error: &tokio_postgres::Error) -> bool {
    matches!(sqlstate(error), Some([b'2', b'2' | b'3', ..]))
}

async fn next(mut rows: Pin<&mut RowStream>) -> Result<Option<Row>, tokio_postgres::Error> {
    poll_fn(|cx| rows.as_mut().poll_next(cx)).await.transpose()
}

/// One parameter of all keys, as an array. Its values are never shown.
struct Arrayed<'a> {
    keys: &'a [(&'a Params, Vec<Encoded>)],
    /// Which parameter.
    index: usize,
    ty: &'a Type,
    kind: &'a ParamKind,
}

impl fmt::Debug for Arrayed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl Arrayed<'_> {
    /// Dates and numerics are sent as text; all others are, in binary, the bytes at hand.
    fn is_text(&self) -> bool {
        matches!(self.kind, ParamKind::Date | ParamKind::Numeric)
    }

    fn elements(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|(_, encoded)| match &encoded[self.index] {
            Encoded::Binary { bytes, len } => &bytes[..*len],
            Encoded::Text(text) => text.as_bytes(),
        })
    }
}

impl ToSql for Arrayed<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if self.is_text() {
            // Digits, dots and hyphens: nothing that an array's text would have to quote.
            out.put_u8(b'{');
            for (number, element) in self.elements().enumerate() {
                if number > 0 {
                    out.put_u8(b',');
                }
                out.put_slice(element);
            }
            out.put_u8(b'}');
            return Ok(IsNull::No);
        }
        // One dimension, no NULLs, the elements' type; so many elements, counted from 1.
        out.put_i32(1);
        out.put_i32(0);
        out.put_u32(self.ty.oid());
        out.put_i32(self.keys.len() as i32);
        out.put_i32(1);
        for element in self.elements() {
            out.put_i32(element.len() as i32);
            out.put_slice(element);
        }
        Ok(IsNull::No)
    }

    /// The statement was written for this very type.
    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if self.is_text() { Format::Text } else { Format::Binary }
    }

    to_sql_checked!();
}
