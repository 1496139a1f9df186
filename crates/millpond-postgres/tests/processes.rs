//! Real processes on one database: killed at any moment, racing for one stream, writing the same keys in every order,
//! and started at once where no tables are. The program starts itself again as the other process.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use millpond_core::{
    Change, Collection, Commit, CommitId, Engine as _, EventFilter, FeedRequest, FieldKind, MergeOp, Namespace, NewEvent,
    Position, Selector,
};
use millpond_testservers::{PostgresServer, wait_until};

mod support;
use support::{Held, asked, is_sound, new_id, open, positions, prepared, run, server, store};

const URL: &str = "MILLPOND_PROCESS_URL";
const WORK: &str = "MILLPOND_PROCESS_WORK";
const JOBS: Collection = Collection::new("jobs").index("state", FieldKind::Text).index("tags", FieldKind::TextSet);

fn main() -> ExitCode {
    if let (Ok(url), Ok(work)) = (std::env::var(URL), std::env::var(WORK)) {
        return other(&url, &work);
    }
    let trial = |name: &str, test: fn(PostgresServer)| {
        Trial::test(name, move || {
            let Some(server) = server() else { return Ok(()) };
            test(server);
            Ok::<(), Failed>(())
        })
    };
    let trials = vec![
        trial("a_process_killed_at_any_moment_leaves_all_it_acknowledged", killed),
        trial("two_processes_never_show_a_second_event_before_the_first", raced),
        trial("long_transactions_of_somebody_else_hold_up_no_process", held_up),
        trial("four_processes_on_the_same_keys_never_deadlock", overlapping),
        trial("two_programs_that_start_at_once_make_the_tables_once", migrated),
    ];
    let mut args = Arguments::from_args();
    // Each test starts several processes; two cores bear one test at a time.
    args.test_threads = Some(1);
    libtest_mimic::run(&args, trials).exit_code()
}

/// Numbers without pattern that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

// The other process.

fn other(url: &str, work: &str) -> ExitCode {
    let (kind, number) = work.split_once(' ').expect("work and its number");
    let number: u64 = number.parse().expect("a number");
    run(async {
        match kind {
            "write" => write(url).await,
            "race" => race(url).await,
            "overlap" => overlap(url, number).await,
            "migrate" => {
                ready();
                millpond_postgres::migrate(url, &[JOBS.spec().expect("a declaration")]).await.expect("migrates");
            }
            other => panic!("{other} is no work"),
        }
    });
    ExitCode::SUCCESS
}

/// Tells the parent that all is prepared, and waits for its word.
fn ready() {
    say("ready");
    std::io::stdin().lock().read_line(&mut String::new()).expect("the parent says go");
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{word}").and_then(|()| out.flush()).expect("the parent listens");
}

/// A record of its own, a sum that all share, and an event in each of two streams.
fn whole(id: CommitId) -> Commit {
    let event = || NewEvent::of("step", &serde_json::json!({"text": "x".repeat(150)})).expect("an event");
    let commit = Commit::new().id(id).put("work", &id.to_string(), &serde_json::json!({"n": 1})).expect("a record");
    let commit = commit.merge("totals", "all", vec![MergeOp::Add("/n".to_owned(), 1)]).expect("a sum");
    commit.append("first", event()).expect("a stream").append("second", event()).expect("a stream")
}

/// Eight callers commit until the process is killed, and tell each acknowledgement.
async fn write(url: &str) {
    let engine = open(url).await;
    let store = store(&engine).await;
    ready();
    for _ in 0..8 {
        let (engine, store) = (engine.clone(), store.clone());
        tokio::spawn(async move {
            loop {
                let id = new_id(&engine);
                store.commit(whole(id)).await.expect("a commit");
                say(&id.to_string());
            }
        });
    }
    // Until it is killed. A caller that fails says nothing any more, and the parent misses that.
    std::future::pending::<()>().await;
}

const RACED: u64 = 300;

/// Four callers append to the one stream.
async fn race(url: &str) {
    let engine = open(url).await;
    let store = store(&engine).await;
    ready();
    let made = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (store, made) = (store.clone(), Arc::clone(&made));
        callers.push(tokio::spawn(async move {
            while made.fetch_add(1, Ordering::Relaxed) < RACED as usize {
                let event = NewEvent::of("raced", &1).expect("an event");
                store.commit(Commit::new().append("race", event).expect("a commit")).await.expect("commits");
            }
        }));
    }
    for caller in callers {
        caller.await.expect("a caller");
    }
}

