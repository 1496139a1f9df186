//! What somebody needs is not deleted, and the refusal says who needs it: pinned, running, referred to.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/meanwhile.rs"]
mod meanwhile;

use std::sync::Arc;
use std::time::Duration;

use meanwhile::MeanwhileEngine;
use millpond::{
    ArtifactKey, Engine, ErrorKind, Front, KeptBecause, LineageEdge, ManualHost, Namespace, NewArtifact, NewLineage, NewRun,
    OpenOptions, Pond, PurgeVersions, Query, RunEnd, Store, Timestamp,
};
use millpond_objects::Folder;

struct World {
    _place: tempfile::TempDir,
    host: Arc<ManualHost>,
    engine: Arc<MeanwhileEngine>,
    pond: Pond,
    /// Another process on the same store and the same bytes.
    other: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let host = Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").unwrap()));
    let inner = OpenOptions::new().host(Arc::<ManualHost>::clone(&host)).engine("memory:").await.unwrap();
    let engine = MeanwhileEngine::on(Arc::clone(&inner));
    let folder = Arc::new(Folder::new(place.path().join("objects")).unwrap());
    let on = async |engine: Arc<dyn Engine>| {
        let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await.unwrap();
        Pond::new(store).await.unwrap().with_objects(Arc::<Folder>::clone(&folder))
    };
    let pond = on(Arc::<MeanwhileEngine>::clone(&engine)).await;
    let other = on(inner).await;
    World { _place: place, host, engine, pond, other }
}

fn key(execution: &str, message: &str) -> String {
    ArtifactKey::new(execution, "crawl", "fetch", message).to_string()
}

impl World {
    async fn write(&self, key: &str, text: &str) {
        self.pond.artifacts().write(key, text.to_owned(), NewArtifact::default()).await.unwrap();
        self.host.advance(Duration::from_secs(1));
    }

    /// A row that made an artifact.
    async fn made(&self, row: &str, execution: &str, key: &str) {
        self.pond.lineage().record(NewLineage::of(execution, "crawl", "fetcher").id(row).artifact(key)).await.unwrap();
    }

    async fn row(&self, row: &str, execution: &str, from: &str) {
        self.pond.lineage().record(NewLineage::of(execution, "index", "indexer").id(row).derived_from(from)).await.unwrap();
    }

    /// That a delete is refused, with these words.
    async fn refused(&self, key: &str, words: &[&str]) {
        let error = self.pond.artifacts().delete(key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "no {word:?} in: {error}");
        }
        assert!(self.pond.artifacts().exists(key).await.unwrap());
    }
}

/// Catches a refusal that does not name the pin, its holder and reason; a delete of what a running run or another
/// execution needs; and one that a step of the run itself is refused.
#[tokio::test]
async fn an_artifact_that_is_needed_is_not_deleted_and_the_refusal_says_by_whom() {
    let world = world().await;
    world.pond.runs().start(NewRun::of("etl", 1).id("e1")).await.unwrap();
    for message in ["m1", "m2", "m3", "own"] {
        world.write(&key("e1", message), message).await;
    }
    let pin = world.pond.pins().pin("e1", "anna", "the audit").await.unwrap();
    world.pond.pins().pin("e1", "bert", "the appeal").await.unwrap();
    world.refused(&key("e1", "m1"), &["e1 is pinned by anna (the audit)", "and 1 more"]).await;
    let mut unit = world.pond.unit();
    unit.artifacts().delete(&key("e1", "m1")).await.unwrap();
    assert!(unit.commit().await.unwrap_err().to_string().contains("pinned by anna (the audit)"));
    let deleted = world.pond.runs().delete("e1").await.unwrap_err();
    assert!(deleted.to_string().contains("still running"), "{deleted}");

    for pin in world.pond.pins().get("e1").await.unwrap().unwrap().value.pins {
        world.pond.pins().unpin("e1", &pin.id).await.unwrap();
    }
    assert!(world.pond.pins().unpin("e1", &pin.id).await.is_err());
    world.refused(&key("e1", "m1"), &["its run e1 is running", "in a unit of the run itself"]).await;
    // A step of the run.
    let mut unit = world.pond.unit();
    unit.artifacts().delete(&key("e1", "own")).await.unwrap();
    unit.commit().await.unwrap();

    world.pond.runs().finish("e1", RunEnd::failed("over")).await.unwrap();
    world.made("a", "e1", &key("e1", "m1")).await;
    world.made("of-m3", "e1", &key("e1", "m3")).await;
    world.row("within", "e1", "of-m3").await;
    world.row("b", "e2", "a").await;
    world.refused(&key("e1", "m1"), &["row b of execution e2 came from row a", "prune execution e2 first"]).await;
    // What its writer named as its row counts as well.
    let named = NewArtifact { lineage: Some("a".to_owned()), ..NewArtifact::default() };
    world.pond.artifacts().write(&key("e1", "m2"), "two", named).await.unwrap();
    world.refused(&key("e1", "m2"), &["row b of execution e2"]).await;
    // Rows of its own execution are no reason.
    assert!(world.pond.artifacts().delete(&key("e1", "m3")).await.unwrap());
    world.pond.prunes().run("e2").await.unwrap();
    assert!(world.pond.artifacts().delete(&key("e1", "m1")).await.unwrap());
    assert!(!world.pond.artifacts().delete(&key("e1", "m1")).await.unwrap());
}

