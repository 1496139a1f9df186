//! The README's ten lines, as they run: one step of a run in one commit under a lock, and a feed that resumes.

use std::time::Duration;

use millpond::{Delivery, Execution, LockRequest, NewRun, Result, Selector, StartAt, Step};
use serde_json::json;

/// Runs them on a store and answers how many events the feed showed.
///
/// # Errors
/// What the store fails with.
pub async fn run(place: &str) -> Result<usize> {
    let pond = millpond::open(place).await?; // a folder, sqlite:FILE or memory:
    let run = pond.runs().start(NewRun::of("etl", 3).idempotency_key("request-17")).await?;
    let lease = pond.locks().acquire(&LockRequest::of("etl", Duration::from_secs(30)).wait(Duration::from_secs(10))).await?;

    let mut unit = pond.unit(); // one step of that run
    unit.artifacts().put("executions/e1/crawl/fetch/m1.html", "<p>").provenance(&run, "fetch").await?;
    unit.runs().step_completed(run.id(), Step::new("fetch"));
    unit.events(run.stream()).append("page.fetched", &json!({ "url": "https://example.org" }));
    unit.checkpoints(run.id()).save(&json!({ "next": 2 }));
    unit.metrics().record(Execution::of(&run).took(Duration::from_millis(120)).tokens(412));
    unit.fenced_by(&lease); // refused by the store once the lease is not ours any more
    unit.commit().await?; // all of it, or none of it

    let mut feed = pond.subscribe(Selector::types("page.*"), StartAt::Oldest)?;
    let mut seen = 0;
    while let Some(delivery) = feed.try_next().await? {
        if let Delivery::Change(change, cursor) = delivery {
            println!("{change:?}; resume after {cursor}"); // never skips
            seen += 1;
        }
    }
    Ok(seen)
}

#[tokio::main]
async fn main() -> Result<()> {
    run("memory:").await.map(|seen| println!("{seen} event"))
}
