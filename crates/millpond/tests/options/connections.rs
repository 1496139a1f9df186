//! The pool, and TLS.

use std::path::Path;
use std::process::Command;

use millpond::{ErrorKind, OpenOptions};
use millpond_testservers::{
    Backend, Folder, NatsRelease, NatsServer, NatsSync, PostgresServer, RedisFsync, RedisServer, find_program, free_port,
    missing, wait_until,
};

use crate::support::{Fake, Manner, done_in_child, open, run, url};

#[test]
fn a_pool_has_the_size_that_was_asked_for() {
    let Some(server) = PostgresServer::start().unwrap() else { return };
    server.create("options").unwrap();
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millpond'";
    for size in [1, 4] {
        run(async {
            let more = format!("pool={size}");
            let pond = OpenOptions::new().open(&url(Backend::Postgres, server.port(), Path::new(""), &more)).await.unwrap();
            let reads = (0..64).map(|_| {
                let store = pond.store().clone();
                tokio::spawn(async move { store.get("things", "one").await.map(drop) })
            });
            for read in reads.collect::<Vec<_>>() {
                read.await.unwrap().unwrap();
            }
            assert_eq!(server.psql("options", connected).unwrap(), size.to_string());
            pond.close().await.unwrap();
        });
        wait_until("the connections are gone", || server.psql("options", connected).is_ok_and(|n| n == "0")).unwrap();
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority and a certificate that it signed for 127.0.0.1; `None` where openssl is missing.
fn certificates() -> Option<Folder> {
    if find_program("openssl", &[]).is_none() {
        missing("openssl", "apt-get install openssl").unwrap();
        return None;
    }
    let folder = Folder::new("millpond-tls").unwrap();
    let at = folder.path();
    openssl(at, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca");
    openssl(at, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=millpond");
    std::fs::write(at.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    openssl(at, "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names");
    Some(folder)
}

/// A server with TLS is reached by who trusts its authority, and one without it by nobody who asks for TLS.
async fn check_tls(what: &str, secured: &str, bare: &str, ca: &str) {
    let options = "timeout=3s&retries=0";
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().display();
    let open = |url: String| async move { OpenOptions::new().open(&url).await.map(drop) };
    // A server that has just been started may need a second.
    open(format!("{secured}?ca={ca}&cache={cache}")).await.expect(what);
    // The one without it is well: who does not ask gets in.
    let (scheme, place) = bare.split_once("://").unwrap();
    let plain = if scheme == "tls" { "nats" } else { "redis" };
    open(format!("{plain}://{place}?cache={cache}")).await.expect(what);
    let untrusted = format!("{secured}?{options}&cache={cache}");
    // Naming an authority alone makes some clients ask for TLS, so it has to be refused without one, too.
    for refused in [untrusted, format!("{bare}?{options}&cache={cache}"), format!("{bare}?{options}&ca={ca}&cache={cache}")] {
        let error = open(refused.clone()).await.expect_err(&refused);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{refused}: {error}");
    }
}

#[test]
fn redis_uses_tls_when_it_is_asked_to() {
    let Some(folder) = certificates() else { return };
    let file = |name: &str| folder.path().join(name).display().to_string();
    let port = free_port().unwrap();
    let (tls_port, certificate, key, ca) = (port.to_string(), file("server.crt"), file("server.key"), file("ca.crt"));
    let arguments = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let authority = ["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"];
    let arguments: Vec<&str> = arguments.into_iter().chain(authority).collect();
    let Some(server) = RedisServer::start_with(RedisFsync::Always, &arguments).unwrap() else { return };
    let at = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}/0");
    run(check_tls("redis", &at("rediss", port), &at("rediss", server.port()), &ca));
}

#[test]
fn nats_uses_tls_when_it_is_asked_to() {
    let Some(folder) = certificates() else { return };
    let file = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!("tls {{ cert_file: {:?}, key_file: {:?} }}", file("server.crt"), file("server.key"));
    let start = |more: &str| NatsServer::start_with(NatsRelease::Current, NatsSync::Default, more).unwrap();
    let (Some(secured), Some(bare)) = (start(&tls), start("")) else { return };
    let at = |scheme: &str, server: &NatsServer| format!("{scheme}://127.0.0.1:{}/", server.port());
    run(async {
        check_tls("nats", &at("tls", &secured), &at("tls", &bare), &file("ca.crt")).await;
        let asked = format!("{}?tls=require&timeout=3s&retries=0", at("nats", &bare));
        assert_eq!(open(&asked).await.unwrap_err().kind(), ErrorKind::Unavailable, "tls=require says the same as tls:");
    });
}

/// The first byte of whoever begins TLS.
const HANDSHAKE: u8 = 0x16;

#[test]
fn object_stores_use_tls_when_they_are_asked_to() {
    if done_in_child("connections::object_stores_use_tls_when_they_are_asked_to") {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().display();
    run(async {
        for (encrypted, place) in [
            (false, "minio://127.0.0.1:PORT/bucket?"),
            (true, "minio://127.0.0.1:PORT/bucket?tls=true&"),
            (false, "s3://bucket?endpoint=http://127.0.0.1:PORT&"),
            (true, "s3://bucket?endpoint=https://127.0.0.1:PORT&"),
        ] {
            let fake = Fake::start(Manner::Silent);
            let place = place.replace("PORT", &fake.port.to_string());
            open(&format!("{place}timeout=500ms&retries=0&cache={cache}")).await.unwrap_err();
            assert_eq!(fake.heard().first() == Some(&HANDSHAKE), encrypted, "{place}");
            assert!(!fake.heard().is_empty(), "{place}");
        }
    });
}
