//! Watches as a person or a script uses them: live, stopped, resumed.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use support::scene::Scene;

/// A watch under way, and its lines.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(scene: &Scene, args: &[&str]) -> Self {
        let mut child = Command::new(support::millpond())
            .args(args)
            .current_dir(scene.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> serde_json::Value {
        let line = self.lines.next().expect("it goes on").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_of_another_process_arrive_and_a_killed_watch_resumes_after_its_cursor() {
    let scene = Scene::new();
    let append = |n: u32| assert!(scene.quiet(&format!("events append s --type live.{n}")).status.success());
    append(1);
    append(2);
    let mut watch = Watch::start(&scene, &["events", "watch", "--types", "live.*", "-o", "jsonl"]);
    assert_eq!(watch.next()["type"], "live.1");
    let second = watch.next();
    append(3);
    assert_eq!(watch.next()["sequence"], 3, "committed while it watched");
    drop(watch);
    append(4);
    let cursor = second["cursor"].as_str().expect("a cursor").to_owned();
    let mut resumed = Watch::start(&scene, &["events", "watch", "-o", "jsonl", "--after", &cursor, "--limit", "2"]);
    assert_eq!((resumed.next()["sequence"].clone(), resumed.next()["sequence"].clone()), (3.into(), 4.into()));
    assert!(resumed.lines.next().is_none(), "two were asked for");
    assert!(resumed.child.wait().expect("ends").success());
}

#[test]
fn a_watch_of_records_shows_what_is_there_then_changes_and_deletes() {
    let scene = Scene::new();
    scene.quiet("records put c a 1");
    scene.quiet("records put c b 1");
    scene.quiet("records delete c b");
    let mut watch = Watch::start(&scene, &["records", "watch", "c", "-o", "jsonl"]);
    assert_eq!(watch.next()["key"], "a");
    assert_eq!(watch.next()["snapshot_end"], true, "a record deleted before is no news");
    scene.quiet("records put c b 2");
    let changed = watch.next();
    assert_eq!((changed["key"].clone(), changed["revision"].clone()), ("b".into(), 3.into()));
    scene.quiet("records delete c a");
    let gone = watch.next();
    assert_eq!((gone["key"].clone(), gone["deleted"].clone()), ("a".into(), true.into()));
}

#[test]
fn following_a_run_ends_with_the_run() {
    let scene = Scene::new();
    scene.quiet("runs start etl@1 --id r1");
    let mut watch = Watch::start(&scene, &["runs", "show", "r1", "--follow", "-o", "jsonl"]);
    assert_eq!(watch.next()["type"], "run.started");
    scene.quiet("runs step r1 s1 completed");
    assert_eq!(watch.next()["type"], "step.completed");
    scene.quiet("runs finish r1 completed");
    assert_eq!(watch.next()["type"], "run.finished");
    assert!(watch.child.wait().expect("ends").success());
}
