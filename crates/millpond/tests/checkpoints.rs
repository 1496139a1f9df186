//! Checkpoints: dense versions, one row a save, chunks that are verified, restores that can be repeated.

use millpond::{CHECKPOINT_BYTES, CheckpointInfo, ErrorKind, NewCheckpoint, Payload, Pond, Query, Scope};
use serde_json::json;

async fn pond() -> Pond {
    millpond::open("memory:").await.expect("opens")
}

fn run() -> Scope {
    Scope::Run("r1".into())
}

async fn versions(pond: &Pond, scope: &Scope) -> Vec<i64> {
    let page = pond.checkpoints().list(scope, 1_000, None).await.expect("lists");
    page.items.iter().map(|c| c.version).collect()
}

async fn rows(pond: &Pond, collection: &str) -> u64 {
    pond.store().count(Query::new(collection).expect("name")).await.expect("counts")
}

#[tokio::test]
async fn versions_are_dense_and_scopes_are_apart() {
    let pond = pond().await;
    let checkpoints = pond.checkpoints();
    let scopes = [run(), Scope::Session("r1".into()), Scope::Workflow("r1".into())];
    for scope in &scopes {
        for n in 1..=3i64 {
            let saved = checkpoints.save(scope, &json!({"n": n, "of": scope.name()})).await.expect("saves");
            assert_eq!((saved.version, saved.parent), (n, (n > 1).then_some(n - 1)));
        }
    }
    for scope in &scopes {
        assert_eq!(versions(&pond, scope).await, [3, 2, 1]);
        let latest = checkpoints.latest(scope).await.expect("reads").expect("is there");
        assert_eq!(latest.payload, Payload::Json(json!({"n": 3, "of": scope.name()})));
        let second = checkpoints.load(scope, 2).await.expect("reads").expect("is there");
        assert_eq!(second.json::<serde_json::Value>().expect("json")["n"], 2);
    }
    assert_eq!(checkpoints.load(run(), 4).await.expect("reads"), None);
    assert_eq!(checkpoints.latest("other").await.expect("reads"), None);
    let listed = checkpoints.scopes("session/", 10, None).await.expect("lists");
    assert_eq!(listed.items.iter().map(|s| s.scope.as_str()).collect::<Vec<_>>(), ["session/r1"]);
}

#[tokio::test]
async fn every_payload_comes_back() {
    let checkpoints = pond().await.checkpoints();
    let payloads = [json!(null), json!({}), json!(""), json!(1.5), json!({"payload": null, "version": 9, "chunks": 3})];
    for payload in payloads {
        let saved = checkpoints.save(run(), &payload).await.expect("saves");
        let loaded = checkpoints.load(run(), saved.version).await.expect("reads").expect("is there");
        assert_eq!((loaded.info, loaded.payload), (saved, Payload::Json(payload)));
    }
    let saved = checkpoints.save_new(run(), NewCheckpoint::bytes(Vec::new())).await.expect("saves");
    let loaded = checkpoints.load(run(), saved.version).await.expect("reads").expect("is there");
    assert_eq!(loaded.bytes().expect("bytes"), Vec::<u8>::new());
}

#[tokio::test]
async fn a_save_is_one_row_and_needs_no_read() {
    let pond = pond().await;
    pond.checkpoints().save(run(), &"first").await.expect("saves");
    let before = pond.store().head().await.expect("reads");
    let payload = "x".repeat(4096);
    let (_, part) = pond.checkpoints().save_part(run(), &NewCheckpoint::json(&payload).expect("json")).await.expect("a part");
    assert_eq!((part.writes.len(), part.appends.len()), (1, 0));
    pond.checkpoints().save(run(), &payload).await.expect("saves");
    assert_eq!(pond.store().head().await.expect("reads").0, before.0 + 1, "one change");
}

