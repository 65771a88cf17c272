//! A route's SQL: finds the `{name}` placeholders outside of strings, quoted names and comments, and refuses what is
//! not one SELECT, or, of a statement that writes, not one statement.
//!
//! Kept in parts, so that other forms (a batch of keys) can be written from the same text. Knows SQL's words, not what
//! they mean; Postgres judges the rest at PREPARE.

use super::template::is_name;

/// A query with its placeholders found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    parts: Vec<Part>,
    /// The distinct placeholders in order of appearance: the first is `$1`.
    names: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// Index into `names`.
    Placeholder(usize),
}

impl Query {
    /// Reads a query; the error says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Query, String> {
        let reads = ["select", "with", "values", "table"];
        Query::read(text, &reads, "the query must be one SELECT (or WITH, VALUES, TABLE)")
    }

    /// Reads a statement that writes.
    pub fn parse_write(text: &str) -> Result<Query, String> {
        let writes = ["insert", "update", "delete", "merge", "with", "select"];
        Query::read(text, &writes, "it must be one INSERT, UPDATE, DELETE or MERGE (or WITH, or SELECT of a function)")
    }

    fn read(text: &str, first_words: &[&str], fault: &str) -> Result<Query, String> {
        if text.contains('\0') {
            return Err("the query holds a NUL character".into());
        }
        let mut reader = Reader { text, at: 0, parts: Vec::new(), names: Vec::new(), copied: 0 };
        reader.run(first_words, fault)?;
        Ok(Query { parts: reader.parts, names: reader.names })
    }

    /// The distinct placeholders; the one at index 0 is `$1`.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Whether it says in which order rows come: true for any text with ORDER BY in it.
    pub fn is_ordered(&self) -> bool {
        let text = self.sql().to_ascii_lowercase();
        let words: Vec<&str> =
            text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
        words.windows(2).any(|pair| pair == ["order", "by"])
    }

    /// The SQL with `$1`, `$2` … for the placeholders.
    pub fn sql(&self) -> String {
        self.sql_with(|index| format!("${}", index + 1))
    }

    /// The SQL with other text for each placeholder, by its index in [`Query::names`].
    pub fn sql_with(&self, text: impl Fn(usize) -> String) -> String {
        let piece = |part: &Part| match part {
            Part::Text(text) => text.to_string(),
            Part::Placeholder(index) => text(*index),
        };
        self.parts.iter().map(piece).collect()
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    parts: Vec<Part>,
    names: Vec<Box<str>>,
    /// Up to where the text is in `parts` already.
    copied: usize,
}

