//! Many artifacts: looked at for damage, written to files; and the place of their bytes.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millpond::{Artifact, Commit, ErrorKind, NewArtifact, OpenOptions, Pond, Query, VerifiedArtifacts, VerifyArtifacts};

struct World {
    folder: tempfile::TempDir,
    pond: Pond,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let pond = millpond::open(&folder.path().join("store").display().to_string()).await.unwrap();
    World { folder, pond }
}

impl World {
    async fn write(&self, key: &str, bytes: impl Into<millpond::Body>) -> Artifact {
        self.pond.artifacts().write(key, bytes, NewArtifact::default()).await.unwrap()
    }

    fn object(&self, artifact: &Artifact) -> PathBuf {
        self.folder.path().join("store/objects").join(self.pond.store().store_id()).join(&artifact.location)
    }

    async fn verify(&self, request: VerifyArtifacts) -> VerifiedArtifacts {
        self.pond.artifacts().verify_all(&request, |_, _| {}).await.unwrap()
    }
}

fn below(prefix: &str, read_percent: f64) -> VerifyArtifacts {
    VerifyArtifacts { prefix: prefix.to_owned(), read_percent, ..VerifyArtifacts::default() }
}

#[tokio::test]
async fn every_damaged_or_missing_object_is_named_with_what_was_expected_and_found() {
    let world = world().await;
    let long: Vec<u8> = (0..(2 << 20) + 5).map(|n: usize| (n * n % 251) as u8).collect();
    let [gone, cut, flipped, long_flipped] = [
        world.write("a/gone", "gone").await,
        world.write("a/cut", "cut short").await,
        world.write("a/flipped", "a bit less").await,
        world.write("a/long", long.clone()).await,
    ];
    for n in 0..30 {
        world.write(&format!("b/{n}"), format!("whole {n}")).await;
    }
    assert_eq!(world.verify(below("", 100.0)).await.progress.damaged, 0);
    std::fs::remove_file(world.object(&gone)).unwrap();
    std::fs::write(world.object(&cut), "cut").unwrap();
    std::fs::write(world.object(&flipped), "a bit more").unwrap();
    let mut other = long;
    other[1 << 20] ^= 1;
    std::fs::write(world.object(&long_flipped), &other).unwrap();

    let there = world.verify(below("", 0.0)).await;
    let keys = |done: &VerifiedArtifacts| done.named.iter().map(|d| d.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&there), ["a/cut", "a/gone"], "only lengths were compared");
    assert_eq!((there.progress.of, there.progress.looked_at, there.progress.read), (34, 34, 0));

    let mut told = Vec::new();
    let request = below("", 100.0);
    let read = world.pond.artifacts().verify_all(&request, |_, damaged| told.extend(damaged.cloned())).await.unwrap();
    assert_eq!(keys(&read), ["a/cut", "a/flipped", "a/gone", "a/long"]);
    assert_eq!((told, read.progress.read, read.progress.damaged), (read.named.clone(), 34, 4));
    let said: Vec<_> = read.named.iter().map(|d| (d.location.as_str(), d.found_length)).collect();
    let location = |artifact: &Artifact| artifact.location.clone();
    let (cut_at, flipped_at, gone_at, long_at) = (location(&cut), location(&flipped), location(&gone), location(&long_flipped));
    let lengths = [Some(3), Some(10), None, Some(long_flipped.length)];
    assert_eq!(said, [&cut_at, &flipped_at, &gone_at, &long_at].map(String::as_str).into_iter().zip(lengths).collect::<Vec<_>>());
    for (damaged, was) in read.named.iter().zip([&cut, &flipped, &gone, &long_flipped]) {
        assert_eq!((&damaged.expected_sha256, damaged.expected_length), (&was.sha256, was.length));
        assert_ne!(damaged.found_sha256.as_ref(), Some(&was.sha256));
        assert_eq!(damaged.found_sha256.is_some(), damaged.found_length.is_some());
    }
    assert_eq!(world.verify(below("b/", 100.0)).await.progress.looked_at, 30);

    // What was written over is looked at only when versions are.
    world.write("a/gone", "new").await;
    assert_eq!(keys(&world.verify(below("a/g", 0.0)).await), [""; 0]);
    let versions = world.verify(VerifyArtifacts { versions: true, ..below("", 0.0) }).await;
    assert_eq!(keys(&versions).into_iter().collect::<BTreeSet<_>>(), ["a/cut".to_owned(), "a/gone".to_owned()].into());
    let contradiction = VerifyArtifacts { versions: true, ..below("a", 0.0) };
    assert_eq!(world.pond.artifacts().verify_all(&contradiction, |_, _| {}).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_sample_is_the_same_for_one_seed_and_another_for_another() {
    let world = world().await;
    for n in 0..200 {
        let artifact = world.write(&format!("{n:03}"), "right").await;
        std::fs::write(world.object(&artifact), "wrong").unwrap();
    }
    let sample = async |seed, read_percent| {
        let done = world.verify(VerifyArtifacts { seed, ..below("", read_percent) }).await;
        assert_eq!(done.progress.read, done.progress.damaged, "exactly what is read is found");
        done.named.into_iter().map(|damaged| damaged.key).collect::<BTreeSet<_>>()
    };
    let (first, other) = (sample(1, 25.0).await, sample(2, 25.0).await);
    assert!((20..80).contains(&first.len()), "about 50 of 200: {}", first.len());
    assert_eq!(first, sample(1, 25.0).await);
    assert!(other.difference(&first).count() > 10);
    assert!(sample(1, 40.0).await.is_superset(&first), "a larger share holds the smaller one");
    assert_eq!((sample(1, 0.0).await.len(), sample(1, 100.0).await.len()), (0, 200));
}

fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found
}

