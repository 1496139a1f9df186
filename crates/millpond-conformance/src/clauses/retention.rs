//! Retention: old versions are forgotten, and nothing that is read, kept, pinned or running.

use std::sync::Arc;
use std::time::Duration;

use millpond::{ArtifactKey, CollectRequest, KeptBecause, NewRun, Pond, PurgeVersions, RunEnd};

use super::artifacts::{objects, read, write};
use super::tools::{count, passed_a_moment};
use crate::{Failure, Ground, Verdict, clauses, ensure_eq};

clauses! { "retention":
    only_old_versions_go => "versions go that are old and not among the newest so many, as a dry run counted, what is read stays, bytes follow";
    versions_that_are_needed_stay => "versions of executions that are pinned or run stay, and are counted with the reason";
}

async fn versions(pond: &Pond) -> Result<u64, Failure> {
    Ok(count(pond, "artifact_versions").await?)
}

async fn only_old_versions_go(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    for (key, text) in [("many", "one"), ("many", "three"), ("many", "three"), ("many", "four"), ("one", "only"), ("gone", "x")] {
        write(&pond, key, text).await?;
    }
    // The deletion is a unit of its own, younger than any write: what an engine does that takes it for open hangs on it.
    passed_a_moment().await;
    pond.artifacts().delete("gone").await?;
    passed_a_moment().await;
    let asked = PurgeVersions::new(Duration::ZERO, 2);
    let counted = other.artifacts().purge_versions(&asked.clone().dry_run()).await?;
    let found = (counted.looked_at, counted.purged, counted.bytes, counted.kept_newest, counted.kept_needed());
    ensure_eq!(found, (7, 2, 8, 5, 0), "versions looked at, to go, their bytes, kept as the newest, kept as needed");
    ensure_eq!(versions(&pond).await?, 7, "versions after a dry run");
    ensure_eq!(other.artifacts().purge_versions(&asked).await?, counted, "what a purge says that a dry run counted");
    let kept = pond.artifacts().history("many", 9, None).await?.items;
    let kept: Vec<_> = kept.into_iter().map(|version| version.value.length).collect();
    ensure_eq!((versions(&pond).await?, kept), (5, vec![4, 5]), "versions, and the lengths of those that are kept");
    // Of what was deleted nothing need stay; what is read stays whatever is asked.
    let all = other.artifacts().purge_versions(&PurgeVersions::new(Duration::ZERO, 0)).await?;
    ensure_eq!((all.purged, all.kept_newest, versions(&pond).await?), (3, 2, 2), "versions that go, stay, and are left");
    for (key, text) in [("many", Some("four")), ("one", Some("only")), ("gone", None)] {
        ensure_eq!(read(&pond, key).await?.as_deref(), text, "what is read under {key}");
    }
    let old = other.artifacts().purge_versions(&PurgeVersions::new(Duration::from_secs(24 * 60 * 60), 0)).await?;
    ensure_eq!(old.looked_at, 0, "versions that are a day old");
    passed_a_moment().await;
    let collected = other.units().collect(&CollectRequest { remove: true, grace: Duration::ZERO }).await?;
    ensure_eq!((collected.removed, objects(&ground, &pond).await?.len()), (4, 2), "objects that were removed, and that stay");
    Ok(())
}

async fn versions_that_are_needed_stay(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let key = |execution: &str| ArtifactKey::new(execution, "r", "s", "m").to_string();
    pond.runs().start(NewRun::of("etl", 1).id("running")).await?;
    let pin = pond.pins().pin("pinned", "anna", "the audit").await?;
    for text in ["one", "two"] {
        let mut unit = pond.unit();
        for execution in ["pinned", "running", "neither"] {
            unit.artifacts().put(key(execution), text).await?;
        }
        unit.commit().await?;
    }
    passed_a_moment().await;
    let asked = PurgeVersions::new(Duration::ZERO, 1);
    let done = other.artifacts().purge_versions(&asked).await?;
    ensure_eq!((done.purged, done.kept_newest, done.kept_needed()), (1, 3, 2), "versions that go, are the newest, are needed");
    let mut needed: Vec<_> = done.needed.iter().map(|kept| (kept.execution.as_deref(), kept.because)).collect();
    needed.sort_unstable_by_key(|(execution, _)| *execution);
    ensure_eq!(needed, [(Some("pinned"), KeptBecause::Pinned), (Some("running"), KeptBecause::Running)], "why they are needed");
    ensure_eq!(versions(&pond).await?, 5, "versions that are left");
    other.pins().unpin("pinned", &pin.id).await?;
    other.runs().finish("running", RunEnd::failed("over")).await?;
    let done = pond.artifacts().purge_versions(&asked).await?;
    ensure_eq!((done.purged, done.kept_needed(), versions(&other).await?), (2, 0, 3), "versions that go once nobody needs them");
    Ok(())
}
