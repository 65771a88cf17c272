//! The shape of a command's row. Knows no command.

use super::{Args, DataFn, Run};

/// A command's row.
pub struct Spec {
    /// Lower case; a subcommand is `container|name`.
    pub name: &'static str,
    /// Arguments, the name included; negative: at least so many.
    pub arity: i32,
    /// What dispatch must know.
    pub flags: Flags,
    /// ACL categories beyond those that follow from the flags.
    pub acl: Acl,
    /// Which arguments are keys.
    pub keys: Keys,
    /// The argument that names the element of its key's collection that it looks up first; 0: there is none.
    pub element: usize,
    /// Whether a missing key is loaded from its source first.
    pub fill: Fill,
    /// What it is to a database that holds the key, if it writes.
    pub write: Write,
    /// A [`Run::Server`] function that looks at the keyspace by itself: in a transaction, it runs behind the others.
    pub locks: bool,
    /// COMMAND INFO's tips for proxies and clients.
    pub tips: &'static [&'static str],
    /// COMMAND DOCS: group.
    pub group: &'static str,
    /// COMMAND DOCS: since which version of Redis (or Valkey).
    pub since: &'static str,
    /// The arguments, in the notation of the Redis documentation; COMMAND DOCS derives its tree from it.
    pub syntax: &'static str,
    /// COMMAND DOCS: complexity.
    pub complexity: &'static str,
    /// COMMAND DOCS: one sentence.
    pub summary: &'static str,
    /// The function.
    pub run: Run,
}

impl Spec {
    /// What a row leaves out: `..Spec::BASE`.
    pub const BASE: Self = Self {
        name: "",
        arity: 0,
        flags: Flags::NONE,
        acl: Acl::NONE,
        keys: Keys::None,
        element: 0,
        fill: Fill::No,
        write: Write::Other,
        locks: false,
        tips: &[],
        group: "generic",
        since: "1.0.0",
        syntax: "",
        complexity: "O(1)",
        summary: "",
        run: Run::Container,
    };
}

/// How a command meets read-through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// It never loads: it replaces the value, or looks at the cache itself.
    No,
    /// Its reply depends on the value: it runs, and if it missed a routed key, again after the load.
    Read,
    /// It changes part of the value: a missing routed key is loaded before it runs.
    Before,
    /// [`Fill::Before`] if one of these words is among its arguments from the fourth on, else [`Fill::No`].
    BeforeIf(&'static [&'static str]),
}

impl Fill {
    /// What it comes to with these arguments; never [`Fill::BeforeIf`].
    pub fn with(self, args: &Args<'_>) -> Self {
        match self {
            Self::BeforeIf(words) => {
                let has = (3..args.len()).any(|index| words.iter().any(|word| args.is(index, word)));
                if has { Self::Before } else { Self::No }
            }
            fixed => fixed,
        }
    }
}

/// What a writing command is to a route that takes writes to its database.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// No statement stands for it.
    Other,
    /// It leaves the value as it is: TTLs are the cache's alone.
    Ttl,
    /// Its key becomes the string in this argument. The function stands in for the command before that is written: it
    /// checks the arguments and gives the reply.
    Set(usize, DataFn),
    /// Fields of its key's hash are set: from the third argument on, in pairs. The function as above.
    Fields(DataFn),
    /// Its keys go.
    Delete,
}

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident: $($(#[$bit_doc:meta])* $bit:ident = $text:literal at $n:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(u32);
        impl $name {
            /// None of them.
            pub const NONE: Self = Self(0);
            $($(#[$bit_doc])* pub const $bit: Self = Self(1 << $n);)*
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$bit, $text)),*];

            /// Both.
            pub const fn or(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// True if all of `other` are in.
            #[inline]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// True if any of `other` is in.
            #[inline]
            pub const fn any(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Each with its name.
            pub fn all() -> impl Iterator<Item = (Self, &'static str)> {
                Self::NAMES.iter().copied()
            }

            /// The names, in the order in which COMMAND INFO gives them.
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                Self::NAMES.iter().filter(move |(bit, name)| self.has(*bit) && !name.is_empty()).map(|(_, name)| *name)
            }
        }
    };
}

