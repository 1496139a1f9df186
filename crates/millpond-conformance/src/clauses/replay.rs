//! Replays: everything is looked at before the first message, and each message is published once, whoever stops where.

use std::sync::Arc;

use millpond::{
    ARTIFACT_REPLAYED, ArtifactKey, ErrorKind, Event, EventFilter, EventQuery, Pond, ProblemKind, Replay, ReplayFilter,
    ReplayRequest, ReplayStatus, StreamName,
};
use millpond_objects::Location;

use super::artifacts::write;
use super::tools::{SOON, count, joined, left_behind, refused, soon, stop, unless_stopped, write_all};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "replay":
    a_plan_publishes_nothing => "a plan lists the artifacts of a stage by the bytes of their keys, and neither publishes nor pins";
    each_message_once_in_order => "a replay appends one message for each artifact, in the order of the keys, over pages, and takes its pin out";
    it_goes_on_where_it_was => "a replay that is stopped after each of its commits is gone on with by another, and repeats nothing";
    what_is_missing_refuses_all => "one object that is missing, damaged or expected in vain refuses the whole replay, and all are listed";
    a_batch_is_appended_once => "a batch that is replayed again appends only versions that the stream has not, another batch all";
    what_was_looked_at_is_published => "what is written over or added after it was looked at is published as it was then";
    what_is_expected_may_come_late => "a replay that expects an artifact waits for it, and publishes it with the rest";
    a_replay_is_ended => "a replay that is cancelled publishes no more, leaves neither plan nor pin, and is over for everybody";
}

/// Where messages go.
const TARGET: &str = "crawl/parse";

fn key(message: &str) -> String {
    ArtifactKey::new("e1", "crawl", "fetch", message).to_string()
}

/// Two messages a page.
fn request() -> ReplayRequest {
    ReplayRequest { per_commit: 2, ..ReplayRequest::of("e1", "crawl", "fetch", TARGET).batch("b1") }
}

/// Artifacts of these messages, in the order given.
async fn filled(pond: &Pond, messages: &[&str]) -> Result<Vec<String>, Failure> {
    let keys: Vec<String> = messages.iter().map(|message| key(message)).collect();
    write_all(pond, &keys).await?;
    Ok(keys)
}

async fn messages(pond: &Pond) -> Result<Vec<Event>, Failure> {
    let query = EventQuery { limit: 100, ..EventQuery::new(EventFilter::stream(StreamName::new(TARGET)?)) };
    Ok(pond.store().events(query).await?.items)
}

fn text(event: &Event, field: &str) -> Result<String, Failure> {
    let value = event.data.value()?;
    let found = value.get(field).and_then(serde_json::Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Failure(format!("message {} has no {field}: {value}", event.sequence)))
}

async fn keys(pond: &Pond) -> Result<Vec<String>, Failure> {
    messages(pond).await?.iter().map(|event| text(event, "key")).collect()
}

/// How many messages were ever appended.
async fn appended(pond: &Pond) -> Result<u64, Failure> {
    Ok(pond.store().stream(TARGET).await?.map_or(0, |stream| stream.head))
}

/// Neither a pin nor a page of a plan is left.
async fn nothing_is_left(pond: &Pond) -> Verdict {
    ensure_eq!(pond.pins().get("e1").await?.map(|found| found.value.pins), None, "pins of a replay that is over");
    ensure_eq!(count(pond, "replay_pages").await?, 0, "pages of the plan of a replay that is over");
    Ok(())
}

/// Works on a replay until `stops` says so, and answers whether it came to its end.
async fn worked(
    pond: &Pond,
    id: &str,
    stops: impl Fn(u32, &Replay) -> bool + Send + Sync + 'static,
) -> Result<Option<Replay>, Failure> {
    let (replays, id, mut told) = (pond.replays(), id.to_owned(), 0);
    let work = async move {
        let tell = |at: &Replay| {
            told += 1;
            if stops(told, at) {
                stop();
            }
        };
        replays.resume_with(&id, tell).await
    };
    unless_stopped(work).await
}

