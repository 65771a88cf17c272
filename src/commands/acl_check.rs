//! Whether a user may run a command: the command itself, its keys, its channels and its databases, from its row. It must
//! not know how commands run.

use super::c_text;
use super::{Acl, Args, Command, Flags, KeyFlags, KeySpec, client_list};
use crate::state::acl::{Context, Denial, Reason, Refusal, Selector, Touch, User};
use crate::state::{Client, ClientInfo, State};
use std::sync::atomic::Ordering;

/// A command that a user may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What is missing.
    pub why: Denial,
    /// The command's name, the key, the channel or the database.
    pub object: Vec<u8>,
}

impl Denied {
    /// What the client is told: neither key nor channel.
    pub fn text(&self, user: &User) -> Vec<u8> {
        match self.why {
            Denial::Command => self.text_in_full(user),
            Denial::Key => b"No permissions to access a key".to_vec(),
            Denial::Channel => b"No permissions to access a channel".to_vec(),
            Denial::Database => b"No permissions to access database".to_vec(),
        }
    }

    /// What ACL DRYRUN says.
    pub fn text_in_full(&self, user: &User) -> Vec<u8> {
        let (before, after): (&[u8], &[u8]) = match self.why {
            Denial::Command => (b" has no permissions to run the '", b"' command"),
            Denial::Key => (b" has no permissions to access the '", b"' key"),
            Denial::Channel => (b" has no permissions to access the '", b"' channel"),
            Denial::Database => (b" has no permissions to access database ", b""),
        };
        [b"User ", &*user.name, before, c_text(&self.object), after].concat()
    }

    /// What EXEC says of a command that was allowed when it was queued.
    pub fn text_in_exec(&self) -> String {
        let reason = match self.why {
            Denial::Command => "no permission to execute the command or subcommand",
            Denial::Key => "no permission to touch the specified keys",
            Denial::Channel => "no permission to access one of the channels used as arguments",
            Denial::Database => "no permission",
        };
        format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command \
             is no longer allowed for the following reason: {reason}"
        )
    }
}

/// Whether a user may run a command, in a database.
///
/// # Errors
/// What stands in the way, as of the permissions that come nearest.
#[inline]
pub fn check_acl(user: &User, command: &Command, args: &Args<'_>, db: usize) -> Result<(), Denied> {
    if user.is_free() { Ok(()) } else { check(user, command, args, db) }
}

/// Whether a command of the user's may read the keys that values name, if it does (SORT): some permissions allow both the
/// command and all keys.
pub fn may_reach(user: &User, command: &Command, args: &Args<'_>, db: usize) -> bool {
    let allows = |selector: &Selector| selector.reads_all_keys() && check_selector(selector, command, args, db).is_ok();
    user.is_free() || !command.spec.keys.reach_all(args) || user.selectors().iter().any(allows)
}

fn check(user: &User, command: &Command, args: &Args<'_>, db: usize) -> Result<(), Denied> {
    let mut nearest = (Denial::Database, 0);
    for selector in user.selectors() {
        match check_selector(selector, command, args, db) {
            Ok(()) => return Ok(()),
            Err(fault) => nearest = nearest.max(fault),
        }
    }
    let (why, index) = nearest;
    let object = match why {
        Denial::Command => command.spec.name.as_bytes(),
        _ => args.get(index).unwrap_or_default(),
    };
    Err(Denied { why, object: object.to_vec() })
}

/// What stands in the way, and the argument that it is about.
fn check_selector(selector: &Selector, command: &Command, args: &Args<'_>, db: usize) -> Result<(), (Denial, usize)> {
    let spec = command.spec;
    if !selector.has_all_databases() {
        check_databases(selector, command, args, db)?;
    }
    let may_run = selector.has_command(command.id)
        || spec.flags.has(Flags::NO_AUTH)
        || selector.has_first_arg(command.id, args.get(1));
    if !may_run {
        return Err((Denial::Command, 0));
    }
    if !selector.has_all_keys()
        && let Some(index) = denied_key(selector, command, args)
    {
        return Err((Denial::Key, index));
    }
    if !selector.has_all_channels()
        && let Some(index) = denied_channel(selector, spec.name, args)
    {
        return Err((Denial::Channel, index));
    }
    Ok(())
}

