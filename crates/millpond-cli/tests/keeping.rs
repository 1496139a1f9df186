//! Pins, replays, prunes and retention at the prompt: what they print, word for word, and how they end.

mod support;

use millpond::{Commit, NewEvent, Pond, ReplayRequest};
use serde_json::{Value, json};
use std::process::Output;
use support::runtime;
use support::scene::Scene;

/// Compares a transcript with its golden file.
macro_rules! golden {
    ($name:literal, $scene:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($name, $scene.transcript()) })
    };
}

fn json_of(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"))
}

/// The store of a scene, for what the program has no command for.
async fn store(scene: &Scene) -> Pond {
    millpond::open(&format!("sqlite:{}", scene.path().join("millpond-data/millpond.db").display()))
        .await
        .expect("the store opens")
}

fn written() -> Scene {
    let scene = Scene::new();
    scene.file("page", "<p>one</p>");
    for key in ["e1/crawl/fetch/m1.html", "e1/crawl/fetch/m2.html", "e1/crawl/fetch/de/m3.html"] {
        assert!(scene.quiet(&format!("artifacts put executions/{key} page")).status.success());
    }
    scene
}

#[test]
fn pins() {
    let mut scene = written();
    scene
        .run("pins pin e1 --reason 'the audit'")
        .run("pins pin e1 --reason 'the appeal' --holder bert -o json")
        .run("pins pin e1 --reason ''")
        .run("pins show e1")
        .run("pins list")
        .run("pins list --holder bert -o jsonl")
        .run("pins list --prefix e2")
        .run("artifacts delete executions/e1/crawl/fetch/m1.html --yes")
        .run("prune e1 --dry-run")
        .run("prune e1 --yes")
        .run("pins unpin e1 nothing");
    let pins = json_of(&scene.quiet("pins show e1 -o json"));
    for pin in pins["pins"].as_array().expect("pins") {
        scene.run(&format!("pins unpin e1 {}", pin["id"].as_str().expect("an id")));
    }
    scene.run("pins show e1").run("artifacts delete executions/e1/crawl/fetch/m1.html --yes");
    // A run that goes on, and a row of another execution.
    scene
        .run("runs start etl@1 --id e1")
        .run("artifacts delete executions/e1/crawl/fetch/m2.html --yes")
        .run("runs finish e1 completed")
        .run("lineage record e1 crawl fetch --id a --artifact executions/e1/crawl/fetch/m2.html")
        .run("lineage record e2 crawl index --id b --derived-from a")
        .run("artifacts delete executions/e1/crawl/fetch/m2.html --yes")
        .run("prune e1 --yes")
        .run("pins pin e1 --reason 'the audit'")
        .run("runs delete e1 --yes");
    golden!("pins", scene);
}

#[test]
fn retention() {
    let mut scene = written();
    for _ in 0..2 {
        scene.quiet("artifacts put executions/e1/crawl/fetch/m1.html page");
        scene.quiet("artifacts put executions/e2/crawl/fetch/m1.html page");
    }
    scene
        .run("pins pin e1 --reason 'the audit'")
        .run("artifacts purge-versions --older-than 30d")
        .run("artifacts purge-versions --older-than 0s --dry-run")
        .run("artifacts purge-versions --older-than 0s")
        .run("artifacts purge-versions --older-than 0s --yes")
        .run("artifacts purge-versions --older-than 0s --keep-newest 2000");
    let counted = json_of(&scene.quiet("artifacts purge-versions --older-than 0s -o json"));
    assert_eq!((&counted["kept_pinned"], &counted["needed"][0]["by"]), (&json!(2), &json!("anna")), "{counted}");
    golden!("retention", scene);
}

#[test]
fn replays() {
    let mut scene = written();
    let from = "e1 --route crawl --stage fetch --to crawl/parse";
    scene
        .run(&format!("replay plan {from}"))
        .run(&format!("replay plan {from} --path m2"))
        .run(&format!("replay plan {from} --path de/"))
        .run(&format!("replay plan {from} --expect executions/e1/crawl/fetch/m9.html"))
        .run(&format!("replay start {from} --wait 5s"))
        .run("replay plan e1 --route crawl --stage nothing --to crawl/parse")
        .run("replay start e1 --route crawl --stage nothing --to crawl/parse --batch b0")
        .run(&format!("replay start {from} --batch b1"))
        .run("replay list")
        .run("replay list --status completed --batch b1")
        .run("replay list --status over")
        .run("replay show nothing")
        .run("replay cancel nothing");
    let done = json_of(&scene.quiet("replay list --status completed -o jsonl"));
    let id = done["id"].as_str().expect("an id").to_owned();
    assert_eq!((&done["published"], &done["left_out"]), (&json!(2), &json!(1)), "{done}");
    let shown = json_of(&scene.quiet(&format!("replay show {id} -o json")));
    assert_eq!((&shown["id"], &shown["status"], &shown["batch"]), (&done["id"], &json!("completed"), &json!("b1")));
    scene.run(&format!("replay cancel {id}")).run(&format!("replay resume {id}"));
    // One that somebody began and nobody works on.
    let begun = runtime().block_on(async {
        let pond = store(&scene).await;
        let begun = pond.replays().begin(&ReplayRequest::of("e1", "crawl", "fetch", "crawl/parse").batch("b2")).await;
        pond.close().await.expect("closes");
        begun.expect("begins").id
    });
    scene
        .run(&format!("pins unpin e1 replay/{begun}"))
        .run(&format!("replay cancel {begun} --reason 'nobody needs it'"))
        .run("pins show e1");
    let cancelled = json_of(&scene.quiet(&format!("replay show {begun} -o json")));
    assert_eq!((&cancelled["status"], &cancelled["reason"]), (&json!("cancelled"), &json!("nobody needs it")));
    golden!("replays", scene);
}

