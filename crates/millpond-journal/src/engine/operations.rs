//! What is written: batches of commits, and the few changes of a namespace itself.

use std::sync::Arc;

use millpond_core::plan::Mutations;
use millpond_core::{
    CollectionSpec, Host, Namespace, NamespaceInfo, NamespaceStatus, Outcome, PreparedCommit, Purged, Result, Timestamp,
};
use millpond_sqlite::ReplicaWrite;

use super::writer::{Operation, Planned};
use crate::entry::{Micros, Named, Other, write_commit};

/// A batch of commits.
pub(crate) struct Batch {
    commits: Vec<PreparedCommit>,
    host: Arc<dyn Host>,
    decided: Option<Mutations>,
}

impl Batch {
    pub(crate) fn new(commits: Vec<PreparedCommit>, host: Arc<dyn Host>) -> Self {
        Self { commits, host, decided: None }
    }
}

impl Operation for Batch {
    type Output = Vec<Result<Outcome>>;

    fn plan(&mut self, replica: &mut ReplicaWrite<'_>, namespace: &Namespace) -> Result<Planned<Self::Output>> {
        if self.decided.is_some() {
            // It was sent, and another entry was found in its place, or the place trimmed away. Only in the first case
            // is it certain that it was not written, so receipts are looked for from now on.
            self.commits.iter_mut().for_each(|commit| *commit = commit.again());
        }
        let plan = replica.plan(namespace, &self.commits, self.host.now())?;
        let change = if plan.mutations.is_empty() { None } else { Some(write_commit(&plan.mutations)?) };
        self.decided = Some(plan.mutations);
        Ok(Planned { output: plan.outcomes, change })
    }

    fn apply(&mut self, replica: &mut ReplicaWrite<'_>, namespace: &Namespace) -> Result<()> {
        match &self.decided {
            Some(mutations) => replica.apply(namespace, mutations),
            None => Ok(()),
        }
    }

    fn heard(&self) -> Option<Other> {
        None
    }
}

/// A change that is small enough to be applied while it is decided.
pub(crate) struct Direct<F>(F);

impl<F> Direct<F> {
    /// `work` changes the replica and says what is appended for it, if anything.
    pub(crate) fn new<T>(work: F) -> Self
    where
        F: FnMut(&mut ReplicaWrite<'_>, &Namespace) -> Result<(T, Option<Other>)>,
    {
        Self(work)
    }
}

impl<T, F> Operation for Direct<F>
where
    F: FnMut(&mut ReplicaWrite<'_>, &Namespace) -> Result<(T, Option<Other>)>,
{
    type Output = T;

    fn plan(&mut self, replica: &mut ReplicaWrite<'_>, namespace: &Namespace) -> Result<Planned<T>> {
        let (output, change) = (self.0)(replica, namespace)?;
        Ok(Planned { output, change: change.map(|c| c.text()).transpose()? })
    }

    fn apply(&mut self, _: &mut ReplicaWrite<'_>, _: &Namespace) -> Result<()> {
        Ok(())
    }

    fn heard(&self) -> Option<Other> {
        None
    }
}

/// The first entry of a namespace.
pub(crate) fn create(named: Named) -> impl Operation<Output = NamespaceInfo> {
    Direct::new(move |replica, _| {
        let name = Namespace::from_store(named.name.as_str());
        let info = replica.create_namespace(&name, &named.store_id, named.created_at)?;
        Ok((info, Some(Other::Create(named.clone()))))
    })
}

/// Opens, freezes or marks as moved.
pub(crate) fn set_status(status: NamespaceStatus) -> impl Operation<Output = NamespaceInfo> {
    Direct::new(move |replica, namespace| Ok((replica.set_status(namespace, &status)?, Some(Other::Status(status.clone())))))
}

/// The last entry of a namespace.
pub(crate) fn delete(store_id: String) -> impl Operation<Output = ()> {
    Direct::new(move |replica, namespace| {
        replica.delete_namespace(namespace, &store_id)?;
        Ok(((), Some(Other::Delete { store_id: store_id.clone() })))
    })
}

/// Declarations; nothing is appended when nothing changes.
pub(crate) fn declare(specs: Vec<CollectionSpec>) -> impl Operation<Output = ()> {
    Direct::new(move |replica, namespace| {
        let changed = replica.declare(namespace, &specs)?;
        Ok(((), changed.then(|| Other::Declare(specs.clone()))))
    })
}

/// Forgets receipts and tombstones.
pub(crate) fn purge(before: Timestamp) -> impl Operation<Output = Purged> {
    Direct::new(move |replica, namespace| Ok((replica.purge(namespace, before)?, Some(Other::PurgeBefore(Micros(before))))))
}