fn lease(replay: &str) -> String {
    format!("replays/{replay}")
}

async fn a_plan_publishes_nothing(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let mut all: Vec<String> = ["m10.html", "m2.html", "Z", "ä", "a/b"].map(key).into();
    all.extend(
        ["e1/crawl/fetch/deep/m", "e1/crawl/fetched/m", "e1/other/fetch/m", "e10/crawl/fetch/m"]
            .map(|key| format!("executions/{key}")),
    );
    write_all(&pond, &all).await?;
    let plan = other.replays().plan(&request(), 9).await?;
    let planned: Vec<String> = plan.messages.iter().map(|message| message.key.clone()).collect();
    let expected = ["Z", "a/b", "m10.html", "m2.html", "ä"].map(key);
    ensure_eq!(planned, expected, "what would be published");
    let bytes = expected.iter().map(|key| key.len() as u64).sum::<u64>();
    ensure_eq!((plan.objects, plan.bytes, plan.can_start()), (5, bytes, true), "messages, bytes, whether it can start");
    let some = pond.replays().plan(&request(), 2).await?;
    ensure_eq!((some.messages.len(), some.objects, some.digest), (2, 5, plan.digest), "a plan of which less is shown");
    ensure_eq!((appended(&other).await?, count(&other, "replays").await?), (0, 0), "messages and replays after a plan");
    nothing_is_left(&other).await
}

async fn each_message_once_in_order(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let mut expected = filled(&pond, &["m3.html", "m1.html", "m2.html"]).await?;
    expected.sort();
    let plan = other.replays().plan(&request(), 0).await?;
    let done = pond.replays().start(&request()).await?;
    ensure_eq!((done.status, done.objects, done.published, done.pages), (ReplayStatus::Completed, 3, 3, 2), "how it ended");
    ensure_eq!((&done.digest, done.bytes), (&plan.digest, plan.bytes), "what was planned");
    ensure_eq!(done.position.as_ref(), expected.last(), "where it stands");
    let found = messages(&other).await?;
    ensure_eq!(keys(&other).await?, expected, "what was published");
    for (message, key) in found.iter().zip(&expected) {
        let artifact = other.artifacts().info(key).await?.ok_or_else(|| Failure(format!("{key} is gone")))?.value;
        ensure_eq!((message.kind.as_str(), text(message, "batch")?.as_str()), (ARTIFACT_REPLAYED, "b1"), "type and batch");
        let named = (text(message, "version")?, text(message, "sha256")?);
        ensure_eq!(named, (artifact.version, artifact.sha256), "version and digest of {key}");
        let labels = ["execution", "route", "stage", "batch", "extension"].map(|name| message.labels.get(name).cloned());
        ensure_eq!(labels, ["e1", "crawl", "fetch", "b1", "html"].map(|label| Some(label.to_owned())), "labels of {key}");
    }
    nothing_is_left(&other).await?;
    // Over is over, for whoever asks.
    ensure_eq!(other.replays().resume(&done.id).await?, done, "a replay that is over");
    ensure_eq!(appended(&pond).await?, 3, "messages after a replay that is over was resumed");
    Ok(())
}

async fn it_goes_on_where_it_was(ground: Arc<Ground>) -> Verdict {
    let ponds = [ground.pond().await?, ground.second_pond().await?];
    let expected = filled(&ponds[0], &["m1", "m2", "m3", "m4"]).await?;
    let id = ponds[0].replays().begin(&request()).await?.id;
    let mut after_each = Vec::new();
    let done = loop {
        ensure!(after_each.len() < 10, "a replay does not come to its end: {after_each:?}");
        let [own, other] = [0, 1].map(|n| &ponds[(after_each.len() + n) % 2]);
        let done = worked(own, &id, |told, at| told == 2 && !at.status.is_over()).await?;
        after_each.push(appended(other).await?);
        if let Some(done) = done {
            break done;
        }
        let said = refused(other.replays().resume(&id).await, ErrorKind::Conflict, "a second worker")?;
        ensure!(said.contains("worked on by"), "the refusal does not say by whom: {said}");
        left_behind(other, &lease(&id)).await?;
    };
    // Looked at, planned, a page, another, over.
    ensure_eq!(after_each, [0, 0, 2, 4, 4], "messages after each commit");
    ensure_eq!((done.status, done.published), (ReplayStatus::Completed, 4), "how it ended");
    ensure_eq!(keys(&ponds[0]).await?, expected, "what was published");
    nothing_is_left(&ponds[0]).await
}

