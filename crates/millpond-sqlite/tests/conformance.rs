//! The SQLite engine on a file keeps every promise of the suite. Two handles are two engines on one file.

use std::path::PathBuf;

use millpond_sqlite::{SqliteEngine, SqliteOptions};

millpond_conformance::main!(|place: PathBuf| async move {
    SqliteEngine::open(place.join("millpond.db"), SqliteOptions::default()).await
});
