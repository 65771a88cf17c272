//! The command line: wires the rooms together and knows nothing of their insides.

use cenote::config::{Config, ConfigHandle};
use cenote::state::State;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: cenote::alloc::Counting = cenote::alloc::Counting;

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let loaded = match Config::load(&args) {
        Ok(loaded) => loaded,
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            std::process::exit(1);
        }
    };
    let workers = loaded.config.workers.max(1) as usize;
    let state = Arc::new(State::new(ConfigHandle::new(loaded.config), workers, cenote::clock::now_ms()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cenote::server::serve(state)).unwrap();
}
