//! Typed views: a collection of one document type.

use std::marker::PhantomData;

use crate::collection::Scalar;
use crate::commit::{Commit, Expectation, Write};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::name::{Key, RecordId};
use crate::outcome::Receipt;
use crate::query::{Page, PageCursor, Query};
use crate::record::{Document, Record, Versioned};
use crate::store::Store;

/// The records of one document type. Every write is one commit.
#[derive(Debug)]
pub struct Records<T> {
    store: Store,
    document: PhantomData<fn() -> T>,
}

// By hand: a derive would ask that the document itself can be cloned.
impl<T> Clone for Records<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), document: PhantomData }
    }
}

/// How often [`Records::modify`] reads again after a conflict.
const MODIFY_TRIES: u32 = 16;

impl<T: Document> Records<T> {
    /// A view; the collection has to be declared by then.
    pub fn new(store: Store) -> Self {
        Self { store, document: PhantomData }
    }

    /// The store behind.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The identity of the record with this key.
    ///
    /// # Errors
    /// `Invalid` when the key breaks a rule.
    pub fn id(key: &str) -> Result<RecordId> {
        RecordId::new(T::COLLECTION.name(), key)
    }

    /// The write that puts a document, to be used in a larger commit.
    ///
    /// # Errors
    /// `Invalid` when the document breaks a rule.
    pub fn put(document: &T) -> Result<Write> {
        let id = Self::id(document.key()?.as_str())?;
        Ok(Write::Put(id, Json::of(document)?))
    }

    fn commit() -> Commit {
        if T::COLLECTION.spec().is_ok_and(|s| s.owned) { Commit::new().trusted() } else { Commit::new() }
    }

    /// One document by key.
    ///
    /// # Errors
    /// `Corrupt` when the record does not have the shape of `T`.
    pub async fn get(&self, key: &str) -> Result<Option<Versioned<T>>> {
        self.store.get_unread(T::COLLECTION.name(), key).await?.map(|r| r.decode()).transpose()
    }

    /// One document by key that has to be there.
    ///
    /// # Errors
    /// `NotFound`, and as [`Records::get`].
    pub async fn require(&self, key: &str) -> Result<Versioned<T>> {
        self.get(key).await?.ok_or_else(|| Error::not_found(format!("{}/{key} does not exist", T::COLLECTION.name())))
    }

    /// Creates a document. `Conflict` if the key is taken.
    ///
    /// # Errors
    /// `Conflict`, and as [`Store::commit`].
    pub async fn create(&self, document: &T) -> Result<Receipt> {
        let id = Self::id(document.key()?.as_str())?;
        self.store.commit(Self::commit().expect(Expectation::Absent(id)).write(Self::put(document)?)).await
    }

    /// Creates or replaces a document, whoever changed it meanwhile.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn save(&self, document: &T) -> Result<Receipt> {
        self.store.commit(Self::commit().write(Self::put(document)?)).await
    }

    /// Replaces a document if it is still at the revision it was read at.
    ///
    /// # Errors
    /// `Conflict`, and as [`Store::commit`].
    pub async fn update(&self, document: &Versioned<T>) -> Result<Receipt> {
        let id = Self::id(document.value.key()?.as_str())?;
        let expect = Expectation::Revision(id, document.revision);
        self.store.commit(Self::commit().expect(expect).write(Self::put(&document.value)?)).await
    }

    /// Reads, changes and writes back, again if somebody else was faster.
    ///
    /// # Errors
    /// `NotFound`; what `change` fails with; `Conflict` when others were faster sixteen times.
    pub async fn modify(&self, key: &str, mut change: impl FnMut(&mut T) -> Result<()> + Send) -> Result<Versioned<T>> {
        let mut tries = 0;
        loop {
            let mut document = self.require(key).await?;
            change(&mut document.value)?;
            match self.update(&document).await {
                Ok(receipt) => {
                    document.revision = receipt.revisions.first().copied().unwrap_or(document.revision);
                    document.position = receipt.position;
                    document.time = receipt.time;
                    document.by = None;
                    return Ok(document);
                }
                Err(e) if e.is_conflict() && tries < MODIFY_TRIES => tries += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Deletes a document; true if it was there.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let receipt = self.store.commit(Self::commit().write(Write::Delete(Self::id(key)?))).await?;
        Ok(receipt.revisions.first().is_some_and(|r| *r > 0))
    }

    /// A query over this collection.
    ///
    /// # Errors
    /// `Invalid` when the collection's name breaks a rule.
    pub fn query(&self) -> Result<TypedQuery<T>> {
        Ok(TypedQuery { records: self.clone(), query: Query::new(T::COLLECTION.name())? })
    }

    /// Runs a query and decodes what it finds.
    ///
    /// A record that does not have the shape of `T` is reported in [`Page::damaged`], and left out.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub async fn page(&self, query: Query) -> Result<Page<Versioned<T>>> {
        let Page { items, next, mut damaged } = self.store.query(query).await?;
        let mut decoded = Vec::with_capacity(items.len());
        for record in items {
            match record.decode() {
                Ok(document) => decoded.push(document),
                Err(error) => damaged.push(crate::query::Damaged { what: name_of(&record), why: error.to_string() }),
            }
        }
        Ok(Page { items: decoded, next, damaged })
    }
}

