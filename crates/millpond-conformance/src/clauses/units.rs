//! Units of work: parts of several domains in one commit, all of it or none of it.

use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Commit, ErrorKind, EventFilter, Execution, Expectation, LockRequest, NewRun, Pond, RecordId, RunEnd, Step, StreamName,
};
use serde_json::json;

use super::tools::{race, refused, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "units":
    all_of_it_or_none_of_it => "a unit over runs, events, checkpoints, metrics and records is applied as one commit, or not at all";
    a_part_that_cannot_be_made_refuses_all => "a part beyond a limit refuses the unit when it is committed, and nothing is written";
    units_at_once_share_no_number => "units that save into one scope at once, through two handles, each get a version of their own";
    a_unit_with_an_id_is_applied_once => "a unit sent again under its id answers with the first receipt and changes nothing";
    a_lost_lock_refuses_the_unit => "a unit fenced by a lock that was lost is refused by the store";
    a_unit_is_no_way_around_the_rules => "a raw part may not write what belongs to a domain, nor reach a sealed log";
}

/// A unit that touches everything, for one step of a run.
fn step(pond: &Pond, run: &millpond::Run, n: i64) -> Result<millpond::Unit, Failure> {
    let mut unit = pond.unit();
    unit.by("worker");
    unit.runs().step_completed(&run.id, Step::new(format!("s{n}")));
    unit.events("audit").append("step", &n);
    unit.checkpoints(run).save(&n);
    unit.metrics().record(Execution::of(run).tokens(4));
    unit.part(Commit::new().put("tenants", "t1", &json!({"n": n}))?);
    Ok(unit)
}

async fn audit(pond: &Pond) -> Result<usize, Failure> {
    let filter = EventFilter::stream(StreamName::new("audit")?);
    Ok(pond.events().query(filter).take(1_000).await?.len())
}

async fn all_of_it_or_none_of_it(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let run = pond.runs().start(NewRun::of("etl", 3)).await?;
    let before = pond.store().head().await?;
    let mut unit = step(&pond, &run, 1)?;
    unit.expect(Expectation::Exists(RecordId::new("tenants", "other")?));
    refused(unit.commit().await, ErrorKind::Conflict, "a unit whose expectation fails")?;
    ensure_eq!(pond.store().head().await?, before, "the head after a refused unit");
    let receipt = step(&pond, &run, 1)?.commit().await?;
    ensure_eq!(other.store().head().await?, receipt.position, "the head after a unit");
    ensure_eq!(audit(&other).await?, 1, "events");
    ensure_eq!(other.runs().get(&run.id).await?.map(|r| r.counters.steps_completed), Some(1), "steps");
    ensure_eq!(other.checkpoints().latest(&run).await?.map(|c| c.version), Some(1), "checkpoints");
    ensure_eq!(other.metrics().summary("etl", 3).await?.map(|s| s.tokens.sum), Some(4), "metrics");
    let tenant = other.store().get("tenants", "t1").await?;
    ensure_eq!(tenant.and_then(|t| t.by), Some("worker".to_owned()), "who wrote the record");
    // The run was counted: the second unit leaves its figures out and keeps the rest.
    step(&other, &run, 2)?.commit().await?;
    ensure_eq!(pond.metrics().summary("etl", 3).await?.map(|s| s.executions), Some(1), "runs counted");
    ensure_eq!(pond.checkpoints().latest(&run).await?.map(|c| c.version), Some(2), "checkpoints after the second unit");
    Ok(())
}

async fn a_part_that_cannot_be_made_refuses_all(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let run = pond.runs().start(NewRun::of("etl", 3)).await?;
    let before = pond.store().head().await?;
    let mut unit = step(&pond, &run, 1)?;
    unit.events("audit").append("large", &"x".repeat(300_000));
    unit.events("audit").append("small", &1);
    let said = refused(unit.commit().await, ErrorKind::Invalid, "a unit with an event beyond the limit")?;
    ensure!(said.contains("262144"), "the refusal does not name the limit: {said}");
    ensure_eq!(pond.store().head().await?, before, "the head after a refused unit");
    Ok(())
}

