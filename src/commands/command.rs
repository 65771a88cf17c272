//! COMMAND: what the rows say, for clients, proxies and redis-cli. Knows rows only. The documentation is in `docs`.

use super::{
    Acl, Args, Begin, Command, Ctx, Find, Flags, KeyFlags, KeySpec, Keys, Outcome, Run, SYNTAX_ERROR, Spec, docs, fail,
    find_sub, find_whole, help, registry,
};
use crate::glob;
use crate::protocol::Reply;

const ROW: Spec = Spec {
    arity: 2,
    flags: Flags::LOADING.or(Flags::STALE),
    acl: Acl::CONNECTION,
    group: "server",
    since: "2.8.13",
    ..Spec::BASE
};

const UNORDERED: &[&str] = &["nondeterministic_output_order"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "command",
        arity: -1,
        tips: UNORDERED,
        complexity: "O(N) where N is the total number of Redis commands",
        summary: "Describes all commands.",
        run: Run::Server(all),
        ..ROW
    },
    Spec { name: "command|count", summary: "Returns the number of commands.", run: Run::Server(count), ..ROW },
    Spec {
        name: "command|docs",
        arity: -2,
        tips: UNORDERED,
        since: "7.0.0",
        syntax: "[command-name [command-name ...]]",
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Returns the documentation of some or all commands.",
        run: Run::Server(docs::docs),
        ..ROW
    },
    Spec {
        name: "command|getkeys",
        arity: -3,
        syntax: "command [arg [arg ...]]",
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Finds the keys among the words of a command.",
        run: Run::Server(getkeys),
        ..ROW
    },
    Spec {
        name: "command|getkeysandflags",
        arity: -3,
        since: "7.0.0",
        syntax: "command [arg [arg ...]]",
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Finds the keys among the words of a command, and says what it does with them.",
        run: Run::Server(getkeysandflags),
        ..ROW
    },
    Spec { acl: Acl::CONNECTION, ..help::row("command|help", "5.0.0") },
    Spec {
        name: "command|info",
        arity: -2,
        tips: UNORDERED,
        syntax: "[command-name [command-name ...]]",
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Describes some or all commands.",
        run: Run::Server(info),
        ..ROW
    },
    Spec {
        name: "command|list",
        arity: -2,
        tips: UNORDERED,
        since: "7.0.0",
        syntax: "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
        complexity: "O(N) where N is the total number of Redis commands",
        summary: "Returns the names of all commands, or of some.",
        run: Run::Server(list),
        ..ROW
    },
];

fn all(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let commands: Vec<_> = callable().collect();
    reply.array(commands.len());
    commands.iter().for_each(|command| describe(command, reply));
    Outcome::Done
}

/// The commands that clients can call.
fn callable() -> impl Iterator<Item = &'static Command> {
    registry().commands().iter().filter(|command| !command.called.is_empty())
}

fn count(_: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(callable().count() as i64);
    Outcome::Done
}

fn info(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() == 2 {
        return all(ctx, args, reply);
    }
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match find_sub(name) {
            Some(command) => describe(command, reply),
            None => reply.null(),
        }
    }
    Outcome::Done
}

/// One command as COMMAND INFO gives it, its subcommands included.
fn describe(command: &Command, reply: &mut Reply<'_>) {
    let spec = command.spec;
    reply.array(10);
    reply.text(spec.name);
    reply.integer(spec.arity.into());
    // Which directive stands before a command is not for clients to know.
    names(reply, spec.flags.names().filter(|name| *name != "protected"));
    let (first, last, step) = legacy_range(spec.keys);
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    names(reply, spec.categories().names());
    reply.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.text(tip));
    let specs = spec.keys.specs();
    reply.set(specs.len());
    specs.iter().for_each(|spec| describe_keys(spec, reply));
    reply.array(command.subcommands.len());
    command.subcommands.iter().for_each(|sub| describe(sub, reply));
}

/// A set of status replies.
fn names(reply: &mut Reply<'_>, names: impl Iterator<Item = &'static str> + Clone) {
    reply.set(names.clone().count());
    names.for_each(|name| reply.simple(name));
}

/// First key, last key and step, from before there were key specifications: the ranges that begin at a fixed
/// argument, put together.
fn legacy_range(keys: Keys) -> (i64, i64, i64) {
    let mut range: Option<(i64, i64, i64)> = None;
    for spec in keys.specs() {
        let (Begin::Index(begin), Find::Range { last, step, .. }) = (spec.begin, spec.find) else { continue };
        let (first, step) = (begin as i64, step as i64);
        let last = if last >= 0 { first + i64::from(last) } else { i64::from(last) };
        range = Some(match range {
            None => (first, last, step),
            // A second specification continues the first where it follows without a gap.
            Some(before) if step == before.2 && first == before.1 + before.2 => (before.0, last, step),
            Some(before) => before,
        });
    }
    range.unwrap_or((0, 0, 0))
}

