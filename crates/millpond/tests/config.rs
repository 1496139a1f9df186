//! Configuration: order, mistakes, secrets, and stores of several places.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

use std::collections::BTreeMap;
use std::path::Path;

use millpond::{Commit, Config, Domain, ErrorKind, EventFilter, LockRequest, NewEvent, NewRun, Selector, Sources, StartAt};

fn sources(folder: &Path, file: &str, environment: &[(&str, &str)]) -> Sources {
    std::fs::write(folder.join("millpond.yaml"), file).unwrap();
    let environment: BTreeMap<_, _> = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Sources { environment, folder: folder.to_owned(), ..Sources::default() }
}

fn read(file: &str, environment: &[(&str, &str)]) -> millpond::Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    sources(folder.path(), file, environment).resolve()
}

/// `key=value (origin)` of every line.
fn shown(config: &Config) -> Vec<String> {
    config.lines().iter().map(|l| format!("{}={} ({})", l.key, l.value, l.origin)).collect()
}

#[test]
fn a_flag_counts_before_the_environment_and_that_before_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = "namespace: a\nstore: sqlite:file.db\ndomains:\n  runs: sqlite:runs.db\n";
    let environment = [("MILLPOND_STORE", "sqlite:env.db"), ("MILLPOND_NAMESPACE", "b")];
    let flagged = Sources { store: Some("sqlite:flag.db".to_owned()), ..sources(folder.path(), file, &environment) };
    let config = flagged.resolve().unwrap();
    assert_eq!(shown(&config), ["store=sqlite:flag.db (flag --store)", "namespace=b (environment MILLPOND_NAMESPACE)"]);
    let config = sources(folder.path(), file, &environment).resolve().unwrap();
    assert_eq!(config.store(), "sqlite:env.db");
    assert!(config.others().unwrap().is_empty(), "a place that a variable names is the place of everything");
    let config = sources(folder.path(), file, &[]).resolve().unwrap();
    assert_eq!(
        shown(&config),
        [
            "store=sqlite:file.db (millpond.yaml:2)",
            "namespace=a (millpond.yaml:1)",
            "domains.runs=sqlite:runs.db (millpond.yaml:4)"
        ]
    );
    let config = sources(folder.path(), "", &[]).resolve().unwrap();
    assert_eq!(shown(&config), ["store=./millpond-data (default)", "namespace=default (default)"]);
}

#[test]
fn a_file_that_is_named_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let named = |file: &str| Sources { file: Some(folder.path().join(file)), ..Sources::default() }.resolve();
    assert_eq!(named("none.yaml").unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(folder.path().join("m.yaml"), "store: sqlite:x.db\n").unwrap();
    assert_eq!(named("m.yaml").unwrap().store(), "sqlite:x.db");
    let variable = BTreeMap::from([("MILLPOND_CONFIG".to_owned(), folder.path().join("m.yaml").display().to_string())]);
    assert_eq!(Sources { environment: variable, ..Sources::default() }.resolve().unwrap().store(), "sqlite:x.db");
}

#[test]
fn mistakes_have_a_line_and_a_word_of_advice() {
    for (file, message, next) in [
        ("stor: x\n", "millpond.yaml:1: unknown key \"stor\"", "did you mean store?"),
        ("store: a\ndomains:\n  runns: b\n", "millpond.yaml:3: unknown key \"runns\"", "did you mean runs?"),
        ("store:\n  typ: file\n", "millpond.yaml:2: unknown key \"typ\"", "did you mean type?"),
        ("zzzzzzzz: 1\n", "millpond.yaml:1: unknown key", "known are namespace"),
        ("store:\n  type: floppy\n  path: a\n", "millpond.yaml:1: there is no type \"floppy\"", ""),
        ("store:\n  type: file\n", "millpond.yaml:1: give store: URL, or type and path", ""),
        ("store: [a]\n", "millpond.yaml:1: keys and values", ""),
        ("store: a\nstore: b\n", "millpond.yaml:2: not YAML", ""),
        ("store: ${NOPE}\n", "millpond.yaml:1: the environment variable NOPE is not set", "set NOPE"),
        ("require: much\n", "millpond.yaml:1: \"much\"", "write memory"),
        ("domains:\n  logs: a\n  runs: b\n", "millpond.yaml:3: runs has a place already", ""),
    ] {
        let error = read(file, &[]).unwrap_err();
        assert!(error.message().starts_with(message), "{file}: {error}");
        assert!(error.next().unwrap_or_default().starts_with(next), "{file}: {:?}", error.next());
    }
}

