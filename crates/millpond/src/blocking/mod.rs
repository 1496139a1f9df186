//! The same pond for synchronous callers.
//!
//! A call runs to its end on the caller's own thread: a lone caller pays for no hop. Inside an async runtime every
//! call answers with an error, never with a panic or a deadlock.

mod records;
mod store;

use millpond_core::{Commit, Document, Outcome, Receipt, Result};

use crate::bridge::Bridge;

pub use records::{Records, TypedQuery};
pub use store::{Store, Subscription};

pub use crate::artifacts::blocking::{ArtifactReader, ArtifactWatch, Artifacts, UnitArtifacts};
pub use crate::checkpoints::blocking::Checkpoints;
pub use crate::dead_letters::blocking::DeadLetters;
pub use crate::events::blocking::{EventFeed, EventReader, Events};
pub use crate::flows::blocking::{FlowWatch, Flows};
pub use crate::lineage::blocking::LineageRows;
pub use crate::locks::blocking::Locks;
pub use crate::metrics::blocking::Metrics;
pub use crate::pins::blocking::Pins;
pub use crate::prune::blocking::Prunes;
pub use crate::replay::blocking::Replays;
pub use crate::runs::blocking::Runs;
pub use crate::sessions::blocking::Sessions;
#[cfg(feature = "file")]
pub use crate::tree::blocking::Tree;
pub use crate::unit::blocking::Unit;
pub use crate::units::blocking::Units;
pub use crate::workflows::blocking::Workflows;

/// Opens the `default` namespace of a place. See [`crate::open`].
///
/// # Errors
/// As [`crate::open`]; `Invalid` when called inside an async runtime.
pub fn open(url: &str) -> Result<Pond> {
    open_with(crate::OpenOptions::default(), url)
}

/// Opens a place with options.
///
/// # Errors
/// As [`open`].
pub fn open_with(options: crate::OpenOptions, url: &str) -> Result<Pond> {
    let bridge = Bridge::new()?;
    let pond = bridge.run(options.open(url))?.inline();
    Ok(Pond { pond, bridge })
}

/// Opens every place of a configuration. See [`crate::Config::open`].
///
/// # Errors
/// As [`crate::Config::open`]; `Invalid` when called inside an async runtime.
pub fn open_config(config: &crate::Config) -> Result<Pond> {
    let bridge = Bridge::new()?;
    let pond = bridge.run(config.open())?.inline();
    Ok(Pond { pond, bridge })
}

/// One open namespace with its domains, for synchronous callers.
#[derive(Debug, Clone)]
pub struct Pond {
    pond: crate::Pond,
    bridge: Bridge,
}

impl Pond {
    /// Commits; a failed expectation is an error.
    ///
    /// # Errors
    /// As [`crate::Pond::commit`].
    pub fn commit(&self, commit: Commit) -> Result<Receipt> {
        self.bridge.run(self.pond.commit(commit))
    }

    /// Commits; a failed expectation is a value.
    ///
    /// # Errors
    /// As [`crate::Pond::try_commit`].
    pub fn try_commit(&self, commit: Commit) -> Result<Outcome> {
        self.bridge.run(self.pond.try_commit(commit))
    }

    /// Raw commits, queries and feeds; see [`crate::Pond::store`].
    pub fn store(&self) -> Store {
        Store::new(self.pond.store().clone(), self.bridge.clone())
    }

    /// Documents of one's own; see [`crate::Pond::collection`].
    ///
    /// # Errors
    /// As [`crate::Pond::collection`]; `Invalid` when called inside an async runtime.
    pub fn collection<T: Document>(&self) -> Result<Records<T>> {
        Ok(Records::new(self.bridge.run(self.pond.collection())?, self.bridge.clone()))
    }

    /// Runs; see [`crate::Pond::runs`].
    pub fn runs(&self) -> Runs {
        Runs::new(self.pond.runs(), self.bridge.clone())
    }

    /// The sessions.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.pond.sessions(), self.bridge.clone())
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.pond.dead_letters(), self.bridge.clone())
    }

    /// The locks.
    pub fn locks(&self) -> Locks {
        Locks::new(self.pond.locks(), self.bridge.clone())
    }

    /// Flows; see [`crate::Pond::flows`].
    pub fn flows(&self) -> Flows {
        Flows::new(self.pond.flows(), self.bridge.clone())
    }

    /// Workflows; see [`crate::Pond::workflows`].
    pub fn workflows(&self) -> Workflows {
        Workflows::new(self.pond.workflows(), self.bridge.clone())
    }

    /// Artifacts; see [`crate::Pond::artifacts`].
    pub fn artifacts(&self) -> Artifacts {
        Artifacts::new(self.pond.artifacts(), self.bridge.clone())
    }

    /// How units stand; see [`crate::Pond::units`].
    pub fn units(&self) -> Units {
        Units::new(self.pond.units(), self.bridge.clone())
    }

    /// Pins; see [`crate::Pond::pins`].
    pub fn pins(&self) -> Pins {
        Pins::new(self.pond.pins(), self.bridge.clone())
    }

    /// Replays; see [`crate::Pond::replays`].
    pub fn replays(&self) -> Replays {
        Replays::new(self.pond.replays(), self.bridge.clone())
    }

    /// Prunes; see [`crate::Pond::prunes`].
    pub fn prunes(&self) -> Prunes {
        Prunes::new(self.pond.prunes(), self.bridge.clone())
    }

    /// A unit of work; see [`crate::Pond::unit`].
    pub fn unit(&self) -> Unit {
        Unit::new(self.pond.unit(), self.bridge.clone())
    }

    /// Events; see [`crate::Pond::events`].
    pub fn events(&self) -> Events {
        Events::new(self.pond.events(), self.bridge.clone())
    }

    /// Metrics, patterns and feedback; see [`crate::Pond::metrics`].
    pub fn metrics(&self) -> Metrics {
        Metrics::new(self.pond.metrics(), self.bridge.clone())
    }

    /// Checkpoints; see [`crate::Pond::checkpoints`].
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.pond.checkpoints(), self.bridge.clone())
    }

    /// Lineage; see [`crate::Pond::lineage`].
    pub fn lineage(&self) -> LineageRows {
        LineageRows::new(self.pond.lineage(), self.bridge.clone())
    }

    /// How the store is; see [`crate::Pond::health`].
    ///
    /// # Errors
    /// `Invalid` when called inside an async runtime.
    pub fn health(&self, request: crate::HealthRequest) -> Result<crate::Health> {
        self.bridge.run(async { Ok(self.pond.health(request).await) })
    }

    /// The readable tree; see [`crate::Pond::tree`].
    #[cfg(feature = "file")]
    pub fn tree(&self) -> Option<Tree> {
        self.pond.tree().map(|tree| Tree::new(std::sync::Arc::clone(tree), self.bridge.clone()))
    }

    /// Finishes what is under way and lets go of the store's files.
    ///
    /// # Errors
    /// As [`crate::Pond::close`].
    pub fn close(&self) -> Result<()> {
        self.bridge.run(self.pond.close())
    }
}
