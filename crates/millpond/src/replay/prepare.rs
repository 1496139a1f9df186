//! Before the first message: what is expected is there, every object is present and intact, and the plan is kept.

use std::collections::BTreeMap;

use millpond_core::{Commit, Records, Result};

use super::Replays;
use super::held::Told;
use super::model::{PlannedMessage, ProblemKind, Replay, ReplayPage, ReplayProblem, ReplayStatus};
use super::plan::{PAGE, PROBLEMS_NAMED};
use super::select::Selection;
use crate::locks::Lease;

/// Bytes of one page of a plan: what a document can hold, with room to spare.
const PAGE_BYTES: usize = 512 << 10;

impl Replays {
    /// Looks at every object and keeps the plan, page by page. Where one is missing or damaged the rest is looked at all
    /// the same, for the list, and the replay is refused.
    pub(super) async fn prepare(&self, replay: &mut Replay, lease: &Lease, told: Told<'_>) -> Result<()> {
        let selection = Selection::from(&*replay);
        if !replay.expect.is_empty() {
            let absent = self.await_expected(replay, &selection).await?;
            replay.note(absent_ones(absent));
            replay.expect.clear();
            self.write(replay, lease, Commit::new()).await?;
        }
        loop {
            let looked = selection.look(&self.artifacts, replay.planned_to.as_deref(), PAGE, replay.read_data).await?;
            if looked.last.is_none() {
                break;
            }
            replay.planned_to = looked.last;
            replay.note(looked.problems);
            for message in &looked.messages {
                replay.objects += 1;
                replay.bytes += message.length;
                replay.digest = message.follow(&replay.digest);
            }
            // A plan that will not be carried out is not kept.
            let pages = if replay.problems_in_all == 0 { replay.paged(looked.messages) } else { Vec::new() };
            replay.pages += pages.len() as u64;
            let mut kept = Commit::new();
            for page in &pages {
                kept = kept.write(Records::put(page)?);
            }
            self.write(replay, lease, kept).await?;
            told(replay);
        }
        replay.left_out = selection.left_out(self.store()).await?;
        match (replay.problems_in_all, replay.objects) {
            (0, 0) => replay.refuse(format!("there is nothing to replay below {}{}", replay.prefix, replay.elsewhere())),
            (0, _) => replay.status = ReplayStatus::Publishing,
            (problems, intact) => {
                let all = problems + intact;
                replay.refuse(format!("{problems} of {all} objects are missing or damaged: nothing was published"));
            }
        }
        self.write(replay, lease, Commit::new()).await
    }
}

impl Replay {
    fn note(&mut self, problems: Vec<ReplayProblem>) {
        self.problems_in_all += problems.len() as u64;
        let room = PROBLEMS_NAMED.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
    }

    /// What is there instead, in words.
    fn elsewhere(&self) -> String {
        match self.left_out {
            0 => String::new(),
            many => format!(": {many} artifacts there are of other stages, or belong elsewhere"),
        }
    }

    fn refuse(&mut self, reason: String) {
        self.status = ReplayStatus::Ending;
        self.ends_as = Some(ReplayStatus::Refused);
        self.reason = Some(reason);
    }

    /// Messages in pages that one commit each can publish.
    fn paged(&self, messages: Vec<PlannedMessage>) -> Vec<ReplayPage> {
        let mut pages: Vec<ReplayPage> = Vec::new();
        let mut room = 0;
        for message in messages {
            let size = message.size();
            match pages.last_mut() {
                Some(page) if page.messages.len() < self.per_commit as usize && size <= room => page.messages.push(message),
                _ => {
                    room = PAGE_BYTES;
                    let number = self.pages + pages.len() as u64;
                    let extra = crate::extra::Extra::new();
                    pages.push(ReplayPage { replay: self.id.clone(), number, messages: vec![message], extra });
                }
            }
            room = room.saturating_sub(size);
        }
        pages
    }
}

/// What is wrong with keys that are expected and not there.
pub(super) fn absent_ones(absent: BTreeMap<String, String>) -> Vec<ReplayProblem> {
    absent.into_iter().map(|(key, why)| ReplayProblem { key, kind: ProblemKind::Absent, why }).collect()
}
