//! What a route says of writes to its keys: whether they are allowed, the statements that take them to the database,
//! and which other keys are void after one. Read from the file; knows no database.

use super::fields::{Fields, Reading, texts_of};
use super::query::Query;
use super::routes::Shape;
use super::template::{Captures, Template};

const STATEMENTS: &[&str] = &["set", "hset", "del"];

/// `writes`: what becomes of a command that writes to a key of the route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// It changes the cached copy alone, until the `ttl` is over or the key is removed. The default.
    #[default]
    Local,
    /// It is refused.
    Reject,
    /// Its statement runs in the database; then the cached copy goes, and the next read loads what has become of it.
    Through,
}

impl WriteMode {
    const ALL: [WriteMode; 3] = [WriteMode::Local, WriteMode::Reject, WriteMode::Through];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            WriteMode::Local => "local",
            WriteMode::Reject => "reject",
            WriteMode::Through => "through",
        }
    }
}

/// Which of a route's statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `set`: the key becomes a string. For SET, SETEX, PSETEX.
    Set,
    /// `hset`: fields of the key's hash are set. For HSET, HMSET.
    Hset,
    /// `del`: the key's row goes. For DEL, UNLINK.
    Del,
}

impl Verb {
    /// All of them, in the order of [`Writes::statements`].
    pub(super) const ALL: [Verb; 3] = [Verb::Set, Verb::Hset, Verb::Del];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        STATEMENTS[self as usize]
    }
}

/// What a parameter of a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// A capture of the key.
    Capture(usize),
    /// `{value}`: of SET, or of the field.
    Value,
    /// `{field}`: the statement runs once for each field.
    Field,
    /// `{name}`: the value of the field of this name; NULL if the command does not set it.
    Named(Box<str>),
}

/// A statement that takes a write to the database.
#[derive(Clone, Debug)]
pub struct Statement {
    pub(super) query: Query,
    /// For `$1`, `$2` ….
    pub(super) arguments: Vec<Argument>,
}

impl Statement {
    /// True if it runs once for each field.
    pub(super) fn is_by_field(&self) -> bool {
        self.arguments.contains(&Argument::Field)
    }

    /// True if it has a place for the value of a field.
    pub(super) fn takes(&self, field: &[u8]) -> bool {
        self.is_by_field()
            || self
                .arguments
                .iter()
                .any(|argument| matches!(argument, Argument::Named(name) if name.as_bytes() == field))
    }
}

/// A key that is void after a write.
#[derive(Clone, Debug)]
pub struct Dependent {
    template: Template,
    /// For each of its captures, which of the written key's it is.
    captures: Vec<usize>,
}

impl Dependent {
    /// The key that goes with a written one.
    pub fn key(&self, captures: &Captures, written: &[u8]) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self.captures.iter().map(|index| captures.get(written, *index)).collect();
        self.template.render(&values)
    }
}

/// What a route says of writes.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    /// `writes`.
    pub mode: WriteMode,
    /// `[route.write]`, by [`Verb`].
    pub(super) statements: [Option<Statement>; 3],
    /// `invalidates`: the keys that are void after a write.
    pub invalidates: Vec<Dependent>,
}

impl Writes {
    /// The statement for a command, if there is one.
    pub fn statement(&self, verb: Verb) -> Option<&Statement> {
        self.statements[verb as usize].as_ref()
    }

    /// True if a write to a key of the route is anything but a write to the cache.
    pub fn are_watched(&self) -> bool {
        self.mode != WriteMode::Local || !self.invalidates.is_empty()
    }
}

