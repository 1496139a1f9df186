//! The commands on lineage and their flags.

use clap::{Args, Subcommand, ValueEnum};
use millpond::{LineageFilter, LineageOrder, LineageStatus, PageCursor, Timestamp, WalkLimits};

use super::super::input::{self, PageArgs};

/// Commands on lineage.
#[derive(Debug, Subcommand)]
pub enum LineageCommand {
    /// Say that a piece of work begins
    Start(Box<NewArgs>),
    /// Write a row all at once, usually of work that is over
    Record(Box<RecordArgs>),
    /// Move a row on to pending, initiated or processing
    Advance {
        /// The row's id
        row: String,
        /// The status it goes to
        status: LineageStatus,
    },
    /// Say that a piece of work was done
    Complete(EndOf),
    /// Say that a piece of work failed
    Fail(EndOf),
    /// Say that a piece of work was given up
    Cancel(EndOf),
    /// Say that a row came from another one, too
    Link {
        /// The row that came from the other
        child: String,
        /// The row it came from
        parent: String,
        /// In which way
        #[arg(long, default_value = millpond::LineageEdge::DERIVED_FROM)]
        kind: String,
    },
    /// Show a row
    #[command(alias = "show")]
    Get {
        /// The row's id
        row: String,
    },
    /// List rows, the one that began last first
    #[command(alias = "ls")]
    List(Box<FilterArgs>),
    /// Count rows
    Count(Box<CountArgs>),
    /// A row with everything it came from and everything that came from it
    Chain(WalkArgs),
    /// Everything a row came from, level by level
    Ancestors(WalkArgs),
    /// Everything that came from a row, level by level
    Descendants(WalkArgs),
    /// The rows that came directly from a row, one for each edge
    Children(NearArgs),
    /// The rows that a row came directly from, one for each edge
    Parents(NearArgs),
    /// Rows that came from no other
    Roots(Box<RootsArgs>),
    /// Rows that failed, the last one first
    Failures(Box<FailuresArgs>),
    /// The rows of a batch, in the order they began
    Batch {
        /// The batch
        batch: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Counts for each route and adapter
    Stats(Box<CountArgs>),
    /// Rows as OpenLineage run events
    Export(Box<ExportArgs>),
}

/// What is said of a new row.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The execution
    pub execution: String,
    /// The route
    pub route: String,
    /// The adapter
    pub adapter: String,
    /// An id of your own
    #[arg(long)]
    pub id: Option<String>,
    /// The adapter's place in its route, from 0
    #[arg(long, value_name = "N")]
    pub adapter_index: Option<u32>,
    /// The stage
    #[arg(long)]
    pub stage: Option<String>,
    /// How it stands, if not as usual
    #[arg(long)]
    pub status: Option<LineageStatus>,
    /// What ties together everything that one message became
    #[arg(long, value_name = "ID")]
    pub correlation: Option<String>,
    /// The row it came from
    #[arg(long, value_name = "ROW")]
    pub parent: Option<String>,
    /// Another row it came from
    #[arg(long, value_name = "ROW")]
    pub derived_from: Vec<String>,
    /// The batch
    #[arg(long)]
    pub batch: Option<String>,
    /// The document it is about
    #[arg(long, value_name = "ID")]
    pub document: Option<String>,
    /// A hash of what went in
    #[arg(long, value_name = "HASH")]
    pub input_hash: Option<String>,
    /// When it began
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    pub started: Option<Timestamp>,
    /// Anything else to keep with it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    pub metadata: Vec<(String, String)>,
}

/// What is said of a row that is written all at once.
#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    pub new: NewArgs,
    #[command(flatten)]
    pub end: EndArgs,
}

/// What is said at the end of a piece of work.
#[derive(Debug, Args)]
pub struct EndArgs {
    /// A hash of what came out
    #[arg(long, value_name = "HASH")]
    pub output_hash: Option<String>,
    /// The key of the artifact that came out
    #[arg(long, value_name = "KEY")]
    pub artifact: Option<String>,
    /// The version of that artifact
    #[arg(long, value_name = "VERSION", requires = "artifact")]
    pub artifact_version: Option<String>,
    /// The unit of work that wrote it
    #[arg(long, value_name = "ID")]
    pub unit: Option<String>,
    /// When it ended
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    pub completed: Option<Timestamp>,
    /// Why it failed or was cancelled: text, or JSON with a message
    #[arg(long, value_name = "JSON")]
    pub error: Option<String>,
}

/// The end of a piece of work that was started.
#[derive(Debug, Args)]
pub struct EndOf {
    /// The row's id
    pub row: String,
    #[command(flatten)]
    pub end: EndArgs,
    /// More to keep with it
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    pub metadata: Vec<(String, String)>,
}

/// How a list of rows is ordered.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Order {
    /// Began last
    Newest,
    /// Began first
    Oldest,
    /// Ended last
    Completed,
    /// Ended first
    FirstCompleted,
}

