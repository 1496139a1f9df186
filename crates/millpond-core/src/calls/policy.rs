//! How long and how often a call is tried, and the pauses in between.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::{Error, Host, Result};

/// The longest time that any of the parameters can ask for.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The most tries after the first, and the most failed calls a breaker can wait for.
const MOST: u32 = 1_000;

/// How long and how often a call to a server is tried, and when no call is tried any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallPolicy {
    /// The deadline of one call: its attempts and the pauses between them.
    pub timeout: Duration,
    /// Attempts after the first. `None`: as many as fit into the timeout.
    pub retries: Option<u32>,
    /// The first pause; each following one is twice as long. What is waited lies at random between half of it and all.
    pub retry_first: Duration,
    /// The longest pause.
    pub retry_max: Duration,
    /// Failed calls in a row after which calls are refused at once. `None`: never.
    pub breaker: Option<u32>,
    /// How long they are refused before one of them tries.
    pub breaker_pause: Duration,
}

impl CallPolicy {
    /// The parameters of a URL that say it, in every backend that has a server.
    pub const NAMES: [&'static str; 6] = ["timeout", "retries", "retry_first", "retry_max", "breaker", "breaker_pause"];

    /// The usual policy with a timeout of the backend's own.
    pub const fn within(timeout: Duration) -> Self {
        Self {
            timeout,
            retries: None,
            retry_first: Duration::from_millis(10),
            retry_max: Duration::from_millis(500),
            breaker: None,
            breaker_pause: Duration::from_secs(10),
        }
    }

    /// The longest pause of a backend's own.
    #[must_use]
    pub const fn pausing(mut self, retry_max: Duration) -> Self {
        self.retry_max = retry_max;
        self
    }

    /// Reads the parameters that say a policy, and returns the URL without them. What is not said is as usual.
    ///
    /// # Errors
    /// `Invalid` for a value that cannot be, or a parameter given twice. No value is repeated: a URL may hold secrets.
    pub fn of_url(url: &str, usual: Self) -> Result<(String, Self)> {
        let Some((place, query)) = url.split_once('?') else { return Ok((url.to_owned(), usual)) };
        let (mut policy, mut seen, mut others) = (usual, Vec::new(), Vec::new());
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = Self::NAMES.into_iter().find(|known| *known == name) else {
                others.push(pair);
                continue;
            };
            if seen.contains(&name) {
                return Err(Error::invalid(format!("{name} is given twice in the URL")).with_next("keep one of them"));
            }
            seen.push(name);
            policy.set(name, value)?;
        }
        if policy.retry_first > policy.retry_max {
            // Said alone, either of them moves the other.
            match (seen.contains(&"retry_first"), seen.contains(&"retry_max")) {
                (true, true) => {
                    return Err(Error::invalid("retry_first in the URL is longer than retry_max")
                        .with_next("let the first pause be the shortest"));
                }
                (true, false) => policy.retry_max = policy.retry_first,
                _ => policy.retry_first = policy.retry_max,
            }
        }
        if seen.contains(&"breaker_pause") && policy.breaker.is_none() {
            return Err(Error::invalid("breaker_pause in the URL has no breaker")
                .with_next("add breaker=N: failed calls in a row after which it opens"));
        }
        let rest = if others.is_empty() { place.to_owned() } else { format!("{place}?{}", others.join("&")) };
        Ok((rest, policy))
    }

    fn set(&mut self, name: &'static str, value: &str) -> Result<()> {
        match name {
            "timeout" => self.timeout = time(name, value)?,
            "retries" => self.retries = Some(number(name, value, 0)?),
            "retry_first" => self.retry_first = time(name, value)?,
            "retry_max" => self.retry_max = time(name, value)?,
            "breaker" => self.breaker = Some(number(name, value, 1)?),
            _ => self.breaker_pause = time(name, value)?,
        }
        Ok(())
    }

    /// The same for working out what became of something: it goes on until the time is over, however often that takes.
    #[must_use]
    pub const fn settling(mut self, time: Duration) -> Self {
        self.timeout = time;
        self.retries = None;
        self
    }

    /// The pauses of one call that begins now.
    pub fn pauses(&self, host: &dyn Host) -> Pauses {
        // Half of each pause is certain and up to as much again is random: callers who were stopped together do not
        // come back together, and the longest pause is what it is said to be.
        let delays = ExponentialBuilder::new()
            .with_min_delay(self.retry_first / 2)
            .with_max_delay(self.retry_max / 2)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(host.random() as u64);
        let delays = match self.retries {
            Some(retries) => delays.with_max_times(retries as usize),
            None => delays,
        };
        Pauses { delays: delays.build(), deadline: Instant::now() + self.timeout }
    }
}

/// The pauses between the attempts of one call.
#[derive(Debug)]
pub struct Pauses {
    delays: ExponentialBackoff,
    deadline: Instant,
}

impl Pauses {
    /// When the call has to be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How long to wait before the next attempt; `None` when there is no other, or no time for one.
    pub fn next_pause(&mut self) -> Option<Duration> {
        let pause = self.delays.next()?;
        (pause < self.left()).then_some(pause)
    }
}

