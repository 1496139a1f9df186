//! What the errors of a create mean.

use millpond_core::{Error, ErrorKind};
use millpond_objects::place::failed;
use object_store::path::Path as Location;

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
