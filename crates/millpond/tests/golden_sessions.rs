//! Documents of the released versions of locks, sessions and dead letters read, keep what they do not know, and
//! write back as they were.

use millpond::{
    DeadLetter, DeadLetterJob, DeadLetterState, Document, ErrorType, JobSessionMapping, LeaseState, Session, SessionJobMapping,
    SessionStatus,
};
use serde_json::Value;

/// Reads a document of a released version, checks key and index fields, and writes it back unchanged.
fn survives<T: Document>(golden: &str, key: &str) -> T {
    let stored: Value = serde_json::from_str(golden).expect("golden files are JSON");
    assert!(stored.get("of_a_newer_version").is_some(), "the file has no unknown field");
    T::COLLECTION.spec().expect("a valid declaration").extract(&stored).expect("index fields of the declared types");
    let document: T = serde_json::from_value(stored.clone()).expect("version 1 reads");
    assert_eq!(serde_json::to_value(&document).expect("writes"), stored, "something was dropped or changed");
    assert_eq!(document.key().expect("a key").as_str(), key);
    document
}

#[test]
fn sessions() {
    let id = "session-019abc00-0000-7000-8000-000000000000";
    let session: Session = survives(include_str!("golden/session-v1.json"), id);
    assert_eq!((session.status, session.took().as_millis()), (SessionStatus::Paused, 3_250));
    let mapping = include_str!("golden/session_job-v1.json");
    survives::<SessionJobMapping>(mapping, "session-1");
    survives::<JobSessionMapping>(mapping, "mapreduce-20260105");
}

#[test]
fn dead_letters() {
    let letter: DeadLetter = survives(include_str!("golden/dead_letter-v1.json"), "mapreduce-20260105/item_7");
    assert_eq!(letter.state, DeadLetterState::Claimed);
    assert_eq!(letter.item.failure_history[0].duration_us, 1_200_000);
    assert_eq!(letter.item.failure_history[1].error_type, ErrorType::CommandFailed { exit_code: 2 });
    survives::<DeadLetterJob>(include_str!("golden/dead_letter_job-v1.json"), "jobs%2F2026");
}

#[test]
fn leases() {
    let stored: Value = serde_json::from_str(include_str!("golden/lease-v1.json")).expect("golden files are JSON");
    let lease: LeaseState = serde_json::from_value(stored.clone()).expect("version 1 reads");
    assert_eq!((lease.token, lease.holder.pid), (7, Some(4_711)));
    assert_eq!(serde_json::to_value(&lease).expect("writes"), stored);
}
