//! The readable tree of a store in files: what it shows, what is adopted of it, and that nothing a person wrote is lost.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "support/files.rs"]
mod files;

use std::path::PathBuf;

use millpond::{
    Adoption, Commit, Fate, Flow, FlowNode, Json, NewEvent, NewWorkflow, OpenOptions, Pond, Result, VersionRef, yaml,
};
use serde_json::json;

/// A store in a folder.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn url(&self, more: &str) -> String {
        format!("file:{}{more}", self.0.path().display())
    }

    async fn open(&self) -> Pond {
        millpond::open(&self.url("")).await.unwrap()
    }

    /// Opens without adopting.
    async fn look(&self) -> Pond {
        OpenOptions::new().adopt_edits(false).open(&self.url("")).await.unwrap()
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("tree/default")
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.tree().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.tree().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path}: {text}");
        self.write(path, &text.replace(from, to));
    }

    fn exists(&self, path: &str) -> bool {
        self.tree().join(path).exists()
    }

    /// Every file but the tree's own, by path.
    fn files(&self) -> Vec<String> {
        files::of_tree(&self.tree())
    }
}

const ETL: &str = "id: etl\nversion: 1\nnodes:\n- id: a\n  type: read\nedges:\n- from: START\n  to: a\n";

async fn with_definitions(pond: &Pond) {
    pond.workflows().store(&NewWorkflow::from_yaml(ETL).unwrap().author("anna")).await.unwrap();
    let flow = Flow::new("ingest", "Ingest").node(FlowNode::new("udp", "udp", "input"));
    pond.flows().create(&flow).await.unwrap();
}

fn fates(told: &[Adoption]) -> Vec<(&str, Fate)> {
    told.iter().map(|a| (a.file.as_str(), a.fate)).collect()
}

#[tokio::test]
async fn definitions_are_files_once_the_store_is_closed() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    pond.commit(Commit::new().put("tenants", "t1", &json!({"plan": "pro"}))?).await?;
    pond.close().await?;
    assert_eq!(place.files(), ["flows/ingest.yaml", "workflows/etl/1.yaml"]);
    let etl = yaml::parse(&place.read("workflows/etl/1.yaml"))?;
    assert_eq!(etl, yaml::parse(ETL)?);
    let flow = yaml::parse(&place.read("flows/ingest.yaml"))?;
    assert_eq!((flow["id"].clone(), flow["nodes"][0]["id"].clone()), (json!("ingest"), json!("udp")));

    let pond = place.open().await;
    assert!(pond.tree().unwrap().at_open().is_empty());
    let status = pond.tree().unwrap().status().await?;
    assert_eq!((status.files, status.behind, status.everything, status.error), (2, 0, false, None));
    pond.workflows().delete("etl", 1, None).await?;
    pond.close().await?;
    assert_eq!(place.files(), ["flows/ingest.yaml"]);
    Ok(())
}

#[tokio::test]
async fn files_follow_the_store_without_being_asked() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    let written = async {
        while !place.exists("workflows/etl/1.yaml") || pond.tree().unwrap().status().await?.behind > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Result::Ok(())
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), written).await.expect("written behind")?;
    Ok(())
}

