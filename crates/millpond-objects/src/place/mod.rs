//! An object store as a place: which one, how it is asked, and on whose word it keeps what it acknowledged. Journals and
//! objects are both kept in one.

mod errors;
mod keeps;
mod patient;
mod url;

pub use errors::{failed, get};
pub use keeps::Keeps;
pub use patient::Patience;
pub(crate) use patient::passes;
pub use url::{CALLS, ObjectPlace};
