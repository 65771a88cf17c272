//! HELP of every command that has subcommands, made from the rows. Knows rows only.

use super::{Args, Ctx, Flags, Outcome, Run, Spec, registry};
use crate::protocol::Reply;

/// The row of a container's HELP.
pub(super) const fn row(name: &'static str, since: &'static str) -> Spec {
    Spec {
        name,
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        group: "server",
        since,
        summary: "Lists the subcommands.",
        run: Run::Server(help),
        ..Spec::BASE
    }
}

/// Answers with the subcommands of the command that was called.
pub(super) fn help(_: &mut Ctx<'_>, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(container) = registry::find_sub(args.at(0)) else { return Outcome::Done };
    let subcommands: Vec<(String, &str)> = container
        .subcommands
        .iter()
        .map(|sub| (format!("{} {}", sub.short_name().to_uppercase(), sub.spec.syntax), sub.spec.summary))
        .collect();
    lines(reply, container.called, subcommands.iter().map(|(syntax, summary)| (syntax.as_str(), *summary)));
    Outcome::Done
}

/// The error of a subcommand whose arguments no row's arity refuses, but the subcommand does.
pub(super) fn wrong_subcommand(container: &str, args: &Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = super::c_text(args.at(1));
    let head = b"ERR unknown subcommand or wrong number of arguments for '";
    let tail = format!("'. Try {container} HELP.");
    reply.error_bytes(&[head.as_slice(), &name[..name.len().min(128)], tail.as_bytes()].concat());
    Outcome::Done
}

/// Writes a help text: subcommands with their arguments, each followed by what it does.
pub(super) fn lines<'a>(
    reply: &mut Reply<'_>,
    container: &str,
    subcommands: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) {
    reply.array(1 + subcommands.len() * 2);
    let container = container.to_uppercase();
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (syntax, summary) in subcommands {
        reply.simple(syntax.trim_end());
        reply.simple(&format!("    {summary}"));
    }
}
