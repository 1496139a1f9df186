//! Whatever a person does to the files of a readable tree, and whenever: no byte that was written by hand is lost.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/files.rs"]
mod files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millpond::{Commit, Flow, NewEvent, NewWorkflow, OpenOptions, Pond, Read, yaml};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a person, or the store, does next.
#[derive(Debug, Clone)]
enum Step {
    /// Writes this over the nth file there is.
    Write(usize, Text),
    /// Writes a new file.
    New(&'static str, Text),
    /// Deletes the nth file.
    Delete(usize),
    /// The store changes the flow.
    Update,
    /// The store takes another version, or deletes the newest.
    Version(bool),
    /// The store changes a record and appends to a stream.
    Commit,
    /// Edits are adopted.
    Adopt,
    /// The store is closed and opened.
    Reopen,
}

/// What is written: made from what was there, and always new.
#[derive(Debug, Clone)]
enum Text {
    Comment,
    Changed,
    Flat,
    Nonsense,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let text = || prop::sample::select(vec![Text::Comment, Text::Changed, Text::Changed, Text::Flat, Text::Nonsense, Text::Cut]);
    let new = prop::sample::select(vec!["workflows/etl/7.yaml", "workflows/new.yaml", "flows/other.yaml", "flows/Odd one.json"]);
    prop_oneof![
        4 => (0usize..20, text()).prop_map(|(n, text)| Step::Write(n, text)),
        1 => (new, text()).prop_map(|(path, text)| Step::New(path, text)),
        1 => (0usize..20).prop_map(Step::Delete),
        1 => Just(Step::Update),
        1 => any::<bool>().prop_map(Step::Version),
        1 => Just(Step::Commit),
        2 => Just(Step::Adopt),
        1 => Just(Step::Reopen),
    ]
}

/// A person's text. `n` makes each one new.
fn text(kind: &Text, path: &str, before: &str, n: usize) -> String {
    match kind {
        Text::Comment if path.ends_with("json") || path.ends_with("jsonl") => format!("{before} \n\n{}", " ".repeat(n)),
        Text::Comment => format!("# words {n}\n{before}"),
        Text::Changed if before.is_empty() => format!("name: new\nnodes: []\ndescription: words {n}\n"),
        Text::Changed if path.starts_with("records/") => before.replacen('{', &format!("{{\n  \"words\": {n},"), 1),
        Text::Changed if path.starts_with("streams/") => before.replacen('1', &format!("{n}"), 1),
        Text::Changed => format!("{before}words: {n}\n"),
        Text::Flat => format!("{{name: flat, nodes: [], words: {n}}}"),
        Text::Nonsense => format!("[unclosed {n}"),
        Text::Cut => before.chars().take(before.chars().count() / 2).chain(format!("\n# {n}").chars()).collect(),
    }
}

struct World {
    place: tempfile::TempDir,
    pond: Pond,
    /// Texts that have to be somewhere.
    owed: Vec<String>,
    /// What a person wrote and nobody looked at yet, by path.
    fresh: BTreeMap<String, String>,
    n: usize,
}

fn tree(place: &Path) -> PathBuf {
    place.join("tree/default")
}

async fn open(place: &Path) -> Pond {
    OpenOptions::new().open(&format!("file:{}?tree=all", place.display())).await.unwrap()
}

impl World {
    async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let pond = open(place.path()).await;
        let etl = json!({"id": "etl", "version": 1, "nodes": [], "edges": []});
        pond.workflows().store(&NewWorkflow::of(etl)).await.unwrap();
        pond.flows().create(&Flow::new("ingest", "Ingest")).await.unwrap();
        let mut world = Self { place, pond, owed: Vec::new(), fresh: BTreeMap::new(), n: 0 };
        world.commit().await;
        world.pond.tree().unwrap().finish().await.unwrap();
        world
    }

    async fn commit(&mut self) {
        self.n += 1;
        let event = NewEvent::of("counted", &self.n).unwrap();
        let commit = Commit::new().put("tenants", "t1", &json!({"n": self.n})).unwrap().append("audit", event).unwrap();
        self.pond.commit(commit).await.unwrap();
    }

    fn tree(&self) -> PathBuf {
        tree(self.place.path())
    }

    /// The files that a person may pick; what is kept aside is not edited.
    fn pick(&self, n: usize) -> Option<String> {
        let files: Vec<String> = files::of_tree(&self.tree()).into_iter().filter(|f| !f.starts_with("conflicts/")).collect();
        files.get(n % files.len().max(1)).cloned()
    }