bits! {
    /// A command's flags, as in COMMAND INFO.
    Flags:
    /// Changes data.
    WRITE = "write" at 0,
    /// Reads data only.
    READONLY = "readonly" at 1,
    /// May take memory: refused past `maxmemory`.
    DENYOOM = "denyoom" at 2,
    /// Administrative.
    ADMIN = "admin" at 3,
    /// Pub/sub.
    PUBSUB = "pubsub" at 4,
    /// Not in scripts.
    NOSCRIPT = "noscript" at 5,
    /// May suspend the connection.
    BLOCKING = "blocking" at 6,
    /// Allowed while loading.
    LOADING = "loading" at 7,
    /// Allowed on a stale replica.
    STALE = "stale" at 8,
    /// Not shown by MONITOR.
    SKIP_MONITOR = "skip_monitor" at 9,
    /// Not in SLOWLOG.
    SKIP_SLOWLOG = "skip_slowlog" at 10,
    /// Allowed in a slot that is being imported.
    ASKING = "asking" at 11,
    /// O(1) or O(log n).
    FAST = "fast" at 12,
    /// Allowed before AUTH.
    NO_AUTH = "no_auth" at 13,
    /// Counts as writing though it does not; COMMAND INFO has no word for it.
    MAY_REPLICATE = "" at 14,
    /// The key arguments may be absent.
    NO_MANDATORY_KEYS = "no_mandatory_keys" at 15,
    /// Not during an asynchronous load.
    NO_ASYNC_LOADING = "no_async_loading" at 16,
    /// Not in MULTI.
    NO_MULTI = "no_multi" at 17,
    /// The key positions depend on the arguments.
    MOVABLEKEYS = "movablekeys" at 18,
    /// Allowed while a script is busy.
    ALLOW_BUSY = "allow_busy" at 19,
    /// Behind a directive such as `enable-debug-command`.
    PROTECTED = "protected" at 20,
}

bits! {
    /// ACL categories.
    Acl:
    /// Keys of any type.
    KEYSPACE = "@keyspace" at 0,
    /// Reads.
    READ = "@read" at 1,
    /// Writes.
    WRITE = "@write" at 2,
    /// Sets.
    SET = "@set" at 3,
    /// Sorted sets.
    SORTEDSET = "@sortedset" at 4,
    /// Lists.
    LIST = "@list" at 5,
    /// Hashes.
    HASH = "@hash" at 6,
    /// Strings.
    STRING = "@string" at 7,
    /// Bitmaps.
    BITMAP = "@bitmap" at 8,
    /// HyperLogLogs.
    HYPERLOGLOG = "@hyperloglog" at 9,
    /// Geo indices.
    GEO = "@geo" at 10,
    /// Streams.
    STREAM = "@stream" at 11,
    /// Pub/sub.
    PUBSUB = "@pubsub" at 12,
    /// Administration.
    ADMIN = "@admin" at 13,
    /// Fast.
    FAST = "@fast" at 14,
    /// Not fast.
    SLOW = "@slow" at 15,
    /// Blocking.
    BLOCKING = "@blocking" at 16,
    /// Dangerous in the wrong hands.
    DANGEROUS = "@dangerous" at 17,
    /// The connection itself.
    CONNECTION = "@connection" at 18,
    /// Transactions.
    TRANSACTION = "@transaction" at 19,
    /// Scripts.
    SCRIPTING = "@scripting" at 20,
}

impl Spec {
    /// True if it is a command of one type of collection.
    #[inline]
    pub const fn is_of_collections(&self) -> bool {
        self.acl.any(Acl::SET.or(Acl::SORTEDSET).or(Acl::LIST).or(Acl::HASH).or(Acl::GEO).or(Acl::STREAM))
    }

    /// True if it may have so many arguments, its name included.
    #[inline]
    pub const fn fits(&self, args: usize) -> bool {
        if self.arity >= 0 { args == self.arity as usize } else { args >= self.arity.unsigned_abs() as usize }
    }

    /// All ACL categories: those of the row and those that follow from the flags.
    pub fn categories(&self) -> Acl {
        let mut all = self.acl;
        let implied = [
            (Flags::WRITE, Acl::WRITE),
            (Flags::ADMIN, Acl::ADMIN.or(Acl::DANGEROUS)),
            (Flags::PUBSUB, Acl::PUBSUB),
            (Flags::BLOCKING, Acl::BLOCKING),
        ];
        for (flag, category) in implied {
            if self.flags.has(flag) {
                all = all.or(category);
            }
        }
        if self.flags.has(Flags::READONLY) && !all.has(Acl::SCRIPTING) {
            all = all.or(Acl::READ);
        }
        all.or(if self.flags.has(Flags::FAST) { Acl::FAST } else { Acl::SLOW })
    }
}