#[tokio::test]
async fn an_edited_version_becomes_the_next_one() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    pond.close().await?;
    let before = place.read("workflows/etl/1.yaml");
    place.edit("workflows/etl/1.yaml", "type: read", "type: fetch # faster");

    let pond = place.open().await;
    let told = pond.tree().unwrap().at_open();
    assert_eq!(fates(told), [("workflows/etl/1.yaml", Fate::Adopted)]);
    assert_eq!((told[0].detail.as_str(), &told[0].kept), ("etl@2, made from etl@1", &None));
    let second = pond.workflows().require("etl", 2).await?;
    assert_eq!(second.parent, Some(VersionRef::new("etl", 1)));
    assert_eq!((&second.definition["nodes"][0]["type"], second.author.as_deref()), (&json!("fetch"), Some("anna")));
    // The person's words are in the file of what they became.
    assert!(place.read("workflows/etl/2.yaml").contains("version: 2\n"));
    assert!(place.read("workflows/etl/2.yaml").contains("type: fetch # faster"));
    assert_eq!(place.read("workflows/etl/1.yaml"), before);
    pond.close().await?;
    let pond = place.open().await;
    assert!(pond.tree().unwrap().at_open().is_empty(), "once is enough");
    assert_eq!(pond.workflows().list("etl", 10, None).await?.items.len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_older_flow_checked_out_is_an_edit_of_the_newest() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    pond.close().await?;
    let old = place.read("flows/ingest.yaml");
    let pond = place.open().await;
    let flow = pond.flows().require("ingest").await?;
    pond.flows().update(&flow.renamed("Renamed")).await?;
    pond.close().await?;
    assert!(place.read("flows/ingest.yaml").contains("name: Renamed"));
    place.write("flows/ingest.yaml", &old);

    let pond = place.open().await;
    assert_eq!(fates(pond.tree().unwrap().at_open()), [("flows/ingest.yaml", Fate::Adopted)]);
    let flow = pond.flows().require("ingest").await?;
    assert_eq!((flow.name.as_str(), flow.version), ("Ingest", 3));
    let newest = pond.flows().at_version("ingest", 3).await?.unwrap();
    assert_eq!(newest.changed_by.as_deref(), Some("edited by hand"));
    assert!(place.read("flows/ingest.yaml").contains("version: 3"));
    Ok(())
}

#[tokio::test]
async fn what_breaks_a_rule_or_comes_too_late_is_kept_aside() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    pond.close().await?;
    let (etl, flow) = (place.read("workflows/etl/1.yaml"), place.read("flows/ingest.yaml"));
    place.edit("workflows/etl/1.yaml", "to: a", "to: nowhere");
    place.edit("flows/ingest.yaml", "name: Ingest", "name: [unclosed");
    place.write("workflows/new.yaml", "just: text\nversion: 0\nname: ''\nid: ''\n");
    let pond = place.open().await;
    let told = pond.tree().unwrap().at_open();
    let all = ["flows/ingest.yaml", "workflows/etl/1.yaml", "workflows/new.yaml"];
    assert_eq!(fates(told), all.map(|file| (file, Fate::Kept)));
    assert!(told[1].detail.contains("there is no node \"nowhere\""), "{}", told[1].detail);
    for (told, words) in told.iter().zip(["name: [unclosed", "to: nowhere", "just: text"]) {
        let kept = told.kept.as_deref().unwrap();
        assert!(place.read(kept).contains(words));
        let place_kept = kept.strip_suffix(&told.file).unwrap();
        let reason = place.read(&format!("{place_kept}reason.txt"));
        assert!(reason.contains(&told.detail) && reason.contains(&told.file), "{reason}");
    }
    assert_eq!((place.read("workflows/etl/1.yaml"), place.read("flows/ingest.yaml")), (etl, flow));
    assert!(!place.exists("workflows/new.yaml"));

    // The store goes on while a file is edited: the edit comes too late.
    place.edit("flows/ingest.yaml", "name: Ingest", "name: Mine");
    let flow = pond.flows().require("ingest").await?;
    pond.flows().update(&flow.renamed("Theirs")).await?;
    let told = pond.tree().unwrap().adopt(false).await?;
    assert_eq!(fates(&told), [("flows/ingest.yaml", Fate::Kept)]);
    assert!(place.read(told[0].kept.as_deref().unwrap()).contains("name: Mine"));
    assert!(place.read("flows/ingest.yaml").contains("name: Theirs"));
    Ok(())
}

