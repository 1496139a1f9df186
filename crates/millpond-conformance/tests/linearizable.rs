//! Concurrent histories: those of an honest engine are explained, also when answers are lost; those of an engine that
//! loses an update, shows an old state or forgets an unknown outcome are not.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "../../millpond/tests/support/around.rs"]
mod around;

use std::sync::{Arc, Mutex};

use around::engine_around;
use millpond_conformance::faults::{Fault, Faults, FaultyEngine};
use millpond_conformance::linearizable::{Answer, History, Recorder, Verdict, Workload, check, run};
use millpond_conformance::{BrokenEngine, Place, ReferencePlace};
use millpond_core::{
    Answer as Told, Engine, FeedPage, FeedRequest, Front, Namespace, Outcome, PreparedCommit, Read, Result, Store,
};

async fn stores(engines: &[Arc<dyn Engine>]) -> Vec<Store> {
    let mut stores = Vec::new();
    for engine in engines {
        stores.push(Store::open(Arc::new(Front::new(Arc::clone(engine))), Namespace::default()).await.unwrap());
    }
    stores
}

async fn history(engines: &[Arc<dyn Engine>], seed: u64) -> History {
    let workload = Workload { seed, ..Workload::default() };
    run(&stores(engines).await, workload, &Recorder::default()).await.unwrap()
}

async fn two(place: &dyn Place) -> [Arc<dyn Engine>; 2] {
    [place.open().await.unwrap(), place.open().await.unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_an_honest_engine_is_explained() {
    for seed in 0..10 {
        let history = history(&two(&ReferencePlace::new()).await, seed).await;
        assert_eq!(history.calls.len(), 240, "every call is in the history");
        assert_eq!(check(&history), Verdict::Linearizable, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_stay_open_and_the_history_is_explained() {
    let kinds = [Fault::Refused, Fault::RequestLost, Fault::AnswerLost, Fault::Late];
    for seed in 0..10 {
        let faults = Faults::seeded(seed).of_kinds(&kinds);
        let engines = two(&ReferencePlace::new()).await;
        drop(stores(&engines).await);
        let faulty = engines.map(|e| Arc::new(FaultyEngine::new(e, faults.clone())) as Arc<dyn Engine>);
        // Opening asks questions, which meet faults, too.
        let opened = loop {
            let front = |engine: &Arc<dyn Engine>| Arc::new(Front::new(Arc::clone(engine)));
            let one = Store::open(front(&faulty[0]), Namespace::default()).await;
            if let (Ok(one), Ok(other)) = (one, Store::open(front(&faulty[1]), Namespace::default()).await) {
                break [one, other];
            }
        };
        let history = run(&opened, Workload { seed, ..Workload::default() }, &Recorder::default()).await.unwrap();
        assert!(history.unknown() > 0, "seed {seed}: no answer was lost");
        assert_eq!(check(&history), Verdict::Linearizable, "seed {seed}");
        // The planted mistake: what is not known is taken for a failure. Some lost commit did happen and was seen.
        let mut without = history.clone();
        without.calls.retain(|c| c.answer.is_some());
        if matches!(check(&without), Verdict::Not { .. }) {
            return;
        }
    }
    panic!("unknown outcomes were left out, and no history noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_update_is_found() {
    let broken = BrokenEngine::all();
    for name in ["lost-update", "split-state", "forgotten-append"] {
        let Some(broken) = broken.iter().find(|b| b.name == name) else { continue };
        let mut found = 0;
        for seed in 0..5 {
            let verdict = check(&history(&two(&*broken.place()).await, seed).await);
            found += u32::from(matches!(verdict, Verdict::Not { .. }));
        }
        assert!(found > 0, "{name}: {}", broken.defect);
    }
    assert!(broken.iter().any(|b| b.name == "lost-update"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_read_is_found() {
    let place = ReferencePlace::new();
    let stale = Arc::new(Stale { inner: place.open().await.unwrap(), last: Mutex::default() }) as Arc<dyn Engine>;
    let engines = [place.open().await.unwrap(), stale];
    assert!(matches!(check(&history(&engines, 1).await), Verdict::Not { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_is_found() {
    let mut history = history(&two(&ReferencePlace::new()).await, 3).await;
    let committed = history.calls.iter_mut().rev().find_map(|c| match &mut c.answer {
        Some(Answer::Committed(left)) => Some(left),
        _ => None,
    });
    committed.unwrap()[0] += 1;
    assert!(matches!(check(&history), Verdict::Not { .. }));
}

/// Answers a question every second time as it did when it was asked before: a follower that is behind.
#[derive(Debug)]
struct Stale {
    inner: Arc<dyn Engine>,
    last: Mutex<Vec<(String, Vec<Told>, bool)>>,
}

engine_around! {
    Stale {
        async fn read(&self, namespace: &Namespace, reads: Vec<Read>) -> Result<Vec<Told>> {
            let asked = format!("{reads:?}");
            {
                let mut last = self.last.lock().unwrap();
                let known = last.iter_mut().find(|(question, ..)| *question == asked);
                if let Some((_, told, fresh)) = known
                    && std::mem::replace(fresh, !*fresh)
                {
                    return Ok(told.clone());
                }
            }
            let told = self.inner.read(namespace, reads).await?;
            let mut last = self.last.lock().unwrap();
            match last.iter_mut().find(|(question, ..)| *question == asked) {
                Some(known) => known.1.clone_from(&told),
                None => last.push((asked, told.clone(), true)),
            }
            Ok(told)
        }
        async fn commit(&self, namespace: &Namespace, batch: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
            self.inner.commit(namespace, batch).await
        }
        async fn feed(&self, namespace: &Namespace, request: FeedRequest) -> Result<FeedPage> {
            self.inner.feed(namespace, request).await
        }
    }
}
