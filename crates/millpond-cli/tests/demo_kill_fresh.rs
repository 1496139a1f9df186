//! `kill -9` of a demo that starts over: wherever it is killed between the last run's end and the new run's first
//! steps, started again it ends in the same digest as a demo that began on an empty store.
//!
//! Two folders take turns, so that a document the last run left behind would be seen in the digest. Each number of
//! acknowledged commits from none to a little past the clearing is a place to kill at.
//!
//! `MILLPOND_KILL_SEED` repeats a run.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use millpond::{CommitId, OpenOptions, RunFilter, RunStatus};
use support::life::{Ack, Demo, Life};
use support::{Random, corpus, fresh_seed, runtime};

/// Files of each folder.
const FILES: [usize; 2] = [96, 64];
/// Commits of the new run after the clearing at which it is killed as well.
const BEYOND: usize = 2;
/// The longest wait before a kill: some commits long.
const LONGEST_WAIT: Duration = Duration::from_millis(4);
/// How often a kill that came too late is repeated: on a busy machine this process may stand still for longer than the
/// demo has left to do.
const TRIES: usize = 20;

#[test]
fn killed_while_it_starts_over_it_ends_as_on_an_empty_store() {
    let seed = std::env::var("MILLPOND_KILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(fresh_seed);
    println!("seed {seed} (repeat with MILLPOND_KILL_SEED={seed})");
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let texts = ["one", "two"].map(|name| folder.path().join(name));
    let expected = [0, 1].map(|i| {
        corpus(&texts[i], FILES[i], &mut random);
        let whole = Demo::on(&folder.path().join(format!("whole {i}")), &texts[i]).live(None);
        whole.digest.expect("a digest")
    });
    assert_ne!(expected[0], expected[1], "the two folders can be told apart");

    let store = folder.path().join("killed");
    let demos = [0, 1].map(|i| Demo::on(&store, &texts[i]));
    let mut acks = demos[1].live(None).acks;
    let over = demos[0].clone().fresh().live(None);
    assert_eq!(over.digest.as_ref(), Some(&expected[0]), "started over without a kill");
    let clearing = over.acks.iter().filter(|a| starts_over(a)).count();
    assert!(clearing > 4, "clearing takes commits to be killed between: {clearing}");
    acks.extend(over.acks);

    let mut landed: BTreeMap<String, u32> = BTreeMap::new();
    let (mut turn, mut finished) = (1, 2);
    for after in 0..=clearing + BEYOND {
        // Every second time the next start starts over as well, over what a half made clearing left.
        for again_fresh in [false, true] {
            let (demo, digest) = (&demos[turn], &expected[turn]);
            // Without a wait the kill follows the start at once, which no first commit outruns.
            let longest = if after == 0 && !again_fresh { 0 } else { LONGEST_WAIT.as_micros() };
            let wait = Duration::from_micros(random.below(u64::try_from(longest).expect("short") + 1));
            let (life, ended) = killed(demo, &demos[1 - turn], after, wait);
            acks.extend(ended.iter().flat_map(|life| life.acks.clone()));
            finished += u64::try_from(ended.len()).expect("few");
            let place = life.acks.last().map_or("start-up".to_owned(), |a| a.stage.clone());
            println!("killed after {after:2} commits and {wait:?}, in {place}");
            *landed.entry(place.clone()).or_default() += 1;
            let began = !life.acks.is_empty();
            acks.extend(life.acks);
            let rest = if again_fresh { demo.clone().fresh() } else { demo.clone() }.live(None);
            assert_eq!(rest.digest.as_ref(), Some(digest), "killed after {after} commits in {place}, again fresh: {again_fresh}");
            let anew = rest.acks.iter().any(|a| a.stage == "begin");
            assert!(again_fresh || !(began && anew), "what had begun is gone on with, not begun anew");
            acks.extend(rest.acks);
            finished += 1;
            turn = 1 - turn;
        }
    }
    println!("landed: {landed:?}");
    assert!(landed.contains_key("start-up") && landed.get("prepare").is_some_and(|n| *n > 4), "{landed:?}");
    everything_is_there(&store, &acks, finished);
}

/// A life that was killed while it started over, and those that ended because a kill came too late for them. After such
/// a one the other demo is run, so that the next kill finds what the first one found.
fn killed(demo: &Demo, other: &Demo, after: usize, wait: Duration) -> (Life, Vec<Life>) {
    let mut ended = Vec::new();
    for _ in 0..TRIES {
        let life = demo.clone().fresh().live(Some((after, wait)));
        if life.killed {
            return (life, ended);
        }
        ended.extend([life, other.clone().fresh().live(None)]);
    }
    panic!("{TRIES} kills after {after} commits came after the end");
}

/// Whether a commit belongs to the starting over: the new run, and the clearing up to the list of files.
fn starts_over(ack: &Ack) -> bool {
    ["begin", "prepare"].contains(&ack.stage.as_str())
}

/// Nothing acknowledged is lost; each run is either complete or given up by name; the store is sound.
fn everything_is_there(store: &std::path::Path, acks: &[Ack], finished: u64) {
    let place = store.to_str().expect("a UTF-8 path");
    runtime().block_on(async {
        let pond = OpenOptions::new().create(false).open(place).await.expect("opens");
        for ack in acks {
            let receipt = pond.store().outcome(CommitId::parse(&ack.commit).expect("an id")).await.expect("readable");
            assert_eq!(receipt.map(|r| r.position.0), Some(ack.position), "{ack:?} was acknowledged");
        }
        let count = async |filter: RunFilter| pond.runs().count(&filter).await.expect("counted");
        let of = |status| RunFilter::all().status(status);
        assert_eq!(count(of(RunStatus::Completed)).await, finished, "each demo that ended completed one run");
        let open = count(RunFilter::all()).await - finished - count(of(RunStatus::Cancelled)).await;
        assert_eq!(open, 0, "a run that was given up was cancelled");
        assert_eq!(pond.store().engine().check(pond.store().namespace()).await.expect("checked"), Vec::<String>::new());
        pond.close().await.expect("closes");
    });
}
