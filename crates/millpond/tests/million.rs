//! A million runs: what lists, counts and recent runs read of them, as the engine hands it over.

#[path = "support/combine.rs"]
mod combine;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use combine::{Condition, PAGE, check, every, fill, numbered, pairs};
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
        finished_at: Some(if meets(number, 3) { at(2 * MANY) } else { at(if number % 2 == 0 { MANY } else { 3 * MANY }) }),
        parent: Some(rare(4, "parent", format!("p{}", number % 1_000))),
        idempotency_key: None,
        config: Some(rare(5, "config", format!("c{}", number % 100))),
        tags: [rare(6, "rare", "common".to_owned())].into(),
        labels: BTreeMap::from([("kind".to_owned(), rare(7, "rare", "common".to_owned()))]),
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
    let condition = |name, set, met| Condition { name, set, met };
    let started: (fn(RunFilter) -> RunFilter, fn(u32) -> bool) = if many {
        (|f| between(f, MANY), |n| started_in_range(n, MANY))
    } else {
        (|f| between(f, FEW), |n| started_in_range(n, FEW))
    };
    [
        condition("workflow", |f: RunFilter| f.workflow("rare"), |n| meets(n, 0)),
        condition("version", |f| f.version(7), |n| meets(n, 1)),
        condition("status", |f| f.status(RunStatus::Failed), |n| meets(n, 2)),
        condition(
            "finished",
            |f| RunFilter { finished_from: Some(at(MANY + 1)), finished_to: Some(at(3 * MANY)), ..f },
            |n| meets(n, 3),
        ),
        condition("parent", |f| f.parent("parent"), |n| meets(n, 4)),
        condition("config", |f| RunFilter { config: Some("config".to_owned()), ..f }, |n| meets(n, 5)),
        condition("tag", |f| f.tag("rare"), |n| meets(n, 6)),
        condition("label", |f| f.label("kind", "rare"), |n| meets(n, 7)),
        condition("started", started.0, started.1),
    ]
}

fn between(filter: RunFilter, of: u32) -> RunFilter {
    RunFilter { started_from: Some(at(of / 10)), started_to: Some(at(of - of / 10)), ..filter }
}

async fn open(count: u32) -> (Arc<CountingEngine>, Pond) {
    let options = OpenOptions::new();
    let counting = CountingEngine::on(options.engine("memory:").await.expect("opens"));
    let pond = options.open_engine(counting.clone()).await.expect("opens");
    let begun = std::time::Instant::now();
    fill(&pond, count, run).await;
    println!("{count} runs were stored in {:?}", begun.elapsed());
    (counting, pond)
}

async fn lists(counting: &CountingEngine, pond: &Pond, many: bool, sets: impl Iterator<Item = u32> + Clone) {
    let runs = &pond.runs();
    let list = |order| {
        move |filter: RunFilter, after| async move {
            let page = runs.list(&filter.order(order).limit(PAGE).after(after)).await?;
            Ok(numbered(page, |run| run.id[1..].parse().expect("a number")))
        }
    };
    let count = if many { MANY } else { FEW };
    check(counting, &conditions(many), sets.clone(), (0..count).rev(), list(RunOrder::NewestFirst)).await;
    check(counting, &conditions(many), sets, 0..count, list(RunOrder::OldestFirst)).await;
}

#[tokio::test]
async fn pages_of_a_million_runs_read_what_they_show() {
    let (counting, pond) = open(MANY).await;
    let begun = std::time::Instant::now();
    lists(&counting, &pond, true, pairs(9)).await;
    println!("pages took {:?}", begun.elapsed());
}

#[tokio::test]
async fn pages_of_every_combination_read_what_they_show() {
    let (counting, pond) = open(FEW).await;
    let begun = std::time::Instant::now();
    lists(&counting, &pond, false, every(9)).await;
    println!("pages took {:?}", begun.elapsed());
}
