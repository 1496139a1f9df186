//! Locks: leases with a token that only grows. The time limit is for liveness; safety comes from the token inside
//! later commits ([`Lease::fence`]), which the store checks.
//!
//! ```text
//!   try_acquire ──► Lease {token} ──► lease.fence(commit) ──► refused once the token has moved on
//!        │              ├─ renew, keep
//!        ▼              └─ release
//!      Held ◄── deadline passed, or holder known dead ──► taken over, with a higher token
//! ```

mod holder;
mod model;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use millpond_core::{
    Acquire, Commit, Error, Expectation, Expected, Found, Holder, LEASES, NewEvent, Outcome, Page, Query, Result, Store, Write,
};

pub use holder::{ProcFiles, ProcessState, Processes};
pub use model::{Attempt, Lease, LockFilter, LockInfo, LockPage, LockRequest};

use model::checked;

/// How often a write that depends on who holds the lock is decided again when that changed meanwhile.
const TRIES: u32 = 16;

/// The locks of a namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Locks {
    store: Store,
    processes: Arc<dyn Processes>,
}

impl Locks {
    /// The locks of a store, with this machine's own knowledge about processes.
    pub fn new(store: Store) -> Self {
        Self::with_processes(store, Arc::new(ProcFiles::default()))
    }

    /// The locks of a store, with other knowledge about processes.
    pub fn with_processes(store: Store, processes: Arc<dyn Processes>) -> Self {
        Self { store, processes }
    }

    /// Who this process is, as a holder.
    pub(crate) fn this_process(&self) -> Holder {
        self.processes.this_process()
    }

    /// What this process is called.
    pub(crate) fn process_name(&self) -> String {
        self.processes.name()
    }

    /// Takes a lock if it is free, past its deadline, or its holder is known to be dead. Does not wait.
    ///
    /// Not re-entrant: who holds it already is told so. One commit point: the lease.
    ///
    /// # Errors
    /// `Invalid` when the name or the ttl breaks a rule; what the store fails with.
    pub async fn try_acquire(&self, request: &LockRequest) -> Result<Attempt> {
        self.attempt(request).await.map_err(|e| e.during("locks.try_acquire"))
    }

    /// Takes a lock, waiting for it as long as the request says. Waiters are woken by changes of the lock, and look
    /// by themselves in growing, jittered pauses of at most half a second. One commit point: the lease.
    ///
    /// Dropping the future stops the waiting. If it is dropped while the store decides, the lock may be taken all the
    /// same, and runs out at its deadline.
    ///
    /// # Errors
    /// `Conflict`, naming the holder, when it was still held at the end; `Invalid` and the like as
    /// [`Locks::try_acquire`].
    pub async fn acquire(&self, request: &LockRequest) -> Result<Lease> {
        wait::acquire(self, request).await.map_err(|e| e.during("locks.acquire"))
    }

    async fn attempt(&self, request: &LockRequest) -> Result<Attempt> {
        let (name, _) = checked(&request.name)?;
        let mut holder = self.processes.this_process();
        if let Some(given) = &request.holder {
            holder.name.clone_from(given);
        }
        let mut dead = None;
        for _ in 0..TRIES {
            let acquire =
                Acquire { lease: name.clone(), holder: holder.clone(), ttl: request.ttl, purpose: request.purpose.clone(), dead };
            let by = holder.name.clone();
            match self.store.try_commit(Commit::new().by(by).write(Write::Acquire(acquire))).await? {
                Outcome::Committed(receipt) => {
                    let token = receipt.revisions.first().copied().unwrap_or_default();
                    let deadline = receipt.time.plus(request.ttl);
                    return Ok(Attempt::Acquired(Lease { name, token, deadline, ttl: request.ttl }));
                }
                Outcome::Conflict(conflict) if matches!(conflict.expected, Expected::LeaseFree(_)) => {}
                Outcome::Conflict(conflict) => return Err(Error::from_conflict(conflict)),
            }
            match self.lookup(name.as_str()).await? {
                // Given back meanwhile, or ran out, or its holder died: try again.
                None => dead = None,
                Some(info) if info.dead => dead = Some(info.lease.token),
                Some(info) if info.expired => dead = None,
                Some(info) => return Ok(Attempt::Held(Box::new(info))),
            }
        }
        Err(Error::unavailable(format!("lock {name} changed hands {TRIES} times while it was asked for"))
            .with_next("ask again a little later"))
    }

