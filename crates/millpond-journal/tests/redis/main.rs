//! The Redis driver on real servers that hang, die, forget, fall behind, or are set up badly; and a network that loses
//! answers.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod failover;
mod faults;
mod kill;
mod settings;
mod snapshots;
mod tls;
mod world;