bits! {
    /// What a command does with a key, as in COMMAND INFO's key specifications.
    KeyFlags:
    /// Reads and writes.
    RW = "RW" at 0,
    /// Reads.
    RO = "RO" at 1,
    /// Overwrites.
    OW = "OW" at 2,
    /// Removes.
    RM = "RM" at 3,
    /// The value is returned or used.
    ACCESS = "access" at 4,
    /// The value is changed.
    UPDATE = "update" at 5,
    /// Something is added.
    INSERT = "insert" at 6,
    /// Something is deleted.
    DELETE = "delete" at 7,
    /// It only looks like a key.
    NOT_KEY = "not_key" at 8,
    /// Keys may be missing from the specification.
    INCOMPLETE = "incomplete" at 9,
    /// The flags depend on the arguments.
    VARIABLE_FLAGS = "variable_flags" at 10,
}

/// Where keys begin.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// At this argument.
    Index(usize),
    /// Behind this word, sought from the given argument on (negative: from the end).
    Keyword(&'static str, i32),
    /// Behind this word, at the argument that the function finds. COMMAND INFO calls it unknown.
    Sought(&'static str, fn(&Args<'_>) -> Option<usize>),
    /// Nowhere: the keys' names are made of values. COMMAND INFO calls it unknown.
    Nowhere,
}

/// Which of the arguments from there are keys.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// Up to `last` (relative to the first; negative: from the end of the arguments), every `step`-th; `limit` as
    /// in COMMAND INFO.
    Range {
        /// Last key.
        last: i32,
        /// Distance.
        step: usize,
        /// Part of the arguments.
        limit: i32,
    },
    /// As many as the argument at `count` says, from `first` (both relative), every `step`-th.
    KeyNum {
        /// Where the number stands.
        count: usize,
        /// First key.
        first: usize,
        /// Distance.
        step: usize,
    },
}

/// A run of key arguments.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// What is done with them.
    pub flags: KeyFlags,
    /// Where they begin.
    pub begin: Begin,
    /// Which they are.
    pub find: Find,
}

impl KeySpec {
    /// One key at argument `index`.
    pub const fn one(index: usize, flags: KeyFlags) -> Self {
        Self::range(index, 0, 1, flags)
    }

    /// Keys from argument `index` to `last` (relative, or negative from the end), every `step`-th.
    pub const fn range(index: usize, last: i32, step: usize, flags: KeyFlags) -> Self {
        Self { flags, begin: Begin::Index(index), find: Find::Range { last, step, limit: 0 } }
    }

    /// As many keys as argument `index` says, behind it, every `step`-th.
    pub const fn numbered(index: usize, step: usize, flags: KeyFlags) -> Self {
        Self { flags, begin: Begin::Index(index), find: Find::KeyNum { count: 0, first: 1, step } }
    }
}

/// Which arguments of a command are keys.
#[derive(Clone, Copy, Debug)]
pub enum Keys {
    /// None.
    None,
    /// None, and the command works on the whole keyspace: all shards are locked.
    All,
    /// Those.
    Specs(&'static [KeySpec]),
    /// Those, and where the function says so of the arguments, keys that values name: then all shards are locked.
    Reaching(&'static [KeySpec], fn(&Args<'_>) -> bool),
}

const READ: KeyFlags = KeyFlags::RO.or(KeyFlags::ACCESS);
const LOOK: KeyFlags = KeyFlags::RO;

