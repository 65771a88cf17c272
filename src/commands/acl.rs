//! ACL: users, what they may do, and who was refused what. How rules are read is in `acl_rules`, what a user may run in
//! `acl_check`, files in `acl_file`. It must not know how connections are closed.

use super::acl_check::check_acl;
use super::acl_rules::{Blank, apply, category_named, is_plain, join};
use super::spec::Acl as Category;
use super::{Args, Ctx, Flags, Outcome, Run, Spec, acl_file, c_text, fail, find_whole, help, registry};
use crate::config::Config;
use crate::protocol::Reply;
use crate::state::State;
use crate::state::acl::Selector;

const PLAIN: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const ROW: Spec = Spec { arity: 2, flags: PLAIN, group: "server", since: "6.0.0", ..Spec::BASE };
const ADMIN: Spec = Spec { flags: PLAIN.or(Flags::ADMIN), ..ROW };
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "acl",
        arity: -2,
        flags: Flags::NONE,
        complexity: "Depends on subcommand.",
        summary: "Says who may do what.",
        run: Run::Container,
        ..ROW
    },
    Spec {
        name: "acl|cat",
        arity: -2,
        syntax: "[category]",
        complexity: "O(1) since the categories and commands are a fixed set.",
        summary: "Returns the categories, or the commands of one.",
        run: Run::Server(cat),
        ..ROW
    },
    Spec {
        name: "acl|deluser",
        arity: -3,
        tips: ALL_NODES,
        syntax: "username [username ...]",
        complexity: "O(1) amortized time considering the typical user.",
        summary: "Removes users and closes their connections.",
        run: Run::Server(deluser),
        ..ADMIN
    },
    Spec {
        name: "acl|dryrun",
        arity: -4,
        since: "7.0.0",
        syntax: "username command [arg [arg ...]]",
        complexity: "O(1).",
        summary: "Tells whether a user may run a command, without running it.",
        run: Run::Server(dryrun),
        ..ADMIN
    },
    Spec {
        name: "acl|genpass",
        arity: -2,
        syntax: "[bits]",
        summary: "Makes a password that nobody can guess.",
        run: Run::Server(genpass),
        ..ROW
    },
    Spec {
        name: "acl|getuser",
        arity: 3,
        syntax: "username",
        complexity: "O(N). Where N is the number of password, command and pattern rules that the user has.",
        summary: "Returns the rules of a user.",
        run: Run::Server(getuser),
        ..ADMIN
    },
    help::row("acl|help", "6.0.0"),
    Spec {
        name: "acl|list",
        complexity: "O(N). Where N is the number of configured users.",
        summary: "Returns all users with their rules, as in an ACL file.",
        run: Run::Server(list),
        ..ADMIN
    },
    Spec {
        name: "acl|load",
        complexity: "O(N). Where N is the number of configured users.",
        summary: "Reads the ACL file again.",
        run: Run::Server(load),
        ..ADMIN
    },
    Spec {
        name: "acl|log",
        arity: -2,
        syntax: "[count | RESET]",
        complexity: "O(N) with N being the number of entries shown.",
        summary: "Returns the latest refusals, or forgets them.",
        run: Run::Server(log),
        ..ADMIN
    },
    Spec {
        name: "acl|save",
        tips: ALL_NODES,
        complexity: "O(N). Where N is the number of configured users.",
        summary: "Writes all users to the ACL file.",
        run: Run::Server(save),
        ..ADMIN
    },
    Spec {
        name: "acl|setuser",
        arity: -3,
        tips: ALL_NODES,
        syntax: "username [rule [rule ...]]",
        complexity: "O(N). Where N is the number of rules provided.",
        summary: "Makes a user, or changes one.",
        run: Run::Server(setuser),
        ..ADMIN
    },
    Spec {
        name: "acl|users",
        complexity: "O(N). Where N is the number of configured users.",
        summary: "Returns the names of all users.",
        run: Run::Server(users),
        ..ADMIN
    },
    Spec { name: "acl|whoami", summary: "Returns the name of the connection's user.", run: Run::Server(whoami), ..ROW },
];

