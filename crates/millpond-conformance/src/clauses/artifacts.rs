//! Artifacts: what is written is read as it was, by anybody, with all that was said of it.

use std::sync::Arc;

use bytes::Bytes;
use millpond::{Artifact, Artifacts, Body, ErrorKind, NewArtifact, Only, Pond, Provenance};
use millpond_objects::{BLOCK, Location};
use serde_json::{Value, json};

use super::tools::{race, refused, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "artifacts":
    what_is_written_is_read => "an artifact is read by another handle as it was written: whole, in ranges, piece by piece";
    all_that_is_said_of_one_is_kept => "metadata of every kind comes back as it was given, and what was not said is found out";
    every_version_stays => "each write and each deletion is a version, newest first, whose bytes are read also after a deletion";
    a_copy_moves_no_byte => "a copy names the same bytes, and goes its own way when its source does";
    keys_collide_with_nothing => "keys that look like notes, locations, claims or leases are keys as any others";
    many_keys_answer_each => "a read of many keys answers for each of them, in their order";
    damage_is_named => "bytes that are damaged, cut, longer or gone are never handed out; the error names what and where";
    one_of_many_creates => "of many who create one artifact at once one does, and its bytes are there";
    one_of_many_replaces => "of many who replace one revision at once one does";
    the_place_is_remembered => "a process that keeps bytes elsewhere is refused, told both places, and leaves nothing in the way";
}

/// Bytes that are not the same anywhere.
pub(super) fn bytes(length: usize) -> Bytes {
    (0..length).map(|n| (n.wrapping_mul(n) % 251) as u8).collect()
}

/// Writes a text, whatever is there.
pub(super) async fn write(pond: &Pond, key: &str, text: impl Into<String>) -> Result<Artifact, Failure> {
    Ok(pond.artifacts().write(key, text.into(), NewArtifact::default()).await?)
}

