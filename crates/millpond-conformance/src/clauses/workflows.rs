//! Workflows: versions that never change, numbers that never come again, lineage that outlives deletion.

use std::sync::Arc;

use millpond::{
    Commit, ErrorKind, NewWorkflow, Page, Result, Tags, VersionRef, Versioned, WorkflowFilter, WorkflowHead, WorkflowVersion,
    Workflows,
};
use serde_json::json;

use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "workflows":
    numbers_are_given_in_order => "a version is the next one or the one asked for; a taken one is refused and the next is named";
    a_version_never_changes => "no write changes a stored version: not a second store, not a raw commit, not a trusted one";
    racing_stores_share_no_number => "stores through two handles at once each get a version of their own";
    a_deleted_number_never_comes_again => "after a deletion the number stays used, and the latest is the one before";
    lineage_passes_through_deleted_versions => "ancestors and children show a deleted version as deleted and go on beyond it";
    a_parent_must_have_existed => "a version cannot name a parent that was never stored";
    ancestors_come_in_pieces => "a long line of ancestors is shown piece by piece, none twice, none left out";
    lists_are_pages_newest_first => "the versions of a workflow are listed newest first, page by page";
    one_row_a_workflow => "list_all shows each workflow once, with its latest version, and leaves out wholly deleted ones";
    filters_are_asked_together => "name, tag, author and time filter workflows and versions";
    a_part_out_of_date_is_refused => "a prepared store or deletion conflicts once another changed the workflow";
    a_damaged_version_stops_nobody => "a version that does not read back is reported in lists, an error by key, and never skipped as the latest";
    the_head_agrees_after_races => "after stores and deletions at once, head, latest and list say the same";
    yaml_comes_back_as_the_same_definition => "a definition read from YAML, written and stored again has the same content and hash";
    a_diff_shows_what_changed => "two versions differ by the lines that changed, and not at all from themselves";
    a_broken_graph_is_refused_whole => "every problem of a graph is reported at once, and nothing is stored";
}

const DARWIN: &str = "\
# the first one
id: etl
description: Extract and load
nodes:
  - {id: fetch, type: TOOL_CALL, description: get it, config: {url: 'http://x', retries: 3}}
  - {id: load, type: FILE_WRITE, description: put it}
edges:
  - {from: START, to: fetch}
  - {from: fetch, to: load, condition: {expression: ok, type: EXPRESSION}}
  - {from: load, to: END}
custom: {kept: [1, 2.5, yes, null]}
";

fn text(n: i64) -> NewWorkflow {
    NewWorkflow::of(json!({ "id": "w", "n": n }))
}

fn refs(items: &[millpond::Lineage]) -> Vec<String> {
    items.iter().map(|l| format!("{}{}", l.reference(), if l.is_deleted() { " deleted" } else { "" })).collect()
}

fn numbers(page: &Page<Versioned<WorkflowVersion>>) -> Vec<u32> {
    page.items.iter().map(|v| v.version).collect()
}

async fn numbers_are_given_in_order(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    for expected in 1..=3 {
        let stored = workflows.store(&text(7)).await?;
        ensure_eq!(stored.version, expected, "the version given out");
    }
    ensure_eq!(workflows.store(&text(8).version(10)).await?.version, 10, "the version asked for");
    ensure_eq!(workflows.store(&text(8).version(5)).await?.version, 5, "a free version below the highest");
    ensure_eq!(workflows.head("w").await?.and_then(|h| h.latest), Some(10), "the latest in the head");
    let Err(error) = workflows.store(&text(9).version(10)).await else {
        return Err(Failure("a taken version was given out again".to_owned()));
    };
    ensure_eq!(error.kind(), ErrorKind::Conflict, "the kind of the refusal");
    ensure!(error.to_string().contains("next version is 11"), "the refusal does not name the next version: {error}");
    ensure_eq!(workflows.store(&text(9)).await?.version, 11, "the version after the highest");
    ensure_eq!(workflows.latest("w").await?.map(|v| v.version), Some(11), "the latest");
    ensure!(workflows.latest("other").await?.is_none(), "a workflow that does not exist has a latest version");
    Ok(())
}