/// Commands on databases may name others than the connection's own; FLUSHALL needs all.
fn check_databases(selector: &Selector, command: &Command, args: &Args<'_>, db: usize) -> Result<(), (Denial, usize)> {
    let spec = command.spec;
    let is_key = |spec: &KeySpec| !spec.flags.has(KeyFlags::NOT_KEY);
    let about_keys = spec.categories().any(Acl::KEYSPACE.or(Acl::READ).or(Acl::WRITE));
    let named: &[usize] = match spec.name {
        "select" | "swapdb" => &[1, 2],
        "move" => &[2],
        "copy" => &[4, 5],
        "flushall" => return Err((Denial::Database, 0)),
        _ => &[],
    };
    let is_denied = |index: &&usize| {
        let is_named = spec.name != "copy" || args.is(**index - 1, "db");
        is_named && args.integer(**index).is_some_and(|db| !u32::try_from(db).is_ok_and(|db| selector.has_database(db)))
    };
    if let Some(index) = named.iter().find(is_denied) {
        return Err((Denial::Database, *index));
    }
    if spec.name != "swapdb"
        && (about_keys || spec.keys.specs().iter().any(is_key))
        && !selector.has_database(u32::try_from(db).unwrap_or(u32::MAX))
    {
        return Err((Denial::Database, 0));
    }
    Ok(())
}

/// The first key that may not be touched so.
fn denied_key(selector: &Selector, command: &Command, args: &Args<'_>) -> Option<usize> {
    let is_key = |spec: &&KeySpec| !spec.flags.has(KeyFlags::NOT_KEY);
    let mut denied = None;
    for spec in command.spec.keys.specs().iter().filter(is_key) {
        let flags = spec.flags_with(command.spec.name, args);
        let touch = Touch {
            reads: flags.has(KeyFlags::ACCESS),
            writes: flags.any(KeyFlags::INSERT.or(KeyFlags::DELETE).or(KeyFlags::UPDATE)),
        };
        let found = spec.each(args, &mut |index| {
            if denied.is_none() && !selector.has_key(args.at(index), touch) {
                denied = Some(index);
            }
        });
        if !found && !spec.flags.has(KeyFlags::INCOMPLETE) {
            // Arguments that do not say which keys they name touch none: the command answers with an error.
            return None;
        }
    }
    denied
}

/// The first channel that may not be used.
fn denied_channel(selector: &Selector, name: &str, args: &Args<'_>) -> Option<usize> {
    let channels = match name {
        "subscribe" | "ssubscribe" | "psubscribe" => 1..args.len(),
        "publish" | "spublish" => 1..2,
        _ => return None,
    };
    let is_pattern = name == "psubscribe";
    channels.into_iter().find(|index| !selector.has_channel(args.get(*index).unwrap_or_default(), is_pattern))
}

/// Whether a connection may run a command; if not, that is noted in ACL LOG and counted.
///
/// # Errors
/// What stands in the way.
#[inline]
pub fn permit(
    state: &State,
    client: &Client,
    context: Context,
    command: &Command,
    args: &Args<'_>,
    now: i64,
) -> Result<(), Denied> {
    permit_as(state, (&client.user, &client.info, client.db()), context, command, args, now)
}

/// The same for a connection that is not at hand: its user, what others know of it, and its database.
///
/// # Errors
/// As [`check_acl`].
pub fn permit_as(
    state: &State,
    (user, client, db): (&User, &ClientInfo, usize),
    context: Context,
    command: &Command,
    args: &Args<'_>,
    now: i64,
) -> Result<(), Denied> {
    let denied = check_acl(user, command, args, db);
    if let Err(Denied { why, object }) = &denied {
        state.acl.refused.denied[*why as usize].fetch_add(1, Ordering::Relaxed);
        // Where no argument names the database, the command does.
        let is_command = *why == Denial::Database && Some(object.as_slice()) == args.get(0);
        let object = if is_command { command.spec.name.as_bytes() } else { object };
        note(state, client, (Reason::Denied(*why), context), object, &user.name, now);
    }
    denied
}

/// Notes in ACL LOG that a connection was refused something.
#[cold]
pub(super) fn note(
    state: &State,
    client: &ClientInfo,
    (reason, context): (Reason, Context),
    object: &[u8],
    user: &[u8],
    now: i64,
) {
    let line = client_list::line(client, 0, now);
    let refusal = Refusal::new(reason, context, object, user, line, now);
    state.acl.log.add(refusal, state.config.load().acllog_max_len);
}
