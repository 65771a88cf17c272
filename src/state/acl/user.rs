//! A user: how it is authenticated, and what it may do. Never changed in place; who changes a user makes another. It
//! must not know connections.

use super::selector::Selector;
use sha2::{Digest, Sha256};
use std::hint::black_box;

/// The SHA-256 of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash([u8; 32]);

impl PasswordHash {
    /// The hash of a password.
    pub fn of(password: &[u8]) -> Self {
        Self(Sha256::digest(password).into())
    }

    /// A hash from its 64 hexadecimal digits, in lower case.
    pub fn parse(hex: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        if hex.len() != 64 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }

    /// Its hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Compares in a time that does not depend on the bytes, so that nobody can feel their way to a password.
    fn is(&self, other: &Self) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        black_box(difference) == 0
    }
}

/// Hashes are as good as passwords to whoever guesses.
impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name.
    pub name: Box<[u8]>,
    /// Tells users apart that bore the same name one after the other.
    pub(super) id: u64,
    /// It may authenticate.
    pub enabled: bool,
    /// Any password will do.
    pub nopass: bool,
    passwords: Vec<PasswordHash>,
    /// The permissions; a command may run if one of them allows it. The first is the user's own and always there.
    pub(super) selectors: Vec<Selector>,
    is_free: bool,
}

impl User {
    /// A user who may do nothing and cannot authenticate.
    pub fn new(name: &[u8], own: Selector) -> Self {
        let is_free = own.is_free();
        Self {
            name: name.into(),
            id: 0,
            enabled: false,
            nopass: false,
            passwords: Vec::new(),
            selectors: vec![own],
            is_free,
        }
    }

    /// True if it may do everything: nothing needs to be looked at.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.is_free
    }

    /// Its permissions, its own first.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// Its own permissions, and the others.
    pub fn own_and_others(&self) -> (&Selector, &[Selector]) {
        (&self.selectors[0], &self.selectors[1..])
    }

    /// Changes its own permissions.
    pub fn change_own<T>(&mut self, change: impl FnOnce(&mut Selector) -> T) -> T {
        let result = change(&mut self.selectors[0]);
        self.is_free = self.selectors.iter().any(Selector::is_free);
        result
    }

    /// Adds a selector.
    pub fn add_selector(&mut self, selector: Selector) {
        self.selectors.push(selector);
        self.is_free = self.selectors.iter().any(Selector::is_free);
    }

    /// `clearselectors`.
    pub fn clear_selectors(&mut self) {
        self.selectors.truncate(1);
        self.is_free = self.selectors[0].is_free();
    }

    /// Its passwords' hashes, in the order in which they were given.
    pub fn passwords(&self) -> &[PasswordHash] {
        &self.passwords
    }

    /// `>password`, `#hash`.
    pub fn add_password(&mut self, hash: PasswordHash) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.nopass = false;
    }

    /// `<password`, `!hash`; false if there is no such.
    pub fn remove_password(&mut self, hash: PasswordHash) -> bool {
        let before = self.passwords.len();
        self.passwords.retain(|known| *known != hash);
        self.passwords.len() < before
    }

    /// `nopass` (true), `resetpass` (false).
    pub fn clear_passwords(&mut self, nopass: bool) {
        self.passwords.clear();
        self.nopass = nopass;
    }

    /// True if it may authenticate with this password.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let hash = PasswordHash::of(password);
        // All are compared, so that the time tells nothing.
        let is_known = self.passwords.iter().fold(false, |found, known| found | known.is(&hash));
        self.enabled && (self.nopass || is_known)
    }

    /// True if a subscriber may go on listening to a channel, or to a pattern of channels.
    pub fn may_listen(&self, name: &[u8], is_pattern: bool) -> bool {
        self.selectors.iter().any(|selector| selector.has_channel(name, is_pattern))
    }

    /// What GETUSER gives as flags.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.nopass {
            flags.push("nopass");
        }
        flags
    }

    /// Its rules, as they would have to be given.
    pub fn rules(&self) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = self.flags().into_iter().map(Vec::from).collect();
        words.extend(self.passwords.iter().map(|hash| format!("#{}", hash.hex()).into_bytes()));
        for (number, selector) in self.selectors.iter().enumerate() {
            let rules = selector.describe();
            words.push(if number == 0 { rules } else { [b"(", rules.as_slice(), b")"].concat() });
        }
        words.join(b" ".as_slice())
    }

    /// Its line in ACL LIST, an ACL file and redis.conf.
    pub fn line(&self) -> Vec<u8> {
        [b"user ", &*self.name, b" ", &self.rules()].concat()
    }
}
