//! A million runs: what lists, counts and recent runs read of them, as the engine hands it over.

#[path = "support/combine.rs"]
mod combine;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use combine::{Condition, PAGE, check, every, fill, numbered};
use millpond::{OpenOptions, Pond, Run, RunCounters, RunFilter, RunOrder, RunStatus, Timestamp};
use support::CountingEngine;

const MANY: u32 = 1_000_000;
const FEW: u32 = 20_000;
/// In either collection 100 needles or more, also in the part that the time conditions take.
const NEEDLE: u32 = 50;

fn at(seconds: u32) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + i64::from(seconds) * 1_000_000)
}

fn meets(number: u32, condition: u32) -> bool {
    combine::meets(number, condition, NEEDLE)
}

/// The newest tenth is left out of the range that is asked for, so that it is met by the engine or not at all.
fn started_in_range(number: u32, of: u32) -> bool {
    (of / 10..of - of / 10).contains(&number)
}

fn run(number: u32) -> Run {
    let rare = |condition, rare: &str, common: String| if meets(number, condition) { rare.to_owned() } else { common };
    let status = if meets(number, 2) { RunStatus::Failed } else { RunStatus::Completed };
    Run {
        id: format!("r{number:07}"),
        workflow: rare(0, "rare", format!("w{}", number % 20)),
        version: if meets(number, 1) { 7 } else { number % 5 },
        status,
        started_at: at(number),
        // The rest ended earlier or later than the range that is asked for.
        finished_at: Some(if meets(number, 3) {
            at(2 * MANY)
        } else {
            at(if number.is_multiple_of(2) { MANY } else { 3 * MANY })
        }),
        parent: Some(rare(4, "parent", format!("p{}", number % 1_000))),
        idempotency_key: None,
        config: Some(rare(5, "config", format!("c{}", number % 100))),
        tags: meets(number, 6).then(|| "rare".to_owned()).into_iter().collect(),
        labels: meets(number, 7).then(|| ("kind".to_owned(), "rare".to_owned())).into_iter().collect(),
        input: serde_json::Value::Null,
        output: serde_json::Value::Null,
        error: None,
        metadata: BTreeMap::new(),
        counters: RunCounters::default(),
        extra: BTreeMap::new(),
    }
}

/// Everything a list of runs can be asked for.
fn conditions(many: bool) -> [Condition<RunFilter>; 9] {
    let started = if many {
        Condition::new("started", |f| between(f, MANY), |n| started_in_range(n, MANY))
    } else {
        Condition::new("started", |f| between(f, FEW), |n| started_in_range(n, FEW))
    };
    [
        Condition::new("workflow", |f| f.workflow("rare"), |n| meets(n, 0)),
        Condition::new("version", |f| f.version(7), |n| meets(n, 1)),
        Condition::new("status", |f| f.status(RunStatus::Failed), |n| meets(n, 2)),
        Condition::new(
            "finished",
            |f| RunFilter { finished_from: Some(at(MANY + 1)), finished_to: Some(at(3 * MANY)), ..f },
            |n| meets(n, 3),
        ),
        Condition::new("parent", |f| f.parent("parent"), |n| meets(n, 4)),
        Condition::new("config", |f| RunFilter { config: Some("config".to_owned()), ..f }, |n| meets(n, 5)),
        Condition::new("tag", |f| f.tag("rare"), |n| meets(n, 6)),
        Condition::new("label", |f| f.label("kind", "rare"), |n| meets(n, 7)),
        started,
    ]
}

fn between(filter: RunFilter, of: u32) -> RunFilter {
    RunFilter { started_from: Some(at(of / 10)), started_to: Some(at(of - of / 10)), ..filter }
}

async fn open(count: u32) -> (Arc<CountingEngine>, Pond) {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let pond = options.open_engine(counting.clone()).await.expect("opens");
    fill(&pond, count, run).await;
    (counting, pond)
}

fn number(run: &Run) -> u32 {
    run.id[1..].parse().expect("a number")
}

async fn lists(counting: &CountingEngine, pond: &Pond, many: bool, sets: impl Iterator<Item = u32> + Clone) {
    let runs = &pond.runs();
    let list = |order| {
        move |filter: RunFilter, after| async move {
            let page = runs.list(&filter.order(order).limit(PAGE).after(after)).await?;
            Ok(numbered(page, |run| number(&run)))
        }
    };
    let count = if many { MANY } else { FEW };
    check(counting, &conditions(many), sets.clone(), (0..count).rev(), list(RunOrder::NewestFirst)).await;
    check(counting, &conditions(many), sets, 0..count, list(RunOrder::OldestFirst)).await;
}

/// Recent runs read as many rows as they are, whatever else there is.
async fn recent_runs(counting: &CountingEngine, pond: &Pond) {
    for (version, n) in [(Some(7), 1), (Some(7), 30), (Some(7), 1_000), (None, 30)] {
        let expected = (0..MANY).rev().filter(|r| meets(*r, 0) && (version.is_none() || meets(*r, 1))).take(n);
        counting.take_rows();
        let page = pond.runs().recent("rare", version, n).await.expect("listed");
        let rows = counting.take_rows();
        assert!(page.items.iter().map(|run| number(run)).eq(expected), "the {n} recent runs of version {version:?}");
        assert!(rows <= n as u64 + 1, "{n} recent runs of version {version:?} read {rows} rows");
    }
}

/// A count is one row; the children of a run are a page like any other.
async fn counts_and_children(counting: &CountingEngine, pond: &Pond) {
    let runs = pond.runs();
    let failed = (0..MANY).filter(|n| meets(*n, 2)).count() as u64;
    assert_eq!(runs.count(&RunFilter::all().status(RunStatus::Failed)).await.expect("counted"), failed);
    assert_eq!(counting.take_rows(), 1, "a count of {failed} runs");
    let page = runs.children("parent", PAGE, None).await.expect("listed");
    let rows = counting.take_rows();
    assert!(page.items.iter().map(|run| number(run)).eq((0..MANY).filter(|n| meets(*n, 4)).take(PAGE)), "the children");
    assert!(rows <= PAGE as u64 + 1, "a page of children read {rows} rows");
}

/// None, each one, each pair, and all at once.
fn pairs(conditions: usize) -> impl Iterator<Item = u32> + Clone {
    every(conditions).filter(move |set| set.count_ones() <= 2 || set.count_ones() as usize == conditions)
}

// One test, because a million runs take their time to store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_runs_are_read_as_they_are_shown() {
    let (counting, pond) = open(MANY).await;
    lists(&counting, &pond, true, pairs(9)).await;
    recent_runs(&counting, &pond).await;
    counts_and_children(&counting, &pond).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_combination_reads_what_it_shows() {
    let (counting, pond) = open(FEW).await;
    lists(&counting, &pond, false, every(9)).await;
}
