//! Pins: what is pinned is not taken away, by whatever way, and of a pin and a deletion at once one comes first.

use std::sync::Arc;
use std::time::Duration;

use millpond::{ArtifactKey, ErrorKind, KeptBecause, NewArtifact, PinFilter, Pins, Pond, PruneObstacle, PurgeVersions};

use super::artifacts::{read, write};
use super::tools::{passed_a_moment, race, refused, stop, two, unless_stopped, write_all};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "pins":
    what_is_pinned_stays => "deleting, alone and in a unit, pruning and purging versions are refused while a pin is there, and say so";
    the_last_pin_frees => "an execution has the pins of all who set one, they are taken out one by one, and the last one frees it";
    pins_are_found => "executions that are pinned are listed by their beginning and by holder, in pages";
    pins_at_once_are_all_kept => "pins that many set and take out at once are all there, and all gone";
    a_pin_or_a_deletion_comes_first => "of a pin and a deletion at once either the deletion came first, or it is refused";
    a_pin_or_a_prune_wins => "of a pin and a prune at once one is refused, and says what is in its way";
}

fn key(execution: &str) -> String {
    ArtifactKey::new(execution, "crawl", "fetch", "m1").to_string()
}

async fn holders(pins: &Pins, execution: &str) -> Result<Vec<String>, Failure> {
    let found = pins.get(execution).await?.map(|found| found.value.pins).unwrap_or_default();
    Ok(found.into_iter().map(|pin| pin.holder).collect())
}

/// The refusal names the execution, and that it is pinned.
fn says_so(said: &str, what: &str) -> Verdict {
    ensure!(said.contains("e1") && said.contains("pinned"), "the refusal of {what} does not say why: {said}");
    Ok(())
}

async fn what_is_pinned_stays(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let key = key("e1");
    for text in ["one", "two"] {
        write(&pond, &key, text).await?;
    }
    let pin = pond.pins().pin("e1", "anna", "the audit").await?;
    says_so(&refused(other.artifacts().delete(&key).await, ErrorKind::Conflict, "a deletion")?, "a deletion")?;
    let mut unit = other.unit();
    unit.artifacts().delete(&key).await?;
    unit.artifacts().put("reports/r1", "never").await?;
    says_so(&refused(unit.commit().await, ErrorKind::Conflict, "a unit that deletes")?, "a unit that deletes")?;
    let plan = other.prunes().plan("e1").await?;
    let reasons: Vec<(PruneObstacle, &str)> = plan.reasons.iter().map(|reason| (reason.obstacle, &*reason.by)).collect();
    ensure_eq!(reasons, [(PruneObstacle::Pinned, "anna")], "what stands against a prune");
    says_so(&refused(other.prunes().run("e1").await, ErrorKind::Conflict, "a prune")?, "a prune")?;
    passed_a_moment().await;
    let purged = other.artifacts().purge_versions(&PurgeVersions::new(Duration::ZERO, 1)).await?;
    ensure_eq!((purged.purged, purged.kept_needed()), (0, 1), "versions purged, and kept because they are needed");
    let needed: Vec<_> = purged.needed.iter().map(|kept| (kept.execution.as_deref(), kept.because)).collect();
    ensure_eq!(needed, [(Some("e1"), KeptBecause::Pinned)], "why they are kept");
    ensure_eq!(read(&pond, &key).await?.as_deref(), Some("two"), "what is read");
    ensure_eq!(read(&pond, "reports/r1").await?, None, "what the unit that was refused wrote");
    ensure_eq!(pond.artifacts().history(&key, 9, None).await?.items.len(), 2, "versions");
    // A pin keeps nobody from writing.
    write(&other, &key, "three").await?;
    other.pins().unpin("e1", &pin.id).await?;
    ensure!(other.artifacts().delete(&key).await?, "what was to be deleted once nobody pins it was not there");
    Ok(())
}

async fn the_last_pin_frees(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    write(&pond, &key("e1"), "one").await?;
    let first = pond.pins().pin("e1", "anna", "the audit").await?;
    let second = other.pins().pin("e1", "ben", "the appeal").await?;
    let third = other.pins().pin("e1", "ben", "the second appeal").await?;
    ensure_eq!(holders(&pond.pins(), "e1").await?, ["anna", "ben", "ben"], "whose pins there are");
    ensure_eq!(pond.pins().unpin("e1", &second.id).await?, second, "the pin that was taken out");
    refused(other.pins().unpin("e1", &second.id).await, ErrorKind::NotFound, "taking out a pin again")?;
    refused(other.pins().unpin("e2", &first.id).await, ErrorKind::NotFound, "taking out a pin of another execution")?;
    let left = other.pins().get("e1").await?.map(|found| found.value.pins);
    ensure_eq!(left, Some(vec![first.clone(), third.clone()]), "the pins that are left");
    for pin in [first, third] {
        refused(other.artifacts().delete(&key("e1")).await, ErrorKind::Conflict, "a deletion while there is a pin")?;
        other.pins().unpin("e1", &pin.id).await?;
    }
    ensure_eq!(pond.pins().get("e1").await?, None, "pins after the last one");
    ensure!(pond.artifacts().delete(&key("e1")).await?, "what was to be deleted was not there");
    for (execution, holder, reason) in [("", "anna", "why"), ("e1", "", "why"), ("e1", "anna", " ")] {
        refused(pond.pins().pin(execution, holder, reason).await, ErrorKind::Invalid, "a pin that does not say enough")?;
    }
    Ok(())
}

