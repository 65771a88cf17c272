//! From a row's `syntax`, in the notation of the Redis documentation, to the tree of arguments that COMMAND DOCS
//! gives and that redis-cli's hints are made of. Knows words and brackets; no command runs here.
//!
//! `[…]` is optional, `<a | b>` and `[a | b]` are alternatives, `[x ...]` behind `x` says that `x` may be repeated,
//! and a word without lower-case letters is a token, which takes the plain words behind it as its operands.

use super::{Begin, Find, KeyFlags, KeySpec};

/// What an argument is, as COMMAND DOCS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    String,
    Integer,
    Double,
    UnixTime,
    Pattern,
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::UnixTime => "unix-time",
            Self::Pattern => "pattern",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

/// An argument, or a group of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Argument<'a> {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) token: Option<&'a str>,
    pub(super) optional: bool,
    pub(super) multiple: bool,
    /// Repeated together with its token.
    pub(super) multiple_token: bool,
    /// Which of the command's key specifications finds it.
    pub(super) key_spec: Option<usize>,
    /// Of a group.
    pub(super) arguments: Vec<Argument<'a>>,
}

impl<'a> Argument<'a> {
    fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            token: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            key_spec: None,
            arguments: Vec::new(),
        }
    }

    fn token(token: &'a str) -> Self {
        let name = if token == EMPTY { "empty-string".to_owned() } else { token.to_ascii_lowercase() };
        let token = if token == EMPTY { "" } else { token };
        Self { token: Some(token), ..Self::new(name, Kind::PureToken) }
    }

    fn group(kind: Kind, arguments: Vec<Argument<'a>>) -> Self {
        let name = group_name(kind, &arguments);
        Self { arguments, ..Self::new(name, kind) }
    }

    /// True for one that stands for exactly one word, whatever the client chooses.
    fn is_one_word(&self) -> bool {
        let one = match self.kind {
            Kind::Block => false,
            Kind::OneOf => self.token.is_none() && self.arguments.iter().all(Self::is_one_word),
            Kind::PureToken => true,
            _ => self.token.is_none(),
        };
        one && !self.optional && !self.multiple
    }
}

/// The token that is an empty string.
const EMPTY: &str = "\"\"";

/// The name that the Redis documentation gives to a group of such members, or one made of its first member.
fn group_name(kind: Kind, arguments: &[Argument<'_>]) -> String {
    let first = arguments.first().map_or("", |argument| argument.name.as_str());
    match (kind, first) {
        (Kind::OneOf, "nx" | "xx" | "fnx" | "fxx" | "ifeq") => "condition".into(),
        (Kind::OneOf, "gt" | "lt") => "comparison".into(),
        (Kind::OneOf, "seconds") => "expiration".into(),
        (Kind::OneOf, "asc") => "order".into(),
        (Kind::OneOf, "m") => "unit".into(),
        (Kind::OneOf, "async") => "flush-type".into(),
        (Kind::OneOf, "left" | "before") => "where".into(),
        _ => format!("{first}-{}", if kind == Kind::Block { "block" } else { "option" }),
    }
}

/// The arguments of the command `name`, of which `keys` are the key specifications.
pub(super) fn parse<'a>(name: &str, syntax: &'a str, keys: &[KeySpec]) -> Vec<Argument<'a>> {
    let mut parser = Parser { words: words(syntax), at: 0 };
    let mut arguments = parser.sequence();
    name_types(&mut arguments, name);
    let first = if name.contains('|') { 2 } else { 1 };
    for (index, spec) in keys.iter().enumerate().filter(|(_, spec)| !spec.flags.has(KeyFlags::NOT_KEY)) {
        mark_keys(&mut arguments, first, spec, index);
    }
    arguments
}

