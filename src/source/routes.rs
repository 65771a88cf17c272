//! The routes file: `[source.NAME]` and `[[route]]` read, checked, and compiled for lookup by key.
//!
//! Every field is documented where it is declared; everything wrong in a file is reported at once, with its line.
//! Knows no database: what only Postgres can judge is found by `check`, or at the first load.

use super::elements::Kind;
use super::fault::Fault;
use super::feed::{Dependencies, Mode, read_dependencies};
use super::fields::{At, Fields, Reading, kind, note, whole};
use super::matcher::{Matcher, Overlap};
use super::query::Query;
use super::source_config::{LOAD_TIMEOUT, SLOW_QUERY, SourceConfig, read_source};
use super::stats::RouteStats;
use super::template::{Captures, Template};
use super::writes::{WriteMode, Writes, read_writes};
use crate::freshness::Terms;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest routes file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most routes in one file: every pair is checked for overlap.
const ROUTES_MAX: usize = 10_000;
/// Most clients wait about 5 s for a reply (redis-py's default): a load that may take longer deserves a warning.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

const FILE_FIELDS: &[&str] = &["source", "route"];
const ROUTE_FIELDS: &[&str] = &[
    "name",
    "key",
    "query",
    "as",
    "ttl",
    "negative_ttl",
    "jitter_percent",
    "refresh_ahead",
    "stale_while_revalidate",
    "stale_if_error",
    "source",
    "rows",
    "max_rows",
    "batch_max",
    "max_value_bytes",
    "compress_threshold",
    "databases",
    "load_timeout",
    "slow_query",
    "depends",
    "invalidate",
    "scripts",
    "writes",
    "write",
    "invalidates",
];

/// A routes file, checked as far as it can be without a database.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[source.NAME]`, in the file's order.
    pub sources: Vec<SourceConfig>,
    /// `[[route]]`, in the file's order.
    pub routes: Vec<Arc<Route>>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Fault>,
}

/// `as`: what a row becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One row as a JSON object: a string key. A NULL column is `null`.
    Json,
    /// One row of one column, as text: a string key. NULL has no form as a string and reads as an absent row.
    String,
    /// One row, each column a field; or many rows of two columns, field and value. A NULL value is no field.
    Hash,
    /// Many rows of one column, in their order.
    List,
    /// Many rows of one column.
    Set,
    /// Many rows of two columns, member and score.
    Zset,
}

impl Shape {
    const ALL: [Shape; 6] = [Shape::Json, Shape::String, Shape::Hash, Shape::List, Shape::Set, Shape::Zset];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Json => "json",
            Shape::String => "string",
            Shape::Hash => "hash",
            Shape::List => "list",
            Shape::Set => "set",
            Shape::Zset => "zset",
        }
    }

    /// The collection that it makes, if any.
    pub(super) fn kind(self) -> Option<Kind> {
        match self {
            Shape::Json | Shape::String => None,
            Shape::Hash => Some(Kind::Hash),
            Shape::List => Some(Kind::List),
            Shape::Set => Some(Kind::Set),
            Shape::Zset => Some(Kind::Zset),
        }
    }
}

/// `[[route]]`: a key template with the query that loads its keys.
#[derive(Debug)]
pub struct Route {
    /// Unique in this process, also across reloads: connections keep their prepared statements by it.
    pub id: u64,
    /// `name`, else the key template. Printable.
    pub name: Box<str>,
    /// `key`.
    pub key: Template,
    /// `query`; its placeholders are the key's captures, each at least once.
    pub query: Query,
    /// For `$1`, `$2` …: which capture of the key.
    pub captures: Vec<usize>,
    /// `as`. Default json.
    pub shape: Shape,
    /// `ttl` and what else says how long a loaded value may be served.
    pub terms: Arc<Terms>,
    /// `source`, as an index into the sources. Default: the only one.
    pub source: usize,
    /// `rows`: whether a value is made of all rows (`many`) or of the one row there may be. Default: many for lists and
    /// sets, one for all else.
    pub rows_many: bool,
    /// `max_rows`: the most rows that a value of many may be made of. Default 1000.
    pub max_rows: usize,
    /// `batch_max`: the most keys that are loaded by one query; 1: each by its own. Default 64.
    pub batch_max: usize,
    /// `max_value_bytes`: the largest value that is answered and kept. Default 1 MiB.
    pub max_value_bytes: usize,
    /// `compress_threshold`: strings so long or longer are kept compressed, in bytes; 0: none is. Default: as
    /// `compress-threshold` says.
    pub compress_threshold: Option<usize>,
    /// `databases`: the logical databases whose keys it loads. Default database 0 alone: other databases often hold
    /// other things under the same names.
    pub databases: Databases,
    /// `load_timeout`: the most that one load may take. Default: the source's.
    pub load_timeout: Duration,
    /// `slow_query`: from which time on its query is told in the log at warn. Default: the source's.
    pub slow_query: Duration,
    /// Whether changes of its keys are told with their transactions, which a load must have seen to be kept.
    pub is_fenced: bool,
    /// `scripts`: the keys that a script declares are loaded before it runs. Default: they are not.
    pub scripts: bool,
    /// `depends`, and what the query's text tells: of which rows a change invalidates which key.
    pub dependencies: Dependencies,
    /// `writes`, `write` and `invalidates`: what becomes of writes to its keys.
    pub writes: Writes,
    /// Its fields as they were given.
    pub fields: Vec<(String, String)>,
    /// What happened to its keys.
    pub stats: RouteStats,
    /// The line of its header.
    pub line: usize,
}