/// Catches a delete that does not expect in its commit what it read: the run began, or the pin was set, in between.
#[tokio::test]
async fn there_is_no_gap_between_the_look_and_the_deletion() {
    let world = world().await;
    world.write(&key("e1", "m1"), "one").await;
    let runs = world.other.runs();
    world.engine.before("artifacts", async move {
        runs.start(NewRun::of("etl", 1).id("e1")).await.unwrap();
    });
    world.refused(&key("e1", "m1"), &["its run e1 is running"]).await;
    assert!(world.engine.happened());

    world.write(&key("e2", "m1"), "one").await;
    let pins = world.other.pins();
    world.engine.before("artifacts", async move {
        pins.pin("e2", "anna", "the audit").await.unwrap();
    });
    world.refused(&key("e2", "m1"), &["e2 is pinned by anna (the audit)"]).await;
    let claims = world.pond.store().count(Query::new("artifact_claims").unwrap()).await.unwrap();
    assert_eq!(claims, 0, "a delete that was refused keeps its claim");
}

/// Catches a run that is deleted although its execution is pinned, also where the pin comes in between.
#[tokio::test]
async fn a_run_that_is_pinned_is_not_deleted() {
    let world = world().await;
    for run in ["e1", "e2"] {
        world.pond.runs().start(NewRun::of("etl", 1).id(run)).await.unwrap();
        world.pond.runs().finish(run, RunEnd::failed("over")).await.unwrap();
    }
    let pin = world.pond.pins().pin("e1", "anna", "the audit").await.unwrap();
    let refused = world.pond.runs().delete("e1").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("e1 is pinned by anna (the audit)"), "{refused}");
    let pins = world.other.pins();
    world.engine.before("runs", async move {
        pins.pin("e2", "bert", "the appeal").await.unwrap();
    });
    let refused = world.pond.runs().delete("e2").await.unwrap_err();
    assert!(refused.to_string().contains("e2 is pinned by bert (the appeal)"), "{refused}");
    world.pond.pins().unpin("e1", &pin.id).await.unwrap();
    assert!(world.pond.runs().delete("e1").await.unwrap());
    assert!(world.pond.runs().get("e2").await.unwrap().is_some());
}

