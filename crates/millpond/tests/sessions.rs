//! Sessions: how much each call reads, and the same without a runtime.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use millpond::{ErrorKind, NewSession, OpenOptions, SessionCounts, SessionFilter, SessionStatus, SessionType, WorkflowData};
use serde_json::json;
use support::CountingEngine;

fn session(n: u32) -> NewSession {
    let data = WorkflowData { worktree_name: Some(format!("tree {}", n % 4)), ..WorkflowData::default() };
    NewSession::workflow(data).id(format!("s{n:04}"))
}

#[tokio::test]
async fn calls_read_what_they_answer() {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let pond = options.open_engine(counting.clone()).await.expect("opens");
    let sessions = pond.sessions();
    for n in 0..600 {
        sessions.create(session(n)).await.expect("creates");
        if n % 3 == 0 {
            let status = if n % 2 == 0 { SessionStatus::Paused } else { SessionStatus::Failed };
            sessions.update_state(&format!("s{n:04}"), status).await.expect("pauses");
        }
    }
    counting.take_rows();

    let filter = SessionFilter::all().worktree("tree 1").session_type(SessionType::Workflow).limit(50);
    let page = sessions.list(&filter).await.expect("lists");
    assert_eq!((page.items.len(), page.next.is_some(), counting.take_rows()), (50, true, 50), "a page of 50");

    let page = sessions.resumable(50, None).await.expect("lists");
    assert_eq!((page.items.len(), page.next.is_some(), counting.take_rows()), (50, true, 50), "a page of two states");

    let last = sessions.last_interrupted().await.expect("reads").expect("some are paused");
    assert_eq!((last.id.as_str(), counting.take_rows()), ("s0594", 1));

    assert_eq!(sessions.count(&SessionFilter::all().status(SessionStatus::Failed)).await.expect("counts"), 100);
    assert_eq!(counting.take_rows(), 1, "a count");

    let totals = sessions.totals().await.expect("counts");
    assert_eq!((totals.total, totals.by_status["Paused"], totals.by_status["Initializing"]), (600, 100, 400));
    assert_eq!(counting.take_rows(), 4, "three states and one type");
}

#[test]
fn the_same_in_a_program_without_a_runtime() {
    let pond = millpond::blocking::open("memory:").expect("opens");
    let sessions = pond.sessions();
    sessions.create(session(1)).expect("creates");
    sessions.update_state("s0001", SessionStatus::Running).expect("runs");
    sessions.add_counts("s0001", SessionCounts { files_changed: 2, iterations: 1 }).expect("counts");
    sessions.merge_metadata("s0001", &BTreeMap::from([("k".to_owned(), json!(1))])).expect("merges");
    sessions.set_timing("s0001", "fetch", Duration::from_secs(1)).expect("keeps");
    sessions.map_job("s0001", "job", "etl").expect("maps");
    assert_eq!(sessions.session_of("job").expect("reads").map(|m| m.session_id).as_deref(), Some("s0001"));
    assert_eq!(sessions.stats("s0001").expect("reads").files_modified, 2);
    assert_eq!(sessions.update_state("s0001", SessionStatus::Initializing).expect_err("back").kind(), ErrorKind::Conflict);
    assert!(sessions.delete_with_mapping("s0001").expect("deletes"));
    assert!(sessions.load("s0001").expect("reads").is_none());
}

#[tokio::test]
async fn the_blocking_calls_refuse_to_run_inside_a_runtime() {
    let answer = std::thread::spawn(|| millpond::blocking::open("memory:")).join().expect("a thread of its own");
    let pond = answer.expect("opens");
    let refused =
        [pond.sessions().load("s").map(drop), pond.locks().info("l").map(drop), pond.dead_letters().stats(None).map(drop)];
    for error in refused.map(|r| r.expect_err("it would block the runtime")) {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}
