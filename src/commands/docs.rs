//! COMMAND DOCS: the documentation of the rows. Knows rows only.

use super::syntax::{self, Argument, Kind};
use super::{Args, Command, Ctx, Outcome, find_sub, registry};
use crate::protocol::Reply;

pub(super) fn docs(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let found: Vec<&Command> = if args.len() == 2 {
        registry().commands().iter().collect()
    } else {
        args.from(2).filter_map(find_sub).collect()
    };
    reply.map(found.len());
    found.into_iter().for_each(|command| document(command, reply));
    Outcome::Done
}

/// Name and documentation of one command, its subcommands included.
fn document(command: &Command, reply: &mut Reply<'_>) {
    let spec = command.spec;
    let arguments = syntax::parse(spec.name, spec.syntax, spec.keys.specs());
    reply.text(spec.name);
    let mut texts = vec![("summary", spec.summary), ("since", spec.since), ("group", spec.group)];
    if !spec.complexity.is_empty() {
        texts.push(("complexity", spec.complexity));
    }
    reply.map(texts.len() + usize::from(!arguments.is_empty()) + usize::from(!command.subcommands.is_empty()));
    for (field, text) in texts {
        reply.text(field);
        reply.text(text);
    }
    if !arguments.is_empty() {
        reply.text("arguments");
        list(&arguments, reply);
    }
    if !command.subcommands.is_empty() {
        reply.text("subcommands");
        reply.map(command.subcommands.len());
        command.subcommands.iter().for_each(|sub| document(sub, reply));
    }
}

fn list(arguments: &[Argument<'_>], reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    for argument in arguments {
        let is_group = matches!(argument.kind, Kind::Block | Kind::OneOf);
        let flags: Vec<&str> = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
        let optional_fields = [argument.key_spec.is_some(), argument.token.is_some(), !flags.is_empty()];
        reply.map(3 + optional_fields.into_iter().filter(|field| *field).count());
        reply.text("name");
        reply.text(&argument.name);
        reply.text("type");
        reply.text(argument.kind.name());
        if !is_group {
            reply.text("display_text");
            reply.text(&argument.name);
        }
        if let Some(index) = argument.key_spec {
            reply.text("key_spec_index");
            reply.integer(index as i64);
        }
        if let Some(token) = argument.token {
            reply.text("token");
            reply.text(token);
        }
        if !flags.is_empty() {
            reply.text("flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
        if is_group {
            reply.text("arguments");
            list(&argument.arguments, reply);
        }
    }
}