/// Catches retention that takes what another execution came from, that counts all reasons as one, or names none.
#[tokio::test]
async fn retention_keeps_what_is_needed_and_says_by_whom() {
    let world = world().await;
    for (execution, run) in [("pinned", false), ("running", true), ("referenced", false), ("free", false)] {
        if run {
            world.pond.runs().start(NewRun::of("etl", 1).id(execution)).await.unwrap();
        }
        world.write(&key(execution, "m"), "one").await;
        if execution == "referenced" {
            let first = world.pond.artifacts().info(&key(execution, "m")).await.unwrap().unwrap().value.version;
            let made = millpond::ArtifactRef::new(key(execution, "m")).version(first);
            world.pond.lineage().record(NewLineage::of(execution, "r", "a").id("a").artifact(made)).await.unwrap();
            world.row("b", "e2", "a").await;
        }
        // The second version is in nobody's way: only the newest one stays.
        world.write(&key(execution, "m"), "two").await;
        world.write(&key(execution, "m"), "three").await;
    }
    world.pond.pins().pin("pinned", "anna", "the audit").await.unwrap();
    world.host.advance(Duration::from_secs(60));
    let asked = PurgeVersions::new(Duration::ZERO, 1);
    let done = world.pond.artifacts().purge_versions(&asked.clone().dry_run()).await.unwrap();
    assert_eq!((done.kept_pinned, done.kept_running, done.kept_referenced, done.kept_newest), (2, 2, 1, 4));
    assert_eq!((done.purged, done.kept_needed()), (3, 5));
    let needed: Vec<_> = done.needed.iter().map(|k| (k.execution.as_deref().unwrap(), k.because, k.by.as_str())).collect();
    let expected = [
        ("pinned", KeptBecause::Pinned, "anna"),
        ("running", KeptBecause::Running, "running"),
        ("referenced", KeptBecause::Referenced, "b"),
    ];
    assert_eq!(needed, expected);
    assert!(done.needed[0].why.contains("the audit") && done.needed[2].why.contains("row b of execution e2"), "{done:?}");

    // A run that begins between the look and the commit keeps its own.
    let runs = world.other.runs();
    world.engine.before("artifact_versions", async move {
        runs.start(NewRun::of("etl", 1).id("free")).await.unwrap();
    });
    let done = world.pond.artifacts().purge_versions(&asked).await.unwrap();
    assert_eq!((done.purged, done.kept_running, done.kept_referenced), (1, 4, 1));
    assert!(world.engine.happened());
}

/// Catches a row of another execution, or a run, that came in between the look and the mark; it has to take the mark off
/// again, also after a crash right behind the mark.
#[tokio::test]
async fn what_comes_in_right_before_a_prune_takes_its_mark_off_again() {
    let world = world().await;
    let marks = async || world.pond.store().count(Query::new("execution_prunes").unwrap()).await.unwrap();
    for execution in ["e1", "e2", "e3"] {
        world.write(&key(execution, "m1"), "one").await;
        world.made(&format!("of-{execution}"), execution, &key(execution, "m1")).await;
    }
    let lineage = world.other.lineage();
    world.engine.before("execution_prunes", async move {
        lineage.record(NewLineage::of("later", "r", "a").id("b").derived_from("of-e1")).await.unwrap();
    });
    let refused = world.pond.prunes().run("e1").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("row b of execution later came from row of-e1"), "{refused}");
    assert_eq!(marks().await, 0);
    world.write(&key("e1", "m2"), "it goes on").await;

    let runs = world.other.runs();
    world.engine.before("execution_prunes", async move {
        runs.start(NewRun::of("etl", 1).id("e2")).await.unwrap();
    });
    let refused = world.pond.prunes().run("e2").await.unwrap_err();
    assert!(refused.to_string().contains("the run goes on"), "{refused}");
    assert_eq!(marks().await, 0);

    let lineage = world.other.lineage();
    world.engine.before("execution_prunes", async move {
        lineage.record(NewLineage::of("later", "r", "a").id("c").derived_from("of-e3")).await.unwrap();
    });
    let prunes = world.pond.prunes();
    let life = tokio::spawn(async move { prunes.run_with("e3", |_| panic!("stopped behind the mark")).await });
    assert!(life.await.unwrap_err().is_panic());
    assert_eq!(marks().await, 1);
    world.pond.locks().force_release("prunes/e3", "it was stopped", "test").await.unwrap();
    let refused = world.pond.prunes().run("e3").await.unwrap_err();
    assert!(refused.to_string().contains("row c of execution later came from row of-e3"), "{refused}");
    assert_eq!((marks().await, world.pond.artifacts().exists(&key("e3", "m1")).await.unwrap()), (0, true));
}