#[cfg(unix)]
#[tokio::test]
async fn a_download_has_a_file_a_key_and_goes_on_where_it_was() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    let of = |key: &str| format!("bytes of {key}");
    let new = || NewArtifact {
        provenance: millpond::Provenance { execution: Some("e1".to_owned()), ..millpond::Provenance::default() },
        ..NewArtifact::default()
    };
    let keys = ["executions/e1/r/s/m.html", "a", "a%", "a/b", "a/b/c", "x/%2E%2E/y", "...", "C:\\d"];
    for key in keys {
        artifacts.write(key, of(key), new()).await.unwrap();
    }
    world.write("executions/e2/r/s/m", "another's").await;
    let folder = world.folder.path().join("out");
    let first = artifacts.download("e1", &folder, |_, _| {}).await.unwrap();
    assert_eq!((first.of, first.written, first.were_there, first.named), (8, 8, 0, vec![]));
    // On Unix; elsewhere a colon and a backslash are written, too.
    let expected =
        ["executions/e1/r/s/m.html", "a%", "a%25", "a/b%", "a/b/c", "x/%252E%252E/y", "...", "C:\\d"].map(String::from);
    assert_eq!(files(&folder), expected.clone().into());
    for (key, file) in keys.into_iter().zip(&expected) {
        assert_eq!(std::fs::read_to_string(folder.join(file)).unwrap(), of(key), "{file}");
    }
    // Half of it is gone, one file is wrong, one was cut short, somebody's own file is there.
    std::fs::remove_file(folder.join("a/b/c")).unwrap();
    std::fs::write(folder.join("a%"), "BYTES OF A").unwrap();
    std::fs::write(folder.join("..."), "bytes").unwrap();
    std::fs::write(folder.join("own"), "mine").unwrap();
    let mut told = BTreeSet::new();
    let again =
        artifacts.download("e1", &folder, |_, file| assert!(told.insert((file.key.clone(), file.was_there)))).await.unwrap();
    assert_eq!((again.written, again.were_there, again.failed), (3, 5, 0));
    assert_eq!(
        told.iter().filter(|(_, was_there)| !was_there).map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["...", "a", "a/b/c"]
    );
    assert_eq!(std::fs::read_to_string(folder.join("a%")).unwrap(), of("a"));
    assert_eq!(files(&folder).len(), 9, "nothing else is left");
    let nobody = artifacts.download("nobody", &folder.join("new"), |_, _| {}).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    assert!(!folder.join("new").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_leads_no_download_out_of_its_folder_and_damage_is_no_file() {
    let world = world().await;
    let artifacts = world.pond.artifacts();
    let [link, damaged, whole] = [
        world.write("executions/e1/link/s/m", "one").await,
        world.write("executions/e1/r/s/damaged", "two").await,
        world.write("executions/e1/r/s/whole", "three").await,
    ];
    let (out, elsewhere) = (world.folder.path().join("out"), world.folder.path().join("elsewhere"));
    std::fs::create_dir_all(out.join("executions/e1")).unwrap();
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("executions/e1/link")).unwrap();
    std::fs::write(world.object(&damaged), "TWO").unwrap();
    let done = artifacts.download("e1", &out, |_, _| {}).await.unwrap();
    assert_eq!((done.written, done.failed), (1, 2));
    assert_eq!(done.named.iter().map(|n| n.key.as_str()).collect::<Vec<_>>(), [&link.key, &damaged.key]);
    assert_eq!(files(&elsewhere), BTreeSet::new());
    assert_eq!(std::fs::read_to_string(out.join(&whole.key)).unwrap(), "three");
    assert!(!out.join(&damaged.key).exists());
}

