//! A connection that is lost at any moment of a commit, by a proxy that swallows the request or only the answer: the
//! commit is applied once all the same, and its caller hears so.

use std::time::{Duration, Instant};

use millpond::{Commit, CommitId, ErrorKind, MergeOp, NewEvent, Store};
use millpond_testservers::{Fault, Proxy};
use serde_json::json;

use crate::writer::open;
use crate::{Failure, backends, block_on};

/// How much.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which of the flights of a commit are lost, one after another.
    #[arg(long, default_value_t = 4)]
    flights: u64,
}

/// Loses flights on every backend that has a server of one port.
///
/// # Errors
/// When a commit is applied twice or not at all, or its caller does not hear of it.
pub fn run(on: &[String], options: &Arguments) -> Result<(), Failure> {
    for (name, kind) in backends::chosen(on)? {
        let began = Instant::now();
        let Some(running) = kind.start()? else { continue };
        let Some(port) = running.port() else { continue };
        let proxy = Proxy::start(port)?;
        let url = running.store("proxied")?.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
        let ([requests, answers], told) = block_on(lose(&url, &proxy, options.flights))??;
        if requests == 0 || answers == 0 {
            return Err(format!("{name}: {requests} requests and {answers} answers were lost, so this finds nothing").into());
        }
        println!(
            "{name}: {requests} requests and {answers} answers lost, each commit applied once; {told} callers heard at once ({:.1?})",
            began.elapsed()
        );
    }
    Ok(())
}

/// Lost requests and lost answers, and how many callers heard of their commit at once.
async fn lose(url: &str, proxy: &Proxy, flights: u64) -> Result<([u64; 2], u64), Failure> {
    let store = open(url).await?;
    store.commit(step(store.new_commit_id(), "warm")?).await?;
    let (mut met, mut told) = ([0, 0], 0);
    for flight in 1..=flights {
        for (met, fault) in met.iter_mut().zip([Fault::LoseRequest(flight), Fault::LoseAnswer(flight)]) {
            let name = format!("{fault:?}");
            let id = store.new_commit_id();
            quiet(proxy).await;
            proxy.arm(&[fault]);
            let first = store.commit(step(id, &name)?).await;
            *met += proxy.met().len() as u64;
            proxy.arm(&[]);
            match first {
                Ok(_) => told += 1,
                Err(error) if error.kind() != ErrorKind::UnknownOutcome && applied(&store, &name).await? != (0, 0) => {
                    return Err(format!("{fault:?}: the caller was told that nothing was applied, and it was: {error}").into());
                }
                // What was not applied, or is not known, is sent again under its id.
                Err(_) => drop(store.commit(step(id, &name)?).await?),
            }
            let found = applied(&store, &name).await?;
            if found != (1, 1) {
                return Err(format!("{fault:?}: the counter and the stream say {found:?}, each should say 1").into());
            }
        }
    }
    Ok((met, told))
}

fn step(id: CommitId, name: &str) -> millpond::Result<Commit> {
    let add = vec![MergeOp::Add("/n".to_owned(), 1)];
    Commit::new().id(id).merge("totals", name, add)?.append(name, NewEvent::of("stepped", &json!({}))?)
}

async fn applied(store: &Store, name: &str) -> Result<(u64, u64), Failure> {
    let total = match store.get("totals", name).await? {
        Some(record) => record.value.value()?["n"].as_u64().unwrap_or(0),
        None => 0,
    };
    Ok((total, store.stream(name).await?.map_or(0, |s| s.head)))
}

/// Waits until nothing is sent any more: hints and what a former commit left to do are through.
async fn quiet(proxy: &Proxy) {
    let mut last = proxy.flights();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if proxy.flights() == last {
            return;
        }
        last = proxy.flights();
    }
}
