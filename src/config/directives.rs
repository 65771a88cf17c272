//! What a directive is: its name, kind, default, whether it may change at run time and whether
//! Cenote acts on it. The rows are in `table`; parsing a value by its kind is in `value`.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

pub use super::table::DIRECTIVES;

/// One directive of redis.conf.
#[derive(Debug)]
pub struct Directive {
    /// The name that `CONFIG REWRITE` writes, lower case.
    pub name: &'static str,
    /// Its other names (`slave-priority`, `hash-max-ziplist-entries`); `CONFIG GET` lists them too.
    pub aliases: &'static [&'static str],
    /// What values it takes.
    pub kind: Kind,
    /// The default as `CONFIG GET` prints it (paths: before they are made absolute).
    pub default: &'static str,
    /// Whether `CONFIG SET` may change it.
    pub change: Change,
    /// Whether Cenote acts on it.
    pub effect: Effect,
    /// `CONFIG GET` shows it by its full name only.
    pub hidden: bool,
    /// The value must not reach a log, an error text or `Debug`.
    pub secret: bool,
}

/// Whether `CONFIG SET` may change a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// At any time.
    Live,
    /// At start only.
    Immutable,
    /// Only where `enable-protected-configs` allows it.
    Protected,
}

/// Whether Cenote acts on a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does what it does in Redis.
    Applied,
    /// It is stored and shown, nothing more; setting it is worth a warning at start.
    Accepted,
}

/// What values a directive takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// An integer in a range; `unsigned` only changes which text a negative number gets.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// Stored without a sign in Redis.
        unsigned: bool,
    },
    /// A file mode in octal digits.
    Octal {
        /// Largest mode.
        max: i64,
    },
    /// Bytes, also as `10k`, `10kb`, `10m`, `10mb`, `10g`, `10gb`.
    Memory {
        /// Smallest value; a negative one means that negative numbers are taken.
        min: i64,
        /// Largest value.
        max: i64,
        /// Stored without a sign in Redis.
        unsigned: bool,
    },
    /// Like [`Kind::Memory`], or a percentage of maxmemory (`5%`).
    MemoryOrPercent,
    /// One of a list of words.
    Enum(Words),
    /// Several of a list of words, the first of which stands for none.
    Flags(Words),
    /// Any text.
    Text,
    /// A value with a form of its own.
    Special(Special),
    /// A line of the file (or of the command line) that `CONFIG GET` and `CONFIG SET` do not know.
    Line {
        /// How many words must follow the name, at least.
        words: usize,
    },
}

/// The words of an enum.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// Those of Redis 8.2; error texts list them.
    pub listed: &'static [&'static str],
    /// Further ones that are taken, such as Valkey's.
    pub also: &'static [&'static str],
}

/// Values with a form of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `save`: pairs of seconds and changes.
    Save,
    /// `client-output-buffer-limit`: class, hard limit, soft limit, seconds, repeated.
    OutputLimits,
    /// `notify-keyspace-events`: letters.
    NotifyEvents,
    /// `bind`: up to 16 addresses.
    Bind,
    /// `oom-score-adj-values`: three integers.
    OomScores,
    /// `latency-tracking-info-percentiles`: numbers from 0 to 100.
    Percentiles,
    /// An existing directory, stored as an absolute path.
    Dir,
    /// A file name without a directory.
    FileName,
    /// `replicaof`: host and port, or `no one`.
    ReplicaOf,
    /// A host name.
    Hostname,
    /// `redis-version`: three numbers up to 255, as scripts get them in a byte each.
    Version,
    /// `cluster-announce-human-nodename`.
    NodeName,
    /// `proc-title-template`.
    TitleTemplate,
    /// An IPv4 address or nothing.
    Ipv4,
    /// An IPv6 address or nothing.
    Ipv6,
}

impl Kind {
    /// Whether the value may be given as several words (`save 3600 1`).
    pub(super) fn takes_words(&self) -> bool {
        match self {
            Kind::Flags(_) => true,
            Kind::Special(special) => !matches!(
                special,
                Special::NotifyEvents
                    | Special::Dir
                    | Special::FileName
                    | Special::Hostname
                    | Special::NodeName
                    | Special::TitleTemplate
                    | Special::Ipv4
                    | Special::Ipv6
            ),
            _ => false,
        }
    }
}

