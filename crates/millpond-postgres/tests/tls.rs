//! `sslmode` does what it says: no mode is quietly weaker than it was asked to be.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

mod support;

use std::path::Path;
use std::process::Command;

use millpond_core::{Engine as _, ErrorKind};
use millpond_postgres::{PostgresEngine, PostgresOptions};
use millpond_testservers::{Folder, PostgresServer, find_program, missing};
use support::{open, run};

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, a certificate it signed for `localhost` only, and an authority that signed nothing.
fn certificates(folder: &Path) {
    for name in ["ca", "other"] {
        openssl(
            folder,
            &format!("req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}"),
        );
    }
    openssl(folder, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    openssl(folder, "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names");
    // The server reads its key as its own user, and refuses one that others can read.
    let key = folder.join("server.key");
    let _ = Command::new("chown").arg("postgres").arg(&key).status();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn each_sslmode_does_what_it_says() {
    if find_program("openssl", &[]).is_none() {
        missing("openssl", "apt-get install openssl").unwrap();
        return;
    }
    let folder = Folder::new("millpond-tls").unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (file("server.crt"), file("server.key"));
    let settings = [("ssl", "on"), ("ssl_cert_file", &certificate), ("ssl_key_file", &key)];
    let Some(secured) = PostgresServer::start_with(&settings).unwrap() else { return };
    let Some(bare) = PostgresServer::start().unwrap() else { return };
    secured.create("tls").unwrap();
    bare.create("tls").unwrap();
    let url = |server: &PostgresServer, host: &str, more: &str| {
        format!("postgres://postgres@{host}:{}/tls?timeout=2&pool=1&{more}", server.port())
    };
    let (ca, other) = (file("ca.crt"), file("other.crt"));
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'millpond'";
    run(async {
        for (host, more, expected) in [
            ("localhost", "sslmode=disable".to_owned(), "f"),
            ("localhost", "sslmode=prefer".to_owned(), "t"),
            ("127.0.0.1", "sslmode=require".to_owned(), "t"),
            ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}"), "t"),
            ("localhost", format!("sslmode=verify-full&sslrootcert={ca}"), "t"),
        ] {
            let engine = open(&url(&secured, host, &more)).await;
            assert_eq!(secured.psql("tls", encrypted).unwrap(), expected, "{host} {more}");
            engine.close().await.unwrap();
            let gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'millpond'";
            millpond_testservers::wait_until("the connection is gone", || secured.psql("tls", gone).is_ok_and(|n| n == "t"))
                .unwrap();
        }
        for (host, more) in [
            ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}")),
            ("localhost", format!("sslmode=verify-full&sslrootcert={other}")),
            ("localhost", format!("sslmode=verify-ca&sslrootcert={other}")),
            ("localhost", format!("sslmode=require&sslrootcert={other}")),
        ] {
            let error = PostgresEngine::open(&url(&secured, host, &more), PostgresOptions::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{host} {more}: {error}");
        }
        // A server without TLS: only who does not insist gets in.
        open(&url(&bare, "localhost", "sslmode=prefer")).await;
        let error = PostgresEngine::open(&url(&bare, "localhost", "sslmode=require"), PostgresOptions::default()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    });
}
