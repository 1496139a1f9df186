//! Concurrent histories on every backend: through several handles, each an engine of its own, and with lost answers.

use std::sync::Arc;
use std::time::Instant;

use millpond::{Engine, Front, Namespace, Store};
use millpond_conformance::Place as _;
use millpond_conformance::faults::{Fault, Faults, FaultyEngine};
use millpond_conformance::linearizable::{History, Recorder, Verdict, Workload, check, run as record};

use crate::backends::{self, Kind};
use crate::place::UrlPlace;
use crate::{Failure, block_on};

/// How much.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Histories on each backend; one of two has lost answers.
    #[arg(long, default_value_t = 4)]
    histories: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Records histories and looks for an order that explains each.
///
/// # Errors
/// When one has none.
pub fn run(on: &[String], options: &Arguments) -> Result<(), Failure> {
    for (name, kind) in backends::chosen(on)? {
        one(name, kind, options)?;
    }
    Ok(())
}

fn one(name: &str, kind: Kind, options: &Arguments) -> Result<(), Failure> {
    let began = Instant::now();
    let Some(server) = kind.start()? else { return Ok(()) };
    let place = UrlPlace::new(server.store("linearizability")?);
    let (mut calls, mut unknown) = (0, 0);
    for seed in options.seed..options.seed + options.histories {
        let faults = (seed % 2 == 0)
            .then(|| Faults::seeded(seed).of_kinds(&[Fault::Refused, Fault::RequestLost, Fault::AnswerLost, Fault::Late]));
        let history = block_on(history(&place, seed, faults))??;
        calls += history.calls.len();
        unknown += history.unknown();
        match check(&history) {
            Verdict::Linearizable => {}
            Verdict::Undecided(places) => {
                return Err(format!("{}, seed {seed}: undecided after {places} places", name).into());
            }
            Verdict::Not { explained, stuck } => {
                let file = std::env::temp_dir().join(format!("millpond-history-{}-{seed}.json", name));
                std::fs::write(&file, serde_json::to_vec_pretty(&history)?)?;
                return Err(format!(
                    "{}, seed {seed}: no order explains the history; {explained} of {} calls explained, then one of {stuck:#?} had to \
                     be next. The history is in {}",
                    name,
                    history.calls.len(),
                    file.display()
                )
                .into());
            }
        }
    }
    if options.histories >= 4 && unknown == 0 {
        return Err(format!("{name}: no outcome was unknown, so this finds little").into());
    }
    println!(
        "{}: {} histories of {calls} calls, {unknown} of unknown outcome: linearizable ({:.1?})",
        name,
        options.histories,
        began.elapsed()
    );
    Ok(())
}

/// One history in a namespace of its own, through three handles.
async fn history(place: &UrlPlace, seed: u64, faults: Option<Faults>) -> Result<History, Failure> {
    let namespace = Namespace::new(format!("history-{seed}"))?;
    let first = place.open().await?;
    first.create_namespace(&namespace).await?;
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(opened(place.open().await?, &namespace, faults.as_ref()).await?);
    }
    let workload = Workload { seed, ..Workload::default() };
    Ok(record(&stores, workload, &Recorder::default()).await.map_err(|f| f.0)?)
}

async fn opened(engine: Arc<dyn Engine>, namespace: &Namespace, faults: Option<&Faults>) -> Result<Store, Failure> {
    let engine = match faults {
        Some(faults) => Arc::new(FaultyEngine::new(engine, faults.clone())) as Arc<dyn Engine>,
        None => engine,
    };
    let mut last = None;
    // Opening asks questions, which meet faults, too.
    for _ in 0..100 {
        match Store::open(Arc::new(Front::new(Arc::clone(&engine))), namespace.clone()).await {
            Ok(store) => return Ok(store),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| "never opened".into(), Failure::from))
}
