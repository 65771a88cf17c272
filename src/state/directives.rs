//! What directives set besides their values: put into force when the server starts, and by CONFIG SET. It must not know
//! who changed them.

use super::State;
use crate::config::{Config, OomScore};
use crate::keyspace::set_lazy;
use crate::process;
use std::io;

impl State {
    /// Puts into force what is kept elsewhere than in the configuration: what differs from `before`, or all of it at the
    /// start.
    pub fn put_into_force(&self, before: Option<&Config>, after: &Config) {
        set_lazy(after.lazyfree);
        if before.is_none_or(|before| before.notify_keyspace_events != after.notify_keyspace_events) {
            self.listen(after);
        }
        let imports = after.limits.import_mode;
        if before.map_or(imports, |before| before.limits.import_mode != imports) {
            self.keyspace.keep_expired(imports);
        }
        if before.is_some_and(|before| before.requirepass != after.requirepass) {
            self.acl.set_default_password(&after.requirepass);
        }
        if let Some(follow) = self.log_follows.get() {
            follow(after);
        }
    }

    /// `oom-score-adj`: tells the system how willing this process is to be killed.
    ///
    /// # Errors
    /// When the system refuses: to be less willing takes a privilege.
    pub fn set_oom_score(&self, score: OomScore) -> io::Result<()> {
        let inherited = *self.oom_score_inherited.get_or_init(process::oom_score);
        let wanted = match score {
            OomScore::Inherited => inherited,
            OomScore::Relative(more) => inherited.saturating_add(more).clamp(-1000, 1000),
            OomScore::Absolute(score) => score,
        };
        if process::oom_score() == wanted { Ok(()) } else { process::set_oom_score(wanted) }
    }
}
