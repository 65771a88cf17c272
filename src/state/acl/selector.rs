//! One set of permissions: which commands, on which keys, channels and databases. A user has one, and may have more. It
//! must not know the names of commands beyond the rules that it keeps as text; a command is the number of its row.

use crate::glob;
use std::collections::{BTreeMap, BTreeSet};

/// What is done with a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// Its value is returned or used.
    pub reads: bool,
    /// It is changed, removed or added to.
    pub writes: bool,
}

impl Touch {
    /// Both.
    pub const BOTH: Self = Self { reads: true, writes: true };
}

/// A pattern of keys with what may be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    /// What may be done.
    pub may: Touch,
    /// The pattern.
    pub pattern: Box<[u8]>,
}

/// A rule on commands as it was given: `+get`, `-@write`, `+client|id`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allows: bool,
    /// In lower case.
    name: Box<str>,
}

/// Why a command may not run; the further down, the nearer it came to being allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// A database of it.
    Database,
    /// The command.
    Command,
    /// A key of it.
    Key,
    /// A channel of it.
    Channel,
}

/// A set of permissions.
#[derive(Clone, Debug)]
pub struct Selector {
    /// A bit for each row of the command table.
    commands: Box<[u64]>,
    /// All bits were set or cleared last, by this.
    pub(super) begins_with_all: bool,
    rules: Vec<Rule>,
    /// First arguments with which a command may run that may not otherwise.
    first_args: BTreeMap<usize, Vec<Box<[u8]>>>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Box<[u8]>>,
    all_databases: bool,
    databases: BTreeSet<u32>,
}

const BITS: usize = u64::BITS as usize;

impl Selector {
    /// Nothing is allowed, with a command table of so many rows.
    pub fn none(rows: usize, all_channels: bool) -> Self {
        Self {
            commands: vec![0; rows.div_ceil(BITS)].into(),
            begins_with_all: false,
            rules: Vec::new(),
            first_args: BTreeMap::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
            all_databases: true,
            databases: BTreeSet::new(),
        }
    }

    /// Everything is allowed.
    pub fn all(rows: usize) -> Self {
        let mut all = Self::none(rows, true);
        all.allow_all_commands();
        all.all_keys = true;
        all
    }

    /// True if nothing can be refused.
    pub fn is_free(&self) -> bool {
        self.all_keys && self.all_channels && self.all_databases && self.commands.iter().all(|bits| *bits == u64::MAX)
    }

    // ---- commands ----

    /// `+@all`.
    pub fn allow_all_commands(&mut self) {
        self.commands.fill(u64::MAX);
        self.begin_commands(true);
    }

    /// `-@all`.
    pub fn deny_all_commands(&mut self) {
        self.commands.fill(0);
        self.begin_commands(false);
    }

    fn begin_commands(&mut self, all: bool) {
        self.begins_with_all = all;
        self.rules.clear();
        self.first_args.clear();
    }

    /// Allows or denies one row. What its first argument allowed is forgotten.
    pub fn set_command(&mut self, id: usize, allowed: bool) {
        let bit = 1 << (id % BITS);
        let bits = &mut self.commands[id / BITS];
        *bits = if allowed { *bits | bit } else { *bits & !bit };
        self.first_args.remove(&id);
    }

    /// `+select|0`: allows a command that has no such subcommand with this first argument.
    pub fn allow_first_arg(&mut self, id: usize, arg: &[u8]) {
        let args = self.first_args.entry(id).or_default();
        if !args.iter().any(|other| **other == *arg) {
            args.push(arg.into());
        }
    }

    /// Notes a rule, which takes the place of the same on this command and on what is below it.
    pub fn note_rule(&mut self, allows: bool, name: &str) {
        let name = name.to_ascii_lowercase();
        let is_below =
            |other: &str| other.strip_prefix(&*name).is_some_and(|rest| rest.is_empty() || rest.starts_with('|'));
        self.rules.retain(|rule| !is_below(&rule.name));
        self.rules.push(Rule { allows, name: name.into() });
    }

    /// True if the row's bit is set.
    #[inline]
    pub fn has_command(&self, id: usize) -> bool {
        self.commands[id / BITS] & (1 << (id % BITS)) != 0
    }

    /// True if the command may run with this first argument.
    pub fn has_first_arg(&self, id: usize, arg: Option<&[u8]>) -> bool {
        let (Some(args), Some(arg)) = (self.first_args.get(&id), arg) else { return false };
        args.iter().any(|allowed| allowed.eq_ignore_ascii_case(arg))
    }

    // ---- keys ----

    /// `allkeys`.
    pub fn allow_all_keys(&mut self) {
        self.all_keys = true;
        self.keys.clear();
    }

    /// `resetkeys`.
    pub fn deny_keys(&mut self) {
        self.all_keys = false;
        self.keys.clear();
    }

