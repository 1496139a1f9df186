//! The limits, the same on every backend, checked before anything is written.
//!
//! They are chosen so that every backend can hold what any other holds, and a store can always be moved.

/// Bytes in a key, a stream name, a collection name or a namespace name.
pub const NAME_BYTES: usize = 2_048;
/// Bytes in a collection or namespace name (they become table and folder names).
pub const SHORT_NAME_BYTES: usize = 64;
/// Bytes of a document as canonical JSON text.
pub const DOCUMENT_BYTES: usize = 1 << 20;
/// Nested arrays and objects in a JSON value.
pub const JSON_DEPTH: usize = 64;
/// Bytes of one event as canonical JSON text, its labels and names included.
pub const EVENT_BYTES: usize = 256 << 10;
/// Expectations, writes, merge operations, events, trims and seals of one commit together.
pub const COMMIT_OPERATIONS: usize = 4_096;
/// Bytes of one commit.
pub const COMMIT_BYTES: usize = 8 << 20;
/// Bytes of a text value in a declared index field, and of an event's id, type, agent, source or correlation.
pub const INDEXED_TEXT_BYTES: usize = 1_024;
/// Values in one set-of-text field.
pub const SET_VALUES: usize = 256;
/// Declared fields of a collection.
pub const COLLECTION_FIELDS: usize = 32;
/// Rows one page of a query, a feed or a list can hold.
pub const PAGE_ROWS: usize = 10_000;
/// Bytes after which a page is closed, whatever the number of rows asked for.
pub const PAGE_BYTES: usize = 16 << 20;
/// Reads in one read call.
pub const READS: usize = 1_024;
/// Conditions of one query, and labels or type patterns of one event filter.
pub const FILTERS: usize = 64;
/// Values in a `one of` filter.
pub const ONE_OF_VALUES: usize = 1_024;
/// Values in all filters of one query.
pub const QUERY_VALUES: usize = 8_192;
/// Days a receipt is kept, at least. Commit ids older than this are refused.
pub const RECEIPT_DAYS: i64 = 7;
/// Commits that may wait in one queue.
pub const QUEUE_COMMITS: usize = 20_000;
/// Bytes that may wait in one queue.
pub const QUEUE_BYTES: usize = 64 << 20;