async fn units_at_once_share_no_number(ground: Arc<Ground>) -> Verdict {
    race(&two(&ground).await?, 8, |i, store| async move {
        let pond = Pond::new(store).await?;
        let mut unit = pond.unit();
        unit.checkpoints("r1").save(&json!([i, 0])).save(&json!([i, 1]));
        unit.events("audit").append("saved", &i);
        unit.commit().await?;
        Ok(())
    })
    .await?;
    let pond = ground.second_pond().await?;
    let versions: Vec<i64> = pond.checkpoints().list("r1", 100, None).await?.items.iter().map(|c| c.version).collect();
    ensure_eq!(versions, (1..=16).rev().collect::<Vec<i64>>(), "versions of eight units with two saves each");
    for pair in 0..8 {
        let mut of = Vec::new();
        for version in [2 * pair + 1, 2 * pair + 2] {
            of.push(pond.checkpoints().load("r1", version).await?.map(|c| c.json::<[usize; 2]>()).transpose()?);
        }
        let unit = of[0].map(|p| p[0]);
        ensure_eq!(of, [unit.map(|u| [u, 0]), unit.map(|u| [u, 1])], "the two saves of one unit");
    }
    ensure_eq!(audit(&pond).await?, 8, "events of eight units");
    Ok(())
}

async fn a_unit_with_an_id_is_applied_once(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let run = pond.runs().start(NewRun::of("etl", 3)).await?;
    let id = pond.store().new_commit_id();
    let mut unit = step(&pond, &run, 1)?;
    unit.id(id);
    let first = unit.commit().await?;
    let mut unit = step(&other, &run, 1)?;
    unit.id(id);
    let again = unit.commit().await?;
    ensure!(again.replayed && again.position == first.position, "the second answer is {again:?}, the first {first:?}");
    ensure_eq!(pond.store().head().await?, first.position, "the head after the same unit twice");
    Ok(())
}

async fn a_lost_lock_refuses_the_unit(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let run = pond.runs().start(NewRun::of("etl", 3)).await?;
    let request = LockRequest::of("reindex", Duration::from_secs(3_600));
    let lease = pond.locks().acquire(&request).await?;
    let mut unit = step(&pond, &run, 1)?;
    unit.fenced_by(&lease);
    unit.commit().await?;
    other.locks().force_release("reindex", "test", "clause").await?;
    let before = pond.store().head().await?;
    let mut unit = step(&pond, &run, 2)?;
    unit.fenced_by(&lease);
    refused(unit.commit().await, ErrorKind::Fenced, "a unit under a lost lock")?;
    ensure_eq!(pond.store().head().await?, before, "the head after a fenced unit");
    Ok(())
}

async fn a_unit_is_no_way_around_the_rules(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let run = pond.runs().start(NewRun::of("etl", 3)).await?;
    for raw in [
        Commit::new().put("runs", &run.id, &json!({}))?,
        Commit::new().delete("runs", &run.id)?,
        Commit::new().merge("runs", &run.id, vec![millpond::MergeOp::Add("/n".to_owned(), 1)])?,
        Commit::new().trim(&run.stream(), 1)?,
    ] {
        let mut unit = pond.unit();
        unit.part(raw);
        refused(unit.commit().await, ErrorKind::Invalid, "a raw part that belongs to a domain")?;
    }
    let mut unit = pond.unit();
    unit.put(&run.value);
    refused(unit.commit().await, ErrorKind::Invalid, "a document that belongs to a domain")?;
    let mut last = step(&pond, &run, 1)?;
    last.runs().finish(&run.id, RunEnd::completed(json!(1)));
    last.commit().await?;
    refused(step(&pond, &run, 2)?.commit().await, ErrorKind::Conflict, "a step in a unit after the end")?;
    ensure_eq!(audit(&pond).await?, 1, "events");
    Ok(())
}
