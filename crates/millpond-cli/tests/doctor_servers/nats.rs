//! NATS: when it flushes, how many copies there are, where streams are kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use millpond::{Durability, Finding, Health, HealthRequest, OpenOptions};
use millpond_testservers::{NatsCluster, NatsRelease, NatsServer, NatsSync};
use serde_json::{Value, json};

use crate::support::{Ahead, check, doctor, fired, health, make, promises_nothing, run, until};

fn url(server: &NatsServer, cache: &tempfile::TempDir) -> String {
    format!("{}?timeout=10&monitor=127.0.0.1:{}&cache={}", server.url(), server.monitor(), cache.path().display())
}

/// Asks the JetStream API as an administrator would: a client of a few lines, for what Millpond itself never does.
fn api(port: u16, question: &str, body: &Value) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let body = body.to_string();
    let (size, options) = (body.len(), json!({"verbose": false, "pedantic": false}));
    write!(stream, "CONNECT {options}\r\nSUB answer.x 1\r\nPUB $JS.API.{question} answer.x {size}\r\n{body}\r\n").unwrap();
    loop {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the server hung up");
        if let Some(head) = line.strip_prefix("MSG ") {
            let mut answer = vec![0; head.trim().rsplit(' ').next().unwrap().parse().unwrap()];
            reader.read_exact(&mut answer).unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert!(answer["error"].is_null(), "{question}: {answer}");
            return answer;
        }
        if line.starts_with("PING") {
            stream.write_all(b"PONG\r\n").unwrap();
        }
    }
}

#[test]
fn a_server_that_flushes_each_message_is_well_and_a_stream_in_memory_is_found() {
    let Some(mut server) = NatsServer::start(NatsRelease::Current, NatsSync::Always).unwrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    run(async {
        let pond = millpond::open(&url(&server, &cache)).await.unwrap();
        let well = health(&pond).await;
        assert_eq!((fired(&well), well.survives), (vec![], Durability::PowerLoss), "{well:#?}");
        for silent in ["connect", "sync_interval", "replicas", "storage", "store_dir", "schema", "server_clock"] {
            assert_eq!(check(&well, silent).finding, Finding::Ok, "{well:#?}");
        }
        assert!(well.versions.iter().any(|(name, version)| *name == "nats" && version.starts_with("2.")), "{well:#?}");

        let memory = json!({"name": "millpond_snapshots_x", "subjects": ["millpond.snapshot.x.>"], "storage": "memory"});
        api(server.port(), "STREAM.CREATE.millpond_snapshots_x", &memory);
        let found = health(&pond).await;
        assert_eq!(check(&found, "storage").finding, Finding::Problem, "{found:#?}");
        promises_nothing(&found);
        api(server.port(), "STREAM.DELETE.millpond_snapshots_x", &json!({}));
        assert_eq!(fired(&health(&pond).await), Vec::<&str>::new());

        let ahead = OpenOptions::new().host(Arc::new(Ahead(10))).open(&url(&server, &cache)).await.unwrap();
        assert_eq!(fired(&health(&ahead).await), ["server_clock"]);

        server.kill();
        let found = health(&pond).await;
        assert_eq!(check(&found, "connect").finding, Finding::Problem, "{found:#?}");
        promises_nothing(&found);
    });
    doctor(&url(&server, &cache), &[]).is_problem("connect", "cannot connect");
}

#[test]
fn a_server_that_flushes_now_and_then_is_found_and_so_is_one_that_nobody_watches() {
    let Some(server) = NatsServer::start(NatsRelease::Current, NatsSync::Default).unwrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    run(async {
        for url in [url(&server, &cache), format!("{}?cache={}", server.url(), cache.path().display())] {
            let pond = millpond::open(&url).await.unwrap();
            let found = health(&pond).await;
            assert_eq!((fired(&found), found.survives), (vec!["sync_interval"], Durability::ProcessCrash), "{found:#?}");
            promises_nothing(&found);
        }
    });
}

