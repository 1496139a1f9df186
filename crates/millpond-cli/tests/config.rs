//! `millpond config`, and a configuration that several commands read.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use millpond_testservers::{Backend, PostgresServer, RedisFsync, RedisServer};
use support::scene::Scene;

/// Everything below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter().map(|f| f.expect("a file").into_path()).collect()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_check_makes_nothing_and_opens_what_is_there() {
    let cache = tempfile::tempdir().expect("a folder");
    let cache = format!("cache={}", cache.path().display());
    for place in ["./data", "sqlite:./data.db", &format!("file:./data?{cache}"), &format!("object-file:./data?{cache}")] {
        let scene = Scene::new();
        let checked = scene.quiet(&format!("config check --store {place}"));
        assert_eq!(code(&checked), Some(3), "{place}: {}", said(&checked));
        assert_eq!(files(scene.path()), Vec::<PathBuf>::new(), "{place}: a check made something");
        assert!(scene.quiet(&format!("runs start etl@1 --store {place}")).status.success(), "{place}");
        let checked = scene.quiet(&format!("config check --store {place}"));
        assert_eq!(code(&checked), Some(0), "{place}: {}", said(&checked));
        let elsewhere = scene.quiet(&format!("config check --store {place} --namespace nowhere"));
        assert_eq!(code(&elsewhere), Some(3), "{place}: {}", said(&elsewhere));
        let listed = scene.quiet(&format!("namespaces list -o jsonl --store {place}"));
        assert!(!said(&listed).contains("nowhere"), "{place}: a check made a namespace");
    }
}

#[test]
fn a_check_makes_nothing_on_a_server() {
    let scene = Scene::new();
    if let Some(server) = PostgresServer::start().expect("starts or is missing") {
        let url = server.create("checked").expect("a database");
        assert_eq!(code(&scene.quiet(&format!("config check --store {url}"))), Some(3));
        let schemas = server.psql("checked", "SELECT count(*) FROM pg_namespace WHERE nspname = 'millpond'");
        assert_eq!(schemas.expect("an answer"), "0");
    }
    if let Some(server) = RedisServer::start(RedisFsync::Always).expect("starts or is missing") {
        assert_eq!(code(&scene.quiet(&format!("config check --store {}", server.url()))), Some(3));
        assert_eq!(server.cli(&["DBSIZE"]).expect("an answer").trim(), "0");
    }
    for backend in [Backend::Nats, Backend::S3] {
        let Some(server) = backend.start().expect("starts or is missing") else { continue };
        let url = server.store("checked").expect("a place");
        // Had the first made a store, the second would open it.
        for _ in 0..2 {
            let checked = scene.quiet_with(&format!("config check --store {url}"), server.variables());
            assert_eq!(code(&checked), Some(3), "{backend}: {}", said(&checked));
        }
        let started = scene.quiet_with(&format!("runs start etl@1 --store {url}"), server.variables());
        assert!(started.status.success(), "{backend}: {}", said(&started));
        let checked = scene.quiet_with(&format!("config check --store {url}"), server.variables());
        assert_eq!(code(&checked), Some(0), "{backend}: {}", said(&checked));
    }
}

#[test]
fn one_store_of_several_that_is_missing_fails_the_check_and_is_not_made() {
    let scene = Scene::new();
    let folder = scene.path();
    scene.file("millpond.yaml", "store: sqlite:./main.db\n");
    assert!(scene.quiet("runs start etl@1").status.success());
    scene.file("millpond.yaml", "store: sqlite:./main.db\ndomains:\n  runs: sqlite:./runs.db\n  locks: sqlite:./locks.db\n");
    let checked = scene.quiet("config check");
    assert_eq!(code(&checked), Some(3), "{}", said(&checked));
    assert!(!folder.join("runs.db").exists() && !folder.join("locks.db").exists());
}

#[test]
fn an_option_that_is_misspelt_is_an_error_with_the_right_name_for_every_backend() {
    let scene = Scene::new();
    for (place, near) in [
        ("postgres://u@h/d?timout=3", "timeout"),
        ("redis://h?brekaer=3", "breaker"),
        ("nats://h/?retrys=3", "retries"),
        ("s3://b?retry_frist=3s", "retry_first"),
        ("minio://h:1/b?retry_mx=3s", "retry_max"),
        ("gs://b?breaker_pauze=1", "breaker_pause"),
        ("file:./x?cahce=/c", "cache"),
    ] {
        let checked = scene.quiet(&format!("config check --store {place}"));
        assert_eq!(code(&checked), Some(2), "{place}: {}", said(&checked));
        assert!(said(&checked).contains(&format!("did you mean {near}?")), "{place}: {}", said(&checked));
    }
}

