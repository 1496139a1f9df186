//! The demo as a newcomer meets it: what it prints, run again, started anew, on other folders, side by side.

mod support;

use std::io::BufRead;
use std::process::{Command, Output};

use millpond::LockRequest;
use support::scene::Scene;

fn digest(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("demo digest: ").unwrap_or_else(|| panic!("no digest: {output:?}")).to_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Stops a demo after its first commit: what it has to acknowledge cannot be written.
fn stop_after_first_commit(scene: &Scene, args: &[&str]) -> Output {
    Command::new(support::millpond())
        .args(args)
        .current_dir(scene.path())
        .env("MILLPOND_DEMO_ACK", "/dev/full")
        .output()
        .expect("the program runs")
}

#[test]
fn the_sample_and_what_to_look_at() {
    let mut scene = Scene::new();
    scene.run("demo").run("demo").run("workflows list").run("runs list").run("locks list");
    scene.run("dead-letters list").run("records get demo_terms lease").run("metrics operations document-pipeline@1");
    // How many commits came before hangs on how many artifacts were registered together.
    let said: Vec<String> = scene.transcript().lines().filter(|l| !l.starts_with("position  ")).map(str::to_owned).collect();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!("sample", said.join("\n")) });
}

#[test]
fn every_command_it_names_works() {
    let scene = Scene::new();
    let output = scene.quiet("--store ./elsewhere demo -o json");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout and nothing else");
    let commands = said["commands"].as_array().expect("commands");
    assert!(commands.len() >= 5);
    for command in commands {
        let line = command.as_str().expect("text").strip_prefix("millpond ").expect("this program");
        let output = scene.quiet(line);
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}: {}", stderr(&output));
    }
}

#[test]
fn started_anew_it_ends_the_same_and_follows_the_files() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path().join("texts")).expect("folder");
    scene.file("texts/a.md", "# One\n\nsome words here").file("texts/b.txt", "other words");
    let first = digest(&scene.quiet("demo texts"));
    let again = scene.quiet("demo texts --fresh");
    assert_eq!(digest(&again), first);
    assert!(!stderr(&again).contains("is complete"), "a new run was made: {}", stderr(&again));
    assert!(String::from_utf8_lossy(&scene.quiet("runs count").stdout).starts_with('2'));

    // A file that is gone leaves nothing behind, and one that cannot be read is counted.
    std::fs::remove_file(scene.path().join("texts/b.txt")).expect("removed");
    scene.file("texts/c.txt", b"half a charact\xc3");
    let other = digest(&scene.quiet("demo texts --fresh"));
    assert_ne!(other, first);
    assert_eq!(scene.quiet("records get demo_terms other").status.code(), Some(3));
    assert!(String::from_utf8_lossy(&scene.quiet("dead-letters list").stdout).contains("InvalidUtf8"));
}

#[test]
fn an_unfinished_run_is_taken_up_or_given_up_by_name() {
    let scene = Scene::new();
    for folder in ["one", "two"] {
        std::fs::create_dir(scene.path().join(folder)).expect("folder");
        scene.file(&format!("{folder}/a.md"), folder);
    }
    let stopped = stop_after_first_commit(&scene, &["demo", "one"]);
    assert_eq!(stopped.status.code(), Some(1), "{}", stderr(&stopped));
    let refused = scene.quiet("demo two");
    assert_eq!(refused.status.code(), Some(4));
    assert!(stderr(&refused).contains("unfinished demo over") && stderr(&refused).contains("--fresh"), "{}", stderr(&refused));
    let taken_up = scene.quiet("demo one");
    assert!(stderr(&taken_up).contains("going on with run"), "{}", stderr(&taken_up));
    digest(&taken_up);

    // Given up: the old run ends as cancelled.
    stop_after_first_commit(&scene, &["demo", "one", "--fresh"]);
    digest(&scene.quiet("demo two --fresh"));
    let states = String::from_utf8_lossy(&scene.quiet("runs list").stdout).into_owned();
    assert_eq!((states.matches("completed").count(), states.matches("cancelled").count()), (2, 1), "{states}");
}

