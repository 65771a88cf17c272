//! What is wrong with a query's plan, in words, and the index that would help.
//!
//! Reads the plan that Postgres would use for any value of the parameters (the generic one) together with the sizes and
//! indexes of its tables. It speaks up only where a load would read many rows to return few, sort many, or visit many in
//! a nested loop; small tables are read whole by every good planner. Knows plans and catalogs, no keys.

use super::feed::{literal, quote, quoted};
use super::postgres_link::Connector;
use super::session::{Problem, Session};
use serde_json::Value;
use std::collections::HashMap;

/// A load that reads fewer rows than this is fast however it reads them.
const MANY_ROWS: f64 = 2_000.0;
/// Reading this many times the rows that are kept is a waste.
const WASTE: f64 = 10.0;
/// Sorting fewer rows than this costs less than a round trip.
const SORT_ROWS: f64 = 5_000.0;
/// A nested loop that visits fewer rows than this is fast.
const LOOP_ROWS: f64 = 20_000.0;
/// Findings that are told of one plan.
const FINDINGS_MAX: usize = 16;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Many rows are read and few are kept.
    Scan,
    /// A column is cast or wrapped, so that its index cannot be used.
    Cast,
    /// All rows of a large table are needed.
    Whole,
    /// Many rows are sorted.
    Sort,
    /// Many rows are visited one by one.
    Loop,
}

/// One thing that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub fault: Fault,
    /// In words.
    pub words: String,
    /// The statement that would help.
    pub index: Option<String>,
}

/// A plan as far as people want to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What Postgres thinks it costs.
    pub cost: f64,
    /// How many rows Postgres thinks it returns.
    pub rows: f64,
    /// Its nodes, indented.
    pub lines: Vec<String>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// The tables that it reads, as SQL takes their names.
    pub tables: Vec<String>,
}

/// A table of the plan.
#[derive(Clone, Debug, Default)]
struct Table {
    /// As people write it.
    name: String,
    sql_name: String,
    rows: f64,
    /// Column to type.
    types: HashMap<String, String>,
    /// The leading expression of each index, as Postgres prints it.
    leading: Vec<String>,
}

/// Asks for the generic plan of `sql`, whose parameters are `$1` and so on, and judges it. `names` are the parameters'
/// names in the key.
pub(super) async fn explain(session: &mut Session, sql: &str, names: &[Box<str>]) -> Result<Plan, Problem> {
    let nulls = vec!["NULL"; names.len()].join(", ");
    let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    // In a transaction, for which even a pooler keeps to one connection.
    session.query("BEGIN; SET LOCAL plan_cache_mode = force_generic_plan").await?;
    let rows = async {
        session.query(&format!("PREPARE cenote_plan AS {sql}")).await?;
        session.query(&format!("EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE cenote_plan{arguments}")).await
    };
    let rows = rows.await;
    session.query("ROLLBACK; DEALLOCATE ALL").await?;
    let rows = rows?;
    let text = rows.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default();
    let json: Value = serde_json::from_str(&text).map_err(|_| Problem::new("the plan cannot be read"))?;
    let root = &json[0]["Plan"];
    let mut relations = Vec::new();
    collect(root, &mut relations);
    let mut tables = HashMap::new();
    for (schema, name) in relations {
        if let Some(table) = table(session, &schema, &name).await? {
            tables.insert((schema, name), table);
        }
    }
    Ok(judge(root, &tables, names))
}

/// The same over a connection of its own.
pub(super) async fn explain_query(connector: &Connector, sql: &str, names: &[Box<str>]) -> Result<Plan, Problem> {
    let mut session = Session::open(connector, false).await?;
    explain(&mut session, sql, names).await
}

/// The tables of a plan, each once.
fn collect(node: &Value, relations: &mut Vec<(String, String)>) {
    if let (Some(schema), Some(name)) = (node["Schema"].as_str(), node["Relation Name"].as_str()) {
        let relation = (schema.to_owned(), name.to_owned());
        if !relations.contains(&relation) {
            relations.push(relation);
        }
    }
    children(node).for_each(|child| collect(child, relations));
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    node["Plans"].as_array().into_iter().flatten()
}

