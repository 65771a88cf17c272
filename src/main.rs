//! The command line: wires the rooms together and knows nothing of their insides.

use cenote::config::{Config, ConfigHandle};
use cenote::state::State;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: cenote::alloc::Counting = cenote::alloc::Counting;

fn main() {
    let mut config = Config::default();
    let args: Vec<String> = std::env::args().collect();
    let mut workers = 1;
    for pair in args.windows(2) {
        match pair[0].as_str() {
            "--port" => config.port = pair[1].parse().unwrap(),
            "--workers" => workers = pair[1].parse().unwrap(),
            _ => {}
        }
    }
    let state = Arc::new(State::new(
        ConfigHandle::new(config),
        cenote::source::Sources::default(),
        workers,
        cenote::clock::now_ms(),
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cenote::server::serve(state)).unwrap();
}
