//! Deliberately broken engines: each is the reference engine with one step taken wrong, as real engines have.
//!
//! A clause is worth something only if some engine here fails it, and an engine here is worth something only if the
//! suite catches it. Which catches which is the table in `tests/golden/broken.txt`.

mod commits;
mod feeds;
mod queries;
mod stores;
mod writes;

use std::sync::Arc;

use crate::Place;
use crate::reference::{ReferencePlace, Steps};

/// An engine with one rule broken.
#[derive(Debug, Clone)]
pub struct BrokenEngine {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it.
    pub defect: &'static str,
    steps: fn() -> Arc<dyn Steps>,
}

impl BrokenEngine {
    fn new<S: Steps + Default + 'static>(name: &'static str, defect: &'static str, _: S) -> Self {
        Self { name, defect, steps: || Arc::new(S::default()) }
    }

    /// An empty place with this engine on it.
    pub fn place(&self) -> Arc<dyn Place> {
        Arc::new(ReferencePlace::with_steps((self.steps)()))
    }

    /// Every broken engine.
    pub fn all() -> Vec<Self> {
        [commits::all(), writes::all(), stores::all(), queries::all(), feeds::all()].concat()
    }
}
