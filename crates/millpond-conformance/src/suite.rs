//! Clauses, and what they are run against.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use millpond::{Engine, Error, Front, Namespace, Pond, Result, Store};

/// A future that a clause or a factory returns.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One place that an engine keeps data in, and how to open handles on it.
///
/// Two calls of [`Place::open`] give two independent handles on the same data, as two processes would have.
#[async_trait]
pub trait Place: Send + Sync + std::fmt::Debug {
    /// Opens a handle.
    async fn open(&self) -> Result<Arc<dyn Engine>>;
}

/// What a clause failed with: the sentence a person reads in the report.
#[derive(Debug)]
pub struct Failure(pub String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("an operation failed: {error}"))
    }
}

/// What a clause answers.
pub type Verdict = std::result::Result<(), Failure>;

/// One named promise and the code that tries to break it.
#[derive(Clone, Copy)]
pub struct Clause {
    /// The group, such as `records`.
    pub group: &'static str,
    /// The name, unique within the group.
    pub name: &'static str,
    /// The promise in one sentence.
    pub promise: &'static str,
    /// Tries to break it.
    pub run: fn(Arc<Ground>) -> BoxFuture<Verdict>,
}

/// The ground one clause stands on: a namespace of its own on one place, removed afterwards.
#[derive(Debug)]
pub struct Ground {
    place: Arc<dyn Place>,
    engine: Arc<dyn Engine>,
    namespace: Namespace,
}

impl Ground {
    pub(crate) async fn new(place: Arc<dyn Place>, namespace: Namespace) -> Result<Self> {
        let engine = place.open().await?;
        engine.create_namespace(&namespace).await?;
        Ok(Self { place, engine, namespace })
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        if let Some(info) = self.engine.namespace(&self.namespace).await? {
            self.engine.delete_namespace(&self.namespace, &info.store_id).await?;
        }
        Ok(())
    }

    /// The place itself, for clauses that open more handles.
    pub fn place(&self) -> &Arc<dyn Place> {
        &self.place
    }

    /// The first handle.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The clause's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A store through the first handle, with a queue of its own.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn store(&self) -> Result<Store> {
        Store::open(Arc::new(Front::new(Arc::clone(&self.engine))), self.namespace.clone()).await
    }

    /// A store through a second, independent handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn second_store(&self) -> Result<Store> {
        Store::open(Arc::new(Front::new(self.place.open().await?)), self.namespace.clone()).await
    }

    /// A pond through the first handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn pond(&self) -> Result<Pond> {
        Pond::new(self.store().await?).await
    }

    /// A pond through a second, independent handle.
    ///
    /// # Errors
    /// What opening fails with.
    pub async fn second_pond(&self) -> Result<Pond> {
        Pond::new(self.second_store().await?).await
    }
}

/// Fails the clause with a message unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::Failure(format!($($message)+)));
        }
    };
}

/// Fails the clause unless both are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($message:tt)+) => {{
        let (found, expected) = (&$found, &$expected);
        if found != expected {
            return Err($crate::Failure(format!("{}: found {found:?}, expected {expected:?}", format!($($message)+))));
        }
    }};
}

/// Declares clauses: name, promise, and an async function that takes the ground.
#[macro_export]
macro_rules! clauses {
    ($group:literal: $( $function:ident => $promise:literal; )+) => {
        /// The clauses of this group.
        pub const CLAUSES: &[$crate::Clause] = &[
            $( $crate::Clause {
                group: $group,
                name: stringify!($function),
                promise: $promise,
                run: |ground| Box::pin($function(ground)),
            } ),+
        ];
    };
}
