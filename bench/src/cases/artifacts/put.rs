//! Durable puts: beside the same bytes hashed and written by hand with two durable rows, and beside the clients of object
//! stores at equal durability.

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use millpond::NewArtifact;
use object_store::ObjectStoreExt as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{SIZES, bytes};
use crate::hand::Hand;
use crate::report::Report;
use crate::rounds::{interleave, rate};
use crate::world::{self, Done};

/// By hand, against a goal for each size; and the goal against the clients.
const GOALS: [f64; 3] = [0.6, 0.9, 0.9];
const CLIENT_GOAL: f64 = 0.95;

pub fn run(args: &crate::Args, report: &mut Report, kept: &mut Vec<TempDir>) -> Done {
    for ((name, size), goal) in SIZES.into_iter().zip(GOALS) {
        report.heading(&format!("a durable put of {name}: the bytes, and who wrote them (artifacts.put)"));
        let body = bytes(size);
        let folder = world::folder(args)?;
        let runtime = world::runtime()?;
        let pond = runtime.block_on(millpond::open(&folder.path().join("ours").display().to_string()))?;
        let artifacts = pond.artifacts();
        let units = runtime.block_on(millpond::open(&folder.path().join("units").display().to_string()))?;
        let mut hand = Hand::open(&folder.path().join("hand.db"))?;
        let mut beside = Hand::open(&folder.path().join("client.db"))?;
        let mut third = Hand::open(&folder.path().join("opendal.db"))?;
        for part in ["hand", "client", "opendal"] {
            std::fs::create_dir(folder.path().join(part))?;
        }
        let local = object_store::local::LocalFileSystem::new_with_prefix(folder.path().join("client"))?.with_fsync(true);
        let root = folder.path().join("opendal").display().to_string();
        let dal = opendal::Operator::new(opendal::services::Fs::default().root(&root))?;
        let n = Cell::new(0u64);
        let next = || {
            n.set(n.get() + 1);
            n.get()
        };
        let figures = interleave(
            args.rounds,
            &mut [
                (
                    "millpond: a write",
                    Box::new(|| {
                        rate(args.secs, || {
                            let key = format!("executions/e/r/s/m{}", next());
                            runtime.block_on(artifacts.write(&key, body.clone(), NewArtifact::default()))?;
                            Ok(())
                        })
                    }),
                ),
                (
                    "millpond: a unit of one put",
                    Box::new(|| {
                        rate(args.secs, || {
                            let key = format!("executions/e/r/s/m{}", next());
                            runtime.block_on(async {
                                let mut unit = units.unit();
                                unit.artifacts().put(key, body.clone()).await?;
                                unit.commit().await
                            })?;
                            Ok(())
                        })
                    }),
                ),
                (
                    "by hand: write, fsync, rename, fsync, two rows",
                    Box::new(|| {
                        rate(args.secs, || {
                            hand.one_step()?;
                            by_hand(&folder.path().join("hand"), next(), &body)?;
                            hand.one_step()
                        })
                    }),
                ),
                (
                    "object_store with fsync, two rows",
                    Box::new(|| {
                        rate(args.secs, || {
                            beside.one_step()?;
                            let at = object_store::path::Path::from(format!("m{}", next()));
                            let _ = Sha256::digest(&body);
                            runtime.block_on(local.put(&at, body.clone().into()))?;
                            beside.one_step()
                        })
                    }),
                ),
                (
                    "OpenDAL and an fsync of file and folder, two rows",
                    Box::new(|| {
                        rate(args.secs, || {
                            third.one_step()?;
                            let name = format!("m{}", next());
                            let _ = Sha256::digest(&body);
                            runtime.block_on(dal.write(&name, body.clone()))?;
                            let written = folder.path().join("opendal").join(&name);
                            File::open(&written)?.sync_data()?;
                            File::open(folder.path().join("opendal"))?.sync_all()?;
                            third.one_step()
                        })
                    }),
                ),
            ],
        )?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "puts/s"));
        report.ratio("millpond / by hand", figures[0].1.median / figures[2].1.median, goal);
        report.ratio("millpond / object_store", figures[0].1.median / figures[3].1.median, CLIENT_GOAL);
        report.ratio("millpond / OpenDAL", figures[0].1.median / figures[4].1.median, CLIENT_GOAL);
        report.shown("a unit of one put / by hand", figures[1].1.median / figures[2].1.median);
        kept.push(folder);
    }
    Ok(())
}

/// What a careful person does: hash, write beside, flush, rename, flush the folder.
fn by_hand(folder: &Path, n: u64, body: &Bytes) -> Done {
    let sum: [u8; 32] = Sha256::digest(body).into();
    let beside = folder.join(format!("m{n}.tmp"));
    let mut file = File::create(&beside)?;
    file.write_all(body)?;
    file.sync_data()?;
    std::fs::rename(&beside, folder.join(format!("m{n}-{:02x}", sum[0])))?;
    File::open(folder)?.sync_all()?;
    Ok(())
}
