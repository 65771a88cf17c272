//! Parsing a directive's value by its kind into the one form that `CONFIG GET` prints.
//!
//! Error texts are those that Redis 8.2 puts behind `CONFIG SET failed … - `. Knows neither where
//! a value came from nor the other directives.

use super::directives::{Directive, Kind, Special, Words};
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

type Text = Cow<'static, str>;

/// The most addresses that `bind` takes.
const MAX_BIND: usize = 16;
/// The letters of `notify-keyspace-events` that `A` stands for, in the order they are printed.
const ALL_EVENTS: &str = "g$lshzxetd";
/// Those that are printed behind them, and those behind these.
const OTHER_EVENTS: &str = "noc";
const SCOPES: &str = "KEm";

/// Parses a value given as words; `current` is the value in force, which
/// `client-output-buffer-limit` changes in part.
pub(super) fn parse(row: &Directive, current: &str, words: &[&str]) -> Result<String, Text> {
    let split: Vec<&str>;
    let words = match words {
        // `--save "3600 1"` and CONFIG SET give several words as one.
        [one] if row.kind.takes_words() => {
            split = if one.is_empty() { Vec::new() } else { one.split(' ').collect() };
            &split
        }
        words => words,
    };
    match &row.kind {
        Kind::Flags(allowed) => flags(allowed, words),
        Kind::Special(special) => several(row.name, *special, current, words),
        Kind::Line { .. } => Ok(words.join(" ")),
        kind => match words {
            [one] => single(row, kind, one),
            _ => Err("wrong number of arguments".into()),
        },
    }
}

fn single(row: &Directive, kind: &Kind, word: &str) -> Result<String, Text> {
    match *kind {
        Kind::Bool => {
            let values = ["yes", "no"];
            let found = values.iter().find(|v| v.eq_ignore_ascii_case(word));
            found.map(|v| (*v).to_owned()).ok_or("argument must be 'yes' or 'no'".into())
        }
        Kind::Int { min, max, unsigned } => {
            let value = strict_int(word).ok_or("argument couldn't be parsed into an integer")?;
            if unsigned && value < 0 {
                return Err("argument must be greater or equal to 0".into());
            }
            let value = in_range(value, min, max)?;
            Ok(clamp(row.name, value).to_string())
        }
        Kind::Octal { max } => {
            let bad = "argument couldn't be parsed as an octal number";
            match i64::from_str_radix(word, 8) {
                Ok(value) if (0..=max).contains(&value) => Ok(format!("{value:o}")),
                Ok(_) => Err(format!("argument must be between 0 and {max:o} inclusive").into()),
                Err(_) => Err(bad.into()),
            }
        }
        Kind::Memory { min, max, unsigned } => memory_in(row.name, word, min, max, unsigned),
        Kind::MemoryOrPercent => memory_or_percent(word),
        Kind::Enum(words) => {
            let mut all = words.listed.iter().chain(words.also);
            let found = all.find(|v| v.eq_ignore_ascii_case(word));
            found.map(|v| (*v).to_owned()).ok_or_else(|| not_listed(&words))
        }
        _ => Ok(word.to_owned()),
    }
}

fn several(name: &str, special: Special, current: &str, words: &[&str]) -> Result<String, Text> {
    match (special, words) {
        (Special::Save, words) => save(words),
        (Special::OutputLimits, words) => {
            let mut limits = parse_limits(current);
            output_limits(&mut limits, words)?;
            Ok(print_limits(&limits))
        }
        (Special::Bind, words) => {
            if words.len() > MAX_BIND {
                return Err("Too many bind addresses specified.".into());
            }
            Ok(words.join(" "))
        }
        (Special::OomScores, words) => oom_scores(words),
        (Special::Percentiles, words) => percentiles(words),
        (Special::ReplicaOf, words) => replica_of(words),
        (Special::FileName, [word]) if word.contains('/') => {
            Err(format!("{name} can't be a path, just a filename").into())
        }
        (_, [word]) => one_word(special, word),
        _ => Err("wrong number of arguments".into()),
    }
}

