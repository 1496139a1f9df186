//! What doctor finds on real servers: each check in a store where it is silent, and in one where it fires; by the library
//! where settings change under an open store, by the program where a store does not even open.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod files;
mod nats;
mod objects;
mod postgres;
mod redis;
mod support;
