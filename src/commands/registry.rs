//! Finding a command's row by its name: the one in the table, or the one that `rename-command` gave it. It must not know
//! what the rows do.

use super::{Args, Spec};
use std::sync::OnceLock;

/// A row with its place among all rows, and its subcommands.
pub struct Command {
    /// The row.
    pub spec: &'static Spec,
    /// What clients call it; empty if they cannot. Of a subcommand: as in the row.
    pub called: &'static str,
    /// Index among all rows, for counters.
    pub id: usize,
    /// Rows named `this|…`.
    pub subcommands: Vec<Command>,
}

impl Command {
    /// The last part of the name.
    pub fn short_name(&self) -> &'static str {
        self.spec.name.rsplit('|').next().unwrap_or(self.spec.name)
    }
}

/// All rows.
#[derive(Default)]
pub struct Registry {
    commands: Vec<Command>,
    /// Full names, by [`Command::id`].
    names: Vec<&'static str>,
    /// Open addressing over a power of two: index into `commands` plus 1.
    table: Vec<u16>,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Gives commands other names, in order; an empty one takes a command away. To be called once, before anything else asks
/// for a command.
///
/// # Errors
/// For a command that is not there, or a name that another one has.
pub fn rename_commands<'a>(renames: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    let renames: Vec<(String, String)> =
        renames.map(|(from, to)| (from.to_ascii_lowercase(), to.to_ascii_lowercase())).collect();
    // Who calls it a second time is late: the names are known by then.
    let _ = REGISTRY.set(Registry::new(&renames)?);
    Ok(())
}

/// The registry.
#[inline]
pub fn registry() -> &'static Registry {
    REGISTRY.get_or_init(|| Registry::new(&[]).unwrap_or_default())
}

const TABLE_SIZE: usize = 2048;

#[inline]
fn slot(name: &[u8]) -> usize {
    // The first eight bytes in lower case and the length tell nearly all names apart.
    let mut word = [0u8; 8];
    let len = name.len().min(8);
    word[..len].copy_from_slice(&name[..len]);
    let word = u64::from_le_bytes(word) | 0x2020_2020_2020_2020;
    let mixed = (word ^ ((name.len() as u64) << 5)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 53) as usize % TABLE_SIZE
}

impl Registry {
    fn new(renames: &[(String, String)]) -> Result<Self, String> {
        let mut rows: Vec<&'static Spec> = super::FAMILIES.iter().flat_map(|family| family.iter()).collect();
        rows.sort_by_key(|spec| spec.name);
        let mut commands: Vec<Command> = Vec::new();
        let mut subcommands = Vec::new();
        for (id, spec) in rows.iter().enumerate() {
            let command = Command { spec, called: spec.name, id, subcommands: Vec::new() };
            if spec.name.contains('|') { subcommands.push(command) } else { commands.push(command) }
        }
        for sub in subcommands {
            let container = sub.spec.name.split('|').next().unwrap_or_default();
            if let Some(parent) = commands.iter_mut().find(|command| command.spec.name == container) {
                parent.subcommands.push(sub);
            }
        }
        for (from, to) in renames {
            if !to.is_empty() && commands.iter().any(|command| command.called == to) {
                return Err(format!("rename-command {from}: there is a command '{to}' already"));
            }
            let command = commands.iter_mut().find(|command| !from.is_empty() && command.called == from);
            let command = command.ok_or_else(|| format!("rename-command {from}: there is no such command"))?;
            // As many as the file has lines, and as long as the server runs.
            command.called = to.clone().leak();
        }
        let mut table = vec![0u16; TABLE_SIZE];
        for (index, command) in commands.iter().enumerate().filter(|(_, command)| !command.called.is_empty()) {
            let mut at = slot(command.called.as_bytes());
            while table[at] != 0 {
                at = (at + 1) % TABLE_SIZE;
            }
            table[at] = index as u16 + 1;
        }
        Ok(Self { commands, names: rows.iter().map(|spec| spec.name).collect(), table })
    }

