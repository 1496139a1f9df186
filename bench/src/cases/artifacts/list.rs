//! A prefix of 100,000 keys, page by page: every page costs what the first does.

use std::time::Instant;

use millpond::{Artifact, ArtifactFilter, Commit, Records};

use crate::report::Report;
use crate::rounds::Figure;
use crate::world::{self, Done};

/// Keys below the prefix.
const KEYS: usize = 100_000;
/// Keys of a page.
const PAGE: usize = 1_000;
/// Passes over all pages in a round.
const PASSES: usize = 5;

pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    report.heading("a prefix of 100,000 keys in pages of 1,000 (artifacts.list)");
    let folder = world::folder(args)?;
    let runtime = world::runtime()?;
    let pond = runtime.block_on(millpond::open(&folder.path().join("ours").display().to_string()))?;
    runtime.block_on(pond.artifacts().write("executions/e/r/s/first", "x", millpond::NewArtifact::default()))?;
    let first = runtime.block_on(pond.artifacts().info("executions/e/r/s/first"))?.ok_or("the artifact is gone")?.value;
    // Only the records matter here: all of them name the bytes of the first.
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(2_000) {
        let mut commit = Commit::new().trusted();
        for n in chunk {
            commit = commit.write(Records::put(&Artifact { key: format!("executions/e/r/s/m{n:06}"), ..first.clone() })?);
        }
        runtime.block_on(pond.store().commit(commit))?;
    }
    let artifacts = pond.artifacts();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); KEYS / PAGE];
    // A page takes milliseconds: in a few passes one that was disturbed would be the slowest.
    for _ in 0..args.rounds * PASSES {
        let mut filter = ArtifactFilter::prefix("executions/e/r/s/m").limit(PAGE);
        for page in &mut times {
            let begin = Instant::now();
            let found = runtime.block_on(artifacts.list(&filter))?;
            page.push(begin.elapsed().as_secs_f64() * 1e3);
            if found.items.len() != PAGE {
                return Err("a page is not full".into());
            }
            filter = filter.after(found.next);
        }
    }
    let medians: Vec<f64> = times.into_iter().map(|page| Figure::of(page).median).collect();
    let slowest = medians.iter().copied().fold(0.0, f64::max);
    report.figure("the first page", Figure { median: medians[0], min: medians[0], max: medians[0] }, "ms");
    report.figure("all pages, their medians", Figure::of(medians.clone()), "ms");
    let fastest = medians.iter().copied().fold(f64::MAX, f64::min);
    report.at_most("the slowest page / the fastest", slowest / fastest, 1.5);
    Ok(())
}
