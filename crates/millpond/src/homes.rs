//! Which store a domain lives in, and the refusal of what would span two.
//!
//! ```text
//!   domain ─► store        several domains may share one; a domain that nobody placed is in the main store
//!   commit ─► everything it touches has one home, or it is refused
//! ```
//!
//! Own collections are in the main store; streams that no domain writes belong to `events`.

use std::collections::BTreeMap;

use millpond_core::{
    Commit, Error, ErrorKind, EventFilter, Expectation, LEASES, RecordId, Result, Selector, Store, StreamName, StreamSelect,
    Write,
};

/// A domain: what can have a store of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// Workflows and their versions.
    Workflows,
    /// Flows, their versions and what is deployed.
    Flows,
    /// Sessions.
    Sessions,
    /// Runs and their logs.
    Runs,
    /// Streams of events that no other domain writes.
    Events,
    /// Checkpoints.
    Checkpoints,
    /// Dead letters.
    DeadLetters,
    /// Metrics, patterns and feedback.
    Metrics,
    /// Locks.
    Locks,
    /// Artifacts and the units that write them.
    Artifacts,
    /// Lineage: always in the store of the artifacts.
    Lineage,
}

impl Domain {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Workflows,
        Self::Flows,
        Self::Sessions,
        Self::Runs,
        Self::Events,
        Self::Checkpoints,
        Self::DeadLetters,
        Self::Metrics,
        Self::Locks,
        Self::Artifacts,
        Self::Lineage,
    ];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflows => "workflows",
            Self::Flows => "flows",
            Self::Sessions => "sessions",
            Self::Runs => "runs",
            Self::Events => "events",
            Self::Checkpoints => "checkpoints",
            Self::DeadLetters => "dead_letters",
            Self::Metrics => "metrics",
            Self::Locks => "locks",
            Self::Artifacts => "artifacts",
            Self::Lineage => "lineage",
        }
    }

    /// What its streams begin with, if it writes any of its own.
    fn streams(self) -> Option<&'static str> {
        match self {
            Self::Runs => Some("runs/"),
            Self::Flows => Some("flows/"),
            Self::DeadLetters => Some("dead_letters/"),
            Self::Locks => Some("locks/"),
            Self::Artifacts => Some("artifacts/"),
            _ => None,
        }
    }

    /// Whose stream this is.
    pub(crate) fn of_stream(stream: &str) -> Self {
        Self::ALL.into_iter().find(|d| d.streams().is_some_and(|prefix| stream.starts_with(prefix))).unwrap_or(Self::Events)
    }

    /// Whose collection this is; `None` for one's own.
    fn of_collection(collection: &str) -> Option<Self> {
        crate::pond::COLLECTIONS
            .iter()
            .find(|(_, collections)| collections.iter().any(|c| c.name() == collection))
            .map(|(domain, _)| *domain)
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The stores of a pond. The first is the main one.
#[derive(Debug, Clone)]
pub(crate) struct Homes {
    stores: Vec<Store>,
    /// Domains that are elsewhere than in the main store.
    placed: BTreeMap<Domain, usize>,
}

/// Something a commit or a feed touches: its name for people, and its store.
type Touch = (String, usize);

impl Homes {
    /// One store for everything.
    pub(crate) fn one(store: Store) -> Self {
        Self { stores: vec![store], placed: BTreeMap::new() }
    }

    /// The main store, and others with the domains that live there.
    ///
    /// # Errors
    /// `Unsupported` when lineage would live elsewhere than artifacts.
    pub(crate) fn several(main: Store, others: Vec<(Store, Vec<Domain>)>) -> Result<Self> {
        let mut homes = Self::one(main);
        for (store, domains) in others {
            let at = homes.stores.len();
            homes.stores.push(store);
            homes.placed.extend(domains.into_iter().map(|domain| (domain, at)));
        }
        // An artifact and its row of lineage are one commit.
        let beside = [(Domain::Artifacts, "artifacts"), (Domain::Lineage, "lineage")];
        homes.only("artifacts and their lineage", &beside.map(|(domain, name)| (name.to_owned(), homes.at(Some(domain)))))?;
        Ok(homes)
    }

    pub(crate) fn inline(&self) -> Self {
        self.each(Store::inline)
    }

    pub(crate) fn stale(&self) -> Self {
        self.each(Store::stale)
    }

    fn each(&self, change: impl Fn(&Store) -> Store) -> Self {
        Self { stores: self.stores.iter().map(change).collect(), placed: self.placed.clone() }
    }

    pub(crate) fn all(&self) -> &[Store] {
        &self.stores
    }

    pub(crate) fn main(&self) -> &Store {
        &self.stores[0]
    }

    pub(crate) fn of(&self, domain: Domain) -> &Store {
        &self.stores[self.at(Some(domain))]
    }

    fn at(&self, domain: Option<Domain>) -> usize {
        let Some(domain) = domain else { return 0 };
        // Who places the artifacts need not name their lineage.
        let beside = || if domain == Domain::Lineage { self.placed.get(&Domain::Artifacts) } else { None };
        self.placed.get(&domain).or_else(beside).copied().unwrap_or(0)
    }

    /// The one store of everything that a commit touches, and of further domains.
    ///
    /// # Errors
    /// `Unsupported` when there are two; it names them.
    pub(crate) fn of_commits<'c>(
        &self,
        commits: impl IntoIterator<Item = &'c Commit>,
        domains: impl IntoIterator<Item = Domain>,
    ) -> Result<&Store> {
        if self.placed.is_empty() {
            return Ok(self.main());
        }
        let mut touched: Vec<Touch> = commits.into_iter().flat_map(|commit| self.touched(commit)).collect();
        touched.extend(domains.into_iter().map(|domain| (domain.name().to_owned(), self.at(Some(domain)))));
        self.only("a commit", &touched)
    }

    /// The one store of the streams that a filter takes.
    ///
    /// # Errors
    /// `Unsupported` when there are two; it names them.
    pub(crate) fn of_events(&self, filter: &EventFilter) -> Result<&Store> {
        let touched = match &filter.stream {
            Some(StreamSelect::Exactly(stream)) => vec![self.stream(stream)],
            Some(StreamSelect::Prefix(prefix)) => self.prefix(prefix),
            None => self.prefix(""),
        };
        self.only("one look at events", &touched)
    }

    /// The one store of the streams whose name begins with this.
    ///
    /// # Errors
    /// `Unsupported` when there are two; it names them.
    pub(crate) fn of_streams(&self, prefix: &str) -> Result<&Store> {
        self.only("one look at streams", &self.prefix(prefix))
    }

    /// The store of a stream.
    pub(crate) fn of_stream(&self, stream: &str) -> &Store {
        self.of(Domain::of_stream(stream))
    }

    /// The one store of what a subscription takes.
    ///
    /// # Errors
    /// `Unsupported` when there are two; it names them.
    pub(crate) fn of_selector(&self, selector: &Selector) -> Result<&Store> {
        match selector {
            Selector::Events(filter) => self.of_events(filter),
            Selector::Records { collection, .. } => Ok(&self.stores[self.at(Domain::of_collection(collection.as_str()))]),
        }
    }

    fn prefix(&self, prefix: &str) -> Vec<Touch> {
        let domains = Domain::ALL.into_iter().filter_map(|domain| Some((domain, domain.streams()?)));
        // One domain's streams alone, or several's and those that no domain writes.
        let inside = domains.clone().find(|(_, own)| prefix.starts_with(own));
        let of = |domain: Domain| (format!("the streams of {domain}"), self.at(Some(domain)));
        match inside {
            Some((domain, _)) => vec![of(domain)],
            None => domains.filter(|(_, own)| own.starts_with(prefix)).map(|(d, _)| d).chain([Domain::Events]).map(of).collect(),
        }
    }

    fn stream(&self, stream: &StreamName) -> Touch {
        let domain = Domain::of_stream(stream.as_str());
        (format!("stream {:?} of {domain}", stream.as_str()), self.at(Some(domain)))
    }

    fn record(&self, id: &RecordId) -> Touch {
        let collection = id.collection.as_str();
        let domain = Domain::of_collection(collection);
        (format!("collection {collection:?}"), self.at(domain))
    }

    fn lease(&self, lease: &str) -> Touch {
        (format!("lock {lease:?}"), self.at(Domain::of_collection(LEASES.name())))
    }

    fn touched(&self, commit: &Commit) -> Vec<Touch> {
        let expected = commit.expect.iter().map(|expectation| match expectation {
            Expectation::Absent(id) | Expectation::Exists(id) => self.record(id),
            Expectation::Revision(id, _) | Expectation::AtMost(id, _, _) => self.record(id),
            Expectation::StreamAt(stream, _) => self.stream(stream),
            Expectation::Lease(lease, _) => self.lease(lease.as_str()),
        });
        let written = commit.writes.iter().map(|write| match write {
            Write::Put(id, _) | Write::Delete(id) | Write::Merge(id, _) => self.record(id),
            Write::Acquire(acquire) => self.lease(acquire.lease.as_str()),
            Write::Renew { lease, .. } | Write::Release { lease, .. } | Write::Break { lease } => self.lease(lease.as_str()),
        });
        let streams = commit.appends.iter().map(|a| &a.stream).chain(commit.trims.iter().map(|t| &t.stream)).chain(&commit.seals);
        expected.chain(written).chain(streams.map(|stream| self.stream(stream))).collect()
    }

    fn only(&self, what: &str, touched: &[Touch]) -> Result<&Store> {
        let Some((first, home)) = touched.first() else { return Ok(self.main()) };
        let Some((other, away)) = touched.iter().find(|(_, at)| at != home) else { return Ok(&self.stores[*home]) };
        let place = |at: &usize| self.stores[*at].engine().info().location;
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{what} cannot span two stores: {first} is in {}, {other} is in {}", place(home), place(away)),
        )
        .with_next("give both one store in the configuration, or ask for one after the other"))
    }
}