/// `30` and `30s` are seconds, `250ms` and `2m` say so.
fn time(name: &str, text: &str) -> Result<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let time = unit.and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit)).map(Duration::from_millis);
    time.filter(|time| !time.is_zero() && *time <= LONGEST).ok_or_else(|| {
        Error::invalid(format!("{name} in the URL is no time from 1ms to one hour"))
            .with_next(format!("write {name}=30 for seconds, or {name}=250ms"))
    })
}

fn number(name: &str, text: &str, least: u32) -> Result<u32> {
    text.parse().ok().filter(|number| (least..=MOST).contains(number)).ok_or_else(|| {
        Error::invalid(format!("{name} in the URL is no number from {least} to {MOST}")).with_next(match name {
            "breaker" => "leave breaker out for none",
            _ => "leave retries out for as many as fit into the timeout",
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualHost, SystemHost, Timestamp};

    const USUAL: CallPolicy = CallPolicy::within(Duration::from_secs(30));

    fn read(query: &str) -> Result<CallPolicy> {
        CallPolicy::of_url(&format!("redis://h?{query}"), USUAL).map(|(_, policy)| policy)
    }

    #[test]
    fn each_parameter_says_its_own_and_the_others_stay_in_the_url() {
        let url = "nats://h/?prefix=p&timeout=250ms&retries=3&retry_first=20ms&ca=/c&retry_max=1&breaker=5&breaker_pause=2m";
        let (rest, policy) = CallPolicy::of_url(url, USUAL).unwrap();
        assert_eq!(rest, "nats://h/?prefix=p&ca=/c");
        let expected = CallPolicy {
            timeout: Duration::from_millis(250),
            retries: Some(3),
            retry_first: Duration::from_millis(20),
            retry_max: Duration::from_secs(1),
            breaker: Some(5),
            breaker_pause: Duration::from_secs(120),
        };
        assert_eq!(policy, expected);
        assert_eq!(CallPolicy::of_url("redis://h", USUAL).unwrap(), ("redis://h".to_owned(), USUAL));
        assert_eq!(CallPolicy::of_url("redis://h?timeout=30", USUAL).unwrap(), ("redis://h".to_owned(), USUAL));
        assert_eq!(read("retry_first=9s").unwrap().retry_max, Duration::from_secs(9));
        assert_eq!(read("retry_max=2ms").unwrap().retry_first, Duration::from_millis(2));
    }

    #[test]
    fn what_cannot_be_is_refused_and_not_repeated() {
        let bad = ["timeout=0", "timeout=", "timeout", "timeout=2h", "timeout=61m", "timeout=-1", "timeout=s3cret"];
        let more = ["retries=-1", "retries=many", "retries=1001", "retry_first=0ms", "breaker=0", "breaker=off"];
        let both = ["timeout=1&timeout=2", "retry_first=2s&retry_max=1s", "breaker_pause=1s"];
        for query in bad.into_iter().chain(more).chain(both) {
            let error = read(query).expect_err(query);
            assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{query}");
            assert!(error.next().is_some() && !error.to_string().contains("s3cret"), "{query}: {error}");
        }
    }

    fn pauses(policy: &CallPolicy, host: &dyn Host) -> Vec<Duration> {
        let mut pauses = policy.pauses(host);
        std::iter::from_fn(|| pauses.next_pause()).take(12).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_the_random_part_comes_from_the_host() {
        let policy = read("retry_first=20ms&retry_max=100ms").unwrap();
        let host = || ManualHost::at(Timestamp::from_micros(0));
        let found = pauses(&policy, &host());
        for (pause, whole) in found.iter().zip([20, 40, 80, 100, 100, 100]) {
            let whole = Duration::from_millis(whole);
            assert!(*pause >= whole / 2 && *pause <= whole, "{found:?}");
        }
        assert_eq!(found, pauses(&policy, &host()), "the same randomness, the same pauses");
        let other = host();
        other.random();
        assert_ne!(found, pauses(&policy, &other), "another caller, other pauses");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_with_their_number_or_with_the_time() {
        assert_eq!(pauses(&read("retries=3").unwrap(), &SystemHost).len(), 3);
        assert!(pauses(&read("retries=0").unwrap(), &SystemHost).is_empty());
        let mut few = read("timeout=1s&retry_first=600ms").unwrap().pauses(&SystemHost);
        let first = few.next_pause().unwrap();
        tokio::time::sleep(first).await;
        let second = few.next_pause();
        assert!(second.is_none_or(|pause| first + pause < Duration::from_secs(1)), "{first:?} {second:?}");
        tokio::time::sleep(few.left()).await;
        assert_eq!(few.next_pause(), None);
    }

    #[test]
    fn what_is_settled_is_not_counted() {
        let settling = read("retries=0").unwrap().settling(Duration::from_secs(9));
        assert_eq!((settling.retries, settling.timeout), (None, Duration::from_secs(9)));
    }
}
