//! Exported events, held against what OpenLineage asks of them.
//!
//! `RULES` says in our own words what version 2-0-2 of the specification requires of a run event, and the schemas of the
//! facets that Millpond writes: each field with its form, and whether it may be absent. It is stricter than they are: a
//! field that none of them knows is a mistake, so that a misspelt one is noticed.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use millpond::{ArtifactRef, LineageEnd, LineageFilter, LineageOrder, LineageRows, LineageStatus, NewLineage, Timestamp};
use serde_json::{Value, json};

/// What a field has to be.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Uri,
    Uuid,
    Moment,
    OneOf(&'static [&'static str]),
    Object(&'static [Rule]),
    /// An object with what every facet has, and this.
    Facet(&'static str, &'static [Rule]),
    List(&'static [Rule]),
}
use Form::{Facet, List, Moment, Object, OneOf, Text, Uri, Uuid};

/// One field: its name, its form, whether it has to be there.
type Rule = (&'static str, Form, bool);

const JOB: &[Rule] = &[("namespace", Text, true), ("name", Text, true)];

const DATASET: &[Rule] = &[
    ("namespace", Text, true),
    ("name", Text, true),
    ("facets", Object(&[("version", Facet("DatasetVersionDatasetFacet", &[("datasetVersion", Text, true)]), false)]), false),
];

const RUN_FACETS: &[Rule] = &[
    ("parent", Facet("ParentRunFacet", &[("run", Object(&[("runId", Uuid, true)]), true), ("job", Object(JOB), true)]), false),
    (
        "tags",
        Facet("TagsRunFacet", &[("tags", List(&[("key", Text, true), ("value", Text, true), ("source", Text, false)]), true)]),
        false,
    ),
    (
        "errorMessage",
        Facet(
            "ErrorMessageRunFacet",
            &[("message", Text, true), ("programmingLanguage", Text, true), ("stackTrace", Text, false)],
        ),
        false,
    ),
];

const JOB_TYPE: &[Rule] =
    &[("processingType", OneOf(&["BATCH", "STREAMING", "SERVICE"]), true), ("integration", Text, true), ("jobType", Text, false)];

const RULES: &[Rule] = &[
    ("eventType", OneOf(&["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]), true),
    ("eventTime", Moment, true),
    ("producer", Uri, true),
    ("schemaURL", OneOf(&["https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"]), true),
    ("run", Object(&[("runId", Uuid, true), ("facets", Object(RUN_FACETS), false)]), true),
    (
        "job",
        Object(&[
            ("namespace", Text, true),
            ("name", Text, true),
            ("facets", Object(&[("jobType", Facet("JobTypeJobFacet", JOB_TYPE), false)]), false),
        ]),
        true,
    ),
    ("inputs", List(DATASET), false),
    ("outputs", List(DATASET), false),
];

/// The fields of an object that break a rule.
fn mistakes(at: &str, object: &Value, rules: &[Rule]) -> Vec<String> {
    let Some(fields) = object.as_object() else { return vec![format!("{at} is no object")] };
    let known = |name: &str| rules.iter().any(|(rule, _, _)| *rule == name);
    let mut found: Vec<String> =
        fields.keys().filter(|name| !known(name)).map(|name| format!("{at}/{name} is unknown")).collect();
    for (name, form, required) in rules {
        let at = format!("{at}/{name}");
        match fields.get(*name) {
            None if *required => found.push(format!("{at} is missing")),
            None => {}
            Some(value) => found.extend(wrong(&at, value, *form)),
        }
    }
    found
}

fn wrong(at: &str, value: &Value, form: Form) -> Vec<String> {
    let text = |fits: fn(&str) -> bool| {
        let fits = value.as_str().is_some_and(|text| !text.is_empty() && fits(text));
        if fits { Vec::new() } else { vec![format!("{at} is {value}")] }
    };
    match form {
        Text => text(|_| true),
        Uri => text(|text| text.starts_with("https://") && !text.contains(' ')),
        Uuid => text(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()),
        Moment => text(|text| Timestamp::parse(text).is_ok()),
        OneOf(values) if value.as_str().is_some_and(|text| values.contains(&text)) => Vec::new(),
        OneOf(_) => vec![format!("{at} is {value}")],
        Object(rules) => mistakes(at, value, rules),
        Facet(kind, rules) => {
            let own = [("_producer", Uri, true), ("_schemaURL", Uri, true)];
            let mut found = mistakes(at, value, &[&own, rules].concat());
            let schema = value["_schemaURL"].as_str().unwrap_or_default();
            if !schema.ends_with(&format!("/{kind}.json#/$defs/{kind}")) {
                found.push(format!("{at} names the schema {schema:?}"));
            }
            found
        }
        List(rules) => match value.as_array() {
            None => vec![format!("{at} is no list")],
            Some(items) => items.iter().flat_map(|item| mistakes(at, item, rules)).collect(),
        },
    }
}

/// A row in every state, with everything that a row can say.
async fn rows(lineage: &LineageRows) {
    let page = ArtifactRef::new("executions/e1/ingest/fetch/m1.html").version("u1.1");
    lineage.record(NewLineage::of("e1", "ingest", "fetch").id("page").artifact(page)).await.unwrap();
    for status in LineageStatus::ALL {
        let new =
            NewLineage::of("e1", "ingest", "split").id(format!("row {status}")).stage("segment").correlation("c").batch("b");
        let new = new.document("d").parent("page").derived_from("lost").input_hash("in").status(status);
        let error = json!({"message": "no text", "language": "RUST", "stack_trace": "at split"});
        let end = LineageEnd::new().output_hash("out").artifact("seg").unit("u2").error(error);
        lineage.record(new.end(end)).await.unwrap();
    }
    for error in [Value::Null, json!("no disk"), json!([1, 2])] {
        let new = NewLineage::of("019abc00-0000-7000-8000-00000000000a", "r", "a").status(LineageStatus::Failed);
        lineage.record(new.end(LineageEnd::new().error(error))).await.unwrap();
    }
}

async fn events() -> Vec<Value> {
    let lineage = millpond::open("memory:").await.unwrap().lineage();
    rows(&lineage).await;
    let page = lineage.open_lineage(&LineageFilter::all().order(LineageOrder::FirstStarted)).await.unwrap();
    assert_eq!((page.next, page.damaged), (None, Vec::new()));
    page.events
}

#[tokio::test]
async fn every_event_is_what_open_lineage_asks_for() {
    let events = events().await;
    for event in &events {
        assert_eq!(mistakes("", event, RULES), [""; 0], "{event:#}");
    }
    let count = |kind: &str| events.iter().filter(|event| event["eventType"] == kind).count();
    assert_eq!(["START", "COMPLETE", "FAIL", "ABORT"].map(count), [9, 2, 4, 1], "nothing of the pending one");
    let of = |id: &str, kind: &str| {
        let named = |event: &&Value| event["run"]["facets"]["tags"]["tags"][0]["value"] == id && event["eventType"] == kind;
        events.iter().find(named).cloned().unwrap_or_default()
    };
    let done = of("row completed", "COMPLETE");
    assert_eq!(done["inputs"][0]["facets"]["version"]["datasetVersion"], "u1.1");
    assert_eq!((&done["outputs"][0]["name"], &done["job"]["name"]), (&json!("seg"), &json!("ingest.split")));
    assert_eq!(done["run"]["facets"]["parent"]["job"]["name"], "ingest");
    assert!(done["run"]["facets"].get("errorMessage").is_none() && of("row completed", "START")["outputs"] == json!([]));
    let failed = of("row failed", "FAIL");
    assert_eq!(failed["run"]["facets"]["errorMessage"]["stackTrace"], "at split");
    assert_eq!(failed["run"]["runId"], of("row failed", "START")["run"]["runId"], "both ends of a run have one id");
    let said: Vec<&Value> = events.iter().filter_map(|e| e.pointer("/run/facets/errorMessage/message")).collect();
    for expected in ["no text", "no reason was given", "no disk", "[1,2]"] {
        assert!(said.iter().any(|message| *message == expected), "{expected} is not in {said:?}");
    }
    let own =
        events.iter().find(|e| e.pointer("/run/facets/parent/run/runId") == Some(&json!("019abc00-0000-7000-8000-00000000000a")));
    assert!(own.is_some(), "an execution whose name is a UUID keeps it");
}

/// The measure itself is tried: each of these mistakes is found.
#[tokio::test]
async fn a_mistake_in_an_event_is_found() {
    let event = events().await.into_iter().find(|event| event["eventType"] == "FAIL" && event["inputs"] != json!([])).unwrap();
    let changes = [
        ("/eventType", json!("FAILED")),
        ("/eventTime", json!("yesterday")),
        ("/producer", json!("millpond")),
        ("/schemaURL", json!("https://openlineage.io/spec/1-0-0/OpenLineage.json")),
        ("/run/runId", json!("row failed")),
        ("/job/name", json!("")),
        ("/inputs/0/name", json!(null)),
        ("/inputs/0/facets/version/_schemaURL", json!("version")),
        ("/run/facets/parent/run/runId", json!("e1")),
        ("/run/facets/tags/tags/0/value", json!(1)),
        ("/run/facets/errorMessage/message", json!({})),
        ("/job/facets/jobType/integration", json!(null)),
    ];
    for (pointer, wrong) in changes {
        let mut changed = event.clone();
        *changed.pointer_mut(pointer).unwrap() = wrong;
        assert!(!mistakes("", &changed, RULES).is_empty(), "{pointer}");
    }
    for (object, field) in
        [("", "producer"), ("/run", "runId"), ("/run/facets/errorMessage", "programmingLanguage"), ("/job", "name")]
    {
        let mut changed = event.clone();
        changed.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(field).unwrap();
        assert_eq!(mistakes("", &changed, RULES), [format!("{object}/{field} is missing")]);
        changed.pointer_mut(object).unwrap()["misspelt"] = json!(1);
        assert_eq!(mistakes("", &changed, RULES).len(), 2, "{object}/misspelt");
    }
}
