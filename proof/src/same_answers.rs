//! One random list of operations on every backend: the answers are the same, byte for byte.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond::{Engine, Host, Namespace, SystemHost};
use millpond_conformance::clauses::random::{OperationList, answers_to, difference};
use millpond_conformance::{Place as _, ReferencePlace};

use crate::place::UrlPlace;
use crate::{Failure, backends, block_on};

/// How much.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Lists.
    #[arg(long, default_value_t = 3)]
    lists: u64,
    /// Operations of each.
    #[arg(long, default_value_t = 200)]
    operations: usize,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Asks each backend what the reference engine was asked.
///
/// # Errors
/// When one answers differently: the shortest list over which it does.
pub fn run(on: &[String], options: &Arguments) -> Result<(), Failure> {
    // One list for all of them: its ids are made once, with moments of a minute ago.
    let from = SystemHost.now().minus(Duration::from_secs(60));
    let seeds = options.seed..options.seed + options.lists;
    let lists = seeds.map(|seed| Ok((seed, OperationList::random(seed, options.operations, from)?)));
    let lists = lists.collect::<Result<Vec<_>, Failure>>()?;
    let mut first: Option<(&str, u64)> = None;
    for (name, kind) in backends::chosen(on)? {
        let began = Instant::now();
        let Some(running) = kind.start()? else { continue };
        let place = UrlPlace::new(running.store("answers")?);
        let (answers, digest) = block_on(one(name, &place, &lists))??;
        println!("{name}: {} lists, {answers} answers, digest {digest:016x} ({:.1?})", options.lists, began.elapsed());
        let (other, expected) = *first.get_or_insert((name, digest));
        if digest != expected {
            return Err(format!("{name} and {other} answer differently").into());
        }
    }
    Ok(())
}

async fn one(name: &str, place: &UrlPlace, lists: &[(u64, OperationList)]) -> Result<(usize, u64), Failure> {
    let engine = place.open().await?;
    let oracle: Arc<dyn Engine> = Arc::new(ReferencePlace::new().engine());
    let (mut count, mut digest) = (0, DefaultHasher::new());
    for (seed, list) in lists {
        let namespace = Namespace::new(format!("answers-{seed}"))?;
        let found = answers_to(&engine, &namespace, list).await.map_err(|f| f.0)?;
        if found != answers_to(&oracle, &namespace, list).await.map_err(|f| f.0)? {
            let words = difference(&engine, &oracle, list).await.map_err(|f| f.0)?;
            let words = words.unwrap_or_else(|| "and not when it was asked again".to_owned());
            return Err(format!("{name}, seed {seed}: answers differ from the reference engine's: {words}").into());
        }
        count += found.len();
        found.hash(&mut digest);
    }
    Ok((count, digest.finish()))
}