async fn table(session: &mut Session, schema: &str, name: &str) -> Result<Option<Table>, Problem> {
    let full = quoted(&[schema.to_owned(), name.to_owned()]);
    let rows = session
        .query(&format!(
            "SELECT c.oid, greatest(c.reltuples, 0), (SELECT json_object_agg(a.attname, t.typname) FROM \
             pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND \
             a.attnum > 0), (SELECT json_agg(pg_catalog.pg_get_indexdef(i.indexrelid, 1, true)) FROM pg_catalog.pg_index i \
             WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL) FROM pg_catalog.pg_class c \
             WHERE c.oid = {}::regclass",
            literal(&full)
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let text = |column: usize| row.get(column).cloned().flatten().unwrap_or_default();
    let name = if schema == "public" { name.to_owned() } else { format!("{schema}.{name}") };
    Ok(Some(Table {
        name,
        sql_name: full,
        rows: text(1).parse().unwrap_or(0.0),
        types: serde_json::from_str(&text(2)).unwrap_or_default(),
        leading: serde_json::from_str(&text(3)).unwrap_or_default(),
    }))
}

type Tables = HashMap<(String, String), Table>;

fn judge(root: &Value, tables: &Tables, names: &[Box<str>]) -> Plan {
    let mut plan = Plan {
        cost: number(root, "Total Cost"),
        rows: number(root, "Plan Rows"),
        tables: tables.values().map(|table| table.sql_name.clone()).collect(),
        ..Plan::default()
    };
    plan.tables.sort();
    let mut judge = Judge { tables, names, plan: &mut plan };
    judge.node(root, &Above { share: 1.0, kept: f64::INFINITY, is_summed: false, loops: 1.0, join: None, depth: 0 });
    plan.findings.truncate(FINDINGS_MAX);
    plan
}

fn number(node: &Value, field: &str) -> f64 {
    node[field].as_f64().unwrap_or(0.0)
}

fn text<'v>(node: &'v Value, field: &str) -> &'v str {
    node[field].as_str().unwrap_or_default()
}

/// What a node's parents mean for it.
#[derive(Clone)]
struct Above<'v> {
    /// The share of its rows that are asked for at all (LIMIT).
    share: f64,
    /// How many rows the nearest parent that drops rows keeps.
    kept: f64,
    /// All of its rows are summed up in one.
    is_summed: bool,
    /// How often it runs.
    loops: f64,
    /// The condition of the join right above, if that is a hash or merge join.
    join: Option<&'v str>,
    depth: usize,
}

struct Judge<'a> {
    tables: &'a Tables,
    names: &'a [Box<str>],
    plan: &'a mut Plan,
}

impl<'a> Judge<'a> {
    fn node(&mut self, node: &'a Value, above: &Above<'a>) {
        self.plan.lines.push(self.line(node, above.depth));
        let kind = text(node, "Node Type");
        let rows = number(node, "Plan Rows");
        let mut below = Above { depth: above.depth + 1, join: None, ..above.clone() };
        match kind {
            "Limit" => {
                let whole = children(node).next().map_or(rows, |child| number(child, "Plan Rows"));
                below.share = above.share * (rows / whole.max(1.0)).min(1.0);
                below.kept = above.kept.min(rows);
            }
            // These need all of their rows, whatever is asked of them.
            "Sort" => {
                self.sort(node, above);
                below.share = 1.0;
            }
            "Aggregate" | "WindowAgg" | "Hash" | "Materialize" | "SetOp" | "Unique" => {
                below.share = 1.0;
                if kind == "Materialize" {
                    // What was read once is kept.
                    below.loops = 1.0;
                }
                if kind == "Aggregate" {
                    below.kept = f64::INFINITY;
                    below.is_summed = true;
                }
            }
            "Hash Join" | "Merge Join" => {
                below.join = Some(text(node, if kind == "Hash Join" { "Hash Cond" } else { "Merge Cond" }));
                below.kept = above.kept.min(rows);
                below.share = 1.0;
                below.is_summed = false;
            }
            "Nested Loop" => return self.nested_loop(node, above, below),
            "Seq Scan" => self.scan(node, above),
            "Index Scan" | "Index Only Scan" if node["Index Cond"].is_null() && node["Order By"].is_null() => {
                self.scan(node, above);
            }
            _ => {}
        }
        if kind == "Hash" {
            below.join = above.join;
        }
        for child in children(node) {
            // A subplan in the list of columns runs for each row.
            let is_sub = text(child, "Parent Relationship") == "SubPlan";
            let loops = if is_sub { below.loops * rows.max(1.0) } else { below.loops };
            self.node(child, &Above { loops, kept: if is_sub { 1.0 } else { below.kept }, ..below.clone() });
        }
    }

