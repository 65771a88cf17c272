//! The one integration-test binary: it starts the real program and talks to it over sockets.
//!
//! - `support/`: servers as processes, a client, a Postgres
//! - `differential/`: the same commands on Cenote and on real servers, replies compared; `transcripts/*.txt` are its texts
//! - the other files: one promise each
//!
//! The real servers come from `scripts/oracles`. `CENOTE_UNDER_TEST=path` puts another program in Cenote's place:
//! a real server there must pass too, which is how the tests themselves are tested.

mod acl;
mod administration;
mod check;
mod clients;
mod command_rows;
mod compatibility;
mod compression;
mod differential;
mod directives;
mod dump;
mod eviction;
mod lazyfree;
mod linearizability;
mod locks;
mod protocol;
mod read_through;
mod redis_cli;
mod renames;
mod scan;
mod scripts;
mod sessions;
mod shutdown;
mod support;
mod tidy;
mod tls;
mod tracking;
mod transactions;
