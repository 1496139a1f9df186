//! A unit: several domains and documents of one's own in one commit, all of it or none of it.

use std::time::Duration;

use millpond::{
    Collection, Commit, Document, ErrorKind, EventFilter, EventQuery, Execution, FieldKind, Key, LockRequest, NewRun, Pond,
    Result, Run, RunEnd, RunStatus, Step, StreamName,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tenant {
    id: String,
    seats: i64,
}

impl Document for Tenant {
    const COLLECTION: Collection = Collection::new("tenants").version(1).index("seats", FieldKind::Integer);
    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

async fn pond() -> Pond {
    let pond = millpond::open("memory:").await.expect("opens");
    pond.collection::<Tenant>().await.expect("declares");
    pond
}

async fn events(pond: &Pond, stream: &str) -> usize {
    let filter = EventFilter::stream(StreamName::new(stream).expect("name"));
    pond.store().events(EventQuery::new(filter)).await.expect("reads").items.len()
}

#[tokio::test]
async fn everything_or_nothing() {
    let pond = pond().await;
    let run = pond.runs().start(NewRun::of("etl", 3)).await.expect("starts");
    let step = |pond: &Pond, seats: i64| {
        let mut unit = pond.unit();
        unit.by("worker-1");
        unit.runs().step_completed(run.id(), Step::new("s1"));
        unit.events("audit").append("page.fetched", &json!({"url": "x"})).append("page.stored", &1);
        unit.checkpoints(run.id()).save(&json!({"next": 2})).save(&json!({"next": 3}));
        unit.metrics().record(Execution::of(&run).tokens(412));
        unit.put(&Tenant { id: "t1".into(), seats });
        unit
    };
    let before = pond.store().head().await.expect("reads");
    let mut refused = step(&pond, 5);
    refused.expect(millpond::Expectation::Exists(millpond::RecordId::new("tenants", "other").expect("id")));
    assert_eq!(refused.commit().await.expect_err("refused").kind(), ErrorKind::Conflict);
    let mut too_large = step(&pond, 5);
    too_large.events("audit").append("big", &"x".repeat(300_000));
    too_large.put(&Tenant { id: "t2".into(), seats: 1 });
    assert_eq!(too_large.commit().await.expect_err("refused").kind(), ErrorKind::Invalid);
    assert_eq!(pond.store().head().await.expect("reads"), before, "nothing was applied");

    let receipt = step(&pond, 5).commit().await.expect("commits");
    assert_eq!(receipt.position, pond.store().head().await.expect("reads"), "one commit");
    assert_eq!(events(&pond, "audit").await, 2);
    let latest = pond.checkpoints().latest(run.id()).await.expect("reads").expect("is there");
    assert_eq!((latest.version, latest.parent), (2, Some(1)));
    assert_eq!(pond.metrics().summary("etl", 3).await.expect("reads").expect("is there").tokens.sum, 412);
    assert_eq!(pond.runs().get(run.id()).await.expect("reads").expect("is there").counters.steps_completed, 1);

    // The same figures again are left out, and the rest of the unit goes in.
    step(&pond, 6).commit().await.expect("commits");
    assert_eq!(pond.metrics().summary("etl", 3).await.expect("reads").expect("is there").executions, 1);
    let tenant = pond.collection::<Tenant>().await.expect("declares").require("t1").await.expect("is there");
    assert_eq!((tenant.seats, tenant.by.as_deref()), (6, Some("worker-1")));
    assert_eq!(pond.checkpoints().latest(run.id()).await.expect("reads").expect("is there").version, 4);
}

#[tokio::test]
async fn a_unit_with_an_id_is_committed_once() {
    let pond = pond().await;
    let id = pond.store().new_commit_id();
    let step = |pond: &Pond| {
        let mut unit = pond.unit();
        unit.id(id).checkpoints("r1").save(&1);
        unit.events("audit").append("done", &1);
        unit
    };
    let first = step(&pond).commit().await.expect("commits");
    let again = step(&pond).commit().await.expect("answers");
    assert!(again.replayed && again.position == first.position);
    assert_eq!((events(&pond, "audit").await, pond.checkpoints().list("r1", 9, None).await.expect("lists").items.len()), (1, 1));
}

#[tokio::test]
async fn a_lost_lock_refuses_the_unit() {
    let pond = pond().await;
    let request = LockRequest::of("reindex", Duration::from_secs(60));
    let lease = pond.locks().acquire(&request).await.expect("acquires");
    let mut unit = pond.unit();
    unit.fenced_by(&lease).create(&Tenant { id: "t1".into(), seats: 1 });
    unit.commit().await.expect("the lock is ours");
    pond.locks().release(&lease).await.expect("releases");
    let mut late = pond.unit();
    late.fenced_by(&lease).delete::<Tenant>("t1");
    assert_eq!(late.commit().await.expect_err("refused").kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_unit_is_no_way_around_the_rules() {
    let pond = pond().await;
    let run = pond.runs().start(NewRun::of("etl", 3)).await.expect("starts");
    let mut forged = pond.unit();
    forged.put(&run.value);
    assert_eq!(forged.commit().await.expect_err("owned").kind(), ErrorKind::Invalid);
    let mut forged = pond.unit();
    forged.part(Commit::new().delete("runs", run.id()).expect("commit"));
    assert_eq!(forged.commit().await.expect_err("owned").kind(), ErrorKind::Invalid);

    let mut last = pond.unit();
    last.runs().finish(run.id(), RunEnd::completed(json!({})));
    last.put(&Tenant { id: "t1".into(), seats: 1 });
    last.commit().await.expect("commits");
    let mut late = pond.unit();
    late.events(run.stream()).append("note", &1);
    late.put(&Tenant { id: "t1".into(), seats: 9 });
    let error = late.commit().await.expect_err("sealed");
    assert!(error.kind() == ErrorKind::Conflict && error.message().contains("is finished"), "{error}");
    let mut trimmed = pond.unit();
    trimmed.part(Commit::new().trim(&run.stream(), 2).expect("commit"));
    assert_eq!(trimmed.commit().await.expect_err("refused").kind(), ErrorKind::Invalid);
    let tenant = pond.collection::<Tenant>().await.expect("declares").require("t1").await.expect("is there");
    assert_eq!(tenant.seats, 1);
    let found: Option<Run> = pond.runs().get(run.id()).await.expect("reads").map(|r| r.value);
    assert_eq!(found.map(|r| r.status), Some(RunStatus::Completed));

    let mut stale = pond.unit();
    stale.update(&tenant);
    stale.commit().await.expect("still at that revision");
    let mut stale = pond.unit();
    stale.update(&tenant);
    assert_eq!(stale.commit().await.expect_err("changed").kind(), ErrorKind::Conflict);
}

#[test]
fn synchronous_callers_have_the_same() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    let run = pond.runs().start(NewRun::of("etl", 3)).expect("starts");
    let mut unit = pond.unit();
    unit.runs().step_started(run.id(), "s1");
    unit.checkpoints(&run).save("state");
    unit.commit().expect("commits");
    assert_eq!(pond.checkpoints().latest(&run).expect("reads").expect("is there").json::<String>().expect("text"), "state");
}