    /// All commands that are not subcommands, by name, those that clients cannot call included.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Rows, subcommands included: one more than the largest [`Command::id`].
    pub fn rows(&self) -> usize {
        self.names.len()
    }

    /// The full name of the row with this [`Command::id`].
    pub fn name(&self, id: usize) -> Option<&'static str> {
        self.names.get(id).copied()
    }

    /// All rows, subcommands behind their containers.
    pub fn all(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter().flat_map(|command| std::iter::once(command).chain(&command.subcommands))
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<&Command> {
        let mut at = slot(name);
        loop {
            let index = self.table[at].checked_sub(1)?;
            let command = &self.commands[usize::from(index)];
            if command.called.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
            at = (at + 1) % TABLE_SIZE;
        }
    }
}

/// The command of a name; a container's subcommand where there is a second argument. A container with an unknown
/// subcommand gives the container.
#[inline]
pub fn find(args: &Args<'_>) -> Option<&'static Command> {
    let command = registry().find(args.get(0)?)?;
    if command.subcommands.is_empty() || args.len() < 2 {
        return Some(command);
    }
    Some(command.subcommands.iter().find(|sub| args.is(1, sub.short_name())).unwrap_or(command))
}

/// The same, but for a container with an unknown subcommand nothing.
pub(super) fn find_whole(args: &Args<'_>) -> Option<&'static Command> {
    find(args).filter(|command| command.subcommands.is_empty() || args.len() == 1)
}

/// The command of a full name (`get`, `config|get`), as clients call it.
pub fn find_sub(name: &[u8]) -> Option<&'static Command> {
    below(name, |name| registry().find(name))
}

/// The command of a full name in the table, whatever clients call it: what ACL rules name.
pub(super) fn find_original(name: &[u8]) -> Option<&'static Command> {
    let lower = name.to_ascii_lowercase();
    let commands = registry().commands();
    below(&lower, |name| {
        commands.binary_search_by(|command| command.spec.name.as_bytes().cmp(name)).ok().map(|at| &commands[at])
    })
}

fn below(name: &[u8], find: impl FnOnce(&[u8]) -> Option<&'static Command>) -> Option<&'static Command> {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let command = find(parts.next()?)?;
    match parts.next() {
        None => Some(command),
        Some(sub) => command.subcommands.iter().find(|s| s.short_name().as_bytes().eq_ignore_ascii_case(sub)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_found_by_its_name_and_has_a_parent() {
        let all: Vec<_> = registry().all().collect();
        let names: BTreeSet<_> = all.iter().map(|command| command.spec.name).collect();
        assert_eq!(all.len(), registry().rows(), "a subcommand without its container, or a name twice");
        assert_eq!(names.len(), all.len());
        for command in all {
            let found = find_sub(command.spec.name.to_uppercase().as_bytes()).unwrap();
            assert_eq!(found.id, command.id);
            assert_eq!(find_original(command.spec.name.as_bytes()).map(|found| found.id), Some(command.id));
            assert!(!command.spec.summary.is_empty() && command.spec.arity != 0, "{}", command.spec.name);
        }
        assert!(find_sub(b"nosuch").is_none() && find_sub(b"get|nosuch").is_none());
    }

    #[test]
    fn commands_are_called_by_their_new_names() {
        let with = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
            Registry::new(&pairs)
        };
        let registry = with(&[("get", "fetch"), ("flushall", ""), ("set", "get"), ("fetch", "read")]).unwrap();
        let row = |name: &str| registry.find(name.as_bytes()).map(|command| command.spec.name);
        assert_eq!((row("READ"), row("get"), row("del")), (Some("get"), Some("set"), Some("del")));
        assert!(row("set").is_none() && row("fetch").is_none() && row("flushall").is_none() && row("").is_none());
        for (from, to) in [("nosuch", "x"), ("get", "set"), ("", "x")] {
            assert!(with(&[(from, to)]).is_err(), "{from} {to}");
        }
        assert!(with(&[("get", ""), ("get", "x")]).is_err());
    }
}
