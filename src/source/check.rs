//! `cenote check`: reads a routes file, asks the database about every query, and says for each route what its
//! parameters and columns are, or what is wrong and on which line.
//!
//! Runs no query: it prepares them. What needs a database that cannot be reached is named as not checked.

use super::Cause;
use super::fault::Fault;
use super::feed::{self, Examined};
use super::plan;
use super::postgres::connector;
use super::postgres_link::PgLink;
use super::postgres_statement::{Failure, Prepared, prepare};
use super::postgres_write::prepare_write;
use super::routes::{Config, Databases, Route};
use super::source_config::SourceConfig;
use super::writes::Verb;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Checks the routes file at `path` and writes the report to `out`. `url` replaces the URL of every source. Fails on a
/// fault, and where `url` was given but cannot be reached. Makes a runtime of its own: not to be called from one.
pub fn run_check(path: &Path, url: Option<&str>, out: &mut dyn Write) -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(report(path, url, out)));
    match result {
        Ok(Verdict { faults: 0, unreachable: 0 }) => ExitCode::SUCCESS,
        // Without a database nothing is proven wrong; one that was named on the command line was expected to answer.
        Ok(Verdict { faults: 0, .. }) if url.is_none() => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    faults: usize,
    /// Sources that could not be asked.
    unreachable: usize,
}

async fn report(path: &Path, url: Option<&str>, out: &mut dyn Write) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let config = match Config::read(path, url) {
        Ok(config) => config,
        Err(faults) => {
            for fault in &faults {
                writeln!(out, "{fault}")?;
            }
            writeln!(out, "{}; the queries were not checked", count(faults.len(), "fault"))?;
            verdict.faults = faults.len();
            return Ok(verdict);
        }
    };
    for warning in &config.warnings {
        writeln!(out, "{warning} (warning)")?;
    }
    let mut unchecked = 0;
    for (index, source) in config.sources.iter().enumerate() {
        let routes: Vec<Arc<Route>> = config.routes.iter().filter(|route| route.source == index).cloned().collect();
        write!(out, "source {}: {}: ", source.name, source.target)?;
        let link = match timeout(source.pool.connect_timeout, connector(source, &routes).open()).await {
            Ok(Ok(link)) => link,
            failed => {
                let reason = match failed {
                    Ok(Err(refusal)) => refusal.detail,
                    _ => format!("no answer within {:?}", source.pool.connect_timeout),
                };
                writeln!(out, "cannot connect: {reason}")?;
                verdict.unreachable += 1;
                unchecked += routes.len();
                for route in &routes {
                    heading(out, path, route)?;
                    unprepared(out, route)?;
                }
                continue;
            }
        };
        writeln!(out, "connected")?;
        let examined = feed::examine(source, &routes).await;
        if let Some(problem) = examined.as_ref().and_then(|examined| examined.problem.as_ref()) {
            writeln!(out, "  changes are not told: {problem} (warning)")?;
        }
        for route in &routes {
            heading(out, path, route)?;
            match in_time(source.pool.connect_timeout, prepare(&link.client, route, source.is_pooled)).await {
                Ok(prepared) => {
                    describe(out, route, &prepared)?;
                    verdict.faults += writes(out, (path, source), route, &link).await?;
                    changes(out, route, examined.as_ref())?;
                    plans(out, source, route).await?;
                }
                Err(message) => {
                    verdict.faults += 1;
                    let file = path.display().to_string().into();
                    writeln!(out, "  fault       {}", Fault { file, line: route.line, message })?;
                }
            }
        }
    }
    let (sources, routes) = (count(config.sources.len(), "source"), count(config.routes.len(), "route"));
    write!(out, "{sources}, {routes}, {}", count(verdict.faults, "fault"))?;
    match unchecked {
        0 => writeln!(out)?,
        _ => writeln!(out, "; not checked for want of a database: the queries of {}", count(unchecked, "route"))?,
    }
    Ok(verdict)
}