async fn what_is_missing_refuses_all(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let keys = filled(&pond, &["m1", "m2", "m3", "m4"]).await?;
    let place = ground.objects(pond.store()).await?;
    for (key, bytes) in [(&keys[1], None), (&keys[3], Some(key("m5")))] {
        let info = pond.artifacts().info(key).await?.ok_or_else(|| Failure(format!("{key} is not there")))?;
        let at: Location = info.value.location.parse()?;
        place.remove(&at).await?;
        if let Some(bytes) = bytes {
            place.put(&at, bytes.into(), None).await?;
        }
    }
    let asked = request().expect(key("never"));
    let plan = other.replays().plan(&asked, 0).await?;
    ensure_eq!((plan.objects, plan.problems_in_all, plan.can_start()), (2, 3, false), "messages, problems, whether it can start");
    let said = refused(other.replays().start(&asked).await, ErrorKind::Corrupt, "a replay that lacks objects")?;
    ensure!(said.contains("3 of 5 objects"), "the refusal does not say how many: {said}");
    let kept = pond.replays().list(&ReplayFilter::default()).await?.items;
    let kept = &kept.first().ok_or_else(|| Failure("a replay that was refused is not listed".to_owned()))?.value;
    let problems: Vec<(&str, ProblemKind)> = kept.problems.iter().map(|problem| (&*problem.key, problem.kind)).collect();
    let never = key("never");
    let expected = [(&*never, ProblemKind::Absent), (&*keys[1], ProblemKind::Missing), (&*keys[3], ProblemKind::Damaged)];
    ensure_eq!((kept.status, problems), (ReplayStatus::Refused, expected.to_vec()), "what is kept of it");
    ensure_eq!(&plan.problems, &kept.problems, "what the plan said");
    ensure_eq!(appended(&other).await?, 0, "messages of a replay that was refused");
    let nothing = other.replays().start(&ReplayRequest::of("e1", "crawl", "none", TARGET)).await;
    refused(nothing, ErrorKind::NotFound, "a replay of nothing")?;
    nothing_is_left(&other).await
}

async fn a_batch_is_appended_once(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let first = filled(&pond, &["m1", "m2", "m3"]).await?;
    let mut expected = first.clone();
    for (pond, batch, new) in [(&pond, "b1", vec![]), (&other, "b1", vec![]), (&other, "b2", first.clone())] {
        let done = pond.replays().start(&request().batch(batch)).await?;
        ensure_eq!((done.status, done.published), (ReplayStatus::Completed, 3), "how a replay of {batch} ended");
        expected.extend(new);
        ensure_eq!(keys(pond).await?, expected, "what is published after {batch}");
    }
    write(&pond, &first[1], "a new version").await?;
    other.replays().start(&request()).await?;
    expected.push(first[1].clone());
    ensure_eq!(keys(&pond).await?, expected, "what is published once there is a new version");
    Ok(())
}