const BATCHES: u64 = 25;
const COMMITS: u64 = 16;

/// Batches whose commits add to three of twenty sums, in an order of their own.
async fn overlap(url: &str, number: u64) {
    let engine = open(url).await;
    let store = store(&engine).await;
    ready();
    let mut dice = Dice(number * 7_919 + 1);
    for _ in 0..BATCHES {
        let mut batch = Vec::new();
        for _ in 0..COMMITS {
            let mut commit = Commit::new();
            let first = dice.below(20);
            for key in [first, (first + 1 + dice.below(9)) % 20, (first + 10 + dice.below(9)) % 20] {
                let add = vec![MergeOp::Add("/n".to_owned(), 1)];
                commit = commit.merge("totals", &format!("k{key}"), add).expect("a merge");
            }
            batch.push(prepared(&store, commit));
        }
        let outcomes = engine.commit(&Namespace::default(), batch).await.expect("a batch");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
}

// This process.

/// A process, and what it says.
struct Other {
    child: Child,
    said: std::sync::mpsc::Receiver<String>,
}

impl Other {
    /// Starts one, and waits until it is prepared.
    fn start(url: &str, work: &str, number: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(URL, url).env(WORK, format!("{work} {number}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (tell, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let words = output.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix('@').map(str::to_owned));
            words.into_iter().all(|word| tell.send(word).is_ok())
        });
        let ready = said.recv_timeout(Duration::from_secs(60)).expect("it gets ready");
        assert_eq!(ready, "ready");
        Self { child, said }
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().expect("its input").write_all(b"go\n").expect("it listens");
    }

    fn finish(mut self) {
        assert!(self.child.wait().expect("it ends").success(), "the other process failed");
    }

    /// Ends it as a power switch would, and returns everything it said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is gone");
        // The pipe is read to its end: what was said before the end was said.
        self.said.iter().collect()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often the process is killed; `MILLPOND_KILLS` for more.
fn kills() -> usize {
    usize::try_from(asked("MILLPOND_KILLS", 20)).expect("a number of this machine")
}

fn killed(server: PostgresServer) {
    let url = server.create("killed").expect("a database") + "?pool=4";
    let mut dice = Dice(20_261_121);
    let (mut acknowledged, mut rounds) = (Vec::new(), 0);
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        while rounds < kills() {
            let mut process = Other::start(&url, "write", rounds);
            process.go();
            // At any moment: before the first answer, between two, in the middle of a batch.
            for _ in 0..dice.below(40) {
                acknowledged.push(process.said.recv_timeout(Duration::from_secs(60)).expect("it commits"));
            }
            let pause = Duration::from_micros(dice.below(3_000));
            let began = Instant::now();
            while began.elapsed() < pause {
                std::hint::spin_loop();
            }
            acknowledged.extend(process.kill());
            rounds += 1;
        }
        for id in &acknowledged {
            let id = CommitId::parse(id).expect("an id");
            assert!(engine.outcome(&Namespace::default(), id).await.expect("an answer").is_some(), "{id} was acknowledged");
            assert!(store.get("work", &id.to_string()).await.expect("a read").is_some(), "{id} was acknowledged");
        }
        let receipts = server.psql("killed", "SELECT count(*) FROM millpond.commits").expect("a count");
        let of = |sql: &str| server.psql("killed", sql).expect("a count");
        // None is half there: whatever a commit consists of is there as often as its receipt.
        assert_eq!(of("SELECT count(*) FROM millpond.records WHERE collection = 'work'"), receipts);
        assert_eq!(of("SELECT doc ->> 'n' FROM millpond.records WHERE collection = 'totals'"), receipts);
        assert_eq!(of("SELECT string_agg(DISTINCT head::text, ',') FROM millpond.streams"), receipts);
        let all = positions(&store).await;
        assert_eq!(all.len().to_string(), (2 * receipts.parse::<usize>().expect("a number")).to_string());
        is_sound(&engine).await;
        let mut words = String::new();
        let _ = write!(words, "{rounds} kills; {} commits acknowledged, {receipts} applied", acknowledged.len());
        println!("{words}");
        assert!(acknowledged.len() > rounds, "{words}");
    });
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    wait_until("no transaction is open", || server.psql("killed", open).is_ok_and(|n| n == "0")).expect("none is open");
}