#[test]
fn passwords_come_from_variables_and_files_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "f1le s3cret\n").unwrap();
    let file = format!(
        "store:\n  store: postgres://u@h/d\n  password: ${{PGPASS}}\n  options:\n    pool: 4\ndomains:\n  runs:\n    type: redis\n    path: h:1/0\n    password_file: {}\n",
        secret.display()
    );
    let config = read(&file, &[("PGPASS", "p@ss")]).unwrap();
    assert_eq!(config.store(), "postgres://u:p%40ss@h/d?pool=4");
    assert_eq!(config.others().unwrap(), [("redis://:f1le%20s3cret@h:1/0".to_owned(), vec![Domain::Runs])]);
    let text = format!("{config:?} {:?}", shown(&config));
    assert!(text.contains("PASSWORD") && !text.contains("p%40ss") && !text.contains("s3cret"), "{text}");
}

#[test]
fn the_form_of_the_darwinflow_seed_is_read_as_written() {
    // To the letter, comments included.
    let file = "\
storage:
  workflows:
    type: file  # or: sqlite, postgres
    path: darwinflow-data/workflows

  logs:
    type: sqlite  # or: file, postgres
    path: darwinflow.db

  metrics:
    type: sqlite  # or: file, postgres
    path: darwinflow.db
";
    let config = read(file, &[]).unwrap();
    let workflows = ("file:darwinflow-data/workflows".to_owned(), vec![Domain::Workflows]);
    // Logs and metrics share a file, so one commit can change both.
    let shared = ("sqlite:darwinflow.db".to_owned(), vec![Domain::Runs, Domain::Metrics]);
    assert_eq!(config.others().unwrap(), [workflows, shared]);
    let line = |key: &str| config.lines().into_iter().find(|l| l.key == key).map(|l| (l.value, l.origin)).unwrap();
    assert_eq!(line("domains.runs"), ("sqlite:darwinflow.db".to_owned(), "millpond.yaml:6".to_owned()));
    // The comments' other kinds are read in the same place.
    let postgres =
        file.replace("type: sqlite  # or: file, postgres\n    path: darwinflow.db", "type: postgres\n    path: app@db/metrics");
    let shared = ("postgres://app@db/metrics".to_owned(), vec![Domain::Runs, Domain::Metrics]);
    assert_eq!(read(&postgres, &[]).unwrap().others().unwrap()[1], shared);
}

#[test]
fn usual_variables_are_looked_at_only_when_asked() {
    let url = ("DATABASE_URL", "postgres://u:s3cret@h/d");
    assert_eq!(read("", &[url]).unwrap().store(), "./millpond-data");
    let config = read("store: discover\n", &[url]).unwrap();
    assert_eq!(shown(&config)[0], "store=postgres://u:PASSWORD@h/d (discovered in DATABASE_URL)");
    let bucket = read("store: discover\n", &[("AWS_S3_BUCKET", "b")]).unwrap();
    assert_eq!(bucket.store(), "s3://b/millpond");
    let several = read("store: discover\n", &[url, ("REDIS_URL", "redis://h")]).unwrap_err();
    assert!(several.message().contains("DATABASE_URL, REDIS_URL"), "{several}");
    assert_eq!(read("store: discover\n", &[]).unwrap_err().kind(), ErrorKind::NotFound);
    let odd = read("store: discover\n", &[("DATABASE_URL", "mysql://u:s3cret@h/d")]).unwrap_err();
    assert!(odd.message().contains("mysql://u:PASSWORD@h/d"), "{odd}");
}