/// What is read under a key, as text; `None` where there is nothing.
pub(super) async fn read(pond: &Pond, key: &str) -> Result<Option<String>, Failure> {
    match pond.artifacts().read(key).await {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Every object there is.
pub(super) async fn objects(ground: &Ground, pond: &Pond) -> Result<Vec<String>, Failure> {
    let place = ground.objects(pond.store()).await?;
    let (mut found, mut after): (Vec<String>, Option<Location>) = (Vec::new(), None);
    loop {
        let page = place.list(after.as_ref(), 100).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.location.clone());
        found.extend(page.iter().map(|object| object.location.to_string()));
    }
}

async fn found(artifacts: &Artifacts, key: &str) -> Result<Artifact, Failure> {
    let found = artifacts.info(key).await?;
    Ok(found.ok_or_else(|| Failure(format!("there is no artifact {key:?}")))?.value)
}

async fn what_is_written_is_read(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let (writes, reads) = (pond.artifacts(), other.artifacts());
    let (long, longer) = (BLOCK + 1, 4 * BLOCK + 7);
    for (lengths, pieces) in [
        (&[0, 1, 1_000, BLOCK, long, longer][..], None),
        (&[0, 1_000], Some(100)),
        (&[BLOCK, long, 2 * BLOCK + 7], Some(300_000)),
    ] {
        for &length in lengths {
            let (key, all) = (format!("a/{length}-{pieces:?}"), bytes(length));
            let body = match pieces {
                None => Body::from(all.clone()),
                Some(long) => {
                    let cut: Vec<_> = all.chunks(long).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                    Body::stream(futures_util::stream::iter(cut))
                }
            };
            let written = writes.write(&key, body, NewArtifact::default()).await?;
            ensure_eq!(written.length, length as u64, "the length of {key}");
            ensure_eq!(found(&reads, &key).await?, written, "what another handle knows of {key}");
            ensure!(reads.read(&key).await? == all, "{key} does not come back whole");
            for range in [0..1, 0..length, length / 2..length, BLOCK - 1..BLOCK + 1, length..length + 9] {
                let expected = all.slice(range.start.min(length)..range.end.min(length));
                let range = range.start as u64..range.end as u64;
                ensure!(reads.read_range(&key, range.clone()).await? == expected, "{range:?} of {key} is not what was written");
            }
            let mut reader = reads.reader(&key, None).await?;
            let mut read = Vec::new();
            while let Some(piece) = reader.next().await? {
                read.extend_from_slice(&piece);
            }
            ensure!(all == read, "{key} does not come back piece by piece");
        }
    }
    ensure!(reads.exists("a/0-None").await? && !reads.exists("a").await?, "what exists is not what was written");
    refused(reads.read("a").await, ErrorKind::NotFound, "a read of what is not there")?;
    Ok(())
}

/// Everything that can be said of an artifact.
fn all_fields() -> NewArtifact {
    let text = |text: &str| Some(text.to_owned());
    let mut new = NewArtifact {
        content_type: text("application/x-own; charset=utf-8"),
        provenance: Provenance {
            execution: text("exécution/1"),
            route: text("route 100%"),
            stage: text("boost/compacted"),
            adapter: text("crawler"),
            message: text("m_1"),
            written_at: Some(millpond::Timestamp::from_micros(1_767_603_600_123_456)),
        },
        config_hash: text("sha256:00ff"),
        lineage: text("lineage/7"),
        correlation: text("c-1"),
        document: text(&"d".repeat(1_024)),
        original_key: text("s3://elsewhere/päth"),
        ..NewArtifact::default()
    };
    for (name, value) in [
        ("null", Value::Null),
        ("", json!("an empty name")),
        ("numbers", json!([0, -1, i64::MAX, i64::MIN, 0.1, -1.5e-300])),
        ("nested", json!({"a": [{"b": {"": [[], {}, null, true]}}]})),
        ("käse/日本\u{1F980}", json!("línea\nzwei\ttab \"quoted\" \\ \u{7f}")),
        ("long", json!("x".repeat(100_000))),
        ("execution", json!("a custom field of the same name as another")),
        ("extra", json!({"key": 1})),
    ] {
        new = new.custom(name, value);
    }
    new
}

async fn all_that_is_said_of_one_is_kept(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let new = all_fields();
    let began = pond.store().now();
    let written = pond.artifacts().write("k.JSON", "{}", new.clone()).await?;
    let found = found(&other.artifacts(), "k.JSON").await?;
    ensure_eq!(found, written, "what another handle knows");
    ensure_eq!(found.provenance, new.provenance, "provenance");
    ensure_eq!(found.custom, new.custom, "fields of one's own");
    let said = [&found.config_hash, &found.lineage, &found.correlation, &found.document, &found.original_key];
    let given = [&new.config_hash, &new.lineage, &new.correlation, &new.document, &new.original_key];
    ensure_eq!(said, given, "config hash, lineage, correlation, document and original key");
    ensure_eq!((Some(&found.content_type), found.extension.as_deref()), (new.content_type.as_ref(), Some("json")), "kinds");
    ensure!(found.created >= began, "it was written at {} and not before {began}", found.created);
    ensure_eq!(found.sha256, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "the digest of two braces");
    // What was not said is taken from the key and from the bytes.
    let key = "executions/e 1/crawl/fetch/deep/m1.Html";
    let found = pond.artifacts().write(key, "<p>", NewArtifact::default()).await?;
    let Provenance { execution, route, stage, message, .. } = &found.provenance;
    let parts = [execution, route, stage, message].map(|part| part.as_deref().unwrap_or_default());
    ensure_eq!(parts, ["e 1", "crawl", "fetch/deep", "m1"], "the parts of a key of the convention");
    ensure_eq!((found.extension.as_deref(), found.content_type.as_str()), (Some("html"), "text/html"), "kinds");
    let png = pond.artifacts().write("picture", &b"\x89PNG\r\n\x1a\n"[..], NewArtifact::default()).await?;
    ensure_eq!((png.content_type.as_str(), png.extension), ("image/png", None), "what the bytes say");
    let long = NewArtifact { correlation: Some("c".repeat(1_025)), ..NewArtifact::default() };
    let said = refused(pond.artifacts().write("long", "", long).await, ErrorKind::Invalid, "a correlation beyond the limit")?;
    ensure!(said.contains("correlation") && said.contains("1024"), "the refusal names neither field nor limit: {said}");
    Ok(())
}

async fn every_version_stays(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    write(&pond, "other", "another artifact").await?;
    let mut expected = Vec::new();
    for n in 0..4 {
        expected.push(Some(write(if n % 2 == 0 { &pond } else { &other }, "k", format!("version {n}")).await?));
        if n == 1 {
            ensure!(pond.artifacts().delete("k").await?, "a deletion says that nothing was there");
            ensure!(!other.artifacts().delete("k").await?, "a second deletion says that something was there");
            expected.push(None);
            ensure_eq!(read(&other, "k").await?, None, "a deleted artifact");
        }
    }
    let artifacts = other.artifacts();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = artifacts.history("k", 2, after).await?;
        found.extend(page.items.into_iter().map(|version| version.value));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.reverse();
    ensure_eq!(found.iter().map(|v| v.artifact.clone()).collect::<Vec<_>>(), expected, "the history, oldest first");
    for (n, version) in found.iter().enumerate() {
        let read = artifacts.read_version("k", &version.version).await;
        match &version.artifact {
            None => drop(refused(read, ErrorKind::NotFound, "the bytes of a deletion")?),
            Some(_) => ensure_eq!(read?, format!("version {}", if n > 2 { n - 1 } else { n }), "the bytes of version {n}"),
        }
    }
    ensure_eq!(artifacts.history("k ", 9, None).await?.items.len(), 0, "versions of another key");
    Ok(())
}

async fn a_copy_moves_no_byte(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let source = pond.artifacts().write("executions/e1/r/s/m.txt", "as it was", all_fields()).await?;
    let copy = other.artifacts().copy("executions/e1/r/s/m.txt", "executions/e2/r2/s2/n").await?;
    ensure_eq!(objects(&ground, &pond).await?.len(), 1, "objects after a copy");
    ensure_eq!((&copy.sha256, copy.length, &copy.custom), (&source.sha256, source.length, &source.custom), "what a copy keeps");
    ensure_eq!(copy.provenance.execution.as_deref(), Some("e2"), "the execution that the copy's key says");
    let again = pond.artifacts().copy("executions/e2/r2/s2/n", "plain").await?;
    ensure_eq!(again.original_key, source.original_key, "where a copy of a copy comes from");
    let plain = write(&pond, "first", "first").await?;
    let from = other.artifacts().copy("first", "second").await?.original_key;
    ensure_eq!(from, Some(plain.key), "where a copy comes from");
    // The source goes on without its copies.
    write(&pond, "executions/e1/r/s/m.txt", "as it is").await?;
    pond.artifacts().delete("first").await?;
    ensure_eq!(read(&other, "plain").await?.as_deref(), Some("as it was"), "a copy whose source was written over");
    ensure_eq!(read(&other, "second").await?.as_deref(), Some("first"), "a copy whose source was deleted");
    refused(pond.artifacts().copy("first", "third").await, ErrorKind::NotFound, "a copy of nothing")?;
    ensure_eq!(read(&other, "third").await?, None, "what a copy of nothing left");
    Ok(())
}

async fn keys_collide_with_nothing(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let first = write(&pond, "x", "x").await?;
    let mut keys = vec![
        "x.meta.json".to_owned(),
        "x/y".to_owned(),
        first.location.clone(),
        format!("{}.meta.json", first.location),
        format!("units/{}", first.version),
        "units/collector".to_owned(),
        "floor".to_owned(),
        "place".to_owned(),
        "X".to_owned(),
        "%_*?[x]".to_owned(),
        "ünïcode/\u{1F980}".to_owned(),
        "executions/e/r/s/m.meta.json".to_owned(),
        "k".repeat(2_048),
    ];
    for key in &keys {
        write(&pond, key, key).await?;
    }
    keys.push("x".to_owned());
    keys.sort();
    for key in &keys {
        ensure_eq!(read(&other, key).await?.as_ref(), Some(key), "what is read under {key:?}");
    }
    let listed = super::tools::keys(other.store(), &millpond::Query::new("artifacts")?).await?;
    ensure_eq!(listed, keys, "the keys there are");
    ensure!(other.artifacts().delete("x").await?, "x is not there");
    ensure_eq!(read(&pond, "x.meta.json").await?.as_deref(), Some("x.meta.json"), "what looks like the note of a deleted key");
    for wrong in ["", "/", "a//b", "a/", "../x", "a\nb", &"k".repeat(2_049)] {
        let said = refused(pond.artifacts().write(wrong, "", NewArtifact::default()).await, ErrorKind::Invalid, wrong)?;
        ensure!(said.contains("artifact"), "the refusal of {wrong:?} does not say what it is about: {said}");
    }
    Ok(())
}

async fn many_keys_answer_each(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    for key in ["a", "c", "gone", "damaged"] {
        write(&pond, key, key).await?;
    }
    pond.artifacts().delete("gone").await?;
    let damaged = found(&pond.artifacts(), "damaged").await?;
    ground.objects(pond.store()).await?.remove(&damaged.location.parse()?).await?;
    let asked = ["c", "b", "a", "damaged", "gone", "a"];
    let answers = other.artifacts().read_many(&asked).await?;
    let told: Vec<_> =
        answers.iter().map(|(key, answer)| (key.as_str(), answer.as_ref().map_err(|e| e.kind()).cloned())).collect();
    let (gone, here) = (Err(ErrorKind::NotFound), |text: &'static str| Ok(Bytes::from_static(text.as_bytes())));
    let expected = [here("c"), gone.clone(), here("a"), Err(ErrorKind::Corrupt), gone, here("a")];
    ensure_eq!(told, asked.into_iter().zip(expected).collect::<Vec<_>>(), "answers");
    let many = vec!["a"; 1_001];
    let said = refused(other.artifacts().read_many(&many).await, ErrorKind::Invalid, "too many keys")?;
    ensure!(said.contains("1000"), "the refusal does not name the limit: {said}");
    Ok(())
}

async fn damage_is_named(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let place = ground.objects(pond.store()).await?;
    for length in [1_000, BLOCK + 100] {
        let key = format!("k{length}");
        let all = bytes(length);
        pond.artifacts().write(&key, all.clone(), NewArtifact::default()).await?;
        let artifact = found(&pond.artifacts(), &key).await?;
        let at: Location = artifact.location.parse()?;
        for damage in ["a bit", "cut", "longer", "gone"] {
            let mut bytes = all.to_vec();
            match damage {
                "a bit" => bytes[length / 2] ^= 1,
                "cut" => bytes.truncate(length - 1),
                "longer" => bytes.push(0),
                _ => bytes.clear(),
            }
            place.remove(&at).await?;
            if damage != "gone" {
                place.put(&at, bytes.into(), None).await?;
            }
            is_named(&other, &artifact, &format!("{damage}, {length} bytes")).await?;
        }
        place.put(&at, all.clone(), None).await?;
        ensure!(other.artifacts().read(&key).await? == all, "an object that was restored is not read");
    }
    Ok(())
}

/// Every way to read a damaged artifact is refused, and the refusal says what is wrong.
async fn is_named(pond: &Pond, artifact: &Artifact, damage: &str) -> Verdict {
    let (artifacts, key) = (pond.artifacts(), artifact.key.as_str());
    let middle = artifact.length / 2..artifact.length / 2 + 1;
    let mut reader = artifacts.reader(key, None).await?;
    let answers = [
        ("read", artifacts.read(key).await.map(drop)),
        ("a range", artifacts.read_range(key, middle).await.map(drop)),
        ("a reader", reader.next().await.map(drop)),
        ("a version", artifacts.read_version(key, &artifact.version).await.map(drop)),
        ("verify", artifacts.verify(artifact, true).await),
    ];
    for (how, answer) in answers {
        // A range of a long object is compared block by block: it need not look at the end.
        let Err(error) = answer else {
            let intact = artifact.length > BLOCK as u64 && (damage.starts_with("cut") || damage.starts_with("longer"));
            ensure!(how == "a range" && intact, "{damage}: {how} was answered");
            continue;
        };
        ensure_eq!(error.kind(), ErrorKind::Corrupt, "{damage}: {how}: {error}");
        let said: Vec<_> = error.context().map(|(name, value)| (name, value.to_owned())).collect();
        for (name, value) in [("key", key), ("location", &artifact.location), ("expected_sha256", &artifact.sha256)] {
            ensure!(said.contains(&(name, value.to_owned())), "{damage}: {how} does not name the {name}: {error:?}");
        }
        let finds = said.iter().any(|(name, _)| *name == "found_sha256") || error.to_string().contains("bytes long");
        let finds = finds || error.to_string().contains("missing") || artifact.length > BLOCK as u64;
        ensure!(finds, "{damage}: {how} does not say what was found: {error:?}");
    }
    Ok(())
}

/// What racers with one condition got: how many won, and that the others were told of a conflict.
async fn winners(ground: &Arc<Ground>, only: Only) -> Result<Vec<usize>, Failure> {
    let again = Arc::clone(ground);
    let won = race(&two(ground).await?, 8, move |i, store| {
        let ground = Arc::clone(&again);
        async move {
            let pond = ground.pond_on(store).await?;
            let new = NewArtifact { only, ..NewArtifact::default() };
            match pond.artifacts().write("k", format!("racer {i}"), new).await {
                Ok(_) => Ok(Some(i)),
                Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
    })
    .await?;
    Ok(won.into_iter().flatten().collect())
}

async fn one_of_many_creates(ground: Arc<Ground>) -> Verdict {
    let won = winners(&ground, Only::New).await?;
    ensure_eq!(won.len(), 1, "racers that were told that they made it");
    let pond = ground.pond().await?;
    ensure_eq!(read(&pond, "k").await?, Some(format!("racer {}", won[0])), "whose bytes are there");
    ensure_eq!(pond.artifacts().history("k", 9, None).await?.items.len(), 1, "versions");
    let exists = pond.artifacts().write("k", "late", NewArtifact::default().create()).await;
    refused(exists, ErrorKind::Conflict, "a create of what is there")?;
    pond.artifacts().delete("k").await?;
    pond.artifacts().write("k", "anew", NewArtifact::default().create()).await?;
    ensure_eq!(read(&pond, "k").await?.as_deref(), Some("anew"), "what was created after a deletion");
    Ok(())
}

async fn one_of_many_replaces(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    write(&pond, "k", "before").await?;
    let revision = pond.artifacts().info("k").await?.map_or(0, |found| found.revision);
    let won = winners(&ground, Only::Revision(revision)).await?;
    ensure_eq!(won.len(), 1, "racers that were told that they replaced it");
    ensure_eq!(read(&pond, "k").await?, Some(format!("racer {}", won[0])), "whose bytes are there");
    ensure_eq!(pond.artifacts().history("k", 9, None).await?.items.len(), 2, "versions");
    let stale = NewArtifact { only: Only::Revision(revision), ..NewArtifact::default() };
    let said = refused(pond.artifacts().write("k", "late", stale).await, ErrorKind::Conflict, "a revision that is gone")?;
    ensure!(said.contains(&revision.to_string()), "the refusal does not name the revision: {said}");
    Ok(())
}

async fn the_place_is_remembered(ground: Arc<Ground>) -> Verdict {
    let (pond, store) = (ground.pond().await?, ground.second_store().await?);
    write(&pond, "k", "here").await?;
    let elsewhere = ground.other_objects("elsewhere")?;
    let here = ground.objects(&store).await?;
    let other = Pond::new(store).await?.with_objects(Arc::clone(&elsewhere));
    for (what, answer) in [
        ("a write", other.artifacts().write("k", "there", NewArtifact::default()).await.map(drop)),
        ("a read", other.artifacts().read("k").await.map(drop)),
        ("a collection", other.units().collect(&millpond::CollectRequest::default()).await.map(drop)),
    ] {
        let said = refused(answer, ErrorKind::Invalid, &format!("{what} of a process that looks elsewhere"))?;
        let both = said.contains(here.place()) && said.contains(elsewhere.place());
        ensure!(both, "{what}: the refusal does not name both places: {said}");
    }
    ensure_eq!(elsewhere.list(None, 10).await?.len(), 0, "objects elsewhere");
    write(&pond, "k", "here again").await?;
    ensure_eq!(read(&ground.second_pond().await?, "k").await?.as_deref(), Some("here again"), "what is read");
    Ok(())
}
