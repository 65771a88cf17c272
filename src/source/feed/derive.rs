//! Which rows a query depends on, read from its text: a simple query of one table where each parameter is compared
//! with a column, or what `depends` declares.
//!
//! Reads SQL only as far as it must to be sure; what it is not sure of it refuses, with the reason. Knows no database:
//! whether the names exist, and are tables, is found out later.

use super::super::template::is_name;

/// Rows of one table that the values of a route depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The table's name as Postgres is to look it up: quoted, with its schema if one was given.
    pub table: String,
    /// For each capture of the key, in the key's order, the column that holds its value. Empty: any change of the table
    /// concerns every key of the route.
    pub columns: Vec<String>,
}

/// A piece of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A name or keyword without quotes, as Postgres folds it.
    Word(String),
    /// A quoted name.
    Name(String),
    /// `$n`, from 0.
    Parameter(usize),
    /// A number or a string.
    Literal,
    Symbol(char),
    /// `::`
    Cast,
}

use Token::{Cast, Literal, Name, Parameter, Symbol, Word};

/// Words that end the list of tables or the condition.
const CLAUSES: &[&str] = &["where", "group", "having", "window", "order", "limit", "offset", "fetch", "for"];
/// Words that make a query more than one simple SELECT.
const COMPOUND: &[&str] =
    &["union", "intersect", "except", "join", "with", "lateral", "tablesample", "values", "table"];

/// What a query with `parameters` placeholders (`$1` …) reads. The columns are by parameter. The error says why the
/// text does not tell.
pub(super) fn derive(sql: &str, parameters: usize) -> Result<Dependency, String> {
    let tokens = tokens(sql);
    let is = |at: usize, word: &str| matches!(tokens.get(at), Some(Word(found)) if found == word);
    if !is(0, "select") {
        return Err("it is not one plain SELECT".into());
    }
    if let Some(Word(word)) = tokens.iter().find(|token| matches!(token, Word(word) if COMPOUND.contains(&&**word))) {
        return Err(format!("it holds {}", word.to_uppercase()));
    }
    if tokens.iter().filter(|token| **token == Word("select".into())).count() > 1 {
        return Err("it holds more than one SELECT".into());
    }
    let depths = depths(&tokens);
    // `IS DISTINCT FROM` is no list of tables.
    let from = (1..tokens.len()).find(|at| depths[*at] == 0 && is(*at, "from") && !is(at - 1, "distinct"));
    let mut at = from.ok_or("it reads no table")? + 1;
    if is(at, "only") {
        at += 1;
    }
    let (parts, next) = name(&tokens, at).ok_or("it reads something other than one table by its name")?;
    at = next;
    let mut known_as = parts.last().cloned().unwrap_or_default();
    if is(at, "as") {
        at += 1;
    }
    match tokens.get(at) {
        Some(Word(word)) if !CLAUSES.contains(&&**word) => (known_as, at) = (word.clone(), at + 1),
        Some(Name(name)) => (known_as, at) = (name.clone(), at + 1),
        _ => {}
    }
    let is_clause = |at: &usize| depths[*at] == 0 && matches!(&tokens[*at], Word(word) if CLAUSES.contains(&&**word));
    if at < tokens.len() && !is_clause(&at) {
        return Err("it reads more than one table".into());
    }
    let mut columns: Vec<Option<String>> = vec![None; parameters];
    if is(at, "where") {
        let end = (at + 1..tokens.len()).find(is_clause).unwrap_or(tokens.len());
        read_condition(&tokens[at + 1..end], &known_as, &mut columns)?;
    }
    match columns.iter().position(Option::is_none) {
        Some(missing) => Err(format!("${} is not compared with a column by =", missing + 1)),
        None => Ok(Dependency { table: quoted(&parts), columns: columns.into_iter().flatten().collect() }),
    }
}

/// Reads `column = $n` out of a condition's terms, all of which must hold.
fn read_condition(tokens: &[Token], table: &str, columns: &mut [Option<String>]) -> Result<(), String> {
    let depths = depths(tokens);
    let at_top = |word: &str| (0..tokens.len()).any(|at| depths[at] == 0 && tokens[at] == Word(word.into()));
    if at_top("or") {
        return Err("its condition holds OR".into());
    }
    if at_top("between") {
        // Its AND is not the one between terms.
        return Err("its condition holds BETWEEN".into());
    }
    let mut start = 0;
    for end in 0..=tokens.len() {
        if end < tokens.len() && !(depths[end] == 0 && tokens[end] == Word("and".into())) {
            continue;
        }
        if let Some((parameter, column)) = comparison(stripped(&tokens[start..end]), table)
            && let Some(slot) = columns.get_mut(parameter)
        {
            slot.get_or_insert(column);
        }
        start = end + 1;
    }
    Ok(())
}