#[tokio::test]
async fn a_deleted_file_is_restored_and_a_new_one_adopted() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    pond.close().await?;
    let etl = place.read("workflows/etl/1.yaml");
    std::fs::remove_dir_all(place.tree().join("workflows")).unwrap();
    place.write("flows/ingest.yaml", "");
    place.write("workflows/load/1.yaml", "# by hand\nnodes: []\nedges: []\n");
    place.write("workflows/other.yml", "{name: other, steps: [1]}");
    place.write("flows/My Flow.yaml", "# mine\nname: Mine\nnodes: []\n");
    place.write("workflows/README.md", "left alone");
    place.write("workflows/.etl.swp", "left alone");
    let pond = place.open().await;
    let told = pond.tree().unwrap().at_open();
    assert_eq!(
        fates(told),
        [
            ("flows/My Flow.yaml", Fate::Adopted),
            ("flows/ingest.yaml", Fate::Restored),
            ("workflows/load/1.yaml", Fate::Adopted),
            ("workflows/other.yml", Fate::Adopted),
            ("workflows/etl/1.yaml", Fate::Restored),
        ]
    );
    assert_eq!(place.read("workflows/etl/1.yaml"), etl);
    assert_eq!(place.read("workflows/load/1.yaml"), "# by hand\nnodes: []\nedges: []\n");
    assert_eq!(pond.workflows().require("load", 1).await?.definition, json!({"nodes": [], "edges": []}));
    assert_eq!(place.read("workflows/other/1.yaml"), "{name: other, steps: [1]}");
    assert_eq!(pond.flows().require("My Flow").await?.name, "Mine");
    assert!(place.exists("flows/%4Dy%20%46low.yaml") && !place.exists("flows/My Flow.yaml"));
    assert!(place.exists("workflows/README.md") && place.exists("workflows/.etl.swp"));
    // What was written without the store's own fields is not the file's text: it is kept.
    assert!(place.read(told[0].kept.as_deref().unwrap()).starts_with("# mine"));
    Ok(())
}

