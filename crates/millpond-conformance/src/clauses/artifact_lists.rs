//! Lists of artifacts: by the bytes that keys begin with, as folders, by what is declared, and their events.

use std::collections::BTreeSet;
use std::sync::Arc;

use millpond::{
    ARTIFACT_DELETED, ARTIFACT_WRITTEN, ArtifactFilter, ErrorKind, EventFilter, EventQuery, Listed, NewArtifact, Pond,
};

use super::artifacts::{read, write};
use super::tools::{joined, refused};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "artifacts":
    prefixes_are_bytes => "a prefix takes the keys that begin with its bytes, whatever characters these are, in their order";
    folders_are_pages => "what lies below a prefix comes once, as artifact or as common prefix, page by page";
    declared_fields_are_asked_together => "artifacts are found by each declared field, and by all that are asked together";
    a_list_skips_nothing_that_stays => "a list that is read while others write holds everything that stays, once, in order";
    events_come_with_their_write => "each write and deletion is an event in the same commit, and none comes of what was refused";
}

/// Keys where careless patterns and orders go wrong.
const KEYS: [&str; 25] = [
    "%",
    "%a",
    "*",
    "A",
    "Z/1",
    "_",
    "a",
    "a b/1",
    "a%/1",
    "a*b",
    "a-",
    "a-b",
    "a-b-c",
    "a.b",
    "a/1",
    "a/10",
    "a/2",
    "a/b/1",
    "a/b/2",
    "a_b/1",
    "axb/1",
    "ab",
    "é/1",
    "日本/1",
    "\u{1F980}/1",
];

async fn filled(ground: &Ground) -> Result<(Pond, Vec<String>), Failure> {
    let pond = ground.pond().await?;
    let mut unit = pond.unit();
    for key in KEYS {
        unit.artifacts().put(key, key).await?;
    }
    unit.commit().await?;
    let mut keys: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
    keys.sort();
    Ok((pond, keys))
}

async fn listed(pond: &Pond, filter: ArtifactFilter) -> Result<Vec<String>, Failure> {
    let mut list = pond.artifacts().list_all(filter);
    let mut found = Vec::new();
    while let Some(artifact) = list.next().await? {
        found.push(artifact.value.key);
        ensure_ends(&found)?;
    }
    Ok(found)
}

fn ensure_ends(found: &[String]) -> Verdict {
    ensure!(found.len() <= 1_000, "a list does not end");
    Ok(())
}

async fn prefixes_are_bytes(ground: Arc<Ground>) -> Verdict {
    let (_, keys) = filled(&ground).await?;
    let other = ground.second_pond().await?;
    let prefixes = ["", "%", "_", "*", "a", "A", "a%", "a_", "a*", "a/", "a/1", "a/b", "a_b", "é", "日", "\u{1F980}", "b", "a?"];
    for prefix in prefixes {
        let expected: Vec<&String> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        for limit in [1, 3, 100] {
            let found = listed(&other, ArtifactFilter::prefix(prefix).limit(limit)).await?;
            ensure_eq!(found.iter().collect::<Vec<_>>(), expected, "keys that begin with {prefix:?}, in pages of {limit}");
        }
        if prefix.is_empty() {
            continue;
        }
        let folder = format!("{}/", prefix.trim_end_matches('/'));
        let expected: Vec<&String> = keys.iter().filter(|key| key.starts_with(&folder)).collect();
        let found = listed(&other, ArtifactFilter { segments: true, ..ArtifactFilter::prefix(prefix) }).await?;
        ensure_eq!(found.iter().collect::<Vec<_>>(), expected, "keys in the folder {prefix:?}");
    }
    let none = other.artifacts().list(&ArtifactFilter::default().limit(0)).await;
    refused(none, ErrorKind::Invalid, "a page of none")?;
    Ok(())
}

/// What a page of folders should hold, worked out from all keys.
fn folders(keys: &[String], prefix: &str, delimiter: &str) -> Vec<String> {
    let below = keys.iter().filter_map(|key| Some((key, key.strip_prefix(prefix)?)));
    let names: BTreeSet<String> = below
        .map(|(key, rest)| match rest.find(delimiter) {
            Some(at) => key[..prefix.len() + at + delimiter.len()].to_owned(),
            None => key.clone(),
        })
        .collect();
    names.into_iter().collect()
}