#[test]
fn a_file_gives_a_domain_its_own_store_and_show_says_who_said_it() {
    let scene = Scene::new();
    let folder = scene.path();
    let file =
        "store: sqlite:./main.db\ndomains:\n  runs:\n    type: sqlite\n    path: ./runs.db\n  metrics: postgres://u:s3cret@h/d\n";
    std::fs::write(folder.join("millpond.yaml"), file).expect("a file");
    let shown = scene.quiet("config show --origin -o json");
    assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("millpond.yaml:3") && text.contains("postgres://u:PASSWORD@h/d"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");

    std::fs::write(folder.join("millpond.yaml"), file.replace("  metrics: postgres://u:s3cret@h/d\n", "")).expect("a file");
    let missing = scene.quiet("config check");
    assert_eq!(missing.status.code(), Some(3), "nothing is made by a check: {}", String::from_utf8_lossy(&missing.stdout));
    assert!(scene.quiet("runs start etl@1").status.success());
    assert!(folder.join("runs.db").exists() && folder.join("main.db").exists());
    assert!(scene.quiet("config check").status.success());
    let named = scene.quiet("runs list -o jsonl --store sqlite:./main.db");
    assert!(named.stdout.is_empty(), "the main store holds no run: {}", String::from_utf8_lossy(&named.stdout));
    assert!(!scene.quiet("runs list -o jsonl").stdout.is_empty());
    let healths = scene.quiet("doctor -o jsonl");
    assert_eq!(String::from_utf8_lossy(&healths.stdout).matches("\"engine\"").count(), 2);

    std::fs::write(folder.join("millpond.yaml"), "stor: x\n").expect("a file");
    let wrong = scene.quiet("runs list");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean store?"));
    assert!(scene.quiet("completions bash").status.success(), "a script needs no configuration");
}

/// Each usual variable leads to a store that can be used, and Amazon's own say the rest of a bucket.
#[test]
fn every_usual_variable_leads_to_its_store() {
    let scene = Scene::new();
    let cache = scene.path().display().to_string();
    for (variable, backend) in [
        ("DATABASE_URL", Backend::Postgres),
        ("REDIS_URL", Backend::Redis),
        ("NATS_URL", Backend::Nats),
        ("AWS_S3_BUCKET", Backend::S3),
    ] {
        let Some(server) = backend.start().expect("starts or is missing") else { continue };
        let url = server.store("discovered").expect("a place");
        let endpoint = url.split_once("endpoint=").and_then(|(_, rest)| rest.split('&').next()).unwrap_or_default();
        let mut variables = server.variables().to_vec();
        variables.extend([("XDG_CACHE_HOME", cache.as_str()), ("AWS_ENDPOINT_URL", endpoint)]);
        variables.retain(|(_, value)| !value.is_empty());
        let value = if backend == Backend::S3 { "discovered" } else { &url };
        variables.push((variable, value));
        let started = scene.quiet_with("runs start etl@1 --discover", &variables);
        assert!(started.status.success() && said(&started).contains(variable), "{variable}: {}", said(&started));
        let found = scene.quiet_with(&format!("runs list -o jsonl --store {url}"), &variables);
        let (found, listed) = (found.stdout, scene.quiet_with("runs list -o jsonl --discover", &variables).stdout);
        assert!(!listed.is_empty(), "{variable}");
        // A discovered bucket is used below a prefix of its own.
        assert_eq!(listed == found, backend != Backend::S3, "{variable}");
        let undiscovered = scene.quiet_with("config show -o json", &variables);
        assert!(!said(&undiscovered).contains(value), "{variable} was looked at without being asked");
    }
}

#[test]
fn a_discovered_store_is_named() {
    let scene = Scene::new();
    let url = format!("sqlite:{}", scene.path().join("found.db").display());
    let command = scene.quiet_with("config show -o json --discover", &[("DATABASE_URL", &url)]);
    assert!(String::from_utf8_lossy(&command.stderr).contains("from DATABASE_URL"));
    assert!(String::from_utf8_lossy(&command.stdout).contains("found.db"));
}
