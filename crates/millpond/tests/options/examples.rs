//! Each backend takes what the page's example for it says.

use millpond::{Config, ErrorKind, Sources};

use crate::support::{Fake, Manner, done_in_child, open, run};

const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// The stores of the page's examples.
fn stores(folder: &std::path::Path) -> Vec<String> {
    let examples = PAGE.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let store = |text: &str| -> millpond::Result<Config> {
        std::fs::write(folder.join("millpond.yaml"), text).unwrap();
        let environment = [("REPORTS_PASSWORD".to_owned(), "x".to_owned())].into();
        Sources { environment, folder: folder.to_owned(), ..Sources::default() }.resolve()
    };
    examples.map(|text| store(text).unwrap().store().to_owned()).collect()
}

#[test]
fn a_server_s_options_are_taken() {
    if done_in_child("examples::a_server_s_options_are_taken") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().display().to_string();
    let fake = Fake::start(Manner::HangsUp);
    let here = format!("127.0.0.1:{}", fake.port);
    let mut seen = Vec::new();
    run(async {
        for store in stores(folder.path()) {
            let Some((scheme, _)) = store.split_once("://") else { continue };
            seen.push(scheme.to_owned());
            let mut url = store.replace("/var/cache/millpond", &cache);
            for (name, port) in
                [("db", ""), ("cache", ":6379"), ("n1", ":4222"), ("n2", ":4222"), ("n3", ":4222"), ("minio", ":9000")]
            {
                url = url.replace(&format!("{name}.example.org{port}"), &here);
            }
            // This machine has no such file; a wait as long as that proves nothing; Amazon is not asked.
            url = url.replace("&creds=/etc/millpond/nats.creds", "");
            for long in ["=30s", "=15s", "=5s"] {
                url = url.replace(&format!("timeout{long}"), "timeout=300ms");
            }
            url = url.replace("region=eu-central-1", &format!("region=eu-central-1&endpoint=http://{here}"));
            let before = fake.connections();
            let error = open(&url).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
            assert!(fake.connections() > before, "{url} was not tried: {error}");
        }
    });
    assert_eq!(seen, ["postgres", "redis", "nats", "s3", "minio"]);
}