    fn line(&self, node: &Value, depth: usize) -> String {
        let mut line = "  ".repeat(depth) + text(node, "Node Type");
        for (word, field) in [(" using ", "Index Name"), (" on ", "Relation Name")] {
            if let Some(name) = node[field].as_str() {
                line += word;
                line += name;
            }
        }
        line += &format!(" (rows={}, cost={:.1})", number(node, "Plan Rows"), number(node, "Total Cost"));
        for field in ["Index Cond", "Recheck Cond", "Filter", "Hash Cond", "Merge Cond", "Join Filter"] {
            if let Some(condition) = node[field].as_str() {
                line += &format!(" {}: {}", field.to_lowercase(), self.name_parameters(condition));
            }
        }
        line
    }

    /// `$1` as the key writes it.
    fn name_parameters(&self, condition: &str) -> String {
        let mut named = condition.to_owned();
        for (index, name) in self.names.iter().enumerate().rev() {
            named = named.replace(&format!("${}", index + 1), &format!("{{{name}}}"));
        }
        named
    }

    fn found(&mut self, fault: Fault, words: String, index: Option<String>) {
        if !self.plan.findings.iter().any(|known| known.words == words) {
            self.plan.findings.push(Finding { fault, words, index });
        }
    }

    fn table(&self, node: &Value) -> Option<&'a Table> {
        self.tables.get(&(text(node, "Schema").to_owned(), text(node, "Relation Name").to_owned()))
    }

    /// A scan that reads its table from end to end, or would if it were not stopped.
    fn scan(&mut self, node: &'a Value, above: &Above<'a>) {
        let Some(table) = self.table(node) else { return };
        let rows = number(node, "Plan Rows");
        let read = table.rows.max(rows) * above.share.min(1.0);
        if read * above.loops < MANY_ROWS {
            return;
        }
        let alias = text(node, "Alias");
        let filter = text(node, "Filter");
        let kept = rows.min(above.kept).max(1.0);
        let name = &table.name;
        if above.is_summed && filter.is_empty() && read >= MANY_ROWS * WASTE {
            let words = format!("reads all of {name} ({:.0} rows) to sum them up", table.rows);
            return self.found(Fault::Whole, words, None);
        }
        if read < kept * WASTE && above.loops < WASTE {
            return;
        }
        let mut columns = Vec::new();
        for condition in [filter, above.join.unwrap_or_default()] {
            // What the tables are joined by counts only where nothing else is compared.
            if !columns.is_empty() {
                break;
            }
            for term in terms(condition) {
                if let Some(side) = own_side(term, alias) {
                    match self.judge_side(table, alias, side, term) {
                        Side::Column(column) => columns.push(quote_plainly(&column)),
                        Side::Expression(expression) => columns.push(format!("({expression})")),
                        Side::Cast(words) => return self.found(Fault::Cast, words, None),
                    }
                }
            }
        }
        columns.dedup();
        let times = if above.loops >= 2.0 { format!(", {:.0} times", above.loops) } else { String::new() };
        if columns.is_empty() && filter.is_empty() {
            let words = format!("reads all of {name} ({:.0} rows){times}", table.rows);
            return self.found(Fault::Whole, words, None);
        }
        if columns.is_empty() {
            let words = format!(
                "reads all {:.0} rows of {name}{times} to find about {kept:.0}: no index can serve the condition {}",
                table.rows,
                self.name_parameters(filter)
            );
            return self.found(Fault::Scan, words, None);
        }
        let has_index = |column: &&String| table.leading.iter().any(|known| known == *column);
        if filter.is_empty() && columns.iter().any(|column| has_index(&column)) {
            // The planner knew, and thought that the other table has too many rows for it.
            return;
        }
        if let Some(leading) = columns.iter().find(has_index) {
            let words = format!(
                "reads {read:.0} rows of {name}{times} though {leading} has an index: a value of it is found in about \
                 {rows:.0} rows"
            );
            return self.found(Fault::Scan, words, None);
        }
        let words = format!(
            "reads {read:.0} rows of {name}{times} to find about {kept:.0}: there is no index on {}",
            columns.join(", ")
        );
        let index = format!("CREATE INDEX CONCURRENTLY ON {} ({});", table.sql_name, columns.join(", "));
        self.found(Fault::Scan, words, Some(index));
    }

    /// What the table's own side of a comparison allows.
    fn judge_side(&self, table: &Table, alias: &str, side: &str, term: &str) -> Side {
        let plain = unqualified(side, alias);
        if let Some(column) = as_column(&plain) {
            return Side::Column(column);
        }
        let Some((column, cast)) = as_cast(&plain) else { return Side::Expression(plain) };
        let ty = table.types.get(&column).map_or("", String::as_str);
        // The same bytes under another name: Postgres looks through it.
        if cast == "text" && matches!(ty, "varchar" | "text") {
            return Side::Column(column);
        }
        let parameter = self.names.iter().enumerate().find(|(index, _)| term.contains(&format!("${}", index + 1)));
        let cure = match parameter {
            Some((_, name)) => format!("compare {column} = {{{name}}} as {}", type_words(ty)),
            None => format!("make both sides {}", type_words(ty)),
        };
        let which = match table.leading.iter().any(|known| *known == quote_plainly(&column)) {
            true => format!("so its index cannot be used; {cure}"),
            false => format!("and no index could be used; {cure}, and index it"),
        };
        Side::Cast(format!(
            "reads all {:.0} rows of {}: the condition casts the column {column} ({}) to {cast}, {which}",
            table.rows,
            table.name,
            type_words(ty)
        ))
    }

    fn sort(&mut self, node: &'a Value, above: &Above<'a>) {
        let Some(child) = children(node).next() else { return };
        let rows = number(child, "Plan Rows");
        if rows * above.loops < SORT_ROWS || rows < above.kept.min(rows) * 2.0 {
            return;
        }
        let keys: Vec<&str> = node["Sort Key"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let words = format!("sorts about {rows:.0} rows by {} for each load", keys.join(", "));
        // Only where all comes from one table that is scanned right below.
        let index = self.table(child).and_then(|table| {
            let alias = text(child, "Alias");
            let mut columns: Vec<String> = ["Index Cond", "Recheck Cond", "Filter"]
                .iter()
                .flat_map(|field| terms(text(child, field)))
                .filter_map(|term| as_column(&unqualified(own_side(term, alias)?, alias)))
                .map(|column| quote_plainly(&column))
                .collect();
            columns.extend(keys.iter().map(|key| unqualified(key, alias)));
            columns.dedup();
            (!columns.is_empty())
                .then(|| format!("CREATE INDEX CONCURRENTLY ON {} ({});", table.sql_name, columns.join(", ")))
        });
        self.found(Fault::Sort, words, index);
    }

    fn nested_loop(&mut self, node: &'a Value, above: &Above<'a>, below: Above<'a>) {
        let mut plans = children(node);
        let (Some(outer), Some(inner)) = (plans.next(), plans.next()) else { return };
        let outer_rows = number(outer, "Plan Rows").max(1.0);
        let inner_rows = number(inner, "Plan Rows");
        self.node(outer, &below);
        let loops = below.loops * outer_rows * above.share.min(1.0);
        let before = self.plan.findings.len();
        let kept = number(node, "Plan Rows");
        self.node(inner, &Above { loops, kept: below.kept.min(inner_rows.max(1.0)), share: 1.0, ..below.clone() });
        let visited = loops * inner_rows.max(1.0);
        let is_told = self.plan.findings.len() > before;
        if !is_told && visited >= LOOP_ROWS && visited >= above.kept.min(kept) {
            let words = format!("visits about {visited:.0} rows one by one, in a nested loop of {loops:.0} rounds");
            self.found(Fault::Loop, words, None);
        }
        for other in plans {
            self.node(other, &below);
        }
    }
}