    async fn lookup(&self, name: &str) -> Result<Option<LockInfo>> {
        let record = self.store.get(LEASES.name(), name).await?;
        record.map(|r| LockInfo::of(&r, self.store.now(), |h| self.is_dead(h))).transpose()
    }

    fn is_dead(&self, holder: &Holder) -> bool {
        self.processes.is_dead(holder)
    }

    /// Moves the deadline to `ttl` from now, on the store's clock. The token stays. A lease whose deadline has passed
    /// can be renewed as long as nobody took the lock. One commit point: the lease.
    ///
    /// # Errors
    /// `Fenced` when the lock is no longer ours: stop what it protects.
    pub async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let receipt = self.store.try_commit(self.renew_part(lease, ttl)).await;
        let receipt = receipt.and_then(|o| lost(o, lease)).map_err(|e| e.during("locks.renew"))?;
        Ok(Lease { deadline: receipt.time.plus(ttl), ttl, ..lease.clone() })
    }

    /// The commit that renews, to be made together with others.
    pub fn renew_part(&self, lease: &Lease, ttl: Duration) -> Commit {
        Commit::new().write(Write::Renew { lease: lease.name.clone(), token: lease.token, ttl })
    }

    /// Renews a lease every third of its ttl until it is lost, and returns why. Spawn it beside the work, and drop it
    /// when the work is done. Each renewal is one commit.
    ///
    /// A store that is away for a while is asked again until the deadline has passed.
    ///
    /// # Errors
    /// `Fenced` when the lock was given back or taken away; what the store failed with when it stayed away past the
    /// deadline. It never returns `Ok`.
    pub async fn keep(&self, lease: &Lease) -> Result<()> {
        let ttl = lease.ttl;
        let mut pause = ttl / 3;
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            match self.renew(lease, ttl).await {
                Ok(_) => (pause, renewed) = (ttl / 3, tokio::time::Instant::now()),
                Err(e) if e.class() == millpond_core::ErrorClass::Transient && renewed.elapsed() < ttl => {
                    pause = (ttl / 20).max(Duration::from_millis(1));
                }
                Err(e) => return Err(e.during("locks.keep")),
            }
        }
    }

    /// Gives a lock back. One commit point: the lease.
    ///
    /// # Errors
    /// `Fenced` when it is no longer ours; then nothing is done.
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        let outcome = self.store.try_commit(self.release_part(lease)).await;
        outcome.and_then(|o| lost(o, lease)).map(drop).map_err(|e| e.during("locks.release"))
    }

    /// The commit that gives a lock back, to be made together with the last writes it protects.
    pub fn release_part(&self, lease: &Lease) -> Commit {
        Commit::new().write(Write::Release { lease: lease.name.clone(), token: lease.token })
    }

    /// Takes a lock away from whoever holds it, and writes an event `lock.broken` with the reason, the holder and the
    /// token into the stream `locks/NAME`. What the holder commits under its fence from now on is refused. Returns
    /// what was held, or `None` when nobody held it. One commit point: lease and event.
    ///
    /// # Errors
    /// `Invalid` when the reason is empty; `Conflict` when the lock changed hands again and again meanwhile.
    pub async fn force_release(&self, name: &str, reason: &str, by: &str) -> Result<Option<LockInfo>> {
        self.break_lease(name, reason, by).await.map_err(|e| e.during("locks.force_release"))
    }

    async fn break_lease(&self, name: &str, reason: &str, by: &str) -> Result<Option<LockInfo>> {
        let (key, stream) = checked(name)?;
        if reason.trim().is_empty() || by.trim().is_empty() {
            return Err(Error::invalid("a lock is taken away by force only with a reason and a name")
                .with_next("say why, and who does it: both are kept in the lock's stream"));
        }
        for _ in 0..TRIES {
            let Some(info) = self.lookup(name).await? else { return Ok(None) };
            let told = serde_json::json!({
                "lock": name, "reason": reason, "by": by, "holder": info.lease.holder, "token": info.lease.token,
                "acquired_at": info.lease.acquired_at, "deadline": info.lease.deadline, "purpose": info.lease.purpose,
            });
            let commit = Commit::new()
                .by(by)
                .fenced(key.clone(), info.lease.token)
                .write(Write::Break { lease: key.clone() })
                .append(stream.as_str(), NewEvent::of("lock.broken", &told)?)?;
            match self.store.try_commit(commit).await? {
                Outcome::Committed(_) => return Ok(Some(info)),
                // Somebody else holds it by now: that holder is named in the event, so look again.
                Outcome::Conflict(c) if c.is_fence() => {}
                Outcome::Conflict(c) => return Err(Error::from_conflict(c)),
            }
        }
        Err(Error::conflict(format!("lock {name} changed hands {TRIES} times while it was taken away")).with_next("try again"))
    }

    /// Who holds a lock, or `None`.
    ///
    /// # Errors
    /// `Corrupt` when the lease does not read back.
    pub async fn info(&self, name: &str) -> Result<Option<LockInfo>> {
        self.lookup(name).await.map_err(|e| e.during("locks.info"))
    }

    /// The lease that a token stands for: for a caller that kept only the name and the token.
    ///
    /// # Errors
    /// `Fenced` when the lock no longer carries the token.
    pub async fn resume(&self, name: &str, token: u64) -> Result<Lease> {
        let (key, _) = checked(name)?;
        let held = self.lookup(name).await.map_err(|e| e.during("locks.resume"))?;
        let expected = Expected::Stated(Expectation::Lease(key.clone(), token));
        let found = match held {
            Some(info) if info.lease.token == token => {
                let ttl = Duration::from_micros(u64::try_from(info.lease.ttl_us).unwrap_or(0));
                return Ok(Lease { name: key, token, deadline: info.lease.deadline, ttl });
            }
            Some(info) => Found::Lease { holder: info.lease.holder.name, token: info.lease.token, deadline: info.lease.deadline },
            None => Found::NoLease,
        };
        Err(Error::from_conflict(millpond_core::Conflict { index: None, expected, found }).during("locks.resume"))
    }

    /// A page of locks that are held or whose holder never gave them back, by name.
    ///
    /// # Errors
    /// `Invalid` when the limit or the cursor is wrong.
    pub async fn list(&self, filter: &LockFilter) -> Result<LockPage> {
        self.page(filter).await.map_err(|e| e.during("locks.list"))
    }

    async fn page(&self, filter: &LockFilter) -> Result<LockPage> {
        let mut query = Query::new(LEASES.name())?.limit(filter.limit).after(filter.after.clone());
        if let Some(prefix) = &filter.prefix {
            query = query.prefix(millpond_core::KEY_FIELD, prefix);
        }
        if let Some(holder) = &filter.holder {
            query = query.eq("holder", holder);
        }
        if let Some(from) = filter.deadline_from {
            query = query.at_least("deadline", from);
        }
        if let Some(before) = filter.deadline_before {
            query = query.below("deadline", before);
        }
        let now = self.store.now();
        let Page { items, next, mut damaged } = self.store.query(query).await?;
        let mut locks = Vec::with_capacity(items.len());
        for record in items {
            match LockInfo::of(&record, now, |h| self.is_dead(h)) {
                Ok(info) => locks.push(info),
                Err(e) => damaged.push(millpond_core::Damaged { what: format!("locks/{}", record.key), why: e.to_string() }),
            }
        }
        Ok(Page { items: locks, next, damaged })
    }
}

/// The receipt, or the refusal of a write that needed the lease: whoever lost it has to stop, not to retry.
fn lost(outcome: Outcome, lease: &Lease) -> Result<millpond_core::Receipt> {
    outcome.committed().map_err(|e| {
        e.with_next(format!("stop what lock {} protects: it is no longer held under token {}", lease.name, lease.token))
    })
}

pub mod blocking {
    //! The locks for synchronous callers.
    use super::*;

    blocking_api! {
        /// The locks of a namespace, for synchronous callers.
        Locks of super::Locks {
            fn try_acquire(request: &LockRequest) -> Result<Attempt>;
            fn acquire(request: &LockRequest) -> Result<Lease>;
            fn renew(lease: &Lease, ttl: Duration) -> Result<Lease>;
            fn keep(lease: &Lease) -> Result<()>;
            fn release(lease: &Lease) -> Result<()>;
            fn force_release(name: &str, reason: &str, by: &str) -> Result<Option<LockInfo>>;
            fn info(name: &str) -> Result<Option<LockInfo>>;
            fn resume(name: &str, token: u64) -> Result<Lease>;
            fn list(filter: &LockFilter) -> Result<LockPage>;
        }
    }
}
