//! Artifacts and units at the prompt: killed writers, killed watchers, damage, programs that undo steps.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::scene::Scene;

/// Bytes of what is written while it is killed.
const LENGTH: usize = 50 << 20;
/// Bytes that go into the pipe at once.
const PIECE: usize = 64 << 10;

fn json_of(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The objects of a store, and how long each is.
fn objects(folder: &Path) -> Vec<(PathBuf, u64)> {
    let files = walkdir::WalkDir::new(folder.join("millpond-data/objects")).into_iter().map(|file| file.expect("a file"));
    files
        .filter(|file| file.file_type().is_file())
        .map(|file| (file.path().to_owned(), file.metadata().expect("facts").len()))
        .filter(|(path, _)| !path.display().to_string().ends_with(".meta.json"))
        .collect()
}

/// When a writer is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// When so many bytes went into the pipe.
    Bytes(usize),
    /// So long after the last byte.
    After(Duration),
}

/// Writes `LENGTH` times a byte through a pipe, and kills the writer. True when it was killed before it ended by itself.
fn put_and_kill(scene: &Scene, byte: u8, moment: Moment) -> bool {
    let mut child = Command::new(support::millpond())
        .args(["artifacts", "put", "k", "-"])
        .current_dir(scene.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut pipe = child.stdin.take().expect("piped");
    let piece = vec![byte; PIECE];
    let most = if let Moment::Bytes(bytes) = moment { bytes } else { LENGTH };
    for _ in 0..most.div_ceil(PIECE) {
        pipe.write_all(&piece).expect("it reads to the end");
    }
    if let Moment::After(wait) = moment {
        drop(pipe);
        let until = Instant::now() + wait;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
    child.kill().expect("ours");
    !child.wait().expect("ends").success()
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_what_was_there_or_what_is_new_and_no_byte_too_many() {
    let scene = Scene::new();
    scene.file("before", "before");
    assert!(scene.quiet("artifacts put k before").status.success());
    let mut sha256 = json_of(&scene.quiet("artifacts metadata k -o json"))["sha256"].clone();
    let parts = (0..8).map(|part| Moment::Bytes(part * LENGTH / 7));
    let after = (0..10).map(|n| Moment::After(Duration::from_millis(n * n * 4)));
    let (mut killed, mut kept, mut new) = (0, 0, 0);
    for (n, moment) in parts.chain(after).enumerate() {
        let byte = u8::try_from(n).expect("few") + b'A';
        killed += u32::from(put_and_kill(&scene, byte, moment));
        let now = json_of(&scene.quiet("artifacts metadata k -o json"));
        if now["sha256"] == sha256 {
            kept += 1;
        } else {
            assert_eq!(now["length"], LENGTH, "{moment:?}: half of it");
            sha256 = now["sha256"].clone();
            new += 1;
        }
        let verified = scene.quiet("artifacts verify --read-data 100%");
        assert_eq!(verified.status.code(), Some(0), "{moment:?}: {}", said(&verified));
        let recovered = scene.quiet("units recover -o json");
        assert_eq!((recovered.status.code(), &json_of(&recovered)["left"]), (Some(0), &json!([])), "{moment:?}");
        let collected = scene.quiet("units collect --remove --yes --grace 0s -o json");
        assert_eq!(collected.status.code(), Some(0), "{moment:?}: {}", said(&collected));
        let versions = json_of(&scene.quiet("artifacts history k -o json"));
        let mut expected: Vec<u64> =
            versions["items"].as_array().expect("items").iter().map(|v| v["length"].as_u64().expect("a length")).collect();
        let mut found: Vec<u64> = objects(scene.path()).into_iter().map(|(_, length)| length).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{moment:?}: what is there is what versions name");
        for state in ["pending", "aborting", "failed"] {
            assert_eq!(json_of(&scene.quiet(&format!("units list --state {state} -o json")))["items"], json!([]), "{moment:?}");
        }
    }
    println!("{killed} killed in the middle: {kept} times what was there before, {new} times what is new");
    assert!(killed >= 8 && kept >= 8, "{killed} killed, {kept} kept");
}

#[test]
fn a_watch_that_is_killed_resumes_after_its_cursor_and_ends_with_the_run() {
    struct Watch(Child, std::io::Lines<BufReader<std::process::ChildStdout>>);
    impl Watch {
        fn start(scene: &Scene, line: &str) -> Self {
            let mut command = Command::new(support::millpond());
            command.args(line.split(' ')).current_dir(scene.path()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("starts");
            let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            Self(child, lines)
        }
        fn next(&mut self) -> Option<Value> {
            self.1.next().map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
        }
    }
    impl Drop for Watch {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let scene = Scene::new();
    scene.file("m", "m");
    let put = |key: &str| assert!(scene.quiet(&format!("artifacts put executions/e1/{key} m")).status.success());
    put("crawl/fetch/1.html");
    let line = "storage watch --execution e1 --route crawl --until-ended -o jsonl";
    let early = scene.quiet(line);
    assert_eq!(early.status.code(), Some(3), "e1 is no run: {}", said(&early));
    scene.quiet("runs start etl@1 --id e1");
    let mut watch = Watch::start(&scene, line);
    let first = watch.next().expect("one");
    assert_eq!((&first["type"], &first["key"]), (&json!("artifact.written"), &json!("executions/e1/crawl/fetch/1.html")));
    put("crawl/fetch/2.html");
    assert_eq!(watch.next().expect("committed while it watched")["key"], "executions/e1/crawl/fetch/2.html");
    drop(watch);
    put("index/all/x.json");
    put("crawl/parse/3.json");
    let cursor = first["cursor"].as_str().expect("a cursor").to_owned();
    let mut resumed = Watch::start(&scene, &format!("{line} --after {cursor}"));
    let keys = [resumed.next(), resumed.next()].map(|event| event.expect("an event")["key"].clone());
    assert_eq!(keys, ["executions/e1/crawl/fetch/2.html", "executions/e1/crawl/parse/3.json"]);
    scene.quiet("runs finish e1 completed");
    assert_eq!(resumed.next(), None, "the run is over");
    assert!(resumed.0.wait().expect("ends").success());
    let once = scene.quiet("artifacts watch --extension json --prefix executions/e1/index/ --once -o jsonl");
    assert_eq!(json_of(&once)["key"], "executions/e1/index/all/x.json");
}

#[test]
fn damage_is_named_and_the_exit_code_says_so() {
    let scene = Scene::new();
    scene.file("a", "right");
    scene.quiet("artifacts put a a");
    scene.quiet("artifacts put b a");
    let artifact = json_of(&scene.quiet("artifacts metadata b -o json"));
    let location = artifact["location"].as_str().expect("a location").to_owned();
    let (object, _) = objects(scene.path()).into_iter().find(|(path, _)| path.ends_with(&location)).expect("its object");
    std::fs::write(&object, "wrong").expect("written");
    assert_eq!(scene.quiet("artifacts verify").status.code(), Some(0), "the length is right");
    for _ in 0..2 {
        let verified = scene.quiet("storage verify --read-data 100% -o json");
        assert_eq!(verified.status.code(), Some(5), "{}", said(&verified));
        let named = &json_of(&verified)["named"];
        let digests = (named[0]["expected_sha256"].clone(), named[0]["found_sha256"].clone());
        assert_eq!((&named[0]["key"], &named[0]["location"], &named[1]), (&json!("b"), &json!(location), &Value::Null));
        assert_eq!(digests.0, artifact["sha256"]);
        assert_ne!(digests.0, digests.1);
    }
    assert_eq!(scene.quiet("artifacts verify a --read-data 100%").status.code(), Some(0), "a is whole");
    assert_eq!(scene.quiet("artifacts get b").status.code(), Some(5));
    std::fs::remove_file(object).expect("removed");
    let table = scene.quiet("artifacts verify");
    assert!(said(&table).contains("an object is missing") && table.status.code() == Some(5), "{}", said(&table));
}

#[test]
fn downloads_are_files_and_what_is_there_is_left_alone() {
    let scene = Scene::new();
    scene.file("m", "m");
    for key in ["r/s/1", "r/s/2"] {
        scene.quiet(&format!("artifacts put executions/e1/{key} m"));
    }
    let first = json_of(&scene.quiet("artifacts download e1 --output-dir out -o json"));
    assert_eq!((&first["written"], &first["were_there"]), (&json!(2), &json!(0)));
    std::fs::remove_file(scene.path().join("out/executions/e1/r/s/2")).expect("removed");
    let again = json_of(&scene.quiet("storage download e1 --output-dir out -o json"));
    assert_eq!((&again["written"], &again["were_there"]), (&json!(1), &json!(1)));
    std::fs::create_dir_all(scene.path().join("other/executions/e1/r/s/1")).expect("in the way");
    let failed = scene.quiet("artifacts download e1 --output-dir other");
    assert!(failed.status.code() == Some(1) && said(&failed).contains("executions/e1/r/s/1"), "{}", said(&failed));
    assert_eq!(scene.quiet("artifacts download e9 --output-dir out").status.code(), Some(3));
}

#[test]
fn a_place_that_was_moved_is_named_and_somebody_who_looks_elsewhere_is_refused() {
    let scene = Scene::new();
    scene.file("m", "m");
    assert_eq!(json_of_place(&scene, ""), None, "there is no store yet");
    scene.quiet("artifacts put k m");
    assert_eq!(json_of_place(&scene, "").as_deref(), Some("beside"));
    let early = scene.quiet("artifacts place --moved ./moved");
    assert_eq!(early.status.code(), Some(5), "{}", said(&early));
    std::fs::rename(scene.path().join("millpond-data/objects"), scene.path().join("moved")).expect("moved");
    let moved = scene.quiet("artifacts place --moved ./moved");
    assert!(moved.status.success(), "{}", said(&moved));
    let elsewhere = scene.quiet("artifacts get k");
    assert!(elsewhere.status.code() == Some(2) && said(&elsewhere).contains("/moved"), "{}", said(&elsewhere));
    // The flag, the variable and both forms of the file say the same.
    assert_eq!(said(&scene.quiet("artifacts get k --objects ./moved")), "m");
    assert_eq!(said(&scene.quiet_with("artifacts get k", &[("MILLPOND_OBJECTS", "./moved")])), "m");
    for file in ["objects: ./moved\n", "domains: { artifacts: { objects: ./moved } }\n"] {
        scene.file("millpond.yaml", file);
        assert_eq!(said(&scene.quiet("artifacts get k")), "m", "{file}");
        let shown = said(&scene.quiet("config show --origin"));
        assert!(shown.contains("./moved") && shown.contains("millpond.yaml:1"), "{shown}");
    }
    let flag = scene.quiet("artifacts get k --objects ./other");
    assert_eq!(flag.status.code(), Some(2), "a flag counts before the file: {}", said(&flag));
}

fn json_of_place(scene: &Scene, flags: &str) -> Option<String> {
    let output = scene.quiet(&format!("artifacts place -o json{flags}"));
    output.status.success().then(|| json_of(&output)["place"].as_str().map(str::to_owned)).flatten()
}

/// A unit with one step outside, given up by a program that does not know how to undo it.
fn unit_with_a_step(scene: &Scene) -> String {
    support::runtime().block_on(async {
        let pond = millpond::open(&scene.path().join("millpond-data").display().to_string()).await.expect("opens");
        let mut unit = pond.unit();
        unit.artifacts().put("k", "bytes").await.expect("staged");
        unit.step("make the table", "drop-table", &json!({"table": "t1"})).await.expect("noted");
        let id = unit.unit_id().expect("an id").to_owned();
        unit.rollback().await.expect_err("nobody here drops tables");
        pond.close().await.expect("closes");
        id
    })
}

#[cfg(unix)]
fn script(scene: &Scene, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    scene.file(name, format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(scene.path().join(name), std::fs::Permissions::from_mode(0o755)).expect("a program");
}

#[cfg(unix)]
#[test]
fn a_program_undoes_a_step_and_one_that_fails_leaves_it_to_a_person() {
    let scene = Scene::new();
    let unit = unit_with_a_step(&scene);
    let recovered = scene.quiet("units recover");
    assert_eq!(recovered.status.code(), Some(1), "{}", said(&recovered));
    assert!(said(&recovered).contains(&format!("millpond units resume {unit} --compensation drop-table=PROGRAM")));
    script(&scene, "fails", "echo tried; exit 3");
    let failed = scene.quiet(&format!("units resume {unit} --compensation drop-table=./fails"));
    assert!(failed.status.code() == Some(1) && said(&failed).contains("is failed"), "{}", said(&failed));
    assert_eq!(String::from_utf8_lossy(&failed.stdout).matches("tried").count(), 0, "stdout is data");
    assert_eq!(said(&failed).matches("tried").count(), 5);
    let shown = json_of(&scene.quiet(&format!("units show {unit} -o json")));
    let statuses: Vec<_> = shown["operations"].as_array().expect("operations").iter().map(|o| o["status"].clone()).collect();
    assert_eq!((&shown["state"], statuses), (&json!("failed"), vec![json!("COMPENSATED"), json!("FAILED")]));
    assert!(said(&scene.quiet("dead-letters list --job units -o jsonl")).contains(&unit));

    script(&scene, "undoes", "cat > told.json");
    let resumed = scene.quiet(&format!("units resume {unit} --compensation drop-table=./undoes"));
    assert!(resumed.status.success() && said(&resumed).contains("is aborted"), "{}", said(&resumed));
    let told: Value = serde_json::from_slice(&std::fs::read(scene.path().join("told.json")).expect("told")).expect("JSON");
    assert_eq!((&told["unit"], &told["step"], &told["args"]), (&json!(unit), &json!("make the table"), &json!({"table": "t1"})));
    assert!(
        !said(&scene.quiet("dead-letters list --job units --state pending -o jsonl")).contains(&unit),
        "its letter is closed"
    );
    assert_eq!(objects(scene.path()), [], "its bytes are gone");
}
