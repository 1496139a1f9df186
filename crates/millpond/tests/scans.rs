//! What SQLite itself does for a page: counted in steps of its virtual machine, for each filter of the domains alone.
//!
//! What a filter takes is the oldest tenth, and lists show the newest first: whoever walks along the order has to pass
//! all the others. A page along an index costs the same however many there are; a page that is not is listed here as
//! well, with what SQLite has to do for it, so that the documentation stays true.

#[path = "support/combine.rs"]
#[allow(dead_code)] // Only the filling is needed.
mod combine;
mod support;

use std::sync::Arc;

use combine::fill;
use millpond::{
    Artifact, ArtifactFilter, ArtifactRef, DeadLetter, DeadLetterFilter, DeadLetterState, Feedback, FeedbackFilter, LineageEdge,
    LineageFilter, LineageOrder, LineageRow, LineageStatus, Page, Pond, Run, RunFilter, RunOrder, RunStatus, Session,
    SessionFilter, SessionStatus, SessionType, Timestamp, Versioned,
};
use millpond_sqlite::{PageCost, SqliteEngine, SqliteOptions};
use support::CountingEngine;

const COUNT: u32 = 20_000;
const PAGE: usize = 50;
/// A page along an index takes 51 rows; each costs some twenty steps.
const ALONG_AN_INDEX: u64 = 4_000;

/// How SQLite reads a page of a filter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reads {
    /// The page and nothing else.
    Index,
    /// What the filter takes, to sort it; or what comes before it in the order.
    More,
}
use Reads::{Index, More};

fn rare(number: u32) -> bool {
    number < COUNT / 10
}

fn word(number: u32) -> String {
    if rare(number) { "rare".to_owned() } else { format!("common {}", number % 20) }
}

fn at(number: u32) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + i64::from(number) * 1_000_000)
}

struct Ground {
    sqlite: SqliteEngine,
    counting: Arc<CountingEngine>,
    pond: Pond,
}

impl Ground {
    async fn new() -> Self {
        let sqlite = SqliteEngine::memory(SqliteOptions::default()).await.expect("opens");
        let counting = CountingEngine::on(Arc::new(sqlite.clone()));
        let pond = millpond::OpenOptions::new().open_engine(counting.clone()).await.expect("opens");
        Self { sqlite, counting, pond }
    }

    /// Asks for a list, and SQLite for what the very query of that list costs.
    async fn costs<T>(&self, what: &str, expected: Reads, list: impl Future<Output = millpond::Result<Page<Versioned<T>>>>) {
        assert_eq!(list.await.expect("listed").items.len(), PAGE, "{what}");
        let query = self.counting.last_query().expect("a query");
        let cost: PageCost = self.sqlite.explain(self.pond.store().namespace(), query).await.expect("explained");
        println!("{what}: {} steps, {} sorts, {:?}", cost.steps, cost.sorts, cost.plan);
        assert_eq!(cost.rows, PAGE as u64 + 1, "{what}: the statements explained are those of the page");
        let found = if cost.steps <= ALONG_AN_INDEX && cost.sorts == 0 && cost.scanned == 0 { Index } else { More };
        assert_eq!(found, expected, "{what}: {cost:?}");
    }
}

