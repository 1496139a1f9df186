//! What a caller's own future has to carry for a call of ours: little, because debug builds copy futures on the stack,
//! and a task's stack is two megabytes.

use std::time::Duration;

use millpond::{Commit, Config, HealthRequest, OpenOptions};

/// The largest future of a call, in bytes.
const LARGEST: usize = 8 << 10;

fn small<F: Future>(what: &str, future: &F) {
    let size = size_of_val(future);
    println!("{what}: {size} bytes");
    assert!(size <= LARGEST, "{what} takes {size} bytes");
}

#[test]
fn callers_carry_little() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let pond = runtime.block_on(OpenOptions::new().open("memory:")).expect("opens");
    small("open", &millpond::open("memory:"));
    small("OpenOptions::open", &OpenOptions::new().open("memory:"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("millpond.yaml");
    std::fs::write(&file, "store: 'memory:'\n").expect("writes");
    let config = Config::read(&file).expect("reads");
    small("OpenOptions::open_config", &OpenOptions::new().open_config(&config));
    small("OpenOptions::engine", &OpenOptions::new().engine("memory:"));
    small("commit", &pond.commit(Commit::new()));
    small("health", &pond.health(HealthRequest::new()));
    let store = pond.store();
    small("get", &store.get("work", "one"));
    small("read", &store.read(Vec::new()));
    let request = millpond::LockRequest::of("one", Duration::from_secs(1));
    let locks = pond.locks();
    small("acquire", &locks.acquire(&request));
    small("close", &pond.close());
}
