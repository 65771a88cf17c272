//! How long what was loaded may be served, and whether a load saw what it had to see: plain figures that sources and
//! keyspace both handle. Knows no keys, no queries, no clock.
//!
//! A database may announce a change before a new snapshot shows it: logical replication delivers a commit once it is
//! in the log, and the transaction becomes visible a moment later (with a synchronous standby that is away: whenever it
//! returns). A load in between brings the old row, and no second announcement will come. So an invalidation carries
//! its transaction's id, a load the [`Snapshot`] that its query ran under, and a value is kept only if every
//! remembered transaction that concerns its key is visible in there. A [`Horizon`] says which ids need not be
//! remembered any more, a [`Fence`] holds those that concern a whole route.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

/// Which transactions a query saw: `pg_current_snapshot()`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// All below have ended.
    xmin: u64,
    /// None from here on had ended.
    xmax: u64,
    /// Those between that were running, sorted.
    running: Box<[u64]>,
    /// A standby does not list what is running: there, only what is below `xmin` is known to be visible.
    is_standby: bool,
}

impl Snapshot {
    /// Reads Postgres's text, as `740:743:740,742`.
    pub fn parse(text: &str, is_standby: bool) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let list = parts.next()?;
        let numbers = list.split(',').filter(|number| !number.is_empty());
        let mut running = numbers.map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()?;
        running.sort_unstable();
        Some(Self { xmin, xmax, running: running.into(), is_standby })
    }

    /// One that sees whatever it is asked about.
    pub fn of_all() -> Self {
        // In the middle, where no id that is near has another round of them between.
        Self { xmin: u64::MAX, xmax: 1 << 63, running: Box::default(), is_standby: false }
    }

    /// The whole id of which `xid` is the low half: the one that is nearest.
    fn whole(&self, xid: u32) -> u64 {
        let distance = xid.wrapping_sub(self.xmax as u32) as i32;
        self.xmax.wrapping_add_signed(i64::from(distance))
    }

    /// True if what the transaction did, which has committed or is about to, was there for the query.
    pub fn sees(&self, xid: u32) -> bool {
        let xid = self.whole(xid);
        xid < self.xmin || !self.is_standby && xid < self.xmax && self.running.binary_search(&xid).is_err()
    }

    /// True if the transaction and all before it had ended.
    fn is_past(&self, xid: u32) -> bool {
        self.whole(xid) < self.xmin
    }
}

/// What the loads of one source have seen of its transactions: an id that is visible to every load that is still
/// under way, and to all to come, need not be remembered.
#[derive(Debug, Default)]
pub struct Horizon {
    /// The longest that a load of this source may take, in ms.
    longest_ms: AtomicI64,
    /// Set once a standby answered: it may be behind what another server showed, so nothing is settled.
    varies: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What a load saw before every load that is under way began.
    settled: Option<Snapshot>,
    next: Option<Snapshot>,
    /// When `next` was noted, in ms on a clock that never goes back.
    since: i64,
}

impl Horizon {
    /// A load of this source may take so long.
    pub fn allow(&self, load: Duration) {
        self.longest_ms.fetch_max(load.as_millis() as i64, Ordering::Relaxed);
    }

    /// The longest that a load may take, in ms. One that took longer must not be kept.
    pub fn longest_ms(&self) -> i64 {
        self.longest_ms.load(Ordering::Relaxed)
    }

    /// Several servers answer for the source.
    pub fn set_varied(&self) {
        self.varies.store(true, Ordering::Relaxed);
        self.seen.lock().settled = None;
    }

    /// Notes a load's snapshot at `now`, in ms on a clock that never goes back.
    pub fn note(&self, snapshot: &Snapshot, now: i64) {
        if snapshot.is_standby {
            self.set_varied();
        }
        if self.varies.load(Ordering::Relaxed) {
            return;
        }
        let mut seen = self.seen.lock();
        // What was noted before the last turn was known before every load of now began.
        if seen.next.is_none() || now - seen.since > self.longest_ms() {
            seen.settled = seen.next.replace(snapshot.clone());
            seen.since = now;
        }
    }

    /// True if the transaction is visible to every load that is under way or to come.
    pub fn is_settled(&self, xid: u32) -> bool {
        self.seen.lock().settled.as_ref().is_some_and(|snapshot| snapshot.sees(xid))
    }

    /// Keeps those of `items` whose transaction is not settled.
    pub fn retain<T>(&self, items: &mut Vec<T>, xid: impl Fn(&T) -> Option<u32>) {
        if let Some(settled) = &self.seen.lock().settled {
            items.retain(|item| xid(item).is_none_or(|xid| !settled.sees(xid)));
        }
    }
}

