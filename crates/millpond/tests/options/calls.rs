//! How long and how often a server is asked that does not answer.

use std::time::{Duration, Instant};

use millpond::ErrorKind;

use crate::support::{Fake, Manner, SERVERS, done_in_child, open, run, url};

#[test]
fn as_many_tries_as_asked_for() {
    if done_in_child("calls::as_many_tries_as_asked_for") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(async {
        for backend in SERVERS {
            for retries in [0, 3] {
                let fake = Fake::start(Manner::HangsUp);
                let options = format!("retries={retries}&retry_first=5ms&retry_max=5ms");
                let error = open(&url(backend, fake.port, folder.path(), &options)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{backend}: {error}");
                assert_eq!(fake.connections(), retries + 1, "{backend} with {options}: {error}");
            }
        }
    });
}

#[test]
fn the_pauses_are_as_long_as_asked_for() {
    if done_in_child("calls::the_pauses_are_as_long_as_asked_for") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(async {
        for backend in SERVERS {
            let mut took = Vec::new();
            for pauses in ["retry_first=1ms&retry_max=1ms", "retry_first=400ms", "retry_first=100ms&retry_max=100ms"] {
                let fake = Fake::start(Manner::HangsUp);
                let began = Instant::now();
                let options = format!("retries=4&{pauses}");
                open(&url(backend, fake.port, folder.path(), &options)).await.unwrap_err();
                assert_eq!(fake.connections(), 5, "{backend} with {options}");
                took.push(began.elapsed());
            }
            // Each pause lies between half of it and all of it; the first of 400 ms is doubled as far as the longest goes.
            let [short, long, capped] = took[..] else { panic!("three") };
            assert!(short < Duration::from_millis(200), "{backend}: {took:?}");
            assert!(long >= Duration::from_millis(800), "{backend}: {took:?}");
            assert!(capped >= Duration::from_millis(200) && capped < Duration::from_millis(800), "{backend}: {took:?}");
        }
    });
}

#[test]
fn no_longer_than_the_timeout() {
    if done_in_child("calls::no_longer_than_the_timeout") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(async {
        for backend in SERVERS {
            for timeout in [600, 1_800] {
                let fake = Fake::start(Manner::Silent);
                let began = Instant::now();
                let error = open(&url(backend, fake.port, folder.path(), &format!("timeout={timeout}ms"))).await.unwrap_err();
                let took = began.elapsed();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{backend}: {error}");
                let expected = Duration::from_millis(timeout);
                // A try for which there is no time any more is not begun.
                assert!(took >= expected / 3 && took < expected + Duration::from_millis(1_000), "{backend}: {took:?}, {error}");
            }
        }
    });
}
