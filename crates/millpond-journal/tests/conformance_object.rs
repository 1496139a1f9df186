//! The journal engine on an object store keeps every promise of the suite: here on a folder that is used as one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::Error;
use millpond_journal::drivers::object::{ObjectJournals, ObjectOptions, ObjectPlace};
use millpond_journal::{JournalEngine, JournalOptions};

millpond_conformance::main!(|folder: PathBuf| async move {
    let place = ObjectPlace::parse(&format!("object-file:{}", folder.join("objects").display()))?;
    let place = place.ok_or_else(|| Error::invalid("this is an object store's URL"))?;
    let options = ObjectOptions { grace: Duration::from_secs(4), poll: Duration::from_millis(10), ..ObjectOptions::default() };
    let journals = ObjectJournals::open(place, options).await?;
    let options = JournalOptions { cache: Some(folder.join("cache")), ..JournalOptions::default() };
    JournalEngine::open(Arc::new(journals), options).await
});