fn one_word(special: Special, word: &str) -> Result<String, Text> {
    let checked = match special {
        Special::NotifyEvents => return notify_events(word),
        Special::Dir => return directory(word),
        Special::Hostname if word.len() > 255 => Err("Hostnames must be less than 256 characters"),
        Special::Hostname if !word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') => {
            Err("Hostnames may only contain alphanumeric characters, hyphens or dots")
        }
        Special::Version if !good_version(word) => Err("argument must be three numbers, such as 7.2.4"),
        Special::NodeName if word.contains(|c: char| "!#$%&()*+:;<>?@[]^{|}~".contains(c)) => {
            Err("Announced human node name contained invalid character")
        }
        Special::TitleTemplate if word.is_empty() || !good_template(word) => {
            Err("template format is invalid or contains unknown variables")
        }
        Special::Ipv4 if !word.is_empty() && word.parse::<Ipv4Addr>().is_err() => Err("Invalid IPv4 address"),
        Special::Ipv6 if !word.is_empty() && word.parse::<Ipv6Addr>().is_err() => Err("Invalid IPv6 address"),
        _ => Ok(()),
    };
    checked.map(|()| word.to_owned()).map_err(Text::from)
}

/// An integer as Redis reads one: no sign but `-`, no leading zero, no blank.
fn strict_int(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let canonical = word == "0" || !digits.starts_with('0');
    let plain = canonical && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { word.parse().ok() } else { None }
}

fn in_range(value: i64, min: i64, max: i64) -> Result<i64, Text> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(format!("argument must be between {min} and {max} inclusive").into())
}

/// Values that are taken but brought into a smaller range, silently, as Redis does.
fn clamp(name: &str, value: i64) -> i64 {
    match name {
        "hz" => value.clamp(1, 500),
        "repl-backlog-size" => value.max(16 * 1024),
        _ => value,
    }
}

/// A number of bytes; None if it is none, `u64::MAX` if it is larger than that.
///
/// As in Redis, the number before the unit may be missing (`mb` is 0) and `k` is 1000, `kb` 1024.
fn memory(word: &str) -> Option<u64> {
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let digits = &word[..word.len() - unit.len()];
    if digits.is_empty() {
        return Some(0);
    }
    Some(digits.parse::<u64>().map_or(u64::MAX, |number| number.saturating_mul(factor)))
}

fn memory_in(name: &str, word: &str, min: i64, max: i64, unsigned: bool) -> Result<String, Text> {
    if min < 0
        && let Some(value) = strict_int(word)
    {
        return in_range(value, min, max).map(|value| value.to_string());
    }
    let value = memory(word).ok_or("argument must be a memory value")?;
    let Ok(value) = i64::try_from(value) else {
        return Err(if unsigned {
            "argument must be greater or equal to 0".into()
        } else {
            format!("argument must be between {min} and {max} inclusive").into()
        });
    };
    in_range(value, min, max).map(|value| clamp(name, value).to_string())
}

fn memory_or_percent(word: &str) -> Result<String, Text> {
    let bad = "argument must be a memory or percent value";
    if let Some(number) = word.strip_suffix('%') {
        return match strict_int(number) {
            Some(0) => Ok("0".to_owned()),
            Some(percent @ 1..=100) => Ok(format!("{percent}%")),
            Some(101..) => Err("percentage argument must be less or equal to 100".into()),
            _ => Err(bad.into()),
        };
    }
    match i64::try_from(memory(word).ok_or(bad)?) {
        Ok(value) => Ok(value.to_string()),
        Err(_) => Err("percentage argument must be less or equal to 100".into()),
    }
}

fn not_listed(words: &Words) -> Text {
    let list = words.listed.join(", ");
    format!("argument(s) must be one of the following: {list}").into()
}

fn flags(allowed: &Words, words: &[&str]) -> Result<String, Text> {
    let all: Vec<&str> = allowed.listed.iter().chain(allowed.also).copied().collect();
    let mut set = vec![false; all.len()];
    for word in words {
        let at = all.iter().position(|known| known.eq_ignore_ascii_case(word));
        set[at.ok_or_else(|| not_listed(allowed))?] = true;
    }
    if words.is_empty() {
        return Err(not_listed(allowed));
    }
    let chosen: Vec<&str> = (1..all.len()).filter(|&at| set[at]).map(|at| all[at]).collect();
    if chosen.contains(&"save") && chosen.contains(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    Ok(if chosen.is_empty() { all[0].to_owned() } else { chosen.join(" ") })
}

fn save(words: &[&str]) -> Result<String, Text> {
    let bad = "Invalid save parameters";
    if !words.len().is_multiple_of(2) {
        return Err(bad.into());
    }
    let mut numbers = Vec::with_capacity(words.len());
    for pair in words.chunks_exact(2) {
        let seconds: i64 = pair[0].parse().map_err(|_| bad)?;
        let changes: i32 = pair[1].parse().map_err(|_| bad)?;
        if seconds < 1 || changes < 0 {
            return Err(bad.into());
        }
        numbers.push(format!("{seconds} {changes}"));
    }
    Ok(numbers.join(" "))
}

/// The limit of one class of `client-output-buffer-limit`, all 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// Bytes at which the client is dropped at once; 0: no limit.
    pub hard: u64,
    /// Bytes at which it is dropped if it stays above them; 0: no limit.
    pub soft: u64,
    /// For how many seconds it may stay above `soft`.
    pub soft_seconds: u32,
}

