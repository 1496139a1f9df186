//! What the tests of this crate have in common.
#![allow(dead_code)] // Each test program uses a part of it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{
    Commit, CommitId, Engine, EventFilter, EventQuery, Front, MergeOp, Namespace, NewEvent, PreparedCommit, Store,
};
use millpond_postgres::{PostgresEngine, PostgresOptions};
use millpond_testservers::{Folder, PostgresServer, Process, Proxy, find_program, free_port, missing, wait_until};

/// A server, or `None` where PostgreSQL is not installed and the test is skipped.
pub fn server() -> Option<PostgresServer> {
    PostgresServer::start().expect("a server")
}

/// A number from the environment that asks for more than a usual run does.
pub fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |n| n.parse().expect("a number"))
}

/// Runs a test, and fails it when it hangs. What was asked for by [`asked`] may take an hour.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let limit = if ["MILLPOND_ROWS", "MILLPOND_KILLS"].iter().any(|n| std::env::var_os(n).is_some()) { 3_600 } else { 120 };
    let answer = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(limit), test).await });
    runtime.shutdown_background();
    answer.expect("the test did not hang")
}

/// The same address with another port: a proxy's.
pub fn through(url: &str, server: &PostgresServer, port: u16) -> String {
    url.replace(&format!(":{}/", server.port()), &format!(":{port}/"))
}

pub async fn open(url: &str) -> PostgresEngine {
    PostgresEngine::open(url, PostgresOptions::default()).await.expect("opens")
}

pub async fn store(engine: &PostgresEngine) -> Store {
    Store::open(Arc::new(Front::new(Arc::new(engine.clone()))), Namespace::default()).await.expect("the default namespace")
}

/// One step under an id of its own: sent twice, it is known again.
pub fn step(id: CommitId, name: &str) -> Commit {
    fresh_step(name).id(id)
}

/// One step: adds one to a record and appends an event. The store gives it an id, which it does not look for.
pub fn fresh_step(name: &str) -> Commit {
    let event = NewEvent::of("stepped", &serde_json::json!({"name": name})).expect("an event");
    let add = vec![MergeOp::Add("/n".to_owned(), 1)];
    Commit::new().merge("totals", name, add).expect("a merge").append(name, event).expect("an append")
}

pub fn new_id(engine: &PostgresEngine) -> CommitId {
    CommitId::generate(&*engine.host())
}

/// A commit as an engine takes it.
pub fn prepared(store: &Store, commit: Commit) -> PreparedCommit {
    commit.prepare(store.host(), &store.catalog()).expect("a commit")
}

/// How often a step was applied: by the record, and by the stream.
pub async fn applied(store: &Store, name: &str) -> (u64, u64) {
    let record = store
        .get("totals", name)
        .await
        .expect("a read")
        .map_or(0, |r| r.value.value().expect("a document")["n"].as_u64().expect("a number"));
    let stream = store.stream(name).await.expect("a read").map_or(0, |s| s.head);
    (record, stream)
}

/// The positions of all events.
pub async fn positions(store: &Store) -> Vec<u64> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.events(EventQuery::new(EventFilter::all()).after(after).limit(10_000)).await.expect("events");
        all.extend(page.items.iter().map(|e| e.position.0));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// Nothing is wrong with what is stored.
pub async fn is_sound(engine: &PostgresEngine) {
    assert_eq!(engine.check(&Namespace::default()).await.expect("a check"), Vec::<String>::new());
}

/// Waits until nothing has been sent for a while: notifications of earlier commits are through.
pub fn quiet(proxy: &Proxy) {
    let mut last = (proxy.flights(), std::time::Instant::now());
    wait_until("silence", || {
        if proxy.flights() != last.0 {
            last = (proxy.flights(), std::time::Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    })
    .expect("silence");
}

/// A session of `psql` that holds something open until it is dropped.
pub struct Held(std::process::Child);

impl Held {
    /// Begins a transaction with these statements, and leaves it open.
    pub fn open(server: &PostgresServer, database: &str, sql: &str) -> Self {
        use std::io::Write as _;
        // Idle after what was asked, not after BEGIN, which is sent by itself.
        let open = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql' AND datname = '{database}' \
             AND state = 'idle in transaction' AND query NOT LIKE 'BEGIN%'"
        );
        let count = || server.psql(database, &open).ok().and_then(|n| n.parse::<u64>().ok());
        let before = count().expect("a count");
        let mut psql = Command::new("psql");
        psql.args(["-h", "127.0.0.1", "-U", "postgres", "-X", "-q", "-p", &server.port().to_string(), "-d", database]);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("psql");
        child.stdin.as_mut().expect("its input").write_all(sql.as_bytes()).expect("it listens");
        wait_until("the transaction is open", || count() == Some(before + 1)).expect("it opens");
        Self(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// PgBouncer in transaction mode in front of one database of a server.
pub struct Bouncer {
    port: u16,
    folder: Folder,
    process: Process,
}

impl Bouncer {
    /// Starts one; `None` where it is not installed.
    pub fn start(server: &PostgresServer, database: &str, user: &str) -> Option<Self> {
        let Some(program) = find_program("pgbouncer", &[PathBuf::from("/usr/sbin")]) else {
            missing("pgbouncer", "apt-get install pgbouncer").expect("an installed pgbouncer");
            return None;
        };
        let (port, folder) = (free_port().expect("a port"), Folder::new("millpond-pgbouncer").expect("a folder"));
        let config = folder.path().join("pgbouncer.ini");
        write_config(&config, port, server, database, user);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program).arg(&config);
        let process = Process::start(command, &folder.path().join("log"), folder.path()).expect("pgbouncer starts");
        wait_until("the pooler answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).expect("it answers");
        Some(Self { port, folder, process })
    }

    /// The address of the database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?pooler=transaction", self.port)
    }

    /// Sends whoever is connected to another server from now on.
    pub fn turn_to(&self, server: &PostgresServer, database: &str, user: &str) {
        write_config(&self.folder.path().join("pgbouncer.ini"), self.port, server, database, user);
        self.process.signal("HUP");
    }
}

fn write_config(file: &Path, port: u16, server: &PostgresServer, database: &str, user: &str) {
    let text = format!(
        "[databases]\n{database} = host=127.0.0.1 port={} user={user} dbname={database}\n\
         [pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\n\
         pool_mode=transaction\ndefault_pool_size=2\nunix_socket_dir=\nserver_login_retry=1\n[users]\n",
        server.port()
    );
    std::fs::write(file, text).expect("its configuration");
}