/// Bits of a password that GENPASS makes unless told, and at most.
const GENPASS_BITS: (i64, i64) = (256, 4096);
/// Entries that LOG returns unless told.
const LOG_ENTRIES: usize = 10;

/// What new users have.
pub(super) fn blank(state: &State, config: &Config) -> Blank {
    Blank { rows: state.acl.rows(), all_channels: config.acl_pubsub_default_all }
}

fn cat(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    match args.len() {
        2 => {
            let names: Vec<_> = Category::all().collect();
            reply.array(names.len());
            names.iter().for_each(|(_, name)| reply.text(&name[1..]));
        }
        3 => {
            let Some(category) = category_named(args.at(2)) else {
                reply.error_bytes(&[b"ERR Unknown category '", c_text(args.at(2)), b"'"].concat());
                return Outcome::Done;
            };
            let commands: Vec<_> = registry().all().filter(|command| command.spec.categories().has(category)).collect();
            reply.array(commands.len());
            commands.iter().for_each(|command| reply.text(command.spec.name));
        }
        _ => return help::wrong_subcommand("ACL", args, reply),
    }
    Outcome::Done
}

fn setuser(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = args.at(2);
    if !is_plain(name) {
        return fail(reply, "ERR Usernames can't contain spaces or null characters");
    }
    let rules = match join(args.from(3)) {
        Ok(rules) => rules,
        Err(start) => {
            reply.error_bytes(&[b"ERR Unmatched parenthesis in acl selector starting at '", start, b"'."].concat());
            return Outcome::Done;
        }
    };
    let blank = blank(ctx.state, &ctx.state.config.load());
    let changed = ctx.state.acl.change(name, |known| match known {
        Some(known) => apply(known, blank, &rules),
        None => apply(&blank.user(name), blank, &rules),
    });
    match changed {
        Err(text) => reply.error_bytes(&[b"ERR ", text.as_slice()].concat()),
        Ok(user) => {
            reply.ok();
            if ctx.state.close_listeners_of(&user, ctx.client.info.id) {
                return Outcome::Close;
            }
        }
    }
    Outcome::Done
}

fn deluser(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.from(2).any(|name| name == b"default") {
        return fail(reply, "ERR The 'default' user cannot be removed");
    }
    let removed = ctx.state.acl.remove(args.from(2));
    reply.integer(removed.len() as i64);
    if ctx.state.close_connections_of(&removed, ctx.client.info.id) { Outcome::Close } else { Outcome::Done }
}