/// A table's side of a comparison.
enum Side {
    Column(String),
    /// An index on the expression would serve it.
    Expression(String),
    /// Why no index can serve it.
    Cast(String),
}

/// The terms of a condition that must all hold; none where only one of several must.
fn terms(condition: &str) -> Vec<&str> {
    let condition = inside(condition);
    let parts = split(condition, " AND ");
    if split(condition, " OR ").len() > 1 {
        return Vec::new();
    }
    if parts.len() == 1 { vec![condition] } else { parts.into_iter().flat_map(terms).collect() }
}

/// Without parentheses around the whole.
fn inside(mut text: &str) -> &str {
    while let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        let mut depth = 0i32;
        let closes_early = inner.chars().any(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth < 0
        });
        if closes_early {
            break;
        }
        text = inner;
    }
    text
}

/// The parts of a text between separators outside of parentheses and quotes.
fn split<'t>(text: &'t str, separator: &str) -> Vec<&'t str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0i32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            _ if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The side of `left = right` that is of the table, where the other is not.
fn own_side<'t>(term: &'t str, alias: &str) -> Option<&'t str> {
    let sides = split(term, " = ");
    let [left, right] = sides.as_slice() else { return None };
    let is_own = |side: &str| side.contains(&format!("{alias}.")) || side.contains(&format!("{}.", quote(alias)));
    match (is_own(left), is_own(right)) {
        (true, false) => Some(left),
        (false, true) => Some(right),
        _ => None,
    }
}

