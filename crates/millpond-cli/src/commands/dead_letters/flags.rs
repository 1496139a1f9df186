//! The flags of `millpond dead-letters …`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use millpond::{AnalysisRequest, DeadLetterFilter, DeadLetterState, Error, Result, Timestamp};

use super::super::input::{self, PageArgs};

/// Commands on dead letters. A letter is named by its job and its item.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Add an item that failed too often
    Add(Box<AddArgs>),
    /// List letters, last failed first; --by signature groups them
    #[command(alias = "ls")]
    List(ListArgs),
    /// Count letters
    Count(FilterArgs),
    /// Show one letter
    #[command(alias = "show")]
    Get(Letter),
    /// Show how a letter failed, attempt by attempt
    Attempts(Letter),
    /// Take letters into your hands for a time; prints the token of each
    Claim(ClaimArgs),
    /// Keep a claimed letter longer
    Extend {
        #[command(flatten)]
        claim: ClaimedArgs,
        /// How long from now
        #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "5m")]
        visibility: Duration,
    },
    /// Say that a claimed letter was worked off
    Complete(ClaimedArgs),
    /// Give a claimed letter back
    Release(ClaimedArgs),
    /// Say that a claimed letter failed again
    RetryLater {
        #[command(flatten)]
        claim: ClaimedArgs,
        /// What went wrong
        #[arg(long, value_name = "TEXT")]
        error: String,
        /// What kind of trouble, such as Timeout
        #[arg(long = "type", value_name = "TYPE", default_value = "Unknown")]
        kind: String,
        /// When it may be claimed again
        #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "1m")]
        delay: Duration,
    },
    /// Put letters back to work: one by name, or all that meet conditions
    Requeue(RequeueArgs),
    /// Give a letter up, with a reason
    Discard {
        #[command(flatten)]
        letter: Letter,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who does it
        #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "someone")]
        by: String,
    },
    /// Numbers over all letters, or those of one job
    Stats {
        /// The job
        #[arg(long)]
        job: Option<String>,
    },
    /// Which errors are the same, how often, since when
    #[command(alias = "analyse")]
    Analyze(AnalyzeArgs),
    /// List jobs that have letters
    Jobs {
        /// Only those with open letters
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Delete letters that failed last before a moment
    Purge {
        /// The moment, or so long ago
        #[arg(long, value_name = "WHEN", value_parser = input::moment)]
        older_than: Timestamp,
        /// Only of this job
        #[arg(long)]
        job: Option<String>,
        /// Only in these states; claimed ones only if named here
        #[arg(long, value_delimiter = ',')]
        state: Vec<DeadLetterState>,
    },
}

/// One letter.
#[derive(Debug, Args)]
pub struct Letter {
    /// The job
    pub(super) job: String,
    /// The item
    pub(super) item: String,
}

/// A letter in these hands.
#[derive(Debug, Args)]
pub struct ClaimedArgs {
    #[command(flatten)]
    pub(super) letter: Letter,
    /// The token of the claim
    #[arg(long, value_name = "N")]
    pub(super) token: u64,
}

/// Flags of `dead-letters add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    #[command(flatten)]
    pub(super) letter: Letter,
    /// What failed
    #[arg(long, value_name = "TEXT")]
    pub(super) error: String,
    /// What kind of trouble: Timeout, ValidationFailed, … or a word of your own
    #[arg(long = "type", value_name = "TYPE", default_value = "Unknown")]
    pub(super) kind: String,
    /// The item as JSON; @FILE reads a file, - stdin
    #[arg(long, value_name = "JSON")]
    pub(super) data: Option<String>,
    /// The step that failed
    #[arg(long, value_name = "STEP", default_value = "")]
    pub(super) step: String,
    /// The agent or worker
    #[arg(long, default_value = "")]
    pub(super) agent: String,
    /// It is not to be tried again without a decision
    #[arg(long)]
    pub(super) not_eligible: bool,
    /// A person has to look at it
    #[arg(long)]
    pub(super) review: bool,
    /// Open letters the job holds before the oldest are evicted
    #[arg(long, value_name = "N", default_value_t = millpond::DEAD_LETTER_CAPACITY)]
    pub(super) capacity: u32,
}

