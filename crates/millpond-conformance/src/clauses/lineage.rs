//! Lineage: rows that only move on, edges walked both ways, lists and counts by every field, parts of larger commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond::{
    Commit, ErrorKind, LineageEdge, LineageEnd, LineageFilter, LineageOrder, LineageRows, LineageStatus, LineageWalk, NewLineage,
    Pond, Timestamp, WalkLimits,
};
use serde_json::json;

use super::tools::{race, refused, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "lineage":
    a_row_only_moves_on => "a row goes through its states to one end, keeps what was said of it, and never goes back";
    an_id_is_one_row => "a second row under an id is refused, and leaves neither row nor edge behind";
    one_end_of_many_wins => "of many ends of one row, through two handles, one is told that it was the one";
    rows_are_found_by_every_field => "every filter, order and range finds what it names, in pages, also after a change of status";
    walks_meet_every_row_once => "ancestors and descendants come level by level, each row once, and a ring ends the walk";
    a_walk_says_what_it_left_out => "a walk that is cut by depth or count says so, one that is whole does not, and a missing row is named";
    an_edge_is_written_once => "an edge said twice is one, is seen from both ends, and makes its row no root";
    counts_follow_every_change => "counts of each route, adapter and status are those of the rows, whatever became of them";
    a_row_joins_a_commit => "a row, its edges and the end of another join a larger commit, all or nothing";
    events_tell_every_row => "the exported events begin and end every run, and name what went in and came out";
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000)
}

fn new(id: &str) -> NewLineage {
    NewLineage::of("e1", "ingest", "split").id(id)
}

fn there<T>(found: Option<T>, what: &str) -> Result<T, Failure> {
    found.ok_or_else(|| Failure(format!("{what} is missing")))
}

async fn ids(lineage: &LineageRows, filter: &LineageFilter) -> Result<Vec<String>, Failure> {
    let page = lineage.list(filter).await?;
    ensure!(page.damaged.is_empty(), "a row is reported as damaged: {:?}", page.damaged);
    Ok(page.items.iter().map(|row| row.id.clone()).collect())
}

async fn a_row_only_moves_on(ground: Arc<Ground>) -> Verdict {
    let lineage = ground.pond().await?.lineage();
    let row = lineage.start(new("r").status(LineageStatus::Pending).input_hash("in").metadata("a", 1)).await?;
    ensure_eq!(lineage.get("r").await?, Some(row), "what start answered against what is stored");
    lineage.advance("r", LineageStatus::Processing).await?;
    for back in [LineageStatus::Pending, LineageStatus::Initiated, LineageStatus::Processing] {
        refused(lineage.advance("r", back).await, ErrorKind::Conflict, "going back, or staying")?;
    }
    let row = lineage.fail("r", LineageEnd::new().error("no disk").output_hash("out")).await?;
    let other = ground.second_pond().await?.lineage();
    ensure_eq!(other.get("r").await?, Some(row.clone()), "what fail answered against what another handle reads");
    ensure_eq!((row.status, &row.error), (LineageStatus::Failed, &json!("no disk")), "the end and its reason");
    ensure_eq!((row.input_hash.as_deref(), row.output_hash.as_deref()), (Some("in"), Some("out")), "the hashes");
    ensure_eq!(row.metadata.get("a"), Some(&json!(1)), "the metadata of the beginning");
    ensure!(row.completed_at >= Some(row.started_at), "it ended before it began");
    for status in LineageStatus::ALL {
        refused(other.advance("r", status).await, ErrorKind::Conflict, "a change after the end")?;
    }
    refused(lineage.complete("nobody", LineageEnd::new()).await, ErrorKind::NotFound, "the end of a row that is not there")?;
    Ok(())
}

async fn an_id_is_one_row(ground: Arc<Ground>) -> Verdict {
    let lineage = ground.pond().await?.lineage();
    let first = lineage.record(new("r").document("d1")).await?;
    refused(lineage.record(new("r").parent("p")).await, ErrorKind::Conflict, "a second row under an id")?;
    refused(lineage.start(new("r").derived_from("p")).await, ErrorKind::Conflict, "a second start under an id")?;
    ensure_eq!(lineage.get("r").await?, Some(first), "the first row");
    refused(lineage.children("p", 10, None).await, ErrorKind::NotFound, "children by the edges of refused rows")?;
    Ok(())
}

