//! Items whose data is too large for records: it is kept as an object, and callers see no difference.

use bytes::Bytes;
use millpond_core::{Damaged, Document, Error, Outcome, Read, Records, Result, limits};
use serde_json::Value;

use super::model::{DeadLetter, key};
use super::{DeadLetteredItem, DeadLetters};
use crate::payloads::{PayloadObject, Payloads};
use crate::units::Working;

/// How often a letter that is exchanged while it is read is looked at anew.
const LOOKS: u32 = 16;

/// Bytes of an item's data that stay in the letter's record. The rest of a document is for the history of the failures.
const INLINE_BYTES: usize = 900 << 10;

/// Bytes of data outside of records that one answer brings, unless a single letter has more: what a page of records has.
const ANSWER_BYTES: u64 = limits::PAGE_BYTES as u64;

/// An item on its way into a letter: with a unit, once its data is an object.
pub(super) struct Incoming {
    pub(super) item: DeadLetteredItem,
    pub(super) object: Option<PayloadObject>,
    unit: Option<Working>,
}

/// A letter whose data cannot be read.
pub(super) struct Unreadable {
    pub(super) told: Damaged,
    pub(super) error: Error,
}

impl Incoming {
    /// Commits the letter, and its data with it.
    pub(super) async fn commit(&self, letters: &DeadLetters, commit: millpond_core::Commit) -> Result<millpond_core::Receipt> {
        match &self.unit {
            None => letters.store.commit(commit).await,
            Some(unit) => match unit.decide(commit).await? {
                Outcome::Committed(receipt) => Ok(receipt),
                Outcome::Conflict(conflict) => Err(Error::from_conflict(conflict)),
            },
        }
    }
}

impl DeadLetters {
    /// Gets ready to add an item. One that is dropped leaves nothing.
    pub(super) async fn incoming(&self, job: &str, mut item: DeadLetteredItem) -> Result<Incoming> {
        let text = match &item.item_data {
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
            data => Some(data.to_string()).filter(|text| text.len() > INLINE_BYTES),
        };
        let Some(text) = text else { return Ok(Incoming { item, object: None, unit: None }) };
        let owner = format!("dead_letters/{}", key(job, &item.item_id)?);
        let unit = self.payloads.begin()?;
        let object = Payloads::stage(&unit, owner, Bytes::from(text)).await?;
        item.item_data = Value::Null;
        Ok(Incoming { item, object: Some(object), unit: Some(unit) })
    }

    /// How many of these letters, counted from the first, one answer may bring with their data: one at least.
    pub(super) async fn fitting(&self, letters: impl Iterator<Item = &DeadLetter>) -> Result<usize> {
        let (mut all, mut outside) = (0, Vec::new());
        for (at, letter) in letters.enumerate() {
            all = at + 1;
            if let Some(location) = &letter.payload_object {
                outside.push((at, Records::<PayloadObject>::id(location)?));
            }
        }
        let mut bytes = 0;
        for together in outside.chunks(limits::READS) {
            let reads = together.iter().map(|(_, id)| Read::Get(id.clone())).collect();
            for ((at, _), answer) in together.iter().zip(self.store.read(reads).await?) {
                // Whoever reads one that is gone or damaged is told so then.
                let object = answer.into_record()?.and_then(|record| record.value.decode::<PayloadObject>().ok());
                bytes += object.map_or(0, |object| object.length);
                if bytes > ANSWER_BYTES && *at > 0 {
                    return Ok(*at);
                }
            }
        }
        Ok(all)
    }

    /// A letter with its data, or what is told of it where that cannot be read: it is no reason to keep others back.
    pub(super) async fn readable(&self, letter: DeadLetter) -> Result<std::result::Result<DeadLetter, Unreadable>> {
        let what = format!("{}/{}", DeadLetter::COLLECTION.name(), letter.key()?);
        Ok(self.filled(letter).await.map_err(|error| Unreadable { told: Damaged { what, why: error.to_string() }, error }))
    }

    /// A letter with its data; as it is now, where it was exchanged since it was read.
    ///
    /// # Errors
    /// `NotFound` when it was purged since; `Corrupt` when its data does not read back.
    pub(super) async fn filled(&self, mut letter: DeadLetter) -> Result<DeadLetter> {
        let mut looks = 0;
        while let Some(location) = &letter.payload_object {
            let damaged = |why: &str| {
                let (job, item) = (&letter.job_id, &letter.item.item_id);
                Error::corrupt(format!("the data of dead letter {item} of job {job} {why}"))
            };
            match self.payloads.read(location).await? {
                Some(bytes) => {
                    letter.item.item_data = serde_json::from_slice(&bytes).map_err(|e| damaged("is not JSON").with_source(e))?;
                    return Ok(letter);
                }
                // Purged since the letter was read, or exchanged: the letter says which.
                None => match Records::<DeadLetter>::new(self.store.clone()).get(letter.key()?.as_str()).await? {
                    None => return Err(Error::not_found("the dead letter was purged while it was read")),
                    Some(now) if now.value.payload_object == letter.payload_object => return Err(damaged("has no record")),
                    Some(_) if looks == LOOKS => return Err(damaged("was exchanged again and again while it was read")),
                    Some(now) => letter = now.value,
                },
            }
            looks += 1;
        }
        Ok(letter)
    }
}
