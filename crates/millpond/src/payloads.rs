//! Payloads of other domains that are too large for records: objects, made and removed by the same mechanism as the bytes
//! of artifacts, and invisible to whoever saves and loads them.
//!
//! ```text
//!   save ─► claim (an operation of kind `object`) ─► stage ─► ONE commit: the owner's record, payload_objects/LOCATION
//!   delete the owner ─► its record and payload_objects/LOCATION in one commit ─► the collector removes the bytes
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millpond_core::{Collection, Document, Error, ErrorKind, FieldKind, Key, RecordId, Records, Result, Store, Write};
use millpond_objects::{Note, Sums, Verified};
use serde::{Deserialize, Serialize};

use crate::text::hex;
use crate::units::{OperationKind, Units, Wanted, Working};

/// Every collection of payloads.
pub(crate) const COLLECTIONS: [Collection; 1] = [PayloadObject::COLLECTION];

/// That an object belongs to a record. It is there as long as the record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadObject {
    /// Where the bytes are: the record's key.
    pub location: String,
    /// The collection and the key of the record it belongs to.
    pub owner: String,
    /// Its bytes.
    pub length: u64,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// XXH3 of each block of a MiB, in hexadecimal digits.
    pub blocks: Vec<String>,
}

impl Document for PayloadObject {
    const COLLECTION: Collection = Collection::new("payload_objects").version(1).index("location", FieldKind::Text).owned();

    fn key(&self) -> Result<Key> {
        Key::new(self.location.as_str())
    }
}

impl PayloadObject {
    /// The write that lets go of the bytes, together with their owner.
    pub(crate) fn removal(location: &str) -> Result<Write> {
        Ok(Write::Delete(RecordId::new(Self::COLLECTION.name(), location)?))
    }

    pub(crate) fn sums(&self) -> Result<Sums> {
        let unreadable = || Error::corrupt(format!("the record of the payload at {} does not read back", self.location));
        let sha256 = crate::text::bytes_of_hex(&self.sha256).ok_or_else(unreadable)?;
        let blocks = self.blocks.iter().map(|sum| u64::from_str_radix(sum, 16).map_err(|_| unreadable()));
        Ok(Sums { length: self.length, sha256, blocks: blocks.collect::<Result<_>>()? })
    }
}

/// Large payloads of a domain in a store.
#[derive(Debug, Clone)]
pub(crate) struct Payloads {
    store: Store,
    /// The units of the namespace, and the store they are in.
    units: Option<Arc<Units>>,
}

impl Payloads {
    /// Payloads of a domain, by the units of its namespace; there are none for a domain alone.
    pub(crate) fn new(store: Store, units: Option<Units>) -> Self {
        Self { store, units: units.map(Arc::new) }
    }

    /// A unit that writes nothing but a payload and its owner.
    ///
    /// # Errors
    /// `Unsupported` when artifacts are in another store: the owner and its bytes could not be decided together.
    pub(crate) fn begin(&self) -> Result<Working> {
        let unsupported = |why: String| {
            Error::new(ErrorKind::Unsupported, why)
                .with_next("give both one store in the configuration, or keep the payload small")
        };
        let units =
            self.units.as_ref().ok_or_else(|| unsupported("this handle keeps no payloads outside of records".to_owned()))?;
        let (own, theirs) = (&self.store, &units.undoing().store);
        if !Arc::ptr_eq(own.engine(), theirs.engine()) {
            let (own, theirs) = (own.engine().info().location, theirs.engine().info().location);
            return Err(unsupported(format!(
                "a payload too large for records is committed with artifacts, which are in {theirs}, not in {own}"
            )));
        }
        Ok(units.begin(None, None, Duration::ZERO))
    }

    /// Writes a payload to a place of its own, as an operation of a unit. The owner's record has to be committed with it.
    ///
    /// # Errors
    /// As the operations of units.
    pub(crate) async fn stage(working: &Working, owner: String, bytes: Bytes) -> Result<PayloadObject> {
        // Before anything is registered: what cannot be written has nothing to be undone.
        let undoing = working.undoing();
        let objects = undoing.objects.get(&undoing.store).await?;
        let name = owner.chars().take(200).collect::<String>();
        let operation = working.claim(Wanted::of(OperationKind::Object, &name)).await?;
        if working.is_repeated() {
            // Its owner was committed with the bytes of the first one. Nothing is written over those.
            return Err(working.no_receipt());
        }
        let sums = Sums::of(&bytes);
        let object = PayloadObject {
            location: operation.location.clone().unwrap_or_default(),
            owner,
            length: sums.length,
            sha256: hex(&sums.sha256),
            blocks: sums.blocks.iter().map(|sum| format!("{sum:016x}")).collect(),
        };
        objects.put(&Working::location(&operation)?, bytes, Some(&Note::of(&object)?)).await?;
        working.finish(operation.number)?;
        Ok(object)
    }

    /// The bytes of a payload, compared with what was written. `None` when it was let go meanwhile.
    ///
    /// # Errors
    /// `Corrupt`, naming the location and both digests, when its bytes are damaged or gone.
    pub(crate) async fn read(&self, location: &str) -> Result<Option<Bytes>> {
        let Some(units) = &self.units else {
            return Err(Error::new(ErrorKind::Unsupported, "this handle reads no payloads outside of records"));
        };
        let records = Records::<PayloadObject>::new(self.store.clone());
        let Some(object) = records.get(location).await? else { return Ok(None) };
        let undoing = units.undoing();
        let objects = undoing.objects.get(&undoing.store).await?;
        let bytes = Verified::new(objects, location.parse()?, Arc::new(object.value.sums()?)).whole().await;
        match bytes {
            Err(error) if error.kind() == ErrorKind::Corrupt && records.get(location).await?.is_none() => Ok(None),
            bytes => bytes.map(Some).map_err(|e| e.with("owner", &object.value.owner)),
        }
    }
}
