//! Every option of a backend with a server does what it says, on every such backend.
//!
//! * `calls.rs`: timeout, retries and their pauses, against a server that is silent or hangs up;
//! * `breaker.rs`: the circuit breaker, and that neither it nor `retries=0` leaves an outcome unknown;
//! * `connections.rs`: the pool, and TLS;
//! * `examples.rs`: the options of the page's examples.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod breaker;
mod calls;
mod connections;
mod examples;
mod support;
