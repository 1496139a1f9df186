//! The readable tree of the demo: complete when it ends, also when its process was killed again and again while a
//! person edited files.

mod support;

use std::path::Path;
use std::time::Duration;

use support::life::Demo;
use support::scene::Scene;
use support::{Random, corpus, fresh_seed};

/// Every file of the tree below a folder of it.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = walk(folder);
    entries.into_iter().filter(|p| p.is_file()).collect()
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|e| e.expect("an entry").path());
    paths.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

fn json(scene: &Scene, line: &str) -> serde_json::Value {
    let output = scene.quiet(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// As many files as the store has records and streams, and nothing to adopt.
fn check_complete(scene: &Scene) {
    let store = "--store file:s";
    let collections = json(scene, &format!("store collections {store} -o json"));
    let tree = scene.path().join("s/tree/default");
    for collection in collections["items"].as_array().expect("collections") {
        let name = collection["name"].as_str().expect("a name");
        let folder = match name {
            "workflow_versions" => tree.join("workflows"),
            "flows" => tree.join("flows"),
            other => tree.join("records").join(other),
        };
        assert_eq!(files(&folder).len() as u64, collection["records"].as_u64().expect("a number"), "{name}");
    }
    let streams = json(scene, &format!("events streams {store} -o json"));
    for stream in streams["items"].as_array().expect("streams") {
        let path = tree.join("streams").join(format!("{}.jsonl", stream["stream"].as_str().expect("a name")));
        let lines = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(lines.lines().count() as u64, stream["head"].as_u64().expect("a number"), "{}", path.display());
    }
    assert_eq!(json(scene, &format!("adopt --dry-run {store} -o json"))["items"], serde_json::json!([]));
    let left = files(&tree.join(".millpond/tmp"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demo_is_readable_and_complete() {
    let scene = Scene::new();
    corpus(&scene.path().join("docs"), 12, &mut Random::new(7));
    let demo = scene.quiet("demo docs --store file:s?tree=all");
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
    check_complete(&scene);
    let tree = scene.path().join("s/tree/default");
    let definition = files(&tree.join("workflows")).pop().expect("a workflow");
    let text = std::fs::read_to_string(definition).expect("readable");
    assert!(text.starts_with("id: ") && text.contains("nodes:"), "{text}");
    assert!(!files(&tree.join("records/runs")).is_empty());
    assert!(!tree.join("conflicts").exists());
}

#[test]
fn killed_again_and_again_while_somebody_edits() {
    let seed = fresh_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let scene = Scene::new();
    corpus(&scene.path().join("docs"), 240, &mut random);
    let store = format!("file:{}?tree=all", scene.path().join("s").display());
    let demo = Demo::on(Path::new(&store), &scene.path().join("docs"));
    let tree = scene.path().join("s/tree/default");
    let mut killed = 0;
    for life in 0..12 {
        let acks = usize::try_from(1 + random.below(4)).expect("small");
        let lived = demo.live(Some((acks, Duration::from_micros(random.below(40_000)))));
        killed += usize::from(lived.killed);
        // A new definition, and words in one that is there.
        std::fs::create_dir_all(tree.join("workflows")).expect("a folder");
        std::fs::write(tree.join(format!("workflows/w{life}.yaml")), format!("# words-{life}-\nname: w{life}\n"))
            .expect("a file");
        let mine = tree.join("workflows/w0/1.yaml");
        if let Ok(text) = std::fs::read_to_string(&mine) {
            std::fs::write(&mine, format!("{text}# more-{life}-\n")).expect("a file");
        }
    }
    assert!(killed > 6, "only {killed} of 12 lives were killed");
    let last = demo.live(None);
    assert!(last.digest.is_some());
    check_complete(&scene);
    let words: String =
        files(&tree).iter().map(|f| String::from_utf8_lossy(&std::fs::read(f).expect("a file")).into_owned()).collect();
    for life in 0..12 {
        assert!(words.contains(&format!("# words-{life}-")), "the words of life {life} are lost");
        assert!(tree.join(format!("workflows/w{life}/1.yaml")).exists(), "w{life} was not adopted");
        assert!(!tree.join(format!("workflows/w{life}/2.yaml")).exists(), "w{life} was adopted twice");
    }
}
