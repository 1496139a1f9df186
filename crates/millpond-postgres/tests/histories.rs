//! Concurrent histories of two handles, while connections are ended at any moment: one order explains every answer.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millpond_conformance::linearizable::{self, Recorder, Verdict, Workload, check};
use support::{is_sound, open, run, server, store};

/// Ends the saboteur also when the test fails.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn histories_are_explained_while_connections_are_ended() {
    let Some(server) = server() else { return };
    let url = server.create("histories").unwrap();
    let (stop, busy) = (AtomicBool::new(false), AtomicBool::new(false));
    let ended = std::thread::scope(|scope| {
        let saboteur = scope.spawn(|| {
            let one = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                       WHERE application_name = 'millpond' AND state <> 'idle' ORDER BY random() LIMIT 1) a";
            let mut ended = 0;
            while !stop.load(Ordering::Relaxed) {
                // A pace at which calls get through now and then, however fast the machine is.
                std::thread::sleep(Duration::from_millis(50));
                if !busy.load(Ordering::Relaxed) {
                    continue;
                }
                ended += server.psql("histories", one).unwrap().parse::<u64>().unwrap();
            }
            ended
        });
        let stopped = Stop(&stop);
        for seed in 0..3 {
            let url = format!("{url}?pool=3&schema=s{seed}");
            run(async {
                let engines = [open(&url).await, open(&url).await];
                let stores = [store(&engines[0]).await, store(&engines[1]).await];
                busy.store(true, Ordering::Relaxed);
                let history =
                    linearizable::run(&stores, Workload { seed, ..Workload::default() }, &Recorder::default()).await.unwrap();
                busy.store(false, Ordering::Relaxed);
                assert_eq!(history.unknown(), 0, "the server could be asked");
                assert_eq!(check(&history), Verdict::Linearizable, "seed {seed}");
                is_sound(&engines[0]).await;
            });
        }
        drop(stopped);
        saboteur.join().unwrap()
    });
    println!("{ended} connections were ended in the middle of something");
    assert!(ended > 3, "{ended}");
}
