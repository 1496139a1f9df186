//! As it grows: the same work at a thousand, a hundred thousand and a million records.

use millpond_core::{Commit, Query};

use crate::report::Report;
use crate::rounds::{Figure, rate};
use crate::world::{self, Done};

/// The line.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    if !report.wants("growth") {
        return Ok(());
    }
    report.heading("as it grows (growth): medians of rounds at each size");
    let folder = world::folder(args)?;
    let pond = millpond::blocking::open(&format!("sqlite:{}", folder.path().join("ours.db").display()))?;
    pond.store().declare(&[world::WORK.spec()?])?;
    let mut filled = 0u64;
    let mut rows: Vec<(u64, [Figure; 3])> = Vec::new();
    for size in [1_000u64, 100_000, 1_000_000] {
        while filled < size {
            let mut commit = Commit::new();
            for _ in 0..500 {
                filled += 1;
                commit = commit.and(world::step(filled)?);
            }
            pond.commit(commit)?;
        }
        rows.push((size, measure(args, &pond, &mut filled, size)?));
        let (size, figures) = &rows[rows.len() - 1];
        for (name, figure) in ["point read", "indexed page of 50", "single commit"].into_iter().zip(figures) {
            report.figure(&format!("{size:>9} records: {name}"), *figure, "a second");
        }
    }
    if let [_, (_, middle), (_, large)] = &rows[..] {
        for (i, name) in ["point read", "indexed page of 50", "single commit"].into_iter().enumerate() {
            report.at_most(&format!("{name}: 100,000 / 1,000,000"), middle[i].median / large[i].median, 1.5);
        }
    }
    Ok(())
}

fn measure(args: &crate::Args, pond: &millpond::blocking::Pond, filled: &mut u64, size: u64) -> Done<[Figure; 3]> {
    let (mut points, mut pages, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut n, records) = (1u64, pond.store());
    for _ in 0..args.rounds {
        points.push(rate(args.secs / 2.0, || {
            n = (n * 6_364_136 + 1_442_695) % size;
            records.get("work", &format!("k{}", n + 1))?.map(drop).ok_or_else(|| "missing".into())
        })?);
        pages.push(rate(args.secs / 2.0, || {
            n = (n * 6_364_136 + 1_442_695) % (size - 60);
            let page = records.query(Query::new("work")?.at_least("ts", n as i64).order_asc("ts").limit(50))?;
            if page.items.len() == 50 { Ok(()) } else { Err("a short page".into()) }
        })?);
        commits.push(rate(args.secs / 2.0, || {
            *filled += 1;
            pond.commit(world::step(*filled)?)?;
            Ok(())
        })?);
    }
    Ok([Figure::of(points), Figure::of(pages), Figure::of(commits)])
}
