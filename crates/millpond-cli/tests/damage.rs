//! What the program says of a record whose stored document is damaged.

mod support;

use support::scene::Scene;

/// Replaces a document behind the program's back.
fn damage(scene: &Scene, document: &str) {
    let file = scene.path().join("millpond-data/millpond.db");
    let connection = rusqlite::Connection::open(file).expect("the store's file");
    let changed = connection.execute("UPDATE records SET doc = ?1 WHERE key = 't1'", [document]).expect("damaged");
    assert_eq!(changed, 1);
}

#[test]
fn a_damaged_document_asked_for_by_key_is_unhealthy_and_never_printed() {
    let scene = Scene::new();
    assert!(scene.quiet("records put tasks t1 {\"state\":\"new\"}").status.success());
    for damaged in ["{\"state\": new}", "{\"state\":\"new\"", "{\"state\":\"new\"}}"] {
        damage(&scene, damaged);
        for output in ["table", "json", "jsonl"] {
            let said = scene.quiet(&format!("records get tasks t1 -o {output}"));
            let why = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(said.status.code(), Some(5), "{damaged} as {output}: {why}");
            assert!(said.stdout.is_empty() && why.contains("does not") && why.contains("tasks/t1"), "{why}");
        }
    }
}
