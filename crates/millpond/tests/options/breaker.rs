//! The circuit breaker, on real servers that go away and come back.

use std::time::{Duration, Instant};

use millpond::{Commit, CommitId, ErrorKind, OpenOptions, Pond};
use millpond_testservers::{Backend, Fault, Proxy};

use crate::support::{SERVERS, done_in_child, run};

/// After which nothing that was sent beside a commit, such as a hint, is under way any more.
const QUIET: Duration = Duration::from_millis(400);

async fn read(pond: &Pond) -> millpond::Result<()> {
    pond.store().get("things", "one").await.map(drop)
}

fn put() -> Commit {
    Commit::new().put("things", "one", &1).unwrap()
}

/// Makes the store, with all the tries that a server needs which has just been started.
async fn prepare(url: &str) {
    OpenOptions::new().open(url).await.unwrap().close().await.unwrap();
}

#[test]
fn it_opens_and_closes() {
    if done_in_child("breaker::it_opens_and_closes") {
        return;
    }
    for backend in SERVERS {
        let Some(mut server) = backend.start().unwrap() else { continue };
        let options = "retries=0&timeout=3s&breaker=2&breaker_pause=1500ms";
        let plain = server.store("options").unwrap();
        let url = format!("{plain}{}{options}", if plain.contains('?') { '&' } else { '?' });
        run(async {
            prepare(&plain).await;
            let pond = OpenOptions::new().open(&url).await.unwrap();
            pond.commit(put()).await.unwrap();
            assert!(server.kill());
            for nth in 1..=2 {
                let error = read(&pond).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{backend}: {error}");
                assert!(!error.message().contains("breaker"), "{backend}: call {nth} opens it at most: {error}");
            }
            for refused in [read(&pond).await.unwrap_err(), pond.commit(put()).await.unwrap_err()] {
                // Nothing was sent, so its outcome is known.
                assert_eq!(refused.kind(), ErrorKind::Unavailable, "{backend}: {refused}");
                let message = refused.message();
                assert!(message.contains("the circuit breaker of ") && message.contains("after 2 failed calls"), "{message}");
                assert!(message.contains("one call will try again in 1."), "{backend}: {message}");
            }
            server.restart().unwrap();
            let back = Instant::now();
            // One try may come before the client has its connection again; then there is another pause.
            while let Err(error) = read(&pond).await {
                assert!(back.elapsed() < Duration::from_secs(30), "{backend}: it stays open: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            pond.commit(put()).await.unwrap();
        });
    }
}

/// A lost answer is a failed call, so the breaker opens; retries are used up, too. What became of the commit is found
/// out all the same.
#[test]
fn an_unknown_outcome_is_worked_on_whatever_was_asked_for() {
    if done_in_child("breaker::an_unknown_outcome_is_worked_on_whatever_was_asked_for") {
        return;
    }
    for backend in [Backend::Postgres, Backend::Redis, Backend::Nats, Backend::S3] {
        let Some(server) = backend.start().unwrap() else { continue };
        let proxy = Proxy::start(server.port().unwrap()).unwrap();
        let plain = server.store("unknown").unwrap();
        let through = plain.replace(&format!(":{}", server.port().unwrap()), &format!(":{}", proxy.port()));
        let options = "retries=0&timeout=10s&breaker=1&breaker_pause=200ms";
        let url = format!("{through}{}{options}", if through.contains('?') { '&' } else { '?' });
        run(async {
            prepare(&plain).await;
            let pond = OpenOptions::new().open(&url).await.unwrap();
            pond.commit(put()).await.unwrap();
            let mut settled = 0;
            for flight in 1..=4 {
                // The connection is made, and knows its statements: what follows is the commit's own.
                pond.commit(put()).await.unwrap();
                tokio::time::sleep(QUIET).await;
                proxy.arm(&[Fault::LoseAnswer(flight)]);
                let id = CommitId::generate(pond.store().host());
                let key = format!("flight-{flight}");
                let commit = Commit::new().id(id).put("things", &key, &flight).unwrap();
                let committed = pond.commit(commit).await;
                let was_met = !proxy.met().is_empty();
                proxy.arm(&[]);
                // The breaker closes when it hears an answer.
                let found = loop {
                    match pond.store().get("things", &key).await {
                        Ok(found) => break found.is_some(),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{backend}: {error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                };
                match committed {
                    Ok(_) => {
                        assert!(found, "{backend}, flight {flight}: acknowledged and not there");
                        settled += u64::from(was_met);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{backend}, flight {flight}: {error}");
                        assert!(!found, "{backend}, flight {flight}: there, and said not to be: {error}");
                    }
                }
            }
            assert!(settled > 0, "{backend}: no lost answer was one to a commit");
        });
    }
}