    /// A person writes over a file, or deletes it: what stood there is theirs to destroy.
    fn by_hand(&mut self, path: &str, text: Option<String>) {
        let file = self.tree().join(path);
        if let Ok(before) = std::fs::read_to_string(&file) {
            // Also where the store has set the version in it, when it adopted the text.
            self.owed.retain(|owed| without_version(owed) != without_version(&before));
        }
        self.fresh.remove(path);
        match text {
            None => std::fs::remove_file(file).unwrap(),
            Some(text) => {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, &text).unwrap();
                self.fresh.insert(path.to_owned(), text);
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        self.n += 1;
        match step {
            Step::Write(which, kind) => {
                let Some(path) = self.pick(*which) else { return };
                let before = std::fs::read_to_string(self.tree().join(&path)).unwrap();
                let text = text(kind, &path, &before, self.n);
                if text != before {
                    self.by_hand(&path, Some(text));
                }
            }
            Step::New(path, kind) => {
                let before = std::fs::read_to_string(self.tree().join(path)).unwrap_or_default();
                self.by_hand(path, Some(text(kind, path, &before, self.n)));
            }
            Step::Delete(which) => {
                if let Some(path) = self.pick(*which) {
                    self.by_hand(&path, None);
                }
            }
            Step::Update => {
                let flow = self.pond.flows().require("ingest").await.unwrap();
                self.pond.flows().update(&flow.renamed(format!("Name {}", self.n))).await.unwrap();
            }
            Step::Version(true) => {
                let new = NewWorkflow::of(json!({"id": "etl", "version": 1, "n": self.n})).next();
                self.pond.workflows().store(&new).await.unwrap();
            }
            Step::Version(false) => {
                if let Some(latest) = self.pond.workflows().latest("etl").await.unwrap() {
                    self.pond.workflows().delete("etl", latest.version, None).await.unwrap();
                    // An edit that had become this version, and said nothing beside it, was deleted with it.
                    let gone = plain(latest.value.definition);
                    self.owed.retain(|text| said(text).as_ref() != Some(&gone));
                }
            }
            Step::Commit => self.commit().await,
            Step::Adopt => {
                self.pond.tree().unwrap().adopt(false).await.unwrap();
                self.settle().await;
            }
            Step::Reopen => {
                self.pond.close().await.unwrap();
                self.pond = open(self.place.path()).await;
                assert_eq!(self.pond.tree().unwrap().status().await.unwrap().error, None);
                self.settle().await;
            }
        }
    }

    /// Everything written by hand was looked at: it is somewhere.
    async fn settle(&mut self) {
        self.owed.extend(std::mem::take(&mut self.fresh).into_values());
        let root = self.tree();
        let there: Vec<String> = files::of_tree(&root).iter().map(|f| std::fs::read_to_string(root.join(f)).unwrap()).collect();
        let stored = self.stored().await;
        for text in &self.owed {
            let verbatim = there.iter().any(|file| file == text || without_version(file) == without_version(text));
            let said = || said(text).is_some_and(|value| stored.contains(&value));
            // A stream's file may have been left with some of its own lines: each of them is there again.
            let lines = text.lines().all(|line| {
                serde_json::from_str::<Value>(line).is_ok_and(|event| event.get("stream").is_some())
                    && there.iter().any(|file| file.lines().any(|known| known == line))
            });
            assert!(text.trim().is_empty() || verbatim || lines || said(), "lost:\n{text}\nstored: {stored:#?}");
        }
    }

    /// Everything the store ever said.
    async fn stored(&self) -> Vec<Value> {
        let mut said = Vec::new();
        for collection in ["workflow_versions", "flow_versions", "tenants"] {
            let query = millpond::Query::new(collection).unwrap().limit(1_000);
            let read = self.pond.store().read(vec![Read::Query(query)]).await.unwrap().pop().unwrap();
            for record in read.into_page().unwrap().items {
                let value = record.value.value().unwrap();
                let part = value.get("definition").or_else(|| value.get("flow")).unwrap_or(&value).clone();
                said.push(plain(part));
            }
        }
        said
    }

    /// The tree is as the store says: nothing is left to adopt, and each definition has its file.
    async fn end(&mut self) {
        let tree = self.pond.tree().unwrap();
        tree.adopt(false).await.unwrap();
        self.settle().await;
        let tree = self.pond.tree().unwrap();
        assert_eq!(tree.adopt(true).await.unwrap(), []);
        let flow = self.pond.flows().require("ingest").await.unwrap().value;
        let shown = yaml::parse(&std::fs::read_to_string(self.tree().join("flows/ingest.yaml")).unwrap()).unwrap();
        assert_eq!(shown, serde_json::to_value(&flow).unwrap());
        for version in self.pond.workflows().list("etl", 1_000, None).await.unwrap().items {
            let path = self.tree().join(format!("workflows/etl/{}.yaml", version.version));
            assert_eq!(yaml::parse(&std::fs::read_to_string(path).unwrap()).unwrap(), version.definition);
        }
        let lines = std::fs::read_to_string(self.tree().join("streams/audit.jsonl")).unwrap();
        let head = self.pond.store().stream("audit").await.unwrap().unwrap().head;
        assert_eq!(lines.lines().count() as u64, head);
        self.pond.close().await.unwrap();
    }
}

/// What a text says that has nothing beside its value: no comment, no layout of its own.
fn said(text: &str) -> Option<Value> {
    let in_yaml = || yaml::parse(text).ok().filter(|v| yaml::write(v).is_ok_and(|own| own == text));
    let in_json = || serde_json::from_str(text).ok().filter(|v: &Value| format!("{v:#}\n") == text);
    in_yaml().or_else(in_json).map(plain)
}

/// Text without the line that the store may set.
fn without_version(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("version:")).collect::<Vec<_>>().join("\n")
}

