//! Asking a store how it is, in this process or through the program.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millpond::{Durability, Finding, Health, HealthCheck, HealthRequest, Host, Pond, SystemHost, Timestamp};
use serde_json::Value;

/// Checks that depend on this machine's speed and disk, which have tests of their own.
const OF_THE_MACHINE: [&str; 2] = ["latency", "space"];

/// Runs a test's asynchronous part.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// A check by its name.
pub fn check<'h>(health: &'h Health, name: &str) -> &'h HealthCheck {
    health.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}: {health:#?}"))
}

/// Names of the checks that are not silent, the machine's own and the class of durability apart.
pub fn fired(health: &Health) -> Vec<&str> {
    let loud = health.checks.iter().filter(|check| check.finding != Finding::Ok && check.name != "durability");
    loud.map(|check| check.name).filter(|name| !OF_THE_MACHINE.contains(name)).collect()
}

/// The health of a store, of which power-loss is required.
pub async fn health(pond: &Pond) -> Health {
    pond.health(HealthRequest::new().require(Durability::PowerLoss)).await
}

/// Looks until something holds: servers take a moment to notice what they were told.
pub async fn until(what: &str, pond: &Pond, request: HealthRequest, holds: impl Fn(&Health) -> bool) -> Health {
    let begun = Instant::now();
    loop {
        let found = pond.health(request).await;
        if holds(&found) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {found:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A store that cannot keep what power-loss means, whatever was said of it before.
pub fn promises_nothing(health: &Health) {
    assert!(health.survives < Durability::PowerLoss, "{health:#?}");
    assert!(!health.sentence.contains("you lose nothing"), "{health:#?}");
    assert_eq!(check(health, "durability").finding, Finding::Problem, "{health:#?}");
}

/// A clock that is this much ahead of the machine's, in seconds.
#[derive(Debug)]
pub struct Ahead(pub i64);

impl Host for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(SystemHost.now().as_micros() + self.0 * 1_000_000)
    }
    fn random(&self) -> u128 {
        SystemHost.random()
    }
}

/// What the program said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub health: Value,
    pub text: String,
}

impl Said {
    /// The finding of a check and what was found.
    pub fn check(&self, name: &str) -> (&str, &str) {
        let all = self.health["checks"].as_array().unwrap_or_else(|| panic!("no checks: {self:#?}"));
        let found = all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {self:#?}"));
        (found["finding"].as_str().unwrap(), found["found"].as_str().unwrap())
    }

    /// Ends with 5 because of this check, and promises nothing.
    pub fn is_problem(&self, name: &str, words: &str) {
        let (finding, found) = self.check(name);
        assert_eq!((self.code, finding), (Some(5), "problem"), "{self:#?}");
        assert!(found.contains(words), "{self:#?}");
        assert!(!self.health["sentence"].as_str().unwrap().contains("you lose nothing"), "{self:#?}");
        assert!(self.text.contains(name) && self.text.contains("versions: millpond "), "{self:#?}");
    }
}

/// A command of the program at a store.
pub fn program(store: &str, arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(["--store", store]).args(arguments).stdin(Stdio::null());
    for name in ["MILLPOND_STORE", "MILLPOND_NAMESPACE", "MILLPOND_REQUIRE", "MILLPOND_CONFIG"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

/// `millpond doctor` in both forms.
pub fn doctor(store: &str, variables: &[(&str, &str)]) -> Said {
    let json = program(store, &["doctor", "-o", "json"], variables);
    let text = program(store, &["doctor"], variables);
    assert_eq!(json.status.code(), text.status.code(), "{json:?} {text:?}");
    let health = serde_json::from_slice(&json.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {json:?}"));
    Said { code: json.status.code(), health, text: String::from_utf8_lossy(&text.stdout).into_owned() }
}

/// Makes a store by writing a record.
pub fn make(store: &str, variables: &[(&str, &str)]) {
    let made = program(store, &["records", "put", "tasks", "t1", "{}"], variables);
    assert!(made.status.success(), "{made:?}");
}
