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

/// Catches retention, collection, forgetting and a comparison that one record stops, or that look past it.
#[test]
fn upkeep_goes_on_beside_a_damaged_record_and_ends_with_code_5() {
    let scene = Scene::new();
    let unit = String::from("executions/e1/r/s/");
    for key in ["a", "b"] {
        for text in ["one", "two", "three"] {
            scene.file("text", text);
            assert!(scene.quiet(&format!("artifacts put {unit}{key} text")).status.success());
        }
    }
    let file = scene.path().join("millpond-data/millpond.db");
    let connection = rusqlite::Connection::open(file).expect("the store's file");
    for (collection, row) in [("artifact_versions", "min(row)"), ("units", "max(row)")] {
        let sql = format!("UPDATE {collection} SET doc = 'nonsense' WHERE row = (SELECT {row} FROM {collection})");
        assert_eq!(connection.execute(&sql, []).expect("damaged"), 1);
    }
    let says = |line: &str, words: &[&str]| {
        let output = scene.quiet(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(5), "{line}: {said}");
        for word in words {
            assert!(said.contains(word), "{line}: no {word:?} in {said}");
        }
    };
    // The newest, which is read now, stays; so does the damaged one, and the other three go.
    let purge = "artifacts purge-versions --older-than 0s --keep-newest 0 --yes";
    says(purge, &["3 versions with 9 bytes forgotten", "1 damaged", "artifact_versions/", "stays:"]);
    says("units reconcile", &["2 records compared", "does not read back, and may name bytes"]);
    says("units reconcile -o json", &["\"damaged_in_all\": 1"]);
    let collect = "units collect --remove --grace 0s --yes";
    says(collect, &["6 objects looked at", "of 3 objects that no record names: removed", "stays:"]);
    assert_eq!(scene.quiet(collect).status.code(), Some(5));
    says("artifacts verify --versions --read-data 100%", &["1 record does not read back"]);
    says(
        "units forget --older-than 0s --yes",
        &["1 unit with a record that does not read back", "units/", "does not read back:"],
    );
    for key in ["a", "b"] {
        assert_eq!(scene.quiet(&format!("artifacts get {unit}{key}")).stdout, b"three");
    }
}
