//! What dead letters add up to. Everything is counted by the store: an answer moves as many rows as it has groups.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_core::{Answer, Document, Error, Group, Query, Read, Result, Scalar, Timestamp, Versioned, limits};
use serde::Serialize;

use crate::conditions::Conditions;

use super::{DeadLetter, DeadLetterState, DeadLetters};

/// Signatures and buckets one answer shows at most.
const GROUPS: usize = 1_000;

/// Counts over a job's dead letters, or over all.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DeadLetterStats {
    /// All letters, closed ones too.
    pub total: u64,
    /// By state.
    pub by_state: BTreeMap<String, u64>,
    /// Open letters that may be claimed.
    pub eligible: u64,
    /// Open letters that a person has to look at.
    pub requiring_review: u64,
    /// The earliest first attempt of an open letter.
    pub oldest: Option<Timestamp>,
    /// The latest last attempt of an open letter.
    pub newest: Option<Timestamp>,
    /// Failures of an open letter, on average.
    pub average_failures: f64,
    /// Open letters by signature, the thousand most frequent ones.
    pub by_signature: BTreeMap<String, u64>,
    /// True when there are more signatures than are shown.
    pub more_signatures: bool,
}

/// What to analyse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysisRequest {
    /// A job; all if left out.
    pub job: Option<String>,
    /// Last tried at or after this moment (inclusive).
    pub from: Option<Timestamp>,
    /// Last tried before this moment (exclusive).
    pub before: Option<Timestamp>,
    /// The length of the buckets of the distribution over time.
    pub bucket: Duration,
    /// Patterns at most; 1 to 200. The most frequent ones are shown.
    pub patterns: usize,
    /// Samples of each pattern, newest first; 0 to 10.
    pub samples: usize,
}

impl Default for AnalysisRequest {
    fn default() -> Self {
        Self { job: None, from: None, before: None, bucket: Duration::from_secs(3_600), patterns: 50, samples: 3 }
    }
}

/// Letters that share a signature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailurePattern {
    /// The signature.
    pub signature: String,
    /// How many.
    pub count: u64,
    /// The earliest first attempt.
    pub first: Option<Timestamp>,
    /// The latest last attempt.
    pub last: Option<Timestamp>,
    /// Some of them, last attempt first.
    pub samples: Vec<Versioned<DeadLetter>>,
}

/// What failures have in common, and when they happened. Letters of every state.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FailureAnalysis {
    /// Letters in all.
    pub total: u64,
    /// By signature, most frequent first.
    pub patterns: Vec<FailurePattern>,
    /// By the error type of the newest attempt.
    pub error_types: BTreeMap<String, u64>,
    /// By the time of the last attempt: the bucket's begin, and how many. At most a thousand buckets, oldest first.
    pub over_time: Vec<(Timestamp, u64)>,
    /// True when patterns or buckets were left out: ask for less time.
    pub more: bool,
}

impl DeadLetters {
    /// Counts over a job's letters, or over all. One snapshot.
    ///
    /// # Errors
    /// `Invalid` when there are more than 10,000 signatures; what the store fails with.
    pub async fn stats(&self, job: Option<&str>) -> Result<DeadLetterStats> {
        self.count_all(job).await.map_err(|e| e.during("dead_letters.stats"))
    }

    async fn count_all(&self, job: Option<&str>) -> Result<DeadLetterStats> {
        let all = Query::new(DeadLetter::COLLECTION.name())?.given("job_id", job).limit(limits::PAGE_ROWS);
        let open = all.clone().one_of("state", DeadLetterState::OPEN.map(DeadLetterState::as_str));
        let mut groups = self
            .groups(vec![
                group(&all, "state", None),
                group(&open, "state", Some("failure_count")),
                group(&open, "state", Some("first_attempt")),
                group(&open, "state", Some("last_attempt")),
                group(&open, "reprocess_eligible", None),
                group(&open, "manual_review_required", None),
                group(&open, "error_signature", None),
            ])
            .await?
            .into_iter();
        let mut next = || groups.next().unwrap_or_default();
        let mut stats = DeadLetterStats { by_state: counts(next()), ..DeadLetterStats::default() };
        stats.total = stats.by_state.values().sum();
        let failures = next();
        let (open, sum) = failures.iter().fold((0, 0), |(n, s), g| (n + g.count, s + g.sum.unwrap_or(0)));
        #[allow(clippy::cast_precision_loss)] // An average for people.
        if open > 0 {
            stats.average_failures = sum as f64 / open as f64;
        }
        stats.oldest = next().into_iter().filter_map(|g| moment(g.min)).min();
        stats.newest = next().into_iter().filter_map(|g| moment(g.max)).max();
        stats.eligible = of_true(&next());
        stats.requiring_review = of_true(&next());
        let mut signatures = next();
        stats.more_signatures = signatures.len() > GROUPS;
        signatures.sort_by_key(|group| std::cmp::Reverse(group.count));
        signatures.truncate(GROUPS);
        stats.by_signature = counts(signatures);
        Ok(stats)
    }

