//! Calls to a server that may not answer: how long, how often and after which pauses they are tried, and when no more.
//! One mechanism for every backend that has a server, with the same names in every URL.
//!
//! ```text
//!   call ─► Breaker ─open─► Unavailable at once: names the breaker, and when it lets one call try
//!              │ closed, or this is the one call
//!              ▼
//!           attempt ─► answer                          within `timeout`, pauses included
//!              ▲   └─► failed, and may be sent again   the driver knows, nobody else
//!              └─ pause ◄─┘                            `retry_first`, doubled up to `retry_max`, `retries` times
//! ```
//!
//! Whether something may be sent again is never decided here. A driver that does not know what became of a write says
//! so, and the commit's id or the expected sequence settles it.

mod breaker;
mod parameters;
mod policy;

pub use breaker::{Breaker, Permit};
pub use parameters::unknown_parameter;
pub use policy::{CallPolicy, Pauses};