fn describe_keys(spec: &KeySpec, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.text("flags");
    names(reply, spec.flags.names());
    reply.text("begin_search");
    match spec.begin {
        Begin::Index(index) => typed(reply, "index", &[("index", index as i64)]),
        Begin::Keyword(word, from) => {
            head(reply, "keyword", 2);
            reply.text("keyword");
            reply.text(word);
            reply.text("startfrom");
            reply.integer(from.into());
        }
        Begin::Sought(..) | Begin::Nowhere => typed(reply, "unknown", &[]),
    }
    reply.text("find_keys");
    if matches!(spec.begin, Begin::Sought(..) | Begin::Nowhere) {
        return typed(reply, "unknown", &[]);
    }
    match spec.find {
        Find::Range { last, step, limit } => {
            let fields = [("lastkey", last.into()), ("keystep", step as i64), ("limit", limit.into())];
            typed(reply, "range", &fields);
        }
        Find::KeyNum { count, first, step } => {
            let fields = [("keynumidx", count as i64), ("firstkey", first as i64), ("keystep", step as i64)];
            typed(reply, "keynum", &fields);
        }
    }
}

/// `{type: …, spec: {…}}` up to the fields of the inner map.
fn head(reply: &mut Reply<'_>, kind: &str, fields: usize) {
    reply.map(2);
    reply.text("type");
    reply.text(kind);
    reply.text("spec");
    reply.map(fields);
}

fn typed(reply: &mut Reply<'_>, kind: &str, fields: &[(&str, i64)]) {
    head(reply, kind, fields.len());
    for (name, value) in fields {
        reply.text(name);
        reply.integer(*value);
    }
}

fn list(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let wanted: Box<dyn Fn(&Command) -> bool + '_> = match args.len() {
        2 => Box::new(|_| true),
        5 if args.is(2, "filterby") => {
            let value = args.at(4);
            if args.is(3, "module") {
                // There are no modules.
                Box::new(|_| false)
            } else if args.is(3, "aclcat") {
                let is_it = move |name: &str| name.as_bytes()[1..].eq_ignore_ascii_case(value);
                Box::new(move |command| command.spec.categories().names().any(is_it))
            } else if args.is(3, "pattern") {
                Box::new(move |command| glob::matches(value, command.spec.name.as_bytes(), true))
            } else {
                return fail(reply, SYNTAX_ERROR);
            }
        }
        _ => return fail(reply, SYNTAX_ERROR),
    };
    // Without a filter only whole commands are listed, with one the subcommands too.
    let all = callable().flat_map(|command| {
        let below = command.subcommands.iter().filter(|_| args.len() > 2);
        std::iter::once(command).chain(below)
    });
    let names: Vec<&str> = all.filter(|command| wanted(command)).map(|command| command.spec.name).collect();
    reply.array(names.len());
    names.iter().for_each(|name| reply.text(name));
    Outcome::Done
}

/// The command that the arguments from the third on are, with its keys; or what is wrong with them.
fn keys_of<'a>(args: &Args<'a>) -> Result<Vec<(&'a [u8], KeyFlags)>, &'static str> {
    let inner = args.tail(2);
    let spec = find_whole(&inner).ok_or("ERR Invalid command specified")?.spec;
    let specs = spec.keys.specs();
    if specs.is_empty() {
        return Err("ERR The command has no key arguments");
    }
    if !spec.fits(inner.len()) {
        return Err("ERR Invalid number of arguments specified for command");
    }
    let mut keys = Vec::new();
    let name = spec.name;
    for spec in specs.iter().filter(|spec| !spec.flags.has(KeyFlags::NOT_KEY)) {
        let flags = spec.flags_with(name, &inner);
        let found = spec.each(&inner, &mut |index| keys.push((inner.at(index), flags)));
        if !found && spec.flags.any(KeyFlags::INCOMPLETE) {
            continue;
        }
    }
    let optional = spec.flags.has(Flags::NO_MANDATORY_KEYS);
    if keys.is_empty() && !optional { Err("ERR Invalid arguments specified for command") } else { Ok(keys) }
}

fn getkeys(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let keys = match keys_of(args) {
        Ok(keys) => keys,
        Err(text) => return fail(reply, text),
    };
    reply.array(keys.len());
    keys.iter().for_each(|(key, _)| reply.bulk(key));
    Outcome::Done
}

fn getkeysandflags(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let keys = match keys_of(args) {
        Ok(keys) => keys,
        Err(text) => return fail(reply, text),
    };
    reply.array(keys.len());
    for (key, flags) in keys {
        reply.array(2);
        reply.bulk(key);
        names(reply, flags.names());
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_ranges_are_put_together_from_adjacent_keys() {
        const RO: KeyFlags = KeyFlags::RO;
        assert_eq!(legacy_range(Keys::None), (0, 0, 0));
        assert_eq!(legacy_range(Keys::READ_ONE), (1, 1, 1));
        assert_eq!(legacy_range(Keys::READ_ALL), (1, -1, 1));
        const TWO: &[KeySpec] = &[KeySpec::one(1, RO), KeySpec::one(2, RO)];
        assert_eq!(legacy_range(Keys::Specs(TWO)), (1, 2, 1));
        const PAIRS: &[KeySpec] = &[KeySpec::range(1, -1, 2, RO)];
        assert_eq!(legacy_range(Keys::Specs(PAIRS)), (1, -1, 2));
    }
}
