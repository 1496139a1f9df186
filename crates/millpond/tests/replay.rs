//! Replays: what is published is what was looked at, in the order of the keys, each message once.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    ARTIFACT_REPLAYED, ArtifactKey, Commit, ErrorKind, Event, EventFilter, EventQuery, NewArtifact, NewEvent, OpenOptions, Pond,
    ProblemKind, Provenance, Query, ReplayFilter, ReplayRequest, ReplayStatus, StreamName,
};
use millpond_objects::Folder;

struct World {
    place: tempfile::TempDir,
    pond: Pond,
}

async fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::new(place.path().join("objects")).unwrap();
    let pond = OpenOptions::new().open("memory:").await.unwrap().with_objects(Arc::new(folder));
    World { place, pond }
}

fn key(message: &str) -> String {
    ArtifactKey::new("e1", "crawl", "fetch", message).to_string()
}

fn request() -> ReplayRequest {
    ReplayRequest::of("e1", "crawl", "fetch", "crawl/parse").batch("b1")
}

impl World {
    async fn write(&self, key: &str, text: &str) {
        self.pond.artifacts().write(key, text.to_owned(), NewArtifact::default()).await.unwrap();
    }

    async fn write_all(&self, messages: usize) {
        for n in 0..messages {
            self.write(&key(&format!("m{n:04}")), &format!("text {n}")).await;
        }
    }

    async fn messages(&self, stream: &str) -> Vec<Event> {
        let query = EventQuery { limit: 10_000, ..EventQuery::new(EventFilter::stream(StreamName::new(stream).unwrap())) };
        self.pond.store().events(query).await.unwrap().items
    }

    async fn keys(&self, stream: &str) -> Vec<String> {
        let key = |event: &Event| event.data.value().unwrap()["key"].as_str().unwrap().to_owned();
        self.messages(stream).await.iter().map(key).collect()
    }

    async fn count(&self, collection: &str) -> u64 {
        self.pond.store().count(Query::new(collection).unwrap()).await.unwrap()
    }

    /// The file of an artifact's bytes.
    async fn file(&self, key: &str) -> PathBuf {
        let location = self.pond.artifacts().info(key).await.unwrap().unwrap().value.location;
        let found = find(&self.place.path().join("objects"), location.rsplit('/').next().unwrap());
        found.unwrap_or_else(|| panic!("{location} is not there"))
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if entry.file_name().to_str() == Some(name) {
            return Some(path);
        }
    }
    None
}

/// Catches another order than that of the keys, other stages that are taken along, messages that lack what they name,
/// and a pin that stays.
#[tokio::test]
async fn a_stage_is_published_in_the_order_of_its_keys() {
    let world = world().await;
    for message in ["m10.html", "m2.html", "Z", "ä", "a/b"] {
        world.write(&ArtifactKey::new("e1", "crawl", "fetch", message).to_string(), message).await;
    }
    world.write("executions/e1/crawl/fetch/deep/m1", "another stage").await;
    world.write("executions/e1/crawl/fetched/m1", "another stage").await;
    world.write("executions/e1/other/fetch/m1", "another route").await;
    world.write("executions/e10/crawl/fetch/m1", "another execution").await;

    let plan = world.pond.replays().plan(&request(), 2).await.unwrap();
    assert_eq!((plan.objects, plan.messages.len(), plan.problems_in_all, plan.can_start()), (5, 2, 0, true));
    assert_eq!(world.count("replays").await + world.count("execution_pins").await, 0, "a dry run writes nothing");

    let done = world.pond.replays().start(&request()).await.unwrap();
    assert_eq!((done.status, done.objects, done.published), (ReplayStatus::Completed, 5, 5));
    assert_eq!((done.digest, done.bytes), (plan.digest, plan.bytes));
    let expected = ["Z", "a%2Fb", "m10.html", "m2.html", "ä"].map(key_of_segment);
    assert_eq!(world.keys("crawl/parse").await, expected);
    assert_eq!(done.position.as_ref(), expected.last());
    assert_eq!(world.count("execution_pins").await + world.count("replay_pages").await, 0);

    let message = &world.messages("crawl/parse").await[2];
    let artifact = world.pond.artifacts().info(&expected[2]).await.unwrap().unwrap().value;
    let data = message.data.value().unwrap();
    assert_eq!(message.kind, ARTIFACT_REPLAYED);
    assert_eq!((data["version"].as_str(), data["sha256"].as_str()), (Some(&*artifact.version), Some(&*artifact.sha256)));
    assert_eq!((data["batch"].as_str(), data["message"].as_str()), (Some("b1"), Some("m10")));
    let labels = ["execution", "route", "stage", "batch", "extension"].map(|name| message.labels[name].as_str());
    assert_eq!(labels, ["e1", "crawl", "fetch", "b1", "html"]);
}