#[test]
fn one_place_with_two_sets_of_options_is_a_mistake() {
    let config = read("store: postgres://h/d?pool=4\ndomains:\n  runs: postgres://h/d?pool=8\n", &[]).unwrap();
    let error = config.others().unwrap_err();
    assert!(error.message().contains("millpond.yaml:3") && error.message().contains("other options"), "{error}");
}

/// Workflows and locks of their own, runs and metrics together, the rest in the main store.
fn mixed(folder: &Path) -> Config {
    let at = |name: &str| folder.join(name).display().to_string();
    let file = format!(
        "store: sqlite:{}\ndomains:\n  workflows: sqlite:{}\n  runs: sqlite:{runs}\n  metrics: sqlite:{runs}\n  locks: sqlite:{}\n  events: sqlite:{}\n",
        at("main.db"),
        at("workflows.db"),
        at("locks.db"),
        at("main.db"),
        runs = at("runs.db"),
    );
    sources(folder, &file, &[]).resolve().unwrap()
}

#[tokio::test]
async fn domains_of_one_place_share_it_and_its_units() {
    let folder = tempfile::tempdir().unwrap();
    let config = mixed(folder.path());
    let pond = config.open().await.unwrap();
    assert_eq!(pond.stores().len(), 4, "main, workflows, runs with metrics, locks");
    let run = pond.runs().start(NewRun::of("etl", 1)).await.unwrap();
    let mut unit = pond.unit();
    unit.events(run.stream()).append("page.fetched", &1);
    unit.metrics().record(millpond::Execution::of(&run).tokens(3));
    unit.commit().await.unwrap();
    // It is where it should be, and nowhere else.
    let runs = millpond::open(&format!("sqlite:{}", folder.path().join("runs.db").display())).await.unwrap();
    assert!(runs.runs().get(run.id()).await.unwrap().is_some());
    let main = millpond::open(&format!("sqlite:{}", folder.path().join("main.db").display())).await.unwrap();
    assert!(main.runs().get(run.id()).await.unwrap().is_none());
    // And it is read from there.
    let mut log = pond.events().query(EventFilter::stream(millpond::StreamName::new(run.stream()).unwrap()));
    let mut types = Vec::new();
    while let Some(event) = log.next().await.unwrap() {
        types.push(event.kind.clone());
    }
    assert!(types.iter().any(|t| t == "page.fetched"), "{types:?}");
    assert_eq!(pond.health_of_all(millpond::HealthRequest::new()).await.len(), 4);
}

#[tokio::test]
async fn what_would_span_two_stores_is_refused_and_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let pond = mixed(folder.path()).open().await.unwrap();
    let run = pond.runs().start(NewRun::of("etl", 1)).await.unwrap();
    let named = |error: millpond::Error, one: &str, other: &str| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains(one) && error.message().contains(other), "{error}");
    };

    let mut unit = pond.unit();
    unit.events(run.stream()).append("page.fetched", &1);
    unit.events("audit").append("seen", &1);
    named(unit.commit().await.unwrap_err(), "runs.db", "main.db");

    let lease = pond.locks().acquire(&LockRequest::of("l", std::time::Duration::from_secs(30))).await.unwrap();
    let mut unit = pond.unit();
    unit.fenced_by(&lease).metrics().record(millpond::Execution::of(&run));
    named(unit.commit().await.unwrap_err(), "locks.db", "runs.db");

    let commit = Commit::new().put("tenants", "t", &1).unwrap();
    let commit = commit.append(&run.stream(), NewEvent::of("x", &1).unwrap()).unwrap();
    named(pond.commit(commit).await.unwrap_err(), "main.db", "runs.db");

    named(pond.subscribe(Selector::types("*"), StartAt::Oldest).err().unwrap(), "runs.db", "main.db");
    named(pond.events().subscribe(Selector::types("*"), StartAt::Oldest).err().unwrap(), "runs.db", "main.db");
    named(pond.events().query(EventFilter::all()).next().await.unwrap_err(), "runs.db", "main.db");
    named(pond.events().streams("", None, 10).await.unwrap_err(), "runs.db", "main.db");
    assert!(pond.events().streams("audit", None, 10).await.unwrap().is_empty(), "nothing of the refused unit was written");
    assert!(!pond.events().streams("runs/", None, 10).await.unwrap().is_empty());
}