async fn what_was_looked_at_is_published(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let expected = filled(&pond, &["m1", "m2", "m3"]).await?;
    let before = pond.artifacts().info(&expected[2]).await?.map(|found| found.value.version);
    let id = pond.replays().begin(&request()).await?.id;
    let stopped = worked(&pond, &id, |_, at| at.published == 2).await?;
    ensure!(stopped.is_none(), "it came to its end before it was stopped");
    write(&other, &expected[2], "written over").await?;
    write(&other, &key("m4"), "new").await?;
    let said = refused(other.artifacts().delete(&expected[2]).await, ErrorKind::Conflict, "a deletion beside a replay")?;
    ensure!(said.contains("e1") && said.contains("pinned"), "the refusal does not say why: {said}");
    left_behind(&other, &lease(&id)).await?;
    let done = other.replays().resume(&id).await?;
    ensure_eq!((done.status, done.published), (ReplayStatus::Completed, 3), "how it ended");
    ensure_eq!(keys(&pond).await?, expected, "what was published");
    let last = messages(&pond).await?.pop().map(|event| text(&event, "version")).transpose()?;
    ensure_eq!(last, before, "the version that was published");
    ensure!(other.artifacts().delete(&expected[2]).await?, "what was to be deleted after the replay was not there");
    Ok(())
}

async fn what_is_expected_may_come_late(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let mut expected = filled(&pond, &["m1", "m2"]).await?;
    expected.push(key("z-late"));
    let asked = request().expect(expected[0].as_str()).expect(expected[2].as_str()).wait(2 * SOON);
    let waiting = pond.clone();
    let waiting = tokio::spawn(async move { Ok(waiting.replays().start(&asked).await?) });
    soon("the replay that waits", async {
        while count(&other, "replays").await.is_ok_and(|replays| replays == 0) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await?;
    ensure_eq!(appended(&other).await?, 0, "messages before everything is there");
    write(&other, &expected[2], "here it is").await?;
    let done = joined(waiting).await?;
    ensure_eq!((done.status, done.published, done.expect.len()), (ReplayStatus::Completed, 3, 0), "how it ended");
    ensure_eq!(keys(&other).await?, expected, "what was published");
    Ok(())
}

async fn a_replay_is_ended(ground: Arc<Ground>) -> Verdict {
    let (pond, other) = (ground.pond().await?, ground.second_pond().await?);
    let expected = filled(&pond, &["m1", "m2", "m3"]).await?;
    let replay = pond.replays().begin(&request()).await?;
    let pins = other.pins().get("e1").await?.map(|found| found.value.pins).unwrap_or_default();
    let own = pins.first().ok_or_else(|| Failure("a replay that began has no pin".to_owned()))?;
    refused(other.pins().unpin("e1", &own.id).await, ErrorKind::Conflict, "taking out the pin of a replay")?;
    let stopped = worked(&pond, &replay.id, |_, at| at.published == 2).await?;
    ensure!(stopped.is_none(), "it came to its end before it was stopped");
    let said = refused(other.replays().cancel(&replay.id, "no more").await, ErrorKind::Conflict, "ending what is worked on")?;
    ensure!(said.contains("worked on by"), "the refusal does not say by whom: {said}");
    left_behind(&other, &lease(&replay.id)).await?;
    let ended = other.replays().cancel(&replay.id, "no more").await?;
    let how = (ended.status, ended.reason.as_deref(), ended.published);
    ensure_eq!(how, (ReplayStatus::Cancelled, Some("no more"), 2), "how it ended");
    nothing_is_left(&pond).await?;
    ensure_eq!(pond.replays().resume(&replay.id).await?, ended, "what a later worker is told");
    let said = refused(pond.replays().cancel(&replay.id, "late").await, ErrorKind::Conflict, "ending what is over")?;
    ensure!(said.contains("cancelled"), "the refusal does not say how it ended: {said}");
    ensure_eq!(keys(&pond).await?, expected[..2], "what was published");
    for (status, found) in [(ReplayStatus::Cancelled, 1), (ReplayStatus::Completed, 0)] {
        let filter = ReplayFilter { statuses: vec![status], ..ReplayFilter::default() };
        ensure_eq!(other.replays().list(&filter).await?.items.len(), found, "replays that are {status}");
    }
    Ok(())
}
