//! Prunes in processes that are killed: whoever goes on, all of it goes, and everything is counted once.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::time::Duration;

use millpond::{CollectRequest, PruneStatus, Query};
use support::written_off::{Place, ended, rows, write};
use support::{Random, fresh_seed, runtime};

/// Catches things that are deleted and not counted, or counted and not deleted, by a process that ends in between.
#[test]
fn a_prune_killed_again_and_again_ends_with_the_right_counts() {
    let seed = fresh_seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let place = Place::new();
    runtime().block_on(async {
        let pond = place.open().await;
        write(&pond, 0..2_000, "text").await;
        write(&pond, 500..1_000, "another text").await;
        rows(&pond, 500).await;
        let planned = pond.prunes().plan("e1").await.unwrap().would_delete;
        assert_eq!((planned.artifacts, planned.versions, planned.objects, planned.events), (2_000, 2_500, 2_500, 2_000));
        assert_eq!((planned.lineage_rows, planned.lineage_edges), (500, 499));

        let mut kills = 0;
        let mut killed_in_the_middle = 0;
        loop {
            let mut life = place.begin(&["prune", "e1", "--yes"]);
            // Longer and longer, so that it comes to an end.
            std::thread::sleep(Duration::from_millis(20 + random.below(30 + 8 * kills)));
            let _ = life.kill();
            if ended(life).is_some() {
                break;
            }
            kills += 1;
            let job = pond.prunes().get("e1").await.unwrap();
            killed_in_the_middle += u32::from(job.is_some_and(|j| j.value.status == PruneStatus::Running));
        }
        println!("{kills} kills, {killed_in_the_middle} of them in the middle");
        assert!(kills >= 30 || killed_in_the_middle >= 10, "only {kills} kills, {killed_in_the_middle} in the middle");

        let done = pond.prunes().get("e1").await.unwrap().unwrap().value;
        assert_eq!((done.status, done.deleted), (PruneStatus::Done, planned));
        for collection in ["artifacts", "artifact_versions", "lineage", "lineage_edges"] {
            assert_eq!(pond.store().count(Query::new(collection).unwrap()).await.unwrap(), 0, "{collection}");
        }
        let left = pond.units().collect(&CollectRequest { grace: Duration::ZERO, ..CollectRequest::default() }).await.unwrap();
        assert_eq!(left.objects, 0);
    });
}