#[tokio::test]
async fn a_file_comes_about_whole_and_takes_the_place_of_what_was_there() {
    let world = world().await;
    let long: Vec<u8> = (0..(9 << 20) + 5).map(|n: usize| (n * n % 251) as u8).collect();
    let artifact = world.write("k", long.clone()).await;
    let file = world.folder.path().join("file");
    std::fs::write(&file, "what was there").unwrap();
    let artifacts = world.pond.artifacts();
    let mut damaged = long.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(world.object(&artifact), &damaged).unwrap();
    assert_eq!(artifacts.save("k", None, &file).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "what was there");
    std::fs::write(world.object(&artifact), &long).unwrap();
    // What the one before left is taken up, and is longer than what is written next.
    let saved = artifacts.save("k", None, &file).await.unwrap();
    assert_eq!((saved.written, std::fs::read(&file).unwrap() == long), (long.len() as u64, true));
    artifacts.save("k", Some(3..7), &file).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), long[3..7]);
    assert_eq!(files(world.folder.path()).iter().filter(|name| name.ends_with(".part")).count(), 0);
}

#[tokio::test]
async fn bytes_that_were_moved_are_looked_for_before_anybody_is_sent_there() {
    let world = world().await;
    let (store, moved) = (world.folder.path().join("store"), world.folder.path().join("moved"));
    let artifacts = world.pond.artifacts();
    assert_eq!(artifacts.place().await.unwrap(), None);
    for n in 0..40 {
        world.write(&format!("k{n}"), format!("bytes {n}")).await;
    }
    assert_eq!(artifacts.place().await.unwrap().as_deref(), Some("beside"));
    let to = moved.display().to_string();
    let missing = artifacts.place_moved(&to).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Corrupt, "{missing}");
    assert_eq!(artifacts.place().await.unwrap().as_deref(), Some("beside"), "nothing changed");

    std::fs::rename(store.join("objects"), &moved).unwrap();
    let done = artifacts.place_moved(&to).await.unwrap();
    assert_eq!(done.from.as_deref(), Some("beside"));
    assert!((8..=40).contains(&done.looked_at), "{}", done.looked_at);
    assert_eq!(artifacts.place().await.unwrap(), Some(done.to));
    world.pond.close().await.unwrap();

    let url = store.display().to_string();
    let elsewhere = millpond::open(&url).await.unwrap();
    assert_eq!(elsewhere.artifacts().read("k1").await.unwrap_err().kind(), ErrorKind::Invalid, "it looks in the old place");
    let there = OpenOptions::new().objects(&to).open(&url).await.unwrap();
    assert_eq!(there.artifacts().read("k1").await.unwrap(), "bytes 1");
    let unknown = there.artifacts().place_moved("beside").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Invalid, "the store's own place is not known where another was named");
    std::fs::rename(&moved, store.join("objects")).unwrap();
    assert_eq!(elsewhere.artifacts().place_moved("beside").await.unwrap().to, "beside");
    assert_eq!(millpond::open(&url).await.unwrap().artifacts().read("k2").await.unwrap(), "bytes 2");
}

