//! FUNCTION and FCALL. How functions run, and how libraries are loaded, is in `exec/script`; it must not know Lua.

use super::script::{EVAL_FLAGS, Load, Naming, READS, WRITES, call, kill_running};
use super::{Acl, Args, Ctx, Flags, Keys, Outcome, Run, Spec, fail, help};
use crate::glob;
use crate::protocol::Reply;
use crate::rdb;
use crate::script::Library;

const ROW: Spec = Spec {
    arity: -3,
    flags: EVAL_FLAGS.or(Flags::MAY_REPLICATE),
    acl: Acl::SCRIPTING,
    group: "scripting",
    since: "7.0.0",
    complexity: "Depends on the function that is executed.",
    ..Spec::BASE
};
const SUB: Spec = Spec { flags: Flags::NOSCRIPT, keys: Keys::None, complexity: "O(1)", ..ROW };
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "fcall",
        keys: WRITES,
        syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a function of a library.",
        run: call(Naming::Function, false),
        ..ROW
    },
    Spec {
        name: "fcall_ro",
        flags: EVAL_FLAGS.or(Flags::READONLY),
        keys: READS,
        syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
        summary: "Runs a function of a library that may not write.",
        run: call(Naming::Function, true),
        ..ROW
    },
    Spec {
        name: "function",
        arity: -2,
        flags: Flags::NONE,
        acl: Acl::NONE,
        complexity: "Depends on subcommand.",
        summary: "Keeps and shows libraries of functions.",
        run: Run::Container,
        ..SUB
    },
    Spec {
        name: "function|delete",
        arity: 3,
        flags: Flags::NOSCRIPT.or(Flags::WRITE),
        tips: ALL_SHARDS,
        syntax: "library-name",
        summary: "Removes a library.",
        run: Run::Server(delete),
        ..SUB
    },
    Spec {
        name: "function|dump",
        arity: 2,
        complexity: "O(N) where N is the number of functions",
        summary: "Returns all libraries in a serialised form.",
        run: Run::Server(dump),
        ..SUB
    },
    Spec {
        name: "function|flush",
        arity: -2,
        flags: Flags::NOSCRIPT.or(Flags::WRITE),
        tips: ALL_SHARDS,
        syntax: "[ASYNC | SYNC]",
        complexity: "O(N) where N is the number of functions deleted",
        summary: "Removes all libraries.",
        run: Run::Server(flush),
        ..SUB
    },
    Spec { acl: Acl::SCRIPTING, group: "scripting", ..help::row("function|help", "7.0.0") },
    Spec {
        name: "function|kill",
        arity: 2,
        flags: Flags::NOSCRIPT.or(Flags::ALLOW_BUSY),
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        summary: "Ends a function that has run for long and has not written.",
        run: Run::Server(kill),
        ..SUB
    },
    Spec {
        name: "function|list",
        arity: -2,
        tips: &["nondeterministic_output_order"],
        syntax: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
        complexity: "O(N) where N is the number of functions",
        summary: "Shows the libraries and their functions.",
        run: Run::Server(list),
        ..SUB
    },
    Spec {
        name: "function|load",
        flags: Flags::NOSCRIPT.or(Flags::WRITE).or(Flags::DENYOOM),
        arity: -3,
        tips: ALL_SHARDS,
        syntax: "[REPLACE] function-code",
        complexity: "O(1) (considering compilation time is redundant)",
        summary: "Loads a library.",
        run: Run::Load(Load::Library),
        ..SUB
    },
    Spec {
        name: "function|restore",
        flags: Flags::NOSCRIPT.or(Flags::WRITE).or(Flags::DENYOOM),
        arity: -3,
        tips: ALL_SHARDS,
        syntax: "serialized-value [FLUSH | APPEND | REPLACE]",
        complexity: "O(N) where N is the number of functions on the payload",
        summary: "Loads the libraries that FUNCTION DUMP returned.",
        run: Run::Load(Load::Dump),
        ..SUB
    },
    Spec {
        name: "function|stats",
        arity: 2,
        flags: Flags::NOSCRIPT.or(Flags::ALLOW_BUSY),
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        summary: "Tells which function runs, and how many there are.",
        run: Run::Server(stats),
        ..SUB
    },
];

fn delete(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !ctx.state.functions.delete(&String::from_utf8_lossy(args.at(2))) {
        return fail(reply, "ERR Library not found");
    }
    reply.ok();
    Outcome::Done
}

fn dump(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let set = ctx.state.functions.load();
    reply.bulk(&rdb::dump_functions(set.libraries.values().map(|library| &*library.code)));
    Outcome::Done
}

fn flush(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.len() > 3 {
        return help::wrong_subcommand("FUNCTION", args, reply);
    }
    if args.len() == 3 && !args.is(2, "sync") && !args.is(2, "async") {
        return fail(reply, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
    }
    ctx.state.functions.flush();
    reply.ok();
    Outcome::Done
}

fn kill(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    kill_running(ctx, true, reply)
}

fn list(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (mut pattern, mut with_code, mut index) = (None, false, 2);
    while index < args.len() {
        match () {
            () if args.is(index, "withcode") && !with_code => with_code = true,
            () if args.is(index, "libraryname") && pattern.is_none() => {
                index += 1;
                if index >= args.len() {
                    return fail(reply, "ERR library name argument was not given");
                }
                pattern = Some(args.at(index));
            }
            () => {
                let unknown = String::from_utf8_lossy(args.at(index));
                return fail(reply, &format!("ERR Unknown argument {unknown}"));
            }
        }
        index += 1;
    }
    let set = ctx.state.functions.load();
    let matches =
        |library: &&Library| pattern.is_none_or(|pattern| glob::matches(pattern, library.name.as_bytes(), true));
    let found: Vec<_> = set.libraries.values().map(|library| &**library).filter(matches).collect();
    reply.array(found.len());
    for library in found {
        describe(library, with_code, reply);
    }
    Outcome::Done
}

fn describe(library: &Library, with_code: bool, reply: &mut Reply<'_>) {
    reply.map(if with_code { 4 } else { 3 });
    reply.text("library_name");
    reply.text(&library.name);
    reply.text("engine");
    reply.text("LUA");
    reply.text("functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.text("name");
        reply.text(&function.name);
        reply.text("description");
        match &function.description {
            Some(text) => reply.text(text),
            None => reply.null(),
        }
        reply.text("flags");
        let flags = function.flags.names();
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
    }
    if with_code {
        reply.text("library_code");
        reply.bulk(&library.code);
    }
}

fn stats(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.map(2);
    reply.text("running_script");
    match ctx.state.scripts.running().filter(|running| running.is_function) {
        Some(running) => {
            reply.map(3);
            reply.text("name");
            reply.text(&running.name);
            reply.text("command");
            reply.array(running.command.len());
            running.command.iter().for_each(|word| reply.bulk(word));
            reply.text("duration_ms");
            reply.integer(ctx.now - running.since);
        }
        None => reply.null(),
    }
    reply.text("engines");
    reply.map(1);
    reply.text("LUA");
    reply.map(2);
    let set = ctx.state.functions.load();
    reply.text("libraries_count");
    reply.integer(set.libraries.len() as i64);
    reply.text("functions_count");
    reply.integer(set.functions() as i64);
    Outcome::Done
}