/// Catches a run, or an edge from another execution, that comes in while an execution is marked.
#[tokio::test]
async fn nothing_refers_to_an_execution_that_is_being_pruned_and_its_run_does_not_begin() {
    let world = world().await;
    world.write(&key("e1", "m1"), "one").await;
    world.made("a", "e1", &key("e1", "m1")).await;
    world.row("there", "e2", "elsewhere").await;
    let prunes = world.pond.prunes();
    let life = tokio::spawn(async move { prunes.run_with("e1", |_| panic!("stopped behind the mark")).await });
    assert!(life.await.unwrap_err().is_panic());

    let says = |error: millpond::Error| {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("execution e1 was written off"), "{error}");
    };
    let new = || NewLineage::of("e2", "r", "a").derived_from("a");
    says(world.pond.lineage().record(new()).await.unwrap_err());
    says(world.pond.lineage().start(new()).await.unwrap_err());
    says(world.pond.lineage().link("there", "a", LineageEdge::DERIVED_FROM).await.unwrap_err());
    let mut unit = world.pond.unit();
    unit.lineage().record(new());
    says(unit.commit().await.unwrap_err());
    let (_, part) = world.pond.lineage().record_part(new()).unwrap();
    assert_eq!(world.pond.commit(part).await.unwrap_err().kind(), ErrorKind::Conflict);
    says(world.pond.runs().start(NewRun::of("etl", 1).id("e1")).await.unwrap_err());
    let (_, part) = world.pond.runs().start_part(&NewRun::of("etl", 1).id("e1")).await.unwrap();
    let mut unit = world.pond.unit();
    unit.part(part);
    says(unit.commit().await.unwrap_err());
    let missing = world.pond.lineage().link("nobody", "there", LineageEdge::DERIVED_FROM).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    world.pond.locks().force_release("prunes/e1", "it was stopped", "test").await.unwrap();
    assert_eq!(world.pond.prunes().run("e1").await.unwrap().deleted.lineage_rows, 1);
}

/// Writes an edge to a row, in one of the ways there are.
async fn leads_to(world: &World, way: &str, row: &str, parent: &str) -> millpond::Result<()> {
    let new = NewLineage::of("e2", "r", "a").id(row).derived_from(parent);
    match way {
        "record" => world.pond.lineage().record(new).await.map(drop),
        "link" => world.pond.lineage().link("there", parent, LineageEdge::DERIVED_FROM).await.map(drop),
        "unit" => {
            let mut unit = world.pond.unit();
            unit.lineage().record(new);
            unit.commit().await.map(drop)
        }
        _ => world.pond.commit(world.pond.lineage().record_part(new)?.1).await.map(drop),
    }
}

/// Catches an edge to a row that came about, and whose execution was written off, between the look at the rows and the
/// commit: whoever wrote off had no chance to see it. Each of the ways to write one.
#[tokio::test]
async fn a_row_that_comes_about_meanwhile_is_looked_at_again() {
    for way in ["record", "link", "unit", "commit"] {
        let world = world().await;
        world.row("there", "e2", "elsewhere").await;
        // One that comes about in an execution that nobody writes off is in nobody's way.
        let lineage = world.other.lineage();
        world.engine.before("lineage_edges", async move {
            lineage.record(NewLineage::of("e3", "r", "a").id("early")).await.unwrap();
        });
        leads_to(&world, way, "first", "early").await.unwrap();
        assert!(world.engine.happened(), "{way}");
        assert_eq!(world.pond.lineage().children("early", 10, None).await.unwrap().items.len(), 1, "{way}");

        let (lineage, prunes) = (world.other.lineage(), world.other.prunes());
        world.engine.before("lineage_edges", async move {
            lineage.record(NewLineage::of("e1", "r", "a").id("late")).await.unwrap();
            let life = tokio::spawn(async move { prunes.run_with("e1", |_| panic!("stopped behind the mark")).await });
            assert!(life.await.unwrap_err().is_panic());
        });
        let refused = leads_to(&world, way, "child", "late").await;
        assert!(world.engine.happened(), "{way}");
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{way}: {refused}");
        // Looked at again: what refuses it is the mark, and not that a row came about.
        let says = if way == "commit" { "execution_prunes" } else { "execution e1 was written off" };
        assert!(refused.to_string().contains(says), "{way}: {refused}");
        let found = world.pond.lineage().children("late", 10, None).await.unwrap();
        assert_eq!(found.items.len(), 0, "{way}");
    }
}

