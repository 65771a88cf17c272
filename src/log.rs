//! The log of the program: where its lines go, what they look like, and what is logged of a fault. It must not know
//! what is logged.

use cenote::clock;
use cenote::config::{Config, LogFormat, LogLevel, LogTimestamp};
use cenote::state::LogFollows;
use std::backtrace::Backtrace;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;

/// The [`LogTimestamp`] in force.
static TIMESTAMP: AtomicU8 = AtomicU8::new(LogTimestamp::Iso8601 as u8);
/// Whether a fault is logged with where it happened.
static WITH_BACKTRACE: AtomicBool = AtomicBool::new(true);

/// Starts the log; what it returns lets it follow the directives.
pub(crate) fn start(config: &Config, is_detached: bool) -> io::Result<LogFollows> {
    let writer = match config.log.file.as_str() {
        "" if is_detached => BoxMakeWriter::new(io::sink),
        "" => BoxMakeWriter::new(io::stdout),
        file => BoxMakeWriter::new(Mutex::new(OpenOptions::new().create(true).append(true).open(file)?)),
    };
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false).with_timer(Time);
    let lines = lines.with_writer(writer);
    let lines = if config.log.format == LogFormat::Json { lines.json().boxed() } else { lines.boxed() };
    let syslog = config.log.syslog.as_ref().map(|(ident, facility)| {
        let layer = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false).without_time();
        layer.with_level(false).with_writer(Syslog::to(SYSLOG, ident, *facility))
    });
    let (level, handle) = reload::Layer::new(filter(config.log.level));
    tracing_subscriber::registry().with(level).with(lines).with(syslog).init();
    log_faults();
    let follow = move |config: &Config| {
        TIMESTAMP.store(config.log.timestamp as u8, Ordering::Relaxed);
        WITH_BACKTRACE.store(config.log.tells_where, Ordering::Relaxed);
        // It fails only when the log is gone, and then there is nobody to tell.
        let _ = handle.reload(filter(config.log.level));
    };
    follow(config);
    Ok(Box::new(follow))
}

/// Where the system's log listens.
const SYSLOG: &str = "/dev/log";

/// The system's log. While nobody listens there, lines are lost to it, and nothing else happens.
struct Syslog {
    socket: Option<UnixDatagram>,
    path: &'static str,
    ident: String,
    facility: u8,
}

impl Syslog {
    fn to(path: &'static str, ident: &str, facility: u8) -> Self {
        Self { socket: UnixDatagram::unbound().ok(), path, ident: ident.to_owned(), facility }
    }

    fn line(&self, severity: u8) -> SyslogLine<'_> {
        let text = format!("<{}>{}[{}]: ", self.facility << 3 | severity, self.ident, std::process::id());
        SyslogLine { log: self, text: text.into_bytes() }
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = SyslogLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        self.line(5)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        self.line(match *meta.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 5,
            Level::DEBUG => 6,
            Level::TRACE => 7,
        })
    }
}

/// One line, sent when it is complete.
struct SyslogLine<'a> {
    log: &'a Syslog,
    text: Vec<u8>,
}

impl io::Write for SyslogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SyslogLine<'_> {
    fn drop(&mut self) {
        if let Some(socket) = &self.log.socket {
            let _ = socket.send_to(self.text.trim_ascii_end(), self.log.path);
        }
    }
}

/// A fault of the program (a panic) goes to the log, which is all that is left of a server in the background.
fn log_faults() {
    std::panic::set_hook(Box::new(|fault| {
        tracing::error!("a fault of the program: {fault}");
        if WITH_BACKTRACE.load(Ordering::Relaxed) {
            tracing::error!("it happened here:\n{}", Backtrace::force_capture());
        }
    }));
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}

/// The time of a line, in UTC.
struct Time;

impl FormatTime for Time {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write_time(out, TIMESTAMP.load(Ordering::Relaxed), clock::now_us())
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn write_time(out: &mut impl fmt::Write, format: u8, us: i64) -> fmt::Result {
    if format == LogTimestamp::Milliseconds as u8 {
        return write!(out, "{}", us / 1000);
    }
    let (year, month, day) = civil(us.div_euclid(86_400_000_000));
    let of_day = us.rem_euclid(86_400_000_000);
    let seconds = of_day / 1_000_000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if format == LogTimestamp::Legacy as u8 {
        let (month, ms) = (MONTHS[month as usize - 1], of_day / 1000 % 1000);
        return write!(out, "{day:02} {month} {year} {hour:02}:{minute:02}:{second:02}.{ms:03}");
    }
    write!(out, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", of_day % 1_000_000)
}

/// Year, month and day of a day since the epoch, after Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Where a test's lines go.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_systems_log_gets_lines_with_their_weight() {
        let path = std::env::temp_dir().join(format!("cenote-syslog-{}", std::process::id()));
        let listener = UnixDatagram::bind(&path).unwrap();
        let name = Box::leak(path.to_str().unwrap().to_owned().into_boxed_str());
        let log = tracing_subscriber::fmt().with_target(false).with_ansi(false).without_time().with_level(false);
        let log = log.with_writer(Syslog::to(name, "cache", 16 + 3)).finish();
        tracing::subscriber::with_default(log, || {
            tracing::info!("it runs");
            tracing::error!("it is hot");
        });
        for (weight, text) in [(157, "it runs"), (155, "it is hot")] {
            let mut line = [0; 100];
            let len = listener.recv(&mut line).unwrap();
            let wanted = format!("<{weight}>cache[{}]: {text}", std::process::id());
            assert_eq!(String::from_utf8_lossy(&line[..len]), wanted);
        }
        std::fs::remove_file(&path).unwrap();
        // Nobody listens any more.
        io::Write::write_all(&mut Syslog::to(name, "cache", 1).line(5), b"lost").unwrap();
    }

    /// A server in the background has no other place to say what went wrong.
    #[test]
    fn a_fault_is_logged_with_where_it_happened_if_wanted() {
        log_faults();
        for wanted in [true, false] {
            WITH_BACKTRACE.store(wanted, Ordering::Relaxed);
            let lines = Lines::default();
            let writer = lines.clone();
            let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
            let fault = tracing::subscriber::with_default(log, || std::panic::catch_unwind(|| panic!("a test's own")));
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(fault.is_err() && text.contains("a test's own") && text.contains("src/log.rs"), "{text}");
            assert_eq!(text.contains("it happened here"), wanted);
        }
    }

    #[test]
    fn times_are_told_in_three_ways() {
        let told = |format: LogTimestamp, us| {
            let mut text = String::new();
            write_time(&mut text, format as u8, us).unwrap();
            text
        };
        let us = 1_796_122_488_012_345;
        assert_eq!(told(LogTimestamp::Milliseconds, us), "1796122488012");
        assert_eq!(told(LogTimestamp::Iso8601, us), "2026-12-01T10:54:48.012345Z");
        assert_eq!(told(LogTimestamp::Legacy, us), "01 Dec 2026 10:54:48.012");
        assert_eq!(told(LogTimestamp::Iso8601, 951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(told(LogTimestamp::Iso8601, 0), "1970-01-01T00:00:00.000000Z");
    }
}
