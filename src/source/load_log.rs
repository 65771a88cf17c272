//! The log of loads: one line for each at debug; at warn for those that failed or whose query was slow, once a second
//! for each route, as a database that is down or slow fails or slows them all. Holds no values, and no SQL.

use super::Loaded;
use super::postgres_statement::Trouble;
use super::routes::Route;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// For so long a route's further lines at warn are written at debug instead.
const PAUSE: Duration = Duration::from_secs(1);

/// A load that has ended.
pub(super) struct Line<'a> {
    pub(super) source: &'a str,
    pub(super) route: &'a Route,
    /// From its beginning, waiting for a connection included.
    pub(super) load_time: Duration,
    /// How long the database was asked.
    pub(super) query_time: Duration,
    /// The keys that it was asked for together; none if it was not asked.
    pub(super) batch: usize,
    /// Rows that it returned for the key.
    pub(super) rows: usize,
    /// What was cached was served meanwhile: it is a refresh, and nobody had to wait.
    pub(super) is_hit: bool,
}

/// What a route's lines at warn have come to.
#[derive(Debug, Default)]
pub(super) struct LoadLog {
    slow: Mutex<Pause>,
    failed: Mutex<Pause>,
}

#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    /// Lines that were not written at warn since.
    unlogged: u64,
}

impl Pause {
    /// How many lines were left out before this one; None if it is to be left out as well.
    fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.until.is_some_and(|until| now < until) {
            self.unlogged += 1;
            return None;
        }
        self.until = Some(now + PAUSE);
        Some(std::mem::take(&mut self.unlogged))
    }
}

/// Writes a line with the fields that every load has, and those given.
macro_rules! write_line {
    ($level:ident, $line:expr, $text:literal $(, $field:ident = $value:expr)*) => {
        tracing::$level!(
            source = $line.source,
            route = %$line.route.name,
            load_time_ms = $line.load_time.as_millis() as u64,
            query_time_ms = $line.query_time.as_millis() as u64,
            rows = $line.rows,
            cache_hit = $line.is_hit,
            batch = $line.batch,
            $($field = $value,)*
            $text
        )
    };
}

impl LoadLog {
    /// Writes the line of a load that ended now.
    pub(super) fn write(&self, line: &Line<'_>, now: Instant, result: &Result<Loaded, Trouble>) {
        match result {
            Ok(_) if line.query_time < line.route.slow_query => write_line!(debug, line, "loaded"),
            Ok(_) => match self.slow.lock().pass(now) {
                Some(unlogged) => write_line!(warn, line, "a load was slow", unlogged = unlogged),
                None => write_line!(debug, line, "a load was slow"),
            },
            Err(Trouble { error, detail }) => {
                let cause = error.cause.name();
                match self.failed.lock().pass(now) {
                    Some(unlogged) => {
                        write_line!(
                            warn,
                            line,
                            "a load failed",
                            cause = cause,
                            detail = detail.as_str(),
                            unlogged = unlogged
                        )
                    }
                    None => write_line!(debug, line, "a load failed", cause = cause, detail = detail.as_str()),
                }
            }
        }
    }
}

/// How long the database is at work for a load, over all its tries.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// Of the query that runs.
    started: Option<Instant>,
    /// Of those that have ended.
    time: Duration,
}

impl Stopwatch {
    pub(super) fn start(&mut self) {
        self.started = Some(Instant::now());
    }

    /// Returns how long the query took that ends.
    pub(super) fn stop(&mut self) -> Duration {
        let time = self.started.take().map_or(Duration::ZERO, |started| started.elapsed());
        self.time += time;
        time
    }

    /// The time so far, that of a query which was given up included.
    pub(super) fn time(&mut self) -> Duration {
        self.stop();
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_left_out_for_a_while_and_counted() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        assert_eq!(pause.pass(now), Some(0));
        assert_eq!((pause.pass(now), pause.pass(now + PAUSE / 2)), (None, None));
        assert_eq!(pause.pass(now + PAUSE), Some(2));
        assert_eq!(pause.pass(now + PAUSE), None);
    }

    #[test]
    fn what_was_given_up_counts_as_well() {
        let mut watch = Stopwatch::default();
        assert_eq!(watch.time(), Duration::ZERO);
        watch.start();
        let first = watch.stop();
        assert_eq!(watch.time(), first);
        watch.start();
        assert!(watch.time() >= first);
    }
}