/// Without parentheses around the whole.
fn stripped(mut tokens: &[Token]) -> &[Token] {
    while let [Symbol('('), inner @ .., Symbol(')')] = tokens
        && depths(inner).iter().all(|depth| *depth >= 0)
    {
        tokens = inner;
    }
    tokens
}

/// `column = $n` or `$n = column`, with or without a cast of `$n`.
fn comparison(tokens: &[Token], table: &str) -> Option<(usize, String)> {
    let middle = tokens.iter().position(|token| *token == Symbol('='))?;
    // Not part of `<=` and the like.
    let (left, right) = (&tokens[..middle], &tokens[middle + 1..]);
    let (left, right) = (stripped(left), stripped(right));
    match (parameter(left), column(left, table), parameter(right), column(right, table)) {
        (Some(parameter), _, _, Some(column)) | (_, Some(column), Some(parameter), _) => Some((parameter, column)),
        _ => None,
    }
}

/// `$n`, `$n::type` or `CAST($n AS type)`.
fn parameter(tokens: &[Token]) -> Option<usize> {
    let is_type = |tokens: &[Token]| {
        !tokens.is_empty()
            && tokens.iter().all(|token| matches!(token, Word(_) | Name(_) | Literal | Symbol('.' | '(' | ')' | ',')))
    };
    match tokens {
        [Parameter(index)] => Some(*index),
        [Parameter(index), Cast, rest @ ..] if is_type(rest) => Some(*index),
        [Word(cast), Symbol('('), Parameter(index), Word(as_), rest @ .., Symbol(')')]
            if cast == "cast" && as_ == "as" && is_type(rest) =>
        {
            Some(*index)
        }
        _ => None,
    }
}

/// `column` or `table.column`.
fn column(tokens: &[Token], table: &str) -> Option<String> {
    let text = |token: &Token| match token {
        Word(text) | Name(text) => Some(text.clone()),
        _ => None,
    };
    match tokens {
        [column] => text(column),
        [.., qualifier, Symbol('.'), column] if tokens.len() <= 5 && text(qualifier)? == table => text(column),
        _ => None,
    }
}

/// A name of up to three parts (`schema.table`), and where it ends.
fn name(tokens: &[Token], mut at: usize) -> Option<(Vec<String>, usize)> {
    let mut parts = Vec::new();
    loop {
        match tokens.get(at)? {
            Word(text) | Name(text) => parts.push(text.clone()),
            _ => return None,
        }
        at += 1;
        match tokens.get(at) {
            Some(Symbol('.')) if parts.len() < 3 => at += 1,
            Some(Symbol('(' | '.')) => return None,
            _ => return Some((parts, at)),
        }
    }
}

/// A name as SQL takes it, whatever is in it.
pub(in super::super) fn quoted(parts: &[String]) -> String {
    parts.iter().map(|part| quote(part)).collect::<Vec<_>>().join(".")
}

