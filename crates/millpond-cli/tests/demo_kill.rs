//! `kill -9` of the demo at random moments, over more than 2,000 files: nothing acknowledged is lost, no step is
//! done twice, and the end is the same as without a kill.
//!
//! The parent reads an acknowledgement for each commit from a pipe, and chooses the moment of each kill by counting
//! them and waiting a little, so that kills land while the next step is read, computed or committed.
//!
//! One life in ten is killed while it starts, before its first acknowledgement; so is the very first, which makes the store.
//!
//! `MILLPOND_KILL_SEED` repeats a run, `MILLPOND_KILLS` changes the number of kills.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use millpond::{CommitId, OpenOptions, Pond};
use support::life::{Ack, Demo};
use support::{Random, corpus, runtime};

/// Files of the corpus.
const FILES: usize = 2_100;
/// How long a life that is to be killed while it starts has at most; on a fast machine some get further.
const START_UP: Duration = Duration::from_millis(15);
/// The four stages, which all have to be hit.
const STAGES: [&str; 4] = ["collect", "convert", "segment", "index"];

fn open(store: &Path) -> (tokio::runtime::Runtime, Pond) {
    try_open(store).expect("the store opens after a kill")
}

fn try_open(store: &Path) -> millpond::Result<(tokio::runtime::Runtime, Pond)> {
    let runtime = runtime();
    let place = store.to_str().expect("a UTF-8 path");
    let pond = runtime.block_on(OpenOptions::new().create(false).open(place))?;
    Ok((runtime, pond))
}

/// The last position of the store, read by the parent after the child's death.
fn head(store: &Path) -> u64 {
    let (runtime, pond) = match try_open(store) {
        Ok(opened) => opened,
        // Killed before the store, or the namespace in it, was made.
        Err(e) if e.is_not_found() => return 0,
        Err(e) => panic!("the store opens after a kill: {e}"),
    };
    let head = runtime.block_on(async { pond.store().head().await }).map_or(0, |p| p.0);
    runtime.block_on(pond.close()).expect("closes");
    head
}

/// Steps that are still to come after an acknowledgement.
fn left(last: Option<&Ack>) -> u64 {
    let groups = last.filter(|a| STAGES[..3].contains(&a.stage.as_str())).map_or(FILES as u64 / 16, |a| a.steps);
    let Some(last) = last else { return 3 * groups + 66 };
    let after = STAGES.iter().position(|s| *s == last.stage).map_or(4, |at| 3 - at as u64);
    let whole = match after {
        0 => 0,
        stages => (stages - 1) * groups + 64,
    };
    whole + last.steps - last.step - 1
}

