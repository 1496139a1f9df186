//! Artifacts: bytes written and read beside the same by hand, and beside the clients of object stores.
//!
//! * `put.rs`: durable writes; `get.rs`: reads; `unit.rs`: units of many puts; `list.rs`: pages of a long list; `remote.rs`:
//!   S3; `stream.rs`: memory of a stream of 10 GiB.

mod get;
mod list;
mod put;
mod remote;
mod stream;
mod unit;

use crate::report::Report;
use crate::world::Done;

pub use stream::{STREAM, child};

/// Bytes of the artifacts that are measured.
pub const SIZES: [(&str, usize); 3] = [("1 KiB", 1 << 10), ("100 KiB", 100 << 10), ("10 MiB", 10 << 20)];

/// All lines.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    // Folders of many files stay until all is measured: ext4 leaves inodes alone for minutes that went a moment ago, and
    // takes long to find others.
    let mut kept = Vec::new();
    if report.wants("artifacts.put") {
        put::run(args, report, &mut kept)?;
    }
    if report.wants("artifacts.get") {
        get::run(args, report)?;
    }
    if report.wants("artifacts.unit") {
        unit::run(args, report, &mut kept)?;
    }
    if report.wants("artifacts.list") {
        list::run(args, report)?;
    }
    if report.wants("artifacts.s3") {
        remote::run(args, report)?;
    }
    if report.wants("artifacts.stream") && args.growth {
        stream::run(args, report)?;
    }
    Ok(())
}

/// Bytes that do not repeat in a way that anything could profit from.
pub fn bytes(length: usize) -> bytes::Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
