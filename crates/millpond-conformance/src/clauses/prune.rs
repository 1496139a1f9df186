//! Prunes: everything of an execution that was written off goes, each thing counted once, and nothing that others need.

use std::sync::Arc;

use millpond::{
    ArtifactKey, ErrorKind, NewArtifact, NewLineage, NewRun, Pond, Prune, PruneCounts, PruneFilter, PruneObstacle, PrunePhase,
    PruneStatus, Query, RunEnd,
};

use super::artifacts::{objects, read};
use super::tools::{left_behind, refused, stop, unless_stopped, write_all};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "prune":
    everything_of_it_goes => "artifacts, versions, bytes, lineage and run of an execution go, as a plan counted them, and nothing of others";
    it_goes_on_where_it_was => "a prune that is stopped after each of its commits is gone on with by another, and counts nothing twice";
    what_is_needed_is_not_pruned => "an execution that is pinned, runs or is referred to is not pruned, and it is said by what";
    nothing_is_written_into_it => "a unit that began before and whatever comes later is refused, until the mark is taken off";
}

fn key(execution: &str, message: &str) -> String {
    ArtifactKey::new(execution, "crawl", "fetch", message).to_string()
}

async fn put(pond: &Pond, key: &str, bytes: usize) -> Verdict {
    pond.artifacts().write(key, vec![7_u8; bytes], NewArtifact::default()).await?;
    Ok(())
}

async fn row(pond: &Pond, id: &str, execution: &str, from: &[&str]) -> Verdict {
    let new = NewLineage::of(execution, "crawl", "fetcher").id(id);
    let new = from.iter().fold(new, |new, parent| new.derived_from(*parent));
    pond.lineage().record(new).await?;
    Ok(())
}

/// Works on a prune until `stops` says so, after each commit, and answers whether it came to its end.
async fn worked(pond: &Pond, stops: impl Fn(u32, &Prune) -> bool + Send + Sync + 'static) -> Result<Option<Prune>, Failure> {
    let (prunes, mut told) = (pond.prunes(), 0);
    let work = async move {
        let tell = |job: &Prune| {
            told += 1;
            if stops(told, job) {
                stop();
            }
        };
        prunes.run_with("e1", tell).await
    };
    unless_stopped(work).await
}

/// Prunes the execution, by a job that has to come to its end.
async fn pruned(pond: &Pond) -> Result<Prune, Failure> {
    let done = worked(pond, |told, _| told > 50).await?;
    done.ok_or_else(|| Failure("a prune does not come to its end".to_owned()))
}

/// Storage events that tell of artifacts of the execution.
async fn told(pond: &Pond) -> Result<u64, Failure> {
    Ok(pond.store().stream("artifacts/executions/e1").await?.map_or(0, |stream| stream.head))
}

/// Records of the execution in each collection that a prune takes from.
async fn left(pond: &Pond) -> Result<u64, Failure> {
    let mut left = 0;
    for collection in ["artifacts", "artifact_versions", "lineage"] {
        left += pond.store().count(Query::new(collection)?.eq("execution", "e1")).await?;
    }
    Ok(left)
}

async fn everything_of_it_goes(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let (m1, m2, copy) = (key("e1", "m1"), key("e1", "m2"), key("e10", "copy"));
    pond.runs().start(NewRun::of("etl", 1).id("e1")).await?;
    pond.runs().finish("e1", RunEnd::failed("the disk was full")).await?;
    for (key, bytes) in [(&m1, 100), (&m2, 200), (&m1, 50), (&key("e10", "m1"), 10)] {
        put(&pond, key, bytes).await?;
    }
    pond.artifacts().delete(&m2).await?;
    pond.artifacts().copy(&m1, &copy).await?;
    for (id, execution, from) in [("x", "e10", &[][..]), ("a", "e1", &["x"]), ("b", "e1", &["a", "lost"])] {
        row(&pond, id, execution, from).await?;
    }
    let log = pond.store().stream("runs/e1").await?.map_or(0, |stream| stream.head);
    let expected = PruneCounts {
        artifacts: 1,
        versions: 4,
        objects: 2,
        bytes: 300,
        kept_objects: 1,
        kept_bytes: 50,
        lineage_rows: 2,
        lineage_edges: 3,
        events: 1,
        log_events: log,
        runs: 1,
    };
    let plan = other.prunes().plan("e1").await?;
    ensure_eq!((plan.would_delete, plan.reasons_in_all), (expected, 0), "what a plan counts");
    ensure_eq!(objects(&ground, &pond).await?.len(), 4, "objects after a plan");
    let before = told(&pond).await?;
    let done = pruned(&other).await?;
    ensure_eq!((done.status, done.deleted), (PruneStatus::Done, expected), "what was deleted");
    ensure_eq!(told(&pond).await? - before, 1, "storage events that tell of it");
    ensure_eq!(left(&pond).await?, 0, "records of the execution that are left");
    ensure_eq!(pond.runs().get("e1").await?.is_some(), false, "whether the run is there");
    ensure_eq!(objects(&ground, &pond).await?.len(), 2, "objects that are left");
    ensure_eq!(read(&pond, &copy).await?.map(|bytes| bytes.len()), Some(50), "the copy of another execution");
    ensure_eq!(read(&pond, &key("e10", "m1")).await?.map(|bytes| bytes.len()), Some(10), "what another execution wrote");
    ensure!(pond.lineage().get("x").await?.is_some(), "a row of another execution is gone");
    ensure_eq!(pond.lineage().children("x", 9, None).await?.items.len(), 0, "edges from the rows that are gone");
    ensure_eq!(pond.prunes().run("e1").await?, done, "a prune that is done");
    let filter = |status| PruneFilter { status: Some(status), ..PruneFilter::default() };
    ensure_eq!(pond.prunes().list(&filter(PruneStatus::Done)).await?.items.len(), 1, "prunes that are done");
    ensure_eq!(pond.prunes().list(&filter(PruneStatus::Running)).await?.items.len(), 0, "prunes that go on");
    Ok(())
}

