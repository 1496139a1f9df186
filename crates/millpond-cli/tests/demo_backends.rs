//! One program, one digest: the demo ends in the same state on every backend, also when it was killed on the way.

mod support;

use std::process::{Command, Output, Stdio};

use millpond_testservers::{Backend, RunningBackend};
use support::Random;

/// Documents of the corpus.
const FILES: usize = 60;

struct Scene<'b> {
    backend: &'b RunningBackend,
    corpus: &'b std::path::Path,
    store: String,
    objects: std::path::PathBuf,
}

impl Scene<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(support::millpond());
        command.args(["--store", &self.store]).args(args).current_dir(self.corpus).stdin(Stdio::null());
        command.env_remove("MILLPOND_NAMESPACE").env_remove("MILLPOND_DEMO_ACK");
        command.envs(self.backend.variables().iter().copied());
        // These have no place for bytes of their own.
        if ["postgres:", "redis:", "nats:"].iter().any(|networked| self.store.starts_with(networked)) {
            command.env("MILLPOND_OBJECTS", &self.objects);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    /// Runs the demo until its first commit was acknowledged; there it fails, because it cannot say so.
    fn stop_on_the_way(&self) {
        let output = self.command(&["demo", "corpus"]).env("MILLPOND_DEMO_ACK", "/dev/full").output().expect("it runs");
        assert!(!output.status.success(), "it was to stop on the way: {output:?}");
    }

    fn digest(&self) -> String {
        let output = self.run(&["demo", "corpus"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last().unwrap_or_default();
        last.strip_prefix("demo digest: ").unwrap_or_else(|| panic!("no digest: {output:?}")).to_owned()
    }
}

#[test]
fn the_demo_ends_in_the_same_state_on_every_backend() {
    let folder = tempfile::tempdir().expect("a folder");
    support::corpus(&folder.path().join("corpus"), FILES, &mut Random::new(7));
    let mut digests: Vec<(Backend, String)> = Vec::new();
    for backend in Backend::ALL {
        let Some(running) = backend.start().expect("the server starts") else { continue };
        let scene = |name: &str| Scene {
            backend: &running,
            corpus: folder.path(),
            store: running.store(name).expect("room for a store"),
            objects: folder.path().join(format!("objects of {backend} {name}")),
        };
        let (whole, stopped) = (scene("whole"), scene("stopped"));
        let digest = whole.digest();
        println!("{backend}: demo digest {digest}");
        stopped.stop_on_the_way();
        assert_eq!(stopped.digest(), digest, "{backend}: stopped and started again");
        assert_eq!(whole.digest(), digest, "{backend}: opened again");
        let again = whole.run(&["demo", "replay"]);
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(said.contains("64 of 64 parts have the same bytes"), "{backend}: {again:?}");
        let check = whole.run(&["store", "check"]);
        assert!(check.status.success(), "{backend}: {check:?}");
        digests.push((backend, digest));
    }
    let (_, first) = &digests[0];
    assert!(digests.iter().all(|(_, digest)| digest == first), "{digests:#?}");
}