    /// True with `allkeys`.
    pub fn has_all_keys(&self) -> bool {
        self.all_keys
    }

    /// `~pattern`, `%R~pattern`.
    pub fn allow_keys(&mut self, may: Touch, pattern: &[u8]) {
        match self.keys.iter_mut().find(|known| *known.pattern == *pattern) {
            Some(known) => {
                known.may.reads |= may.reads;
                known.may.writes |= may.writes;
            }
            None => self.keys.push(KeyPattern { may, pattern: pattern.into() }),
        }
    }

    /// True if this may be done with a key.
    pub fn has_key(&self, key: &[u8], touch: Touch) -> bool {
        let suffices = |may: Touch| (may.reads || !touch.reads) && (may.writes || !touch.writes);
        self.all_keys || self.keys.iter().any(|known| suffices(known.may) && glob::matches(&known.pattern, key, false))
    }

    /// True if every key may be read: what SORT's BY and GET need, which name keys that nobody can tell beforehand.
    pub fn reads_all_keys(&self) -> bool {
        self.all_keys || self.keys.iter().any(|known| known.may.reads && *known.pattern == *b"*")
    }

    // ---- channels ----

    /// `allchannels`.
    pub fn allow_all_channels(&mut self) {
        self.all_channels = true;
        self.channels.clear();
    }

    /// `resetchannels`.
    pub fn deny_channels(&mut self) {
        self.all_channels = false;
        self.channels.clear();
    }

    /// True with `allchannels`.
    pub fn has_all_channels(&self) -> bool {
        self.all_channels
    }

    /// `&pattern`.
    pub fn allow_channel(&mut self, pattern: &[u8]) {
        if !self.channels.iter().any(|known| **known == *pattern) {
            self.channels.push(pattern.into());
        }
    }

    /// True if a channel may be used; a pattern of channels only if it is allowed literally.
    pub fn has_channel(&self, name: &[u8], is_pattern: bool) -> bool {
        let fits = |known: &[u8]| if is_pattern { *known == *name } else { glob::matches(known, name, false) };
        self.all_channels || self.channels.iter().any(|known| fits(known))
    }

    // ---- databases ----

    /// `alldbs`.
    pub fn allow_all_databases(&mut self) {
        self.all_databases = true;
        self.databases.clear();
    }

    /// `resetdbs`.
    pub fn deny_databases(&mut self) {
        self.all_databases = false;
        self.databases.clear();
    }

    /// `db=0,1`: these and no others.
    pub fn allow_databases(&mut self, databases: impl IntoIterator<Item = u32>) {
        self.deny_databases();
        self.databases.extend(databases);
    }

    /// True with `alldbs`.
    pub fn has_all_databases(&self) -> bool {
        self.all_databases
    }

    /// True if a database may be used.
    pub fn has_database(&self, db: u32) -> bool {
        self.all_databases || self.databases.contains(&db)
    }

    // ---- as text ----

    /// The rules on commands, as they would have to be given.
    pub fn describe_commands(&self) -> String {
        let mut text = if self.begins_with_all { "+@all" } else { "-@all" }.to_owned();
        for Rule { allows, name } in &self.rules {
            text.push_str(if *allows { " +" } else { " -" });
            text.push_str(name);
        }
        text
    }

    /// The rules on keys.
    pub fn describe_keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let sign = |may: Touch| match may {
            Touch { reads: true, writes: false } => b"%R~".as_slice(),
            Touch { reads: false, writes: true } => b"%W~",
            _ => b"~",
        };
        let patterns: Vec<Vec<u8>> =
            self.keys.iter().map(|known| [sign(known.may), &*known.pattern].concat()).collect();
        patterns.join(b" ".as_slice())
    }

    /// The rules on channels.
    pub fn describe_channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let patterns: Vec<Vec<u8>> = self.channels.iter().map(|known| [b"&", &**known].concat()).collect();
        patterns.join(b" ".as_slice())
    }

    /// The rules on databases.
    pub fn describe_databases(&self) -> String {
        if self.all_databases {
            return "alldbs".to_owned();
        }
        let numbers: Vec<String> = self.databases.iter().map(u32::to_string).collect();
        if numbers.is_empty() { String::new() } else { format!("db={}", numbers.join(",")) }
    }

    /// All rules, as ACL LIST gives them.
    pub(super) fn describe(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        words.push(self.describe_keys());
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.push(self.describe_channels());
        if !self.all_databases {
            let none = self.databases.is_empty();
            words.push(if none { b"resetdbs".to_vec() } else { self.describe_databases().into_bytes() });
        }
        words.push(self.describe_commands().into_bytes());
        words.retain(|word| !word.is_empty());
        words.join(b" ".as_slice())
    }
}
