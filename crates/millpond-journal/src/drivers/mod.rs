//! The places a journal can be in, a file or folder each.

#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "object")]
pub mod object;
#[cfg(any(feature = "nats", feature = "object", feature = "redis"))]
mod pieces;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "file", feature = "object"))]
mod whole;