impl Keys {
    /// One key that is read.
    pub const READ_ONE: Self = Self::Specs(&[KeySpec::one(1, READ)]);
    /// One key of which the value is not returned.
    pub const LOOK_ONE: Self = Self::Specs(&[KeySpec::one(1, LOOK)]);
    /// All arguments are keys that are read.
    pub const READ_ALL: Self = Self::Specs(&[KeySpec::range(1, -1, 1, READ)]);
    /// All arguments are keys of which the values are not returned.
    pub const LOOK_ALL: Self = Self::Specs(&[KeySpec::range(1, -1, 1, LOOK)]);
    /// One key that is changed.
    pub const UPDATE_ONE: Self = Self::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::UPDATE))]);
    /// One key that is returned and changed.
    pub const ACCESS_UPDATE_ONE: Self =
        Self::Specs(&[KeySpec::one(1, KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE))]);
    /// One key that is overwritten.
    pub const OVERWRITE_ONE: Self = Self::Specs(&[KeySpec::one(1, KeyFlags::OW.or(KeyFlags::UPDATE))]);

    /// The specifications.
    #[inline]
    pub const fn specs(self) -> &'static [KeySpec] {
        match self {
            Self::None | Self::All => &[],
            Self::Specs(specs) | Self::Reaching(specs, _) => specs,
        }
    }

    /// True if all shards are to be locked.
    #[inline]
    pub fn reach_all(self, args: &Args<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Reaching(_, reaches) => reaches(args),
            Self::None | Self::Specs(_) => false,
        }
    }

    /// Calls `found` with the index of each key argument, in order. False if the arguments do not say (a count
    /// that is no number, or larger than what follows).
    pub fn each(self, args: &Args<'_>, mut found: impl FnMut(usize)) -> bool {
        self.specs().iter().all(|spec| spec.each(args, &mut found))
    }

    /// The same, with what the command does with the key.
    pub fn each_with(self, command: &str, args: &Args<'_>, mut found: impl FnMut(usize, KeyFlags)) -> bool {
        self.specs().iter().all(|spec| {
            let flags = spec.flags_with(command, args);
            spec.each(args, &mut |index| found(index, flags))
        })
    }

    /// Which of the key arguments, counted as [`Keys::each`] gives them, get a value whatever is there: those of one
    /// specification, as no command has two.
    pub fn overwritten(self, args: &Args<'_>) -> std::ops::Range<usize> {
        let mut count = 0;
        for spec in self.specs() {
            let first = count;
            spec.each(args, &mut |_| count += 1);
            if spec.flags.has(KeyFlags::OW) {
                return first..count;
            }
        }
        0..0
    }
}

impl KeySpec {
    /// What the command does with these keys, where that depends on its arguments: SET only reads with GET, BITFIELD
    /// only writes with SET or INCRBY.
    pub fn flags_with(&self, command: &str, args: &super::Args<'_>) -> KeyFlags {
        let (changes, reads) =
            (KeyFlags::RW.or(KeyFlags::ACCESS).or(KeyFlags::UPDATE), KeyFlags::RO.or(KeyFlags::ACCESS));
        match command {
            _ if !self.flags.has(KeyFlags::VARIABLE_FLAGS) => self.flags,
            "set" if !(3..args.len()).any(|index| args.is(index, "get")) => KeyFlags::OW.or(KeyFlags::UPDATE),
            "bitfield" if only_gets(args) => reads,
            _ => changes,
        }
    }

    /// Calls `found` with the index of each key argument, in order; see [`Keys::each`].
    pub fn each(&self, args: &Args<'_>, found: &mut impl FnMut(usize)) -> bool {
        let begin = match self.begin {
            Begin::Index(index) => index,
            Begin::Keyword(word, from) => {
                let behind = |index: &usize| args.is(*index, word);
                let position = if from >= 0 {
                    (from as usize..args.len()).find(behind)
                } else {
                    let last = args.len().saturating_sub(from.unsigned_abs() as usize);
                    (1..=last).rev().find(behind)
                };
                match position {
                    Some(index) => index + 1,
                    None => return true,
                }
            }
            Begin::Sought(_, find) => match find(args) {
                Some(index) => index,
                None => return true,
            },
            Begin::Nowhere => return true,
        };
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let mut end = args.len() as i64 - 1;
                if last < 0 && limit > 1 {
                    end = begin as i64 + (end - begin as i64) / i64::from(limit);
                }
                let last = if last >= 0 { begin as i64 + i64::from(last) } else { end + i64::from(last) + 1 };
                (begin, last, step)
            }
            Find::KeyNum { count, first, step } => {
                let Some(number) = args.integer(begin + count) else { return false };
                if number <= 0 {
                    return number == 0;
                }
                let first = begin + first;
                (first, (first as i64).saturating_add((number - 1).saturating_mul(step as i64)), step)
            }
        };
        if last >= args.len() as i64 {
            return false;
        }
        let mut index = first;
        while (index as i64) <= last {
            found(index);
            index += step;
        }
        true
    }
}

/// True if a BITFIELD's operations, which begin with its third argument, only read.
fn only_gets(args: &super::Args<'_>) -> bool {
    let mut at = 2;
    while at < args.len() {
        at += match () {
            () if args.is(at, "get") && at + 2 < args.len() => 3,
            () if args.is(at, "overflow") && at + 1 < args.len() => 2,
            () => return false,
        };
    }
    true
}