async fn one_end_of_many_wins(ground: Arc<Ground>) -> Verdict {
    ground.pond().await?.lineage().start(new("r")).await?;
    let ended = race(&two(&ground).await?, 8, |i, store| async move {
        let lineage = Pond::new(store).await?.lineage();
        match lineage.complete("r", LineageEnd::new().output_hash(format!("hash {i}"))).await {
            Ok(row) => Ok(Some(row.value)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    let winners: Vec<_> = ended.into_iter().flatten().collect();
    ensure_eq!(winners.len(), 1, "ends that were told to have been the one");
    let kept = there(ground.second_pond().await?.lineage().get("r").await?, "the row")?;
    ensure_eq!(kept.value, winners[0], "what is kept");
    Ok(())
}

/// Six rows of two kinds, one after the other, told apart by every field that a filter has.
async fn rows(lineage: &LineageRows) -> Verdict {
    for n in 0..6_i64 {
        let word = |what: &str| format!("{what}{}", n % 2);
        let new = NewLineage::of(word("e"), word("r"), word("a")).id(format!("row{n}")).stage(word("s")).correlation(word("c"));
        let new = new.batch(word("b")).document(word("d")).artifact(word("k")).started_at(at(n));
        let new = new.metadata("url", word("HTTP://Ä%/")).metadata("origin", word("Files ")).metadata("title", word("Page "));
        let new = if n % 2 == 1 { new.parent("row0") } else { new };
        lineage.start(new).await?;
    }
    for n in 0..6_i64 {
        let end = LineageEnd::new().completed_at(at(20 - n));
        let id = format!("row{n}");
        if n % 2 == 1 {
            lineage.fail(&id, end).await?
        } else {
            lineage.complete(&id, end).await?
        };
    }
    lineage.start(NewLineage::of("e2", "r2", "a2").id("open").started_at(at(9)).parent("elsewhere")).await?;
    Ok(())
}

async fn rows_are_found_by_every_field(ground: Arc<Ground>) -> Verdict {
    rows(&ground.pond().await?.lineage()).await?;
    let lineage = ground.second_pond().await?.lineage();
    let all = LineageFilter::all;
    let filters = [
        ("execution", all().execution("e1")),
        ("route", all().route("r1")),
        ("adapter", all().adapter("a1")),
        ("stage", all().stage("s1")),
        ("status", all().status(LineageStatus::Failed)),
        ("two statuses", all().status(LineageStatus::Failed).status(LineageStatus::Pending)),
        ("correlation", all().correlation("c1")),
        ("parent", all().parent("row0")),
        ("batch", all().batch("b1")),
        ("document", all().document("d1")),
        ("root", all().root(false).started_before(at(9))),
        ("artifact", all().artifact("k1")),
        ("url", all().url("://ä%/1")),
        ("origin", all().origin("ES 1")),
        ("title", all().title("page 1")),
    ];
    for (what, filter) in filters {
        ensure_eq!(ids(&lineage, &filter).await?, ["row5", "row3", "row1"], "rows by {what}");
        let page = lineage.list(&filter.clone().limit(2)).await?;
        let rest = filter.clone().limit(2).after(page.next);
        ensure_eq!(ids(&lineage, &rest).await?, ["row1"], "the second page by {what}");
        ensure_eq!(lineage.count(&filter).await?, 3, "rows counted by {what}");
    }
    ensure!(ids(&lineage, &all().status(LineageStatus::Processing)).await? == ["open"], "rows that are under way");
    ensure!(ids(&lineage, &all().url("ä_/")).await?.is_empty(), "a part of a text was taken for a pattern");
    ensure_eq!(ids(&lineage, &all().started_from(at(4)).started_before(at(9))).await?, ["row5", "row4"], "a range of times");
    let first = all().order(LineageOrder::FirstStarted).limit(2);
    ensure_eq!(ids(&lineage, &first).await?, ["row0", "row1"], "those that began first");
    let last = all().order(LineageOrder::LastCompleted).limit(2);
    ensure_eq!(ids(&lineage, &last).await?, ["row0", "row1"], "those that ended last");
    let ended = ids(&lineage, &all().order(LineageOrder::FirstCompleted)).await?;
    ensure_eq!(ended, ["row5", "row4", "row3", "row2", "row1", "row0"], "all that ended");
    let failures = lineage.failures(&all().limit(2)).await?.items;
    ensure_eq!(failures.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["row1", "row3"], "failures, the last one first");
    let roots = lineage.roots(&all()).await?.items;
    ensure_eq!(roots.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["row4", "row2", "row0"], "roots");
    let batch = lineage.batch("b1", 10, None).await?.items;
    ensure_eq!(batch.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["row1", "row3", "row5"], "a batch in its order");
    Ok(())
}

/// Rows `a ─► b, c ─► d ─► e`, and with `ring` an edge from `e` back to `a`.
async fn diamond(lineage: &LineageRows, ring: bool) -> Verdict {
    lineage.record(new("a")).await?;
    lineage.record(new("b").parent("a")).await?;
    lineage.record(new("c").parent("a")).await?;
    lineage.record(new("d").parent("b").derived_from("c")).await?;
    lineage.record(new("e").parent("d")).await?;
    if ring {
        lineage.link("a", "e", "again").await?;
    }
    Ok(())
}

fn depths(walk: &LineageWalk) -> BTreeMap<&str, u32> {
    walk.rows.iter().map(|walked| (walked.row.id.as_str(), walked.depth)).collect()
}

async fn walks_meet_every_row_once(ground: Arc<Ground>) -> Verdict {
    let lineage = ground.pond().await?.lineage();
    diamond(&lineage, false).await?;
    let limits = WalkLimits::default();
    let down = lineage.descendants("a", limits).await?;
    ensure_eq!(depths(&down), [("b", 1), ("c", 1), ("d", 2), ("e", 3)].into(), "what came from the first row");
    ensure_eq!((down.rows.len(), down.edges.len(), down.more), (4, 5, false), "rows, edges and whether there are more");
    let up = lineage.ancestors("e", limits).await?;
    ensure_eq!(depths(&up), [("a", 3), ("b", 2), ("c", 2), ("d", 1)].into(), "what the last row came from");
    lineage.link("a", "e", "again").await?;
    let ring = lineage.descendants("d", limits).await?;
    ensure_eq!(depths(&ring), [("e", 1), ("a", 2), ("b", 3), ("c", 3)].into(), "a walk through a ring");
    ensure_eq!((ring.rows.len(), ring.edges.len(), ring.more), (4, 6, false), "rows and edges of a ring");
    let chain = ground.second_pond().await?.lineage().chain("d", limits).await?;
    ensure_eq!(depths(&chain.ancestors), [("b", 1), ("c", 1), ("a", 2), ("e", 3)].into(), "upwards from the middle");
    ensure_eq!((chain.row.id.as_str(), depths(&chain.descendants)), ("d", depths(&ring)), "the rest of the chain");
    refused(lineage.ancestors("nobody", limits).await, ErrorKind::NotFound, "a walk from a row that is not there")?;
    Ok(())
}

async fn a_walk_says_what_it_left_out(ground: Arc<Ground>) -> Verdict {
    let lineage = ground.pond().await?.lineage();
    diamond(&lineage, true).await?;
    let cases = [(1, 10, 2, true), (3, 10, 4, false), (2, 10, 3, true), (9, 3, 3, true), (9, 4, 4, false), (0, 9, 0, true)];
    for (depth, rows, shown, more) in cases {
        let walk = lineage.descendants("a", WalkLimits { depth, rows }).await?;
        ensure_eq!((walk.rows.len(), walk.more), (shown, more), "rows, and whether there are more, at {depth} and {rows}");
    }
    lineage.record(new("f").parent("e").derived_from("lost")).await?;
    let up = lineage.ancestors("f", WalkLimits { depth: 1, rows: 9 }).await?;
    let missing: Vec<&str> = up.missing.iter().map(|missing| missing.id.as_str()).collect();
    ensure_eq!((depths(&up), missing), ([("e", 1)].into(), vec!["lost"]), "rows that are there, and those that are not");
    Ok(())
}

async fn an_edge_is_written_once(ground: Arc<Ground>) -> Verdict {
    let lineage = ground.pond().await?.lineage();
    lineage.record(new("a")).await?;
    lineage.record(new("b")).await?;
    ensure!(there(lineage.get("b").await?, "the row")?.root, "a row that came from no other is no root");
    for _ in 0..2 {
        lineage.link("b", "a", LineageEdge::DERIVED_FROM).await?;
        lineage.link("b", "a", "quotes").await?;
    }
    let other = ground.second_pond().await?.lineage();
    ensure!(!there(other.get("b").await?, "the row")?.root, "a row that came from another is a root");
    let mut kinds: Vec<_> = other.parents("b", 10, None).await?.items.into_iter().map(|edge| (edge.kind, edge.id)).collect();
    kinds.sort_unstable();
    let expected = [("derived_from", "a"), ("quotes", "a")].map(|(kind, id)| (kind.to_owned(), id.to_owned()));
    ensure_eq!(kinds, expected, "the edges upwards");
    let page = other.children("a", 1, None).await?;
    let rest = other.children("a", 1, page.next.clone()).await?;
    ensure_eq!((page.items.len(), rest.items.len(), rest.next), (1, 1, None), "the edges downwards, in pages");
    ensure!(page.items.iter().all(|edge| edge.row.as_ref().is_some_and(|row| row.id == "b")), "the row at the other end");
    refused(lineage.link("nobody", "a", "quotes").await, ErrorKind::NotFound, "an edge of a row that is not there")?;
    refused(lineage.link("a", "a", "quotes").await, ErrorKind::Invalid, "an edge of a row to itself")?;
    ensure_eq!(lineage.children("a", 10, None).await?.items.len(), 2, "edges after refused ones");
    Ok(())
}

async fn counts_follow_every_change(ground: Arc<Ground>) -> Verdict {
    rows(&ground.pond().await?.lineage()).await?;
    let lineage = ground.second_pond().await?.lineage();
    lineage.cancel("open", LineageEnd::new()).await?;
    let stats = lineage.stats(&LineageFilter::all().limit(1)).await?;
    ensure_eq!((stats.count, stats.completed, stats.failed), (7, 3, 3), "all rows, those completed, those failed");
    let adapters: Vec<_> = stats.adapters.iter().map(|a| (a.route.as_str(), a.adapter.as_str(), a.count)).collect();
    ensure_eq!(adapters, [("r0", "a0", 3), ("r1", "a1", 3), ("r2", "a2", 1)], "rows of each route and adapter");
    ensure_eq!(stats.adapters[2].statuses, [(LineageStatus::Cancelled, 1)].into(), "statuses of the last adapter");
    let some = lineage.stats(&LineageFilter::all().execution("e1").started_from(at(2))).await?;
    ensure_eq!((some.count, some.failed, some.adapters.len()), (2, 2, 1), "counts of a filter");
    Ok(())
}

async fn a_row_joins_a_commit(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let lineage = pond.lineage();
    let row = lineage.start(new("r")).await?;
    let end = || LineageEnd::new().artifact("k");
    let (promised, done) = lineage.move_part(&row, LineageStatus::Completed, end())?;
    let (_, next) = lineage.record_part(new("s").parent("r"))?;
    let whole = Commit::new().trusted().put("notes", "n", &json!({}))?.and(done).and(next);
    let stale = whole.clone().expect_absent("lineage", "r")?;
    refused(pond.commit(stale).await, ErrorKind::Conflict, "a commit whose rest does not hold")?;
    ensure_eq!((lineage.get("r").await?, lineage.get("s").await?), (Some(row.clone()), None), "rows after a refused commit");
    ensure!(lineage.descendants("r", WalkLimits::default()).await?.rows.is_empty(), "an edge of a refused commit");
    pond.commit(whole).await?;
    ensure_eq!(there(lineage.get("r").await?, "the row")?.value, promised, "the row that the part promised");
    let down = lineage.descendants("r", WalkLimits::default()).await?;
    ensure_eq!(depths(&down), [("s", 1)].into(), "what came from it");
    let mut unit = pond.unit();
    unit.lineage().fail(&row, LineageEnd::new()).record(new("t").parent("r"));
    refused(unit.commit().await, ErrorKind::Conflict, "a unit with a row that was changed since")?;
    ensure_eq!(lineage.get("t").await?, None, "a row of a refused unit");
    Ok(())
}

async fn events_tell_every_row(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let lineage = pond.lineage();
    lineage.record(new("a").artifact("k1").started_at(at(1)).end(LineageEnd::new().artifact("k1").completed_at(at(2)))).await?;
    lineage.start(new("b").parent("a").started_at(at(3))).await?;
    lineage.fail("b", LineageEnd::new().completed_at(at(4)).error(json!({"message": "no disk"}))).await?;
    lineage.start(new("c").started_at(at(5))).await?;
    lineage.start(new("d").started_at(at(6)).status(LineageStatus::Pending)).await?;
    let filter = LineageFilter::all().order(LineageOrder::FirstStarted);
    let page = lineage.open_lineage(&filter).await?;
    let said = |pointer: &str| -> Vec<String> {
        page.events.iter().map(|e| e.pointer(pointer).and_then(|v| v.as_str()).unwrap_or("-").to_owned()).collect()
    };
    ensure_eq!(said("/eventType"), ["START", "COMPLETE", "START", "FAIL", "START"], "types of events");
    ensure_eq!(said("/inputs/0/name"), ["-", "-", "k1", "k1", "-"], "what went in");
    ensure_eq!(said("/outputs/0/name"), ["-", "k1", "-", "-", "-"], "what came out");
    ensure_eq!(said("/run/facets/errorMessage/message"), ["-", "-", "-", "no disk", "-"], "why it failed");
    let runs = said("/run/runId");
    ensure!(runs[0] == runs[1] && runs[2] == runs[3] && runs[1] != runs[2] && runs[3] != runs[4], "runs of the events: {runs:?}");
    let first = lineage.open_lineage(&filter.clone().limit(1)).await?;
    let second = lineage.open_lineage(&filter.limit(1).after(first.next)).await?;
    ensure_eq!((first.events, second.events), (page.events[..2].to_vec(), page.events[2..4].to_vec()), "two pages of a row");
    Ok(())
}