#[tokio::test]
async fn a_dry_run_changes_nothing() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    pond.close().await?;
    place.edit("workflows/etl/1.yaml", "type: read", "type: fetch");
    place.edit("flows/ingest.yaml", "name: Ingest", "name: ''");
    std::fs::write(place.tree().join(".millpond/tmp/x-1-1.swap"), "left over").unwrap();
    let (files, texts) = (place.files(), [place.read("workflows/etl/1.yaml"), place.read("flows/ingest.yaml")]);
    let pond = place.look().await;
    let head = pond.store().head().await?;
    let told = pond.tree().unwrap().adopt(true).await?;
    assert_eq!(fates(&told), [("flows/ingest.yaml", Fate::Kept), ("workflows/etl/1.yaml", Fate::Adopted)]);
    assert_eq!(told[1].detail, "etl@2, made from etl@1");
    assert_eq!(pond.store().head().await?, head);
    assert_eq!(place.files(), files);
    assert_eq!([place.read("workflows/etl/1.yaml"), place.read("flows/ingest.yaml")], texts);
    assert!(place.exists(".millpond/tmp/x-1-1.swap"));
    let told = pond.tree().unwrap().adopt(false).await?;
    assert_eq!(told.len(), 3);
    assert!(place.read(told[0].kept.as_deref().unwrap()).contains("left over"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn everything_is_files_when_asked_for() -> Result<()> {
    let place = Place::new();
    let pond = millpond::open(&place.url("?tree=all")).await?;
    with_definitions(&pond).await;
    let event = |n: u32| NewEvent::of("counted", &json!({ "n": n })).unwrap();
    pond.commit(Commit::new().put("tenants", "Big/one", &json!({"plan": "pro"}))?.append("audit/x", event(1))?).await?;
    pond.tree().unwrap().finish().await?;
    pond.commit(Commit::new().append("audit/x", event(2))?).await?;
    pond.close().await?;
    assert_eq!(place.read("records/tenants/%42ig/one.json"), "{\n  \"plan\": \"pro\"\n}\n");
    let lines: Vec<millpond::Event> =
        place.read("streams/audit/x.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2]);

    // Adopted: a document of nobody's domain. Never: streams, and what a domain owns.
    place.edit("records/tenants/%42ig/one.json", "pro", "free");
    place.edit("records/workflows/etl.json", "\"highest\": 1", "\"highest\": 9");
    let stream = place.read("streams/audit/x.jsonl");
    place.write("streams/audit/x.jsonl", &stream.replace("counted", "forged!"));
    let pond = place.open().await; // What it showed before it shows again.
    let told = pond.tree().unwrap().at_open();
    assert_eq!(
        fates(told),
        [
            ("records/tenants/%42ig/one.json", Fate::Adopted),
            ("records/workflows/etl.json", Fate::Kept),
            ("streams/audit/x.jsonl", Fate::Kept),
        ]
    );
    let tenant = pond.store().get("tenants", "Big/one").await?.unwrap();
    assert_eq!((tenant.value, tenant.revision), (Json::parse("{\"plan\":\"free\"}")?, 2));
    assert!(place.read(told[2].kept.as_deref().unwrap()).contains("forged!"));
    assert_eq!(place.read("streams/audit/x.jsonl"), stream);

    // A process that was killed while it appended: its lines are the store's own.
    pond.close().await?;
    place.write("streams/audit/x.jsonl", &stream[..stream.len() - 9]);
    let pond = place.open().await;
    assert!(pond.tree().unwrap().at_open().is_empty());
    assert_eq!(place.read("streams/audit/x.jsonl"), stream);
    pond.close().await?;

    let pond = millpond::open(&place.url("?tree=definitions")).await?;
    pond.close().await?;
    let left = place.files().into_iter().filter(|f| f.starts_with("records") || f.starts_with("streams")).count();
    assert_eq!(left, 0, "a narrower tree takes its files away");
    Ok(())
}

#[tokio::test]
async fn a_tree_without_its_manifest_and_a_tree_of_another_store() -> Result<()> {
    let place = Place::new();
    let pond = place.open().await;
    with_definitions(&pond).await;
    pond.close().await?;
    std::fs::write(place.tree().join(".millpond/manifest.json"), "{half").unwrap();
    place.write("workflows/load/1.yaml", "nodes: []\n");
    let pond = place.open().await;
    assert_eq!(fates(pond.tree().unwrap().at_open()), [("workflows/load/1.yaml", Fate::Adopted)]);
    pond.close().await?;

    // Into a fresh folder goes what was kept in git: the files, not what is the tree's own.
    let fresh = Place::new();
    for file in ["workflows/etl/1.yaml", "workflows/load/1.yaml", "flows/ingest.yaml"] {
        fresh.write(file, &place.read(file));
    }
    let pond = fresh.open().await;
    assert_eq!(pond.tree().unwrap().at_open().len(), 3);
    assert_eq!(pond.workflows().require("etl", 1).await?.definition, yaml::parse(ETL)?);
    pond.close().await?;

    // Another store in the same folder makes nothing of the first one's files.
    std::fs::remove_dir_all(fresh.0.path().join("journals")).unwrap();
    std::fs::remove_dir_all(fresh.0.path().join("cache")).unwrap();
    let pond = fresh.open().await;
    let told = pond.tree().unwrap().at_open();
    assert_eq!(fates(told), [(".", Fate::Kept)]);
    assert!(fresh.exists(&format!("{}/workflows/etl/1.yaml", told[0].kept.as_deref().unwrap())));
    assert!(pond.workflows().latest("etl").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn two_handles_write_one_tree() -> Result<()> {
    let place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    for (i, pond) in [&one, &other, &one, &other].into_iter().enumerate() {
        pond.workflows().store(&NewWorkflow::of(json!({"id": "w", "n": i}))).await?;
        pond.tree().unwrap().finish().await?;
    }
    assert_eq!(place.files(), [1, 2, 3, 4].map(|n| format!("workflows/w/{n}.yaml")));
    assert!(!place.exists("conflicts"));
    Ok(())
}
