//! The dry run: what a replay would publish, and what stands in its way. Nothing is written.

use millpond_core::Result;
use serde::Serialize;

use super::Replays;
use super::model::{PlannedMessage, ReplayProblem};
use super::request::ReplayRequest;
use super::select::Selection;

/// Objects that are looked at before the next ones are listed.
pub(super) const PAGE: usize = 256;
/// Problems that an answer names; the rest is counted.
pub const PROBLEMS_NAMED: usize = 100;

/// What a replay would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayPlan {
    /// The execution.
    pub execution: String,
    /// The route.
    pub route: String,
    /// The stage.
    pub stage: String,
    /// What the keys begin with.
    pub prefix: String,
    /// The stream that the messages would go to.
    pub to_stream: String,
    /// The batch, if one was named.
    pub batch: Option<String>,
    /// Whether the bytes of every object were read and compared, or only looked for with their length.
    pub read_data: bool,
    /// Messages that would be published.
    pub objects: u64,
    /// The bytes that they name.
    pub bytes: u64,
    /// Artifacts whose keys begin the same, and that would not be published: they are of other stages, or their records say
    /// that they belong elsewhere.
    pub left_out: u64,
    /// A digest of the plan, as the replay's record will carry it if nothing changes until then.
    pub digest: String,
    /// The first messages, in their order: as many as were asked for.
    pub messages: Vec<PlannedMessage>,
    /// The first hundred objects that are missing or damaged.
    pub problems: Vec<ReplayProblem>,
    /// How many those are in all. A replay is refused unless there are none.
    pub problems_in_all: u64,
}

impl ReplayPlan {
    /// Whether a replay would publish anything at all.
    pub fn can_start(&self) -> bool {
        self.problems_in_all == 0 && self.objects > 0
    }
}

impl Replays {
    /// Looks at everything a replay would need, and answers what it would publish: the totals, and the first `shown`
    /// messages. Nothing is written, nothing is pinned, and nothing is waited for.
    ///
    /// # Errors
    /// `Invalid` when the request breaks a rule; `Unsupported` when the target is in another store; `Conflict` when it is
    /// sealed, or the execution was written off; what the store or the place of the bytes fails with. That an object is missing or damaged is an answer.
    pub async fn plan(&self, request: &ReplayRequest, shown: usize) -> Result<ReplayPlan> {
        self.planned(request, shown).await.map_err(|e| e.during("replays.plan"))
    }

    async fn planned(&self, request: &ReplayRequest, shown: usize) -> Result<ReplayPlan> {
        self.check(request)?;
        self.check_there(request).await?;
        let selection = Selection::from(request);
        let mut plan = ReplayPlan {
            execution: request.execution.clone(),
            route: request.route.clone(),
            stage: request.stage.clone(),
            prefix: request.prefix(),
            to_stream: request.to_stream.clone(),
            batch: request.batch.clone(),
            read_data: request.read_data,
            objects: 0,
            bytes: 0,
            left_out: selection.left_out(self.store()).await?,
            digest: String::new(),
            messages: Vec::new(),
            problems: Vec::new(),
            problems_in_all: 0,
        };
        let absent = selection.absent(self.store(), &request.expect).await?;
        plan.note(super::prepare::absent_ones(absent));
        let mut after: Option<String> = None;
        loop {
            let looked = selection.look(&self.artifacts, after.as_deref(), PAGE, request.read_data).await?;
            for message in looked.messages {
                plan.objects += 1;
                plan.bytes += message.length;
                plan.digest = message.follow(&plan.digest);
                if plan.messages.len() < shown {
                    plan.messages.push(message);
                }
            }
            plan.note(looked.problems);
            after = looked.last;
            if after.is_none() {
                return Ok(plan);
            }
        }
    }
}

impl ReplayPlan {
    fn note(&mut self, problems: Vec<ReplayProblem>) {
        self.problems_in_all += problems.len() as u64;
        let room = PROBLEMS_NAMED.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
    }
}