/// The classes in the order in which they are stored and printed.
pub(super) const CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

fn output_limits(limits: &mut [OutputLimit; 3], words: &[&str]) -> Result<(), Text> {
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let bad = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
    for four in words.chunks_exact(4) {
        let class = match four[0].to_ascii_lowercase().as_str() {
            "replica" => Some(1),
            name => CLASSES.iter().position(|class| *class == name),
        };
        let class = class.ok_or("Invalid client class specified in buffer limit configuration.")?;
        // Redis lets a number that is too large wrap around; a limit nobody asked for.
        let bytes = |word| memory(word).filter(|&bytes| bytes < u64::MAX).ok_or(bad);
        let seconds: i32 = four[3].parse().map_err(|_| bad)?;
        limits[class] = OutputLimit {
            hard: bytes(four[1])?,
            soft: bytes(four[2])?,
            soft_seconds: u32::try_from(seconds).map_err(|_| bad)?,
        };
    }
    Ok(())
}

/// Reads back what [`print_limits`] wrote.
pub(super) fn parse_limits(text: &str) -> [OutputLimit; 3] {
    let mut limits = [OutputLimit::default(); 3];
    let words: Vec<&str> = text.split_whitespace().collect();
    // Only canonical text comes here; anything else would leave the default, no limit.
    let _ = output_limits(&mut limits, &words);
    limits
}

fn print_limits(limits: &[OutputLimit; 3]) -> String {
    let classes = CLASSES.iter().zip(limits).map(|(class, limit)| print_limit(class, limit));
    classes.collect::<Vec<_>>().join(" ")
}

pub(super) fn print_limit(class: &str, limit: &OutputLimit) -> String {
    format!("{class} {} {} {}", limit.hard, limit.soft, limit.soft_seconds)
}

fn notify_events(word: &str) -> Result<String, Text> {
    let known = |c| c == 'A' || [ALL_EVENTS, OTHER_EVENTS, SCOPES].iter().any(|s| s.contains(c));
    if !word.chars().all(known) {
        return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into());
    }
    let given = |c: &char| word.contains(*c);
    let mut out = String::new();
    if word.contains('A') || ALL_EVENTS.chars().all(|c| given(&c)) {
        out.push('A');
    } else {
        out.extend(ALL_EVENTS.chars().filter(given));
    }
    out.extend(OTHER_EVENTS.chars().filter(given));
    out.extend(SCOPES.chars().filter(given));
    Ok(out)
}