async fn a_version_never_changes(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let stored = pond.workflows().store(&text(1)).await?;
    let refused = pond.workflows().store(&text(2).version(1)).await;
    ensure!(refused.is_err_and(|e| e.is_conflict()), "a second store of w@1 was not refused");
    let mut changed = stored.clone();
    changed.definition = json!({"id": "w", "n": 2});
    let raw = pond.commit(Commit::new().put("workflow_versions", "w@1", &changed)?).await;
    ensure!(raw.is_err_and(|e| e.kind() == ErrorKind::Invalid), "a raw commit wrote a version");
    let trusted = pond.commit(Commit::new().trusted().put("workflow_versions", "w@1", &changed)?).await;
    ensure!(trusted.is_err_and(|e| e.is_conflict()), "a trusted commit wrote over a version");
    let now = pond.workflows().require("w", 1).await?;
    ensure_eq!(now.value, stored, "the version after the attempts");
    Ok(())
}

async fn racing_stores_share_no_number(ground: Arc<Ground>) -> Verdict {
    let handles = [ground.pond().await?.workflows(), ground.second_pond().await?.workflows()];
    let start = Arc::new(tokio::sync::Barrier::new(12));
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..12_usize {
        let (workflows, start) = (handles[n % 2].clone(), Arc::clone(&start));
        racers.spawn(async move {
            start.wait().await;
            workflows.store(&text(n as i64)).await.map(|v| (v.version, n as i64))
        });
    }
    let mut given = racers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    given.sort_unstable();
    ensure_eq!(given.iter().map(|g| g.0).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>(), "the versions given out");
    for (version, n) in given {
        let found = handles[0].require("w", version).await?;
        ensure_eq!(found.definition["n"], json!(n), "the content of w@{version}");
    }
    Ok(())
}

async fn a_deleted_number_never_comes_again(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    for n in 1..=3 {
        workflows.store(&text(n)).await?;
    }
    ensure!(workflows.delete("w", 3, Some("anna")).await?, "deleting a version that is there answered false");
    ensure!(!workflows.delete("w", 3, None).await?, "deleting it again answered true");
    ensure_eq!(workflows.latest("w").await?.map(|v| v.version), Some(2), "the latest after the deletion");
    ensure!(workflows.get("w", 3).await?.is_none(), "the deleted version is still there");
    let gone = workflows.require("w", 3).await;
    ensure!(gone.is_err_and(|e| e.is_not_found() && e.message().contains("deleted")), "it is not said that w@3 was deleted");
    let again = workflows.store(&text(3).version(3)).await;
    ensure!(again.is_err_and(|e| e.is_conflict()), "a deleted number was given out when asked for");
    ensure_eq!(workflows.store(&text(4)).await?.version, 4, "the version after the deletion of the highest");
    for n in [4, 2, 1] {
        workflows.delete("w", n, None).await?;
    }
    ensure!(workflows.latest("w").await?.is_none(), "a workflow without versions has a latest one");
    ensure_eq!(workflows.store(&text(5)).await?.version, 5, "the version after all were deleted");
    let never = workflows.delete("w", 77, None).await;
    ensure!(never.is_err_and(|e| e.is_not_found()), "deleting a version that never existed is not an error");
    Ok(())
}

/// w@1 ← w@2 ← w@3, and other@1 made from w@2.
async fn family(workflows: &Workflows) -> Result<()> {
    workflows.store(&text(1)).await?;
    workflows.store(&text(2).parent(VersionRef::new("w", 1)).reasoning("faster")).await?;
    workflows.store(&text(3).parent(VersionRef::new("w", 2)).author("anna")).await?;
    workflows.store(&NewWorkflow::of(json!({})).id("other").parent(VersionRef::new("w", 2))).await?;
    Ok(())
}

