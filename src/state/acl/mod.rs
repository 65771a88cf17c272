//! Access control: the users, what was refused, and which user a connection is. A user is never changed in place: a
//! connection keeps the one it knows, and looks again when the epoch has moved on, which costs one load a batch. It
//! must not know commands, or how rules are written.

mod log;
mod selector;
mod user;

pub use log::{AclLog, Context, Reason, Refusal};
pub use selector::{Denial, KeyPattern, Selector, Touch};
pub use user::{PasswordHash, User};

use super::client::{Client, ClientInfo, DEFAULT_USER};
use super::{State, Subject};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Refusals since the start or CONFIG RESETSTAT.
#[derive(Debug, Default)]
pub struct Refused {
    /// Attempts to authenticate.
    pub auth: AtomicU64,
    /// Databases, commands, keys and channels, by [`Denial`].
    pub denied: [AtomicU64; 4],
}

type ByName = BTreeMap<Box<[u8]>, Arc<User>>;

/// The users.
#[derive(Debug)]
pub struct Acl {
    users: RwLock<ByName>,
    /// Held while users are changed, so that no change is lost.
    changing: Mutex<()>,
    /// Moves on with each change.
    epoch: AtomicU64,
    next_id: AtomicU64,
    /// Rows of the command table.
    rows: usize,
    /// The default user needs no password.
    nopass: AtomicBool,
    /// And it is on: who connects needs not authenticate.
    open: AtomicBool,
    /// What was refused.
    pub log: AclLog,
    /// How often.
    pub refused: Refused,
}

impl Acl {
    /// The default user alone, with this password (empty: none), for a command table of so many rows.
    pub fn new(rows: usize, password: &str) -> Self {
        let acl = Self {
            users: RwLock::default(),
            changing: Mutex::default(),
            epoch: AtomicU64::new(0),
            // The default user is the first: connections begin with that one.
            next_id: AtomicU64::new(0),
            rows,
            nopass: AtomicBool::new(true),
            open: AtomicBool::new(true),
            log: AclLog::default(),
            refused: Refused::default(),
        };
        acl.put(acl.default_user_at_start());
        acl.set_default_password(password);
        acl
    }

    /// Rows of the command table.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The default user as it is without a password and before anybody changed it.
    pub fn default_user_at_start(&self) -> User {
        let mut user = User::new(DEFAULT_USER.as_bytes(), Selector::all(self.rows));
        user.enabled = true;
        user.clear_passwords(true);
        user
    }

    /// `requirepass`.
    pub fn set_default_password(&self, password: &str) {
        let _one_at_a_time = self.changing.lock();
        let mut user = User::clone(&self.default_user());
        user.clear_passwords(password.is_empty());
        if !password.is_empty() {
            user.add_password(PasswordHash::of(password.as_bytes()));
        }
        self.put(user);
    }

    fn publish(&self, users: ByName) {
        let default = &users[DEFAULT_USER.as_bytes()];
        let (nopass, open) = (default.nopass, default.nopass && default.enabled);
        *self.users.write() = users;
        self.nopass.store(nopass, Ordering::Relaxed);
        self.open.store(open, Ordering::Relaxed);
        // Last: who sees the new epoch finds the new users.
        self.epoch.fetch_add(1, Ordering::Release);
    }

    fn put(&self, mut user: User) -> Arc<User> {
        let mut users = self.users.read().clone();
        user.id = match users.get(&user.name) {
            Some(known) => known.id,
            None => self.next_id.fetch_add(1, Ordering::Relaxed),
        };
        let user = Arc::new(user);
        users.insert(user.name.clone(), Arc::clone(&user));
        self.publish(users);
        user
    }

    /// Moves on with each change of a user.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// True if who connects needs not authenticate.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// True if the default user needs no password, on or off.
    pub fn has_no_password(&self) -> bool {
        self.nopass.load(Ordering::Relaxed)
    }

    /// A user by name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    /// The default user.
    pub fn default_user(&self) -> Arc<User> {
        Arc::clone(&self.users.read()[DEFAULT_USER.as_bytes()])
    }

    /// All users by name.
    pub fn users(&self) -> Vec<Arc<User>> {
        self.users.read().values().cloned().collect()
    }

    /// Changes a user, or makes one of what `change` is given; nothing if that fails. Returns it as it is
    /// then.
    ///
    /// # Errors
    /// That of `change`.
    pub fn change<E>(
        &self,
        name: &[u8],
        change: impl FnOnce(Option<&User>) -> Result<User, E>,
    ) -> Result<Arc<User>, E> {
        let _one_at_a_time = self.changing.lock();
        let after = change(self.get(name).as_deref())?;
        Ok(self.put(after))
    }

    /// Removes users; returns those that were there. The default user stays.
    pub fn remove<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> Vec<Arc<User>> {
        let _one_at_a_time = self.changing.lock();
        let mut users = self.users.read().clone();
        let removed: Vec<_> =
            names.filter(|name| *name != DEFAULT_USER.as_bytes()).filter_map(|name| users.remove(name)).collect();
        if !removed.is_empty() {
            self.publish(users);
        }
        removed
    }

