//! Claiming: many workers take letters from one queue, spread so that they seldom want the same one.
//!
//! ```text
//!   oldest available  ├────────── window ──────────┤
//!   worker A                 [ a few ]                    each at a random offset, several in one commit,
//!   worker B                             [ a few ]        each under the revision it was read at;
//!   worker C           [ a few ]                          after a conflict: read again, take half as many
//! ```

use std::time::Duration;

use millpond_core::{
    Commit, Document, Error, ErrorKind, Expectation, Filter, Json, MergeOp, Query, Records, Result, Scalar, Timestamp, Versioned,
    Write,
};

use crate::conditions::Conditions;

use super::model::ClaimNote;
use super::turns::{TRIES, give_way};
use super::{Claim, ClaimRequest, Claimed, DeadLetter, DeadLetterState, DeadLetters, LetterRef};

/// Letters a claim looks at, at most.
const WINDOW_MOST: usize = 200;
/// Letters a claim looks at, at least.
const WINDOW_LEAST: usize = 64;
/// Letters in one claim, at most.
const CLAIM_MOST: usize = 100;

impl DeadLetters {
    /// Claims letters that may be processed: those that wait, and those whose worker let its visibility timeout pass.
    /// Older ones first, but spread: the letters come from among the two hundred that have waited longest. An empty
    /// answer means that there was nothing to claim. Letters whose data cannot be read are named beside the others, and can be
    /// claimed again after the timeout. Fewer than asked for are claimed where their data has more than 16 MiB. One commit
    /// point: all claims.
    ///
    /// # Errors
    /// `Invalid` for a limit that is not 1 to 100 or an empty visibility; `Unavailable` when other workers were faster
    /// again and again, or the place of the data cannot be read.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Claimed> {
        self.try_claim(request).await.map_err(|e| e.during("dead_letters.claim"))
    }

    async fn try_claim(&self, request: &ClaimRequest) -> Result<Claimed> {
        if request.limit == 0 || request.limit > CLAIM_MOST {
            return Err(Error::invalid(format!("a claim of {} letters is not between 1 and {CLAIM_MOST}", request.limit)));
        }
        check_visibility(request.visibility)?;
        let mut want = request.limit;
        let mut claimed = Claimed::default();
        for losses in 1..=TRIES {
            let window = self.window(request).await?;
            let mut chosen = self.spread(window, want);
            chosen.truncate(self.fitting(chosen.iter().map(|letter| &letter.value)).await?);
            if chosen.is_empty() {
                return Ok(claimed);
            }
            match self.take(chosen, request).await {
                Err(e) if e.is_conflict() => want = (want / 2).max(1),
                Err(e) => return Err(e),
                Ok(claims) => {
                    let failed = self.with_data(claims, &mut claimed).await?;
                    match failed {
                        _ if !claimed.items.is_empty() => return Ok(claimed),
                        Some(error) => return Err(error),
                        // None of them can be read: those that wait behind them are not kept back.
                        None => continue,
                    }
                }
            }
            give_way(&self.store, losses).await;
        }
        if !claimed.damaged.is_empty() {
            return Ok(claimed);
        }
        Err(Error::unavailable(format!("other workers were faster {TRIES} times")).with_next("claim again"))
    }

    /// Adds claimed letters with their data. A claim whose data cannot be read runs out by itself. Answers an error that says
    /// more of the place than of a letter.
    async fn with_data(&self, claims: Vec<Claim>, claimed: &mut Claimed) -> Result<Option<Error>> {
        let mut failed = None;
        for Claim { token, until, letter } in claims {
            match self.readable(letter).await? {
                Ok(letter) => claimed.items.push(Claim { token, until, letter }),
                // Purged since it was claimed: there is nothing left to work on, and its token is void.
                Err(gone) if gone.error.is_not_found() => {}
                Err(unreadable) => {
                    claimed.damaged.push(unreadable.told);
                    failed = failed.or(Some(unreadable.error).filter(|error| error.kind() != ErrorKind::Corrupt));
                }
            }
        }
        Ok(failed)
    }

    /// The letters that have been available longest.
    async fn window(&self, request: &ClaimRequest) -> Result<Vec<Versioned<DeadLetter>>> {
        let until = self.store.now().plus(Duration::from_micros(1));
        let available = Filter::Range(
            "available_at".into(),
            Some(Scalar::Timestamp(Timestamp::from_micros(i64::MIN))),
            Some(Scalar::Timestamp(until)),
        );
        let limit = (request.limit * 16).clamp(WINDOW_LEAST, WINDOW_MOST);
        let query = Query::new(DeadLetter::COLLECTION.name())?
            .filter(available)
            .given("job_id", request.job.as_ref())
            .order_asc("available_at")
            .limit(limit);
        Ok(self.letters().page(query).await?.items)
    }

    /// One of the window's blocks of `want` letters, at random. The last block begins early enough to be a whole one.
    fn spread(&self, mut window: Vec<Versioned<DeadLetter>>, want: usize) -> Vec<Versioned<DeadLetter>> {
        let blocks = window.len().div_ceil(want).max(1);
        let block = usize::try_from(self.store.host().random() % blocks as u128).unwrap_or(0);
        let mut chosen = window.split_off((block * want).min(window.len().saturating_sub(want)));
        chosen.truncate(want);
        chosen
    }

    async fn take(&self, letters: Vec<Versioned<DeadLetter>>, request: &ClaimRequest) -> Result<Vec<Claim>> {
        let now = self.store.now();
        let until = now.plus(request.visibility);
        let note = ClaimNote { by: request.by.clone(), claimed_at: now, until };
        let ops = [
            MergeOp::Set("/state".into(), Json::of(&DeadLetterState::Claimed)?),
            MergeOp::Set("/available_at".into(), Json::of(&until)?),
            MergeOp::Set("/claim".into(), Json::of(&note)?),
            MergeOp::Add("/claims".into(), 1),
        ];
        let mut commit = Commit::new().trusted().by(request.by.clone());
        for letter in &letters {
            let id = Records::<DeadLetter>::id(letter.key()?.as_str())?;
            commit = commit.expect(Expectation::Revision(id.clone(), letter.revision)).write(Write::Merge(id, ops.to_vec()));
        }
        let receipt = self.store.commit(commit).await?;
        let claims = letters.into_iter().zip(receipt.revisions).map(|(letter, token)| {
            let mut letter = letter.value;
            letter.state = DeadLetterState::Claimed;
            letter.available_at = Some(until);
            letter.claim = Some(note.clone());
            letter.claims += 1;
            Claim { token, until, letter }
        });
        Ok(claims.collect())
    }

    /// Gives a claim a new visibility timeout, from now on. The claim gets a new token; the old one is void.
    /// One commit point: the letter.
    ///
    /// # Errors
    /// `Conflict` when the letter is no longer in these hands.
    pub async fn extend(&self, claim: &Claim, visibility: Duration) -> Result<Claim> {
        self.try_extend(claim, visibility).await.map_err(|e| e.during("dead_letters.extend"))
    }

    async fn try_extend(&self, claim: &Claim, visibility: Duration) -> Result<Claim> {
        check_visibility(visibility)?;
        let until = self.store.now().plus(visibility);
        let ops =
            vec![MergeOp::Set("/available_at".into(), Json::of(&until)?), MergeOp::Set("/claim/until".into(), Json::of(&until)?)];
        let part = super::under(&LetterRef::from(claim), |id| Ok(Write::Merge(id, ops)))?;
        let receipt = self.store.commit(part).await.map_err(super::lost)?;
        let mut claim = Claim { token: receipt.revisions.first().copied().unwrap_or_default(), until, ..claim.clone() };
        claim.letter.available_at = Some(until);
        if let Some(note) = &mut claim.letter.claim {
            note.until = until;
        }
        Ok(claim)
    }
}

fn check_visibility(visibility: Duration) -> Result<()> {
    if visibility < Duration::from_millis(1) {
        return Err(Error::invalid(format!("a visibility timeout of {visibility:?} is shorter than 1 ms"))
            .with_next("give a worker the time it needs for one letter"));
    }
    Ok(())
}