fn words(syntax: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for part in syntax.split_whitespace() {
        let mut rest = part;
        while let Some(at) = rest.find(['[', ']', '<', '>', '|']) {
            if at > 0 {
                words.push(&rest[..at]);
            }
            words.push(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            words.push(rest);
        }
    }
    words
}

fn is_token(word: &str) -> bool {
    !matches!(word, "[" | "]" | "<" | ">" | "|" | "...") && !word.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn is_word(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_lowercase())
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a str {
        self.words.get(self.at).copied().unwrap_or_default()
    }

    fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.at += 1;
        word
    }

    /// At `[`: the first word of a group that ends in `...`, which repeats what stands before it.
    fn repeat(&self) -> Option<&'a str> {
        let mut depth = 0;
        for (offset, word) in self.words[self.at..].iter().enumerate() {
            match *word {
                "[" => depth += 1,
                "]" if depth == 1 => {
                    let first = self.words.get(self.at + 1)?;
                    return (self.words[self.at + offset - 1] == "...").then_some(first);
                }
                "]" => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// Arguments up to the end of the group they are in.
    fn sequence(&mut self) -> Vec<Argument<'a>> {
        let mut out: Vec<Argument<'a>> = Vec::new();
        loop {
            match self.peek() {
                "" | "]" | ">" | "|" => return out,
                "..." => {
                    self.at += 1;
                }
                // Behind a group like itself it repeats that; else it stands for itself.
                "[" if self.repeat() == Some("<") && out.last().is_none_or(|last| last.kind != Kind::OneOf) => {
                    self.at += 2;
                    let group = self.alternatives();
                    out.push(Argument { optional: true, multiple: true, ..group });
                    self.at += 2;
                }
                "[" if self.repeat().is_some() => self.repeated(&mut out),
                "[" => {
                    self.at += 1;
                    let mut argument = self.alternatives();
                    argument.optional = true;
                    out.push(argument);
                }
                "<" => {
                    self.at += 1;
                    out.push(self.alternatives());
                }
                word if is_token(word) => out.push(self.with_token()),
                word => {
                    self.at += 1;
                    out.push(Argument::new(word, Kind::String));
                }
            }
        }
    }

    /// Behind an opening bracket: the group up to the closing one.
    fn alternatives(&mut self) -> Argument<'a> {
        let single = |mut sequence: Vec<Argument<'a>>| match sequence.len() {
            1 => sequence.remove(0),
            _ => Argument::group(Kind::Block, sequence),
        };
        let mut all = vec![single(self.sequence())];
        while self.peek() == "|" {
            self.at += 1;
            all.push(single(self.sequence()));
        }
        self.at += 1;
        if all.len() == 1 { all.remove(0) } else { Argument::group(Kind::OneOf, all) }
    }

    /// `[x ...]`: marks what stands before it as repeated.
    fn repeated(&mut self, out: &mut Vec<Argument<'a>>) {
        let with_token = self.repeat().is_some_and(is_token);
        self.at += 1;
        let count = self.sequence().len();
        self.at += 1;
        if count > 1 && count <= out.len() {
            let members = out.split_off(out.len() - count);
            out.push(Argument { name: "data".into(), ..Argument::group(Kind::Block, members) });
        }
        if let Some(last) = out.last_mut() {
            last.multiple = true;
            last.multiple_token = with_token && count == 1;
        }
    }

    /// A token with its operands.
    fn with_token(&mut self) -> Argument<'a> {
        let token = self.next();
        if self.peek() == "<" {
            self.at += 1;
            let group = self.alternatives();
            return Argument { token: Some(token), name: token.to_ascii_lowercase(), ..group };
        }
        let mut operands: Vec<Argument<'a>> = Vec::new();
        loop {
            match self.peek() {
                "[" if !operands.is_empty() && self.repeat().is_some_and(|word| !is_token(word)) => {
                    self.repeated(&mut operands);
                }
                word if is_word(word) => {
                    self.at += 1;
                    operands.push(Argument::new(word, Kind::String));
                }
                _ => break,
            }
        }
        match operands.len() {
            0 => Argument::token(token),
            1 => Argument { token: Some(token), ..operands.remove(0) },
            _ => {
                let group = Argument::group(Kind::Block, operands);
                Argument { token: Some(token), name: token.to_ascii_lowercase(), ..group }
            }
        }
    }
}