#[tokio::test]
async fn writers_that_race_leave_no_gap() {
    let pond = pond().await;
    // Each task has a memory of its own, as a process of its own would have.
    let saves = (0..8).map(|n| {
        let store = pond.store().clone();
        tokio::spawn(async move {
            let pond = Pond::new(store).await.expect("opens");
            for i in 0..5 {
                pond.checkpoints().save(run(), &json!([n, i])).await.expect("saves");
            }
        })
    });
    for save in saves.collect::<Vec<_>>() {
        save.await.expect("joins");
    }
    assert_eq!(versions(&pond, &run()).await, (1..=40).rev().collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_savers_of_one_process_all_get_their_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let pond = millpond::open(folder.path().to_str().expect("text")).await.expect("opens");
    let saves = (0..400).map(|n| {
        let pond = pond.clone();
        tokio::spawn(async move {
            if n % 2 == 0 {
                return pond.checkpoints().save(run(), &n).await.map(|_| ());
            }
            let mut unit = pond.unit();
            unit.checkpoints(run()).save(&n);
            unit.commit().await.map(|_| ())
        })
    });
    for save in saves.collect::<Vec<_>>() {
        save.await.expect("joins").expect("saves");
    }
    assert_eq!(versions(&pond, &run()).await, (1..=400).rev().collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_version_is_never_used_twice() {
    let (pond, scope) = (pond().await, run());
    let stale = Pond::new(pond.store().clone()).await.expect("opens");
    let checkpoints = pond.checkpoints();
    for n in 0..5 {
        checkpoints.save(&scope, &n).await.expect("saves");
    }
    stale.checkpoints().save(&scope, &"sees 6").await.expect("saves");
    checkpoints.save(&scope, &7).await.expect("saves");
    assert_eq!(checkpoints.keep_newest(&scope, 1).await.expect("prunes"), 6);
    assert_eq!(versions(&pond, &scope).await, [7]);
    assert_eq!(stale.checkpoints().save(&scope, &8).await.expect("saves").version, 8);
    assert_eq!(checkpoints.delete_all(&scope).await.expect("deletes"), 2);
    assert!(versions(&pond, &scope).await.is_empty());
    assert_eq!(stale.checkpoints().save(&scope, &9).await.expect("saves").version, 9);
    assert_eq!(checkpoints.save(&scope, &10).await.expect("saves").version, 10);
    assert_eq!(checkpoints.delete_all(&scope).await.expect("deletes"), 2);
    assert_eq!(checkpoints.delete_all(&scope).await.expect("nothing left"), 0);
    assert_eq!(checkpoints.save(&scope, &11).await.expect("saves").version, 11);
}

#[tokio::test]
async fn large_ones_are_chunks_in_the_same_commit() {
    let pond = pond().await;
    let checkpoints = pond.checkpoints();
    let bytes: Vec<u8> = (0..CHECKPOINT_BYTES).map(|n| (n % 251) as u8).collect();
    let saved = checkpoints.save_new(run(), NewCheckpoint::bytes(bytes.clone())).await.expect("the largest fits");
    assert_eq!((saved.size as usize, saved.chunks), (CHECKPOINT_BYTES, 9));
    assert_eq!(rows(&pond, "checkpoint_chunks").await, 9);
    assert_eq!(checkpoints.load(run(), 1).await.expect("reads").expect("is there").payload, Payload::Bytes(bytes));

    let text = "é\"\\".repeat(500_000);
    checkpoints.save(run(), &text).await.expect("saves");
    let latest = checkpoints.latest(run()).await.expect("reads").expect("is there");
    assert_eq!(latest.json::<String>().expect("json"), text);

    let error = checkpoints.save_part(run(), &NewCheckpoint::bytes(vec![0; CHECKPOINT_BYTES + 1])).await.expect_err("too large");
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains(&CHECKPOINT_BYTES.to_string()), "{error}");

    assert_eq!(checkpoints.delete_all(run()).await.expect("deletes"), 2);
    assert_eq!((rows(&pond, "checkpoint_chunks").await, rows(&pond, "checkpoints").await), (0, 0));
}

#[tokio::test]
async fn restoring_is_idempotent() {
    let (pond, scope) = (pond().await, run());
    let checkpoints = pond.checkpoints();
    for n in 1..=3 {
        checkpoints.save(&scope, &n).await.expect("saves");
    }
    assert_eq!(checkpoints.restore(&scope, 3).await.expect("is current").version, 3);
    let restored = checkpoints.restore(&scope, 1).await.expect("restores");
    assert_eq!((restored.version, restored.parent, restored.restored_from), (4, Some(1), Some(1)));
    assert_eq!(checkpoints.restore(&scope, 1).await.expect("again"), restored);
    assert_eq!(versions(&pond, &scope).await, [4, 3, 2, 1]);
    assert_eq!(checkpoints.latest(&scope).await.expect("reads").expect("is there").json::<i64>().expect("json"), 1);
    assert_eq!(checkpoints.restore(&scope, 9).await.expect_err("none").kind(), ErrorKind::NotFound);

    let branch = checkpoints.branch(&scope, 2, NewCheckpoint::json(&"b").expect("json").note("try")).await.expect("branches");
    assert_eq!((branch.version, branch.parent, branch.note.as_deref()), (5, Some(2), Some("try")));
    let none = checkpoints.branch(&scope, 99, NewCheckpoint::bytes([1])).await.expect_err("none");
    assert_eq!(none.kind(), ErrorKind::NotFound);
    assert_eq!(checkpoints.save(&scope, &6).await.expect("saves").parent, Some(5));
}

#[tokio::test]
async fn the_oldest_go_first_and_the_newest_stays() {
    let (pond, scope) = (pond().await, run());
    let checkpoints = pond.checkpoints();
    let mut saved: Vec<CheckpointInfo> = Vec::new();
    for n in 0..600 {
        saved.push(checkpoints.save(&scope, &n).await.expect("saves"));
    }
    checkpoints.save("other", &1).await.expect("saves");
    assert_eq!(checkpoints.delete_older_than(&scope, saved[10].created_at).await.expect("prunes"), 10);
    assert_eq!(checkpoints.keep_newest(&scope, 3).await.expect("prunes in several commits"), 587);
    assert_eq!(versions(&pond, &scope).await, [600, 599, 598]);
    assert_eq!(checkpoints.keep_newest(&scope, 3).await.expect("nothing to do"), 0);
    let later = pond.store().now().plus(std::time::Duration::from_secs(60));
    assert_eq!(checkpoints.delete_older_than(&scope, later).await.expect("prunes"), 2);
    assert_eq!(versions(&pond, &scope).await, [600]);
    assert_eq!(versions(&pond, &"other".into()).await, [1]);
    assert_eq!(checkpoints.keep_newest(&scope, 0).await.expect_err("refused").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_damaged_payload_is_an_error_and_the_list_goes_on() {
    let (pond, scope) = (pond().await, run());
    let checkpoints = pond.checkpoints();
    checkpoints.save(&scope, &"good").await.expect("saves");
    // What a damaged file would read as: another payload under the same digest.
    let record = pond.store().get("checkpoints", "run/r1/000000000001").await.expect("reads").expect("is there");
    let mut value = record.value.value().expect("json");
    value["payload"] = json!("bad");
    let delete = millpond::Commit::new().trusted().delete("checkpoints", "run/r1/000000000001").expect("commit");
    pond.commit(delete).await.expect("deletes");
    let put = millpond::Commit::new().trusted().put("checkpoints", "run/r1/000000000001", &value).expect("commit");
    pond.commit(put).await.expect("puts");
    assert_eq!(checkpoints.load(&scope, 1).await.expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert_eq!(checkpoints.latest(&scope).await.expect_err("damaged").kind(), ErrorKind::Corrupt);
    assert_eq!(versions(&pond, &scope).await, [1]);
}

#[test]
fn synchronous_callers_have_the_same() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    let checkpoints = pond.checkpoints();
    checkpoints.save("r1", &json!({"n": 1})).expect("saves");
    checkpoints.save("r1", "two").expect("saves");
    assert_eq!(checkpoints.restore("r1", 1).expect("restores").version, 3);
    assert_eq!(checkpoints.keep_newest("r1", 1).expect("prunes"), 2);
    assert_eq!(checkpoints.list("r1", 10, None).expect("lists").items.len(), 1);
}