    /// Puts these users in the place of all; the default user is as at the start if it is not among them. Who has the
    /// same rules as before counts as the same user. Returns the users of before.
    pub fn replace_all(&self, list: Vec<User>) -> Vec<Arc<User>> {
        let _one_at_a_time = self.changing.lock();
        let before = self.users.read().clone();
        let mut users = ByName::new();
        for mut user in std::iter::once(self.default_user_at_start()).chain(list) {
            let known = before.get(&user.name);
            user.id = match known {
                Some(known) if known.name.as_ref() == DEFAULT_USER.as_bytes() || known.rules() == user.rules() => {
                    known.id
                }
                _ => self.next_id.fetch_add(1, Ordering::Relaxed),
            };
            users.insert(user.name.clone(), Arc::new(user));
        }
        self.publish(users);
        before.into_values().collect()
    }

    /// A user as it is now; None if it was removed, though another may bear its name.
    pub fn current(&self, user: &User) -> Option<Arc<User>> {
        self.get(&user.name).filter(|now| now.id == user.id)
    }

    /// Forgets how often was refused.
    pub fn reset_counts(&self) {
        self.refused.denied.iter().chain([&self.refused.auth]).for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

impl State {
    /// Makes a connection a user's, from its next command on.
    pub fn log_in(&self, client: &mut Client, name: &[u8], password: &[u8]) -> bool {
        // Before the user is looked up: a change after that is noticed.
        let epoch = self.acl.epoch();
        let Some(user) = self.acl.get(name).filter(|user| user.accepts(password)) else { return false };
        client.set_user(user, epoch);
        client.authenticated = true;
        true
    }

    /// Makes a connection the default user's, as it is when it connects.
    pub fn log_out(&self, client: &mut Client) {
        let epoch = self.acl.epoch();
        client.set_user(self.acl.default_user(), epoch);
        client.authenticated = self.acl.is_open();
    }

    /// Looks up the connection's user again after a change. A connection whose user is gone, or that listens to what it
    /// may not any more, is closed.
    #[cold]
    pub fn look_up_user(&self, client: &mut Client) {
        let epoch = self.acl.epoch();
        match self.acl.current(&client.user) {
            Some(user) => client.set_user(user, epoch),
            None => {
                client.info.kill();
                client.set_user(Arc::new(User::new(&client.user.name, Selector::none(self.acl.rows, false))), epoch);
            }
        }
        if !client.may_listen_on() {
            client.info.kill();
        }
    }

    /// Closes the connections of users that these ids belonged to and that are no more; true if `own` is among them,
    /// which is left to the caller.
    pub fn close_connections_of(&self, gone: &[Arc<User>], own: u64) -> bool {
        let mut is_own = false;
        self.clients.each(|client| {
            let id = client.user.lock().id;
            if gone.iter().any(|user| user.id == id) {
                is_own |= client.id == own;
                if client.id != own {
                    self.disconnect(client);
                    client.kill();
                }
            }
        });
        is_own
    }

    /// Closes the connections of a user that listen to what it may not any more; true if `own` is among them, which is
    /// left to the caller.
    pub fn close_listeners_of(&self, user: &User, own: u64) -> bool {
        let lost = |subject: Subject, name: &[u8], client: &ClientInfo| {
            client.user.lock().id == user.id && !user.may_listen(name, subject == Subject::Pattern)
        };
        let mut is_own = false;
        for client in self.pubsub.listeners_that(lost) {
            is_own |= client.id == own;
            if client.id != own {
                client.kill();
            }
        }
        is_own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl() -> Acl {
        Acl::new(100, "")
    }

    fn add(acl: &Acl, name: &str) -> Arc<User> {
        acl.change::<()>(name.as_bytes(), |_| Ok(User::new(name.as_bytes(), Selector::none(100, false)))).unwrap()
    }

    #[test]
    fn the_default_user_needs_the_password_of_requirepass() {
        let acl = acl();
        assert!(acl.is_open() && acl.has_no_password() && acl.default_user().is_free());
        assert!(acl.default_user().accepts(b"whatever"));
        acl.set_default_password("hush");
        assert!(!acl.is_open() && !acl.has_no_password());
        assert!(acl.default_user().accepts(b"hush") && !acl.default_user().accepts(b"hus"));
        acl.set_default_password("");
        assert!(acl.is_open());
    }

    #[test]
    fn a_user_is_not_another_of_the_same_name() {
        let acl = acl();
        let first = add(&acl, "u");
        let changed = add(&acl, "u");
        assert_eq!((first.id, acl.current(&first).unwrap().id), (changed.id, changed.id));
        assert_eq!(acl.remove([b"u".as_slice(), b"default", b"none"].into_iter()).len(), 1);
        assert!(acl.current(&first).is_none());
        add(&acl, "u");
        assert!(acl.current(&first).is_none() && acl.get(b"u").is_some());
    }

    #[test]
    fn a_reload_keeps_who_is_the_same() {
        let acl = acl();
        let (same, other) = (add(&acl, "same"), add(&acl, "other"));
        let mut changed = User::new(b"other", Selector::none(100, false));
        changed.enabled = true;
        acl.replace_all(vec![User::new(b"same", Selector::none(100, false)), changed]);
        assert!(acl.current(&same).is_some() && acl.current(&other).is_none() && acl.users().len() == 3);
    }

    #[test]
    fn every_bit_makes_a_user_free_and_any_missing_one_does_not() {
        let mut user = acl().default_user_at_start();
        assert!(user.is_free());
        user.change_own(|own| own.set_command(70, false));
        assert!(!user.is_free() && !user.selectors()[0].has_command(70) && user.selectors()[0].has_command(71));
        user.change_own(|own| own.set_command(70, true));
        assert!(user.is_free());
        user.change_own(|own| own.allow_databases([1]));
        assert!(!user.is_free());
    }
}
