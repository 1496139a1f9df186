//! The object store's errors as Millpond's.

use millpond_core::{Error, ErrorKind, Result};
use object_store::path::Path as Location;

/// Turns an error of a read, or of a write that may be done again, into Millpond's.
pub(super) fn failed(what: &'static str, location: &Location) -> impl Fn(object_store::Error) -> Error {
    let location = location.to_string();
    move |error| {
        let (kind, next) = match &error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                (ErrorKind::Unavailable, "check the credentials, and that they may read, write and list")
            }
            object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
                (ErrorKind::Unsupported, "use a store that creates objects only if they are absent")
            }
            object_store::Error::InvalidPath { .. } => (ErrorKind::Invalid, "give another prefix"),
            _ => (ErrorKind::Unavailable, "check that the store can be reached; then try again"),
        };
        Error::new(kind, format!("cannot {what} {location}")).with_source(error).with_next(next)
    }
}

/// Whether a create was refused because the object exists. (Some servers also say so when two collide: then nothing may
/// be there, and whoever asks looks.)
pub(super) fn is_there_already(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::NotModified { .. }
    )
}

/// The error of a create: anything that is no clear refusal may have been done, or may still be.
pub(super) fn of_create(location: &Location, error: object_store::Error) -> Error {
    match error {
        error @ (object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::InvalidPath { .. }
        | object_store::Error::NotFound { .. }) => failed("create", location)(error),
        error => Error::new(ErrorKind::UnknownOutcome, format!("the store did not say whether it created {location}"))
            .with_source(error)
            .with_next("send the same commit again under the same id"),
    }
}

/// An object's bytes; `None` when it does not exist.
pub(super) async fn get(store: &dyn object_store::ObjectStore, location: &Location) -> Result<Option<bytes::Bytes>> {
    use object_store::ObjectStoreExt as _;
    match store.get(location).await {
        Ok(found) => found.bytes().await.map(Some).map_err(failed("read", location)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed("read", location)(error)),
    }
}
