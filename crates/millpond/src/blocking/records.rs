//! Documents of one's own for synchronous callers.

use millpond_core::{Document, Filter, Key, Page, PageCursor, Query, Receipt, Result, Scalar, Versioned};

use crate::bridge::Bridge;

/// The records of one document type, for synchronous callers. Every write is one commit. See
/// [`millpond_core::Records`].
#[derive(Debug)]
pub struct Records<T> {
    records: millpond_core::Records<T>,
    bridge: Bridge,
}

// By hand: a derive would ask that the document itself can be cloned.
impl<T> Clone for Records<T> {
    fn clone(&self) -> Self {
        Self { records: self.records.clone(), bridge: self.bridge.clone() }
    }
}

impl<T: Document> Records<T> {
    pub(super) fn new(records: millpond_core::Records<T>, bridge: Bridge) -> Self {
        Self { records, bridge }
    }

    /// One document by key.
    ///
    /// # Errors
    /// As [`millpond_core::Records::get`]; `Invalid` when called inside an async runtime.
    pub fn get(&self, key: &str) -> Result<Option<Versioned<T>>> {
        self.bridge.run(self.records.get(key))
    }

    /// One document by key that has to be there.
    ///
    /// # Errors
    /// As [`millpond_core::Records::require`]; `Invalid` when called inside an async runtime.
    pub fn require(&self, key: &str) -> Result<Versioned<T>> {
        self.bridge.run(self.records.require(key))
    }

    /// Creates a document. One commit point: the record.
    ///
    /// # Errors
    /// As [`millpond_core::Records::create`]; `Invalid` when called inside an async runtime.
    pub fn create(&self, document: &T) -> Result<Receipt> {
        self.bridge.run(self.records.create(document))
    }

    /// Creates or replaces a document, whoever changed it meanwhile. One commit point: the record.
    ///
    /// # Errors
    /// As [`millpond_core::Records::save`]; `Invalid` when called inside an async runtime.
    pub fn save(&self, document: &T) -> Result<Receipt> {
        self.bridge.run(self.records.save(document))
    }

    /// Replaces a document if it is still at the revision it was read at. One commit point: the record.
    ///
    /// # Errors
    /// As [`millpond_core::Records::update`]; `Invalid` when called inside an async runtime.
    pub fn update(&self, document: &Versioned<T>) -> Result<Receipt> {
        self.bridge.run(self.records.update(document))
    }

    /// Reads, changes and writes back, again if somebody else was faster. One commit point: the record.
    ///
    /// # Errors
    /// As [`millpond_core::Records::modify`]; `Invalid` when called inside an async runtime.
    pub fn modify(&self, key: &str, change: impl FnMut(&mut T) -> Result<()> + Send) -> Result<Versioned<T>> {
        self.bridge.run(self.records.modify(key, change))
    }

    /// Deletes a document; true if it was there. One commit point: the record.
    ///
    /// # Errors
    /// As [`millpond_core::Records::delete`]; `Invalid` when called inside an async runtime.
    pub fn delete(&self, key: &str) -> Result<bool> {
        self.bridge.run(self.records.delete(key))
    }

    /// A query over this collection.
    ///
    /// # Errors
    /// `Invalid` when the collection's name breaks a rule.
    pub fn query(&self) -> Result<TypedQuery<T>> {
        Ok(TypedQuery { query: self.records.query()?, bridge: self.bridge.clone() })
    }

    /// Runs a query and decodes what it finds. A record that does not have the shape of `T` is reported in
    /// [`Page::damaged`], and left out.
    ///
    /// # Errors
    /// As [`millpond_core::Records::page`]; `Invalid` when called inside an async runtime.
    pub fn page(&self, query: Query) -> Result<Page<Versioned<T>>> {
        self.bridge.run(self.records.page(query))
    }
}

/// A query being built, for synchronous callers. See [`Query`] for what each step means.
#[derive(Debug)]
pub struct TypedQuery<T> {
    query: millpond_core::TypedQuery<T>,
    bridge: Bridge,
}

/// Writes the steps that change nothing but the query.
macro_rules! steps {
    ($( $(#[$doc:meta])* fn $step:ident ( $($arg:ident : $ty:ty),* ); )*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $step(self, $($arg: $ty),*) -> Self {
                Self { query: self.query.$step($($arg),*), bridge: self.bridge }
            }
        )*
    };
}

impl<T: Document> TypedQuery<T> {
    steps! {
        /// Equal.
        fn eq(field: &str, value: impl Into<Scalar>);
        /// Equal, if a value is given.
        fn eq_opt(field: &str, value: Option<impl Into<Scalar>>);
        /// At or above.
        fn at_least(field: &str, value: impl Into<Scalar>);
        /// Below.
        fn below(field: &str, value: impl Into<Scalar>);
        /// Any other condition.
        fn filter(filter: Filter);
        /// A set holding this.
        fn has(field: &str, text: impl Into<String>);
        /// Smallest first.
        fn order_asc(field: &str);
        /// Largest first.
        fn order_desc(field: &str);
        /// At most this many.
        fn limit(limit: usize);
        /// Continue after a page.
        fn after(cursor: Option<PageCursor>);
        /// The document under this key.
        fn key(key: &Key);
    }

    /// The plain query.
    #[must_use]
    pub fn build(self) -> Query {
        self.query.build()
    }

    /// Runs it.
    ///
    /// # Errors
    /// As [`millpond_core::TypedQuery::page`]; `Invalid` when called inside an async runtime.
    pub fn page(self) -> Result<Page<Versioned<T>>> {
        self.bridge.run(self.query.page())
    }

    /// How many documents it takes.
    ///
    /// # Errors
    /// As [`millpond_core::TypedQuery::count`]; `Invalid` when called inside an async runtime.
    pub fn count(self) -> Result<u64> {
        self.bridge.run(self.query.count())
    }

    /// The first document.
    ///
    /// # Errors
    /// As [`millpond_core::TypedQuery::first`]; `Invalid` when called inside an async runtime.
    pub fn first(self) -> Result<Option<Versioned<T>>> {
        self.bridge.run(self.query.first())
    }
}
