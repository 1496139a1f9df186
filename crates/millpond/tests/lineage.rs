//! Lineage on a store in memory: rows and their states, lists, walks along edges, counts, parts of units.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use millpond::{
    Document, ErrorKind, LineageEdge, LineageEnd, LineageFilter, LineageOrder, LineageRow, LineageRows, LineageStatus,
    LineageWalk, NewLineage, Pond, Timestamp, WalkLimits,
};
use serde_json::json;

/// Reads a document of a released version, checks key and index fields, and writes it back unchanged.
fn survives<T: Document>(golden: &str, key: &str) -> T {
    let stored: serde_json::Value = serde_json::from_str(golden).unwrap();
    assert!(stored.get("of_a_newer_version").is_some(), "the file has no unknown field");
    T::COLLECTION.spec().unwrap().extract(&stored).expect("index fields of the declared types");
    let document: T = serde_json::from_value(stored.clone()).expect("version 1 reads");
    assert_eq!(serde_json::to_value(&document).unwrap(), stored, "something was dropped or changed");
    assert_eq!(document.key().unwrap().as_str(), key);
    document
}

#[tokio::test]
async fn documents_of_released_versions_survive() {
    let id = "019abc00-0000-7000-8000-00000000000a";
    let row: LineageRow = survives(include_str!("golden/lineage_row-v1.json"), id);
    assert_eq!((row.status, row.took().map(|t| t.as_secs())), (LineageStatus::Failed, Some(2)));
    let key = "eb1d78a418a438c4d5c229c94de619d7/f6b5f3c207e3ce9697a1da842b63cbb8/e47125968b3b71049fbc4802d1e40a71";
    survives::<LineageEdge>(include_str!("golden/lineage_edge-v1.json"), key);

    // What it is found by is what a new row with the same words is found by, and a change keeps what it does not know.
    let pond = pond().await;
    let new = NewLineage::of("e1", "ingest", "split").metadata("url", "https://Example.org/A");
    let new = new.artifact(row.artifact.clone().unwrap()).status(LineageStatus::Failed);
    assert_eq!(pond.lineage().record(new).await.unwrap().found_by, row.found_by);
    let waiting = LineageRow { status: LineageStatus::Pending, completed_at: None, ..row };
    pond.commit(millpond::Commit::new().trusted().write(millpond::Records::put(&waiting).unwrap())).await.unwrap();
    let done = pond.lineage().complete(id, LineageEnd::new()).await.unwrap();
    assert!(done.extra.contains_key("of_a_newer_version"), "{done:?}");
}

async fn pond() -> Pond {
    millpond::open("memory:").await.unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000)
}

fn new(id: &str) -> NewLineage {
    NewLineage::of("e1", "ingest", "split").id(id)
}

async fn ids(lineage: &LineageRows, filter: LineageFilter) -> Vec<String> {
    lineage.list(&filter).await.unwrap().items.iter().map(|row| row.id.clone()).collect()
}

#[tokio::test]
async fn a_row_moves_on_and_never_back() {
    let lineage = pond().await.lineage();
    let row = lineage.start(new("r").status(LineageStatus::Pending).input_hash("in").metadata("url", "a")).await.unwrap();
    assert_eq!(lineage.get("r").await.unwrap(), Some(row.clone()), "what start answers is what is stored");
    lineage.advance("r", LineageStatus::Processing).await.unwrap();
    for back in [LineageStatus::Pending, LineageStatus::Initiated, LineageStatus::Processing] {
        let error = lineage.advance("r", back).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.message().contains("is processing"), "{error}");
    }
    let end = LineageEnd::new().output_hash("out").artifact("k").metadata("url", "b").metadata("n", 1);
    let row = lineage.complete("r", end).await.unwrap();
    assert_eq!(lineage.get("r").await.unwrap(), Some(row.clone()), "what complete answers is what is stored");
    assert_eq!((row.input_hash.as_deref(), row.output_hash.as_deref()), (Some("in"), Some("out")));
    assert_eq!((row.metadata["url"].clone(), row.metadata["n"].clone()), (json!("b"), json!(1)));
    assert!(row.took().is_some() && row.completed_at >= Some(row.started_at));
    for status in LineageStatus::ALL {
        let error = lineage.advance("r", status).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("completed_at"), "{status}: {error}");
    }
    assert_eq!(lineage.fail("r2", LineageEnd::new()).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(lineage.get("r").await.unwrap(), Some(row));
}

