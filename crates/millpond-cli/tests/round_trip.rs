//! What one command printed as JSON can be given back to another: nothing of the store's own ends up in the document,
//! and no field of the document is hidden.

mod support;

use serde_json::Value;
use support::scene::Scene;

fn json(scene: &Scene, line: &str) -> Value {
    let output = scene.quiet(line);
    assert!(output.status.success(), "{line}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What the store itself keeps as the document.
fn kept(scene: &Scene, collection: &str, key: &str) -> Value {
    json(scene, &format!("records get {collection} {key} -o json"))["value"].clone()
}

#[test]
fn a_flow_is_read_changed_and_read() {
    let scene = Scene::new();
    scene.file(
        "flow.json",
        r#"{"id":"f","name":"F","revision":"mine","time":5,"by":"me","nodes":[{"id":"a","component":"udp","type":"input",
            "name":"a","position":{"x":1,"y":2},"config":{"port":1}}],"connections":[]}"#,
    );
    let created = json(&scene, "flows create flow.json -o json");
    assert_eq!((created["revision"].clone(), created["_store"]["revision"].clone()), ("mine".into(), 1.into()));
    let got = json(&scene, "flows get f -o json");
    scene.file("got.json", got.to_string());
    json(&scene, "flows update got.json -o json");
    let again = json(&scene, "flows get f -o json");
    assert_eq!(again["_store"]["revision"], 2);
    for own in ["revision", "time", "by", "name", "nodes"] {
        assert_eq!(again[own], got[own], "{own}");
    }
    let kept = kept(&scene, "flows", "f");
    assert!(kept.get("_store").is_none() && kept.get("position").is_none(), "{kept}");
}

#[test]
fn a_session_is_loaded_saved_and_loaded() {
    let scene = Scene::new();
    json(&scene, "sessions create --workflow etl --id s1 -o json");
    let before = kept(&scene, "sessions", "s1");
    let mut loaded = json(&scene, "sessions load s1 -o json");
    assert_eq!(loaded["_store"]["revision"], 1);
    loaded["revision"] = "mine".into();
    scene.file("s1.json", loaded.to_string());
    json(&scene, "sessions save @s1.json -o json");
    json(&scene, "sessions save @s1.json --revision 2 -o json");
    let after = kept(&scene, "sessions", "s1");
    assert_eq!(after["revision"], "mine");
    let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let mut expected = names(&before);
    expected.push("revision".to_owned());
    expected.sort_unstable();
    let mut found = names(&after);
    found.sort_unstable();
    assert_eq!(found, expected, "nothing of the store's was saved with it");
}

#[test]
fn a_definition_is_stored_without_the_stores_field() {
    let scene = Scene::new();
    scene.file("etl.json", r#"{"id":"etl","nodes":["a"],"_store":{"revision":9}}"#);
    json(&scene, "workflows store etl.json -o json");
    let got = json(&scene, "workflows get etl@1 -o json");
    assert_eq!(got["definition"], serde_json::json!({ "id": "etl", "nodes": ["a"] }));
    assert_eq!(got["_store"]["revision"], 1);
}

/// What `get -o json` printed, without what belongs to one store alone.
fn version(scene: &Scene, line: &str) -> Value {
    let mut printed = json(scene, line);
    let fields = printed.as_object_mut().expect("an object");
    assert!(fields.remove("_store").is_some() && fields.remove("created_at").is_some(), "{line}");
    printed
}

#[test]
fn a_version_is_stored_elsewhere_as_it_was_in_both_formats() {
    let scene = Scene::new();
    scene.file("etl.yaml", "id: etl\nversion: 1\nnodes: [a]\nof_somebody: {else: 1}\n");
    json(&scene, "workflows store etl.yaml -o json");
    let made = "workflows store etl.yaml --next --parent etl@1 --reasoning why --tag team=a --author anna -o json";
    json(&scene, made);

    // JSON: the whole version, with what a newer program wrote beside it.
    for reference in ["etl@1", "etl@2"] {
        let mut whole = json(&scene, &format!("workflows get {reference} -o json"));
        whole["of_a_newer_version"] = serde_json::json!({ "kept": [1] });
        scene.file("whole.json", whole.to_string());
        let stored = scene.quiet("--store ./elsewhere workflows store whole.json -o json");
        assert!(stored.status.success(), "{stored:?}");
        assert!(String::from_utf8_lossy(&stored.stderr).contains("created_at"), "what is not taken over is said: {stored:?}");
        let mut expected = version(&scene, &format!("workflows get {reference} -o json"));
        expected["of_a_newer_version"] = whole["of_a_newer_version"].clone();
        assert_eq!(version(&scene, &format!("--store ./elsewhere workflows get {reference} -o json")), expected);
    }

    // YAML: the definition alone.
    let yaml = scene.quiet("workflows get etl@2 --yaml");
    scene.file("etl2.yaml", &yaml.stdout);
    json(&scene, "--store ./third workflows store etl2.yaml -o json");
    assert_eq!(scene.quiet("--store ./third workflows get etl@2 --yaml").stdout, yaml.stdout);
    let hash = |line: &str| json(&scene, line)["content_hash"].clone();
    assert_eq!(hash("--store ./third workflows get etl@2 -o json"), hash("workflows get etl@2 -o json"));
}

#[test]
fn a_version_that_was_changed_under_its_hash_is_refused_and_without_it_stored() {
    let scene = Scene::new();
    scene.file("etl.json", r#"{"id":"etl","nodes":["a"]}"#);
    json(&scene, "workflows store etl.json -o json");
    let mut changed = json(&scene, "workflows get etl@1 -o json");
    changed["definition"]["nodes"] = serde_json::json!(["a", "b"]);
    scene.file("changed.json", changed.to_string());
    let refused = scene.quiet("workflows store changed.json --next");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("take content_hash out"), "{refused:?}");
    changed.as_object_mut().expect("an object").remove("content_hash");
    scene.file("changed.json", changed.to_string());
    assert_eq!(scene.quiet("workflows store changed.json").status.code(), Some(4), "etl@1 exists");
    let stored = json(&scene, "workflows store changed.json --next -o json");
    assert_eq!((stored["version"].clone(), stored["definition"]["nodes"][1].clone()), (2.into(), "b".into()));
    assert_eq!(stored["parent"], serde_json::json!({ "id": "etl", "version": 1 }), "made from the version given");
}

#[test]
fn a_renamed_definition_gives_its_version_the_new_name() {
    let scene = Scene::new();
    scene.file("etl.json", r#"{"id":"etl","name":"old","tags":["slow"]}"#);
    json(&scene, "workflows store etl.json --author anna -o json");
    let mut changed = json(&scene, "workflows get etl@1 -o json");
    changed.as_object_mut().expect("an object").remove("content_hash");
    changed["definition"]["name"] = "new".into();
    changed["definition"]["tags"] = serde_json::json!(["fast"]);
    scene.file("changed.json", changed.to_string());
    let stored = json(&scene, "workflows store changed.json --next -o json");
    let said = ["name", "tags", "author"].map(|field| stored[field].clone());
    assert_eq!(said, ["new".into(), serde_json::json!(["fast"]), "anna".into()]);
}

#[test]
fn a_definition_may_have_the_fields_of_a_version() {
    let scene = Scene::new();
    let definition = r#"{"id":"x","version":1,"created_at":"2026-11-21T08:45:04Z","definition":{"a":1}}"#;
    scene.file("x.json", definition);
    let stored = json(&scene, "workflows store x.json -o json");
    assert_eq!(stored["definition"], serde_json::from_str::<Value>(definition).expect("JSON"));
}
