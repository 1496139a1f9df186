//! Time as every backend keeps it: integer microseconds since 1970, UTC; and the host's clock as a trait.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A moment in integer microseconds since 1970-01-01T00:00:00Z. In documents it is RFC 3339 text.
///
/// ```
/// use millpond_core::Timestamp;
/// let t = Timestamp::parse("2026-11-21T08:00:00.25Z")?;
/// assert_eq!(t.to_string(), "2026-11-21T08:00:00.250000Z");
/// # Ok::<(), millpond_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Parses RFC 3339 text. Digits past the microsecond are cut.
    ///
    /// # Errors
    /// `Invalid` when the text is not a timestamp with an offset.
    pub fn parse(text: &str) -> Result<Self> {
        let parsed: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| {
            Error::invalid(format!("{text:?} is not an RFC 3339 time"))
                .with_source(e)
                .with_next("write it like 2026-11-21T08:00:00Z")
        })?;
        Ok(Self(parsed.as_microsecond()))
    }

    /// This moment plus a duration, at most the largest moment there is.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment minus a duration, at least the smallest moment there is.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time from `earlier` to this moment; zero when it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Self::parse(s)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Where time and randomness come from, so that a test can inject both.
pub trait Host: fmt::Debug + Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// 128 random bits.
    fn random(&self) -> u128;
}

/// The machine's own clock and the operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemHost;

impl Host for SystemHost {
    #[allow(clippy::disallowed_methods)] // The one place that reads the wall clock.
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    #[allow(clippy::disallowed_methods)] // The one place that asks for randomness.
    fn random(&self) -> u128 {
        rand::random()
    }
}

/// A clock that moves only when told, and a counter in place of randomness.
#[derive(Debug)]
pub struct ManualHost {
    now: std::sync::atomic::AtomicI64,
    counter: std::sync::atomic::AtomicU64,
}

impl ManualHost {
    /// A host whose clock stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { now: now.0.into(), counter: 1.into() }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Puts the clock anywhere, also back.
    pub fn set(&self, to: Timestamp) {
        self.now.store(to.0, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Host for ManualHost {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(std::sync::atomic::Ordering::SeqCst))
    }

    fn random(&self) -> u128 {
        let n = self.counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // Spread the counter so that ids differ in their first bits as random ones do.
        (u128::from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64) | u128::from(n)
    }
}
