//! Object stores: whether they enforce their conditions, on whose word they keep what they acknowledge, their clock.

use std::sync::Arc;

use millpond::{Durability, Finding, OpenOptions};
use millpond_testservers::{S3_ACCESS_KEY, S3_SECRET_KEY, SeaweedServer};

use crate::support::{Ahead, check, doctor, fired, health, make, program, promises_nothing, run};

const KEYS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", S3_ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", S3_SECRET_KEY), ("AWS_REGION", "us-east-1")];

#[test]
fn a_server_at_an_address_of_its_own_is_not_believed_to_flush_unless_its_operator_says_so() {
    let Some(mut server) = SeaweedServer::start().unwrap() else { return };
    server.create_bucket("doctor").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let url = format!("s3://doctor/store?endpoint={}&cache={}", server.endpoint(), cache.path().display());
    make(&url, &KEYS);
    let said = doctor(&url, &KEYS);
    assert_eq!((said.code, said.check("conditional_writes").0, said.check("server_clock").0), (Some(0), "ok", "ok"), "{said:#?}");
    assert_eq!((said.check("acknowledged").0, said.check("schema").0), ("warning", "ok"), "{said:#?}");
    assert_eq!(said.health["survives"], "process-crash");
    assert!(said.health["sentence"].as_str().unwrap().contains("cannot be asked"), "{said:#?}");
    let refused = program(&url, &["records", "get", "tasks", "t1", "--require", "power-loss"], &KEYS);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && why.contains("durable=power-loss"), "{why}");

    let asserted = format!("{url}&durable=power-loss");
    let said = doctor(&asserted, &KEYS);
    assert_eq!((said.code, said.health["survives"].as_str()), (Some(0), Some("power-loss")), "{said:#?}");
    assert!(said.health["sentence"].as_str().unwrap().contains("if the URL is right"), "{said:#?}");
    let taken = program(&asserted, &["records", "get", "tasks", "t1", "--require", "power-loss"], &KEYS);
    assert!(taken.status.success(), "{taken:?}");

    let wrong = [("AWS_ACCESS_KEY_ID", "nobody"), KEYS[1], KEYS[2]];
    doctor(&url, &wrong).is_problem("connect", "cannot read");
    server.kill();
    doctor(&format!("{url}&timeout=3s"), &KEYS).is_problem("connect", "cannot read");
}

#[test]
#[cfg(target_os = "linux")]
fn objects_in_files_are_worth_what_their_file_system_is() {
    run(async {
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = |folder: &tempfile::TempDir| format!("object-file:{0}/store?cache={0}/cache", folder.path().display());
        let pond = millpond::open(&store(&disk)).await.unwrap();
        let well = health(&pond).await;
        assert_eq!((fired(&well), well.survives), (vec![], Durability::PowerLoss), "{well:#?}");
        assert!(check(&well, "space").found.contains("MiB"), "{well:#?}");

        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let pond = millpond::open(&store(&memory)).await.unwrap();
        let found = health(&pond).await;
        assert_eq!((fired(&found), found.survives), (vec!["file_system"], Durability::ProcessCrash), "{found:#?}");
        promises_nothing(&found);

        let ahead = OpenOptions::new().host(Arc::new(Ahead(60))).open(&store(&disk)).await.unwrap();
        let found = health(&ahead).await;
        assert_eq!(
            (fired(&found), check(&found, "server_clock").finding),
            (vec!["server_clock"], Finding::Warning),
            "{found:#?}"
        );
    });
}