/// Reads `writes`, `write` and `invalidates`. `is_pooled`: the source's connections are shared by transaction, and their
/// statements with them.
pub(super) fn read_writes(
    reading: &mut Reading<'_>,
    fields: &Fields<'_>,
    key: Option<&Template>,
    shape: Option<Shape>,
    is_pooled: bool,
) -> Writes {
    let mode = fields.string(reading, "writes").map_or(Some(WriteMode::Local), |at| {
        let mode = WriteMode::ALL.into_iter().find(|mode| mode.name() == at.value);
        if mode.is_none() {
            let message = format!("{}: writes must be \"local\", \"reject\" or \"through\"", fields.what());
            reading.fault(at.line, message);
        }
        mode
    });
    let mut writes = Writes { mode: mode.unwrap_or_default(), ..Writes::default() };
    let table = fields.get(reading, "write");
    let fault = match (mode, &table) {
        (Some(WriteMode::Through), None) => {
            Some("writes = \"through\" needs statements; write set, hset or del under [route.write]")
        }
        (Some(WriteMode::Through), _) if is_pooled => {
            Some("writes = \"through\" does not go with prepare = \"unnamed\" of its source")
        }
        (Some(WriteMode::Local | WriteMode::Reject), Some(_)) => {
            Some("statements of [route.write] run only where writes = \"through\"")
        }
        _ => None,
    };
    if let Some(fault) = fault {
        reading.fault(table.map_or(fields.line, |at| at.line), format!("{}: {fault}", fields.what()));
    }
    let what = format!("{}: write", fields.what());
    if let (Some(at), Some(key)) = (table, key)
        && let Some(table) = Fields::open(reading, at.value, at.line, &what)
    {
        table.refuse_unknown(reading, STATEMENTS);
        for verb in Verb::ALL {
            writes.statements[verb as usize] = read_statement(reading, &table, verb, key, shape);
        }
    }
    if let Some(key) = key {
        writes.invalidates = read_dependents(reading, fields, key);
        if mode == Some(WriteMode::Reject) && !writes.invalidates.is_empty() {
            let message = format!("{}: where writes = \"reject\" there is none that invalidates", fields.what());
            reading.fault(fields.line, message);
        }
    }
    writes
}

fn read_statement(
    reading: &mut Reading<'_>,
    table: &Fields<'_>,
    verb: Verb,
    key: &Template,
    shape: Option<Shape>,
) -> Option<Statement> {
    let at = table.string(reading, verb.name())?;
    let parsed = statement(verb, at.value, key, shape);
    parsed.map_err(|message| reading.fault(at.line, format!("{}: {}: {message}", table.what(), verb.name()))).ok()
}

fn statement(verb: Verb, text: &str, key: &Template, shape: Option<Shape>) -> Result<Statement, String> {
    let fits = match (verb, shape) {
        (Verb::Set, Some(shape)) => matches!(shape, Shape::Json | Shape::String),
        (Verb::Hset, Some(shape)) => shape == Shape::Hash,
        _ => true,
    };
    if !fits {
        let shapes = if verb == Verb::Set { "\"json\" or \"string\"" } else { "\"hash\"" };
        return Err(format!("it goes with as = {shapes}"));
    }
    let query = Query::parse_write(text)?;
    let arguments: Vec<Argument> = query
        .names()
        .iter()
        .map(|name| match key.names().iter().position(|known| known == name) {
            Some(index) => Argument::Capture(index),
            None if **name == *"value" => Argument::Value,
            None if **name == *"field" => Argument::Field,
            None => Argument::Named(name.clone()),
        })
        .collect();
    // Without one of the captures it would write more rows than the key's.
    if let Some(index) = (0..key.names().len()).find(|index| !arguments.contains(&Argument::Capture(*index))) {
        return Err(format!("it does not use {{{}}} of the key", key.names()[index]));
    }
    let has = |argument: Argument| arguments.contains(&argument);
    let named =
        arguments.iter().find_map(|argument| if let Argument::Named(name) = argument { Some(name) } else { None });
    match verb {
        Verb::Set if !has(Argument::Value) => Err("it does not use {value}, the string that is set".into()),
        Verb::Set | Verb::Del if named.is_some() || has(Argument::Field) => {
            let name = named.map_or("field", |name| name);
            Err(format!("it uses {{{name}}}, which the key does not capture"))
        }
        Verb::Del if has(Argument::Value) => Err("it uses {value}, but there is none".into()),
        Verb::Hset if has(Argument::Field) != has(Argument::Value) || has(Argument::Field) == named.is_some() => {
            Err("it must use {field} and {value}, and then runs for each field, or the fields by their names".into())
        }
        _ => Ok(Statement { query, arguments }),
    }
}

fn read_dependents(reading: &mut Reading<'_>, fields: &Fields<'_>, key: &Template) -> Vec<Dependent> {
    let Some(at) = fields.get(reading, "invalidates") else { return Vec::new() };
    let Some(texts) = texts_of(at.value.get_ref()) else {
        let message = format!("{}: invalidates must be a list of keys such as [\"orders:{{id}}\"]", fields.what());
        reading.fault(at.line, message);
        return Vec::new();
    };
    let mut dependents = Vec::new();
    for text in texts {
        match dependent(text, key) {
            Ok(dependent) => dependents.push(dependent),
            Err(message) => {
                reading
                    .fault(at.line, format!("{}: invalidates \"{}\": {message}", fields.what(), text.escape_debug()));
            }
        }
    }
    dependents
}