#[test]
fn killed_at_random_moments_nothing_is_lost_and_the_end_is_the_same() {
    let seed = std::env::var("MILLPOND_KILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(support::fresh_seed);
    let kills: usize = std::env::var("MILLPOND_KILLS").ok().and_then(|s| s.parse().ok()).unwrap_or(50);
    println!("seed {seed} (repeat with MILLPOND_KILL_SEED={seed})");
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let files = folder.path().join("corpus");
    let unreadable = corpus(&files, FILES, &mut random);

    let began = Instant::now();
    let whole = Demo::on(&folder.path().join("whole"), &files).live(None);
    let per_commit = began.elapsed() / u32::try_from(whole.acks.len()).expect("few");
    let expected = whole.digest.expect("a digest");
    println!("{FILES} files, {unreadable} of them unreadable; {} commits of {per_commit:?}; digest {expected}", whole.acks.len());

    let store = folder.path().join("killed");
    let demo = Demo::on(&store, &files);
    let mut acks: Vec<Ack> = Vec::new();
    let mut landed: BTreeMap<String, u32> = BTreeMap::new();
    let (mut mid_work, mut ahead) = (0, 0);
    for kill in 0..kills {
        // So many on average that the last kill finds the last steps.
        let share = (left(acks.last()) * 2 / (kills - kill) as u64).max(2);
        let (after, longest) =
            if kill % 10 == 0 { (0, START_UP) } else { (1 + random.below(share.saturating_sub(2).max(1)), per_commit * 2) };
        // Some starts are killed at once: no first commit outruns that, however fast the machine is.
        let longest = if kill % 20 == 10 { Duration::ZERO } else { longest };
        let wait = Duration::from_micros(random.below(u64::try_from(longest.as_micros()).expect("short") + 1));
        let life = demo.live(Some((usize::try_from(after).expect("small"), wait)));
        let first = life.acks.len();
        acks.extend(life.acks);
        let done = acks.last().is_some_and(|a| a.stage == "index" && a.step + 1 == a.steps);
        let mut place = acks.last().map_or("start-up".to_owned(), |a| a.stage.clone());
        if !life.killed || done {
            place = "after the end".to_owned();
        } else if first == 0 {
            place = "start-up".to_owned();
        } else {
            mid_work += 1;
        }
        // A commit that is durable and was not acknowledged: the kill landed inside of it.
        ahead += u32::from(head(&store) > acks.last().map_or(0, |a| a.position));
        println!("kill {:2}: after {first:3} commits and {wait:?}, in {place}", kill + 1);
        *landed.entry(place).or_default() += 1;
    }
    let last = demo.live(None);
    acks.extend(last.acks);
    println!(
        "landed: {landed:?}; {mid_work} of {kills} mid-work; {ahead} with a commit that was durable and not yet acknowledged"
    );

    assert_eq!(last.digest.as_deref(), Some(expected.as_str()), "killed or not, the end is the same");
    let steps: BTreeSet<(&str, u64)> = acks.iter().map(|a| (a.stage.as_str(), a.step)).collect();
    assert_eq!(steps.len(), acks.len(), "no step was committed twice");
    everything_is_there(&store, &acks, whole.acks.len(), unreadable);
    assert!(mid_work * 10 >= kills * 8, "only {mid_work} of {kills} kills hit mid-work");
    for stage in STAGES.into_iter().chain(["start-up"]) {
        assert!(landed.contains_key(stage), "no kill hit {stage}: {landed:?}");
    }
    println!("took {:?}", began.elapsed());
}

/// Every acknowledged commit has its receipt at the position it was told; each step ended once in the log.
fn everything_is_there(store: &Path, acks: &[Ack], commits: usize, unreadable: usize) {
    let (runtime, pond) = open(store);
    runtime.block_on(async {
        for ack in acks {
            let id = CommitId::parse(&ack.commit).expect("an id");
            let receipt = pond.store().outcome(id).await.expect("readable");
            let receipt = receipt.unwrap_or_else(|| panic!("{ack:?} was acknowledged and is lost"));
            assert_eq!(receipt.position.0, ack.position, "{ack:?}");
        }
        let runs = pond.runs().recent("document-pipeline", None, 10).await.expect("runs").items;
        assert_eq!(runs.len(), 1, "killed and started again, it is still one run");
        let log = pond.runs().log(&runs[0].id, None, 10_000).await.expect("log").items;
        let ended: Vec<&str> = log.iter().filter(|e| e.kind == "step.completed").map(|e| e.data.as_str()).collect();
        // All commits but the two before the first step: the beginning, and the list of files.
        assert_eq!(ended.len(), commits - 2, "each step ended once");
        assert!(pond.store().stream(&millpond::Runs::stream(&runs[0].id)).await.expect("stream").expect("log").sealed);
        let counted = runs[0].output.get("unreadable").and_then(serde_json::Value::as_u64);
        assert_eq!(counted, Some(unreadable as u64));
        let summary = pond.metrics().summary("document-pipeline", runs[0].version).await.expect("metrics").expect("recorded");
        assert_eq!(u64::try_from(summary.executions).expect("a count"), commits as u64 - 2, "each step was counted once");
        let letters = pond.dead_letters().list(&millpond::DeadLetterFilter::all().job(&runs[0].id)).await.expect("letters");
        assert_eq!(letters.items.len(), unreadable, "a dead letter for each file that cannot be read");
        assert!(letters.items.iter().all(|l| l.item.failure_count == 1), "each file failed once");
        assert_eq!(pond.store().engine().check(pond.store().namespace()).await.expect("checked"), Vec::<String>::new());
    });
}