async fn it_goes_on_where_it_was(ground: Arc<Ground>) -> Verdict {
    let ponds = [ground.pond().await?, ground.second_pond().await?];
    write_all(&ponds[0], &[key("e1", "m1"), key("e1", "m2"), key("e10", "m1")]).await?;
    row(&ponds[0], "a", "e1", &["lost"]).await?;
    let plan = ponds[1].prunes().plan("e1").await?.would_delete;
    ensure_eq!((plan.artifacts, plan.versions, plan.objects, plan.lineage_rows, plan.lineage_edges), (2, 2, 2, 1, 1), "a plan");
    let mut lives = 0;
    let done = loop {
        ensure!(lives < 20, "a prune does not come to its end");
        let [own, other] = [0, 1].map(|n| &ponds[(lives + n) % 2]);
        lives += 1;
        if let Some(done) = worked(own, |told, job| told == 2 && job.status != PruneStatus::Done).await? {
            break done;
        }
        if lives == 1 {
            let said = refused(other.prunes().run("e1").await, ErrorKind::Conflict, "a second worker")?;
            ensure!(said.contains("is being pruned by"), "the refusal does not say by whom: {said}");
        }
        left_behind(other, "prunes/e1").await?;
    };
    ensure!(lives >= 8, "it was stopped only {lives} times");
    ensure_eq!((done.phase, done.deleted), (PrunePhase::Done, plan), "what was deleted, in {lives} lives");
    ensure_eq!((left(&ponds[0]).await?, objects(&ground, &ponds[0]).await?.len()), (0, 1), "records and objects that are left");
    Ok(())
}

async fn what_is_needed_is_not_pruned(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    pond.runs().start(NewRun::of("etl", 1).id("e1")).await?;
    put(&pond, &key("e1", "m1"), 10).await?;
    row(&pond, "a", "e1", &[]).await?;
    row(&pond, "b", "e2", &["a"]).await?;
    let pin = pond.pins().pin("e1", "anna", "the audit").await?;
    let plan = other.prunes().plan("e1").await?;
    let reasons: Vec<(PruneObstacle, &str)> = plan.reasons.iter().map(|reason| (reason.obstacle, &*reason.by)).collect();
    let expected = [(PruneObstacle::Pinned, "anna"), (PruneObstacle::Running, "e1"), (PruneObstacle::Referenced, "b")];
    ensure_eq!((reasons, plan.reasons_in_all), (expected.to_vec(), 3), "what stands against a prune");
    for obstacle in ["pinned", "running", "referenced"] {
        let said = refused(other.prunes().run("e1").await, ErrorKind::Conflict, "a prune of what is needed")?;
        ensure!(said.contains(obstacle), "the refusal does not say that it is {obstacle}: {said}");
        match obstacle {
            "pinned" => drop(pond.pins().unpin("e1", &pin.id).await?),
            _ => drop(pond.runs().finish("e1", RunEnd::failed("over")).await),
        }
    }
    ensure_eq!(other.prunes().get("e1").await?, None, "the mark of a prune that was refused");
    put(&other, &key("e1", "m2"), 10).await?;
    ensure_eq!(left(&pond).await?, 5, "records of the execution");
    Ok(())
}

async fn nothing_is_written_into_it(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    put(&pond, &key("e1", "m1"), 10).await?;
    let mut late = pond.unit();
    late.artifacts().put(key("e1", "m2"), "late").await?;
    pruned(&other).await?;
    let new = || NewArtifact::default();
    let row = NewLineage::of("e1", "crawl", "fetcher");
    for (what, done) in [
        ("a unit that began before", late.commit().await.map(drop)),
        ("a write", pond.artifacts().write(&key("e1", "m3"), "late", new()).await.map(drop)),
        ("a row of lineage", pond.lineage().record(row).await.map(drop)),
        ("a pin", pond.pins().pin("e1", "anna", "too late").await.map(drop)),
    ] {
        let said = refused(done, ErrorKind::Conflict, what)?;
        ensure!(said.contains("e1") && said.contains("written off"), "the refusal of {what} does not say why: {said}");
    }
    ensure_eq!((left(&other).await?, objects(&ground, &other).await?.len()), (0, 0), "records and objects after refusals");
    pond.prunes().forget("e1").await?;
    refused(pond.prunes().forget("e1").await, ErrorKind::NotFound, "taking off a mark again")?;
    put(&pond, &key("e1", "m1"), 20).await?;
    ensure_eq!(read(&other, &key("e1", "m1")).await?.map(|bytes| bytes.len()), Some(20), "what is read once the mark is off");
    Ok(())
}