async fn folders_are_pages(ground: Arc<Ground>) -> Verdict {
    let (pond, keys) = filled(&ground).await?;
    let artifacts = pond.artifacts();
    let asked =
        [("", "/"), ("a", "/"), ("a/", "/"), ("a/b/", "/"), ("", "-"), ("a-", "-"), ("", "b/"), ("é", "/"), ("none", "/")];
    for (prefix, delimiter) in asked {
        let expected = folders(&keys, prefix, delimiter);
        for limit in [1, 2, 5, 100] {
            let (mut found, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
            loop {
                let page = artifacts.list_folder(prefix, delimiter, limit, after.as_deref()).await?;
                ensure!(page.items.len() <= limit, "a page of {limit} holds {}", page.items.len());
                for item in &page.items {
                    let folds = item.name().strip_prefix(prefix).is_some_and(|rest| rest.contains(delimiter));
                    ensure_eq!(matches!(item, Listed::Prefix(_)), folds, "whether {:?} is a prefix", item.name());
                    found.push(item.name().to_owned());
                }
                ensure_ends(&found)?;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            ensure_eq!(found, expected, "below {prefix:?} by {delimiter:?}, in pages of {limit}");
        }
    }
    refused(artifacts.list_folder("", "", 10, None).await, ErrorKind::Invalid, "folders without a delimiter")?;
    Ok(())
}

async fn declared_fields_are_asked_together(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let mut times = Vec::new();
    for n in 0..8_u32 {
        let bit = |at: u32, one: &str, other: &str| Some(if n >> at & 1 == 1 { one } else { other }.to_owned());
        let mut new = NewArtifact { correlation: bit(0, "c%", "c"), document: bit(1, "d1", "d2"), ..NewArtifact::default() };
        new = new.custom("stage", "not the stage");
        let (stage, extension) = (bit(2, "fetch", "fetch2"), bit(0, "html", "txt"));
        let key =
            format!("executions/e{}/r{}/{}/m{n}.{}", n % 2, n / 4, stage.unwrap_or_default(), extension.unwrap_or_default());
        times.push(pond.artifacts().write(&key, "", new).await?.created);
    }
    let text = |text: &str| Some(text.to_owned());
    let all = ArtifactFilter::default;
    let of = |n: u32, ask: &str| match ask {
        "execution" => n % 2 == 1,
        "route" | "stage" => n / 4 == 1,
        "document" => n >> 1 & 1 == 1,
        _ => n & 1 == 1,
    };
    for (what, filter) in [
        ("execution", ArtifactFilter::execution("e1")),
        ("route", ArtifactFilter { route: text("r1"), ..all() }),
        ("stage", ArtifactFilter { stage: text("fetch"), ..all() }),
        ("correlation", ArtifactFilter { correlation: text("c%"), ..all() }),
        ("document", ArtifactFilter { document: text("d1"), ..all() }),
        ("extension", ArtifactFilter { extension: text("html"), ..all() }),
    ] {
        for (more, filter, also) in [
            ("alone", filter.clone(), "execution"),
            ("and a document", ArtifactFilter { document: text("d1"), ..filter.clone() }, "document"),
            ("in pages of one", filter.limit(1), "execution"),
        ] {
            let takes = |n: &u32| of(*n, what) && (also == "execution" || of(*n, also));
            let found: BTreeSet<String> = listed(&other, filter).await?.iter().map(|key| message(key)).collect();
            let expected: BTreeSet<String> = (0..8).filter(takes).map(|n| format!("m{n}")).collect();
            ensure_eq!(found, expected, "artifacts by their {what}, {more}");
        }
    }
    let since = ArtifactFilter { created_from: times.get(4).copied(), ..all() };
    ensure_eq!(listed(&other, since).await?.len(), times.iter().filter(|t| **t >= times[4]).count(), "written at or after");
    let before = ArtifactFilter { created_before: times.get(4).copied(), execution: text("e0"), ..all() };
    let expected = (0..8).filter(|n| n % 2 == 0 && times[*n] < times[4]).count();
    ensure_eq!(listed(&other, before).await?.len(), expected, "written before, of an execution");
    Ok(())
}

/// The message of a key of the convention.
fn message(key: &str) -> String {
    millpond::ArtifactKey::parse(key).map(|key| key.message).unwrap_or_default()
}

async fn a_list_skips_nothing_that_stays(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let mut unit = pond.unit();
    for n in 0..20 {
        unit.artifacts().put(format!("stays/{n:02}"), "x").await?;
    }
    unit.commit().await?;
    let writing = tokio::spawn(async move {
        for n in 0..6 {
            write(&other, &format!("stays/{n:02}-more"), "y").await?;
            write(&other, &format!("stays/{:02}", 19 - n), "written over").await?;
            other.artifacts().delete(&format!("stays/{n:02}-more")).await?;
        }
        Ok(())
    });
    let mut rounds = 0;
    while !writing.is_finished() || rounds == 0 {
        let found = listed(&pond, ArtifactFilter::prefix("stays/").limit(3)).await?;
        ensure!(found.is_sorted_by(|a, b| a < b), "a list holds a key twice or out of order: {found:?}");
        let stayed = found.iter().filter(|key| !key.ends_with("-more")).count();
        ensure_eq!(stayed, 20, "keys that stayed and were listed in round {rounds}");
        rounds += 1;
        tokio::task::yield_now().await;
    }
    joined(writing).await
}

async fn events(pond: &Pond) -> Result<Vec<millpond::Event>, Failure> {
    Ok(pond.store().events(EventQuery::new(EventFilter::streams("artifacts/")).limit(100)).await?.items)
}

async fn events_come_with_their_write(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let key = "executions/e1/crawl/fetch/m1.html";
    let mut unit = pond.unit();
    let written = unit.artifacts().put(key, "<p>").with(NewArtifact { correlation: Some("c1".into()), ..NewArtifact::default() });
    let written = written.await?;
    unit.artifacts().put("loose", "x").await?;
    unit.artifacts().put("came and went", "x").await?;
    unit.artifacts().delete("came and went").await?;
    ensure_eq!(events(&other).await?.len(), 0, "events before the unit is committed");
    let id = unit.unit_id().unwrap_or_default().to_owned();
    let before = pond.store().head().await?;
    let receipt = unit.commit().await?;
    let found = events(&other).await?;
    let of_commit = |event: &millpond::Event| event.position > before && event.position <= receipt.position;
    ensure!(found.iter().all(of_commit), "events are not in the commit of their write: {found:?}, {receipt:?}");
    let streams: BTreeSet<(&str, &str)> = found.iter().map(|e| (e.stream.as_str(), e.kind.as_str())).collect();
    let expected = [("artifacts/executions/e1", ARTIFACT_WRITTEN), ("artifacts/other", ARTIFACT_WRITTEN)];
    ensure_eq!((found.len(), streams), (2, BTreeSet::from(expected)), "events of a unit");
    let event = found.iter().find(|e| e.labels.contains_key("execution"));
    let event = event.ok_or_else(|| Failure("no event names its execution".to_owned()))?;
    let labels: Vec<_> = event.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [("execution", "e1"), ("extension", "html"), ("route", "crawl"), ("stage", "fetch")];
    ensure_eq!(labels, expected, "labels");
    let data = event.data.value()?;
    let said =
        ["key", "version", "sha256", "content_type", "unit"].map(|name| data[name].as_str().unwrap_or_default().to_owned());
    ensure_eq!(said, [key.to_owned(), written.version, written.sha256, written.content_type, id], "what the event says");
    ensure_eq!((event.correlation.as_deref(), data["length"].as_u64()), (Some("c1"), Some(3)), "correlation and length");
    // What is refused or rolled back was never told.
    let exists = pond.artifacts().write(key, "late", NewArtifact::default().create()).await;
    refused(exists, ErrorKind::Conflict, "a create of what is there")?;
    let mut unit = pond.unit();
    unit.artifacts().put(key, "undone").await?;
    unit.rollback().await?;
    ensure_eq!(events(&other).await?.len(), 2, "events after a refusal and a rollback");
    other.artifacts().delete(key).await?;
    let last = events(&pond).await?.pop();
    ensure_eq!(last.map(|e| (e.kind, e.labels.len())), Some((ARTIFACT_DELETED.to_owned(), 4)), "the event of a deletion");
    ensure_eq!(read(&pond, key).await?, None, "what was deleted");
    Ok(())
}