fn getuser(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(user) = ctx.state.acl.get(args.at(2)) else {
        reply.null();
        return Outcome::Done;
    };
    reply.map(7);
    reply.text("flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.text(flag));
    reply.text("passwords");
    reply.array(user.passwords().len());
    user.passwords().iter().for_each(|hash| reply.text(&hash.hex()));
    let (own, others) = user.own_and_others();
    permissions(own, reply);
    reply.text("selectors");
    reply.array(others.len());
    for selector in others {
        reply.map(4);
        permissions(selector, reply);
    }
    Outcome::Done
}

fn permissions(selector: &Selector, reply: &mut Reply<'_>) {
    reply.text("commands");
    reply.text(&selector.describe_commands());
    reply.text("keys");
    reply.bulk(&selector.describe_keys());
    reply.text("channels");
    reply.bulk(&selector.describe_channels());
    reply.text("databases");
    reply.text(&selector.describe_databases());
}

fn list(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let users = ctx.state.acl.users();
    reply.array(users.len());
    users.iter().for_each(|user| reply.bulk(&user.line()));
    Outcome::Done
}

fn users(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let users = ctx.state.acl.users();
    reply.array(users.len());
    users.iter().for_each(|user| reply.bulk(&user.name));
    Outcome::Done
}

fn whoami(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(&ctx.client.user.name);
    Outcome::Done
}

fn dryrun(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(user) = ctx.state.acl.get(args.at(2)) else {
        reply.error_bytes(&[b"ERR User '", c_text(args.at(2)), b"' not found"].concat());
        return Outcome::Done;
    };
    let inner = args.tail(3);
    let Some(command) = find_whole(&inner) else {
        reply.error_bytes(&[b"ERR Command '", c_text(args.at(3)), b"' not found"].concat());
        return Outcome::Done;
    };
    if !command.spec.fits(inner.len()) {
        return fail(reply, &format!("ERR wrong number of arguments for '{}' command", command.spec.name));
    }
    match check_acl(&user, command, &inner, ctx.client.db()) {
        Ok(()) => reply.ok(),
        Err(denied) => reply.bulk(&denied.text_in_full(&user)),
    }
    Outcome::Done
}

fn genpass(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (standard, most) = GENPASS_BITS;
    let bits = match args.len() {
        2 => Some(standard),
        3 => args.integer(2),
        _ => return help::wrong_subcommand("ACL", args, reply),
    };
    let Some(bits) = bits else { return fail(reply, super::NOT_AN_INTEGER) };
    if !(1..=most).contains(&bits) {
        return fail(
            reply,
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
        );
    }
    let digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    if getrandom::fill(&mut bytes).is_err() {
        // What can be guessed is no password.
        return fail(reply, "ERR the system has no randomness to give");
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    reply.text(&hex[..digits]);
    Outcome::Done
}

fn log(ctx: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = match args.len() {
        2 => LOG_ENTRIES,
        3 if args.is(2, "reset") => {
            ctx.state.acl.log.reset();
            reply.ok();
            return Outcome::Done;
        }
        3 => match args.integer(2) {
            Some(count) => usize::try_from(count).unwrap_or(0),
            None => return fail(reply, super::NOT_AN_INTEGER),
        },
        _ => return help::wrong_subcommand("ACL", args, reply),
    };
    let entries = ctx.state.acl.log.newest(count);
    reply.array(entries.len());
    for entry in entries {
        reply.map(10);
        reply.text("count");
        reply.integer(entry.count as i64);
        for (name, value) in [("reason", entry.reason.name()), ("context", entry.context.name())] {
            reply.text(name);
            reply.text(value);
        }
        reply.text("object");
        reply.bulk(&entry.object);
        reply.text("username");
        reply.bulk(&entry.user);
        reply.text("age-seconds");
        reply.double((ctx.now - entry.last_at) as f64 / 1000.0);
        reply.text("client-info");
        reply.text(&entry.client);
        let figures = [
            ("entry-id", entry.id as i64),
            ("timestamp-created", entry.first_at),
            ("timestamp-last-updated", entry.last_at),
        ];
        for (name, value) in figures {
            reply.text(name);
            reply.integer(value);
        }
    }
    Outcome::Done
}

const NO_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the \
                       ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file \
                       set) in order to store users in the Redis configuration.";

fn load(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let config = ctx.state.config.load();
    if config.aclfile.is_empty() {
        return fail(reply, NO_FILE);
    }
    let users = match acl_file::read(&config.aclfile, blank(ctx.state, &config)) {
        Ok(users) => users,
        Err(text) => {
            reply.error_bytes(&[b"ERR ", text.as_slice()].concat());
            return Outcome::Done;
        }
    };
    let before = ctx.state.acl.replace_all(users);
    reply.ok();
    let own = ctx.client.info.id;
    let gone: Vec<_> = before.into_iter().filter(|user| ctx.state.acl.current(user).is_none()).collect();
    let mut is_closed = ctx.state.close_connections_of(&gone, own);
    is_closed |= ctx.state.close_listeners_of(&ctx.state.acl.default_user(), own);
    if is_closed { Outcome::Close } else { Outcome::Done }
}

fn save(ctx: &mut Ctx<'_>, _: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let config = ctx.state.config.load();
    if config.aclfile.is_empty() {
        return fail(reply, NO_FILE);
    }
    match acl_file::write(&config.aclfile, &ctx.state.acl.users()) {
        Ok(()) => reply.ok(),
        Err(error) => {
            tracing::warn!("the ACL file {} cannot be written: {error}", config.aclfile);
            reply.error(
                "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
            );
        }
    }
    Outcome::Done
}
