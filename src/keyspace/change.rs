//! What a change of a key is called: the events of keyspace notifications. Knows names, and what an
//! edit took out of a collection.
//!
//! Every change of a key, by whatever command, ends in one call that is given one of these; what watches keys
//! (leases, WATCH, blocked clients, client-side caches, notifications) hangs on that call, so no command can forget it.

use super::tracking::Lapse;
use crate::types::{Collection, Object};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The class, one bit: see [`Event::CLASSES`].
    pub class: u32,
    /// The event's name.
    pub name: &'static str,
}

/// The classes of events; each is one bit.
pub mod class {
    /// Events about keys of any type (`g`).
    pub const GENERIC: u32 = 1;
    /// String commands (`$`).
    pub const STRING: u32 = 1 << 1;
    /// List commands (`l`).
    pub const LIST: u32 = 1 << 2;
    /// Set commands (`s`).
    pub const SET: u32 = 1 << 3;
    /// Hash commands (`h`).
    pub const HASH: u32 = 1 << 4;
    /// Sorted set commands (`z`).
    pub const ZSET: u32 = 1 << 5;
    /// Keys that expired (`x`).
    pub const EXPIRED: u32 = 1 << 6;
    /// Keys that were evicted (`e`).
    pub const EVICTED: u32 = 1 << 7;
    /// Stream commands (`t`).
    pub const STREAM: u32 = 1 << 8;
    /// Keys that were looked for and not found (`m`).
    pub const MISS: u32 = 1 << 9;
    /// Events of modules (`d`); read-through speaks of its loads in it.
    pub const MODULE: u32 = 1 << 10;
    /// Keys that were created (`n`).
    pub const NEW: u32 = 1 << 11;
    /// Keys that were overwritten (`o`).
    pub const OVERWRITTEN: u32 = 1 << 12;
    /// Keys whose type changed (`c`).
    pub const TYPE_CHANGED: u32 = 1 << 13;
}

impl Event {
    /// The classes by the letters of `notify-keyspace-events`.
    pub const CLASSES: &'static [(u8, u32)] = &[
        (b'g', class::GENERIC),
        (b'$', class::STRING),
        (b'l', class::LIST),
        (b's', class::SET),
        (b'h', class::HASH),
        (b'z', class::ZSET),
        (b'x', class::EXPIRED),
        (b'e', class::EVICTED),
        (b't', class::STREAM),
        (b'm', class::MISS),
        (b'd', class::MODULE),
        (b'n', class::NEW),
        (b'o', class::OVERWRITTEN),
        (b'c', class::TYPE_CHANGED),
    ];

    /// A key was removed by a command, or lost its last element.
    pub const DEL: Self = Self::new(class::GENERIC, "del");
    /// A key's time had come.
    pub const EXPIRED: Self = Self::new(class::EXPIRED, "expired");
    /// The time of a hash's fields had come.
    pub const HEXPIRED: Self = Self::new(class::HASH, "hexpired");
    /// A key had to make room.
    pub const EVICTED: Self = Self::new(class::EVICTED, "evicted");
    /// A TTL was set.
    pub const EXPIRE: Self = Self::new(class::GENERIC, "expire");
    /// A TTL was removed.
    pub const PERSIST: Self = Self::new(class::GENERIC, "persist");
    /// A key took another name.
    pub const RENAME_FROM: Self = Self::new(class::GENERIC, "rename_from");
    /// A key got the value of another one.
    pub const RENAME_TO: Self = Self::new(class::GENERIC, "rename_to");
    /// A key left for another database.
    pub const MOVE_FROM: Self = Self::new(class::GENERIC, "move_from");
    /// A key came from another database.
    pub const MOVE_TO: Self = Self::new(class::GENERIC, "move_to");
    /// A key was copied to this one.
    pub const COPY_TO: Self = Self::new(class::GENERIC, "copy_to");
    /// A key was made from its serialised form.
    pub const RESTORE: Self = Self::new(class::GENERIC, "restore");
    /// A string was set.
    pub const SET: Self = Self::new(class::STRING, "set");
    /// A string grew at its end.
    pub const APPEND: Self = Self::new(class::STRING, "append");
    /// A part of a string was overwritten.
    pub const SETRANGE: Self = Self::new(class::STRING, "setrange");
    /// Bits of a string were set or cleared.
    pub const SETBIT: Self = Self::new(class::STRING, "setbit");
    /// Elements were added to a HyperLogLog.
    pub const PFADD: Self = Self::new(class::STRING, "pfadd");
    /// An integer was added to a string.
    pub const INCRBY: Self = Self::new(class::STRING, "incrby");
    /// A number was added to a string.
    pub const INCRBYFLOAT: Self = Self::new(class::STRING, "incrbyfloat");
    /// A key's value was loaded from its source.
    pub const LOADED: Self = Self::new(class::MODULE, "loaded");
    /// A key was looked for and is not there.
    pub const MISS: Self = Self::new(class::MISS, "keymiss");
    /// A key's value was replaced by another command's.
    pub const OVERWRITTEN: Self = Self::new(class::OVERWRITTEN, "overwritten");
    /// The new value is of another type.
    pub const TYPE_CHANGED: Self = Self::new(class::TYPE_CHANGED, "type_changed");
    /// A change that nobody is told of, or that is told in other words.
    pub const QUIET: Self = Self::new(0, "");
    /// A key is there that was not.
    pub const NEW: Self = Self::new(class::NEW, "new");

    /// True for what no command asks for.
    pub(super) fn is_unasked(self) -> bool {
        matches!(self, Self::EXPIRED | Self::HEXPIRED | Self::EVICTED | Self::LOADED)
    }

    /// An event of a class.
    pub const fn new(class: u32, name: &'static str) -> Self {
        Self { class, name }
    }
}