#[test]
fn two_demos_on_one_store_do_not_collide() {
    let scene = Scene::new();
    assert!(scene.quiet("demo").status.success());
    let runtime = support::runtime();
    runtime.block_on(async {
        // Held by this very process, which is alive: so the lock is not taken over.
        let place = scene.path().join("millpond-data");
        let pond = millpond::open(place.to_str().expect("UTF-8")).await.expect("open");
        let request = LockRequest::of("demo", std::time::Duration::from_secs(60)).holder("the other demo");
        let lease = pond.locks().acquire(&request).await.expect("free");
        let second = scene.quiet("demo --fresh");
        assert_eq!(second.status.code(), Some(11));
        let said = format!("another demo (pid {}) is running on this store", std::process::id());
        assert!(stderr(&second).contains(&said), "{}", stderr(&second));
        pond.locks().release(&lease).await.expect("released");
        assert!(scene.quiet("demo --fresh").status.success());
    });
}

#[test]
fn a_folder_without_documents_leaves_no_store() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path().join("empty")).expect("folder");
    for line in ["demo empty", "demo missing"] {
        let output = scene.quiet(line);
        assert_eq!(output.status.code(), Some(3), "{line}");
        assert!(stderr(&output).contains("next:"), "{}", stderr(&output));
    }
    assert!(!scene.path().join("millpond-data").exists());
}

#[test]
fn what_is_no_readable_file_becomes_a_dead_letter_of_its_own() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new();
    let texts = scene.path().join("texts");
    std::fs::create_dir(&texts).expect("folder");
    scene.file("texts/a.md", "# One");
    assert!(Command::new("mkfifo").arg(texts.join("pipe.txt")).status().expect("mkfifo").success());
    std::os::unix::fs::symlink("/dev/zero", texts.join("zero.txt")).expect("a link");
    for name in [b"b\xff.txt", b"b\xfe.txt"] {
        std::fs::write(texts.join(std::ffi::OsStr::from_bytes(name)), "text").expect("a file");
    }
    let output = scene.quiet("demo texts -o json");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stored = said["stored"].as_array().expect("what was stored");
    assert!(stored.contains(&serde_json::json!({ "what": "dead letters", "count": 4 })), "{stored:?}");
    let list = String::from_utf8_lossy(&scene.quiet("dead-letters list").stdout).into_owned();
    for name in ["b\\xff.txt", "b\\xfe.txt", "pipe.txt", "zero.txt"] {
        assert!(list.contains(name), "{name}: {list}");
    }
}

#[test]
fn a_complete_demo_needs_no_files() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path().join("docs")).expect("folder");
    scene.file("docs/a.md", "# One\n\nwords");
    let first = digest(&scene.quiet("demo"));
    std::fs::remove_dir_all(scene.path().join("docs")).expect("removed");
    assert_eq!(digest(&scene.quiet("demo")), first);
    assert_eq!(digest(&scene.quiet("demo docs")), first);
    let anew = scene.quiet("demo docs --fresh");
    assert_eq!(anew.status.code(), Some(3), "{}", stderr(&anew));
    assert_eq!(digest(&scene.quiet("demo docs")), first, "what was there was not given up");
}

#[test]
fn a_run_that_still_reads_does_not_take_missing_files_for_broken_ones() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path().join("texts")).expect("folder");
    scene.file("texts/a.md", "# One");
    stop_after_first_commit(&scene, &["demo", "texts"]);
    std::fs::rename(scene.path().join("texts"), scene.path().join("away")).expect("moved");
    let stopped = scene.quiet("demo texts");
    assert_eq!(stopped.status.code(), Some(3), "{}", stderr(&stopped));
    std::fs::rename(scene.path().join("away"), scene.path().join("texts")).expect("moved back");
    digest(&scene.quiet("demo texts"));
}

#[test]
fn a_store_in_memory_names_no_commands() {
    let output = Scene::new().quiet("--store memory: demo");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("millpond --store"), "{output:?}");
    digest(&output);
}

