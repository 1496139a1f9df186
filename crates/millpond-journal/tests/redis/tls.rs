//! `rediss:`, where this Redis was built with TLS.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use millpond_testservers::{RedisFsync, RedisServer, free_port};

use crate::world::{numbers, steps, store};

/// Runs `openssl` in a folder; false where it is not installed.
fn openssl(folder: &Path, arguments: &str) -> bool {
    let Ok(output) = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output() else {
        assert!(std::env::var_os("CI").is_none(), "openssl is missing: apt-get install openssl");
        eprintln!("SKIPPED: openssl is not installed");
        return false;
    };
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

/// An authority, and a certificate of this machine signed by it.
fn certificates(folder: &Path) -> bool {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(folder, &format!("req -x509 {KEY} -keyout ca.key -out ca.crt -subj /CN=authority -days 2"))
        && openssl(folder, &format!("req {KEY} -keyout server.key -out server.csr -subj /CN=server"))
        && openssl(
            folder,
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names",
        )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_trusted_that_was_named_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (folder.path().join("own"), folder.path().join("other"));
    for folder in [&own, &other] {
        std::fs::create_dir(folder).unwrap();
        if !certificates(folder) {
            return;
        }
    }
    let port = free_port().unwrap();
    let file = |name: &str| own.join(name).display().to_string();
    let (port_text, certificate, key, ca) = (port.to_string(), file("server.crt"), file("server.key"), file("ca.crt"));
    let tls = ["--tls-port", &port_text, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let more = [&tls[..], &["--tls-auth-clients", "no"]].concat();
    let Some(server) = RedisServer::start_with(RedisFsync::Always, &more).unwrap() else { return };
    let url = |ca: &Path| format!("rediss://127.0.0.1:{port}?timeout=2&ca={}", ca.join("ca.crt").display());
    let store_one = store(&url(&own), folder.path()).await.unwrap();
    steps(&store_one, 0..3).await;
    assert_eq!(numbers(&store_one).await, [0, 1, 2]);
    let began = Instant::now();
    let unlike =
        [url(&other), format!("rediss://127.0.0.1:{port}?timeout=2"), format!("rediss://127.0.0.1:{}?timeout=2", server.port())];
    for url in unlike {
        let error = store(&url, folder.path()).await.unwrap_err();
        assert!(error.next().is_some(), "{url}: {error}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
