//! What the rows of one key become: a value in the route's shape, or the reason why not. Fed row by row, and bounded:
//! what is too much is refused as soon as it is, not once all of it is there.

//!
//! NULL is null in JSON. Elsewhere it is nothing: no string, no field of a hash, and a row with a NULL in it is no
//! element of a collection, as it is none to SQL's aggregates. A value without anything is an absent row.

use super::elements::{Elements, Kind};
use super::postgres_statement::{COLUMNS_BEFORE, Failure, Prepared, Trouble};
use super::postgres_types::Raw;
use super::routes::{Route, Shape};
use super::value::Unwritable;
use super::{Cause, Loaded};
use bytes::Bytes;
use tokio_postgres::Row;

/// What a query brought for one key.
pub(super) struct Brought {
    pub(super) loaded: Result<Loaded, Trouble>,
    /// Rows that it is made of, or that were too many.
    pub(super) rows: usize,
}

impl Brought {
    /// Nothing.
    pub(super) const ABSENT: Brought = Brought { loaded: Ok(Loaded::Absent), rows: 0 };
}

/// The rows of one key so far.
pub(super) struct Rows {
    count: usize,
    /// A string's text.
    out: Vec<u8>,
    /// A collection's elements.
    elements: Option<Elements>,
    /// The one column was NULL.
    is_null: bool,
    trouble: Option<Trouble>,
}

impl Rows {
    pub(super) fn new(shape: Shape) -> Self {
        let elements = shape.kind().map(Elements::new);
        Self { count: 0, out: Vec::new(), elements, is_null: false, trouble: None }
    }

    /// Takes a row. Returns how many bytes of it were too much.
    pub(super) fn add(&mut self, prepared: &Prepared, route: &Route, row: &Row) -> Result<usize, Failure> {
        self.count += 1;
        if self.trouble.is_some() {
            return Ok(row.raw_size_bytes());
        }
        let max = if route.rows_many { route.max_rows } else { 1 };
        let trouble = if self.count <= max {
            match self.write(prepared, route, row) {
                Ok(()) => return Ok(0),
                Err(Failure::Final(trouble)) => trouble,
                Err(failure) => return Err(failure),
            }
        } else if route.rows_many {
            Trouble::new(Cause::MaxRows, format!("more than {max} rows; add a LIMIT, or raise max_rows"))
        } else {
            Trouble::new(Cause::Rows, "more than one row; add a condition on a unique column, or LIMIT 1")
        };
        self.trouble = Some(trouble);
        // What is there already is of no use.
        (self.out, self.elements) = (Vec::new(), None);
        Ok(0)
    }

    fn write(&mut self, prepared: &Prepared, route: &Route, row: &Row) -> Result<(), Failure> {
        let line = Line { prepared, row, limit: route.max_value_bytes };
        match (&mut self.elements, route.shape) {
            (Some(elements), Shape::Hash) if !route.rows_many => line.fields(elements),
            (Some(elements), _) => line.element(elements),
            (None, Shape::String) => {
                self.is_null = !line.text(0, &mut self.out)?;
                Ok(())
            }
            (None, _) => {
                if route.rows_many {
                    self.out.push(if self.count == 1 { b'[' } else { b',' });
                }
                line.json(&mut self.out, route.rows_many)
            }
        }
    }

    /// What the key has come to, now that all its rows are here.
    pub(super) fn finish(self, route: &Route) -> Brought {
        Brought { rows: self.count, loaded: self.value(route) }
    }

    fn value(mut self, route: &Route) -> Result<Loaded, Trouble> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        if let Some(elements) = self.elements {
            if elements.has_double() {
                let what = if elements.kind() == Kind::Hash { "field" } else { "member" };
                let detail = format!("a {what} comes twice; add GROUP BY or DISTINCT ON");
                return Err(Trouble::new(Cause::Double, detail));
            }
            return Ok(if elements.is_empty() { Loaded::Absent } else { Loaded::Many(elements) });
        }
        if self.count == 0 || self.is_null {
            return Ok(Loaded::Absent);
        }
        if route.rows_many {
            self.out.push(b']');
        }
        Ok(Loaded::Value(Bytes::from(self.out)))
    }
}

/// One row, to be written in some shape.
struct Line<'a> {
    prepared: &'a Prepared,
    row: &'a Row,
    /// Bytes of the value, at most.
    limit: usize,
}

impl<'a> Line<'a> {
    fn raw(&self, column: usize) -> Result<Option<&'a [u8]>, Failure> {
        Ok(self.row.try_get::<_, Option<Raw<'_>>>(COLUMNS_BEFORE + column)?.map(|Raw(bytes)| bytes))
    }

    /// Why a column cannot be written.
    fn trouble(&self, column: usize, unwritable: Unwritable) -> Failure {
        let (name, ty) = &self.prepared.column_types[column];
        Failure::Final(match unwritable {
            Unwritable::TooLarge => Trouble::new(Cause::Size, format!("too large at column \"{name}\"")),
            Unwritable::Malformed => {
                Trouble::new(Cause::Type, format!("column \"{name}\" holds what is no {ty} in UTF-8"))
            }
        })
    }

    /// Appends a column as bare text; false if it is NULL.
    fn text(&self, column: usize, out: &mut Vec<u8>) -> Result<bool, Failure> {
        let Some(raw) = self.raw(column)? else { return Ok(false) };
        let written = self.prepared.columns[column].form.text(raw, out, self.limit);
        written.map_err(|unwritable| self.trouble(column, unwritable))?;
        Ok(true)
    }

    /// Appends the row as a JSON object.
    fn json(&self, out: &mut Vec<u8>, is_in_array: bool) -> Result<(), Failure> {
        // Room is left for what closes it.
        let limit = self.limit.saturating_sub(1 + usize::from(is_in_array));
        for (index, column) in self.prepared.columns.iter().enumerate() {
            out.extend_from_slice(&column.opening);
            let written = column.form.json(self.raw(index)?, out, limit);
            written.map_err(|unwritable| self.trouble(index, unwritable))?;
        }
        out.push(b'}');
        Ok(())
    }

    /// The columns as fields of a hash.
    fn fields(&self, elements: &mut Elements) -> Result<(), Failure> {
        for (index, (name, _)) in self.prepared.column_types.iter().enumerate() {
            if self.raw(index)?.is_none() {
                continue;
            }
            elements.open().extend_from_slice(name.as_bytes());
            elements.close();
            self.text(index, elements.open())?;
            elements.close();
        }
        Ok(())
    }

    /// The row as one element: a text, a field with its value, or a member with its score.
    fn element(&self, elements: &mut Elements) -> Result<(), Failure> {
        let columns = self.prepared.columns.len();
        for column in 0..columns {
            if self.raw(column)?.is_none() {
                return Ok(());
            }
        }
        let texts = if elements.kind() == Kind::Zset { 1 } else { columns };
        for column in 0..texts {
            self.text(column, elements.open())?;
            elements.close();
        }
        if elements.kind() == Kind::Zset {
            elements.score(self.score(1)?);
        }
        Ok(())
    }

    /// A column as a sorted set's score.
    fn score(&self, column: usize) -> Result<f64, Failure> {
        let mut text = Vec::new();
        self.text(column, &mut text)?;
        let score = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<f64>().ok());
        score.filter(|score| !score.is_nan()).ok_or_else(|| {
            let (name, _) = &self.prepared.column_types[column];
            Failure::Final(Trouble::new(Cause::Score, format!("column \"{name}\" is no number that orders members")))
        })
    }
}