#[test]
fn a_demo_whose_lock_was_taken_away_writes_nothing_more() {
    let scene = Scene::new();
    support::corpus(&scene.path().join("texts"), 200, &mut support::Random::new(7));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut child = Command::new(support::millpond())
        .args(["demo", "texts"])
        .current_dir(scene.path())
        .env("MILLPOND_DEMO_ACK", "/dev/fd/0")
        .stdin(writer)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut acks = std::io::BufReader::new(reader).lines();
    (0..5).for_each(|_| {
        acks.next().expect("it goes on").expect("a line");
    });
    let runtime = support::runtime();
    runtime.block_on(async {
        let place = scene.path().join("millpond-data");
        let pond = millpond::open(place.to_str().expect("UTF-8")).await.expect("open");
        let held = pond.locks().force_release("demo", "a test", "the test").await.expect("broken");
        assert!(held.is_some(), "the demo held its lock");
        let stands = async || {
            let saved = pond.checkpoints().latest(millpond::Scope::Workflow("document-pipeline".to_owned())).await;
            let artifacts = pond.artifacts().count(&millpond::ArtifactFilter::default()).await.expect("counted");
            (saved.expect("readable").expect("saved").info.version, artifacts)
        };
        let before = stands().await;
        acks.by_ref().for_each(drop);
        assert_eq!(child.wait().expect("ends").code(), Some(4));
        assert_eq!(stands().await, before, "nothing was decided after the lock was gone");
        let undone = millpond::UnitFilter { states: vec![millpond::UnitState::Pending], ..Default::default() };
        assert_eq!(pond.units().list(&undone).await.expect("listed").items.len(), 0, "what was staged is undone");
    });
    assert_eq!(scene.quiet("demo texts").status.code(), Some(0), "whoever has the lock next goes on");
}

/// What `demo replay` says, as JSON, and how it ended.
fn replay(scene: &Scene) -> (Option<i32>, serde_json::Value) {
    let output = scene.quiet("demo replay -o json");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| stderr(&output).into()))
}

#[test]
fn the_index_is_made_again_from_storage_alone() {
    let scene = Scene::new();
    let nothing = scene.quiet("demo replay");
    assert_eq!(nothing.status.code(), Some(3), "{}", stderr(&nothing));
    support::corpus(&scene.path().join("texts"), 60, &mut support::Random::new(7));
    stop_after_first_commit(&scene, &["demo", "texts"]);
    let early = scene.quiet("demo replay");
    assert_eq!(early.status.code(), Some(4));
    assert!(stderr(&early).contains("no complete demo") && stderr(&early).contains("millpond demo"), "{}", stderr(&early));
    digest(&scene.quiet("demo texts"));

    // Neither the files are needed nor what the stages left as records.
    std::fs::remove_dir_all(scene.path().join("texts")).expect("removed");
    for collection in ["demo_sources", "demo_texts", "demo_segments", "demo_terms"] {
        let said = scene.quiet(&format!("records query {collection} --limit 1 -o json"));
        let page: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
        let key = page["items"][0]["key"].as_str().expect("a key").to_owned();
        assert!(scene.quiet(&format!("--yes records delete {collection} '{key}'")).status.success(), "{collection} {key}");
    }
    let (code, said) = replay(&scene);
    assert_eq!((code, &said["same"], &said["parts"]), (Some(0), &64.into(), &64.into()), "{said}");
    for command in said["commands"].as_array().expect("commands") {
        let output = scene.quiet(command.as_str().expect("text").strip_prefix("millpond ").expect("this program"));
        assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {}", stderr(&output));
    }

    // A part that is another one is found.
    let run = said["replays"].as_str().expect("a run");
    scene.file("other", "other bytes");
    assert!(scene.quiet(&format!("artifacts put executions/{run}/documents/index/shard-07.jsonl other")).status.success());
    let (code, said) = replay(&scene);
    assert_eq!((code, &said["different"]), (Some(5), &serde_json::json!([7])), "{said}");
}

#[test]
fn a_damaged_segment_is_named_before_anything_is_made_again() {
    let scene = Scene::new();
    digest(&scene.quiet("demo"));
    let said: serde_json::Value = serde_json::from_slice(&scene.quiet("demo -o json").stdout).expect("JSON");
    let key = said["lineage"][0].as_str().expect("the segments of a file");
    let info: serde_json::Value =
        serde_json::from_slice(&scene.quiet(&format!("artifacts metadata {key} -o json")).stdout).expect("JSON");
    let location = info["location"].as_str().expect("a location");
    let object = scene.path().join("millpond-data/objects");
    let object = support::find(&object, location.rsplit('/').next().expect("a name"));
    let bytes = std::fs::read(&object).expect("bytes");
    std::fs::write(&object, b"x".repeat(bytes.len())).expect("damaged");
    let refused = scene.quiet("demo replay");
    assert_eq!(refused.status.code(), Some(5), "{}", stderr(&refused));
    assert!(stderr(&refused).contains(key), "{}", stderr(&refused));
    let runs = String::from_utf8_lossy(&scene.quiet("runs list").stdout).into_owned();
    assert_eq!((runs.matches("failed").count(), runs.matches("completed").count()), (1, 1), "{runs}");
    std::fs::write(&object, bytes).expect("mended");
    let (code, said) = replay(&scene);
    assert_eq!((code, &said["same"]), (Some(0), &64.into()), "{said}");
}