/// What is prepared within `limit`, or why it is not.
async fn in_time<T>(limit: Duration, preparing: impl Future<Output = Result<T, Failure>>) -> Result<T, String> {
    match timeout(limit, preparing).await {
        Ok(prepared) => prepared.map_err(|failure| failure.into_trouble().detail),
        Err(_) => Err(Cause::TimedOut.words().into()),
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

fn heading(out: &mut dyn Write, path: &Path, route: &Route) -> io::Result<()> {
    writeln!(out, "\nroute {} ({}:{})", route.name, path.display(), route.line)?;
    if *route.name != *route.key.text() {
        writeln!(out, "  key         {}", route.key.text())?;
    }
    let shape = route.shape.name();
    let rows = if route.rows_many { format!(" of up to {} rows", route.max_rows) } else { String::new() };
    let databases = match &route.databases {
        Databases::All => "all databases".into(),
        Databases::Some(list) => format!("database {}", comma(list)),
    };
    let (ttl, negative_ttl) = (length(route.terms.ttl), length(route.terms.negative_ttl));
    writeln!(out, "  settings    as {shape}{rows}, ttl {ttl}, negative_ttl {negative_ttl}, {databases}")
}

/// A duration as the file would give it.
fn length(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    match units.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit)) {
        Some((unit, letters)) => format!("{}{letters}", ms / unit),
        None => "0s".into(),
    }
}

fn comma<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn describe(out: &mut dyn Write, route: &Route, prepared: &Prepared) -> io::Result<()> {
    let names = route.query.names().iter().zip(&prepared.parameter_types);
    let parameters: Vec<String> = names.map(|(name, ty)| format!("{name} {ty}")).collect();
    let columns: Vec<String> = prepared.column_types.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
    if !parameters.is_empty() {
        writeln!(out, "  parameters  {}", comma(&parameters))?;
    }
    writeln!(out, "  columns     {}", comma(&columns))?;
    match &prepared.batch {
        Ok(_) => writeln!(out, "  batches     up to {} keys a query", route.batch_max),
        Err(reason) => writeln!(out, "  batches     none, each key has a query of its own: {reason}"),
    }
}

/// What becomes of writes; prepares the statements for them. Returns how many of these are wrong.
async fn writes(
    out: &mut dyn Write,
    (path, source): (&Path, &SourceConfig),
    route: &Route,
    link: &PgLink,
) -> io::Result<usize> {
    let limit = source.pool.connect_timeout;
    let (mut names, mut faults) = (Vec::new(), Vec::new());
    for verb in Verb::ALL {
        let Some(statement) = route.writes.statement(verb) else { continue };
        names.push(verb.name());
        let Err(detail) = in_time(limit, prepare_write(&link.client, statement)).await else { continue };
        let message = format!("the statement {} of [route.write]: {detail}", verb.name());
        faults.push(Fault { file: path.display().to_string().into(), line: route.line, message });
    }
    if route.writes.are_watched() {
        let statements = if names.is_empty() { String::new() } else { format!(" by {}", comma(&names)) };
        let dependents = match route.writes.invalidates.len() {
            0 => String::new(),
            number => format!("; {} void after one", count(number, "key")),
        };
        writeln!(out, "  writes      {}{statements}{dependents}", route.writes.mode.name())?;
    }
    for fault in &faults {
        writeln!(out, "  fault       {fault}")?;
    }
    Ok(faults.len())
}

/// Whether changes of the route's rows are told, in words.
fn changes(out: &mut dyn Write, route: &Route, examined: Option<&Examined>) -> io::Result<()> {
    let Some((told, words)) = examined.and_then(|examined| examined.routes.get(&route.id)) else { return Ok(()) };
    for (index, words) in words.iter().enumerate() {
        match (told, index) {
            (true, 0) => writeln!(out, "  changes     {words}")?,
            (true, _) => writeln!(out, "  warning     {words}")?,
            (false, _) => writeln!(out, "  changes     not told: {words} (warning)")?,
        }
    }
    Ok(())
}

