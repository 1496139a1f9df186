//! Commit ids: UUIDv7, so that an id says when it was made and old ones can be refused.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::time::{Host, Timestamp};

/// The id of a commit. Sent again, the same id returns the first receipt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(Uuid);

/// Makes a UUIDv7 from a host's clock and randomness.
pub fn uuid_v7(host: &dyn Host) -> Uuid {
    let millis = u64::try_from(host.now().as_micros() / 1_000).unwrap_or(0);
    let random = host.random().to_be_bytes();
    let mut bytes = [0u8; 10];
    bytes.copy_from_slice(&random[..10]);
    // The manual host counts in the low bits; mix them in so that its ids differ.
    for (b, r) in bytes.iter_mut().zip(&random[6..]) {
        *b ^= r;
    }
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
}

impl CommitId {
    /// A fresh id.
    pub fn generate(host: &dyn Host) -> Self {
        Self(uuid_v7(host))
    }

    /// Takes a UUID, which has to be of version 7.
    ///
    /// # Errors
    /// `Invalid` for any other version: its age could not be told.
    pub fn from_uuid(id: Uuid) -> Result<Self> {
        if id.get_version_num() != 7 {
            return Err(Error::invalid(format!("commit id {id} is a UUID of version {}, not 7", id.get_version_num()))
                .with_next("make ids with a UUIDv7 generator, or leave the id out"));
        }
        Ok(Self(id))
    }

    /// Parses the usual text form.
    ///
    /// # Errors
    /// `Invalid` when it is not a UUIDv7.
    pub fn parse(text: &str) -> Result<Self> {
        let id = Uuid::parse_str(text)
            .map_err(|e| Error::invalid(format!("commit id {text:?} is not a UUID")).with_source(e).with_next("use a UUIDv7"))?;
        Self::from_uuid(id)
    }

    /// When the id was made, to the millisecond.
    pub fn time(self) -> Timestamp {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |t| t.to_unix());
        Timestamp::from_micros(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000) + i64::from(nanos / 1_000))
    }

    /// The sixteen bytes, whose order is the order of time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Takes sixteen bytes back that a store kept.
    pub fn from_store(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<String> for CommitId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> Self {
        id.to_string()
    }
}