    /// What failures have in common: by signature with samples, by error type, over time. Counts come from one
    /// snapshot, samples from a later one.
    ///
    /// # Errors
    /// `Invalid` when a limit of the request is out of range, or there are more than 10,000 signatures, types or buckets:
    /// ask for less time or longer buckets.
    pub async fn analyse(&self, request: &AnalysisRequest) -> Result<FailureAnalysis> {
        self.find_patterns(request).await.map_err(|e| e.during("dead_letters.analyse"))
    }

    async fn find_patterns(&self, request: &AnalysisRequest) -> Result<FailureAnalysis> {
        let bucket_ok = request.bucket >= Duration::from_secs(1);
        if !bucket_ok || !(1..=200).contains(&request.patterns) || request.samples > 10 {
            return Err(Error::invalid("an analysis takes buckets of a second or more, 1 to 200 patterns and up to 10 samples"));
        }
        let base = request.query()?;
        let over_time =
            Read::GroupBy { query: base.clone(), field: "last_attempt".into(), bucket: Some(request.bucket), measure: None };
        let mut groups = self
            .groups(vec![
                group(&base, "error_signature", Some("first_attempt")),
                group(&base, "error_signature", Some("last_attempt")),
                group(&base, "last_error_type", None),
                over_time,
            ])
            .await?
            .into_iter();
        let mut next = || groups.next().unwrap_or_default();
        let (firsts, lasts, types, mut buckets) = (next(), next(), next(), next());
        let mut more = buckets.len() > GROUPS;
        buckets.truncate(GROUPS);
        let mut patterns: Vec<FailurePattern> = firsts
            .into_iter()
            .zip(lasts)
            .map(|(first, last)| FailurePattern {
                signature: text(first.value),
                count: first.count,
                first: moment(first.min),
                last: moment(last.max),
                samples: Vec::new(),
            })
            .collect();
        let total = types.iter().map(|g| g.count).sum();
        patterns.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.signature.cmp(&b.signature)));
        more |= patterns.len() > request.patterns;
        patterns.truncate(request.patterns);
        self.sample(&base, request.samples, &mut patterns).await?;
        let over_time = buckets.into_iter().filter_map(|g| Some((moment(g.value)?, g.count))).collect();
        Ok(FailureAnalysis { total, patterns, error_types: counts(types), over_time, more })
    }

    async fn sample(&self, base: &Query, samples: usize, patterns: &mut [FailurePattern]) -> Result<()> {
        if samples == 0 {
            return Ok(());
        }
        let of = |p: &FailurePattern| {
            Read::Query(base.clone().eq("error_signature", p.signature.as_str()).order_desc("last_attempt").limit(samples))
        };
        let answers = self.store.read(patterns.iter().map(of).collect()).await?;
        for (pattern, answer) in patterns.iter_mut().zip(answers) {
            // A letter that does not read back is no sample; lists report it.
            pattern.samples = answer.into_page()?.items.iter().filter_map(|r| r.decode().ok()).collect();
        }
        Ok(())
    }

    async fn groups(&self, reads: Vec<Read>) -> Result<Vec<Vec<Group>>> {
        self.store.read(reads).await?.into_iter().map(Answer::into_groups).collect()
    }
}

impl AnalysisRequest {
    fn query(&self) -> Result<Query> {
        Ok(Query::new(DeadLetter::COLLECTION.name())?
            .given("job_id", self.job.as_ref())
            .between("last_attempt", self.from, self.before)
            .limit(limits::PAGE_ROWS))
    }
}

fn group(query: &Query, field: &str, measure: Option<&str>) -> Read {
    Read::GroupBy { query: query.clone(), field: field.to_owned(), bucket: None, measure: measure.map(str::to_owned) }
}

fn counts(groups: Vec<Group>) -> BTreeMap<String, u64> {
    groups.into_iter().map(|g| (text(g.value), g.count)).collect()
}

fn of_true(groups: &[Group]) -> u64 {
    groups.iter().filter(|g| g.value == Some(Scalar::Bool(true))).map(|g| g.count).sum()
}

fn text(value: Option<Scalar>) -> String {
    match value {
        Some(Scalar::Text(text)) => text,
        _ => String::new(),
    }
}

fn moment(value: Option<Scalar>) -> Option<Timestamp> {
    match value {
        Some(Scalar::Timestamp(t)) => Some(t),
        _ => None,
    }
}
