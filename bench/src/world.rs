//! What every line works on: a fresh store of ours, the same rows by hand, and the payloads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millpond_core::{Collection, Commit, Engine, FieldKind, Front, Json, Namespace, NewEvent, RecordId, Store, Write};
use millpond_sqlite::{SqliteEngine, SqliteOptions};

/// The result of everything here.
pub type Done<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The records' declaration: two indexed fields, as a run has.
pub const WORK: Collection = Collection::new("work").index("status", FieldKind::Text).index("ts", FieldKind::Integer);

/// A scratch folder on the disk that is to be measured.
pub fn folder(args: &crate::Args) -> Done<tempfile::TempDir> {
    let base: PathBuf = args.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    Ok(tempfile::Builder::new().prefix("millpond-bench-").tempdir_in(base)?)
}

/// A runtime for the async callers: as many threads as the machine has cores.
pub fn runtime() -> Done<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Opens a fresh store.
pub async fn store(folder: &Path, name: &str) -> Done<Store> {
    let engine = SqliteEngine::open(folder.join(name), SqliteOptions::default()).await?;
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await?;
    store.declare(&[WORK.spec()?]).await?;
    Ok(store)
}

/// A record of about 300 bytes.
pub fn document(n: u64) -> String {
    format!("{{\"note\":\"{}\",\"status\":\"running\",\"ts\":{n}}}", "x".repeat(260))
}

/// An event body of 256 bytes.
pub fn body() -> String {
    format!("{{\"data\":\"{}\",\"status\":\"ok\",\"step\":\"fetch\"}}", "x".repeat(216))
}

/// One of 64 streams that everybody shares.
pub fn stream(n: u64) -> String {
    format!("runs/{}", n % 64)
}

/// One record and one event, the record expected to be new.
pub fn step(n: u64) -> millpond_core::Result<Commit> {
    let key = format!("k{n}");
    let id = RecordId::new("work", &key)?;
    Commit::new()
        .expect(millpond_core::Expectation::Absent(id.clone()))
        .write(Write::Put(id, Json::parse(&document(n))?))
        .append(&stream(n), event()?)
}

/// The event of a step.
pub fn event() -> millpond_core::Result<NewEvent> {
    Ok(NewEvent::new("step.completed", Json::parse(&body())?))
}