/// Catches a sample of folders, of units, of the oldest or of the first page alone, and one that ends at a record that does
/// not read back.
#[tokio::test]
async fn every_object_has_the_same_chance_to_be_looked_for() {
    let world = world().await;
    // One large folder of one unit beside many small ones.
    let keys: Vec<String> = (0..600).map(|n| if n < 400 { format!("large/k{n}") } else { format!("small{n}/k") }).collect();
    let mut unit = world.pond.unit();
    for key in &keys {
        unit.artifacts().put(key, "x").await.unwrap();
    }
    unit.commit().await.unwrap();
    let page = world.pond.store().query(Query::new("artifact_versions").unwrap().limit(600)).await.unwrap();
    let in_order: Vec<String> =
        page.items.iter().map(|version| version.value.value().unwrap()["key"].as_str().unwrap().into()).collect();
    let unreadable = serde_json::json!({ "of": "", "location": "here" });
    let damage = Commit::new().trusted().put("artifact_versions", page.items[0].key.as_str(), &unreadable).unwrap();
    world.pond.commit(damage).await.unwrap();
    let (store, moved) = (world.folder.path().join("store/objects"), world.folder.path().join("moved"));
    std::fs::rename(&store, &moved).unwrap();
    let to = moved.display().to_string();
    assert_eq!(world.pond.artifacts().place_moved(&to).await.unwrap().looked_at, 128);

    // Without the small ones, half of the large one, or what is on the last page of the records, it is refused.
    for (name, lost) in [("small", &keys[400..]), ("large", &keys[..200]), ("last", &in_order[512..])] {
        let aside = world.folder.path().join(name);
        assert!(std::process::Command::new("cp").arg("-r").arg(&moved).arg(&aside).status().unwrap().success());
        for key in lost {
            let artifact = world.pond.artifacts().info(key).await.unwrap().unwrap().value;
            std::fs::remove_file(aside.join(world.pond.store().store_id()).join(&artifact.location)).unwrap();
        }
        let error = world.pond.artifacts().place_moved(&aside.display().to_string()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_place_is_not_changed_under_a_unit() {
    let world = world().await;
    world.write("k", "there").await;
    let moved = world.folder.path().join("moved").display().to_string();
    let copied = std::process::Command::new("cp").arg("-r").arg(world.folder.path().join("store/objects")).arg(&moved).status();
    assert!(copied.unwrap().success());
    let mut unit = world.pond.unit();
    unit.artifacts().put("k", "on its way").await.unwrap();
    let error = world.pond.artifacts().place_moved(&moved).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    unit.rollback().await.unwrap();
    world.pond.artifacts().place_moved(&moved).await.unwrap();
}

/// Catches a look that leaves out the payloads of checkpoints, and one that ends at the first record that does not read
/// back.
#[tokio::test]
async fn payloads_are_looked_at_too_and_an_unreadable_record_does_not_end_it() {
    let world = world().await;
    let scope = millpond::Scope::Run("r1".to_owned());
    let bytes = vec![7_u8; millpond::CHECKPOINT_BYTES + 1];
    world.pond.checkpoints().save_new(&scope, millpond::NewCheckpoint::bytes(bytes)).await.unwrap();
    for key in ["a", "b", "c"] {
        world.write(key, "right").await;
    }
    let whole = world.verify(below("", 100.0)).await;
    assert_eq!((whole.progress.of, whole.progress.looked_at, whole.progress.read, whole.progress.damaged), (4, 4, 4, 0));
    assert_eq!(world.verify(below("a", 100.0)).await.progress.of, 1, "a payload has no key of an artifact");

    let payloads = world.pond.store().query(millpond::Query::new("payload_objects").unwrap()).await.unwrap();
    let payload: millpond::PayloadObject = payloads.items[0].value.decode().unwrap();
    let object = world.folder.path().join("store/objects").join(world.pond.store().store_id()).join(&payload.location);
    std::fs::write(object, vec![8_u8; millpond::CHECKPOINT_BYTES + 1]).unwrap();
    let damaged = millpond::Commit::new().trusted().put("artifacts", "b", &serde_json::json!({"key": "b"})).unwrap();
    world.pond.commit(damaged).await.unwrap();

    assert_eq!(world.verify(below("", 0.0)).await.progress.damaged, 0, "its length is right");
    for versions in [false, true] {
        let done = world.verify(VerifyArtifacts { versions, ..below("", 100.0) }).await;
        let unreadable = u64::from(!versions);
        assert_eq!((done.progress.looked_at, done.progress.damaged, done.progress.unreadable), (4, 1, unreadable));
        assert_eq!(
            (done.named[0].key.as_str(), done.named[0].record.as_str()),
            (payload.owner.as_str(), format!("payload_objects/{}", payload.location).as_str(),)
        );
        assert_eq!(
            done.unreadable_records.iter().map(|r| r.what.as_str()).collect::<Vec<_>>(),
            if versions { vec![] } else { vec!["artifacts/b"] }
        );
    }
}