#[test]
fn the_blocking_pond_opens_a_configuration_too() {
    let folder = tempfile::tempdir().unwrap();
    let pond = millpond::blocking::open_config(&mixed(folder.path())).unwrap();
    let run = pond.runs().start(NewRun::of("etl", 1)).unwrap();
    assert!(folder.path().join("runs.db").exists());
    assert!(pond.runs().get(run.id()).unwrap().is_some());
}

#[tokio::test]
async fn lineage_lives_where_artifacts_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = |name: &str| folder.path().join(name).display().to_string();
    let file = format!("store: sqlite:{}\ndomains:\n  artifacts: sqlite:{}\n", store("main"), store("artifacts"));
    let pond = read(&file, &[]).unwrap().open().await.unwrap();
    pond.lineage().record(millpond::NewLineage::of("e", "r", "a").id("row")).await.unwrap();
    assert!(pond.store_of(Domain::Artifacts).get("lineage", "row").await.unwrap().is_some(), "it follows them");
    assert!(pond.store().get("lineage", "row").await.unwrap().is_none());
    pond.close().await.unwrap();

    let named = format!("{file}  lineage: sqlite:{}\n", store("artifacts"));
    read(&named, &[]).unwrap().open().await.unwrap().close().await.unwrap();
    let parted = read(&format!("{file}  lineage: sqlite:{}\n", store("main")), &[]).unwrap().open().await.err().unwrap();
    assert_eq!(parted.kind(), ErrorKind::Unsupported, "{parted}");
    for word in ["artifacts", "lineage", "main"] {
        assert!(parted.message().contains(word), "{word}: {parted}");
    }

    let others = async |domains: [Domain; 1]| {
        let other = millpond::open(&format!("sqlite:{}", store("other"))).await.unwrap();
        let main = millpond::open(&format!("sqlite:{}", store("main"))).await.unwrap();
        let pond = millpond::Pond::over(main.store().clone(), vec![(other.store().clone(), domains.to_vec())]).await;
        pond.err().map(|e| e.kind())
    };
    assert_eq!(others([Domain::Lineage]).await, Some(ErrorKind::Unsupported));
    assert_eq!(others([Domain::Artifacts]).await, None);
}

#[test]
fn the_place_of_bytes_is_said_by_flag_then_environment_then_file() {
    let folder = tempfile::tempdir().unwrap();
    let named = |flag: Option<&str>, file: &str, environment: &[(&str, &str)]| {
        let objects = flag.map(str::to_owned);
        Sources { objects, ..sources(folder.path(), file, environment) }.resolve()
    };
    let environment = [("MILLPOND_OBJECTS", "./env")];
    let forms = ["objects: ./file\n", "domains:\n  artifacts:\n    objects: ./file\n", "objects: { type: file, path: ./file }\n"];
    for file in forms {
        let said = |flag, environment: &[_]| named(flag, file, environment).unwrap().objects().map(str::to_owned).unwrap();
        assert_eq!(said(Some("./flag"), &environment), "./flag", "{file}");
        assert_eq!(said(None, &environment), "./env", "{file}");
        assert!(said(None, &[]).ends_with("./file"), "{file}: {}", said(None, &[]));
    }
    let config = named(None, "store: a\nobjects: ./file\n", &[]).unwrap();
    assert!(shown(&config).contains(&"objects=./file (millpond.yaml:2)".to_owned()), "{:?}", shown(&config));
    assert_eq!(named(None, "", &[]).unwrap().objects(), None);
    // The file's place of bytes belongs to the file's store.
    let elsewhere = named(None, "objects: ./file\n", &[("MILLPOND_STORE", "sqlite:other.db")]).unwrap();
    assert_eq!(elsewhere.objects(), None);
    let twice = named(None, "objects: ./a\ndomains:\n  artifacts:\n    objects: ./b\n", &[]).unwrap_err();
    assert!(twice.message().contains("objects have a place already"), "{twice}");
}