async fn lineage_passes_through_deleted_versions(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    family(&workflows).await?;
    workflows.delete("w", 2, Some("bert")).await?;
    let line = workflows.ancestors(&VersionRef::new("w", 3), 10).await?;
    ensure_eq!(refs(&line.items), ["w@2 deleted", "w@1"], "the ancestors of w@3");
    ensure_eq!(line.items[0].deleted_by.as_deref(), Some("bert"), "who deleted w@2");
    ensure_eq!(line.items[0].reasoning.as_deref(), Some("faster"), "why w@2 was made");
    let children = workflows.children(&VersionRef::new("w", 1), 10, None).await?;
    ensure_eq!(children.items.len(), 1, "children of w@1");
    ensure!(children.items[0].is_deleted(), "the deleted child of w@1 is not marked");
    let children = workflows.children(&VersionRef::new("w", 2), 10, None).await?;
    let mut names: Vec<String> = children.items.iter().map(|c| c.reference().to_string()).collect();
    names.sort();
    ensure_eq!(names, ["other@1", "w@3"], "the children of the deleted w@2");
    let late = workflows.store(&text(4).parent(VersionRef::new("w", 2))).await?;
    ensure_eq!(late.parent, Some(VersionRef::new("w", 2)), "a deleted parent of a new version");
    Ok(())
}

async fn a_parent_must_have_existed(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    let orphan = workflows.store(&text(1).parent(VersionRef::new("w", 9))).await;
    ensure!(orphan.is_err_and(|e| e.is_not_found()), "a version with a parent that never existed was stored");
    ensure!(workflows.head("w").await?.is_none(), "the refused store left something behind");
    let itself = workflows.store(&text(1).version(1).parent(VersionRef::new("w", 1))).await;
    ensure!(itself.is_err(), "a version became its own parent");
    let line = workflows.ancestors(&VersionRef::new("w", 1), 10).await;
    ensure!(line.is_err_and(|e| e.is_not_found()), "a version that never existed has ancestors");
    Ok(())
}

async fn ancestors_come_in_pieces(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    workflows.store(&text(1)).await?;
    for n in 2..=8 {
        workflows.store(&text(n).parent(VersionRef::new("w", n as u32 - 1))).await?;
    }
    let (mut shown, mut from) = (Vec::new(), Some(VersionRef::new("w", 8)));
    while let Some(version) = from {
        let piece = workflows.ancestors(&version, 3).await?;
        ensure!(piece.items.len() <= 3, "more ancestors than asked for");
        shown.extend(piece.items.iter().map(|l| l.version));
        from = piece.next;
    }
    ensure_eq!(shown, [7, 6, 5, 4, 3, 2, 1], "the ancestors of w@8");
    ensure!(workflows.ancestors(&VersionRef::new("w", 8), 0).await.is_err(), "a limit of 0 was taken");
    Ok(())
}

