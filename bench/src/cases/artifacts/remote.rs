//! S3, on a private server: 64 puts at once, beside the same through the client alone.

use std::cell::Cell;
use std::sync::Arc;

use millpond::NewArtifact;
use millpond_objects::place::ObjectPlace;
use millpond_objects::{Bucket, Location, Note, Objects};
use millpond_testservers::SeaweedServer;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ClientOptions, ObjectStoreExt as _};

use super::bytes;
use crate::cases::journals::S3_KEYS;
use crate::report::Report;
use crate::rounds::{interleave, rate};
use crate::world::{self, Done};

/// Puts under way at once.
const AT_ONCE: u64 = 64;

pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    let Some(server) = SeaweedServer::start()? else { return Ok(()) };
    server.create_bucket("artifacts")?;
    let url = format!("s3://artifacts/ours?endpoint={}", server.endpoint());
    // It also chooses the TLS library of the process, which the client by itself does not.
    ObjectPlace::parse_with(&url, &S3_KEYS)?;
    let mut client = AmazonS3Builder::new().with_bucket_name("artifacts").with_endpoint(server.endpoint());
    for (key, value) in S3_KEYS {
        client = client.with_config(key.parse::<AmazonS3ConfigKey>()?, value);
    }
    let client = client.with_client_options(ClientOptions::new().with_allow_http(true)).build()?;
    for (name, size) in [("1 KiB", 1 << 10), ("100 KiB", 100 << 10)] {
        report.heading(&format!("S3: 64 puts of {name} at once (artifacts.s3)"));
        let body = bytes(size);
        let folder = world::folder(args)?;
        let runtime = world::runtime()?;
        let place = ObjectPlace::parse_with(&url, &S3_KEYS)?.ok_or("the place is no bucket")?;
        let objects = Arc::new(Bucket::new(place, &format!("s{size}"), Arc::new(millpond::SystemHost)));
        let pond = runtime.block_on(millpond::open(&folder.path().join("ours").display().to_string()))?;
        let pond = pond.with_objects(objects.clone());
        // As long as one of ours.
        let note = Note::of(&std::collections::BTreeMap::from([("key", "x".repeat(350))]))?;
        let artifacts = pond.artifacts();
        let n = Cell::new(0u64);
        let keys = || {
            n.set(n.get() + AT_ONCE);
            let last = n.get();
            (0..AT_ONCE).map(move |m| last - m)
        };
        let figures = interleave(
            args.rounds,
            &mut [
                (
                    "millpond: 64 writes at once",
                    Box::new(|| {
                        rate(args.secs, || {
                            let keys: Vec<String> = keys().map(|key| format!("k{key}")).collect();
                            let puts = keys.iter().map(|key| artifacts.write(key, body.clone(), NewArtifact::default()));
                            runtime.block_on(futures_util::future::try_join_all(puts))?;
                            Ok(())
                        })
                    }),
                ),
                (
                    "object_store alone",
                    Box::new(|| {
                        rate(args.secs, || {
                            let keys: Vec<_> = keys().map(|key| object_store::path::Path::from(format!("bare/k{key}"))).collect();
                            let puts = keys.iter().map(|key| client.put(key, body.clone().into()));
                            runtime.block_on(futures_util::future::try_join_all(puts))?;
                            Ok(())
                        })
                    }),
                ),
                (
                    "the same names and notes alone",
                    Box::new(|| {
                        rate(args.secs, || {
                            let places: Vec<_> =
                                keys().map(|_| Location::new(millpond::uuid_v7(pond.store().host()), 1)).collect();
                            let puts = places.iter().map(|at| objects.put(at, body.clone(), Some(&note)));
                            runtime.block_on(futures_util::future::try_join_all(puts))?;
                            Ok(())
                        })
                    }),
                ),
            ],
        )?;
        figures.iter().for_each(|(name, f)| report.figure(name, *f, "x 64 puts/s"));
        report.ratio("millpond / object_store alone", figures[0].1.median / figures[1].1.median, 0.8);
        report.shown("millpond / the same names and notes alone", figures[0].1.median / figures[2].1.median);
    }
    Ok(())
}
