//! Reads from a local folder, with the digests compared, beside the client of object stores.

use millpond::NewArtifact;
use object_store::ObjectStoreExt as _;

use super::{SIZES, bytes};
use crate::report::Report;
use crate::rounds::{interleave, rate};
use crate::world::{self, Done};

pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    for (name, size) in SIZES {
        report.heading(&format!("a get of {name} from a local folder (artifacts.get)"));
        let body = bytes(size);
        let folder = world::folder(args)?;
        let runtime = world::runtime()?;
        let pond = runtime.block_on(millpond::open(&folder.path().join("ours").display().to_string()))?;
        let artifacts = pond.artifacts();
        runtime.block_on(artifacts.write("k", body.clone(), NewArtifact::default()))?;
        let object = runtime.block_on(artifacts.info("k"))?.ok_or("the artifact is gone")?.value;
        std::fs::create_dir(folder.path().join("client"))?;
        let local = object_store::local::LocalFileSystem::new_with_prefix(folder.path().join("client"))?;
        let at = object_store::path::Path::from("k");
        runtime.block_on(local.put(&at, body.clone().into()))?;
        let root = folder.path().join("ours/objects").join(pond.store().store_id());
        let unchecked = millpond_objects::Folder::new(&root)?;
        let location: millpond_objects::Location = object.location.parse()?;
        let figures = interleave(
            args.rounds,
            &mut [
                (
                    "millpond: record, bytes, digest",
                    Box::new(|| {
                        rate(args.secs, || {
                            let read = runtime.block_on(artifacts.read("k"))?;
                            if read.len() == size { Ok(()) } else { Err("short".into()) }
                        })
                    }),
                ),
                (
                    "millpond: the bytes alone",
                    Box::new(|| {
                        rate(args.secs, || {
                            let read =
                                runtime.block_on(millpond_objects::Objects::read(&unchecked, &location, 0..size as u64))?;
                            if read.is_some_and(|read| read.len() == size) { Ok(()) } else { Err("short".into()) }
                        })
                    }),
                ),
                (
                    "object_store, no digest",
                    Box::new(|| {
                        rate(args.secs, || {
                            let read = runtime.block_on(async { local.get(&at).await?.bytes().await })?;
                            if read.len() == size { Ok(()) } else { Err("short".into()) }
                        })
                    }),
                ),
            ],
        )?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "gets/s"));
        // The digest is part of the goal for the smallest; above it stands apart.
        let ours = if size == SIZES[0].1 { 0 } else { 1 };
        report.ratio("millpond / object_store", figures[ours].1.median / figures[2].1.median, 1.2);
        if ours == 1 {
            report.shown("with record and digest / object_store", figures[0].1.median / figures[2].1.median);
        }
    }
    Ok(())
}