/// What is wrong with the query's plan. That it cannot be explained is no fault: the query itself could be prepared.
async fn plans(out: &mut dyn Write, source: &SourceConfig, route: &Route) -> io::Result<()> {
    let limit = source.pool.connect_timeout;
    let Ok(Ok(plan)) =
        timeout(limit, plan::explain_query(&connector(source, &[]), &route.query.sql(), route.query.names())).await
    else {
        return Ok(());
    };
    for finding in plan.findings {
        writeln!(out, "  plan        {} (warning)", finding.words)?;
        if let Some(index) = finding.index {
            writeln!(out, "              {index}")?;
        }
    }
    Ok(())
}

fn unprepared(out: &mut dyn Write, route: &Route) -> io::Result<()> {
    if !route.query.names().is_empty() {
        writeln!(out, "  parameters  {}", comma(route.query.names()))?;
    }
    writeln!(out, "  not checked types and columns")
}

#[cfg(test)]
mod tests {
    use super::super::testdb::server;
    use super::*;

    /// Checks a file's text; returns the report and whether it passed.
    fn check(name: &str, text: &str, url: Option<&str>) -> (String, bool) {
        let path = std::env::temp_dir().join(format!("cenote-check-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        let code = run_check(&path, url, &mut out);
        std::fs::remove_file(&path).unwrap();
        let report = String::from_utf8(out).unwrap().replace(&path.display().to_string(), "FILE");
        (report, format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS))
    }

    const ROUTES: &str = "[source.main]\nurl = 'postgres://a:s3cret@localhost:1/d'\n\n[[route]]\nname = 'user'\n\
                          key = 'user:{id}'\nquery = 'SELECT oid, relname FROM pg_class WHERE oid = {id}'\nttl = '90m'\n\n\
                          [[route]]\nkey = 'odd:{id}'\nquery = 'SELECT x FROM nowhere WHERE id = {id}'\nttl = '1h'\n";

    #[test]
    fn describes_routes_and_names_faults() {
        let (report, passed) = check("full", ROUTES, Some(&server().url()));
        assert!(!passed);
        for part in [
            "user app: connected\n",
            "\nroute user (FILE:4)\n  key         user:{id}\n",
            "  settings    as json, ttl 90m, negative_ttl 5s, database 0\n",
            "  parameters  id oid\n  columns     oid oid, relname name\n",
            "fault       FILE:10: relation \"nowhere\" does not exist (SQLSTATE 42P01)\n",
            "\n1 source, 2 routes, 1 fault\n",
        ] {
            assert!(report.contains(part), "{part}\n{report}");
        }
        let good = ROUTES.replace("SELECT x FROM nowhere WHERE id", "SELECT 1 AS x WHERE 7");
        assert!(check("good", &good, Some(&server().url())).1);
    }

    #[test]
    fn without_a_database_it_says_what_it_could_not_check() {
        let (report, passed) = check("down", ROUTES, None);
        assert!(passed);
        assert!(report.contains("cannot connect"), "{report}");
        assert!(report.contains("not checked for want of a database: the queries of 2 routes"), "{report}");
        assert!(!report.contains("s3cret"), "{report}");
        assert!(!check("url", ROUTES, Some("postgres://a@localhost:1/d")).1, "a database that was named must answer");
    }

    #[test]
    fn faults_of_the_file_come_with_their_lines() {
        let (report, passed) = check("faults", &ROUTES.replace("ttl", "tll"), None);
        assert!(!passed);
        assert!(report.contains("FILE:8: route \"user\" has no field \"tll\"; did you mean \"ttl\"?"), "{report}");
        assert!(report.contains("4 faults"), "{report}");
        let gone = run_check(Path::new("/nowhere/routes.toml"), None, &mut Vec::new());
        assert_eq!(format!("{gone:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