#[test]
fn a_store_whose_streams_are_in_memory_is_diagnosed_though_it_does_not_open() {
    let Some(server) = NatsServer::start(NatsRelease::Current, NatsSync::Always).unwrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    let url = url(&server, &cache);
    make(&url, &[]);
    let mut config = api(server.port(), "STREAM.INFO.millpond_store", &json!({}))["config"].clone();
    config["storage"] = "memory".into();
    api(server.port(), "STREAM.DELETE.millpond_store", &json!({}));
    api(server.port(), "STREAM.CREATE.millpond_store", &config);
    doctor(&url, &[]).is_problem("storage", "memory");
}

#[test]
fn a_server_that_is_too_old_is_diagnosed() {
    let Some(server) = NatsServer::start(NatsRelease::System, NatsSync::Default).unwrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    let said = doctor(&url(&server, &cache), &[]);
    // A system may bring a newer one: then there is no store yet.
    if said.code != Some(3) {
        said.is_problem("version", "2.10");
    }
}

#[test]
fn a_server_that_keeps_its_data_among_temporary_files_is_found() {
    let folder = tempfile::tempdir().unwrap();
    if !folder.path().starts_with("/tmp") {
        eprintln!("*** SKIPPED: temporary files are not in /tmp here ***");
        return;
    }
    // As where nothing is said, only not in the folder that is shared by all servers of this machine.
    let more = format!("jetstream {{ sync_interval: always, store_dir: \"{}/nats\" }}", folder.path().display());
    let Some(server) = NatsServer::start_with(NatsRelease::Current, NatsSync::Always, &more).unwrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    run(async {
        let pond = millpond::open(&url(&server, &cache)).await.unwrap();
        assert_eq!(fired(&health(&pond).await), ["store_dir"]);
    });
}

#[test]
fn fewer_copies_than_there_should_be_are_found_in_a_cluster() {
    let Some(mut cluster) = NatsCluster::start(NatsSync::Always).unwrap() else { return };
    let cache = tempfile::tempdir().unwrap();
    let monitors: Vec<String> = cluster.nodes().iter().map(|node| format!("127.0.0.1:{}", node.monitor())).collect();
    let more = format!("monitor={}&cache={}", monitors.join(","), cache.path().display());
    let url = format!("{}?replicas=3&prefix=three&{more}", cluster.address());
    let request = HealthRequest::new().read_only();
    let replicas = |found: &Health| found.checks.iter().find(|check| check.name == "replicas").map(|check| check.finding);
    run(async {
        let pond = millpond::open(&url).await.unwrap();
        let whole = |found: &Health| replicas(found) == Some(Finding::Ok) && found.survives == Durability::Replicated;
        until("all copies follow", &pond, request, whole).await;

        // Somebody takes the copies of one stream away.
        let port = cluster.nodes()[0].port();
        let mut config = api(port, "STREAM.INFO.three_store", &json!({}))["config"].clone();
        config["num_replicas"] = 1.into();
        api(port, "STREAM.UPDATE.three_store", &config);
        let fewer = |found: &Health| replicas(found) == Some(Finding::Warning) && found.survives == Durability::PowerLoss;
        until("the stream with one copy is seen", &pond, request, fewer).await;
        config["num_replicas"] = 3.into();
        api(port, "STREAM.UPDATE.three_store", &config);
        until("all copies follow again", &pond, request, whole).await;

        let single = format!("{}?replicas=1&prefix=one&{more}", cluster.address());
        let single = millpond::open(&single).await.unwrap();
        until("one copy in a cluster is worth a word", &single, request, |found| replicas(found) == Some(Finding::Warning)).await;

        // A node dies: the others go on, and what it kept is missing.
        cluster.nodes()[2].kill();
        let gone =
            |found: &Health| found.checks.iter().any(|check| check.name == "replicas" && check.found.contains("behind or gone"));
        until("the copies of a dead node are missed", &pond, request, gone).await;
    });
}
