//! What a clause is, what it answers, and the place it is run against.

use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use millpond::{Engine, Error, Result};
use millpond_objects::Objects;

use crate::Ground;

/// A future that a clause or a factory returns.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One place that an engine keeps data in, and how to open handles on it.
///
/// Two calls of [`Place::open`] give two independent handles on the same data, as two processes would have.
#[async_trait]
pub trait Place: Send + Sync + std::fmt::Debug {
    /// Opens a handle.
    async fn open(&self) -> Result<Arc<dyn Engine>>;

    /// A command that runs this program again as a child on the same data: a racer that is a process. `None` where
    /// the data lives in one process; the clauses about processes are left out there. [`crate::main!`] offers it for
    /// every engine that it opens on a folder.
    ///
    /// # Errors
    /// When this program's own file is not known.
    fn process(&self) -> Option<Result<Command>> {
        None
    }

    /// Where the bytes of the store with this id go, if the place keeps bytes, too. `None` where it does not: the clauses
    /// then keep theirs in a private folder.
    ///
    /// # Errors
    /// What opening it fails with.
    async fn objects(&self, _store_id: &str) -> Result<Option<Arc<dyn Objects>>> {
        Ok(None)
    }
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

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

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

impl Clause {
    /// `group::name`, as filters and reports write it.
    pub fn title(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }
}

/// Fails the clause with a message unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err($crate::Failure(format!($($message)+)));
        }
    };
}

/// Fails the clause unless both are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($message:tt)+) => {
        // What is borrowed from lives as long as the match.
        match (&$found, &$expected) {
            (found, expected) => {
                if found != expected {
                    return Err($crate::Failure(format!("{}: found {found:?}, expected {expected:?}", format!($($message)+))));
                }
            }
        }
    };
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
