//! What is done again and again: samples of the rates ten times a second, and once a second a look for connections
//! that are idle for too long, or have too much unsent for too long. It must not know sockets.

use crate::clock;
use crate::config::Config;
use crate::state::{ClientInfo, Kind, State};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_millis(100);
/// Ticks between two looks at the connections.
const LOOK_EVERY: u32 = 10;

/// Ticks for ever.
pub(super) async fn run(state: Arc<State>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tls_read_at = clock::now_ms();
    for tick in (0..LOOK_EVERY).cycle() {
        ticks.tick().await;
        let now = clock::now_ms();
        state.tick(now);
        let config = state.config.load();
        // What one command may not do at once, after CONFIG SET.
        state.trim_tracking(&config);
        if let Some(limit) = config.maxmemory_clients.limit(config.maxmemory) {
            state.clients.evict(limit);
        }
        if tick == 0 {
            look(&state, &config, now);
            let every_ms = config.tls.auto_reload_seconds as i64 * 1000;
            if every_ms > 0 && now - tls_read_at >= every_ms {
                tls_read_at = now;
                state.reload_tls();
            }
        }
    }
}

fn look(state: &State, config: &Config, now: i64) {
    state.clients.each(|client| {
        if is_idle_for_too_long(client, config.timeout, now) {
            tracing::debug!(client = client.id, "closed: idle for longer than timeout");
            client.kill();
        } else if state.is_over_output_limit(client, config) {
            client.kill();
        }
    });
}

/// `timeout` (seconds; 0: never). Who only listens, or waits for the server, is not idle.
fn is_idle_for_too_long(client: &ClientInfo, timeout: u32, now: i64) -> bool {
    let listens = client.monitor.load(Ordering::Relaxed) || client.kind() == Kind::Pubsub;
    let idle_ms = now - client.active_at.load(Ordering::Relaxed);
    timeout > 0 && idle_ms > i64::from(timeout) * 1000 && !listens && !client.blocked.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Clients, Origin};

    #[test]
    fn only_the_idle_are_closed() {
        let info = Clients::default().connect(Origin::default(), true, 1_000).info;
        assert!(!is_idle_for_too_long(&info, 0, i64::MAX));
        assert!(!is_idle_for_too_long(&info, 2, 3_000) && is_idle_for_too_long(&info, 2, 3_001));
        info.blocked.store(true, Ordering::Relaxed);
        assert!(!is_idle_for_too_long(&info, 2, 3_001));
        info.blocked.store(false, Ordering::Relaxed);
        info.monitor.store(true, Ordering::Relaxed);
        assert!(!is_idle_for_too_long(&info, 2, 3_001));
    }
}