fn oom_scores(words: &[&str]) -> Result<String, Text> {
    if words.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    let bad = "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
    let numbers = words.iter().map(|word| match word.parse::<i32>() {
        Ok(number @ -2000..=2000) => Ok(number.to_string()),
        _ => Err(Text::from(bad)),
    });
    Ok(numbers.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn percentiles(words: &[&str]) -> Result<String, Text> {
    let numbers = words.iter().map(|word| match word.parse::<f64>() {
        Ok(number) if (0.0..=100.0).contains(&number) => {
            let text = format!("{number:.6}");
            Ok(text.trim_end_matches('0').trim_end_matches('.').to_owned())
        }
        Ok(number) if !number.is_nan() => {
            Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
        }
        _ => Err("Invalid latency-tracking-info-percentiles parameters"),
    });
    Ok(numbers.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn replica_of(words: &[&str]) -> Result<String, Text> {
    match words {
        // The default.
        [] => Ok(String::new()),
        [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => Ok(String::new()),
        [host, port] => match port.parse::<u16>() {
            Ok(port) => Ok(format!("{host} {port}")),
            Err(_) => Err("Invalid master port".into()),
        },
        _ => Err("wrong number of arguments".into()),
    }
}

fn directory(word: &str) -> Result<String, Text> {
    let path = std::fs::canonicalize(word)
        .and_then(|path| if path.is_dir() { Ok(path) } else { Err(std::io::ErrorKind::NotADirectory.into()) });
    match path {
        Ok(path) => path.into_os_string().into_string().map_err(|_| "not valid UTF-8".into()),
        Err(error) => Err(super::io_text(&error).into()),
    }
}

fn good_version(word: &str) -> bool {
    let good = |part: &str| part.parse::<u8>().is_ok_and(|number| number.to_string() == part);
    word.split('.').map(good).collect::<Vec<_>>() == [true; 3]
}

fn good_template(word: &str) -> bool {
    const KNOWN: &[&str] = &["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    let mut rest = word;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}') else {
            return false;
        };
        if !KNOWN.contains(&&rest[open + 1..open + close]) {
            return false;
        }
        rest = &rest[open + close + 1..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::directives::{DIRECTIVES, find};
    use super::*;
    use proptest::prelude::*;

    fn parsed(name: &str, value: &str) -> Result<String, String> {
        let row = find(name.as_bytes()).unwrap().directive;
        parse(row, row.default, &[value]).map_err(|text| text.into_owned())
    }

    #[test]
    fn each_default_is_canonical() {
        for row in DIRECTIVES.iter().filter(|row| row.is_value()) {
            let printed = parse(row, row.default, &[row.default]);
            let printed = printed.unwrap_or_else(|text| panic!("{}: {text}", row.name));
            if row.name == "dir" {
                assert!(printed.starts_with('/'));
            } else {
                assert_eq!(printed, row.default, "{}", row.name);
            }
        }
    }

    #[track_caller]
    fn ok(name: &str, value: &str, printed: &str) {
        assert_eq!(parsed(name, value).as_deref(), Ok(printed), "{name} {value}");
    }

    #[track_caller]
    fn refused(name: &str, value: &str, text: &str) {
        assert_eq!(parsed(name, value), Err(text.to_owned()), "{name} {value}");
    }

    #[test]
    fn integers() {
        ok("timeout", "5", "5");
        ok("hz", "0", "1");
        ok("hz", "501", "500");
        ok("slowlog-log-slower-than", "-1", "-1");
        for word in ["", " 5", "+5", "005", "5 ", "0x5", "5.0", "-0", "-", "99999999999999999999"] {
            refused("hz", word, "argument couldn't be parsed into an integer");
        }
        refused("port", "70000", "argument must be between 0 and 65535 inclusive");
        refused("maxclients", "-1", "argument must be greater or equal to 0");
        refused("maxclients", "0", "argument must be between 1 and 4294967295 inclusive");
        ok("unixsocketperm", "0777", "777");
        refused("unixsocketperm", "1000", "argument must be between 0 and 777 inclusive");
        refused("unixsocketperm", "9", "argument couldn't be parsed as an octal number");
    }

    #[test]
    fn memory_values() {
        for (word, bytes) in [
            ("100mb", "104857600"),
            ("100MB", "104857600"),
            ("100k", "100000"),
            ("1g", "1000000000"),
            ("10b", "10"),
            ("00010", "10"),
            ("", "0"),
            ("mb", "0"),
        ] {
            ok("maxmemory", word, bytes);
        }
        for word in ["1tb", "1.5gb", "5%", " 5", "5 ", "0x10", "+10", "-1"] {
            refused("maxmemory", word, "argument must be a memory value");
        }
        for word in ["9223372036854775808", "99999999999999999999999", "20000000000gb"] {
            refused("maxmemory", word, "argument must be greater or equal to 0");
        }
        let range = "argument must be between 1048576 and 9223372036854775807 inclusive";
        refused("proto-max-bulk-len", "1000", range);
        refused("proto-max-bulk-len", "9223372036854775808", range);
        ok("maxmemory-clients", "5%", "5%");
        ok("maxmemory-clients", "0%", "0");
        ok("maxmemory-clients", "3mb", "3145728");
        let percent = "percentage argument must be less or equal to 100";
        refused("maxmemory-clients", "101%", percent);
        refused("maxmemory-clients", "-5%", "argument must be a memory or percent value");
        ok("slot-migration-max-failover-repl-bytes", "-1", "-1");
        ok("repl-backlog-size", "1", "16384");
    }

    #[test]
    fn words() {
        ok("appendonly", "YES", "yes");
        refused("appendonly", "1", "argument must be 'yes' or 'no'");
        ok("loglevel", "NOTICE", "notice");
        ok("log-format", "legacy", "legacy");
        refused("log-format", "xml", "argument(s) must be one of the following: text, json");
        ok("shutdown-on-sigint", "SAVE FORCE now", "save now force");
        ok("shutdown-on-sigint", "default", "default");
        ok("shutdown-on-sigint", "default save", "save");
        let both = "shutdown options SAVE and NOSAVE can't be used simultaneously";
        refused("shutdown-on-sigint", "save nosave", both);
        assert!(parsed("shutdown-on-sigint", "force  save").is_err());
        assert!(parsed("shutdown-on-sigint", "").is_err());
    }

    #[test]
    fn save_points() {
        ok("save", "", "");
        ok("save", "3600 1 300 100", "3600 1 300 100");
        ok("save", "1 0", "1 0");
        for word in ["3600 1 300", "0 1", "1 -1", "1 a", "3600  1", " ", "\"\"", "1 1 x"] {
            refused("save", word, "Invalid save parameters");
        }
    }

    #[test]
    fn output_buffer_limits() {
        let name = "client-output-buffer-limit";
        let rest = "pubsub 33554432 8388608 60";
        ok(name, "normal 1mb 2mb 3 REPLICA 1 2 3", &format!("normal 1048576 2097152 3 slave 1 2 3 {rest}"));
        ok(name, "", find(name.as_bytes()).unwrap().directive.default);
        let count = "Wrong number of arguments in buffer limit configuration.";
        refused(name, "normal 0 0 0 slave", count);
        let class = "Invalid client class specified in buffer limit configuration.";
        refused(name, "master 0 0 0", class);
        let number = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        for word in ["a 0 0", "-1 0 0", "1.5 0 0", "5% 0 0", "1 2 -1", "1 2 x", "1 2 99999999999"] {
            refused(name, &format!("normal {word}"), number);
        }
    }

    #[test]
    fn notify_letters() {
        for (word, printed) in [
            ("KEA", "AKE"),
            ("KExg", "gxKE"),
            ("KEAn", "AnKE"),
            ("KEAmn", "AnKEm"),
            ("lshzxe$gtdKE", "AKE"),
            ("nmt", "tnm"),
            ("nocdtm", "tdnocm"),
            ("zzz", "z"),
            ("", ""),
        ] {
            ok("notify-keyspace-events", word, printed);
        }
        let bad = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
        refused("notify-keyspace-events", "KEq", bad);
    }

    #[test]
    fn lists_of_numbers() {
        let name = "latency-tracking-info-percentiles";
        for (word, printed) in [
            ("50 99.999 100 0", "50 99.999 100 0"),
            ("50.123456789 1", "50.123457 1"),
            ("99.90", "99.9"),
            ("1e1", "10"),
            ("50.", "50"),
            (".5", "0.5"),
            ("", ""),
            ("99.9999999999", "100"),
        ] {
            ok(name, word, printed);
        }
        let range = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
        for word in ["101", "-0.1", "inf"] {
            refused(name, word, range);
        }
        for word in ["a", "nan", "50  99", " 50 "] {
            refused(name, word, "Invalid latency-tracking-info-percentiles parameters");
        }
        ok("oom-score-adj-values", "3 2 -1", "3 2 -1");
        refused("oom-score-adj-values", "1 2  2000", "wrong number of arguments");
        assert!(parsed("oom-score-adj-values", "1 2 2001").is_err());
    }

    #[test]
    fn other_forms() {
        refused("bind", &["::1"; 17].join(" "), "Too many bind addresses specified.");
        ok("bind", "* -::*", "* -::*");
        ok("bind", "", "");
        refused("dir", "/nonexistent", "No such file or directory");
        assert!(parsed("dbfilename", "a/b").is_err());
        ok("replicaof", "no one", "");
        ok("replicaof", "db 6379", "db 6379");
        refused("replicaof", "a b", "Invalid master port");
        ok("proc-title-template", "it's {title}", "it's {title}");
        assert!(parsed("proc-title-template", "{nosuch}").is_err());
        assert!(parsed("proc-title-template", "").is_err());
        assert!(parsed("cluster-announce-human-nodename", "5%").is_err());
        assert!(parsed("proc-title-template", "{title").is_err());
        assert!(parsed("cluster-announce-hostname", "a b").is_err());
        assert!(parsed("cluster-announce-client-ipv4", "1.2.3").is_err());
    }

    proptest! {
        /// What is printed is read back as itself: CONFIG REWRITE depends on it.
        #[test]
        fn printing_is_stable(at in 0..DIRECTIVES.len(), word in "[ -~é]{0,12}") {
            let row = &DIRECTIVES[at];
            if let Ok(printed) = parse(row, row.default, &[&word]) {
                prop_assert_eq!(parse(row, row.default, &[&printed]), Ok(printed));
            }
        }
    }
}