/// The logical databases (SELECT n) that a route serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Databases {
    /// `"all"`.
    All,
    /// These, sorted.
    Some(Vec<u32>),
}

impl Route {
    /// Tells the route's keys from others.
    pub fn key_test(&self) -> impl Fn(&[u8]) -> bool + use<> {
        let matcher = Matcher::build(&[Some(&self.key)]).unwrap_or_default();
        move |key| matcher.find(key).is_some()
    }

    /// True if both say the same.
    pub(super) fn is_same(&self, other: &Route) -> bool {
        self.name == other.name && self.source == other.source && self.fields == other.fields
    }
}

impl Databases {
    fn include(&self, database: u32) -> bool {
        match self {
            Databases::All => true,
            Databases::Some(list) => list.binary_search(&database).is_ok(),
        }
    }
}

impl Config {
    /// Reads and checks a routes file. `url` replaces the URL of every source.
    pub fn read(path: &Path, url: Option<&str>) -> Result<Config, Vec<Fault>> {
        let file = path.display().to_string();
        let failed = |message: String| vec![Fault { file: file.as_str().into(), line: 0, message }];
        let size = std::fs::metadata(path).map_err(|error| failed(format!("cannot be read: {error}")))?.len();
        if size > FILE_BYTES_MAX {
            return Err(failed(format!("is larger than {FILE_BYTES_MAX} bytes, the most a routes file may have")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        Config::parse(&file, &text, url)
    }

    /// Checks the text of a routes file; `file` is its path, for faults and relative paths.
    pub fn parse(file: &str, text: &str, url: Option<&str>) -> Result<Config, Vec<Fault>> {
        let mut reading = Reading::new(file, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(0, |span| reading.line(span.start));
            reading.fault(line, error.message());
        }
        let mut config = Config { sources: Vec::new(), routes: Vec::new(), warnings: Vec::new() };
        let root = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
        if let Some(root) = Fields::open(&mut reading, &root, 1, "the file") {
            root.refuse_unknown(&mut reading, FILE_FIELDS);
            config.read_sources(&mut reading, &root, Path::new(file), url);
            config.read_routes(&mut reading, &root);
        }
        if reading.faults.is_empty() {
            config.check_overlaps(&mut reading);
        }
        if reading.faults.is_empty() {
            return Ok(config);
        }
        reading.faults.sort_by_key(|fault| fault.line);
        Err(reading.faults)
    }

    /// Reads further routes for the same sources.
    pub(super) fn read_more(&mut self, file: &str, text: &str) -> Result<(), Vec<Fault>> {
        let mut reading = Reading::new(file, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reading.fault(0, error.message());
        }
        let root = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
        if let Some(root) = Fields::open(&mut reading, &root, 1, "the route") {
            self.read_routes(&mut reading, &root);
        }
        if reading.faults.is_empty() {
            self.check_overlaps(&mut reading);
        }
        if reading.faults.is_empty() { Ok(()) } else { Err(reading.faults) }
    }

    fn read_sources(&mut self, reading: &mut Reading<'_>, root: &Fields<'_>, file: &Path, url: Option<&str>) {
        let Some(at) = root.get(reading, "source") else { return };
        let Some(table) = at.value.get_ref().as_table() else {
            reading.fault(at.line, "source must be a table for each source, as in [source.main]");
            return;
        };
        let mut sources: Vec<_> = table.iter().collect();
        sources.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in sources {
            let line = reading.line(name.span().start);
            let what = format!("source \"{}\"", name.get_ref().escape_debug());
            if let Some(fields) = Fields::open(reading, value, line, &what)
                && let Some(source) = read_source(reading, &fields, name.get_ref(), file, url)
            {
                if source.load_timeout >= CLIENT_TIMEOUT {
                    self.warnings.push(slow(reading, line, &what));
                }
                self.sources.push(source);
            }
        }
    }

    fn read_routes(&mut self, reading: &mut Reading<'_>, root: &Fields<'_>) {
        let Some(at) = root.get(reading, "route") else { return };
        let Some(list) = at.value.get_ref().as_array() else {
            reading.fault(at.line, "route must be a list of tables; write [[route]] before each");
            return;
        };
        if list.len() > ROUTES_MAX {
            reading.fault(at.line, format!("more than {ROUTES_MAX} routes"));
            return;
        }
        for value in list.iter() {
            let line = reading.line(value.span().start);
            if let Some(mut fields) = Fields::open(reading, value, line, "route")
                && let Some(route) = self.read_route(reading, &mut fields)
            {
                if let Some(same) = self.routes.iter().find(|other| other.name == route.name) {
                    let message = format!("route \"{}\" has the name of the route on line {}", route.name, same.line);
                    reading.fault(line, message);
                }
                self.routes.push(Arc::new(route));
            }
        }
    }

    fn read_route(&mut self, reading: &mut Reading<'_>, fields: &mut Fields<'_>) -> Option<Route> {
        let key = fields.required(reading, "key", "\"user:{id}\"");
        let name = fields.string(reading, "name").or(key);
        if let Some(name) = name {
            fields.rename(format!("route \"{}\"", name.value.escape_debug()));
            if name.value.is_empty() || name.value.chars().any(char::is_control) {
                reading.fault(name.line, format!("{}: its name must be printable", fields.what()));
            }
        }
        fields.refuse_unknown(reading, ROUTE_FIELDS);
        let what = fields.what().to_owned();
        let template = key.and_then(|at| note(reading, &what, at, Template::parse));
        let query = fields.required(reading, "query", "\"SELECT … WHERE id = {id}\"");
        let query = query.and_then(|at| Some(At { value: note(reading, &what, at, Query::parse)?, line: at.line }));
        let shape = read_shape(reading, fields);
        let source = self.read_source_name(reading, fields);
        let terms = read_terms(reading, fields);
        let max_value_bytes = fields.number(reading, "max_value_bytes", 1 << 20, 1..=512 << 20) as usize;
        let compress_threshold = fields.get(reading, "compress_threshold").is_some();
        let compress_threshold =
            compress_threshold.then(|| fields.number(reading, "compress_threshold", 0, 0..=512 << 20) as usize);
        let rows_many = read_rows(reading, fields, shape);
        let max_rows = fields.number(reading, "max_rows", 1000, 1..=1_000_000) as usize;
        let batch_max = fields.number(reading, "batch_max", 64, 1..=1000) as usize;
        let databases = read_databases(reading, fields);
        let is_pooled = source.and_then(|index| self.sources.get(index)).is_some_and(|source| source.is_pooled);
        let writes = read_writes(reading, fields, template.as_ref(), shape, is_pooled);
        let (load_timeout, slow_query) = self.read_times(reading, fields, source);
        let (template, query, mut terms) = (template?, query?, terms?);
        let captures = pair(reading, &what, &template, &query)?;
        if shape == Some(Shape::List) && !query.value.is_ordered() {
            let text = format!("{what}: the query has no ORDER BY, so its list may come in another order each time");
            self.warnings.push(reading.warning(query.line, text));
        }
        let feed = source.and_then(|index| self.sources.get(index)).and_then(|source| source.feed.as_ref());
        let dependencies = read_dependencies(reading, fields, feed, (&template, &query.value, &captures));
        if let Some(source) = source.and_then(|index| self.sources.get(index)) {
            terms.horizon = Arc::clone(&source.horizon);
            terms.horizon.allow(load_timeout);
        }
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Some(Route {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name?.value.into(),
            key: template,
            query: query.value,
            captures,
            shape: shape?,
            terms: Arc::new(terms),
            source: source?,
            rows_many,
            max_rows,
            batch_max,
            max_value_bytes,
            compress_threshold,
            databases: databases?,
            load_timeout,
            slow_query,
            is_fenced: feed.is_some_and(|feed| feed.mode == Mode::Wal) || writes.mode == WriteMode::Through,
            scripts: fields.yes(reading, "scripts"),
            dependencies,
            writes,
            fields: fields.texts(),
            stats: RouteStats::default(),
            line: fields.line,
        })
    }

    /// `load_timeout` and `slow_query`.
    fn read_times(
        &mut self,
        reading: &mut Reading<'_>,
        fields: &Fields<'_>,
        source: Option<usize>,
    ) -> (Duration, Duration) {
        let source = source.and_then(|index| self.sources.get(index));
        let (inherited, slow_query) =
            source.map_or((LOAD_TIMEOUT, SLOW_QUERY), |source| (source.load_timeout, source.slow_query));
        let load_timeout = fields.duration_or(reading, "load_timeout", inherited);
        if load_timeout >= CLIENT_TIMEOUT && load_timeout != inherited {
            self.warnings.push(slow(reading, fields.line, fields.what()));
        }
        (load_timeout, fields.duration_or(reading, "slow_query", slow_query))
    }

    fn read_source_name(&self, reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<usize> {
        let names: Vec<&str> = self.sources.iter().map(|source| &*source.name).collect();
        let Some(at) = fields.string(reading, "source") else {
            let message = match names.len() {
                1 => return Some(0),
                0 => "there is no source to load from; write one as [source.main] with a url".to_owned(),
                _ => format!("source is missing, and there are several: {}", names.join(", ")),
            };
            // A source that is there but faulty was reported already.
            if !reading.faults.iter().any(|fault| fault.message.starts_with("source ")) {
                reading.fault(fields.line, format!("{}: {message}", fields.what()));
            }
            return None;
        };
        let index = names.iter().position(|name| *name == at.value);
        if index.is_none() {
            let message =
                format!("{}: there is no source \"{}\"; the file has: {}", fields.what(), at.value, names.join(", "));
            reading.fault(at.line, message);
        }
        index
    }

    /// Refuses templates that share a key, where they share a database.
    fn check_overlaps(&self, reading: &mut Reading<'_>) {
        let Err(overlaps) = Routes::build(&self.routes) else { return };
        for Overlap { first, second, key } in overlaps {
            let (first, second) = (&self.routes[first], &self.routes[second]);
            let message = format!(
                "route \"{}\" overlaps route \"{}\" (line {}): both match the key \"{}\"",
                second.name,
                first.name,
                first.line,
                key.escape_ascii()
            );
            reading.fault(second.line, message);
        }
    }
}

/// How long an absent row is remembered where nothing else is said, unless `ttl` is shorter.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// By how much a value's life is shortened at random, at most, where nothing else is said.
const JITTER_PERCENT: u64 = 10;
fn slow(reading: &Reading<'_>, line: usize, what: &str) -> Fault {
    let text = "load_timeout is 5 s or more: many clients give up after 5 s, before the error could reach them";
    reading.warning(line, format!("{what}: {text}"))
}

fn read_shape(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<Shape> {
    let Some(at) = fields.string(reading, "as") else { return Some(Shape::Json) };
    let shape = Shape::ALL.into_iter().find(|shape| shape.name() == at.value);
    if shape.is_none() {
        let names = Shape::ALL.map(|shape| format!("\"{}\"", shape.name())).join(", ");
        reading.fault(
            at.line,
            format!("{}: as must be one of {names}, not \"{}\"", fields.what(), at.value.escape_debug()),
        );
    }
    shape
}

/// Whether a value is made of many rows: always that of a list or a set; by `rows = "many"` that of JSON or a hash.
fn read_rows(reading: &mut Reading<'_>, fields: &Fields<'_>, shape: Option<Shape>) -> bool {
    let is_many = matches!(shape, Some(Shape::List | Shape::Set | Shape::Zset));
    let Some(at) = fields.string(reading, "rows") else { return is_many };
    let fault = match (at.value, shape) {
        ("one", _) if is_many => "rows = \"one\" does not go with a list or a set, which is made of all rows",
        ("one", _) => return false,
        ("many", Some(Shape::String)) => "rows = \"many\" does not go with as = \"string\"",
        ("many", _) => return true,
        _ => "rows must be \"one\" or \"many\"",
    };
    reading.fault(at.line, format!("{}: {fault}", fields.what()));
    is_many
}

/// How long what the route loads may be served.
fn read_terms(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<Terms> {
    if fields.get(reading, "ttl").is_none() {
        reading.fault(fields.line, format!("{} has no ttl; write one such as ttl = \"1h\"", fields.what()));
    }
    let negative_ttl = fields.duration(reading, "negative_ttl").map(|at| at.value);
    let mut window = |name: &str| fields.duration(reading, name).map_or(Duration::ZERO, |at| at.value);
    let (stale_while_revalidate, stale_if_error) = (window("stale_while_revalidate"), window("stale_if_error"));
    let refresh_ahead = fields.duration(reading, "refresh_ahead");
    let jitter_percent = fields.number(reading, "jitter_percent", JITTER_PERCENT, 0..=50) as u32;
    let at = fields.duration(reading, "ttl")?;
    let ttl = at.value;
    if ttl.is_zero() {
        reading.fault(at.line, format!("{}: ttl must be longer than nothing", fields.what()));
    }
    if let Some(ahead) = refresh_ahead
        && ahead.value >= ttl / 2
    {
        let message = format!("{}: refresh_ahead must be shorter than half of ttl", fields.what());
        reading.fault(ahead.line, message);
    }
    Some(Terms {
        ttl,
        jitter_percent,
        refresh_ahead: refresh_ahead.map_or(Duration::ZERO, |at| at.value),
        stale_while_revalidate,
        stale_if_error,
        negative_ttl: negative_ttl.unwrap_or(NEGATIVE_TTL.min(ttl)),
        ..Terms::default()
    })
}

fn read_databases(reading: &mut Reading<'_>, fields: &Fields<'_>) -> Option<Databases> {
    let Some(at) = fields.get(reading, "databases") else { return Some(Databases::Some(vec![0])) };
    let value = at.value.get_ref();
    if value.as_str() == Some("all") {
        return Some(Databases::All);
    }
    let numbers = value.as_array().filter(|list| !list.is_empty()).map(|list| {
        list.iter().map(|entry| whole(entry.get_ref()).and_then(|n| u32::try_from(n).ok())).collect::<Option<Vec<_>>>()
    });
    if let Some(Some(mut numbers)) = numbers {
        numbers.sort_unstable();
        numbers.dedup();
        return Some(Databases::Some(numbers));
    }
    let message =
        format!("{}: databases must be a list such as [0, 1], or \"all\", not {}", fields.what(), kind(value));
    reading.fault(at.line, message);
    None
}

/// Which capture each `$n` takes. The key and the query must name the same parameters: a capture the query does not
/// use would make many keys of one row, and an invalidation of it would not know them.
fn pair(reading: &mut Reading<'_>, what: &str, key: &Template, query: &At<Query>) -> Option<Vec<usize>> {
    let list = |names: &[Box<str>]| names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
    let mut sound = true;
    for name in key.names().iter().filter(|name| !query.value.names().contains(name)) {
        sound = false;
        reading.fault(query.line, format!("{what}: the query does not use {{{name}}} of the key"));
    }
    let mut captures = Vec::new();
    for name in query.value.names() {
        match key.names().iter().position(|known| known == name) {
            Some(index) => captures.push(index),
            None => {
                sound = false;
                let known = match key.names() {
                    [] => "captures nothing".into(),
                    names => format!("captures {}", list(names)),
                };
                reading.fault(query.line, format!("{what}: the query uses {{{name}}}, but the key {known}"));
            }
        }
    }
    sound.then_some(captures)
}

/// Routes compiled for lookup.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// For each database that some route names: the routes that serve it.
    named: Vec<(u32, Matcher)>,
    /// For every other database: the routes that serve all.
    others: Matcher,
}

impl Routes {
    /// Compiles routes; refuses those that share a key in one database.
    pub fn build(routes: &[Arc<Route>]) -> Result<Routes, Vec<Overlap>> {
        let mut numbers: Vec<u32> = Vec::new();
        for route in routes {
            if let Databases::Some(list) = &route.databases {
                numbers.extend(list);
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        let matcher = |serves: &dyn Fn(&Route) -> bool| {
            let keys: Vec<_> = routes.iter().map(|route| serves(route).then_some(&route.key)).collect();
            Matcher::build(&keys)
        };
        let others = matcher(&|route| route.databases == Databases::All)?;
        let mut named = Vec::new();
        for number in numbers {
            named.push((number, matcher(&|route| route.databases.include(number))?));
        }
        Ok(Routes { routes: routes.to_vec(), named, others })
    }

    /// The route that loads `key` of logical database `database`, with the key's captures.
    pub fn find(&self, database: u32, key: &[u8]) -> Option<(&Arc<Route>, Captures)> {
        let named = self.named.iter().find(|(number, _)| *number == database);
        let matcher = named.map_or(&self.others, |(_, matcher)| matcher);
        let (index, captures) = matcher.find(key)?;
        Some((&self.routes[index], captures))
    }

    /// All routes, in the file's order.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.routes
    }
}
