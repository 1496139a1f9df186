//! One process at a time works on a replay: under a lease, with every commit fenced by its token.

use std::time::Duration;

use millpond_core::{Commit, Error, Records, Result};

use super::Replays;
use super::model::{Replay, ReplayStatus};
use crate::locks::{Attempt, Lease, LockRequest};

/// How long a replay belongs to whoever works on it without a sign of life.
const TTL: Duration = Duration::from_secs(30);

/// Who is told how far a replay is.
pub(super) type Told<'t> = &'t mut (dyn FnMut(&Replay) + Send);

impl Replays {
    /// Goes on with a replay from where it stands, until it is over, and answers it. A replay that is over is answered as
    /// it is. Many commits, each fenced; whoever ends between two of them leaves a replay that anybody may go on with.
    ///
    /// # Errors
    /// `NotFound`; `Conflict`, naming who, when somebody works on it; `Corrupt`, naming the first of them, when objects
    /// are missing or damaged: the replay's record lists more of them. `Fenced` when somebody else took over meanwhile.
    pub async fn resume(&self, id: &str) -> Result<Replay> {
        self.resume_with(id, |_| {}).await
    }

    /// [`Replays::resume`], telling after each commit how far it is.
    ///
    /// # Errors
    /// As [`Replays::resume`].
    pub async fn resume_with(&self, id: &str, mut told: impl FnMut(&Replay) + Send) -> Result<Replay> {
        let resuming = async {
            let replay = self.require(id).await?;
            if !replay.status.is_over() {
                let lease = self.take(id).await?;
                return self.under(&lease, self.to_its_end(id, &lease, &mut told)).await;
            }
            Ok(replay)
        };
        let replay = resuming.await.map_err(|e: Error| e.with("replay", id).during("replays.resume"))?;
        match replay.status {
            ReplayStatus::Refused => Err(refusal(&replay).during("replays.resume")),
            _ => Ok(replay),
        }
    }

    async fn to_its_end(&self, id: &str, lease: &Lease, told: Told<'_>) -> Result<Replay> {
        // Read under the lease: who had it before may have gone on in the meantime.
        let mut replay = self.require(id).await?;
        replay.worker = self.locks.process_name();
        loop {
            told(&replay);
            match replay.status {
                ReplayStatus::Preparing => self.prepare(&mut replay, lease, told).await?,
                ReplayStatus::Publishing => self.publish(&mut replay, lease, told).await?,
                ReplayStatus::Ending => self.wind_up(&mut replay, lease).await?,
                ReplayStatus::Completed | ReplayStatus::Refused | ReplayStatus::Cancelled => return Ok(replay),
            }
        }
    }

    /// Takes a replay's lease, if nobody has it who is alive.
    pub(super) async fn take(&self, id: &str) -> Result<Lease> {
        let request = LockRequest::of(format!("replays/{id}"), TTL).purpose("publishing artifacts anew");
        match self.locks.try_acquire(&request).await? {
            Attempt::Acquired(lease) => Ok(lease),
            Attempt::Held(info) => {
                let holder = &info.lease.holder.name;
                Err(Error::conflict(format!("replay {id} is being worked on by {holder} until {}", info.lease.deadline))
                    .with("holder", holder)
                    .with_next("let it go on, and see how far it is: millpond replay show"))
            }
        }
    }

    /// Works while the lease is kept, and gives it back, also after an error.
    pub(super) async fn under<T>(&self, lease: &Lease, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = tokio::select! {
            done = work => done,
            lost = self.locks.keep(lease) => Err(lost.err().unwrap_or_else(|| Error::unavailable("the lock was lost"))),
        };
        // One that was lost is somebody else's to give back.
        let _ = self.locks.release(lease).await;
        done
    }

    /// Writes a replay as it stands now, together with what belongs to it. One commit, refused once the lease is
    /// another's.
    pub(super) async fn write(&self, replay: &Replay, lease: &Lease, more: Commit) -> Result<()> {
        let commit = Commit::new().trusted().by(&replay.worker).write(Records::put(replay)?).and(more);
        self.store().commit(lease.fence(commit)).await.map(drop)
    }
}

/// That a replay did not publish anything, and why.
fn refusal(replay: &Replay) -> Error {
    let reason = replay.reason.clone().unwrap_or_else(|| "objects are missing or damaged".to_owned());
    let Some(first) = replay.problems.first() else {
        return Error::not_found(reason).with("replay", &replay.id).with_next("see what there is: millpond artifacts list");
    };
    Error::corrupt(reason)
        .with("replay", &replay.id)
        .with("first", format!("{} ({}): {}", first.key, first.kind.as_str(), first.why))
        .with_next(format!("see which: millpond replay show {}", replay.id))
}
