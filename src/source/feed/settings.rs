//! The fields of a routes file that say how the database's changes reach the cache. Knows TOML, no database.

use super::super::fields::{At, Fields, Reading, texts_of};
use super::super::query::Query;
use super::super::template::Template;
use super::derive::{self, Dependency};

/// Longest name that Postgres keeps whole.
const NAME_BYTES_MAX: usize = 63;
/// Most tables one route may name: each is looked up at every start of a feed.
const DEPENDS_MAX: usize = 64;

/// `invalidate`: how a source tells its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `"wal"`: logical replication.
    Wal,
    /// `"notify"`: triggers that notify.
    Notify,
}

impl Mode {
    /// As the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Wal => "wal",
            Mode::Notify => "notify",
        }
    }
}

/// A source's `invalidate` and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedConfig {
    /// `invalidate`.
    pub mode: Mode,
    /// `publication`: which publication tells the changes (`wal`). Default `cenote`.
    pub publication: Box<str>,
}

/// What a route's values depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependencies {
    /// The source does not tell its changes, or the route does not want to know (`invalidate = "none"`).
    Off,
    /// Rows of these tables.
    On(Vec<Dependency>),
    /// The query's text does not tell, and nothing is declared: why.
    Unknown(String),
}

impl Dependencies {
    /// The tables and columns, where they are known.
    pub fn list(&self) -> &[Dependency] {
        match self {
            Dependencies::On(list) => list,
            _ => &[],
        }
    }
}

/// Reads `invalidate` and `publication` of a source.
pub(in super::super) fn read_feed(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<FeedConfig> {
    let publication = fields.string(reading, "publication");
    let mode = fields.string(reading, "invalidate");
    let mode = match mode {
        None | Some(At { value: "none", .. }) => {
            if let Some(at) = publication {
                let message = format!("{}: publication is of use only with invalidate = \"wal\"", fields.what());
                reading.fault(at.line, message);
            }
            return None;
        }
        Some(At { value: "wal", .. }) => Mode::Wal,
        Some(At { value: "notify", .. }) => Mode::Notify,
        Some(at) => {
            let message = format!("{}: invalidate must be \"wal\", \"notify\" or \"none\"", fields.what());
            reading.fault(at.line, message);
            return None;
        }
    };
    let name = publication.map_or("cenote", |at| at.value);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
        let line = publication.map_or(fields.line, |at| at.line);
        reading.fault(line, format!("{}: publication must be a name of up to {NAME_BYTES_MAX} bytes", fields.what()));
    }
    Some(FeedConfig { mode, publication: name.into() })
}

/// Reads `invalidate` and `depends` of a route; `captures` says which capture of the key each `$n` of the query is.
pub(in super::super) fn read_dependencies(
    reading: &mut Reading<'_>,
    fields: &Fields<'_>,
    feed: Option<&FeedConfig>,
    (key, query, captures): (&Template, &Query, &[usize]),
) -> Dependencies {
    let declared = read_depends(reading, fields, key);
    let wanted = match fields.string(reading, "invalidate") {
        None => true,
        Some(At { value: "none", .. }) => false,
        Some(at) => {
            let message = format!(
                "{}: invalidate can only be \"none\" here; how a source tells its changes is a field of the source",
                fields.what()
            );
            reading.fault(at.line, message);
            false
        }
    };
    if feed.is_none() || !wanted {
        return Dependencies::Off;
    }
    let derived = derive::derive(&query.sql(), captures.len()).map(|found| {
        let mut columns = found.columns.clone();
        for (parameter, capture) in captures.iter().enumerate() {
            columns[*capture].clone_from(&found.columns[parameter]);
        }
        Dependency { table: found.table, columns }
    });
    match (derived, declared) {
        (Ok(derived), None) => Dependencies::On(vec![derived]),
        (Err(why), None) => Dependencies::Unknown(name_parameters(&why, query)),
        (derived, Some(mut list)) => {
            // What is declared of a table counts more than what its text says.
            if let Ok(derived) = derived
                && !list.iter().any(|declared| declared.table == derived.table)
            {
                list.push(derived);
            }
            Dependencies::On(list)
        }
    }
}

/// `$1` as the query writes it.
fn name_parameters(why: &str, query: &Query) -> String {
    let mut text = why.to_owned();
    for (index, name) in query.names().iter().enumerate().rev() {
        text = text.replace(&format!("${} ", index + 1), &format!("{{{name}}} "));
    }
    text
}

fn read_depends(reading: &mut Reading<'_>, fields: &Fields<'_>, key: &Template) -> Option<Vec<Dependency>> {
    let at = fields.get(reading, "depends")?;
    let texts = texts_of(at.value.get_ref()).filter(|list| !list.is_empty() && list.len() <= DEPENDS_MAX);
    let Some(texts) = texts else {
        let form = "depends must be a list of up to 64 texts such as [\"orders(user_id -> id)\"]";
        reading.fault(at.line, format!("{}: {form}", fields.what()));
        return None;
    };
    let mut list = Vec::new();
    for text in texts {
        match derive::declared(text, key.names()) {
            Ok(dependency) => list.push(dependency),
            Err(message) => reading.fault(at.line, format!("{}: depends: {message}", fields.what())),
        }
    }
    Some(list)
}
