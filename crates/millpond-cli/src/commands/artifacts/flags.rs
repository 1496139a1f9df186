//! The flags of `millpond artifacts …`.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use millpond::{ArtifactFilter, Cursor, NewArtifact, Only, Provenance, StartAt, Timestamp, VerifyArtifacts, WatchArtifacts};

use super::super::input::{self, PageArgs};

/// Commands on artifacts.
#[derive(Debug, Subcommand)]
pub enum ArtifactsCommand {
    /// Write an artifact, from a file or from stdin; whoever reads meanwhile reads what was there before
    Put(Box<PutArgs>),
    /// Print the bytes of an artifact, or write them to a file; nothing is handed out that was not compared
    Get(GetArgs),
    /// Show what is known of an artifact
    #[command(visible_alias = "show")]
    Metadata {
        /// The key
        key: String,
    },
    /// List artifacts in the order of their keys
    #[command(alias = "ls")]
    List(Box<ListArgs>),
    /// List what lies directly below a prefix, as a folder: artifacts, and what further keys have in common
    Browse(BrowseArgs),
    /// Name the bytes of an artifact under a further key; no byte is moved
    #[command(alias = "cp")]
    Copy {
        /// The artifact
        from: String,
        /// The further key
        to: String,
    },
    /// Delete an artifact; its versions stay
    #[command(alias = "rm")]
    Delete {
        /// The key
        key: String,
    },
    /// List the versions of an artifact, deletions among them, the newest first
    History {
        /// The key
        key: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Print an address from which whoever has it may read the bytes; only places such as S3 give these out
    Url {
        /// The key
        key: String,
        /// How long it works
        #[arg(long = "for", value_name = "LENGTH", value_parser = input::duration, default_value = "1h")]
        lasting: Duration,
    },
    /// Write every artifact of an execution to a file of its own; started again, it goes on where it was
    Download {
        /// The execution
        execution: String,
        /// The folder, below which every key is a path
        #[arg(long, value_name = "DIR")]
        output_dir: PathBuf,
    },
    /// Follow what is written and deleted; each line carries the cursor to resume after it. Exit code 5 when an event was
    /// damaged
    Watch(WatchArgs),
    /// Forget old versions; those that are pinned, running or referenced stay, and it is told by whom. Exit code 5 when a
    /// record does not read back: what it may be about stays
    PurgeVersions(super::purge::PurgeArgs),
    /// Look whether the bytes of all artifacts, and of large checkpoints and dead letters, are there, and compare a sample of
    /// them; exit code 5 when some are damaged
    Verify(VerifyArgs),
    /// Show where the bytes are, as the namespace remembers it
    Place {
        /// Say that all objects were copied to this place, or, with `beside`, to the store's own; a sample of them has to
        /// be there. End the programs that write first
        #[arg(long, value_name = "PLACE")]
        moved: Option<String>,
    },
}

/// Flags of `artifacts put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The key, such as executions/EXECUTION/ROUTE/STAGE/MESSAGE.EXT; of such keys the parts need not be said again
    pub(super) key: String,
    /// The file with the bytes; - is stdin
    #[arg(default_value = "-")]
    pub(super) file: String,
    /// What kind of bytes they are; found out if not said
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The execution it comes from, such as a run
    #[arg(long)]
    execution: Option<String>,
    /// The route within the pipeline
    #[arg(long)]
    route: Option<String>,
    /// The stage of the route
    #[arg(long)]
    stage: Option<String>,
    /// The adapter that wrote it
    #[arg(long)]
    adapter: Option<String>,
    /// The message it was made from
    #[arg(long)]
    message: Option<String>,
    /// When it was written, by whoever wrote it
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    written_at: Option<Timestamp>,
    /// The hash of the configuration it was made with
    #[arg(long, value_name = "HASH")]
    config_hash: Option<String>,
    /// The row of its lineage
    #[arg(long, value_name = "ROW")]
    lineage: Option<String>,
    /// What it belongs together with
    #[arg(long)]
    correlation: Option<String>,
    /// The document it is of
    #[arg(long)]
    document: Option<String>,
    /// The key it had where it comes from
    #[arg(long, value_name = "KEY")]
    original_key: Option<String>,
    /// A field of your own
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    custom: Vec<(String, String)>,
    /// Only if there is none
    #[arg(long, conflicts_with = "revision")]
    create: bool,
    /// Only in the place of the one with this revision
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
}

impl PutArgs {
    /// What is said of the artifact.
    pub(super) fn new_artifact(self) -> NewArtifact {
        NewArtifact {
            content_type: self.content_type,
            provenance: Provenance {
                execution: self.execution,
                route: self.route,
                stage: self.stage,
                adapter: self.adapter,
                message: self.message,
                written_at: self.written_at,
            },
            config_hash: self.config_hash,
            lineage: self.lineage,
            correlation: self.correlation,
            document: self.document,
            original_key: self.original_key,
            custom: input::json_map(self.custom),
            only: match (self.create, self.revision) {
                (true, _) => Only::New,
                (false, Some(revision)) => Only::Revision(revision),
                (false, None) => Only::Always,
            },
        }
    }
}

/// Flags of `artifacts get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The key
    pub(super) key: String,
    /// The file to write, which comes about whole or not at all; - is stdout
    #[arg(default_value = "-")]
    pub(super) file: String,
    /// Only these bytes, the first being 0; either end may be left out
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub(super) range: Option<Range<u64>>,
    /// This version, as the history names it, also one that was written over or deleted since
    #[arg(long, value_name = "VERSION")]
    pub(super) version: Option<String>,
}