/// A value without what the store itself writes.
fn plain(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for own in ["version", "runtime_state", "created_at", "updated_at", "last_modified", "created_by", "connections", "id"] {
            fields.remove(own);
        }
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_edit_loses_a_byte(steps in prop::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.step(step).await;
            }
            world.end().await;
        });
    }
}

/// A person saves again and again while the store changes the same flow and writes the same file.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_at_any_moment_is_found() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let world = World::new().await;
    let root = world.tree();
    let enough = Arc::new(AtomicBool::new(false));
    let saver = {
        let (root, mine, enough) = (root.clone(), world.place.path().join("mine.yaml"), Arc::clone(&enough));
        std::thread::spawn(move || {
            let mut overwritten = std::collections::HashSet::new();
            let mut n = 0;
            while !enough.load(Ordering::SeqCst) {
                n += 1;
                // Not so fast that a save is only ever overwritten by the next.
                std::thread::sleep(std::time::Duration::from_millis(1));
                let text = format!("id: ingest\nname: Mine\ndescription: saved-{n}-\nnodes: []\nconnections: []\n");
                std::fs::write(&mine, text).unwrap();
                // An exchange, to know what the person overwrote.
                if renameat_with(CWD, &mine, CWD, root.join("flows/ingest.yaml"), RenameFlags::EXCHANGE).is_err() {
                    overwritten.insert(n);
                    continue;
                }
                let before = std::fs::read_to_string(&mine).unwrap();
                let saved = before.split("saved-").nth(1).and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
                overwritten.extend(saved);
            }
            (n, overwritten)
        })
    };
    for turn in 1..=60 {
        let flow = world.pond.flows().require("ingest").await.unwrap();
        // Of a save that is adopted at this moment the store's own user hears.
        let _ = world.pond.flows().update(&flow.renamed(format!("Turn {turn}"))).await;
        world.pond.tree().unwrap().finish().await.unwrap();
        if turn % 3 == 0 {
            world.pond.tree().unwrap().adopt(false).await.unwrap();
        }
    }
    enough.store(true, Ordering::SeqCst);
    let (saves, overwritten) = saver.join().unwrap();
    world.pond.tree().unwrap().adopt(false).await.unwrap();
    let mut there: String = files::of_tree(&root).iter().map(|f| std::fs::read_to_string(root.join(f)).unwrap()).collect();
    there.extend(world.stored().await.iter().map(Value::to_string));
    let lost: Vec<usize> = (1..=saves).filter(|n| !overwritten.contains(n) && !there.contains(&format!("saved-{n}-"))).collect();
    assert_eq!(lost, Vec::<usize>::new());
    let found = saves - overwritten.len();
    assert!(found > 20, "{found} of {saves} saves were looked at: too few to tell");
}
