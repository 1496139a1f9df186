//! The journal engine on three NATS servers that keep three copies keeps every promise of the suite.

#[path = "support/suite.rs"]
mod suite;

use std::process::ExitCode;
use std::sync::Arc;

use millpond_journal::Journals;
use millpond_journal::drivers::nats::{NatsJournals, NatsOptions};
use millpond_testservers::{NatsCluster, NatsSync};

fn main() -> ExitCode {
    let start = || {
        let cluster = NatsCluster::start(NatsSync::Always).expect("NATS starts")?;
        let address = format!("{}/?replicas=3&timeout=30", cluster.address());
        Some((cluster, address))
    };
    suite::suite(start, |url| {
        Box::pin(async move { Ok(Arc::new(NatsJournals::open(NatsOptions::parse(&url)?).await?) as Arc<dyn Journals>) })
    })
}