fn name_of(record: &Record) -> String {
    format!("{}/{}", record.collection, record.key)
}

/// A query being built. See [`Query`] for what each step means.
#[derive(Debug)]
pub struct TypedQuery<T> {
    records: Records<T>,
    query: Query,
}

impl<T: Document> TypedQuery<T> {
    /// Equal.
    #[must_use]
    pub fn eq(mut self, field: &str, value: impl Into<Scalar>) -> Self {
        self.query = self.query.eq(field, value);
        self
    }

    /// Equal, if a value is given.
    #[must_use]
    pub fn eq_opt<S: Into<Scalar>>(self, field: &str, value: Option<S>) -> Self {
        match value {
            Some(value) => self.eq(field, value),
            None => self,
        }
    }

    /// At or above.
    #[must_use]
    pub fn at_least(mut self, field: &str, value: impl Into<Scalar>) -> Self {
        self.query = self.query.at_least(field, value);
        self
    }

    /// Below.
    #[must_use]
    pub fn below(mut self, field: &str, value: impl Into<Scalar>) -> Self {
        self.query = self.query.below(field, value);
        self
    }

    /// Any other condition.
    #[must_use]
    pub fn filter(mut self, filter: crate::query::Filter) -> Self {
        self.query = self.query.filter(filter);
        self
    }

    /// A set holding this.
    #[must_use]
    pub fn has(mut self, field: &str, text: impl Into<String>) -> Self {
        self.query = self.query.has(field, text);
        self
    }

    /// Smallest first.
    #[must_use]
    pub fn order_asc(mut self, field: &str) -> Self {
        self.query = self.query.order_asc(field);
        self
    }

    /// Largest first.
    #[must_use]
    pub fn order_desc(mut self, field: &str) -> Self {
        self.query = self.query.order_desc(field);
        self
    }

    /// At most this many.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.query = self.query.limit(limit);
        self
    }

    /// Continue after a page.
    #[must_use]
    pub fn after(mut self, cursor: Option<PageCursor>) -> Self {
        self.query = self.query.after(cursor);
        self
    }

    /// The plain query.
    #[must_use]
    pub fn build(self) -> Query {
        self.query
    }

    /// Runs it.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub async fn page(self) -> Result<Page<Versioned<T>>> {
        self.records.page(self.query).await
    }

    /// How many documents it takes.
    ///
    /// # Errors
    /// As [`Store::count`].
    pub async fn count(self) -> Result<u64> {
        self.records.store.count(self.query).await
    }

    /// The first document.
    ///
    /// # Errors
    /// As [`Store::query`].
    pub async fn first(self) -> Result<Option<Versioned<T>>> {
        Ok(self.limit(1).page().await?.items.pop())
    }

    /// The key's documents by hand.
    #[must_use]
    pub fn key(self, key: &Key) -> Self {
        self.eq(crate::query::KEY_FIELD, key.as_str())
    }
}