impl Reader<'_> {
    fn run(&mut self, first_words: &[&str], fault: &str) -> Result<(), String> {
        let mut first_word = None;
        let mut ended = None;
        loop {
            self.skip_blank()?;
            let Some(byte) = self.peek(0) else { break };
            if ended.is_some() && byte != b';' {
                return Err("the query holds more than one statement; a route runs exactly one".into());
            }
            let start = self.at;
            match byte {
                b';' => {
                    ended.get_or_insert(self.at);
                    self.at += 1;
                }
                b'\'' => self.quoted(b'\'', false)?,
                b'"' => self.quoted(b'"', false)?,
                b'$' => self.dollar()?,
                b'{' => self.placeholder()?,
                b'}' => return Err("a \"}\" without its \"{\" outside of a string".into()),
                _ if is_word(byte) => {
                    self.word()?;
                    first_word.get_or_insert(start..self.at);
                }
                _ => self.at += 1,
            }
        }
        let word = first_word.map_or("", |range| &self.text[range]);
        if !first_words.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(fault.into());
        }
        // Without the final semicolon and what follows it, so that the query can stand in parentheses.
        let end = ended.unwrap_or(self.text.len());
        self.copy_until(end);
        Ok(())
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn copy_until(&mut self, end: usize) {
        if self.copied < end {
            self.parts.push(Part::Text(self.text[self.copied..end].into()));
        }
        self.copied = end;
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), String> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(byte), _) if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                (Some(b'-'), Some(b'-')) => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                }
                (Some(b'/'), Some(b'*')) => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// `/* … */`, which nests.
    fn comment(&mut self) -> Result<(), String> {
        let mut depth = 0usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (Some(b'*'), Some(b'/')) => (depth, self.at) = (depth - 1, self.at + 2),
                (Some(_), _) => self.at += 1,
                (None, _) => return Err("a comment in the query is not closed with \"*/\"".into()),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// A string or a quoted name; a doubled quote reads as two strings side by side, which comes to the same.
    fn quoted(&mut self, quote: u8, backslashes: bool) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.peek(0) {
                Some(b'\\') if backslashes => self.at += 2,
                Some(byte) => {
                    self.at += 1;
                    if byte == quote {
                        return Ok(());
                    }
                }
                None => return Err(format!("a {} in the query is not closed", char::from(quote))),
            }
        }
    }

    /// `$tag$ … $tag$`, or a `$1`, which is ours to number.
    fn dollar(&mut self) -> Result<(), String> {
        let rest = &self.text[self.at + 1..];
        let tag_len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let tag = &rest[..tag_len];
        if tag.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("${tag} in the query; write a capture of the key instead, as in {{id}}"));
        }
        if !rest[tag_len..].starts_with('$') {
            return Err("a \"$\" in the query that opens no dollar-quoted string".into());
        }
        let delimiter = &self.text[self.at..self.at + tag_len + 2];
        let inside = self.at + delimiter.len();
        match self.text[inside..].find(delimiter) {
            Some(length) => {
                self.at = inside + length + delimiter.len();
                Ok(())
            }
            None => Err(format!("a {delimiter} in the query is not closed")),
        }
    }

    /// A name, a number or a keyword; `E'…'` is the one string in which a backslash escapes.
    fn word(&mut self) -> Result<(), String> {
        let start = self.at;
        while self.peek(0).is_some_and(|byte| is_word(byte) || byte == b'$') {
            self.at += 1;
        }
        if self.peek(0) == Some(b'\'') && self.text[start..self.at].eq_ignore_ascii_case("e") {
            self.quoted(b'\'', true)?;
        }
        Ok(())
    }

    fn placeholder(&mut self) -> Result<(), String> {
        let rest = &self.text[self.at + 1..];
        let name = rest.find('}').map(|end| &rest[..end]);
        let Some(name) = name.filter(|name| is_name(name)) else {
            return Err("a \"{\" in the query, outside of a string, that opens no {name} of the key".into());
        };
        let index = self.names.iter().position(|known| **known == *name).unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        self.copy_until(self.at);
        self.parts.push(Part::Placeholder(index));
        self.at += name.len() + 2;
        self.copied = self.at;
        Ok(())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sql(text: &str) -> String {
        Query::parse(text).expect(text).sql()
    }

    fn fault(text: &str) -> String {
        Query::parse(text).expect_err(text)
    }

    #[test]
    fn numbers_placeholders_by_name() {
        let query = Query::parse("SELECT * FROM t WHERE a = {a}::int AND b={b} OR c = {a}").unwrap();
        assert_eq!(query.sql(), "SELECT * FROM t WHERE a = $1::int AND b=$2 OR c = $1");
        assert_eq!(query.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn leaves_quotes_and_comments_alone() {
        for text in [
            "SELECT '{a,b}'::int[], 'it''s {x}', \"{odd}\" FROM t",
            "SELECT E'\\'{x}' || e'\\\\'",
            "SELECT $${x}$$ || $q$ {y} $$ {z} $q$",
            "SELECT 1 -- {x}",
            "SELECT /* {x} /* {y} */ {z} */ 1",
            "SELECT a$1$ FROM t",
            "SELECT é FROM t",
        ] {
            assert_eq!(sql(text), text);
        }
        assert_eq!(sql("SELECT the'{x}' , {x}"), "SELECT the'{x}' , $1");
    }

    #[test]
    fn takes_one_select_without_its_semicolon() {
        assert_eq!(sql("/* c */ -- d\n select 1 ; -- done\n"), "/* c */ -- d\n select 1 ");
        assert_eq!(sql("(VALUES (1)) ; ;"), "(VALUES (1)) ");
        assert_eq!(sql("TABLE t"), "TABLE t");
        assert_eq!(sql("WITH x AS (SELECT {a}) TABLE x"), "WITH x AS (SELECT $1) TABLE x");
        assert!(fault("SELECT 1; SELECT 2").contains("more than one statement"));
        assert!(fault("DELETE FROM t").contains("must be one SELECT"));
        assert!(fault("").contains("must be one SELECT"));
        assert!(fault("-- SELECT").contains("must be one SELECT"));
    }

    #[test]
    fn refuses_what_is_open_or_out_of_place() {
        assert!(fault("SELECT 'x").contains("not closed"));
        assert!(fault("SELECT \"x").contains("not closed"));
        assert!(fault("SELECT $a$ x $b$").contains("not closed"));
        assert!(fault("SELECT /* x").contains("not closed"));
        assert!(fault("SELECT {").contains("opens no {name}"));
        assert!(fault("SELECT {a b}").contains("opens no {name}"));
        assert!(fault("SELECT }").contains("without its"));
        assert!(fault("SELECT $1").contains("instead"));
        assert!(fault("SELECT 1 $ 2").contains("opens no"));
        assert!(fault("SELECT E'\\").contains("not closed"));
        assert!(fault("SELECT '\0'").contains("NUL"));
    }

    proptest! {
        #[test]
        fn never_panics_and_keeps_every_byte(text in "(SELECT |)([a{}'\"$;éE/*\\\\ \\-\n]|\\{a\\}){0,24}") {
            if let Ok(query) = Query::parse(&text) {
                let mut copy = query.sql();
                for (index, name) in query.names().iter().enumerate() {
                    copy = copy.replace(&format!("${}", index + 1), &format!("{{{name}}}"));
                }
                prop_assert!(text.starts_with(&copy), "{:?} {:?}", text, copy);
            }
        }
    }
}
