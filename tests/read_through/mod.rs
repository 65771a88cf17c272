//! Read-through on a real Postgres: which commands load, what they answer, how many queries that costs, and what happens
//! when the database or a client goes away.
//!
//! - `rig`: a Postgres with tables, a server with routes, a gate that holds queries up
//! - `values`: which commands load what, and what absent rows and faults look like
//! - `writes`: commands that change a key that must be loaded, and changes during a load
//! - `flights`: many clients, slow queries, pipelines, clients that leave
//! - `freshness`: jitter, refresh ahead, values that are served stale
//! - `outage`: a database that is down, frozen, or refuses
//! - `under_load`: the same and more under readers who do not stop, and a pooler
//! - `tls`: who is believed to be the database, and who we are there
//! - `changes`: changes in the database reach the cache
//! - `routes`: ROUTE and SIGHUP
//! - `shapes`: hashes, lists, sets and sorted sets from rows
//! - `storm`: writers and readers at full speed, and no stale key in the end
//! - `through`: writes that go to the database, or are refused
//! - `tracking`: clients that keep copies
//! - `scripts`: the declared keys of scripts
//! - `transactions`: MULTI, EXEC and WATCH of missing rows
//! - `log`: the line of each load
//! - `secrets`: what must never be shown; the figures that are

mod changes;
mod flights;
mod freshness;
mod log;
mod outage;
mod rig;
mod routes;
mod scripts;
mod secrets;
mod shapes;
mod storm;
mod through;
mod tls;
mod tracking;
mod transactions;
mod under_load;
mod values;
mod writes;