#[test]
fn a_replay_of_an_earlier_demo_is_given_up() {
    let scene = Scene::new();
    support::corpus(&scene.path().join("texts"), 60, &mut support::Random::new(7));
    digest(&scene.quiet("demo texts"));
    let is_running = || String::from_utf8_lossy(&scene.quiet("runs list").stdout).contains("running");
    // Killed once its run is there. One that was faster than the look has made its index, and the next one begins anew.
    let stopped = (0..50).any(|_| {
        let mut child = replaying(&scene, std::process::Stdio::null());
        loop {
            match child.try_wait().expect("known") {
                None if !is_running() => {}
                None => break,
                Some(status) => {
                    assert!(status.success(), "a replay that was not killed ends well: {status}");
                    return false;
                }
            }
        }
        child.kill().expect("killed");
        child.wait().expect("ends");
        is_running()
    });
    assert!(stopped, "each was over before it could be killed");
    digest(&scene.quiet("demo texts --fresh"));
    let (code, said) = replay(&scene);
    assert_eq!((code, &said["same"]), (Some(0), &64.into()), "{said}");
    let runs = String::from_utf8_lossy(&scene.quiet("runs list").stdout).into_owned();
    assert_eq!((runs.matches("cancelled").count(), runs.matches("running").count()), (1, 0), "{runs}");
    let pins: serde_json::Value = serde_json::from_slice(&scene.quiet("pins list -o json").stdout).expect("JSON");
    assert_eq!(pins["items"], serde_json::json!([]));
}

/// A replay in a process of its own.
fn replaying(scene: &Scene, stderr: std::process::Stdio) -> std::process::Child {
    let mut command = Command::new(support::millpond());
    command.args(["demo", "replay"]).current_dir(scene.path()).stdout(std::process::Stdio::null()).stderr(stderr);
    command.spawn().expect("starts")
}

#[test]
fn killed_while_it_replays_it_goes_on() {
    let scene = Scene::new();
    support::corpus(&scene.path().join("texts"), 60, &mut support::Random::new(7));
    digest(&scene.quiet("demo texts"));
    let mut kills = 0;
    // Each life has a little more time, until one ends by itself.
    for pause in (20..).step_by(20).map(std::time::Duration::from_millis) {
        let mut child = replaying(&scene, std::process::Stdio::inherit());
        std::thread::sleep(pause);
        if let Some(status) = child.try_wait().expect("known") {
            assert!(status.success(), "a life that was not killed ends well: {status}");
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("ends");
        kills += 1;
        // One that was killed between its last commit and its end has nothing left to go on with.
        if String::from_utf8_lossy(&scene.quiet("runs list").stdout).matches("completed").count() == 2 {
            break;
        }
    }
    println!("killed {kills} times");
    assert!(kills > 0, "the first life was over before it could be killed");
    let runs: serde_json::Value = serde_json::from_slice(&scene.quiet("runs list -o json").stdout).expect("JSON");
    let runs = runs["items"].as_array().expect("runs").clone();
    assert_eq!(runs.len(), 2, "killed and started again, it is still one run: {runs:?}");
    assert!(runs.iter().all(|run| run["status"] == "completed"), "{runs:?}");
    // One that was killed while it undid the unit of another leaves that to whoever looks.
    assert!(scene.quiet("units recover").status.success());
    let units = String::from_utf8_lossy(&scene.quiet("units list --limit 1000").stdout).into_owned();
    assert!(!units.contains("pending") && !units.contains("aborting"), "{units}");
    // Each message once, and each part of the index.
    let (code, said) = replay(&scene);
    assert_eq!((code, &said["same"]), (Some(0), &64.into()), "{said}");
    let again = runs.iter().find(|run| run["tags"].to_string().contains("replay")).expect("the replay")["id"].as_str();
    let stream: serde_json::Value =
        serde_json::from_slice(&scene.quiet(&format!("events list --stream demo/{} -o json", again.expect("an id"))).stdout)
            .expect("JSON");
    let keys: Vec<&str> = stream["items"].as_array().expect("events").iter().filter_map(|e| e["data"]["key"].as_str()).collect();
    let mut once = keys.clone();
    once.sort_unstable();
    once.dedup();
    assert!(!keys.is_empty() && keys == once, "each once, in their order: {keys:?}");
}
