//! Documents of the released versions read, keep what they do not know, and write back as they were.

use millpond::{
    CheckpointChunk, CheckpointRecord, CheckpointScope, Document, Execution, Feedback, MetricSummary, NodeDurations,
    OperationCount, Pattern, Run, RunConfig, RunKey, RunStatus, Step,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn reads_back<T: Serialize + DeserializeOwned>(stored: &Value) -> T {
    let document: T = serde_json::from_value(stored.clone()).expect("version 1 reads");
    assert_eq!(serde_json::to_value(&document).expect("writes"), *stored, "something was dropped or changed");
    document
}

/// Reads a document of a released version, checks key and index fields, and writes it back unchanged.
fn survives<T: Document>(golden: &str, key: &str) -> T {
    let stored: Value = serde_json::from_str(golden).expect("golden files are JSON");
    assert!(stored.get("of_a_newer_version").is_some(), "the file has no unknown field");
    T::COLLECTION.spec().expect("a valid declaration").extract(&stored).expect("index fields of the declared types");
    let document: T = reads_back(&stored);
    assert_eq!(document.key().expect("a key").as_str(), key);
    document
}

#[test]
fn runs() {
    let run: Run = survives(include_str!("golden/run-v1.json"), "r1");
    assert_eq!((run.status, run.took().map(|t| t.as_secs())), (RunStatus::Completed, Some(2)));
    survives::<RunKey>(
        include_str!("golden/run_key-v1.json"),
        "d7e373ea5c293605c5b99746bf454a2ac7fd7810efcfa49240fc9bd4a45ae154",
    );
    survives::<RunConfig>(
        include_str!("golden/run_config-v1.json"),
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    );
    let step: Value = serde_json::from_str(include_str!("golden/run_step-v1.json")).expect("golden files are JSON");
    assert_eq!(reads_back::<Step>(&step).actions[0].extra.len(), 1);
}

#[test]
fn checkpoints() {
    let record: CheckpointRecord = survives(include_str!("golden/checkpoint-v1.json"), "run/r1/000000000004");
    assert_eq!((record.info.version, record.info.restored_from), (4, Some(2)));
    survives::<CheckpointChunk>(include_str!("golden/checkpoint_chunk-v1.json"), "run/r1/000000000004/c0001");
    survives::<CheckpointScope>(include_str!("golden/checkpoint_scope-v1.json"), "run/r1");
}

#[test]
fn metrics() {
    survives::<Execution>(include_str!("golden/execution-v1.json"), "r1");
    let summary: MetricSummary = survives(include_str!("golden/metric_summary-v1.json"), "etl/3");
    assert_eq!((summary.durations.count(), summary.durations.quantile(1.0)), (2, Some(10)));
    survives::<OperationCount>(include_str!("golden/metric_operation-v1.json"), "etl/3/llm.call");
    survives::<NodeDurations>(include_str!("golden/metric_node-v1.json"), "etl/3/fetch");
    survives::<Pattern>(include_str!("golden/pattern-v1.json"), "etl/slow-fetch");
    survives::<Feedback>(include_str!("golden/feedback-v1.json"), "019abc00-0000-7000-8000-000000000000");
}