fn run(n: u32) -> Run {
    let mut run: Run = serde_json::from_str(include_str!("golden/run-v1.json")).expect("a run");
    run.id = format!("r{n:05}");
    (run.started_at, run.finished_at) = (at(n), Some(at(if rare(n) { n } else { 2 * COUNT + n })));
    (run.workflow, run.parent, run.config) = (word(n), Some(word(n)), Some(word(n)));
    run.version = if rare(n) { 7 } else { n % 5 };
    run.status = if rare(n) { RunStatus::Failed } else { RunStatus::Completed };
    run.tags = [word(n)].into();
    run.labels = [("kind".to_owned(), word(n))].into();
    run
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs() {
    let ground = Ground::new().await;
    fill(&ground.pond, COUNT, run).await;
    let all = || RunFilter::all().limit(PAGE);
    let started = RunFilter { started_to: Some(at(COUNT / 2)), ..all() };
    let finished = RunFilter { finished_to: Some(at(COUNT)), ..all() };
    let filters = [
        ("every run", Index, all()),
        ("oldest first", Index, all().order(RunOrder::OldestFirst)),
        ("last finished", Index, all().order(RunOrder::LastFinished)),
        ("started", Index, started),
        ("workflow", Index, all().workflow("rare")),
        ("workflow and version", Index, all().workflow("rare").version(7)),
        ("status", Index, all().status(RunStatus::Failed)),
        ("parent", Index, all().parent("rare")),
        ("config", Index, RunFilter { config: Some("rare".to_owned()), ..all() }),
        ("version", More, all().version(7)),
        ("finished, last finished first", Index, finished.clone().order(RunOrder::LastFinished)),
        ("finished, newest first", More, finished),
        ("tag", More, all().tag("rare")),
        ("label", More, all().label("kind", "rare")),
    ];
    for (what, expected, filter) in filters {
        ground.costs(what, expected, ground.pond.runs().list(&filter)).await;
    }
}

fn session(n: u32) -> Session {
    let mut session: Session = serde_json::from_str(include_str!("golden/session-v1.json")).expect("a session");
    session.id = format!("s{n:05}");
    (session.started_at, session.updated_at) = (at(n), at(n));
    session.status = if rare(n) { SessionStatus::Failed } else { SessionStatus::Completed };
    session.session_type = if rare(n) { SessionType::MapReduce } else { SessionType::Workflow };
    let data = session.workflow_data.get_or_insert_default();
    (data.worktree_name, data.workflow_id) = (Some(word(n)), word(n));
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions() {
    let ground = Ground::new().await;
    fill(&ground.pond, COUNT, session).await;
    let all = || SessionFilter::all().limit(PAGE);
    let filters = [
        ("every session", Index, all()),
        ("status", Index, all().status(SessionStatus::Failed)),
        ("one of two states", Index, all().status(SessionStatus::Failed).status(SessionStatus::Paused)),
        ("type", Index, all().session_type(SessionType::MapReduce)),
        ("worktree", Index, all().worktree("rare")),
        ("workflow", Index, all().workflow("rare")),
        ("started", Index, all().started_before(at(COUNT / 2))),
    ];
    for (what, expected, filter) in filters {
        ground.costs(what, expected, ground.pond.sessions().list(&filter)).await;
    }
}

fn letter(n: u32) -> DeadLetter {
    let mut letter: DeadLetter = serde_json::from_str(include_str!("golden/dead_letter-v1.json")).expect("a letter");
    letter.item.item_id = format!("i{n:05}");
    letter.job_id = word(n);
    letter.item.last_attempt = at(n);
    letter.state = if rare(n) { DeadLetterState::Discarded } else { DeadLetterState::Completed };
    (letter.item.reprocess_eligible, letter.item.manual_review_required) = (rare(n), rare(n));
    letter.item.error_signature = word(n);
    letter
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters() {
    let ground = Ground::new().await;
    fill(&ground.pond, COUNT, letter).await;
    let all = || DeadLetterFilter::all().limit(PAGE);
    let filters = [
        ("every letter", Index, all()),
        ("job", Index, all().job("rare")),
        ("state", Index, all().state(DeadLetterState::Discarded)),
        ("job and state", Index, all().job("rare").state(DeadLetterState::Discarded)),
        ("eligible", Index, DeadLetterFilter { eligible: Some(true), ..all() }),
        ("review", Index, DeadLetterFilter { review: Some(true), ..all() }),
        ("signature", Index, DeadLetterFilter { signature: Some("rare".to_owned()), ..all() }),
        ("last attempt", Index, DeadLetterFilter { last_attempt_before: Some(at(COUNT / 2)), ..all() }),
        ("signature prefix", More, DeadLetterFilter { signature_prefix: Some("ra".to_owned()), ..all() }),
        ("part of the signature", More, DeadLetterFilter { signature_contains: Some("are".to_owned()), ..all() }),
    ];
    for (what, expected, filter) in filters {
        ground.costs(what, expected, ground.pond.dead_letters().list(&filter)).await;
    }
}

fn feedback(n: u32) -> Feedback {
    let mut feedback: Feedback = serde_json::from_str(include_str!("golden/feedback-v1.json")).expect("feedback");
    feedback.id = format!("f{n:05}");
    feedback.at = at(n);
    (feedback.run, feedback.node, feedback.kind, feedback.author) = (word(n), Some(word(n)), word(n), Some(word(n)));
    feedback
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feedback_on_runs() {
    let ground = Ground::new().await;
    fill(&ground.pond, COUNT, feedback).await;
    let rare = || Some("rare".to_owned());
    let all = || FeedbackFilter { limit: Some(PAGE), ..FeedbackFilter::default() };
    let filters = [
        ("all feedback", Index, all()),
        ("run", Index, FeedbackFilter { run: rare(), ..all() }),
        ("node", Index, FeedbackFilter { node: rare(), ..all() }),
        ("kind", Index, FeedbackFilter { kind: rare(), ..all() }),
        ("author", Index, FeedbackFilter { author: rare(), ..all() }),
    ];
    for (what, expected, filter) in filters {
        ground.costs(what, expected, ground.pond.metrics().feedback(&filter)).await;
    }
}

fn lineage_row(n: u32) -> LineageRow {
    let mut row: LineageRow = serde_json::from_str(include_str!("golden/lineage_row-v1.json")).expect("a row");
    row.id = format!("l{n:05}");
    (row.started_at, row.completed_at) = (at(n), Some(at(n)));
    (row.execution, row.route, row.adapter, row.stage) = (word(n), word(n), word(n), Some(word(n)));
    (row.correlation, row.parent, row.batch, row.document) = (Some(word(n)), Some(word(n)), Some(word(n)), Some(word(n)));
    row.artifact = Some(ArtifactRef::new(word(n)));
    row.status = if rare(n) { LineageStatus::Failed } else { LineageStatus::Completed };
    row.root = rare(n);
    row.metadata = ["url", "origin", "title"].map(|name| (name.to_owned(), word(n).into())).into();
    row.sealed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lineage() {
    let ground = Ground::new().await;
    fill(&ground.pond, COUNT, lineage_row).await;
    let all = || LineageFilter::all().limit(PAGE);
    let last = || all().order(LineageOrder::LastCompleted);
    let filters = [
        ("every row", Index, all()),
        ("those that began first", Index, all().order(LineageOrder::FirstStarted)),
        ("those that ended last", Index, last()),
        ("those that ended first", Index, all().order(LineageOrder::FirstCompleted)),
        ("execution", Index, all().execution("rare")),
        ("route", Index, all().route("rare")),
        ("adapter", Index, all().adapter("rare")),
        ("stage", Index, all().stage("rare")),
        ("status", Index, all().status(LineageStatus::Failed)),
        ("one of two statuses", Index, all().status(LineageStatus::Failed).status(LineageStatus::Cancelled)),
        ("correlation", Index, all().correlation("rare")),
        ("parent", Index, all().parent("rare")),
        ("batch", Index, all().batch("rare")),
        ("document", Index, all().document("rare")),
        ("root", Index, all().root(true)),
        ("artifact", Index, all().artifact("rare")),
        ("began", Index, all().started_before(at(COUNT / 2))),
        ("execution, last ended first", Index, last().execution("rare")),
        ("failures, last ended first", Index, last().status(LineageStatus::Failed)),
        ("route, last ended first", More, last().route("rare")),
        ("a part of the url", More, all().url("ARE")),
        ("a part of the origin", More, all().origin("are")),
        ("a part of the title", More, all().title("are")),
    ];
    for (what, expected, filter) in filters {
        ground.costs(what, expected, ground.pond.lineage().list(&filter)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_of_lineage() {
    let ground = Ground::new().await;
    let edge = |n: u32| -> LineageEdge {
        let edge = serde_json::json!({ "child": format!("l{n:05}"), "parent": word(n), "kind": "parent" });
        serde_json::from_value(edge).expect("an edge")
    };
    fill(&ground.pond, COUNT, edge).await;
    let page = ground.pond.lineage().children("rare", PAGE, None).await.expect("listed");
    assert_eq!(page.items.len(), PAGE);
    let query = millpond::Query::new("lineage_edges").expect("a name").eq("parent", "rare").limit(PAGE);
    let cost = ground.sqlite.explain(ground.pond.store().namespace(), query).await.expect("explained");
    assert!(cost.steps <= ALONG_AN_INDEX && cost.sorts == 0 && cost.scanned == 0, "{cost:?}");
}

/// Catches pages of a prefix that walk over all the pages before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_prefix_of_artifacts() {
    let ground = Ground::new().await;
    let artifact = |n: u32| -> Artifact {
        let artifact = serde_json::json!({
            "key": format!("executions/e/r/s/m{n:05}"), "version": "v", "location": "00/0.1", "length": 1, "sha256": "",
            "created": at(n), "content_type": "text/plain",
        });
        serde_json::from_value(artifact).expect("an artifact")
    };
    fill(&ground.pond, COUNT, artifact).await;
    let artifacts = ground.pond.artifacts();
    let filter = || ArtifactFilter::prefix("executions/e/r/s/").limit(PAGE);
    ground.costs("the first page", Index, artifacts.list(&filter())).await;
    let mut after = artifacts.list(&filter().limit(10_000)).await.expect("listed").next;
    ground.costs("a page in the middle", Index, artifacts.list(&filter().after(after))).await;
    after = artifacts.list(&filter().limit(10_000)).await.expect("listed").next;
    after = artifacts.list(&filter().limit(9_900).after(after)).await.expect("listed").next;
    ground.costs("the last page but one", Index, artifacts.list(&filter().after(after))).await;
}
