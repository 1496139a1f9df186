//! What is asked of a replay, and what of it can be kept.

use std::time::Duration;

use millpond_core::{Error, Key, Result, StreamName, limits};

use crate::ArtifactKey;

/// Messages that one commit publishes at most, and unless said otherwise.
pub const MESSAGES_AT_ONCE: u32 = 256;
/// Keys that can be expected.
pub const EXPECTED_KEYS: usize = 1_000;
/// Bytes of them all together: they stand in the replay's record.
const EXPECTED_BYTES: usize = 256 << 10;
/// The longest wait for what is expected.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Asks for the artifacts of a stage to be published anew.
///
/// ```
/// use millpond::ReplayRequest;
/// let request = ReplayRequest::of("e1", "crawl", "fetch", "crawl/parse").path("de-").batch("again-1");
/// assert_eq!(request.prefix(), "executions/e1/crawl/fetch/de-");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRequest {
    /// The execution whose artifacts are published anew.
    pub execution: String,
    /// The route.
    pub route: String,
    /// The stage.
    pub stage: String,
    /// What the keys begin with below the stage, by bytes. Without `/`: what stands before that is part of the stage.
    pub path: Option<String>,
    /// The stream that the messages go to.
    pub to_stream: String,
    /// What all messages carry; a fresh id if not said.
    pub batch: Option<String>,
    /// Keys that have to be there; at most 1,000.
    pub expect: Vec<String>,
    /// How long they are waited for, on the store's clock; not at all if not said, 30 days at most.
    pub wait: Duration,
    /// Whether the bytes of every object are read and compared with their digest before the first message, or only looked
    /// for with their length.
    pub read_data: bool,
    /// Messages of one commit: 1 to 256.
    pub per_commit: u32,
    /// Who asks; the program and its process id if not said.
    pub worker: Option<String>,
}

impl ReplayRequest {
    /// Asks for every artifact of a stage to be published into a stream.
    pub fn of(
        execution: impl Into<String>,
        route: impl Into<String>,
        stage: impl Into<String>,
        to_stream: impl Into<String>,
    ) -> Self {
        Self {
            execution: execution.into(),
            route: route.into(),
            stage: stage.into(),
            path: None,
            to_stream: to_stream.into(),
            batch: None,
            expect: Vec::new(),
            wait: Duration::ZERO,
            read_data: true,
            per_commit: MESSAGES_AT_ONCE,
            worker: None,
        }
    }

    /// Only keys that go on so below the stage.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// What all messages carry.
    #[must_use]
    pub fn batch(mut self, batch: impl Into<String>) -> Self {
        self.batch = Some(batch.into());
        self
    }

    /// A key that has to be there.
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>) -> Self {
        self.expect.push(key.into());
        self
    }

    /// How long expected keys are waited for.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Only looks whether every object is there with its length, and reads none.
    #[must_use]
    pub fn no_read_data(mut self) -> Self {
        self.read_data = false;
        self
    }

    /// What the keys begin with.
    pub fn prefix(&self) -> String {
        ArtifactKey::of_stage(&self.execution, &self.route, &self.stage) + self.path.as_deref().unwrap_or_default()
    }

    /// Checks every text and number.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong.
    pub(super) fn check(&self) -> Result<()> {
        let named = [
            ("execution", Some(&self.execution)),
            ("route", Some(&self.route)),
            ("stage", Some(&self.stage)),
            ("batch", self.batch.as_ref()),
            ("worker", self.worker.as_ref()),
        ];
        for (name, text) in named {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > limits::INDEXED_TEXT_BYTES || text.chars().any(char::is_control) {
                return Err(Error::invalid(format!(
                    "a replay's {name} has {} bytes; it may have 1 to {}, and no control characters",
                    text.len(),
                    limits::INDEXED_TEXT_BYTES
                )));
            }
        }
        StreamName::new(self.to_stream.as_str())?;
        if !(1..=MESSAGES_AT_ONCE).contains(&self.per_commit) {
            return Err(Error::invalid(format!("{} messages of one commit; it may be 1 to {MESSAGES_AT_ONCE}", self.per_commit)));
        }
        if self.wait > LONGEST_WAIT {
            return Err(Error::invalid(format!("a replay does not wait for {:?}; 30 days are the most", self.wait)));
        }
        self.check_path()?;
        self.check_expected()
    }

    /// A key of the convention has nothing but the message below its stage: of `STAGE/de/m1` the stage is `STAGE/de`.
    fn check_path(&self) -> Result<()> {
        let path = self.path.as_deref().unwrap_or_default();
        if let Some((folder, rest)) = path.rsplit_once('/') {
            let stage = format!("{}/{}", self.stage, folder.trim_matches('/'));
            let rest = if rest.is_empty() { String::new() } else { format!(", with {rest:?} as the path") };
            return Err(Error::invalid(format!(
                "path {path:?} goes through a folder: what lies there is of another stage than {:?}",
                self.stage
            ))
            .with_next(format!("replay the stage {:?}{rest}", stage.trim_end_matches('/'))));
        }
        let prefix = self.prefix();
        Key::new(format!("{prefix}m")).map(drop).map_err(|e| {
            Error::invalid(format!("no key begins with {prefix:?}: {}", e.message())).with_next("say less, or other characters")
        })
    }

    fn check_expected(&self) -> Result<()> {
        if self.expect.is_empty() && !self.wait.is_zero() {
            return Err(Error::invalid(format!("it would wait for {:?}, and nothing is expected", self.wait))
                .with_next("name the keys that have to be there, or leave the wait out"));
        }
        let bytes: usize = self.expect.iter().map(String::len).sum();
        if self.expect.len() > EXPECTED_KEYS || bytes > EXPECTED_BYTES {
            return Err(Error::invalid(format!(
                "{} expected keys with {bytes} bytes; the limits are {EXPECTED_KEYS} and {EXPECTED_BYTES}",
                self.expect.len()
            ))
            .with_next("expect the last ones that are written, or start the replay when all are there"));
        }
        let prefix = self.prefix();
        match self.expect.iter().find(|key| !key.starts_with(&prefix)) {
            None => self.expect.iter().try_for_each(|key| Key::new(key.as_str()).map(drop)).map_err(|e: Error| {
                Error::invalid(format!("a key that is expected can be none: {}", e.message()))
                    .with_next("expect keys as artifacts list prints them")
            }),
            Some(key) => Err(Error::invalid(format!("{key:?} is expected, and does not begin with {prefix:?}"))
                .with_next("expect keys of the stage that is replayed")),
        }
    }
}