fn raced(server: PostgresServer) {
    let url = server.create("raced").expect("a database") + "?pool=4";
    followed(&url);
}

/// Transactions that have an id and end with nobody: one in another database of the cluster, one in the store's own,
/// which has written a table and sees the store as it was. Two processes commit on, and a follower sees each event.
fn held_up(server: PostgresServer) {
    let url = server.create("held").expect("a database") + "?pool=4&timeout=10";
    server.create("elsewhere").expect("a database");
    for database in ["held", "elsewhere"] {
        server.psql(database, "CREATE TABLE public.other (n int)").expect("a table");
    }
    run(async { drop(store(&open(&url).await).await) });
    let write = "INSERT INTO public.other VALUES (1);\n";
    let elsewhere = Held::open(&server, "elsewhere", &format!("BEGIN; {write}"));
    let reads = "SELECT count(*) FROM millpond.events";
    let own = Held::open(&server, "held", &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {reads}; {write}"));
    let ids = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql' AND backend_xid IS NOT NULL \
               AND state = 'idle in transaction'";
    assert_eq!(server.psql("held", ids).expect("a count"), "2", "both have an id");
    followed(&url);
    assert_eq!(server.psql("held", ids).expect("a count"), "2", "both are open still");
    drop((elsewhere, own));
}

/// Two processes append to one stream while a follower reads along.
fn followed(url: &str) {
    run(async {
        let reader = open(url).await;
        store(&reader).await;
        let mut writers: Vec<_> = (0..2).map(|n| Other::start(url, "race", n)).collect();
        writers.iter_mut().for_each(Other::go);
        let mut seen: Vec<(u64, u64)> = Vec::new();
        while seen.len() < 2 * RACED as usize {
            let after = seen.last().map_or(0, |(position, _)| *position);
            let request = FeedRequest { selector: Selector::Events(EventFilter::all()), after: Some(Position(after)), limit: 3 };
            for change in reader.feed(&Namespace::default(), request).await.expect("a page").changes {
                if let Change::Event(event) = change {
                    seen.push((event.position.0, event.sequence));
                }
            }
        }
        assert_eq!(seen, (1..=2 * RACED).map(|n| (n, n)).collect::<Vec<_>>());
        writers.into_iter().for_each(Other::finish);
        is_sound(&reader).await;
    });
}

fn overlapping(server: PostgresServer) {
    let url = server.create("overlapping").expect("a database") + "?pool=4";
    run(async {
        let engine = open(&url).await;
        let store = store(&engine).await;
        let mut writers: Vec<_> = (0..4).map(|n| Other::start(&url, "overlap", n)).collect();
        writers.iter_mut().for_each(Other::go);
        writers.into_iter().for_each(Other::finish);
        let mut sum = 0;
        for key in 0..20 {
            let record = store.get("totals", &format!("k{key}")).await.expect("a read").expect("every key was met");
            sum += record.value.value().expect("a document")["n"].as_u64().expect("a number");
        }
        assert_eq!(sum, 4 * BATCHES * COMMITS * 3);
        is_sound(&engine).await;
    });
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'overlapping'";
    assert_eq!(server.psql("overlapping", deadlocks).expect("a count"), "0");
}

fn migrated(server: PostgresServer) {
    let url = server.create("migrated").expect("a database");
    for round in 0..8 {
        let url = format!("{url}?pool=2&schema=s{round}");
        let mut programs: Vec<_> = (0..2).map(|n| Other::start(&url, "migrate", n)).collect();
        programs.iter_mut().for_each(Other::go);
        programs.into_iter().for_each(Other::finish);
        let made = format!("SELECT count(*) || ' ' || (SELECT count(*) FROM s{round}.fields) FROM s{round}.format");
        assert_eq!(server.psql("migrated", &made).expect("the tables"), "2 1", "round {round}");
    }
}