#[tokio::test]
async fn what_cannot_be_a_row_is_refused() {
    let lineage = pond().await.lineage();
    lineage.record(new("r").started_at(at(5))).await.unwrap();
    let taken = lineage.start(new("r")).await.unwrap_err();
    assert!(taken.kind() == ErrorKind::Conflict && taken.to_string().contains("the id is taken"), "{taken}");
    let cases = [
        (new("a").parent("a"), "cannot come from itself"),
        (new("a").derived_from("a"), "cannot come from itself"),
        (new("a").derived_from(""), "not empty"),
        (NewLineage::of("e", "", "x"), "name of its route"),
        (NewLineage::of("e", "r", "x\u{1f}y"), "no control characters"),
        (NewLineage::of("", "r", "x"), "name of its execution"),
        (NewLineage::of("x".repeat(1_025), "r", "x"), "1025 bytes"),
        (new("a").started_at(at(5)).end(LineageEnd::new().completed_at(at(4))), "before it began"),
    ];
    for (new, said) in cases {
        let error = lineage.record(new).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(said), "{said}: {error}");
    }
    let error = lineage.start(new("a").status(LineageStatus::Failed)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("record it"), "{error}");
    assert_eq!(lineage.count(&LineageFilter::all()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_row_told_late_begins_at_its_end_at_the_latest() {
    let lineage = pond().await.lineage();
    let row = lineage.record(new("r").end(LineageEnd::new().completed_at(at(1)))).await.unwrap();
    assert_eq!((row.started_at, row.completed_at), (at(1), Some(at(1))));
    let made = lineage.record(NewLineage::of("e", "r", "a")).await.unwrap();
    assert_eq!((made.id.len(), made.root), (36, true), "an id of its own");
}

/// Rows of two kinds, told apart by every field that a filter has.
async fn rows(lineage: &LineageRows) {
    for n in 0..6_i64 {
        let odd = n % 2 == 1;
        let word = |what: &str| format!("{what}{}", n % 2);
        let new = NewLineage::of(word("e"), word("r"), word("a"))
            .id(format!("row{n}"))
            .stage(word("s"))
            .correlation(word("c"))
            .batch(word("b"))
            .document(word("d"))
            .artifact(word("k"))
            .started_at(at(n))
            .metadata("url", format!("https://Example.org/{}", if odd { "ÄRGER_100%" } else { "b" }))
            .metadata("origin", word("Files "))
            .metadata("title", word("Page "));
        let new = if odd { new.parent("row0") } else { new };
        let status = if odd { LineageStatus::Failed } else { LineageStatus::Completed };
        let end = LineageEnd::new().completed_at(at(20 - n)).artifact(word("k"));
        lineage.record(new.status(status).end(end)).await.unwrap();
    }
    lineage.start(NewLineage::of("e2", "r2", "a2").id("open").started_at(at(9)).parent("elsewhere")).await.unwrap();
}

#[tokio::test]
async fn each_filter_takes_what_it_says() {
    let lineage = pond().await.lineage();
    rows(&lineage).await;
    let all = LineageFilter::all;
    let odd = [
        ("execution", all().execution("e1")),
        ("route", all().route("r1")),
        ("adapter", all().adapter("a1")),
        ("stage", all().stage("s1")),
        ("status", all().status(LineageStatus::Failed)),
        ("one of two statuses", all().status(LineageStatus::Failed).status(LineageStatus::Cancelled)),
        ("correlation", all().correlation("c1")),
        ("parent", all().parent("row0")),
        ("batch", all().batch("b1")),
        ("document", all().document("d1")),
        ("root", LineageFilter { statuses: vec![LineageStatus::Failed], ..all().root(false) }),
        ("artifact", all().artifact("k1")),
        ("url", all().url("example.ORG/ärger_1")),
        ("origin", all().origin("ES 1")),
        ("title", all().title("page 1")),
    ];
    for (what, filter) in odd {
        assert_eq!(ids(&lineage, filter.clone()).await, ["row5", "row3", "row1"], "{what}");
        assert_eq!(lineage.count(&filter.limit(1)).await.unwrap(), 3, "{what}, counted");
    }
    assert_eq!(ids(&lineage, all().root(true)).await, ["row4", "row2", "row0"]);
    assert!(ids(&lineage, all().url("ärger%")).await.is_empty(), "a pattern is plain text");
    assert_eq!(ids(&lineage, all().started_from(at(4)).started_before(at(9))).await, ["row5", "row4"]);
    assert_eq!(ids(&lineage, all().order(LineageOrder::FirstStarted).limit(2)).await, ["row0", "row1"]);
    assert_eq!(ids(&lineage, all().order(LineageOrder::LastCompleted).limit(2)).await, ["row0", "row1"]);
    let first = all().order(LineageOrder::FirstCompleted);
    assert_eq!(ids(&lineage, first.clone()).await, ["row5", "row4", "row3", "row2", "row1", "row0"], "only what has ended");
    let page = lineage.list(&first.clone().limit(4)).await.unwrap();
    assert_eq!(ids(&lineage, first.limit(4).after(page.next)).await, ["row1", "row0"], "the second page");
    let failures = lineage.failures(&all().execution("e1").limit(1)).await.unwrap();
    assert_eq!(failures.items[0].id, "row1", "the one that failed last");
    let batch = lineage.batch("b1", 10, None).await.unwrap();
    assert_eq!(batch.items.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["row1", "row3", "row5"]);
    assert_eq!(lineage.roots(&all().execution("e1")).await.unwrap().items, []);
}

#[tokio::test]
async fn counts_follow_every_change_of_status() {
    let lineage = pond().await.lineage();
    rows(&lineage).await;
    lineage.cancel("open", LineageEnd::new().error("enough")).await.unwrap();
    let stats = lineage.stats(&LineageFilter::all().limit(1)).await.unwrap();
    assert_eq!((stats.count, stats.completed, stats.failed), (7, 3, 3));
    let of: Vec<_> = stats.adapters.iter().map(|a| (a.route.as_str(), a.adapter.as_str(), a.count)).collect();
    assert_eq!(of, [("r0", "a0", 3), ("r1", "a1", 3), ("r2", "a2", 1)]);
    assert_eq!(stats.adapters[2].statuses, [(LineageStatus::Cancelled, 1)].into());
    let one = lineage.stats(&LineageFilter::all().execution("e1").started_from(at(2))).await.unwrap();
    assert_eq!((one.count, one.completed, one.failed, one.adapters.len()), (2, 0, 2, 1));
}

fn shown(walk: &LineageWalk) -> Vec<(u32, &str)> {
    walk.rows.iter().map(|row| (row.depth, row.row.id.as_str())).collect()
}

/// A diamond with a tail, and an edge that closes a ring: a ─► b, c ─► d ─► e ─► a.
async fn diamond(lineage: &LineageRows) {
    lineage.record(new("a")).await.unwrap();
    lineage.record(new("b").parent("a")).await.unwrap();
    lineage.record(new("c").parent("a")).await.unwrap();
    lineage.record(new("d").parent("b").derived_from("c").derived_from("b")).await.unwrap();
    lineage.record(new("e").derived_from("d").derived_from("lost")).await.unwrap();
    lineage.link("a", "e", "again").await.unwrap();
}

#[tokio::test]
async fn a_walk_meets_each_row_once_and_ends_in_a_ring() {
    let lineage = pond().await.lineage();
    diamond(&lineage).await;
    assert!(!lineage.get("a").await.unwrap().unwrap().root, "what was linked is no root");
    let down = lineage.descendants("b", WalkLimits::default()).await.unwrap();
    assert_eq!(shown(&down), [(1, "d"), (2, "e"), (3, "a"), (4, "c")]);
    assert_eq!((down.edges.len(), down.more, down.missing.len()), (6, false, 0));
    let up = lineage.ancestors("d", WalkLimits::default()).await.unwrap();
    let depths: std::collections::BTreeMap<&str, u32> = shown(&up).into_iter().map(|(depth, id)| (id, depth)).collect();
    assert_eq!(depths, [("a", 2), ("b", 1), ("c", 1), ("e", 3)].into());
    assert_eq!((up.missing.len(), up.missing[0].id.as_str(), up.missing[0].depth), (1, "lost", 4));
    let chain = lineage.chain("d", WalkLimits::default()).await.unwrap();
    assert_eq!((chain.row.id.as_str(), chain.ancestors.clone(), shown(&chain.descendants)[0]), ("d", up, (1, "e")));
    assert_eq!(lineage.chain("nobody", WalkLimits::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_walk_says_whether_it_left_something_out() {
    let lineage = pond().await.lineage();
    diamond(&lineage).await;
    let walk = async |depth, rows| lineage.descendants("b", WalkLimits { depth, rows }).await.unwrap();
    let cases = [(1, 10, 1, true), (3, 10, 3, true), (4, 10, 4, false), (9, 3, 3, true), (9, 4, 4, false), (0, 9, 0, true)];
    for (depth, rows, shown, more) in cases {
        let walk = walk(depth, rows).await;
        assert_eq!((walk.rows.len(), walk.more), (shown, more), "depth {depth}, rows {rows}");
    }
}

#[tokio::test]
async fn a_walk_goes_on_where_a_page_of_edges_ends() {
    let pond = pond().await;
    let lineage = pond.lineage();
    lineage.record(new("hub")).await.unwrap();
    for half in 0..2 {
        let mut unit = pond.unit();
        for n in 0..750 {
            unit.lineage().record(new(&format!("leaf{half}.{n}")).parent("hub"));
        }
        unit.commit().await.unwrap();
    }
    let walk = lineage.descendants("hub", WalkLimits { depth: 9, rows: 2_000 }).await.unwrap();
    assert_eq!((walk.rows.len(), walk.more), (1_500, false));
    let walk = lineage.descendants("hub", WalkLimits { depth: 9, rows: 1_400 }).await.unwrap();
    assert_eq!((walk.rows.len(), walk.more), (1_400, true));
    let page = lineage.children("hub", 1_000, None).await.unwrap();
    let rest = lineage.children("hub", 1_000, page.next.clone()).await.unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.next), (1_000, 500, None));
}

#[tokio::test]
async fn relatives_say_by_which_edge_and_whether_they_are_there() {
    let lineage = pond().await.lineage();
    diamond(&lineage).await;
    let parents = lineage.parents("e", 10, None).await.unwrap().items;
    let mut said: Vec<_> = parents.iter().map(|r| (r.id.as_str(), r.kind.as_str(), r.row.is_some())).collect();
    said.sort_unstable();
    assert_eq!(said, [("d", LineageEdge::DERIVED_FROM, true), ("lost", LineageEdge::DERIVED_FROM, false)]);
    let children = lineage.children("b", 10, None).await.unwrap().items;
    assert_eq!(children.iter().map(|r| (r.id.as_str(), r.kind.as_str())).collect::<Vec<_>>(), [("d", LineageEdge::PARENT)]);
    assert_eq!(lineage.children("lost", 10, None).await.unwrap().items[0].id, "e", "a row that is not there has children");
    assert_eq!(lineage.children("nobody", 10, None).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_edge_written_twice_is_one() {
    let pond = pond().await;
    let lineage = pond.lineage();
    lineage.record(new("b").parent("a")).await.unwrap();
    for _ in 0..2 {
        lineage.link("b", "a", LineageEdge::PARENT).await.unwrap();
        lineage.link("b", "a", "copied_from").await.unwrap();
    }
    let kinds: Vec<_> = lineage.parents("b", 10, None).await.unwrap().items.into_iter().map(|r| r.kind).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert_eq!(lineage.link("nobody", "a", "x").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(lineage.link("b", "b", "x").await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(lineage.children("a", 10, None).await.unwrap().items.len(), 2, "a refused link leaves no edge");
}

#[tokio::test]
async fn a_unit_writes_lineage_with_the_rest_or_not_at_all() {
    let pond = pond().await;
    let lineage = pond.lineage();
    let row = lineage.start(new("r")).await.unwrap();
    lineage.start(new("other")).await.unwrap();
    let unit = |pond: &Pond| {
        let mut unit = pond.unit();
        unit.events("log").append("segment.made", &json!({"n": 1}));
        unit.lineage().complete(&row, LineageEnd::new().artifact("k")).record(new("s").parent("r")).link("other", "q", "quotes");
        unit
    };
    lineage.link("r", "somebody", "quotes").await.unwrap();
    let error = unit(&pond).commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "the row was changed since it was read");
    assert_eq!((lineage.get("s").await.unwrap(), pond.store().stream("log").await.unwrap()), (None, None));
    let row = lineage.get("r").await.unwrap().unwrap();
    let mut unit = pond.unit();
    unit.events("log").append("segment.made", &json!({"n": 1}));
    unit.lineage().complete(&row, LineageEnd::new().artifact("k")).record(new("s").parent("r")).link("other", "q", "quotes");
    unit.commit().await.unwrap();
    assert_eq!(lineage.get("r").await.unwrap().unwrap().status, LineageStatus::Completed);
    assert_eq!(lineage.parents("other", 10, None).await.unwrap().items.len(), 1);
    let mut unit = pond.unit();
    unit.lineage().fail(&lineage.get("r").await.unwrap().unwrap(), LineageEnd::new());
    assert_eq!(unit.commit().await.unwrap_err().kind(), ErrorKind::Conflict, "what is over stays so");
}

#[test]
fn synchronous_callers_have_the_same() {
    let pond = millpond::blocking::open("memory:").unwrap();
    let lineage = pond.lineage();
    lineage.start(new("a")).unwrap();
    let row = lineage.complete("a", LineageEnd::new()).unwrap();
    let mut unit = pond.unit();
    unit.lineage().record(new("b").parent(&row.id));
    unit.commit().unwrap();
    let walk = lineage.descendants("a", WalkLimits::default()).unwrap();
    assert_eq!(shown(&walk), [(1, "b")]);
    assert_eq!(lineage.stats(&LineageFilter::all()).unwrap().completed, 2);
}

/// Catches a walk, a page of relatives or an export that ends at one row that does not read back.
#[tokio::test]
async fn a_walk_goes_on_behind_a_row_that_is_damaged_and_names_it() {
    let pond = pond().await;
    let lineage = pond.lineage();
    for (row, parent) in [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("c")), ("e", Some("a"))] {
        let new = parent.into_iter().fold(new(row), |new, parent| new.parent(parent));
        lineage.record(new.artifact(format!("of {row}"))).await.unwrap();
    }
    let damaged = millpond::Commit::new().trusted().put("lineage", "b", &json!({"id": "b", "execution": "e1"})).unwrap();
    pond.commit(damaged).await.unwrap();

    let ids = |walk: &LineageWalk| walk.rows.iter().map(|row| row.row.id.clone()).collect::<Vec<_>>();
    let named = |damaged: &[millpond::Damaged]| damaged.iter().map(|d| d.what.clone()).collect::<Vec<_>>();
    let down = lineage.descendants("a", WalkLimits::default()).await.unwrap();
    let mut found = ids(&down);
    found.sort();
    assert_eq!(
        (found, named(&down.damaged), down.missing.len()),
        (vec!["c".into(), "d".into(), "e".into()], vec!["lineage/b".into()], 0)
    );
    let up = lineage.ancestors("d", WalkLimits::default()).await.unwrap();
    assert_eq!((ids(&up), named(&up.damaged)), (vec!["c".into(), "a".into()], vec!["lineage/b".into()]));
    let chain = lineage.chain("c", WalkLimits::default()).await.unwrap();
    assert_eq!((ids(&chain.ancestors), ids(&chain.descendants)), (vec!["a".into()], vec!["d".into()]));
    let children = lineage.children("a", 10, None).await.unwrap();
    assert_eq!((children.items.len(), named(&children.damaged)), (2, vec!["lineage/b".into()]));
    let events = lineage.open_lineage(&LineageFilter::all()).await.unwrap();
    assert!(named(&events.damaged).contains(&"lineage/b".to_owned()), "{:?}", events.damaged);
}
