//! The object store's errors as Millpond's.

use millpond_core::{Error, ErrorKind, Result};
use object_store::path::Path as Location;

/// Turns an error of a read, or of a write that may be done again, into Millpond's.
pub fn failed(what: &'static str, location: &Location) -> impl Fn(object_store::Error) -> Error {
    let location = location.to_string();
    move |error| {
        let (kind, next) = match &error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                (ErrorKind::Unavailable, "check the credentials, and that they may read, write and list")
            }
            object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
                (ErrorKind::Unsupported, "use a store that can do that")
            }
            object_store::Error::InvalidPath { .. } => (ErrorKind::Invalid, "give another prefix"),
            _ => (ErrorKind::Unavailable, "check that the store can be reached; then try again"),
        };
        Error::new(kind, format!("cannot {what} {location}")).with_source(error).with_next(next)
    }
}

/// An object's bytes; `None` when it does not exist.
pub async fn get(store: &dyn object_store::ObjectStore, location: &Location) -> Result<Option<bytes::Bytes>> {
    use object_store::ObjectStoreExt as _;
    match store.get(location).await {
        Ok(found) => found.bytes().await.map(Some).map_err(failed("read", location)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed("read", location)(error)),
    }
}