fn key_of_segment(segment: &str) -> String {
    format!("executions/e1/crawl/fetch/{segment}")
}

/// Catches a replay that counts what it cannot have instead of refusing, one that stops at the first such object, and
/// one that keeps its pin after it was refused.
#[tokio::test]
async fn one_missing_or_damaged_object_refuses_the_whole_replay_and_all_are_listed() {
    let world = world().await;
    world.write_all(300).await;
    std::fs::remove_file(world.file(&key("m0007")).await).unwrap();
    std::fs::write(world.file(&key("m0150")).await, "next 150").unwrap();
    std::fs::write(world.file(&key("m0299")).await, "short").unwrap();

    let plan = world.pond.replays().plan(&request().expect(key("m9999")), 0).await.unwrap();
    assert_eq!((plan.objects, plan.problems_in_all, plan.can_start()), (297, 4, false));

    let refused = world.pond.replays().start(&request().expect(key("m9999"))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.to_string().contains("4 of 301 objects"), "{refused}");
    let kept = world.pond.replays().list(&ReplayFilter::default()).await.unwrap().items.remove(0).value;
    assert_eq!(kept.status, ReplayStatus::Refused);
    let problems: Vec<(&str, ProblemKind)> = kept.problems.iter().map(|p| (p.key.as_str(), p.kind)).collect();
    let (absent, missing, damaged, short) = (key("m9999"), key("m0007"), key("m0150"), key("m0299"));
    assert_eq!(
        problems,
        [
            (&*absent, ProblemKind::Absent),
            (&*missing, ProblemKind::Missing),
            (&*damaged, ProblemKind::Damaged),
            (&*short, ProblemKind::Damaged)
        ]
    );
    assert_eq!(plan.problems, kept.problems);
    assert!(world.messages("crawl/parse").await.is_empty());
    assert_eq!(world.count("execution_pins").await + world.count("replay_pages").await, 0);

    // Without reading, a byte that was changed is not seen: the length is right.
    let plan = world.pond.replays().plan(&request().no_read_data(), 0).await.unwrap();
    assert_eq!((plan.problems_in_all, plan.read_data), (2, false));
    let nothing = world.pond.replays().start(&ReplayRequest::of("e1", "crawl", "none", "x")).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
}

/// Catches a plan that is made anew after a restart: what was written over since would be published in its new
/// version, or what is new would be published, too, although nobody looked at it.
#[tokio::test]
async fn what_is_published_is_what_was_looked_at() {
    let world = world().await;
    world.write_all(40).await;
    let before = world.pond.artifacts().info(&key("m0030")).await.unwrap().unwrap().value.version;
    let mut asked = request();
    asked.per_commit = 10;
    let replay = world.pond.replays().begin(&asked).await.unwrap();
    // Dropped where a process would be killed: after the second page.
    let (replays, id) = (world.pond.replays(), replay.id.clone());
    let running = tokio::spawn(async move { replays.resume_with(&id, |at| assert!(at.published < 20, "killed here")).await });
    assert!(running.await.unwrap_err().is_panic());
    assert_eq!(world.messages("crawl/parse").await.len(), 20);
    world.write(&key("m0030"), "written over").await;
    world.write(&key("m0031x"), "new").await;
    world.pond.artifacts().delete(&key("m0035")).await.unwrap_err();

    world.pond.locks().force_release(&format!("replays/{}", replay.id), "it was killed", "test").await.unwrap();
    let done = world.pond.replays().resume(&replay.id).await.unwrap();
    assert_eq!((done.status, done.published), (ReplayStatus::Completed, 40));
    let expected: Vec<String> = (0..40).map(|n| key(&format!("m{n:04}"))).collect();
    assert_eq!(world.keys("crawl/parse").await, expected);
    assert_eq!(world.messages("crawl/parse").await[30].data.value().unwrap()["version"], *before);
    // Over is over: nothing is published a second time, and nothing is left to be cancelled.
    assert_eq!(world.pond.replays().resume(&replay.id).await.unwrap().published, 40);
    assert_eq!(world.pond.replays().cancel(&replay.id, "late").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.messages("crawl/parse").await.len(), 40);
}