/// Catches a retry that is refused, or done twice, because the row it leads to is there by now.
#[tokio::test]
async fn a_commit_that_leads_to_a_row_is_repeated_under_its_id_though_the_row_came_about() {
    let world = world().await;
    let (_, part) = world.pond.lineage().record_part(NewLineage::of("e2", "r", "a").id("child").derived_from("late")).unwrap();
    let id = millpond::uuid_v7(world.pond.store().host());
    let part = part.id(millpond::CommitId::from_uuid(id).unwrap());
    let first = world.pond.commit(part.clone()).await.unwrap();
    world.pond.lineage().record(NewLineage::of("e1", "r", "a").id("late")).await.unwrap();
    let again = world.pond.commit(part.clone()).await.unwrap();
    assert_eq!((first.replayed, again.replayed, again.position), (false, true, first.position));
    let other = part.put("notes", "n", &serde_json::json!({})).unwrap();
    assert_eq!(world.pond.commit(other).await.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Catches retention that one damaged record stops, that takes what the damaged one may speak for, or keeps more than that.
#[tokio::test]
async fn retention_goes_on_beside_damage_and_keeps_what_it_may_be_about() {
    let world = world().await;
    for execution in ["intact", "of-a-row", "of-a-run", "of-a-version", "of-a-head"] {
        for text in ["one", "two", "three"] {
            world.write(&key(execution, "m"), text).await;
        }
    }
    let first = world.pond.artifacts().history(&key("of-a-row", "m"), 10, None).await.unwrap().items.pop().unwrap();
    let made = millpond::ArtifactRef::new(key("of-a-row", "m")).version(first.value.version);
    world.pond.lineage().record(NewLineage::of("of-a-row", "r", "a").id("a").artifact(made)).await.unwrap();
    world.pond.runs().start(NewRun::of("etl", 1).id("of-a-run")).await.unwrap();
    let version = world.pond.artifacts().history(&key("of-a-version", "m"), 10, None).await.unwrap().items.pop().unwrap();
    let version = format!("{}/{}", version.value.of, version.value.version);
    let without = async |collection: &str, key: &str, field: &str| {
        let mut damaged = world.pond.store().get(collection, key).await.unwrap().unwrap().value.value().unwrap().clone();
        damaged.as_object_mut().unwrap().remove(field).unwrap();
        let commit = millpond::Commit::new().trusted().put(collection, key, &damaged).unwrap();
        world.pond.commit(commit).await.unwrap();
    };
    without("lineage", "a", "status").await;
    without("runs", "of-a-run", "status").await;
    without("artifact_versions", &version, "version").await;
    without("artifacts", &key("of-a-head", "m"), "sha256").await;

    let asked = PurgeVersions::new(Duration::ZERO, 1);
    for dry in [true, false] {
        let asked = if dry { asked.clone().dry_run() } else { asked.clone() };
        let done = world.pond.artifacts().purge_versions(&asked).await.unwrap();
        // Two of the intact one, and the one of two whose sister is damaged; of the others all stay.
        assert_eq!((done.looked_at, done.purged, done.kept_damaged, done.kept_newest), (15, 3, 8, 4), "{done:?}");
        let named: Vec<&str> = done.damaged.iter().map(|damaged| damaged.what.as_str()).collect();
        assert!(named.len() == 8 && named.contains(&format!("artifact_versions/{version}").as_str()), "{done:?}");
    }
    for (execution, left) in [("intact", 1), ("of-a-row", 3), ("of-a-run", 3), ("of-a-version", 1), ("of-a-head", 3)] {
        let history = world.pond.artifacts().history(&key(execution, "m"), 10, None).await.unwrap();
        assert_eq!(history.items.len(), left, "{execution}");
    }
}