/// A change that somebody wants to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What happened.
    pub event: Event,
    /// The database.
    pub db: usize,
    /// The key.
    pub key: Box<[u8]>,
    /// Ascending among the notes of one thread, which may come from several shards.
    pub order: u64,
}

/// What happened and is to be told once the command is done.
#[derive(Debug, Default)]
pub struct News {
    /// Changes that somebody wants to be told of.
    pub notes: Vec<Note>,
    /// Copies of keys that are void.
    pub lapses: Vec<Lapse>,
}

impl News {
    /// True if there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.lapses.is_empty()
    }

    /// Takes over what is in `other`.
    pub fn append(&mut self, other: &mut Self) {
        self.notes.append(&mut other.notes);
        self.lapses.append(&mut other.lapses);
    }

    /// Brings what came from several shards into the order in which it happened.
    pub fn sort(&mut self) {
        self.notes.sort_by_key(|note| note.order);
        self.lapses.sort_by_key(|lapse| lapse.order);
    }
}

/// The events of one edit; see [`super::View::edit`].
#[derive(Debug, Default)]
pub struct Edit {
    events: arrayvec::ArrayVec<Event, 4>,
    /// What happened that is no change to who watches the key.
    pub(super) told: Option<Event>,
    /// Who waits for the key is to run again.
    pub(super) wakes: bool,
    /// What was taken out and is to be dropped; hardly ever anything.
    pub(super) taken: Vec<Object>,
}

impl Edit {
    /// The collection was changed in this way. Without a call, the edit changed nothing.
    ///
    /// # Panics
    /// With more than four events.
    pub fn changed(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Something happened that is told, but is no change to who watches the key, or keeps a copy of it.
    pub fn told(&mut self, event: Event) {
        self.told = Some(event);
    }

    /// Who waits for the key is to run again. (After a change it is anyway.)
    pub fn wakes(&mut self) {
        self.wakes = true;
    }

    /// What was taken out of the collection is dropped later: by a thread of its own if it is large.
    pub fn discard(&mut self, taken: impl Collection) {
        self.taken.push(taken.into_object());
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }
}