/// What letters are grouped by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum By {
    /// The error's signature
    Signature,
}

/// Flags of `dead-letters list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Group them
    #[arg(long, value_enum)]
    pub(super) by: Option<By>,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
}

/// Conditions on letters.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Of this job
    #[arg(long)]
    pub(super) job: Option<String>,
    /// In one of these states: pending, claimed, completed, discarded
    #[arg(long, value_delimiter = ',')]
    pub(super) state: Vec<DeadLetterState>,
    /// That ever failed with this kind of error
    #[arg(long, value_name = "TYPE")]
    pub(super) error_type: Option<String>,
    /// That failed last with one of these
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    pub(super) last_error_type: Vec<String>,
    /// That may be tried again (true) or not (false)
    #[arg(long, value_name = "BOOL")]
    pub(super) eligible: Option<bool>,
    /// That a person has to look at (true) or not (false)
    #[arg(long, value_name = "BOOL")]
    pub(super) review: Option<bool>,
    /// Failed last since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    pub(super) since: Option<Timestamp>,
    /// Failed last before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    pub(super) until: Option<Timestamp>,
    /// With this error signature: all of it, PREFIX* or *PART*
    #[arg(long, value_name = "PATTERN")]
    pub(super) signature: Option<String>,
    #[command(flatten)]
    pub(super) page: PageArgs,
}

impl FilterArgs {
    pub(super) fn build(self) -> Result<DeadLetterFilter> {
        let mut filter = DeadLetterFilter {
            job: self.job,
            states: self.state,
            error_type: self.error_type,
            last_error_types: self.last_error_type,
            eligible: self.eligible,
            review: self.review,
            last_attempt_from: self.since,
            last_attempt_before: self.until,
            limit: self.page.limit,
            after: self.page.after,
            ..DeadLetterFilter::default()
        };
        if let Some(pattern) = self.signature {
            let inner = pattern.trim_matches('*').to_owned();
            match (pattern.starts_with('*'), pattern.ends_with('*')) {
                _ if inner.contains('*') => {
                    return Err(Error::invalid(format!("{pattern:?} has a * in the middle")).with_next("write PREFIX* or *PART*"));
                }
                (false, false) => filter.signature = Some(inner),
                (false, true) => filter.signature_prefix = Some(inner),
                (true, true) => filter.signature_contains = Some(inner),
                (true, false) => {
                    return Err(Error::invalid(format!("{pattern:?} asks for an end, which no index answers"))
                        .with_next("write PREFIX* or *PART*"));
                }
            }
        }
        Ok(filter)
    }
}

/// Flags of `dead-letters claim`.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// Only of this job
    #[arg(long)]
    pub(super) job: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) limit: usize,
    /// How long they are yours: then they come back by themselves
    #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "5m")]
    pub(super) visibility: Duration,
    /// Whose hands
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "someone")]
    pub(super) by: String,
}

/// Flags of `dead-letters requeue`.
#[derive(Debug, Args)]
pub struct RequeueArgs {
    /// One letter: its job and its item
    #[arg(num_args = 2, value_names = ["JOB", "ITEM"], conflicts_with_all = ["signature", "state", "error_type"])]
    pub(super) letter: Vec<String>,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Only show what would be requeued
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Flags of `dead-letters analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Only of this job
    #[arg(long)]
    pub(super) job: Option<String>,
    /// Failed last since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    pub(super) since: Option<Timestamp>,
    /// Failed last before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    pub(super) until: Option<Timestamp>,
    /// Count over time in pieces of this length
    #[arg(long, value_name = "LENGTH", value_parser = input::duration, default_value = "1h")]
    pub(super) bucket: Duration,
    /// At most so many patterns
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) limit: usize,
    /// Letters shown of each pattern
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) samples: usize,
}

impl AnalyzeArgs {
    pub(super) fn request(self) -> AnalysisRequest {
        AnalysisRequest {
            job: self.job,
            from: self.since,
            before: self.until,
            bucket: self.bucket,
            patterns: self.limit,
            samples: self.samples,
        }
    }
}
