//! What the rows of one key become: a value in the route's shape, or the reason why not. Fed row by row, and bounded:
//! what is too much is refused as soon as it is, not once all of it is there.

use super::postgres_statement::{COLUMNS_BEFORE, Failure, Prepared, Trouble};
use super::postgres_types::Raw;
use super::routes::{Route, Shape};
use super::value::Unwritable;
use super::{Cause, Loaded};
use bytes::Bytes;
use tokio_postgres::Row;

/// The rows of one key so far.
#[derive(Default)]
pub(super) struct Rows {
    count: usize,
    out: Vec<u8>,
    /// The one column was NULL.
    is_null: bool,
    trouble: Option<Trouble>,
}

impl Rows {
    /// Takes a row. Returns how many bytes of it were too much.
    pub(super) fn add(&mut self, prepared: &Prepared, route: &Route, row: &Row) -> Result<usize, Failure> {
        self.count += 1;
        if self.trouble.is_some() {
            return Ok(row.raw_size_bytes());
        }
        let max = if route.rows_many { route.max_rows } else { 1 };
        if self.count > max {
            self.trouble = Some(if route.rows_many {
                Trouble::new(Cause::MaxRows, format!("more than {max} rows; add a LIMIT, or raise max_rows"))
            } else {
                Trouble::new(Cause::Rows, "more than one row; add a condition on a unique column, or LIMIT 1")
            });
            self.out = Vec::new();
            return Ok(0);
        }
        if route.rows_many {
            self.out.push(if self.count == 1 { b'[' } else { b',' });
        }
        for (index, column) in prepared.columns.iter().enumerate() {
            let raw = row.try_get::<_, Option<Raw<'_>>>(COLUMNS_BEFORE + index)?.map(|Raw(bytes)| bytes);
            let written = match (route.shape, raw) {
                (Shape::Json, raw) => {
                    self.out.extend_from_slice(&column.opening);
                    // Room is left for what closes it.
                    let closing = 1 + usize::from(route.rows_many);
                    column.form.json(raw, &mut self.out, route.max_value_bytes.saturating_sub(closing))
                }
                (Shape::String, None) => {
                    self.is_null = true;
                    Ok(())
                }
                (Shape::String, Some(raw)) => column.form.text(raw, &mut self.out, route.max_value_bytes),
            };
            if let Err(unwritable) = written {
                self.trouble = Some(unwritable_column(prepared, index, unwritable));
                self.out = Vec::new();
                return Ok(0);
            }
        }
        if route.shape == Shape::Json {
            self.out.push(b'}');
        }
        Ok(0)
    }

    /// The key's value, now that all its rows are here.
    pub(super) fn finish(mut self, route: &Route) -> Result<Loaded, Trouble> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
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

fn unwritable_column(prepared: &Prepared, index: usize, unwritable: Unwritable) -> Trouble {
    let (name, ty) = &prepared.column_types[index];
    match unwritable {
        Unwritable::TooLarge => Trouble::new(Cause::Size, format!("too large at column \"{name}\"")),
        Unwritable::Malformed => Trouble::new(Cause::Type, format!("column \"{name}\" holds what is no {ty} in UTF-8")),
    }
}