/// One name in quotes.
pub(in super::super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reads one entry of `depends`: `orders(user_id -> id)`, `orders(user_id -> id, kind -> k)`, or `settings`, any change
/// of which concerns the whole route. `captures` are the key's.
pub(super) fn declared(text: &str, captures: &[Box<str>]) -> Result<Dependency, String> {
    let wrong = || format!("\"{}\" is not of the form \"orders(user_id -> id)\"", text.escape_debug());
    if text.contains('\0') {
        return Err(wrong());
    }
    let tokens = tokens(text);
    let open = tokens.iter().position(|token| *token == Symbol('(')).unwrap_or(tokens.len());
    let (parts, end) = name(&tokens[..open], 0).ok_or_else(wrong)?;
    if end != open {
        return Err(wrong());
    }
    let table = quoted(&parts);
    let inner = match &tokens[open..] {
        [] => return Ok(Dependency { table, columns: Vec::new() }),
        [Symbol('('), inner @ .., Symbol(')')] => inner,
        _ => return Err(wrong()),
    };
    let mut columns: Vec<Option<String>> = vec![None; captures.len()];
    for pair in inner.split(|token| *token == Symbol(',')) {
        let [Word(column) | Name(column), Symbol('-'), Symbol('>'), Word(capture) | Name(capture)] = pair else {
            return Err(wrong());
        };
        let place = captures.iter().position(|known| **known == **capture || known.eq_ignore_ascii_case(capture));
        let Some(place) = place.filter(|_| is_name(capture)) else {
            return Err(format!("\"{}\": the key has no capture {{{capture}}}", text.escape_debug()));
        };
        columns[place] = Some(column.clone());
    }
    match columns.iter().position(Option::is_none) {
        Some(missing) => Err(format!(
            "\"{}\" says nothing of {{{}}}; name a column for each capture of the key, or the table alone, so that any \
             change of it concerns the whole route",
            text.escape_debug(),
            captures[missing]
        )),
        None => Ok(Dependency { table, columns: columns.into_iter().flatten().collect() }),
    }
}

/// How deep in parentheses or brackets each token stands; the parentheses themselves count as inside.
fn depths(tokens: &[Token]) -> Vec<i32> {
    let mut depth = 0;
    let mut depths = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Symbol('(' | '[') => {
                depth += 1;
                depths.push(depth);
            }
            Symbol(')' | ']') => {
                depths.push(depth);
                depth -= 1;
                if depth < 0 {
                    depths.pop();
                    depths.push(-1);
                }
            }
            _ => depths.push(depth),
        }
    }
    depths
}

/// Cuts SQL, which is known to close its quotes and comments, into tokens.
fn tokens(sql: &str) -> Vec<Token> {
    let mut rest = sql;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            _ if first.is_whitespace() => (None, first.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find(['\n', '\r']).unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, comment(rest)),
            '\'' => (Some(Literal), string(rest, '\'', false)),
            '"' => {
                let length = string(rest, '"', false);
                let inner = rest.get(1..length.saturating_sub(1)).unwrap_or_default();
                (Some(Name(inner.replace("\"\"", "\""))), length)
            }
            '$' => dollar(rest),
            ':' if rest.starts_with("::") => (Some(Cast), 2),
            _ if first.is_alphabetic() || first == '_' => {
                let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
                let word = rest[..length].to_lowercase();
                match rest[length..].starts_with('\'') && ["e", "b", "x", "n"].contains(&&*word) {
                    true => (Some(Literal), length + string(&rest[length..], '\'', word == "e")),
                    false => (Some(Word(word)), length),
                }
            }
            _ if first.is_ascii_digit() => {
                let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '.')).unwrap_or(rest.len());
                (Some(Literal), length)
            }
            _ => (Some(Symbol(first)), first.len_utf8()),
        };
        tokens.extend(token);
        rest = &rest[length.max(1).min(rest.len())..];
    }
    tokens
}

/// The length of a quoted text; a doubled quote does not end it.
fn string(text: &str, quote: char, backslashes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if backslashes => {
                chars.next();
            }
            _ if char == quote => match chars.peek() {
                Some((_, next)) if *next == quote => {
                    chars.next();
                }
                _ => return at + 1,
            },
            _ => {}
        }
    }
    text.len()
}

fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// `$1`, or a dollar-quoted string.
fn dollar(text: &str) -> (Option<Token>, usize) {
    let tag = text[1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(text.len(), |end| end + 1);
    if let Ok(number) = text[1..tag].parse::<usize>() {
        return (Some(Parameter(number.saturating_sub(1))), tag);
    }
    let delimiter = text.get(..tag + 1).unwrap_or(text);
    let inner = &text[delimiter.len()..];
    let length = inner.find(delimiter).map_or(text.len(), |end| 2 * delimiter.len() + end);
    (Some(Literal), length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn finds(sql: &str, table: &str, columns: &[&str]) {
        let found = derive(sql, columns.len()).unwrap_or_else(|why| panic!("{sql}: {why}"));
        assert_eq!(
            (found.table.as_str(), found.columns.iter().map(|c| &**c).collect::<Vec<_>>()),
            (table, columns.into())
        );
    }

    #[track_caller]
    fn refuses(sql: &str, parameters: usize, why: &str) {
        let found = derive(sql, parameters).expect_err(sql);
        assert!(found.contains(why), "{sql}: {found}");
    }

    #[test]
    fn finds_the_column_of_each_parameter() {
        finds("SELECT id, name FROM users WHERE id = $1", "\"users\"", &["id"]);
        finds("select * from only shop.\"Users\" as u where u.id = $1::int", "\"shop\".\"Users\"", &["id"]);
        finds("SELECT * FROM t WHERE ($2 = b) AND a=CAST($1 AS bigint) AND live", "\"t\"", &["a", "b"]);
        finds("SELECT count(*) FROM orders o WHERE o.user_id = $1 ORDER BY 1 LIMIT 3", "\"orders\"", &["user_id"]);
        finds("SELECT a IS DISTINCT FROM b FROM t WHERE \"a b\" = $1", "\"t\"", &["a b"]);
        finds("SELECT extract(year FROM at) FROM t WHERE id = $1 -- AND x\n", "\"t\"", &["id"]);
        finds("SELECT * FROM Settings", "\"settings\"", &[]);
        finds("SELECT 'x OR y' FROM t WHERE t.id = $1 AND (a = 1 OR b = 2) FOR SHARE", "\"t\"", &["id"]);
        finds("SELECT id FROM t WHERE id = $1 AND name = $2::varchar(20) GROUP BY id", "\"t\"", &["id", "name"]);
    }

    #[test]
    fn refuses_what_it_is_not_sure_of() {
        refuses("SELECT * FROM a, b WHERE a.id = $1", 1, "more than one table");
        refuses("SELECT * FROM a JOIN b USING (id) WHERE id = $1", 1, "JOIN");
        refuses("SELECT (SELECT 1) FROM a WHERE id = $1", 1, "more than one SELECT");
        refuses("WITH x AS (SELECT 1) SELECT * FROM x WHERE id = $1", 1, "plain SELECT");
        refuses("SELECT * FROM f(1) WHERE id = $1", 1, "other than one table");
        refuses("SELECT * FROM t WHERE id = $1 OR name = $1", 1, "OR");
        refuses("SELECT * FROM t WHERE a BETWEEN 1 AND id = $1", 1, "BETWEEN");
        refuses("SELECT * FROM t WHERE lower(id) = $1", 1, "$1 is not compared");
        refuses("SELECT * FROM t WHERE id::text = $1", 1, "$1 is not compared");
        refuses("SELECT * FROM t WHERE NOT id = $1", 1, "$1 is not compared");
        refuses("SELECT * FROM t WHERE id <= $1", 1, "$1 is not compared");
        refuses("SELECT * FROM t WHERE id = $1 + 1", 1, "$1 is not compared");
        refuses("SELECT * FROM t WHERE id = $1 LIMIT $2", 2, "$2 is not compared");
        refuses("SELECT * FROM t u WHERE t.id = $1", 1, "$1 is not compared");
        refuses("SELECT $1::int", 1, "no table");
        refuses("SELECT 1 FROM a UNION SELECT 2 FROM b", 0, "UNION");
    }

    #[test]
    fn reads_what_is_declared() {
        let captures: Vec<Box<str>> = vec!["t".into(), "id".into()];
        let read = |text: &str| declared(text, &captures);
        let full = Dependency { table: "\"shop\".\"orders\"".into(), columns: vec!["tenant".into(), "User".into()] };
        assert_eq!(read("shop.orders(\"User\" -> id, tenant->t)"), Ok(full));
        assert_eq!(read("settings"), Ok(Dependency { table: "\"settings\"".into(), columns: vec![] }));
        assert!(read("orders(user_id -> id)").unwrap_err().contains("nothing of {t}"));
        assert!(read("orders(user_id -> uid)").unwrap_err().contains("no capture {uid}"));
        for text in ["", "orders(", "orders()", "orders(a)", "orders(a -> )", "a b", "1", "orders(a -> t) x", "f(x).y"]
        {
            assert!(read(text).unwrap_err().contains("not of the form"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(SELECT |FROM |t |WHERE |= |\\$1|\\$|'|\"|é|/\\*|\\*/|--|\\(|\\)|E'|::|\\$a\\$|AND |->|,|\\.| ){0,24}") {
            let _ = derive(&text, 1);
            let _ = declared(&text, &["id".into()]);
        }
    }
}
