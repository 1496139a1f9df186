//! The journal engine on one NATS server keeps every promise of the suite.

#[path = "support/suite.rs"]
mod suite;

use std::process::ExitCode;
use std::sync::Arc;

use millpond_journal::Journals;
use millpond_journal::drivers::nats::{NatsJournals, NatsOptions};
use millpond_testservers::{NatsRelease, NatsServer, NatsSync};

fn main() -> ExitCode {
    let start = || {
        let server = NatsServer::start(NatsRelease::Current, NatsSync::Always).expect("NATS starts")?;
        let address = format!("{}/?timeout=30", server.url());
        Some((server, address))
    };
    suite::suite(start, |url| {
        Box::pin(async move { Ok(Arc::new(NatsJournals::open(NatsOptions::parse(&url)?).await?) as Arc<dyn Journals>) })
    })
}
