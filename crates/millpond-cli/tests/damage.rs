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
    let no_value = ["{\"state\":1e999}", "{\"state\":\"\\ud800\"}"];
    for damaged in ["{\"state\": new}", "{\"state\":\"new\"", "{\"state\":\"new\"}}"].into_iter().chain(no_value) {
        damage(&scene, damaged);
        for output in ["table", "json", "jsonl"] {
            let said = scene.quiet(&format!("records get tasks t1 -o {output}"));
            let why = String::from_utf8_lossy(&said.stderr).into_owned();
            assert_eq!(said.status.code(), Some(5), "{damaged} as {output}: {why}");
            assert!(said.stdout.is_empty() && why.contains("does not") && why.contains("tasks/t1"), "{why}");
        }
    }
}

#[test]
fn a_document_without_a_value_is_reported_beside_the_others_and_by_the_check() {
    let scene = Scene::new();
    for key in ["t1", "t2"] {
        assert!(scene.quiet(&format!("records put tasks {key} {{\"state\":\"new\"}}")).status.success());
    }
    for damaged in ["{\"state\":1e999}", "{\"state\":\"\\ud800\"}"] {
        damage(&scene, damaged);
        let page = scene.quiet("records query tasks -o jsonl");
        let (shown, why) = (String::from_utf8_lossy(&page.stdout), String::from_utf8_lossy(&page.stderr));
        assert!(page.status.success(), "{damaged}: {why}");
        assert!(shown.contains("\"t2\"") && !shown.contains("\"t1\""), "{shown}");
        assert!(why.contains("damaged: tasks/t1: "), "{why}");
        let check = scene.quiet("store check");
        let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
        assert_eq!(check.status.code(), Some(5), "{damaged}: {said}");
        assert!(said.contains("tasks/t1: "), "{said}");
    }
}