async fn lists_are_pages_newest_first(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    for n in 1..=12 {
        workflows.store(&text(n)).await?;
    }
    workflows.store(&NewWorkflow::of(json!(["any", "document"])).id("w2")).await?;
    let (mut shown, mut after) = (Vec::new(), None);
    loop {
        let page = workflows.list("w", 5, after).await?;
        ensure!(page.items.len() <= 5, "a page of 5 holds {}", page.items.len());
        shown.extend(numbers(&page));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure_eq!(shown, (1..=12).rev().collect::<Vec<_>>(), "the versions listed");
    ensure!(workflows.list("none", 5, None).await?.items.is_empty(), "a workflow that does not exist has versions");
    Ok(())
}

fn row(head: &WorkflowHead) -> (String, Option<u32>, u32) {
    (head.id.clone(), head.latest, head.versions)
}

async fn one_row_a_workflow(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    ensure!(workflows.list_all(&WorkflowFilter::default()).await?.items.is_empty(), "an empty store lists workflows");
    for id in ["a", "b", "c"] {
        for n in 0..3 {
            workflows.store(&NewWorkflow::of(json!({"name": format!("{id}{n}")})).id(id)).await?;
        }
    }
    workflows.delete("b", 3, None).await?;
    for n in 1..=3 {
        workflows.delete("c", n, None).await?;
    }
    let all = workflows.list_all(&WorkflowFilter::default()).await?;
    let rows: Vec<_> = all.items.iter().map(|h| row(h)).collect();
    ensure_eq!(rows, [("a".to_owned(), Some(3), 3), ("b".to_owned(), Some(2), 2)], "the workflows listed");
    ensure_eq!(all.items[1].name.as_deref(), Some("b1"), "the name of b's latest version");
    let with_deleted = workflows.list_all(&WorkflowFilter { deleted: true, ..WorkflowFilter::default() }).await?;
    ensure_eq!(with_deleted.items.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"], "with deleted ones");
    let first = workflows.list_all(&WorkflowFilter { limit: 1, ..WorkflowFilter::default() }).await?;
    let second = workflows.list_all(&WorkflowFilter { limit: 1, after: first.next, ..WorkflowFilter::default() }).await?;
    ensure_eq!(second.items.first().map(|h| h.id.as_str()), Some("b"), "the second page of one");
    Ok(())
}

async fn filters_are_asked_together(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    let make = |id: &str, name: &str, author: &str, tags: Tags| {
        NewWorkflow::of(json!({ "name": name })).id(id).author(author).tags(tags)
    };
    let pairs = Tags::Map([("team".to_owned(), "data".to_owned())].into());
    let old = workflows.store(&make("a", "Nightly import", "anna", Tags::from(["night", "io"]))).await?;
    workflows.store(&make("b", "Import once", "bert", pairs)).await?;
    workflows.store(&make("c", "Nightly export", "anna", Tags::default())).await?;
    let last = workflows.store(&make("a", "Daily import", "bert", Tags::from(["day"]))).await?;
    let none = WorkflowFilter::default();
    let some = |text: &str| Some(text.to_owned());
    for (filter, heads, versions) in [
        (WorkflowFilter { name_contains: some("Nightly"), ..none.clone() }, vec!["c"], vec!["a@1", "c@1"]),
        (WorkflowFilter { name_contains: some("import"), ..none.clone() }, vec!["a"], vec!["a@1", "a@2"]),
        (WorkflowFilter { tag: some("night"), ..none.clone() }, vec![], vec!["a@1"]),
        (WorkflowFilter { tag: some("team=data"), ..none.clone() }, vec!["b"], vec!["b@1"]),
        (WorkflowFilter { author: some("anna"), ..none.clone() }, vec!["c"], vec!["a@1", "c@1"]),
        (WorkflowFilter { author: some("bert"), name_contains: some("Daily"), ..none.clone() }, vec!["a"], vec!["a@2"]),
        (WorkflowFilter { id_prefix: some("b"), ..none.clone() }, vec!["b"], vec!["b@1"]),
        (WorkflowFilter { to: Some(old.created_at), ..none.clone() }, vec![], vec![]),
        (WorkflowFilter { from: Some(last.created_at), ..none.clone() }, vec!["a"], vec!["a@2"]),
        (WorkflowFilter { from: Some(old.created_at), ..none.clone() }, vec!["a", "b", "c"], vec!["a@1", "a@2", "b@1", "c@1"]),
        (
            WorkflowFilter { author: some("anna"), to: Some(last.created_at), tag: some("io"), ..none.clone() },
            vec![],
            vec!["a@1"],
        ),
    ] {
        let listed = workflows.list_all(&filter).await?;
        ensure_eq!(listed.items.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), heads, "workflows for {filter:?}");
        let found = workflows.find(&filter).await?;
        let mut found: Vec<String> = found.items.iter().map(|v| v.reference().to_string()).collect();
        found.sort();
        ensure_eq!(found, versions, "versions for {filter:?}");
    }
    Ok(())
}

async fn a_part_out_of_date_is_refused(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let workflows = pond.workflows();
    for n in 1..=3 {
        workflows.store(&text(n)).await?;
    }
    let (store, _) = workflows.store_part(&text(9).version(9)).await?;
    workflows.delete("w", 3, None).await?;
    let late = pond.commit(store.trusted()).await;
    ensure!(late.is_err_and(|e| e.is_conflict()), "a store prepared before a deletion was applied after it");
    let Some(delete) = workflows.delete_part("w", 2, None).await? else {
        return Err(Failure("a version that is there has no deletion".to_owned()));
    };
    workflows.store(&text(4)).await?;
    let late = pond.commit(delete.trusted()).await;
    ensure!(late.is_err_and(|e| e.is_conflict()), "a deletion prepared before a store was applied after it");
    let head = workflows.head("w").await?.map(|h| row(&h));
    ensure_eq!(head, Some(("w".to_owned(), Some(4), 3)), "the head");
    ensure_eq!(numbers(&workflows.list("w", 10, None).await?), [4, 2, 1], "the versions");
    Ok(())
}

async fn a_damaged_version_stops_nobody(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let workflows = pond.workflows();
    workflows.store(&text(1)).await?;
    let damaged = json!({"id": "w", "version": 2, "definition": {}});
    pond.commit(Commit::new().trusted().put("workflow_versions", "w@2", &damaged)?).await?;
    let page = workflows.list("w", 10, None).await?;
    ensure_eq!((numbers(&page), page.damaged.len()), (vec![1], 1), "the versions that read back, and those that do not");
    let by_key = workflows.get("w", 2).await;
    ensure!(by_key.is_err_and(|e| e.kind() == ErrorKind::Corrupt), "a damaged version was given out");
    let latest = workflows.latest("w").await;
    ensure!(latest.is_err_and(|e| e.kind() == ErrorKind::Corrupt), "an older version passes for the damaged latest one");
    Ok(())
}

async fn the_head_agrees_after_races(ground: Arc<Ground>) -> Verdict {
    let handles = [ground.pond().await?.workflows(), ground.second_pond().await?.workflows()];
    for n in 1..=6 {
        handles[0].store(&text(n)).await?;
    }
    let start = Arc::new(tokio::sync::Barrier::new(10));
    let mut racers = tokio::task::JoinSet::new();
    for n in 0..10_u32 {
        let (workflows, start) = (handles[n as usize % 2].clone(), Arc::clone(&start));
        racers.spawn(async move {
            start.wait().await;
            if n < 5 { workflows.delete("w", 6 - n, None).await.map(|_| ()) } else { workflows.store(&text(9)).await.map(|_| ()) }
        });
    }
    racers.join_all().await.into_iter().collect::<Result<Vec<()>>>()?;
    let listed = numbers(&handles[1].list("w", 100, None).await?);
    ensure_eq!(listed, [11, 10, 9, 8, 7, 1], "the versions left");
    let head = handles[1].head("w").await?.map(|h| row(&h));
    ensure_eq!(head, Some(("w".to_owned(), Some(11), 6)), "the head");
    Ok(())
}

async fn yaml_comes_back_as_the_same_definition(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    let first = workflows.store(&NewWorkflow::from_yaml(DARWIN)?).await?;
    ensure_eq!((first.id.as_str(), first.version), ("etl", 1), "what the file is stored as");
    ensure_eq!(first.description.as_deref(), Some("Extract and load"), "its description");
    ensure_eq!(first.definition["custom"], json!({"kept": [1, 2.5, "yes", null]}), "a field nobody knows");
    let yaml = first.to_yaml()?;
    let second = workflows.store(&NewWorkflow::from_yaml(&yaml)?).await?;
    ensure_eq!(second.definition, first.definition, "the definition after YAML and back");
    ensure_eq!(second.content_hash, first.content_hash, "its hash");
    ensure_eq!(second.to_yaml()?, yaml, "its YAML");
    let other = workflows.store(&NewWorkflow::from_yaml(&yaml.replace("retries: 3", "retries: 4"))?).await?;
    ensure!(other.content_hash != first.content_hash, "another definition has the same hash");

    let numbered = NewWorkflow::from_yaml("id: n\nversion: 4\nnodes: []\nedges: []\n")?;
    ensure_eq!(workflows.store(&numbered).await?.version, 4, "the version a file asks for");
    let next = workflows.store(&numbered.next()).await?;
    ensure_eq!((next.version, &next.definition["version"]), (5, &json!(5)), "the version and what its YAML says");

    let prodigy =
        NewWorkflow::from_yaml("name: review\ncontent: |\n  - claude: /review\nparameters: {depth: 2}\nversion: '1.0'\n")?;
    let prodigy = workflows.store(&prodigy).await?;
    ensure_eq!((prodigy.id.as_str(), prodigy.version), ("review", 1), "what the template is stored as");
    ensure_eq!(prodigy.definition["version"], json!("1.0"), "a version that is text");

    let twice = NewWorkflow::from_yaml("name: a\nnodes: []\nname: b\n");
    ensure!(twice.is_err_and(|e| e.message().contains("line 3 column 1")), "a key given twice was not refused with its place");
    let unnamed = workflows.store(&NewWorkflow::from_yaml("- just\n- a list\n")?).await;
    ensure!(unnamed.is_err_and(|e| e.kind() == ErrorKind::Invalid), "a definition without an id was stored");
    Ok(())
}

async fn a_diff_shows_what_changed(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    workflows.store(&NewWorkflow::from_yaml(DARWIN)?).await?;
    workflows.store(&NewWorkflow::from_yaml(&DARWIN.replace("retries: 3", "retries: 5"))?).await?;
    let (one, two) = (VersionRef::new("etl", 1), VersionRef::new("etl", 2));
    let diff = workflows.diff(&one, &two).await?;
    let changed: Vec<&str> = diff.lines().filter(|l| l.starts_with(['+', '-'])).map(str::trim_end).collect();
    ensure_eq!(changed, ["--- etl@1", "+++ etl@2", "-    retries: 3", "+    retries: 5"], "the lines that changed");
    ensure_eq!(workflows.diff(&one, &one).await?, "", "a version against itself");
    let missing = workflows.diff(&one, &VersionRef::new("etl", 3)).await;
    ensure!(missing.is_err_and(|e| e.is_not_found()), "a diff against nothing is not an error");
    Ok(())
}

async fn a_broken_graph_is_refused_whole(ground: Arc<Ground>) -> Verdict {
    let workflows = ground.pond().await?.workflows();
    let broken = json!({
        "id": "g", "nodes": [{"id": "a", "type": "T"}, {"id": "a", "type": "T"}, {"id": "START", "type": "T"}],
        "edges": [{"from": "START", "to": "nowhere"}, {"from": "END", "to": "a"}],
    });
    let Err(error) = workflows.store(&NewWorkflow::of(broken)).await else {
        return Err(Failure("a graph that does not hold together was stored".to_owned()));
    };
    ensure_eq!(error.kind(), ErrorKind::Invalid, "the kind of the refusal");
    for problem in ["nodes[1].id", "nodes[2].id", "edges[0].to", "edges[1].from"] {
        ensure!(error.message().contains(problem), "the refusal leaves out {problem}: {error}");
    }
    ensure!(workflows.head("g").await?.is_none(), "the refused store left something behind");
    Ok(())
}