/// Catches ids of messages that do not follow from batch, key and version.
#[tokio::test]
async fn a_batch_is_published_into_a_stream_once_whoever_replays_it() {
    let world = world().await;
    world.write_all(5).await;
    world.pond.replays().start(&request()).await.unwrap();
    world.write(&key("m0002"), "a new version").await;
    world.pond.replays().start(&request()).await.unwrap();
    assert_eq!(world.messages("crawl/parse").await.len(), 6, "the new version is another message");
    world.pond.replays().start(&request().batch("b2")).await.unwrap();
    assert_eq!(world.messages("crawl/parse").await.len(), 11);
}

/// Catches a wait that misses what arrives while it begins, one that never ends, and one that goes on without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_expected_is_waited_for() {
    let world = world().await;
    world.write_all(3).await;
    let late = request().expect(key("m0001")).expect(key("z-late")).wait(Duration::from_secs(60));
    let replays = world.pond.replays();
    let waiting = tokio::spawn(async move { replays.start(&late).await });
    while world.count("replays").await == 0 {
        tokio::task::yield_now().await;
    }
    assert!(world.messages("crawl/parse").await.is_empty());
    world.write(&key("z-late"), "here it is").await;
    let done = waiting.await.unwrap().unwrap();
    assert_eq!((done.published, done.expect.len()), (4, 0));

    let never = request().expect(key("never")).wait(Duration::from_millis(50));
    let refused = world.pond.replays().start(&never).await.unwrap_err();
    assert!(refused.to_string().contains("1 of 5 objects"), "{refused}");
    let outside = request().expect("executions/e1/crawl/other/m1");
    assert_eq!(world.pond.replays().plan(&outside, 0).await.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Catches pages, a pin or a status that a cancelled replay leaves behind, and a second worker that is let in.
#[tokio::test]
async fn a_replay_is_ended_and_only_one_works_on_it() {
    let world = world().await;
    world.write_all(10).await;
    let replay = world.pond.replays().begin(&request()).await.unwrap();
    let pin = world.pond.pins().get("e1").await.unwrap().unwrap().value.pins.remove(0);
    assert_eq!(world.pond.pins().unpin("e1", &pin.id).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(world.pond.artifacts().delete(&key("m0001")).await.unwrap_err().kind(), ErrorKind::Conflict);

    let lock = millpond::LockRequest::of(format!("replays/{}", replay.id), Duration::from_secs(60)).holder("ben");
    let lease = world.pond.locks().acquire(&lock).await.unwrap();
    for refused in [
        world.pond.replays().resume(&replay.id).await.unwrap_err(),
        world.pond.replays().cancel(&replay.id, "no more").await.unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.to_string().contains("worked on by ben"), "{refused}");
    }
    world.pond.locks().release(&lease).await.unwrap();

    let ended = world.pond.replays().cancel(&replay.id, "no more").await.unwrap();
    assert_eq!((ended.status, ended.reason.as_deref(), ended.published), (ReplayStatus::Cancelled, Some("no more"), 0));
    assert_eq!(world.count("execution_pins").await + world.count("replay_pages").await, 0);
    assert!(world.pond.artifacts().delete(&key("m0001")).await.unwrap());
}

/// Catches requests that are kept unchecked: nobody could carry them out.
#[tokio::test]
async fn what_cannot_be_carried_out_is_refused_at_once() {
    let world = world().await;
    let refused = async |request: ReplayRequest| world.pond.replays().begin(&request).await.unwrap_err().kind();
    assert_eq!(refused(ReplayRequest::of("", "r", "s", "x")).await, ErrorKind::Invalid);
    assert_eq!(refused(ReplayRequest::of("e", "r", "s", "")).await, ErrorKind::Invalid);
    assert_eq!(refused(ReplayRequest::of("e", "r", "s", "artifacts/other")).await, ErrorKind::Invalid);
    assert_eq!(refused(ReplayRequest::of("e", "r", "s", "runs/1")).await, ErrorKind::Invalid);
    assert_eq!(refused(ReplayRequest { per_commit: 0, ..request() }).await, ErrorKind::Invalid);
    assert_eq!(refused(ReplayRequest { per_commit: 257, ..request() }).await, ErrorKind::Invalid);
    assert_eq!(refused(ReplayRequest { expect: vec![key("m"); 1_001], ..request() }).await, ErrorKind::Invalid);
    assert_eq!(world.count("replays").await + world.count("execution_pins").await, 0);

    // What would be kept unchecked, and could not be carried out.
    let says = async |request: ReplayRequest, kind: ErrorKind, words: &str| {
        let begun = world.pond.replays().begin(&request).await.unwrap_err();
        let planned = world.pond.replays().plan(&request, 1).await.unwrap_err();
        for error in [begun, planned] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    };
    says(request().path("de/"), ErrorKind::Invalid, "replay the stage \"fetch/de\"").await;
    says(request().path("de/m"), ErrorKind::Invalid, "with \"m\" as the path").await;
    says(request().path("a\nb"), ErrorKind::Invalid, "no key begins with").await;
    says(request().path("x".repeat(2_048)), ErrorKind::Invalid, "no key begins with").await;
    says(request().expect(format!("{}\n", key("m1"))), ErrorKind::Invalid, "a key that is expected can be none").await;
    says(request().wait(Duration::from_secs(1)), ErrorKind::Invalid, "nothing is expected").await;
    let sealed = Commit::new().append("crawl/parse", NewEvent::of("last", &"one").unwrap()).unwrap().seal("crawl/parse").unwrap();
    world.pond.commit(sealed).await.unwrap();
    says(request(), ErrorKind::Conflict, "is sealed").await;
    world.write(&key("m1"), "one").await;
    world.pond.prunes().run("e1").await.unwrap();
    let elsewhere = ReplayRequest { to_stream: "elsewhere".to_owned(), ..request() };
    says(elsewhere, ErrorKind::Conflict, "e1 was written off").await;
    assert_eq!(world.count("replays").await + world.count("execution_pins").await, 0);
}

/// Catches artifacts below a stage that are left out without a word: those of deeper stages, and those that say they
/// belong elsewhere.
#[tokio::test]
async fn what_lies_below_a_stage_and_is_left_out_is_counted() {
    let world = world().await;
    world.write("executions/e1/crawl/fetch/de/m1", "another stage").await;
    let nothing = world.pond.replays().start(&request()).await.unwrap_err();
    assert!(nothing.to_string().contains("1 artifacts there are of other stages"), "{nothing}");
    world.write(&key("m1"), "one").await;
    let elsewhere =
        NewArtifact { provenance: Provenance { stage: Some("x".to_owned()), ..Provenance::default() }, ..NewArtifact::default() };
    world.pond.artifacts().write(&key("m2"), "two", elsewhere).await.unwrap();
    let plan = world.pond.replays().plan(&request(), 10).await.unwrap();
    assert_eq!((plan.objects, plan.left_out), (1, 2));
    let done = world.pond.replays().start(&request()).await.unwrap();
    assert_eq!((done.published, done.left_out), (1, 2));
    let deeper = ReplayRequest { stage: "fetch/de".to_owned(), ..request() };
    assert_eq!(world.pond.replays().plan(&deeper, 10).await.unwrap().objects, 1);
}