/// Gives plain arguments the type that their name tells.
fn name_types(arguments: &mut [Argument<'_>], command: &str) {
    for argument in arguments {
        match (argument.kind, command, argument.token) {
            (Kind::String, ..) => argument.kind = type_of(&argument.name, command),
            (Kind::PureToken, "zadd" | "geoadd", Some("CH")) => argument.name = "change".into(),
            (Kind::PureToken, "zadd", Some("INCR")) => argument.name = "increment".into(),
            _ => {}
        }
        name_types(&mut argument.arguments, command);
    }
}

fn type_of(name: &str, command: &str) -> Kind {
    let by_rank = ["rank", "lrange", "ltrim", "substr", "getrange", "bitpos", "bitcount", "zrevrange"];
    match name {
        "height" | "latitude" | "longitude" | "radius" | "score" | "width" => Kind::Double,
        "increment" if command.ends_with("float") => Kind::Double,
        "timeout" if !matches!(command, "wait" | "waitaof" | "migrate" | "client|pause") => Kind::Double,
        "min" | "max" if command.ends_with("score") || command == "zcount" => Kind::Double,
        "unix-time-seconds" | "unix-time-milliseconds" | "unix-time"
            if command.starts_with('h') && command.ends_with("expireat") =>
        {
            Kind::Integer
        }
        "unix-time-seconds" | "unix-time-milliseconds" | "unix-time" => Kind::UnixTime,
        "pattern" | "match-pattern" => Kind::Pattern,
        "start" | "stop" | "end" if by_rank.iter().any(|end| command.ends_with(end)) => Kind::Integer,
        "value" if matches!(command, "bitfield" | "setbit") => Kind::Integer,
        "min-idle-time" if command == "xpending" => Kind::Integer,
        "bit" | "bits" | "client-id" | "cluster-bus-port" | "config-epoch" | "count" | "cursor" | "db"
        | "decrement" | "destination-db" | "end-slot" | "entries-added" | "entries-read" | "frequency" | "idle"
        | "increment" | "index" | "index1" | "index2" | "len" | "limit" | "maxage" | "milliseconds"
        | "min-match-len" | "ms" | "num-matches" | "numfields" | "numids" | "numkeys" | "numlocal" | "num-vertices"
        | "numreplicas" | "offset" | "port" | "protover" | "rank" | "seconds" | "slot" | "start-slot" | "timeout"
        | "ttl" | "version" | "weight" => Kind::Integer,
        _ => Kind::String,
    }
}

/// Marks the arguments that key specification number `index` finds. `first` is the position of the first argument.
fn mark_keys(arguments: &mut [Argument<'_>], first: usize, spec: &KeySpec, index: usize) {
    match spec.begin {
        Begin::Index(begin) => {
            let (from, last) = match spec.find {
                Find::Range { last, .. } => (begin, begin + last.max(0) as usize),
                Find::KeyNum { first, .. } => (begin + first, begin + first),
            };
            mark_positions(arguments, first, from, last, index);
        }
        Begin::Keyword(word, _) | Begin::Sought(word, _) => {
            let group = arguments.iter_mut().find(|argument| argument.token == Some(word));
            if let Some(leaf) = group.and_then(first_leaf) {
                leaf.key_spec = Some(index);
                leaf.kind = Kind::Key;
            }
        }
        Begin::Nowhere => {}
    }
}

fn first_leaf<'t, 'a>(argument: &'t mut Argument<'a>) -> Option<&'t mut Argument<'a>> {
    match argument.kind {
        Kind::Block | Kind::OneOf => argument.arguments.first_mut().and_then(first_leaf),
        Kind::PureToken => None,
        _ => Some(argument),
    }
}

/// Marks what stands at `from..=last`, counting from `at`; gives the position behind, or None once it depends on
/// the client's choices.
fn mark_positions(
    arguments: &mut [Argument<'_>],
    mut at: usize,
    from: usize,
    last: usize,
    index: usize,
) -> Option<usize> {
    for argument in arguments {
        match argument.kind {
            Kind::OneOf => {
                for alternative in &mut argument.arguments {
                    mark_positions(std::slice::from_mut(alternative), at, from, last, index);
                }
            }
            Kind::Block if argument.token.is_none() => {
                let end = mark_positions(&mut argument.arguments, at, from, last, index);
                if argument.optional || argument.multiple {
                    return None;
                }
                at = end?;
                continue;
            }
            Kind::Block | Kind::PureToken => {}
            _ if argument.token.is_none() && (from..=last).contains(&at) => {
                argument.key_spec = Some(index);
                argument.kind = Kind::Key;
            }
            _ => {}
        }
        if !argument.is_one_word() {
            return None;
        }
        at += 1;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::super::registry;
    use super::*;

    /// The tree in one line: `name:type`, its token, `?` optional, `+` repeated, `++` with its token, `@` key.
    fn shape(arguments: &[Argument<'_>]) -> String {
        let one = |argument: &Argument<'_>| {
            let mut text = String::new();
            if let Some(token) = argument.token {
                text += &format!("{token}=");
            }
            text += &format!("{}:{}", argument.name, argument.kind.name());
            if let Some(spec) = argument.key_spec {
                text += &format!("@{spec}");
            }
            if !argument.arguments.is_empty() {
                text += &format!("({})", shape(&argument.arguments));
            }
            for (set, sign) in [(argument.optional, "?"), (argument.multiple, "+"), (argument.multiple_token, "+")] {
                if set {
                    text += sign;
                }
            }
            text
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    const ONE: KeySpec = KeySpec::one(1, super::super::KeyFlags::RO);

    fn of(name: &str, syntax: &str, keys: &[KeySpec]) -> String {
        shape(&parse(name, syntax, keys))
    }

    #[test]
    fn options_alternatives_and_tokens() {
        assert_eq!(of("get", "key", &[ONE]), "key:key@0");
        assert_eq!(
            of("set", "key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | KEEPTTL]", &[ONE]),
            "key:key@0 value:string \
             condition:oneof(NX=nx:pure-token XX=xx:pure-token IFEQ=comparison-value:string)? \
             GET=get:pure-token? expiration:oneof(EX=seconds:integer KEEPTTL=keepttl:pure-token)?"
        );
        assert_eq!(
            of("command|list", "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]", &[]),
            "FILTERBY=filterby:oneof(MODULE=module-name:string ACLCAT=category:string PATTERN=pattern:pattern)?"
        );
        assert_eq!(
            of("replicaof", "<host port | NO ONE>", &[]),
            "host-block-option:oneof(host-block:block(host:string port:integer) \
             no-block:block(NO=no:pure-token ONE=one:pure-token))"
        );
    }

    #[test]
    fn repetition() {
        let all = KeySpec::range(1, -1, 2, super::super::KeyFlags::OW);
        assert_eq!(of("mset", "key value [key value ...]", &[all]), "data:block(key:key@0 value:string)+");
        assert_eq!(of("info", "[section [section ...]]", &[]), "section:string?+");
        assert_eq!(of("x", "[GET pattern [GET pattern ...]]", &[]), "GET=pattern:pattern?++");
        assert_eq!(
            of("x", "[LIMIT offset count] STREAMS key [key ...] id [id ...]", &[]),
            "LIMIT=limit:block(offset:integer count:integer)? STREAMS=streams:block(key:string+ id:string+)"
        );
        assert_eq!(
            of("x", "path [CONFIG name value [CONFIG name value ...]] [ARGS args [args ...]]", &[]),
            "path:string CONFIG=config:block(name:string value:string)?++ ARGS=args:string?+"
        );
    }

    #[test]
    fn keys_are_found_by_position_and_by_keyword() {
        let at = |begin, find| KeySpec { flags: super::super::KeyFlags::RO, begin, find };
        let counted = |index| at(Begin::Index(index), Find::KeyNum { count: 0, first: 1, step: 1 });
        assert_eq!(
            of("eval", "script numkeys [key [key ...]] [arg [arg ...]]", &[counted(2)]),
            "script:string numkeys:integer key:key@0?+ arg:string?+"
        );
        let streams = at(Begin::Keyword("STREAMS", 1), Find::Range { last: -1, step: 1, limit: 2 });
        assert_eq!(
            of("xread", "[COUNT count] STREAMS key [key ...] id [id ...]", &[streams]),
            "COUNT=count:integer? STREAMS=streams:block(key:key@0+ id:string+)"
        );
        let pair = KeySpec::range(1, 1, 1, super::super::KeyFlags::RO);
        assert_eq!(of("lcs", "key1 key2 [LEN]", &[pair]), "key1:key@0 key2:key@0 LEN=len:pure-token?");
        let second = KeySpec::one(2, super::super::KeyFlags::OW);
        assert_eq!(of("rename", "key newkey", &[ONE, second]), "key:key@0 newkey:key@1");
        let repeated = "key [<GET offset | [FAIL] <SET offset | INCRBY offset>> ...]";
        assert_eq!(
            of("bitfield", repeated, &[ONE]),
            "key:key@0 offset-option:oneof(GET=offset:integer fail-block:block(FAIL=fail:pure-token? \
             offset-option:oneof(SET=offset:integer INCRBY=offset:integer)))?+"
        );
        assert_eq!(of("memory|usage", "key [SAMPLES count]", &[second]), "key:key@0 SAMPLES=count:integer?");
        assert_eq!(
            of("migrate", "host port <key | \"\">", &[KeySpec::one(3, super::super::KeyFlags::RW)]),
            "host:string port:integer key-option:oneof(key:key@0 =empty-string:pure-token)"
        );
    }

    #[test]
    fn brackets_that_do_not_match_do_no_harm() {
        for syntax in ["[", "]", "<", "a | b", "[a", "a ...]", "[...]", "[[[", "TOKEN <", "[a ...] [b ...]", "> ] |"] {
            parse("x", syntax, &[ONE]);
        }
    }

    #[test]
    fn every_row_parses_and_its_keys_are_in_its_syntax() {
        for command in registry().all() {
            let spec = command.spec;
            let keys = spec.keys.specs();
            let depth = spec.syntax.bytes().fold(0i32, |depth, byte| match byte {
                b'[' | b'<' => depth + 1,
                b']' | b'>' => depth - 1,
                _ => depth,
            });
            assert_eq!(depth, 0, "{}: {}", spec.name, spec.syntax);
            let tree = shape(&parse(spec.name, spec.syntax, keys));
            if keys.iter().any(|key| !key.flags.has(KeyFlags::NOT_KEY)) {
                assert!(tree.contains("key@0"), "{}: {tree}", spec.name);
            }
        }
    }
}
