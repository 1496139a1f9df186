//! A unit of a hundred small puts at once, beside the uploads alone; units a second of one put.

use std::cell::Cell;

use bytes::Bytes;
use millpond::{NewArtifact, Pond};
use tempfile::TempDir;

use super::bytes;
use crate::report::Report;
use crate::rounds::{interleave, rate};
use crate::world::{self, Done};

/// Puts of a unit.
const PUTS: u64 = 100;
/// Units that are under way together.
const AT_ONCE: u64 = 64;

pub fn run(args: &crate::Args, report: &mut Report, kept: &mut Vec<TempDir>) -> Done {
    report.heading("a unit of 100 puts of 1 KiB at once, beside the uploads alone (artifacts.unit)");
    let body = bytes(1 << 10);
    let folder = world::folder(args)?;
    let runtime = world::runtime()?;
    let pond = runtime.block_on(millpond::open(&folder.path().join("ours").display().to_string()))?;
    let bare = millpond_objects::Folder::new(folder.path().join("bare"))?;
    let n = Cell::new(0u64);
    // As long as one of ours.
    let note = millpond_objects::Note::of(&std::collections::BTreeMap::from([("key", "x".repeat(350))]))?;
    let uploads = |note: Option<&millpond_objects::Note>| -> Done {
        let unit = millpond::uuid_v7(pond.store().host());
        let locations: Vec<_> = (0..PUTS).map(|m| millpond_objects::Location::new(unit, u32::try_from(m).unwrap_or(0))).collect();
        let puts = locations.iter().map(|at| millpond_objects::Objects::put(&bare, at, body.clone(), note));
        runtime.block_on(futures_util::future::try_join_all(puts))?;
        Ok(())
    };
    let figures = interleave(
        args.rounds,
        &mut [
            (
                "millpond: 100 puts and one decision",
                Box::new(|| {
                    rate(args.secs, || {
                        n.set(n.get() + 1);
                        let mut unit = pond.unit();
                        let artifacts = unit.artifacts();
                        let puts = (0..PUTS).map(|m| {
                            artifacts.put(format!("executions/e{}/r/s/m{m}", n.get()), body.clone()).with(NewArtifact::default())
                        });
                        let puts: Vec<_> = puts.map(std::future::IntoFuture::into_future).collect();
                        runtime.block_on(async {
                            futures_util::future::try_join_all(puts).await?;
                            unit.commit().await
                        })?;
                        Ok(())
                    })
                }),
            ),
            ("the uploads alone", Box::new(|| rate(args.secs, || uploads(None)))),
            ("the uploads and their notes alone", Box::new(|| rate(args.secs, || uploads(Some(&note))))),
        ],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "units/s"));
    report.at_most("a unit / the uploads alone", figures[1].1.median / figures[0].1.median, 1.3);
    report.shown("a unit / the uploads and their notes", figures[2].1.median / figures[0].1.median);
    report.heading("units a second, one put each (artifacts.unit1)");
    let figures = interleave(
        args.rounds,
        &mut [(
            "millpond, durable",
            Box::new(|| {
                rate(args.secs, || {
                    n.set(n.get() + 1);
                    runtime.block_on(unit_of_one(&pond, format!("one/{}", n.get()), body.clone()))?;
                    Ok(())
                })
            }),
        )],
    )?;
    figures.iter().for_each(|(name, f)| report.figure(name, *f, "units/s"));
    let line = ("fennflow", "sqlite metadata, in-memory blobs: unit of work, put 1 x 1 KiB, commit");
    report.peer("fennflow 0.8.1, blobs in memory", figures[0].1.median, line, None, false);
    report.heading("64 units of one put each at once (artifacts.unit64)");
    let figures = interleave(
        args.rounds,
        &mut [(
            "millpond, durable",
            Box::new(|| {
                rate(args.secs, || {
                    n.set(n.get() + AT_ONCE);
                    let units = (0..AT_ONCE).map(|m| unit_of_one(&pond, format!("many/{}", n.get() - m), body.clone()));
                    runtime.block_on(futures_util::future::try_join_all(units))?;
                    Ok(())
                })
            }),
        )],
    )?;
    let figures = figures.into_iter().map(|(name, f)| (name, f.times(64.0)));
    for (name, figure) in figures {
        report.figure(name, figure, "units/s");
        report.peer("fennflow 0.8.1, blobs in memory", figure.median, line, Some(10.0), false);
    }
    kept.push(folder);
    Ok(())
}

async fn unit_of_one(pond: &Pond, key: String, body: Bytes) -> millpond::Result<()> {
    let mut unit = pond.unit();
    unit.artifacts().put(key, body).await?;
    unit.commit().await.map(drop)
}