/// Conditions on rows that every command takes.
#[derive(Debug, Args)]
pub struct Conditions {
    /// Of this execution
    #[arg(long)]
    execution: Option<String>,
    /// Of this route
    #[arg(long)]
    route: Option<String>,
    /// Of this adapter
    #[arg(long)]
    adapter: Option<String>,
    /// Of this stage
    #[arg(long)]
    stage: Option<String>,
    /// Of this correlation
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// With this parent
    #[arg(long, value_name = "ROW")]
    parent: Option<String>,
    /// Of this batch
    #[arg(long)]
    batch: Option<String>,
    /// About this document
    #[arg(long, value_name = "ID")]
    document: Option<String>,
    /// From which the artifact with this key came
    #[arg(long, value_name = "KEY")]
    artifact: Option<String>,
    /// Whose url holds this text, in any case
    #[arg(long, value_name = "TEXT")]
    url: Option<String>,
    /// Whose origin holds this text
    #[arg(long, value_name = "TEXT")]
    origin: Option<String>,
    /// Whose title holds this text
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// That began since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// That began before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
}

impl Conditions {
    fn build(self) -> LineageFilter {
        LineageFilter {
            execution: self.execution,
            route: self.route,
            adapter: self.adapter,
            stage: self.stage,
            correlation: self.correlation,
            parent: self.parent,
            batch: self.batch,
            document: self.document,
            artifact: self.artifact,
            url: self.url,
            origin: self.origin,
            title: self.title,
            started_from: self.since,
            started_before: self.until,
            ..LineageFilter::all()
        }
    }
}

/// A condition on how rows stand. Failures have none: they failed.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// With one of these statuses: pending, initiated, processing, completed, failed, cancelled
    #[arg(long, value_delimiter = ',')]
    status: Vec<LineageStatus>,
}

/// A condition on where rows came from. Roots have none: they came from no other.
#[derive(Debug, Args)]
pub struct RootArgs {
    /// That came from no other row, or that did
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    root: Option<bool>,
}

/// An order of rows.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// In this order
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    order: Order,
}

impl OrderArgs {
    fn build(&self) -> LineageOrder {
        match self.order {
            Order::Newest => LineageOrder::LastStarted,
            Order::Oldest => LineageOrder::FirstStarted,
            Order::Completed => LineageOrder::LastCompleted,
            Order::FirstCompleted => LineageOrder::FirstCompleted,
        }
    }
}

/// Flags of `lineage list`: all of them.
#[derive(Debug, Args)]
pub struct FilterArgs {
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    status: StatusArgs,
    #[command(flatten)]
    root: RootArgs,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    page: PageArgs,
}

impl FilterArgs {
    /// The library's filter.
    pub fn build(self) -> LineageFilter {
        let (order, root, statuses) = (self.order.build(), self.root.root, self.status.status);
        let PageArgs { limit, after } = self.page;
        LineageFilter { statuses, root, order, limit, after, ..self.conditions.build() }
    }
}

/// Flags of `lineage count` and `lineage stats`, which have no order and no pages.
#[derive(Debug, Args)]
pub struct CountArgs {
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    status: StatusArgs,
    #[command(flatten)]
    root: RootArgs,
}

impl CountArgs {
    /// The library's filter.
    pub fn build(self) -> LineageFilter {
        LineageFilter { statuses: self.status.status, root: self.root.root, ..self.conditions.build() }
    }
}

/// Flags of `lineage roots`.
#[derive(Debug, Args)]
pub struct RootsArgs {
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    status: StatusArgs,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    page: PageArgs,
}

impl RootsArgs {
    /// The library's filter.
    pub fn build(self) -> LineageFilter {
        let (order, statuses) = (self.order.build(), self.status.status);
        let PageArgs { limit, after } = self.page;
        LineageFilter { statuses, order, limit, after, ..self.conditions.build() }
    }
}

/// Flags of `lineage failures`, which come the last one first.
#[derive(Debug, Args)]
pub struct FailuresArgs {
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    root: RootArgs,
    #[command(flatten)]
    page: PageArgs,
}

impl FailuresArgs {
    /// The library's filter.
    pub fn build(self) -> LineageFilter {
        let PageArgs { limit, after } = self.page;
        LineageFilter { root: self.root.root, limit, after, ..self.conditions.build() }
    }
}

/// Where a walk begins and how far it goes.
#[derive(Debug, Args)]
pub struct WalkArgs {
    /// The row's id
    pub row: String,
    /// Edges between this row and the last one
    #[arg(long, value_name = "N", default_value_t = 100)]
    depth: u32,
    /// Rows at most, each way
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
}

impl WalkArgs {
    /// How far it goes.
    pub fn limits(&self) -> WalkLimits {
        WalkLimits { depth: self.depth, rows: self.limit }
    }
}

/// A row, and a page of those next to it.
#[derive(Debug, Args)]
pub struct NearArgs {
    /// The row's id
    pub row: String,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Continue after the page that gave out this cursor
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<PageCursor>,
}

/// Flags of `lineage export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Every page, an event a line; --limit is then how many rows are read at once
    #[arg(long)]
    pub all: bool,
}
