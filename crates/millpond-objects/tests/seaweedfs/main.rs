//! What a real server does with objects: SeaweedFS, started once for all of these.
#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod http;
mod lost;
mod works;

use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use libtest_mimic::{Arguments, Trial};
use millpond_core::SystemHost;
use millpond_objects::place::ObjectPlace;
use millpond_objects::{Bucket, Location};
use millpond_testservers::{S3_ACCESS_KEY, S3_SECRET_KEY, SeaweedServer};
use uuid::Uuid;

/// The bytes of a part.
const PART: usize = 8 << 20;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(0)).exit_code();
    }
    let Some(server) = SeaweedServer::start().unwrap() else { return ExitCode::SUCCESS };
    server.create_bucket("objects").unwrap();
    let port = server.endpoint().rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
    libtest_mimic::run(&arguments, trials(port)).exit_code()
}

/// What is tried of the server at a port.
type Test = fn(u16);

fn trials(port: u16) -> Vec<Trial> {
    let all: [(&str, Test); 9] = [
        ("what_is_put_is_read_whole_and_in_ranges", works::reads),
        ("a_stream_becomes_one_object", works::streams),
        ("lists_are_in_order_and_go_on_where_they_ended", works::lists),
        ("what_is_removed_is_removed_again", works::removes),
        ("anybody_finds_the_note_in_the_metadata", works::notes),
        ("whoever_has_an_address_may_read_and_nobody_else", works::addresses),
        ("an_upload_that_is_given_up_leaves_nothing", works::given_up),
        ("a_put_whose_answer_is_lost_does_no_harm", lost::put),
        ("a_stream_survives_each_answer_that_is_lost", lost::stream),
    ];
    let run = move |test: Test| {
        move || {
            test(port);
            Ok(())
        }
    };
    all.into_iter().map(|(name, test)| Trial::test(name, run(test))).collect()
}

/// A place of a test's own, reached at a port.
fn bucket(port: u16, root: &str, parameters: &str) -> Bucket {
    let url = format!("s3://objects/tests?region=here&endpoint=http://127.0.0.1:{port}{parameters}");
    let keys = [("aws_access_key_id", S3_ACCESS_KEY), ("aws_secret_access_key", S3_SECRET_KEY)];
    Bucket::new(ObjectPlace::parse_with(&url, &keys).unwrap().unwrap(), root, Arc::new(SystemHost))
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

fn at(unit: u128, number: u32) -> Location {
    Location::new(Uuid::from_u128(unit), number)
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|n| (n * n % 251) as u8).collect::<Vec<_>>().into()
}