#[test]
fn prunes() {
    let mut scene = written();
    scene.quiet("artifacts put executions/e2/crawl/fetch/m1.html page");
    scene
        .run("prune e1 --dry-run")
        .run("prune e1 --dry-run -o json")
        .run("prune e1")
        .run("prune nothing --yes")
        .run("prune e1 --show")
        .run("prune e1 --yes")
        .run("prune e1 --show")
        .run("prune e2 --yes -o json")
        .run("prune --list")
        .run("prune --list --limit 1");
    let first = json_of(&scene.quiet("prune --list --limit 1 -o json"));
    assert_eq!(first["items"][0]["execution"], "e2");
    let next = first["next"].as_str().expect("there is more").to_owned();
    let second = json_of(&scene.quiet(&format!("prune --list --limit 1 --after {next} -o json")));
    assert_eq!((&second["items"][0]["execution"], &second["next"]), (&json!("e1"), &Value::Null));
    scene
        .run("prune --list --status running")
        .run("prune --list --status over")
        .run("prune e1 --limit 1")
        .run("prune e1 --dry-run --forget")
        .run("artifacts put executions/e1/crawl/fetch/m1.html page")
        .run("prune e1 --forget")
        .run("prune e1 --forget");
    assert!(scene.quiet("artifacts put executions/e1/crawl/fetch/m1.html page").status.success());
    golden!("prunes", scene);
}

#[test]
fn flags_that_would_be_ignored_are_refused() {
    let mut scene = written();
    scene.quiet("lineage record e1 crawl fetch --id a --status failed");
    scene
        .run("lineage failures --status completed")
        .run("lineage failures --order oldest")
        .run("lineage roots --root false")
        .run("lineage count --limit 3")
        .run("lineage stats --order oldest")
        .run("lineage failures --root --limit 5")
        .run("lineage roots --status failed --order oldest")
        .run("lineage count --root");
    golden!("ignored_flags", scene);
}

#[test]
fn a_version_that_was_written_over_is_read_and_saved() {
    let scene = written();
    let key = "executions/e1/crawl/fetch/m1.html";
    let first =
        json_of(&scene.quiet(&format!("artifacts metadata {key} -o json")))["version"].as_str().expect("a version").to_owned();
    scene.file("page", "<p>another</p>");
    scene.quiet(&format!("artifacts put {key} page"));
    let read = |flags: &str| scene.quiet(&format!("artifacts get {key} {flags}"));
    assert_eq!(read("").stdout, b"<p>another</p>");
    assert_eq!(read(&format!("--version {first}")).stdout, b"<p>one</p>");
    assert_eq!(read(&format!("--version {first} --range 3..6")).stdout, b"one");
    assert_eq!(json_of(&read(&format!("--version {first} -o json")))["text"], "<p>one</p>");
    assert!(read(&format!("saved --version {first}")).status.success());
    assert_eq!(std::fs::read(scene.path().join("saved")).expect("a file"), b"<p>one</p>");
    let missing = read("--version nothing");
    assert_eq!(missing.status.code(), Some(3), "{}", String::from_utf8_lossy(&missing.stderr));
}

#[test]
fn a_watch_that_met_damage_says_so_when_it_ends() {
    let scene = written();
    assert_eq!(scene.quiet("artifacts watch --once").status.code(), Some(0));
    runtime().block_on(async {
        let pond = store(&scene).await;
        let event = NewEvent::of("artifact.written", &json!({"key": 7})).expect("an event");
        let commit = Commit::new().trusted().append("artifacts/executions/e1", event).expect("a commit");
        pond.commit(commit).await.expect("appended");
        pond.close().await.expect("closes");
    });
    scene.quiet("artifacts put executions/e1/crawl/fetch/m9.html page");
    let watched = scene.quiet("artifacts watch --once -o jsonl");
    assert_eq!(watched.status.code(), Some(5), "{}", String::from_utf8_lossy(&watched.stderr));
    let shown = String::from_utf8_lossy(&watched.stdout);
    assert!(shown.lines().last().is_some_and(|line| line.contains("m9.html")), "it goes on behind it: {shown}");
}

#[test]
fn everything_that_is_damaged_has_a_line_of_its_own_and_the_numbers_come_last() {
    let scene = written();
    let objects = walkdir::WalkDir::new(scene.path().join("millpond-data/objects"));
    for file in objects.into_iter().map(|file| file.expect("a file")).filter(|file| file.file_type().is_file()) {
        std::fs::write(file.path(), "cut").expect("written");
    }
    let verified = scene.quiet("artifacts verify -o jsonl");
    assert_eq!(verified.status.code(), Some(5));
    let shown = String::from_utf8_lossy(&verified.stdout);
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4, "{shown}");
    assert_eq!(lines[1]["record"], "artifacts/executions/e1/crawl/fetch/m1.html");
    assert_eq!((&lines[3]["looked_at"], &lines[3]["damaged"]), (&json!(3), &json!(3)), "{shown}");
}
