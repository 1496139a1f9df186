//! Locks where a test needs a clock of its own, a process that dies, or no runtime.

use std::sync::Arc;
use std::time::Duration;

use millpond::{Attempt, ErrorKind, LockRequest, ManualHost, OpenOptions, Pond, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);

async fn pond(host: &Arc<ManualHost>) -> Pond {
    OpenOptions::new().host(Arc::<ManualHost>::clone(host)).open("memory:").await.expect("opens")
}

fn clock() -> Arc<ManualHost> {
    Arc::new(ManualHost::at(Timestamp::parse("2026-01-05T09:00:00Z").expect("a time")))
}

#[tokio::test]
async fn a_deadline_is_a_moment_of_the_stores_clock() {
    let host = clock();
    let locks = pond(&host).await.locks();
    let first = locks.try_acquire(&LockRequest::of("l", MINUTE)).await.expect("asks").lease().expect("free");
    assert_eq!(first.deadline.to_string(), "2026-01-05T09:01:00.000000Z");
    host.advance(MINUTE);
    let held = locks.try_acquire(&LockRequest::of("l", MINUTE)).await.expect("asks");
    assert!(matches!(held, Attempt::Held(_)), "taken at the deadline, not after it: {held:?}");
    host.advance(Duration::from_micros(1));
    assert!(locks.info("l").await.expect("reads").expect("held").expired);
    let second = locks.try_acquire(&LockRequest::of("l", MINUTE)).await.expect("asks").lease().expect("past its deadline");
    assert!(second.token > first.token);
}

#[tokio::test]
async fn a_clock_that_jumps_back_never_lets_a_token_go_down() {
    let host = clock();
    let locks = pond(&host).await.locks();
    let start = Timestamp::parse("2026-01-05T09:00:00Z").expect("a time");
    let mut last = 0;
    for jump in [3_600, -3_600, 7_200, -1, 0, 86_400] {
        let lease = locks.try_acquire(&LockRequest::of("l", MINUTE)).await.expect("asks").lease().expect("free");
        assert!(lease.token > last, "token {} after {last}", lease.token);
        last = lease.token;
        host.set(Timestamp::from_micros(start.as_micros() + jump * 1_000_000));
        locks.release(&lease).await.expect("releases");
    }
}

#[tokio::test]
async fn a_waiter_takes_over_at_the_deadline() {
    let host = clock();
    let locks = pond(&host).await.locks();
    locks.try_acquire(&LockRequest::of("l", MINUTE)).await.expect("asks").lease().expect("free");
    let waiter = tokio::spawn({
        let locks = locks.clone();
        async move { locks.acquire(&LockRequest::of("l", MINUTE).wait(2 * MINUTE)).await }
    });
    host.advance(MINUTE / 2);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiter.is_finished(), "taken before its deadline");
    host.advance(MINUTE + Duration::from_secs(1));
    // Nobody tells the waiter: its own look has to find that the deadline has passed.
    let taken = tokio::time::timeout(Duration::from_secs(20), waiter).await.expect("the waiter looks by itself");
    taken.expect("ends").expect("acquires");
}

#[test]
fn a_process_that_died_holds_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = dir.path().to_str().expect("a name");
    let pond = millpond::blocking::open(place).expect("opens");
    // A child that took a lock and was killed would leave this: its pid, and a start time that is not ours.
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
    let request = LockRequest::of("l", Duration::from_secs(3_600)).holder("child");
    let holder = child_holder(child.id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let other = millpond::open(place).await.expect("opens");
        let as_child = millpond::Locks::with_processes(other.store().clone(), Arc::new(AsChild(holder)));
        as_child.try_acquire(&request).await.expect("asks").lease().expect("free");
    });
    let held = pond.locks().try_acquire(&LockRequest::of("l", MINUTE)).expect("asks");
    assert!(matches!(held, Attempt::Held(_)), "the child lives: {held:?}");
    child.kill().expect("kills");
    child.wait().expect("waits");
    let lease = pond.locks().try_acquire(&LockRequest::of("l", MINUTE)).expect("asks").lease().expect("its holder is dead");
    pond.locks().release(&lease).expect("releases");
    assert_eq!(pond.locks().release(&lease).expect_err("twice").kind(), ErrorKind::Fenced);
}

/// The facts that a child of this process would give about itself.
fn child_holder(pid: u32) -> millpond::Holder {
    use millpond::locks::{ProcFiles, ProcessState, Processes};
    let machine = ProcFiles::default();
    let ProcessState::Running(started) = machine.state(pid) else { panic!("the child does not run") };
    millpond::Holder { pid: Some(pid), started: Some(started), ..machine.this_process() }
}

#[derive(Debug)]
struct AsChild(millpond::Holder);

impl millpond::locks::Processes for AsChild {
    fn this_process(&self) -> millpond::Holder {
        self.0.clone()
    }
    fn state(&self, _: u32) -> millpond::locks::ProcessState {
        millpond::locks::ProcessState::Unknown
    }
}
