//! Creating an object that does not exist: the one thing a journal asks of a store.

use std::time::Duration;

use millpond_core::Result;
use object_store::path::Path as Location;
use object_store::{ObjectStore, PutMode, PutOptions};

use super::errors::{failed, is_there_already};
use super::patient::passes;

/// How often a create is sent whose answer is lost.
const TRIES: u32 = 6;
/// The pause after the first; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(50);

/// The options of a put that succeeds for one caller only.
pub(super) fn create_only() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

/// Creates an object, and sends that again when no answer comes. False when it is there already: made by somebody else,
/// or by an earlier try whose answer was lost. Not for entries, whose writer has to know which.
pub(super) async fn create(store: &dyn ObjectStore, location: &Location, body: &str) -> Result<bool> {
    let mut tries = 0;
    loop {
        tries += 1;
        match store.put_opts(location, body.to_owned().into(), create_only()).await {
            Ok(_) => return Ok(true),
            Err(error) if is_there_already(&error) => return Ok(false),
            Err(error) if tries < TRIES && passes(&error) => tokio::time::sleep(PAUSE * (1 << tries)).await,
            Err(error) => return Err(failed("create", location)(error)),
        }
    }
}
