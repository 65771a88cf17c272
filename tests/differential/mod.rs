//! The same commands on Cenote and on real servers, and every reply compared.
//!
//! - `transcript`: the written texts in `tests/transcripts/` and their syntax
//! - `acl`: random rules on users, and what they may run
//! - `judge`: when two replies count as the same
//! - `rig`: one server with its named connections
//! - `run`: runs a transcript on all servers and reports every difference
//! - `histories`: what several connections see of each other
//! - `tracking`: random histories of connections that keep copies of keys
//! - `scripts`: random scripts
//! - `generate` (`lists`, `zsets` …), `random`: random commands, and the search for the shortest sequence that shows a difference

mod acl;
mod generate;
mod hashes;
mod histories;
mod judge;
mod lists;
mod random;
mod rig;
mod run;
mod scripts;
mod streams;
mod tracking;
mod transcript;
mod zsets;