/// Ids that a [`Fence`] holds one by one, at most.
const FENCE_MAX: usize = 256;

/// Transactions that must be visible to every load of a route. Bounded: beyond some hundred it asks for a snapshot in
/// which all transactions up to the last of them have ended.
#[derive(Debug, Default)]
pub struct Fence {
    is_up: AtomicBool,
    posts: Mutex<Posts>,
}

#[derive(Debug, Default)]
struct Posts {
    each: Vec<u32>,
    up_to: Option<u32>,
}

impl Fence {
    /// Asks for a transaction to be visible.
    pub fn add(&self, xid: u32, horizon: &Horizon) {
        let mut posts = self.posts.lock();
        if posts.each.last() == Some(&xid) || posts.each.contains(&xid) {
            return;
        }
        if posts.each.len() >= FENCE_MAX {
            horizon.retain(&mut posts.each, |xid| Some(*xid));
        }
        if posts.each.len() >= FENCE_MAX {
            for xid in std::mem::take(&mut posts.each) {
                let is_later = posts.up_to.is_none_or(|known| (xid.wrapping_sub(known) as i32) > 0);
                posts.up_to = if is_later { Some(xid) } else { posts.up_to };
            }
        }
        posts.each.push(xid);
        self.is_up.store(true, Ordering::Release);
    }

    /// True if a load with this snapshot saw all of them.
    pub fn admits(&self, snapshot: Option<&Snapshot>, horizon: &Horizon) -> bool {
        if !self.is_up.load(Ordering::Acquire) {
            return true;
        }
        let mut posts = self.posts.lock();
        horizon.retain(&mut posts.each, |xid| Some(*xid));
        if posts.up_to.is_some_and(|xid| horizon.seen.lock().settled.as_ref().is_some_and(|s| s.is_past(xid))) {
            posts.up_to = None;
        }
        if posts.each.is_empty() && posts.up_to.is_none() {
            self.is_up.store(false, Ordering::Release);
            return true;
        }
        let Some(snapshot) = snapshot else { return false };
        posts.each.iter().all(|xid| snapshot.sees(*xid)) && posts.up_to.is_none_or(|xid| snapshot.is_past(xid))
    }
}

/// How long what a route loads is fresh, and what may be served when it no longer is; with the route's epoch.
#[derive(Debug, Default)]
pub struct Terms {
    /// How long a value is fresh, at most.
    pub ttl: Duration,
    /// The part of `ttl` by which it may be shorter, in percent, so that what was loaded together is not due together.
    pub jitter_percent: u32,
    /// How long before its end a value that is asked for is loaded anew in the background; zero: not at all.
    pub refresh_ahead: Duration,
    /// How long a value may be served after its end while it is loaded anew.
    pub stale_while_revalidate: Duration,
    /// How long a value may be served after its end when loading it anew fails.
    pub stale_if_error: Duration,
    /// How long an absent row is remembered.
    pub negative_ttl: Duration,
    /// What the loads of the route's source have seen.
    pub horizon: Arc<Horizon>,
    /// Changes of the whole route that a load must have seen.
    pub fence: Fence,
    /// The route's epochs.
    pub epochs: Epochs,
    /// When a change of one of the route's keys was last heard of, in ms since Unix's epoch; 0: never.
    pub changed_at: AtomicI64,
}

/// A count that moves on when all that was loaded may be stale.
#[derive(Debug, Default)]
pub struct Epochs {
    now: AtomicU32,
    /// When it last moved on, in ms since the epoch of Unix.
    moved_at: AtomicI64,
}

impl Terms {
    /// The epoch: what was loaded in an earlier one may be stale.
    pub fn epoch(&self) -> u32 {
        self.epochs.now.load(Ordering::Acquire)
    }

    /// Moves on to the next epoch at `now` (ms since Unix's).
    pub fn move_on(&self, now: i64) {
        self.epochs.moved_at.store(now, Ordering::Release);
        self.epochs.now.fetch_add(1, Ordering::AcqRel);
    }

    /// When a change of one of the route's keys was last heard of; 0: never.
    pub fn changed_at(&self) -> i64 {
        self.changed_at.load(Ordering::Relaxed)
    }

    /// A change of one of the route's keys was heard of.
    pub fn note_change(&self, now: i64) {
        self.changed_at.store(now, Ordering::Relaxed);
    }

    /// When the epoch last moved on.
    pub fn moved_at(&self) -> i64 {
        self.epochs.moved_at.load(Ordering::Acquire)
    }