impl GetArgs {
    /// The file, unless it is stdout.
    pub(super) fn path(&self) -> Option<PathBuf> {
        (self.file != "-").then(|| PathBuf::from(&self.file))
    }
}

/// Flags of `artifacts list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What the key begins with, by bytes; %, _ and * are ordinary characters
    #[arg(default_value = "")]
    prefix: String,
    /// Take the prefix for a folder: a/b takes a/b/c, and not a/bc
    #[arg(long)]
    segments: bool,
    /// Of this execution
    #[arg(long)]
    execution: Option<String>,
    /// Of this route
    #[arg(long)]
    route: Option<String>,
    /// Of this stage
    #[arg(long)]
    stage: Option<String>,
    /// With this correlation
    #[arg(long)]
    correlation: Option<String>,
    /// Of this document
    #[arg(long)]
    document: Option<String>,
    /// Whose keys end with this extension
    #[arg(long, value_name = "EXT", value_parser = extension)]
    extension: Option<String>,
    /// Written since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// Written before this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    page: PageArgs,
}

impl ListArgs {
    /// The filter these flags ask for.
    pub(super) fn filter(self) -> ArtifactFilter {
        ArtifactFilter {
            prefix: self.prefix,
            segments: self.segments,
            execution: self.execution,
            route: self.route,
            stage: self.stage,
            correlation: self.correlation,
            document: self.document,
            extension: self.extension,
            created_from: self.since,
            created_before: self.until,
            limit: self.page.limit,
            after: self.page.after,
        }
    }
}

/// Flags of `artifacts browse`.
#[derive(Debug, Args)]
pub struct BrowseArgs {
    /// The prefix; with the delimiter at its end it is a folder
    #[arg(default_value = "")]
    pub(super) prefix: String,
    /// What parts folders
    #[arg(long, value_name = "TEXT", default_value = "/")]
    pub(super) delimiter: String,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(super) limit: usize,
    /// Continue after this name
    #[arg(long, value_name = "NAME")]
    pub(super) after: Option<String>,
}

/// Flags of `artifacts watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Of this execution
    #[arg(long)]
    execution: Option<String>,
    /// Of this route
    #[arg(long)]
    route: Option<String>,
    /// Of this stage
    #[arg(long)]
    stage: Option<String>,
    /// Whose keys begin with this
    #[arg(long, value_name = "TEXT", default_value = "", alias = "path")]
    prefix: String,
    /// Whose keys end with this extension
    #[arg(long, value_name = "EXT", value_parser = extension)]
    extension: Option<String>,
    /// Resume after this cursor or position; without it everything kept is shown first
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// Show only what is committed from now on
    #[arg(long, conflicts_with = "after")]
    now: bool,
    /// Stop when everything committed so far was shown
    #[arg(long)]
    pub(super) once: bool,
    /// Stop when the execution, which has to be a run then, is over and everything was shown
    #[arg(long, conflicts_with = "once", requires = "execution")]
    until_ended: bool,
    /// Stop after so many
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
}

impl WatchArgs {
    /// What these flags ask for.
    pub(super) fn request(&self) -> WatchArtifacts {
        WatchArtifacts {
            execution: self.execution.clone(),
            route: self.route.clone(),
            stage: self.stage.clone(),
            extension: self.extension.clone(),
            prefix: self.prefix.clone(),
            start: match &self.after {
                Some(cursor) => StartAt::After(cursor.clone()),
                None if self.now => StartAt::Now,
                None => StartAt::Oldest,
            },
            until_ended: self.until_ended,
        }
    }
}

/// Flags of `artifacts verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only artifacts whose keys begin with this
    #[arg(default_value = "")]
    prefix: String,
    /// Every version, those that were written over or deleted since too
    #[arg(long, conflicts_with = "prefix")]
    versions: bool,
    /// Read and compare all bytes of so many; of the others only their length is compared
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "0%")]
    read_data: f64,
    /// Another number chooses others to be read
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl VerifyArgs {
    /// What these flags ask for.
    pub(super) fn request(self) -> VerifyArtifacts {
        VerifyArtifacts { prefix: self.prefix, versions: self.versions, read_percent: self.read_data, seed: self.seed }
    }
}

/// A share such as `5%`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    let wrong = || format!("{text:?} is no share; write it like 5%");
    number.ok().filter(|share| (0.0..=100.0).contains(share)).ok_or_else(wrong)
}

/// An extension as artifacts keep it: in lower case, without its dot.
fn extension(text: &str) -> Result<String, String> {
    let extension = text.trim_start_matches('.').to_lowercase();
    if extension.is_empty() { Err(format!("{text:?} is no extension; write it like html")) } else { Ok(extension) }
}

/// Bytes from one up to, and without, another.
fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is no range; write it like 0..100, 100.. or ..100");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let end = |text: &str, otherwise| if text.is_empty() { Ok(otherwise) } else { text.parse().map_err(|_| wrong()) };
    let (from, to) = (end(from, 0)?, end(to, u64::MAX)?);
    if from > to { Err(format!("{text:?} ends before it begins")) } else { Ok(from..to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range("3..7"), Ok(3..7));
        assert_eq!(range("3.."), Ok(3..u64::MAX));
        assert_eq!(range("..7"), Ok(0..7));
        for bad in ["", "3", "7..3", "a..b", "3..=7", "-1..2"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!((percent("5%"), percent("0.5"), percent("100%")), (Ok(5.0), Ok(0.5), Ok(100.0)));
        for bad in ["", "%", "-1%", "101%", "NaN", "5%%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }
}
