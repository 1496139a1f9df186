//! The end of a replay: what is left of its plan goes, and the pin with the last commit.

use millpond_core::{Commit, Error, Records, Result, Write};

use super::model::{Replay, ReplayPage, ReplayStatus};
use super::{Replays, TRIES, pin_of};
use crate::locks::Lease;
use crate::pins;

/// Pages of a plan that one commit removes.
const TOGETHER: u64 = 1_000;

impl Replays {
    /// Ends a replay that is not over: what was published stays published, the rest is not. Answers it. One commit point:
    /// that it will not go on; what is left of its plan, and its pin, go after that.
    ///
    /// # Errors
    /// `NotFound`; `Conflict`, saying how it ended, when it is over, or naming who, when somebody works on it.
    pub async fn cancel(&self, id: &str, reason: &str) -> Result<Replay> {
        self.cancelled(id, reason).await.map_err(|e| e.with("replay", id).during("replays.cancel"))
    }

    async fn cancelled(&self, id: &str, reason: &str) -> Result<Replay> {
        let replay = self.require(id).await?;
        if replay.status.is_over() {
            return Err(over_already(&replay));
        }
        let lease = self.take(id).await?;
        self.under(&lease, async {
            let mut replay = self.require(id).await?;
            if replay.status.is_over() {
                return Err(over_already(&replay));
            }
            if replay.status != ReplayStatus::Ending {
                replay.status = ReplayStatus::Ending;
                replay.ends_as = Some(ReplayStatus::Cancelled);
                replay.reason = Some(reason.to_owned());
                self.write(&replay, &lease, Commit::new()).await?;
            }
            self.wind_up(&mut replay, &lease).await?;
            Ok(replay)
        })
        .await
    }

    /// Removes what is left of the plan of a replay that will not go on.
    pub(super) async fn wind_up(&self, replay: &mut Replay, lease: &Lease) -> Result<()> {
        let mut from = replay.published_pages;
        while from < replay.pages {
            let until = (from + TOGETHER).min(replay.pages);
            let mut commit = Commit::new().trusted();
            for number in from..until {
                commit = commit.write(Write::Delete(Records::<ReplayPage>::id(&ReplayPage::key_of(&replay.id, number))?));
            }
            self.store().commit(lease.fence(commit)).await?;
            from = until;
        }
        let ends_as = replay.ends_as.unwrap_or(ReplayStatus::Cancelled);
        self.over(replay, lease, ends_as).await
    }

    /// The last commit of a replay: it is over, and its pin is gone.
    pub(super) async fn over(&self, replay: &mut Replay, lease: &Lease, status: ReplayStatus) -> Result<()> {
        (replay.status, replay.ends_as, replay.ended) = (status, None, Some(self.store().now()));
        for _ in 0..TRIES {
            let pinned = self.pins.read(&replay.execution).await?;
            let unpin = match &pinned {
                Some(pinned) => pins::without(pinned, &pin_of(&replay.id))?.map(|(_, unpin)| unpin),
                None => None,
            };
            match self.write(replay, lease, unpin.unwrap_or_default()).await {
                Err(error) if pins::changed(&error) => {}
                done => return done,
            }
        }
        Err(pins::too_busy(&replay.execution))
    }
}

fn over_already(replay: &Replay) -> Error {
    Error::conflict(format!("replay {} is over: {}", replay.id, replay.status)).with("published", replay.published)
}
