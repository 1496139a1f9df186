//! NATS JetStream: Millpond beside bare publishes to the same server, which flushes each write.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::Client;
use bytes::Bytes;
use millpond_core::{Engine, Front, Namespace, Store};
use millpond_journal::drivers::nats::{NatsJournals, NatsOptions};
use millpond_journal::{JournalEngine, JournalOptions};
use millpond_testservers::{NatsRelease, NatsServer, NatsSync};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::crowd::{Step, at_once, closed_loop, ours};
use crate::report::Report;
use crate::rounds::{Variant, interleave};
use crate::world::{self, Done};

/// Publishes that carry a burst in as few messages as the server's usual limit of 1 MB takes.
const ENTRIES: u64 = 10;

/// All lines, on a private server; nothing where NATS is not installed.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    if !["nats.append1", "nats.burst10k"].iter().any(|item| report.wants(item)) {
        return Ok(());
    }
    let Some(server) = NatsServer::start(NatsRelease::Current, NatsSync::Always)? else { return Ok(()) };
    let (runtime, folder) = (world::runtime()?, world::folder(args)?);
    let client = runtime.block_on(async_nats::connect(server.url()))?;
    let bench = Bench { url: server.url(), runtime: &runtime, folder: folder.path(), client, made: Cell::new(0) };
    if report.wants("nats.append1") {
        bench.one_caller(args, report)?;
    }
    if report.wants("nats.burst10k") {
        bench.burst(args, report)?;
    }
    Ok(())
}

struct Bench<'r> {
    url: String,
    runtime: &'r Runtime,
    folder: &'r Path,
    client: Client,
    made: Cell<u32>,
}

impl Bench<'_> {
    fn fresh(&self) -> String {
        self.made.set(self.made.get() + 1);
        format!("bench{}", self.made.get())
    }

    /// A store in fresh streams.
    fn store(&self) -> Done<Store> {
        let prefix = self.fresh();
        let cache = self.folder.join(&prefix);
        Ok(self.runtime.block_on(async {
            let journals = NatsJournals::open(NatsOptions::parse(&format!("{}/?prefix={prefix}", self.url))?).await?;
            let options = JournalOptions { cache: Some(cache), ..JournalOptions::default() };
            let engine: Arc<dyn Engine> = Arc::new(JournalEngine::open(Arc::new(journals), options).await?);
            let store = Store::open(Arc::new(Front::new(engine)), Namespace::default()).await?;
            store.declare(&[world::WORK.spec()?]).await?;
            Ok::<_, millpond_core::Error>(store)
        })?)
    }

    /// Bytes that a number of commits at once, one after another if it is one, add to the journal, each.
    fn bytes_of_a_commit(&self, at_once_of: u64) -> Done<usize> {
        let store = self.store()?;
        let journal = format!("bench{}_journal_default", self.made.get());
        let before = self.stored(&journal)?;
        at_once(self.runtime, at_once_of, 1, &ours(&store))?;
        Ok(usize::try_from((self.stored(&journal)? - before) / at_once_of)?)
    }

    /// Bytes in the stream whose name begins so.
    fn stored(&self, name: &str) -> Done<u64> {
        let names = self.api("STREAM.NAMES", &json!({}))?;
        let names = names["streams"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let stream = names.into_iter().find(|found| found.starts_with(name)).ok_or("no journal")?;
        let info = self.api(&format!("STREAM.INFO.{stream}"), &json!({}))?;
        info["state"]["bytes"].as_u64().ok_or_else(|| "no size".into())
    }

    fn api(&self, what: &str, question: &Value) -> Done<Value> {
        let answer = self.runtime.block_on(self.client.request(format!("$JS.API.{what}"), question.to_string().into()))?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        if answer["error"].is_null() { Ok(answer) } else { Err(answer["error"].to_string().into()) }
    }

    /// A bare publish of this many bytes to a stream of its own, answered when it is stored.
    fn publish(&self, bytes: usize) -> Done<Step> {
        let name = self.fresh();
        self.api(&format!("STREAM.CREATE.{name}"), &json!({"name": name, "subjects": [name], "storage": "file"}))?;
        let (client, body) = (self.client.clone(), Bytes::from("x".repeat(bytes)));
        Ok(Arc::new(move |_| {
            let (client, name, body) = (client.clone(), name.clone(), body.clone());
            Box::pin(async move {
                let answer = client.request(name, body).await;
                answer.is_ok_and(|a| serde_json::from_slice::<Value>(&a.payload).is_ok_and(|a| a["seq"].is_u64()))
            })
        }))
    }

    fn one_caller(&self, args: &crate::Args, report: &mut Report) -> Done {
        report.heading("NATS, each write flushed, 1 caller, one record and one event a commit (nats.append1)");
        let bytes = self.bytes_of_a_commit(1)?;
        let (mine, theirs) = (ours(&self.store()?), self.publish(bytes)?);
        let counter = Arc::new(AtomicU64::new(1));
        let figures = interleave(
            args.rounds,
            &mut [
                ("millpond", Box::new(|| closed_loop(self.runtime, 1, args.secs, &counter, &mine))),
                ("one publish of the same bytes", Box::new(|| closed_loop(self.runtime, 1, args.secs, &counter, &theirs))),
            ],
        )?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "a second"));
        report.ratio("millpond / one publish", figures[0].1.median / figures[1].1.median, 0.55);
        report.product("nats.append1", figures[0].1, "ops/s")
    }

    fn burst(&self, args: &crate::Args, report: &mut Report) -> Done {
        report.heading("NATS, each write flushed, 10,000 callers at once, one durable commit each (nats.burst10k)");
        let bytes = self.bytes_of_a_commit(10_000)?;
        let in_entry = 10_000 / ENTRIES;
        let (mine, single) = (ours(&self.store()?), self.publish(bytes)?);
        let large = self.publish(bytes * usize::try_from(in_entry)?)?;
        let counter = AtomicU64::new(1);
        let next = || counter.fetch_add(10_000, Ordering::Relaxed);
        let mut variants: [Variant<'_>; 3] = [
            ("millpond", Box::new(|| at_once(self.runtime, 10_000, next(), &mine))),
            ("10,000 pipelined publishes", Box::new(|| at_once(self.runtime, 10_000, next(), &single))),
            (
                "the same bytes in 10 pipelined publishes",
                Box::new(|| Ok(at_once(self.runtime, ENTRIES, next(), &large)? * in_entry as f64)),
            ),
        ];
        let figures = interleave(args.rounds, &mut variants)?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "commits' worth a second"));
        let ours = figures[0].1;
        report.ratio("millpond / 10,000 publishes", ours.median / figures[1].1.median, 0.3);
        report.ratio("millpond / 10 publishes", ours.median / figures[2].1.median, 0.3);
        report.product("nats.burst10k", ours, "ops/s")
    }
}