    /// How long the value of a key with this hash is fresh, in ms: `ttl` or a little less, always the same for one key.
    pub fn fresh_ms(&self, hash: u64) -> i64 {
        let ttl = self.ttl.as_millis().min(i64::MAX as u128 / 4) as i64;
        let span = ttl / 100 * i64::from(self.jitter_percent) + ttl % 100 * i64::from(self.jitter_percent) / 100;
        // The hash's high bits name shards and buckets; multiplied, its low bits are as good as random.
        let share = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (ttl - ((i128::from(span) * i128::from(share)) >> 32) as i64).max(1)
    }

    /// How long after its end a value may still be of use, in ms.
    pub fn stale_ms(&self) -> i64 {
        self.stale_while_revalidate.max(self.stale_if_error).as_millis() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        Snapshot::parse(text, false).expect(text)
    }

    #[test]
    fn snapshots_see_what_has_ended() {
        let primary = snapshot("740:743:740,742");
        assert_eq!(
            [739, 740, 741, 742, 743, 744].map(|xid| primary.sees(xid)),
            [true, false, true, false, false, false]
        );
        assert!(!snapshot("728:728:").sees(728), "announced, and not visible yet");
        let all = Snapshot::of_all();
        assert!([0, 1, 740, u32::MAX / 2, u32::MAX].iter().all(|xid| all.sees(*xid) && all.is_past(*xid)));
        let standby = Snapshot::parse("740:743:", true).expect("a snapshot");
        assert_eq!([739, 740, 741].map(|xid| standby.sees(xid)), [true, false, false]);
        for wrong in ["", "1", "1:2", "a:2:", "1:2:x", "1:2:3,,x"] {
            assert_eq!(Snapshot::parse(wrong, false), None, "{wrong}");
        }
    }

    /// Ids on the wire are the low half of the whole ones.
    #[test]
    fn halves_of_ids_find_their_whole() {
        let after_wrap = snapshot("4294967300:4294967310:4294967305");
        assert!(after_wrap.sees(u32::MAX) && after_wrap.sees(3) && !after_wrap.sees(9) && !after_wrap.sees(14));
        let before_wrap = snapshot("4294967290:4294967295:");
        assert!(before_wrap.sees(4_294_967_289) && !before_wrap.sees(2), "2 is of the next round");
    }

    #[test]
    fn an_id_is_settled_once_every_load_of_now_began_after_it_was_seen() {
        let horizon = Horizon::default();
        horizon.allow(Duration::from_secs(2));
        horizon.note(&snapshot("10:10:"), 0);
        horizon.note(&snapshot("20:20:"), 1000);
        assert!(!horizon.is_settled(5), "a load that began before may be under way");
        horizon.note(&snapshot("30:30:"), 2001);
        assert!(horizon.is_settled(5) && !horizon.is_settled(15));
        horizon.note(&snapshot("40:40:"), 4002);
        assert!(horizon.is_settled(15) && !horizon.is_settled(35));
        horizon.note(&Snapshot::parse("9:9:", true).expect("a snapshot"), 4003);
        assert!(!horizon.is_settled(5), "a standby may be behind");
    }

    #[test]
    fn a_fence_is_bounded_and_goes_down() {
        let (fence, horizon) = (Fence::default(), Horizon::default());
        assert!(fence.admits(None, &horizon));
        fence.add(100, &horizon);
        assert!(!fence.admits(None, &horizon) && !fence.admits(Some(&snapshot("100:101:100")), &horizon));
        assert!(fence.admits(Some(&snapshot("90:101:90")), &horizon));
        for xid in 100..100 + 3 * FENCE_MAX as u32 {
            fence.add(xid, &horizon);
        }
        assert!(fence.posts.lock().each.len() <= FENCE_MAX);
        assert!(!fence.admits(Some(&snapshot("90:2000:90")), &horizon), "too many to tell apart");
        assert!(fence.admits(Some(&snapshot("2000:2000:")), &horizon));
        horizon.note(&snapshot("2000:2000:"), 0);
        horizon.note(&snapshot("2000:2000:"), 1);
        assert!(fence.admits(None, &horizon) && !fence.is_up.load(Ordering::Relaxed));
    }

    #[test]
    fn jitter_only_shortens_and_is_spread() {
        let terms = Terms { ttl: Duration::from_secs(100), jitter_percent: 10, ..Terms::default() };
        let all: Vec<i64> = (0..10_000).map(|hash| terms.fresh_ms(hash)).collect();
        assert!(all.iter().all(|ms| (90_000..=100_000).contains(ms)));
        let mean = all.iter().sum::<i64>() / 10_000;
        assert!((94_500..95_500).contains(&mean), "{mean}");
        let plain = Terms { ttl: Duration::from_secs(100), ..Terms::default() };
        assert_eq!(plain.fresh_ms(12345), 100_000);
    }
}
