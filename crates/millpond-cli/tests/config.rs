//! `millpond config`, and a configuration that several commands read.

mod support;

use support::scene::Scene;

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

#[test]
fn a_discovered_store_is_named() {
    let scene = Scene::new();
    let url = format!("sqlite:{}", scene.path().join("found.db").display());
    let command = scene.quiet_with("config show -o json --discover", &[("DATABASE_URL", &url)]);
    assert!(String::from_utf8_lossy(&command.stderr).contains("from DATABASE_URL"));
    assert!(String::from_utf8_lossy(&command.stdout).contains("found.db"));
}