/// Says what would be right, for the fault of a file: `an integer between 1 and 500`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Bool => f.write_str("yes or no"),
            Kind::Int { min, max, .. } => write!(f, "an integer between {min} and {max}"),
            Kind::Octal { max } => write!(f, "a file mode between 0 and {max:o}"),
            Kind::Memory { .. } => f.write_str("a number of bytes such as 1000, 64kb, 100mb or 2gb"),
            Kind::MemoryOrPercent => f.write_str("a number of bytes such as 100mb, or 5%"),
            Kind::Enum(words) => write!(f, "one of {}", words.listed.join(", ")),
            Kind::Flags(words) => write!(f, "one or more of {}", words.listed.join(", ")),
            Kind::Text => f.write_str("one word; quote it if it contains blanks"),
            Kind::Line { words } => write!(f, "at least {words} more word(s)"),
            Kind::Special(special) => f.write_str(match special {
                Special::Save => "pairs of seconds and changes such as 3600 1, or \"\"",
                Special::OutputLimits => "a class (normal, replica or pubsub), hard limit, soft limit, seconds",
                Special::NotifyEvents => "letters of Ag$lshzxeKEtmdn, or \"\"",
                Special::Bind => "up to 16 addresses",
                Special::OomScores => "three integers between -2000 and 2000",
                Special::Percentiles => "numbers between 0 and 100, or \"\"",
                Special::Dir => "an existing directory",
                Special::FileName => "a file name without a directory",
                Special::ReplicaOf => "a host and a port, or no one",
                Special::Hostname => "a host name",
                Special::NodeName => "a name of letters, digits and -._=,/",
                Special::TitleTemplate => "a template of {title}, {listen-addr}, {server-mode} …",
                Special::Ipv4 => "an IPv4 address",
                Special::Ipv6 => "an IPv6 address",
                Special::Version => "three numbers, such as 7.2.4",
            }),
        }
    }
}

impl Directive {
    /// Whether `CONFIG GET` and `CONFIG SET` know it.
    pub fn is_value(&self) -> bool {
        !matches!(self.kind, Kind::Line { .. })
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// A directive found by one of its names.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its position in [`DIRECTIVES`].
    pub index: usize,
    /// Its row.
    pub directive: &'static Directive,
    /// The name it was found by, as the table spells it.
    pub name: &'static str,
}

/// Finds a directive by its name or one of its aliases, in any case.
pub fn find(name: &[u8]) -> Option<Found> {
    static NAMES: LazyLock<HashMap<&str, (usize, &str)>> = LazyLock::new(|| {
        let rows = DIRECTIVES.iter().enumerate();
        rows.flat_map(|(at, row)| row.names().map(move |name| (name, (at, name)))).collect()
    });
    // No name is longer; a client's megabyte need not be copied to find that out.
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let &(index, name) = NAMES.get(std::str::from_utf8(&lower).ok()?)?;
    Some(Found { index, directive: &DIRECTIVES[index], name })
}

/// The known name nearest to a misspelt one, if it is near enough to be meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    if lower.len() > 64 {
        return None;
    }
    let all = DIRECTIVES.iter().flat_map(Directive::names);
    let (distance, found) = all.map(|known| (distance(&lower, known), known)).min()?;
    (distance <= 2.max(lower.len() / 4)).then_some(found)
}

/// Edit distance, a swap of neighbours counting once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(DIRECTIVES.windows(2).all(|pair| pair[0].name < pair[1].name));
        let mut seen = HashSet::new();
        for name in DIRECTIVES.iter().flat_map(Directive::names) {
            assert!(seen.insert(name), "{name} twice");
            assert_eq!(name, name.to_ascii_lowercase());
            assert!(name.len() <= 64);
        }
    }

    #[test]
    fn found_by_any_name_in_any_case() {
        let found = find(b"SLAVE-Priority").unwrap();
        assert_eq!((found.directive.name, found.name), ("replica-priority", "slave-priority"));
        assert!(find(b"nosuch").is_none());
        assert!(find(&[b'x'; 1000]).is_none());
    }

    #[test]
    fn the_nearest_name() {
        assert_eq!(nearest("maxmemmory"), Some("maxmemory"));
        assert_eq!(nearest("prot"), Some("port"));
        assert_eq!(nearest("MAXCLIENT"), Some("maxclients"));
        assert_eq!(nearest("metric-port"), Some("metrics-port"));
        assert_eq!(nearest("quite-another-thing"), None);
    }
}