fn dependent(text: &str, key: &Template) -> Result<Dependent, String> {
    let template = Template::parse(text)?;
    let mut captures = Vec::new();
    for name in template.names() {
        let place = key.names().iter().position(|known| known == name);
        captures.push(place.ok_or_else(|| format!("the key captures no {{{name}}}"))?);
    }
    Ok(Dependent { template, captures })
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn read(more: &str) -> Result<Config, String> {
        let text = format!(
            "[source.a]\nurl = 'postgres://u@h/d'\n[[route]]\nkey = 'u:{{id}}:{{n}}'\nttl = '1h'\n\
             query = 'SELECT a, b FROM t WHERE id = {{id}} AND n = {{n}}'\n{more}\n"
        );
        Config::parse("r", &text, None).map_err(|faults| format!("{faults:?}"))
    }

    #[test]
    fn statements_and_dependents_are_read() {
        let config = read(
            "as = 'hash'\nwrites = 'through'\ninvalidates = ['all:{n}', 'x']\n[route.write]\n\
             hset = 'UPDATE t SET a = {a} WHERE id = {id} AND n = {n}'\ndel = 'DELETE FROM t WHERE id = {id} AND n = {n};'",
        );
        let route = std::sync::Arc::clone(&config.expect("read").routes[0]);
        let hset = route.writes.statement(super::Verb::Hset).expect("a statement");
        assert_eq!(hset.query.sql(), "UPDATE t SET a = $1 WHERE id = $2 AND n = $3");
        assert!(hset.takes(b"a") && !hset.takes(b"id") && !hset.is_by_field() && route.writes.are_watched());
        assert!(route.writes.statement(super::Verb::Set).is_none());
        let matcher = crate::source::Matcher::build(&[Some(&route.key)]).expect("one template");
        let (_, captures) = matcher.find(b"u:7:x").expect("it matches");
        let keys: Vec<_> = route.writes.invalidates.iter().map(|other| other.key(&captures, b"u:7:x")).collect();
        assert_eq!(keys, [Some(b"all:x".to_vec()), Some(b"x".to_vec())]);
        assert!(!read("").expect("read").routes[0].writes.are_watched());
    }

    #[test]
    fn faults_are_named() {
        let through = "writes = 'through'\n[route.write]\n";
        for (more, fault) in [
            ("writes = 'back'".into(), "\\\"local\\\", \\\"reject\\\" or \\\"through\\\""),
            ("writes = 'through'".into(), "needs statements"),
            ("[route.write]\nset = 'x'".into(), "only where writes"),
            ("writes = 'reject'\ninvalidates = ['x']".into(), "none that invalidates"),
            ("invalidates = ['x:{z}']".into(), "captures no {z}"),
            ("invalidates = 'x'".into(), "must be a list"),
            (format!("{through}set = 'SELECT {{id}} {{n}} {{value}}'\nput = 'x'"), "no field"),
            (format!("{through}set = 'DROP TABLE t'"), "INSERT, UPDATE"),
            (format!("{through}set = 'UPDATE t SET a = {{value}} WHERE id = {{id}}'"), "does not use {n}"),
            (format!("{through}set = 'UPDATE t SET a = 1 WHERE id = {{id}} AND n = {{n}}'"), "does not use {value}"),
            (
                format!("{through}set = 'UPDATE t SET a = {{value}}, b = {{b}} WHERE id = {{id}} AND n = {{n}}'"),
                "uses {b}",
            ),
            (format!("{through}hset = 'UPDATE t SET a = {{a}} WHERE id = {{id}} AND n = {{n}}'"), "goes with as"),
            (
                format!("{through}del = 'DELETE FROM t WHERE id = {{id}} AND n = {{n}} AND a = {{value}}'"),
                "there is none",
            ),
            (
                format!("as = 'hash'\n{through}hset = 'INSERT INTO t VALUES ({{id}}, {{n}}, {{field}})'"),
                "for each field",
            ),
        ] {
            let faults = read(&more).expect_err(&more);
            assert!(faults.contains(fault), "{more}: {faults}");
        }
    }
}
