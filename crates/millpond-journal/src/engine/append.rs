//! Sending an entry until it is known whether it is the next one.
//!
//! Sending the same bytes again is safe, because an entry is only ever written where none is: so an answer that was lost
//! is settled by asking again, and by comparing who wrote the entry that is there now.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_core::{CallPolicy, Error, ErrorKind, Host, Pauses, Result};

use crate::entry::{Entry, Signature};
use crate::journal::{After, Append, Journal, Limit};

/// How long an unknown outcome is worked on before the caller hears of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses meanwhile, if nobody says otherwise.
pub(crate) const CALLS: CallPolicy = CallPolicy::within(PATIENCE);

/// How long an unknown outcome is worked on, and how.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    policy: CallPolicy,
    host: Arc<dyn Host>,
}

impl Patience {
    pub(crate) fn new(time: Duration, calls: &CallPolicy, host: Arc<dyn Host>) -> Self {
        Self { policy: calls.settling(time), host }
    }
}

/// Appends the parts of one change, each after the one before. `Overtaken` as soon as one is.
pub(crate) async fn append_all(
    journal: Arc<dyn Journal>,
    mut after: u64,
    entries: Vec<Bytes>,
    signature: Signature,
    patience: Patience,
) -> Result<Append> {
    let mut pauses = patience.policy.pauses(&*patience.host);
    let last = after + entries.len() as u64;
    for entry in entries {
        match append_settled(&*journal, after, &entry, &signature, &mut pauses).await {
            Ok(Append::Written) => after += 1,
            Ok(Append::Overtaken) => return Ok(Append::Overtaken),
            // Only the last part is the commit point: without it the ones before are nothing.
            Err(error) if error.kind() == ErrorKind::UnknownOutcome && after + 1 < last => {
                return Err(Error::unavailable("a part of the change could not be appended, so none of it counts")
                    .with_source(error.to_string())
                    .with_next("send it again"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Append::Written)
}

async fn append_settled(
    journal: &dyn Journal,
    after: u64,
    entry: &Bytes,
    signature: &Signature,
    pauses: &mut Pauses,
) -> Result<Append> {
    let mut unknown: Option<Error> = None;
    loop {
        let error = match journal.append(after, entry.clone()).await {
            Ok(Append::Written) => return Ok(Append::Written),
            // It may be our own entry that is there: a lost answer, or a driver that sent again by itself.
            Ok(Append::Overtaken) => match whose(journal, after, entry, signature).await {
                Ok(Whose::Known(append)) => return Ok(append),
                // So far behind that it cannot have been our own, unless an answer was lost.
                Ok(Whose::Trimmed) if unknown.is_none() => return Ok(Append::Overtaken),
                Ok(Whose::Trimmed) => return Err(as_unknown(Error::unavailable("the entry was trimmed before it was compared"))),
                Ok(Whose::Nobody) => Error::unavailable("the journal says that an entry is there, and shows none"),
                Err(error) => error,
            },
            Err(error) if error.kind() == ErrorKind::UnknownOutcome => error,
            Err(error) if unknown.is_none() => return Err(error),
            Err(error) => error,
        };
        let unsettled = unknown.take().unwrap_or(error);
        let left = pauses.left();
        if left.is_zero() {
            return Err(as_unknown(unsettled));
        }
        unknown = Some(unsettled);
        // With no time for another pause, one last look at the very end.
        tokio::time::sleep(pauses.next_pause().unwrap_or(left)).await;
        // The entry may have arrived meanwhile, also when appending is what fails.
        if let Ok(Whose::Known(append)) = whose(journal, after, entry, signature).await {
            return Ok(append);
        }
    }
}

/// What is known about the next entry.
enum Whose {
    Known(Append),
    Nobody,
    /// It is gone, and a snapshot holds what it did.
    Trimmed,
}

async fn whose(journal: &dyn Journal, after: u64, own: &Bytes, signature: &Signature) -> Result<Whose> {
    let limit = Limit { entries: 1, bytes: 1 };
    let After::Entries(entries) = journal.read(after, limit).await? else { return Ok(Whose::Trimmed) };
    let Some(found) = entries.first() else { return Ok(Whose::Nobody) };
    if found.bytes == *own {
        return Ok(Whose::Known(Append::Written));
    }
    if Entry::read(found.number, &found.bytes)?.signature == *signature {
        return Err(Error::corrupt("the journal holds another text of the entry that was just written"));
    }
    Ok(Whose::Known(Append::Overtaken))
}

fn as_unknown(error: Error) -> Error {
    if error.kind() == ErrorKind::UnknownOutcome {
        return error;
    }
    Error::new(ErrorKind::UnknownOutcome, "the journal did not answer whether the entry was written")
        .with_source(error.to_string())
        .with_next("send the same commit again under the same id")
}