async fn pins_are_found(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    for (execution, holder) in [("a%", "anna"), ("a/2", "ben"), ("b1", "anna"), (".x", "ben")] {
        pond.pins().pin(execution, holder, "why").await?;
    }
    let text = |text: &str| Some(text.to_owned());
    let all = PinFilter::default;
    for (filter, expected) in [
        (all(), &[".x", "a%", "a/2", "b1"][..]),
        (PinFilter { prefix: text("a"), ..all() }, &["a%", "a/2"]),
        (PinFilter { prefix: text("a%"), ..all() }, &["a%"]),
        (PinFilter { prefix: text("%"), ..all() }, &[]),
        (PinFilter { holder: text("anna"), ..all() }, &["a%", "b1"]),
        (PinFilter { holder: text("ben"), prefix: text("a"), ..all() }, &["a/2"]),
    ] {
        for limit in [1, 100] {
            let (mut found, mut filter) = (Vec::new(), PinFilter { limit, ..filter.clone() });
            loop {
                let page = other.pins().list(&filter).await?;
                ensure!(page.items.len() <= limit && found.len() < 10, "a page of {limit} is longer, or there is no last one");
                found.extend(page.items.into_iter().map(|item| item.value.execution));
                filter.after = page.next;
                if filter.after.is_none() {
                    break;
                }
            }
            found.sort();
            ensure_eq!(found, expected, "executions by {filter:?}");
        }
    }
    Ok(())
}

async fn pins_at_once_are_all_kept(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let set = race(&stores, 6, |i, store| async move {
        Ok(Pond::new(store).await?.pins().pin("e1", &format!("racer {i}"), "racing").await?.id)
    })
    .await?;
    let pond = ground.second_pond().await?;
    let mut found = holders(&pond.pins(), "e1").await?;
    found.sort();
    ensure_eq!(found, (0..6).map(|i| format!("racer {i}")).collect::<Vec<_>>(), "whose pins there are");
    race(&stores, 6, move |i, store| {
        let id = set[i].clone();
        async move { Ok(Pond::new(store).await?.pins().unpin("e1", &id).await?) }
    })
    .await?;
    ensure_eq!(pond.pins().get("e1").await?, None, "pins after all were taken out");
    Ok(())
}

/// What was done, or `None` when it was refused because of the other.
fn unless_in_the_way<T>(done: millpond::Result<T>, why: &str) -> Result<Option<T>, Failure> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            ensure!(error.to_string().contains(why), "the refusal does not say that it is {why}: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn a_pin_or_a_deletion_comes_first(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let executions = ["e1", "e2", "e3"];
    write_all(&pond, &executions.map(key)).await?;
    for execution in executions {
        let again = Arc::clone(&ground);
        let deleted = race(&two(&ground).await?, 2, move |i, store| {
            let ground = Arc::clone(&again);
            async move {
                let pond = ground.pond_on(store).await?;
                if i == 0 {
                    pond.pins().pin(execution, "anna", "racing").await?;
                    return Ok(None);
                }
                unless_in_the_way(pond.artifacts().delete(&key(execution)).await, "pinned")
            }
        })
        .await?[1];
        let pin = pond.pins().get(execution).await?;
        let pin = pin.ok_or_else(|| Failure(format!("the pin of {execution} was acknowledged and is not there")))?;
        let there = read(&pond, &key(execution)).await?.is_some();
        ensure_eq!(there, deleted.is_none(), "whether there is what {execution} had (deleted: {deleted:?})");
        if !there {
            let last = pond.artifacts().history(&key(execution), 1, None).await?.items;
            let first = last.first().is_some_and(|deletion| deletion.position < pin.position);
            ensure!(first, "{execution} was pinned first, and its artifact is gone");
        }
    }
    Ok(())
}

async fn a_pin_or_a_prune_wins(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    pond.artifacts().write(&key("e1"), "one", NewArtifact::default()).await?;
    let again = Arc::clone(&ground);
    let done = race(&two(&ground).await?, 2, move |i, store| {
        let ground = Arc::clone(&again);
        async move {
            let pond = ground.pond_on(store).await?;
            if i == 0 {
                let pinned = pond.pins().pin("e1", "anna", "racing").await;
                return Ok(unless_in_the_way(pinned, "written off")?.is_some());
            }
            let (prunes, mut commits) = (pond.prunes(), 0);
            let pruned = unless_stopped(async move {
                let tell = |_: &_| {
                    commits += 1;
                    if commits > 50 {
                        stop();
                    }
                };
                Ok(prunes.run_with("e1", tell).await)
            })
            .await?;
            let pruned = pruned.ok_or_else(|| Failure("a prune does not come to its end".to_owned()))?;
            Ok(unless_in_the_way(pruned, "pinned")?.is_some())
        }
    })
    .await?;
    ensure!(done[0] != done[1], "pinned: {}, pruned: {}", done[0], done[1]);
    ensure_eq!(read(&pond, &key("e1")).await?.is_some(), done[0], "whether the artifact is there");
    ensure_eq!(pond.pins().get("e1").await?.is_some(), done[0], "whether there is a pin");
    Ok(())
}
