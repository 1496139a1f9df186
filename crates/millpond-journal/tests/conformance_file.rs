//! The journal engine on files keeps every promise of the suite. Two handles are two engines on one folder.

use std::path::PathBuf;
use std::sync::Arc;

use millpond_journal::drivers::file::{FileJournals, FileOptions};
use millpond_journal::{JournalEngine, JournalOptions};

millpond_conformance::main!(|place: PathBuf| async move {
    let journals = FileJournals::open(place.join("store"), FileOptions::default())?;
    JournalEngine::open(Arc::new(journals), JournalOptions::default()).await
});
