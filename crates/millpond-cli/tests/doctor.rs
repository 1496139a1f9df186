//! `millpond doctor`, and the refusal of a store that keeps less than is required.

mod support;

use support::scene::Scene;

#[test]
fn a_store_below_what_is_required_is_a_finding_and_is_not_opened() {
    let scene = Scene::new();
    assert!(scene.quiet("records put tasks t1 {\"state\":\"new\"}").status.success());
    let well = scene.quiet("doctor -o json --require power-loss");
    assert_eq!(well.status.code(), Some(0), "{}", String::from_utf8_lossy(&well.stderr));
    let health: serde_json::Value = serde_json::from_slice(&well.stdout).expect("JSON");
    assert_eq!(health["survives"], "power-loss");
    let write = health["checks"].as_array().expect("checks").iter().find(|c| c["name"] == "write").expect("a write check");
    assert_ne!(write["finding"], "problem");

    let text = scene.quiet("doctor");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("\nversions: millpond ") && text.contains(", sqlite 3.") && text.contains(", format 1\n"), "{text}");

    let weak = scene.quiet("doctor --require replicated");
    assert_eq!(weak.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&weak.stdout).contains("replicated was asked for"));
    let refused = scene.quiet("records get tasks t1 --require replicated");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("replicated was asked for"));
    assert!(refused.stdout.is_empty());
}
