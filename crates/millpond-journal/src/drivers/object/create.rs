//! Creating an object that does not exist: the one thing a journal asks of a store.

use millpond_core::Result;
use millpond_objects::place::{Patience, failed};
use object_store::path::Path as Location;
use object_store::{ObjectStore, PutMode, PutOptions};

use super::errors::is_there_already;

/// The options of a put that succeeds for one caller only.
pub(super) fn create_only() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

/// Creates an object, and sends that again when no answer comes. False when the store refused it: somebody else made it,
/// or an earlier try whose answer was lost, or one that is still on its way. Whoever needs it there looks. Not for
/// entries, whose writer has to know which.
pub(super) async fn create(store: &dyn ObjectStore, patience: &Patience, location: &Location, body: &str) -> Result<bool> {
    match patience.settling().repeat(|| store.put_opts(location, body.to_owned().into(), create_only())).await {
        Ok(_) => Ok(true),
        Err(error) if is_there_already(&error) => Ok(false),
        Err(error) => Err(failed("create", location)(error)),
    }
}