fn unqualified(text: &str, alias: &str) -> String {
    inside(text).replace(&format!("{alias}."), "").replace(&format!("{}.", quote(alias)), "")
}

/// A column by itself, without quotes.
fn as_column(text: &str) -> Option<String> {
    let text = inside(text);
    if let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return (!inner.replace("\"\"", "").contains('"')).then(|| inner.replace("\"\"", "\""));
    }
    let is_name = !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
    is_name.then(|| text.to_owned())
}

/// `(column)::type`.
fn as_cast(text: &str) -> Option<(String, String)> {
    let (column, ty) = text.rsplit_once("::")?;
    Some((as_column(column)?, ty.to_owned()))
}

/// A name as Postgres prints it: in quotes only where it must be.
fn quote_plainly(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { quote(name) }
}

/// Types by the names that SQL gives them.
fn type_words(ty: &str) -> &str {
    match ty {
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "bool" => "boolean",
        "bpchar" => "character",
        "timestamptz" => "timestamp with time zone",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_cut_where_they_may_be() {
        assert_eq!(terms("((a.x = $1) AND (a.y = 'b AND c'))"), ["a.x = $1", "a.y = 'b AND c'"]);
        assert!(terms("((a.x = $1) OR (a.y = 2))").is_empty());
        assert_eq!(own_side("(u.id)::text = $1", "u"), Some("(u.id)::text"));
        assert_eq!(own_side("$1 = u.id", "u"), Some("$1 = u.id".rsplit(" = ").next().unwrap()));
        assert_eq!(own_side("u.a = u.b", "u"), None);
        assert_eq!(as_cast("(id)::text"), Some(("id".into(), "text".into())));
        assert_eq!(as_cast("lower((name)::text)"), None);
        assert_eq!(as_column("\"a b\"").as_deref(), Some("a b"));
        assert_eq!(quote_plainly("Name"), "\"Name\"");
    }
}
