//! Random histories: the engine and the reference engine are given the same commits and must answer alike.

mod compare;
mod history;
mod list;

use std::sync::Arc;

use millpond::{Commit, Engine, Front, Namespace, PreparedCommit, Store};

use crate::{Failure, Ground, ReferencePlace, Verdict, clauses, ensure_eq};
use compare::{answers, outcome};
use history::{History, ITEMS};
pub use list::{OperationList, answers_to, difference};

clauses! { "random":
    one_by_one => "random commits, each by itself, have the outcomes and leave the state that the reference engine has";
    in_batches => "random commits in batches have the outcomes and leave the state they have one by one";
    over_two_handles => "random commits through two handles in turn have the outcomes they have through one";
}

/// Histories to a clause. Each has its own seed, which a failure names.
const HISTORIES: u64 = 6;
/// Commits to a history.
const COMMITS: usize = 60;

async fn one_by_one(ground: Arc<Ground>) -> Verdict {
    compare_all(&ground, 1, 1).await
}

async fn in_batches(ground: Arc<Ground>) -> Verdict {
    compare_all(&ground, 100, 7).await
}

async fn over_two_handles(ground: Arc<Ground>) -> Verdict {
    let engines = [Arc::clone(ground.engine()), ground.place().open().await?];
    for seed in 200..200 + HISTORIES {
        in_own_namespace(&ground, seed, 2, &engines).await?;
    }
    Ok(())
}

async fn compare_all(ground: &Ground, first: u64, batch: usize) -> Verdict {
    let engines = [Arc::clone(ground.engine())];
    for seed in first..first + HISTORIES {
        in_own_namespace(ground, seed, batch, &engines).await?;
    }
    Ok(())
}

/// Each history begins with nothing, so it has a namespace of its own.
async fn in_own_namespace(ground: &Ground, seed: u64, batch: usize, engines: &[Arc<dyn Engine>]) -> Verdict {
    let namespace = ground.sibling(&format!("h{seed}"));
    let info = ground.engine().create_namespace(&namespace).await?;
    let verdict = live_through(&namespace, seed, batch, engines).await;
    ground.engine().delete_namespace(&namespace, &info.store_id).await?;
    verdict.map_err(|f| Failure(format!("history {seed}: {}", f.0)))
}

async fn live_through(namespace: &Namespace, seed: u64, largest: usize, engines: &[Arc<dyn Engine>]) -> Verdict {
    let host = engines[0].host();
    let reference: Arc<dyn Engine> = Arc::new(ReferencePlace::new().host(Arc::clone(&host)).engine());
    reference.create_namespace(namespace).await?;
    let mut stores = Vec::new();
    for engine in engines.iter().chain([&reference]) {
        stores.push(Store::open(Arc::new(Front::new(Arc::clone(engine))), namespace.clone()).await?);
    }
    let mut history = History::new(seed, Arc::clone(&host));
    let (mut declare_at, mut purge_at) = (Some(history.below(COMMITS)), Some(history.below(COMMITS)));
    let mut done = 0;
    while done < COMMITS {
        let engine = &engines[done % engines.len()];
        if declare_at.take_if(|at| *at <= done).is_some() {
            // May be refused, where a document does not fit; then by both.
            let found = engine.declare(namespace, &[ITEMS.spec()?]).await.map(|_| ()).map_err(|e| e.kind());
            let expected = reference.declare(namespace, &[ITEMS.spec()?]).await.map(|_| ()).map_err(|e| e.kind());
            ensure_eq!(found, expected, "a declaration after {done} commits");
        }
        if purge_at.take_if(|at| *at <= done).is_some() {
            let before = host.now().plus(std::time::Duration::from_micros(1));
            let found = engine.purge(namespace, before).await?;
            ensure_eq!(found, reference.purge(namespace, before).await?, "a purge after {done} commits");
        }
        let size = 1 + history.below(largest);
        let commits: Vec<Commit> = (0..size).map(|_| history.commit()).collect::<millpond::Result<_>>()?;
        let found = decide(engine, namespace, &commits).await?;
        for (commit, found) in commits.iter().zip(found) {
            let expected = decide(&reference, namespace, std::slice::from_ref(commit)).await?.concat();
            ensure_eq!(found, expected, "commit {done}, {commit:?}");
            done += 1;
        }
    }
    let questions = history.questions()?;
    for (store, name) in stores.iter().zip(["one", "two"]).take(engines.len()) {
        for question in &questions {
            let found = answers(store, question).await?;
            let expected = answers(&stores[engines.len()], question).await?;
            ensure_eq!(found, expected, "handle {name}, asked {question:?}");
        }
        let findings = store.engine().check(namespace).await?;
        ensure_eq!(findings, Vec::<String>::new(), "what the engine's own check finds");
    }
    Ok(())
}

/// That something was done, or the kind of error.
fn outcome_of<T>(what: &str, found: millpond::Result<T>) -> String {
    match found {
        Ok(_) => format!("{what}: done"),
        Err(error) => format!("{what}: error {}", error.kind().as_str()),
    }
}

/// Has commits decided as one batch, past the queue.
async fn decide(engine: &Arc<dyn Engine>, namespace: &Namespace, commits: &[Commit]) -> Result<Vec<String>, Failure> {
    let catalog = engine.catalog(namespace).await?;
    let host = engine.host();
    let mut answers = vec![None; commits.len()];
    let mut batch: Vec<(usize, PreparedCommit)> = Vec::new();
    for (n, commit) in commits.iter().enumerate() {
        match commit.clone().prepare(&*host, &catalog) {
            Ok(prepared) => batch.push((n, prepared)),
            Err(error) => answers[n] = Some(outcome(&Err(error))),
        }
    }
    let (places, batch): (Vec<usize>, Vec<PreparedCommit>) = batch.into_iter().unzip();
    let outcomes = match engine.commit(namespace, batch).await {
        Ok(outcomes) => outcomes,
        // One error that stands for every commit of the batch.
        Err(error) => places.iter().map(|_| Err(millpond::Error::new(error.kind(), "the whole batch"))).collect(),
    };
    ensure_eq!(outcomes.len(), places.len(), "answers to a batch");
    for (n, found) in places.into_iter().zip(&outcomes) {
        answers[n] = Some(outcome(found));
    }
    Ok(answers.into_iter().flatten().collect())
}
