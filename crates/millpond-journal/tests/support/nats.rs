//! Stores on private NATS servers.

use std::path::Path;
use std::sync::Arc;

use millpond_core::{Result, Store};
use millpond_journal::drivers::nats::{NatsJournals, NatsOptions};
use millpond_journal::{JournalEngine, Journals};

/// The place at a URL.
pub async fn place(url: &str) -> Result<Arc<dyn Journals>> {
    Ok(Arc::new(NatsJournals::open(NatsOptions::parse(url)?).await?))
}

/// The engine at a URL.
pub async fn engine(url: &str, cache: &Path) -> Arc<JournalEngine> {
    super::engine_on(place(url).await.expect("the place opens"), cache).await
}

/// The default namespace at a URL.
pub async fn opened(url: &str, cache: &Path) -> Store {
    super::store(engine(url, cache).await).await.expect("the store opens")
}

/// Asks the JetStream API, past the driver; again while a cluster that lost a server has nobody to answer.
pub async fn api(client: &async_nats::Client, what: &str, question: serde_json::Value) -> serde_json::Value {
    let (subject, question) = (format!("$JS.API.{what}"), question.to_string());
    let mut tries = 0;
    let answer = loop {
        tries += 1;
        match client.request(subject.clone(), question.clone().into()).await {
            Ok(answer) => break answer,
            Err(error) => assert!(tries < 6, "{what}: {error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    };
    serde_json::from_slice(&answer.payload).expect("JSON")
}

/// The stream of the default namespace's journal.
pub async fn default_stream(client: &async_nats::Client) -> String {
    let names = api(client, "STREAM.NAMES", serde_json::json!({})).await;
    let names = names["streams"].as_array().expect("names").iter().filter_map(|n| n.as_str());
    let mut found = names.filter(|name| name.contains("_journal_default="));
    found.next().expect("the default journal").to_owned()
}
