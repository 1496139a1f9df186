//! What the program prints, word for word: each output mode, the texts of errors, exit codes, help.
//!
//! The golden files are in `tests/snapshots`. After a change on purpose: `INSTA_UPDATE=always cargo test -p millpond-cli`,
//! and read the difference.

mod support;

use support::scene::Scene;

/// Compares a transcript with its golden file.
macro_rules! golden {
    ($name:literal, $scene:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($name, $scene.transcript()) })
    };
}

#[test]
fn raw_commits() {
    let mut scene = Scene::new();
    scene.file(
        "one.json",
        r#"{"id": "01900000-0000-7000-8000-000000000001",
            "by": "anna",
            "expect": [{"record": ["tenants", "t1"], "is": "absent"}],
            "writes": [{"put": ["tenants", "t1"], "value": {"plan": "pro", "seats": 3}},
                       {"merge": ["totals", "all"], "add": {"/tenants": 1}, "max": {"/seats": 3}}],
            "appends": [{"stream": "audit", "events": [{"type": "tenant.created", "data": {"id": "t1"}}]}]}"#,
    );
    scene.file("lease.json", r#"{"expect": [{"lease": "reindex", "token": 7}], "writes": [{"delete": ["tenants", "t1"]}]}"#);
    scene.file("wrong.json", r#"{"writes": [{"put": ["tenants"], "value": 1}]}"#);
    scene.file("owned.json", r#"{"writes": [{"put": ["runs", "r1"], "value": {}}]}"#);
    scene.file("seal.json", r#"{"seals": ["audit"], "trims": [{"stream": "audit", "before": 2}]}"#);
    // The id of the first is too old to be taken: it is refused, never applied again.
    scene.run("commit --file one.json");
    scene.file(
        "two.json",
        std::fs::read_to_string(scene.path().join("one.json")).expect("file").replacen(
            r#""id": "01900000-0000-7000-8000-000000000001","#,
            "",
            1,
        ),
    );
    scene
        .run("commit --file two.json")
        .run("commit --file two.json -o json")
        .run("commit --file lease.json -o jsonl")
        .run("commit --file wrong.json")
        .run("commit --file owned.json")
        .run("commit --file seal.json -o jsonl")
        .run("events append audit --type late")
        .run("commit --file missing.json")
        .run("outcome 01900000-0000-7000-8000-000000000002");
    golden!("raw_commits", scene);
}

#[test]
fn the_example_of_the_documentation_commits() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/raw-commit.md")).expect("docs");
    let lines = text.lines().skip_while(|l| !l.starts_with("    {"));
    let example: String = lines.take_while(|l| l.starts_with("    ")).map(|l| format!("{l}\n")).collect();
    let scene = Scene::new();
    scene.file("example.json", example);
    let output = scene.quiet("commit --file example.json -o json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let receipt: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(receipt["revisions"], serde_json::json!([1, 0, 1]));
    assert_eq!(scene.quiet("commit --file example.json").status.code(), Some(4), "its expectations are meant");
}

#[test]
fn records() {
    let mut scene = Scene::new();
    scene
        .run("records get tenants t1")
        .run(r#"records put tenants t1 {"plan":"pro","seats":3}"#)
        .run(r#"records put tenants t2 {"plan":"free"} --create --by anna"#)
        .run(r#"records put tenants t2 {"plan":"pro"} --create"#)
        .run(r#"records put tenants t2 {"plan":"pro"} --revision 1 -o jsonl"#)
        .run("records get tenants t1")
        .run("records get tenants t1 -o json")
        .run("records get tenants t9")
        .run("records query tenants")
        .run("records query tenants --limit 1 -o json")
        .run("records query tenants --desc -o jsonl")
        .run("records query tenants --eq plan=pro")
        .run("records query tenants --prefix key=t2 --count")
        .run(r#"store declare {"name":"tenants","version":1,"fields":[{"name":"plan","path":"/plan","kind":"text"},{"name":"seats","path":"/seats","kind":"integer"}]}"#)
        .run("records query tenants --eq plan=pro --order seats --desc")
        .run("records query tenants --range seats=1..9 -o jsonl")
        .run("records query tenants --group-by plan --measure seats")
        .run("records query tenants --eq seats=many")
        .run(r#"store declare {"name":"tenants","fields":[]}"#)
        .run(r#"store declare {"name":"mine","version":1,"fields":[],"owned":true}"#)
        .run("records query locks --eq deadline=never")
        .run("records query locks --range deadline=2020-01-01T00:00:00Z..")
        .run("records delete tenants t1")
        .run("records delete tenants t1")
        .run("records watch tenants --once")
        .run("records watch tenants --once -o jsonl")
        .run("records put tenants t3 nonsense");
    golden!("records", scene);
}

#[test]
fn events() {
    let mut scene = Scene::new();
    scene.file(
        "many.jsonl",
        "{\"type\":\"page.fetched\",\"id\":\"e1\",\"data\":{\"success\":true}}\n{\"type\":\"page.failed\",\"agent\":\"a\"}\n",
    );
    scene.file("bad.jsonl", "{\"type\":\"x\"}\n{\"kind\":\"y\"}\n");
    scene
        .run(r#"events append crawl --type crawl.started --data {"n":1} --label env=test"#)
        .run("events append crawl --file many.jsonl")
        .run("events append crawl --file many.jsonl -o jsonl")
        .run("events append crawl --file bad.jsonl")
        .run("events list")
        .run("events list --types page.* --limit 1 -o jsonl")
        .run("events list --label env=test --newest -o json")
        .run("events streams")
        .run("events stream crawl")
        .run("events stats --types page.* -o json")
        .run("events stats --by type")
        .run("events watch --types *.started --once -o jsonl")
        .run("events watch --after 2 --limit 1")
        .run("events trim crawl --before 3")
        .run("events trim crawl --before 3 --yes")
        .run("events watch --after 1 --once")
        .run("events list --stream crawl2")
        .run("events seal crawl2")
        .run("events seal crawl")
        .run("events seal crawl --yes")
        .run("events append crawl --type late");
    golden!("events", scene);
}

#[test]
fn namespaces_and_store() {
    let mut scene = Scene::new();
    scene
        .run("store info")
        .run("namespaces list")
        .run("namespaces create acme")
        .run("namespaces create acme")
        .run("namespaces create Acme")
        .run("--namespace acme records put a b 1")
        .run("--namespace other records put a b 1")
        .run("namespaces freeze acme")
        .run("--namespace acme records put a b 2")
        .run("namespaces open acme")
        .run("--namespace acme store digest --content")
        .run("--namespace acme store check")
        .run("--namespace acme store check -o json")
        .run("--namespace acme store purge")
        .run("namespaces delete acme")
        .run("namespaces delete acme --yes")
        .run("namespaces delete acme --yes")
        .run("--store http://x/y store info")
        .run("--store sqlite: store info");
    golden!("namespaces_and_store", scene);
}

#[test]
fn workflows_and_flows() {
    let mut scene = Scene::new();
    scene.file("etl.yaml", "id: etl\nname: ETL\nnodes: [a, b]\n");
    scene.file("etl2.yaml", "id: etl\nname: ETL\nnodes: [a, c]\n");
    let flow = r#"{"id":"ingest","name":"Ingest","nodes":[{"id":"a","component":"udp","type":"input","name":"a",
        "position":{"x":1,"y":2},"config":{"port":1}}],"connections":[]}"#;
    scene.file("flow.json", flow);
    scene.file("bad.json", flow.replace(r#""connections":[]"#, r#""connections":[{"id":"c","source_node_id":"a"}]"#));
    scene
        .run("workflows store etl.yaml --author anna --tag nightly")
        .run("workflows store etl2.yaml --parent etl@1 --reasoning 'c is better'")
        .run("workflows list")
        .run("workflows list etl -o jsonl")
        .run("workflows list etl@1")
        .run("workflows get etl@1 --yaml")
        .run("workflows get etl@9")
        .run("workflows get etl")
        .run("workflows diff etl@1 etl@2")
        .run("workflows ancestors etl@2")
        .run("workflows children etl@1")
        .run("workflows delete etl@1 --by anna")
        .run("workflows delete etl@1 --by anna --yes")
        .run("workflows delete etl@1 --yes")
        .run("workflows lineage etl@1")
        .run("flows validate bad.json")
        .run("flows validate bad.json -o jsonl")
        .run("flows create bad.json")
        .run("flows create flow.json --by anna")
        .run("flows deploy ingest --at-version 1")
        .run("flows start ingest -o jsonl")
        .run("flows components ingest")
        .run("flows update flow.json")
        .run("flows list --state running")
        .run("flows history ingest")
        .run("flows watch in* --once")
        .run("flows stop ingest")
        .run("flows undeploy ingest")
        .run("flows delete ingest")
        .run("flows delete ingest --yes")
        .run("flows history ingest -o jsonl --limit 1")
        .run("flows history nothing")
        .run("flows get ingest");
    golden!("workflows_and_flows", scene);
}

#[test]
fn artifacts() {
    let mut scene = Scene::new();
    scene.file("page.html", "<p>one</p>").file("blob", b"\x00\xff\x01");
    let page = "executions/e1/crawl/fetch/m1.html";
    scene
        .run(&format!("artifacts put {page} page.html --adapter web --custom tries=3 --custom by=anna"))
        .run(&format!("artifacts put {page} page.html --create"))
        .run(&format!("artifacts put {page} page.html --revision 7"))
        .run(&format!("artifacts put {page} page.html --revision 1 --correlation c1 --document d1"))
        .run("artifacts put nowhere missing.html")
        .run("artifacts put a/%_* blob --execution e2 --written-at 2026-11-21T08:00:00Z -o jsonl")
        .run(&format!("artifacts get {page}"))
        .run(&format!("artifacts get {page} --range 1..4 -o json"))
        .run(&format!("artifacts get {page} --range 4..1"))
        .run("artifacts get a/%_* -o jsonl")
        .run("artifacts get a/%_* copy-of-blob")
        .run("artifacts get nothing")
        .run(&format!("storage metadata {page}"))
        .run(&format!("artifacts show {page} -o json"))
        .run("artifacts metadata nothing")
        .run("artifacts list")
        .run("artifacts list a/%")
        .run("artifacts list %")
        .run("artifacts list exec")
        .run("artifacts list exec --segments")
        .run("artifacts list executions/e1 --segments")
        .run(
            "artifacts list --execution e1 --route crawl --stage fetch --extension .HTML --correlation c1 --document d1 -o jsonl",
        )
        .run("artifacts list --since 2d --limit 1")
        .run("artifacts browse")
        .run("artifacts browse executions/e1/ -o jsonl")
        .run(&format!("artifacts copy {page} a/copy.html"))
        .run("artifacts copy nothing a/copy.html")
        .run("artifacts list a/ -o json")
        .run("artifacts browse a/ --limit 1")
        .run("artifacts browse a/ --limit 1 --after a/%_*")
        .run("artifacts delete a/copy.html")
        .run("artifacts delete a/copy.html --yes")
        .run("artifacts delete a/copy.html --yes")
        .run("artifacts history a/copy.html")
        .run("artifacts history nothing")
        .run(&format!("artifacts url {page} --for 5m"));
    assert_eq!(std::fs::read(scene.path().join("copy-of-blob")).expect("a file"), b"\x00\xff\x01");
    golden!("artifacts", scene);
}

#[test]
fn units() {
    let mut scene = Scene::new();
    scene.file("a.txt", "one");
    let unit = |scene: &Scene, state: &str| {
        let listed = scene.quiet(&format!("units list --state {state} -o jsonl"));
        let unit: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("one unit");
        unit["id"].as_str().expect("an id").to_owned()
    };
    scene.run("units list").run("artifacts put a a.txt").run("artifacts put b .");
    let (committed, aborted) = (unit(&scene, "committed"), unit(&scene, "aborted"));
    scene
        .run("units list")
        .run("units list --state pending,failed")
        .run("units list --state gone")
        .run(&format!("units show {committed}"))
        .run(&format!("units show {committed} -o json"))
        .run(&format!("units show {aborted}"))
        .run("units show nothing")
        .run(&format!("units abort {committed} --reason changed"))
        .run(&format!("units abort {aborted}"))
        .run(&format!("units resume {committed}"))
        .run(&format!("units resume {aborted} --compensation x"))
        .run("units recover")
        .run("units recover -o json")
        .run("units collect")
        .run("units collect --remove")
        .run("units collect --remove --yes -o json")
        .run("units forget --older-than 1h")
        .run("units forget --older-than 1h --dry-run -o json")
        .run("units reconcile");
    let object = walkdir::WalkDir::new(scene.path().join("millpond-data/objects"))
        .into_iter()
        .filter_map(Result::ok)
        .find(|file| file.file_type().is_file() && file.path().extension().is_none_or(|e| e != "json"))
        .expect("the object of a");
    std::fs::remove_file(object.path()).expect("removed");
    scene.run("units reconcile").run("units reconcile -o jsonl").run("artifacts get a");
    golden!("units", scene);
}

#[test]
fn runs_and_checkpoints() {
    let mut scene = Scene::new();
    scene
        .run("runs start etl@3 --id r1 --tag nightly --idempotency-key k1 --input {\"day\":5}")
        .run("runs start etl@3 --id r1")
        .run("runs start etl@3 --idempotency-key k1")
        .run("runs step r1 fetch started --node a")
        .run("runs step r1 fetch completed --took 12ms --result [1]")
        .run("runs action r1 tool_call --step fetch --detail tool=curl")
        .run("runs finish r1 completed")
        .run("runs finish r1 failed")
        .run("runs list")
        .run("runs list --status failed --since 2d")
        .run("runs list --workflow etl@3")
        .run("runs list --workflow etl@4")
        .run("runs recent etl@3 -o json")
        .run("runs list -o json --limit 1")
        .run("runs show r1")
        .run("runs show r1 --follow")
        .run("runs show r9 --follow")
        .run("runs log r1 --limit 2 -o jsonl")
        .run("runs log r9")
        .run("runs children r9")
        .run("runs children r1")
        .run("checkpoints list run/r1")
        .run("runs delete r1")
        .run("runs delete r1 --yes")
        .run("checkpoints save run/r1 {\"at\":5} --note half")
        .run("checkpoints save run/r1 {\"at\":6}")
        .run("checkpoints list run/r1")
        .run("checkpoints load run/r1 1 -o json")
        .run("checkpoints load run/r1 --payload")
        .run("checkpoints load run/r9")
        .run("checkpoints load r1")
        .run("checkpoints restore run/r1 1")
        .run("checkpoints prune run/r1 --keep 1")
        .run("checkpoints delete-all run/r1");
    golden!("runs_and_checkpoints", scene);
}

#[test]
fn sessions_and_locks() {
    let mut scene = Scene::new();
    scene
        .run("sessions create --workflow etl --id s1 --total 5")
        .run("sessions update-state s1 running")
        .run("sessions update-state s1 initializing")
        .run("sessions progress s1 2 5")
        .run("sessions add-counts s1 --files-changed 3")
        .run("sessions update-state s1 paused")
        .run("sessions last-interrupted -o jsonl")
        .run("sessions list --status paused,failed")
        .run("sessions stats s1")
        .run("sessions map-job s1 j1 etl")
        .run("sessions session-of j1")
        .run("sessions delete s1")
        .run("sessions delete s1 --yes")
        .run("sessions delete s1 --yes")
        .run("sessions load s1")
        .run("locks acquire reindex --ttl 1h --purpose nightly")
        .run("locks acquire reindex --ttl 1h")
        .run("locks list")
        .run("locks info reindex -o json")
        .run("locks renew reindex --token 1 --ttl 2h")
        .run("locks release reindex --token 9")
        .run("locks break reindex --reason 'it hangs' --by anna")
        .run("locks info reindex")
        .run("locks acquire reindex --ttl 1x");
    golden!("sessions_and_locks", scene);
}

#[test]
fn lineage() {
    let mut scene = Scene::new();
    let at = |hour: u32| format!("2026-11-20T{hour:02}:00:00Z");
    let (began, ended) = (at(8), at(9));
    scene
        .run("lineage list")
        .run(&format!(
            "lineage record e1 ingest fetch --id page --stage fetch --document d1 --artifact executions/e1/ingest/fetch/m1.html \
             --artifact-version u1.1 --started {began} --completed {ended} --metadata url=https://Example.org/a"
        ))
        .run(&format!("lineage start e1 ingest split --id s1 --stage segment --parent page --adapter-index 1 --started {ended}"))
        .run("lineage start e1 ingest split --id s1")
        .run(&format!("lineage start e1 ingest split --id s2 --parent page --status pending --batch b1 --started {}", at(10)))
        .run("lineage advance s2 processing")
        .run("lineage advance s2 initiated")
        .run(&format!(
            "lineage complete s1 --output-hash 11ab --artifact executions/e1/ingest/segment/m1.json --completed {}",
            at(11)
        ))
        .run("lineage complete s1")
        .run(&format!(r#"lineage fail s2 --error '{{"message":"no text","language":"RUST"}}' --completed {}"#, at(12)))
        .run("lineage cancel s9")
        .run(&format!(
            "lineage record e1 ingest index --id shard --derived-from s1 --derived-from s2 --derived-from s3 \
             --started {} --completed {}",
            at(13),
            at(14)
        ))
        .run("lineage link shard page --kind quotes")
        .run("lineage link s9 page")
        .run("lineage get page")
        .run("lineage get s9")
        .run("lineage list --status failed,pending")
        .run("lineage list --url EXAMPLE --order completed")
        .run("lineage list --artifact executions/e1/ingest/segment/m1.json")
        .run("lineage list --limit 2")
        .run("lineage count --root false")
        .run("lineage chain s1")
        .run("lineage ancestors shard")
        .run("lineage descendants page --depth 1")
        .run("lineage descendants nobody")
        .run("lineage children page")
        .run("lineage parents shard --limit 1")
        .run("lineage roots")
        .run("lineage failures --execution e1")
        .run("lineage batch b1")
        .run("lineage stats")
        .run("lineage stats --route ingest --adapter split -o jsonl")
        .run("lineage export --adapter fetch")
        .run("lineage export --adapter split --status failed -o json")
        .run("lineage export --all --limit 1 --order oldest --adapter fetch");
    golden!("lineage", scene);
}

#[test]
fn dead_letters() {
    let mut scene = Scene::new();
    scene
        .run("dead-letters add crawl page1 --type Timeout --error 'timed out after 30 s' --step fetch")
        .run("dead-letters add crawl page1 --type Timeout --error 'timed out after 31 s' --step fetch")
        .run("dead-letters add crawl page2 --type Broken --error 'no such host' --not-eligible --review")
        .run("dead-letters list")
        .run("dead-letters list --by signature")
        .run("dead-letters list --by signature --state pending")
        .run("dead-letters list --signature Timeout* -o jsonl --limit 1")
        .run("dead-letters list --signature *x")
        .run("dead-letters attempts crawl page1")
        .run("dead-letters claim --job crawl --visibility 1h")
        .run("dead-letters requeue --job crawl --signature Timeout*")
        .run("dead-letters complete crawl page1 --token 9")
        .run("dead-letters complete crawl page1 --token 3")
        .run("dead-letters add crawl page3 --type Slow --error 'too slow'")
        .run("dead-letters requeue --job crawl --dry-run")
        .run("dead-letters requeue --signature Broken* --dry-run")
        .run("dead-letters requeue --signature Broken*")
        .run("dead-letters requeue")
        .run("dead-letters requeue crawl page9")
        .run("dead-letters discard crawl page2 --reason 'the host is gone'")
        .run("dead-letters requeue crawl page2")
        .run("dead-letters discard crawl page2 --reason 'the host is gone for good'")
        .run("dead-letters jobs")
        .run("dead-letters stats -o json")
        .run("dead-letters purge --older-than 0s")
        .run("dead-letters purge --older-than 0s --yes");
    golden!("dead_letters", scene);
}

#[test]
fn metrics_patterns_feedback() {
    let mut scene = Scene::new();
    scene
        .run("metrics record r1 etl@1 --took 12ms --tokens 5 --operation read=3 --node a=10ms --failed-node b=2ms")
        .run("metrics record r1 etl@1 --took 12ms --tokens 5 --operation read=3 --node a=10ms --failed-node b=2ms")
        .run("metrics record r1 etl@1 --took 13ms")
        .run("metrics summary etl@1")
        .run("metrics summary etl@2")
        .run("metrics nodes etl@1")
        .run("metrics operations etl@1 -o jsonl")
        .run("metrics list")
        .run("metrics trend etl --bucket 1ms")
        .run("metrics trend etl@2")
        .run("metrics trend etl@2 --of-version 1")
        .run("metrics recent etl@2")
        .run("metrics list --workflow etl@1")
        .run("patterns record etl slow bottleneck --confidence 0.5 --description 'b is slow'")
        .run("patterns record etl slow bottleneck --confidence 0.7")
        .run("patterns list --min-occurrences 2")
        .run("patterns get etl slow -o json")
        .run("patterns list --min-confidence 0.9")
        .run("feedback add r1 praise 'good work' --author anna")
        .run("feedback list --kind praise");
    golden!("metrics_patterns_feedback", scene);
}

#[test]
fn help_and_usage() {
    let mut scene = Scene::new();
    scene.run("--help").run("").run("nonsense").run("records quer").run("records get tenants").run("-o xml store info");
    for noun in [
        "demo",
        "commit",
        "records",
        "events",
        "namespaces",
        "store",
        "workflows",
        "flows",
        "runs",
        "artifacts",
        "units",
        "locks",
        "checkpoints",
        "sessions",
        "dead-letters",
        "metrics",
        "patterns",
        "feedback",
        "lineage",
    ] {
        scene.run(&format!("{noun} -h"));
    }
    golden!("help_and_usage", scene);
}

#[test]
fn a_command_that_reads_makes_no_store() {
    let scene = Scene::new();
    for line in ["records get a b", "events list", "store digest", "namespaces list", "runs list", "locks info x", "flows get x"]
    {
        let output = scene.quiet(line);
        assert_eq!(output.status.code(), Some(3), "{line}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("there is no store at") && said.contains("next:"), "{line}: {said}");
    }
    assert_eq!(std::fs::read_dir(scene.path()).expect("folder").count(), 0, "nothing was made");
}

#[test]
fn completions_for_every_shell() {
    let scene = Scene::new();
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef millpond"), ("fish", "complete -c millpond")] {
        let output = scene.quiet(&format!("completions {shell}"));
        assert!(String::from_utf8_lossy(&output.stdout).contains(sign), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let scene = Scene::new();
    let lines: String = (0..3_000).map(|i| format!("{{\"type\":\"t\",\"data\":\"{i:0100}\"}}\n")).collect();
    scene.file("many.jsonl", lines);
    assert!(scene.quiet("events append s --file many.jsonl").status.success());
    let mut child = std::process::Command::new(support::millpond())
        .args(["events", "list", "--limit", "3000", "-o", "jsonl"])
        .current_dir(scene.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn adopt() {
    let mut scene = Scene::new();
    scene.file("etl.yaml", "id: etl\nversion: 1\nnodes:\n- id: a\n  type: read\nedges:\n- from: START\n  to: a\n");
    scene.file("flow.json", r#"{"id":"ingest","name":"Ingest","nodes":[],"connections":[]}"#);
    scene.run("workflows store etl.yaml --store file:s").run("flows create flow.json --store file:s").run("adopt --store file:s");
    let (etl, flow) = ("s/tree/default/workflows/etl/1.yaml", "s/tree/default/flows/ingest.yaml");
    let edit = |scene: &Scene, path: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(scene.path().join(path)).expect("a file");
        assert!(text.contains(from), "{text}");
        scene.file(path, text.replace(from, to));
    };
    edit(&scene, etl, "type: read", "type: fetch # faster");
    edit(&scene, flow, "name: Ingest", "name: ''");
    scene
        .run("adopt --store file:s --dry-run")
        .run("adopt --store file:s --dry-run -o json")
        .run("adopt --store file:s")
        .run("adopt --store file:s -o json")
        .run("workflows list etl --store file:s");
    edit(&scene, flow, "name: Ingest", "name: Renamed");
    std::fs::remove_file(scene.path().join(etl)).expect("a file");
    let doctor = scene.quiet("doctor --store file:s -o json");
    let health: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let tree = health["checks"].as_array().expect("checks").iter().find(|c| c["name"] == "tree").expect("a check").clone();
    assert_eq!((tree["finding"].as_str(), tree["next"].as_str()), (Some("warning"), Some("take them over: millpond adopt")));
    scene
        .run("flows get ingest --store file:s -o json")
        .run("store info --store file:s -o json")
        .run("adopt --store file:s?tree=off")
        .run("adopt --store file:s?tree=some")
        .run("adopt --store file:nowhere");
    let reason = std::fs::read_to_string(scene.path().join("s/tree/default/conflicts/1/reason.txt")).expect("a reason");
    scene.note("conflicts/1/reason.txt", &reason);
    golden!("adopt", scene);
}
