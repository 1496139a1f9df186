//! `millpond events …`: what happened, in streams.

use clap::{Args, Subcommand, ValueEnum};
use millpond::{
    Commit, Cursor, Error, EventFilter, EventGroupBy, EventQuery, Events, Json, NewEvent, Pond, Result, Selector, StreamName,
    StreamSelect, Timestamp, limits,
};

use super::input;
use super::records::{WatchSpan, watch};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};

/// Commands on events.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Append one event, or many from a file
    Append(Box<AppendArgs>),
    /// List events in the order they were committed
    #[command(alias = "ls")]
    List(ListArgs),
    /// Follow events; each line carries the cursor to resume after it
    Watch(WatchArgs),
    /// List streams by name
    Streams {
        /// Only names that begin with this
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
        /// Continue after this name
        #[arg(long, value_name = "STREAM")]
        after: Option<String>,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one stream
    Stream {
        /// The stream
        stream: String,
    },
    /// What events add up to; --by counts them in groups
    Stats {
        /// Count by this
        #[arg(long, value_enum)]
        by: Option<By>,
        /// Which events
        #[command(flatten)]
        filter: FilterArgs,
        /// More groups than this are an error
        #[arg(long, value_name = "N", default_value_t = limits::PAGE_ROWS)]
        limit: usize,
    },
    /// Forget a stream's events before a sequence
    Trim {
        /// The stream
        stream: String,
        /// The oldest sequence to keep
        #[arg(long, value_name = "SEQUENCE")]
        before: u64,
    },
    /// Close a stream for good
    Seal {
        /// The stream
        stream: String,
    },
}

/// What events are counted by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum By {
    /// The type
    Type,
    /// The stream
    Stream,
    /// The agent
    Agent,
}

/// Conditions on events; all of them hold.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Of this stream
    #[arg(long, value_name = "STREAM")]
    stream: Option<StreamName>,
    /// Of this job: the stream jobs/JOB
    #[arg(long, value_name = "JOB", conflicts_with_all = ["stream", "streams"])]
    job: Option<String>,
    /// Of streams whose name begins with this
    #[arg(long, value_name = "TEXT", conflicts_with = "stream")]
    streams: Option<String>,
    /// Of one of these types; * stands for any run of characters
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    types: Vec<String>,
    /// By this agent
    #[arg(long)]
    agent: Option<String>,
    /// With this correlation
    #[arg(long)]
    correlation: Option<String>,
    /// From this source
    #[arg(long)]
    source: Option<String>,
    /// With this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = input::pair)]
    label: Vec<(String, String)>,
    /// Since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// Before this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
}

impl FilterArgs {
    /// The one stream that is asked for, if it is one.
    fn named_stream(&self) -> Result<Option<StreamName>> {
        let job = self.job.as_ref().map(|job| StreamName::new(Events::job_stream(job))).transpose()?;
        Ok(self.stream.clone().or(job))
    }

    fn build(self) -> Result<EventFilter> {
        Ok(EventFilter {
            stream: self.named_stream()?.map(StreamSelect::Exactly).or(self.streams.map(StreamSelect::Prefix)),
            types: self.types,
            agent: self.agent,
            correlation: self.correlation,
            source: self.source,
            labels: input::map(self.label),
            from: self.since,
            to: self.until,
        })
    }
}

/// Flags of `events append`.
#[derive(Debug, Args)]
pub struct AppendArgs {
    /// The stream
    stream: String,
    /// What happened, such as page.fetched
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "file")]
    kind: Option<String>,
    /// The body as JSON; @FILE reads a file, - stdin
    #[arg(long, value_name = "JSON", default_value = "null", conflicts_with = "file")]
    data: String,
    /// Appended once, however often it is sent
    #[arg(long, conflicts_with = "file")]
    id: Option<String>,
    /// What it belongs together with
    #[arg(long, conflicts_with = "file")]
    correlation: Option<String>,
    /// The agent or worker
    #[arg(long, conflicts_with = "file")]
    agent: Option<String>,
    /// The program or plugin
    #[arg(long, conflicts_with = "file")]
    source: Option<String>,
    /// A label
    #[arg(long, value_name = "NAME=VALUE", value_parser = input::pair, conflicts_with = "file")]
    label: Vec<(String, String)>,
    /// When it happened; the commit's time if left out
    #[arg(long, value_name = "WHEN", value_parser = input::moment, conflicts_with = "file")]
    time: Option<Timestamp>,
    /// Events as JSON lines, appended in one commit; - is stdin
    #[arg(long, conflicts_with = "kind")]
    file: Option<String>,
}

/// Flags of `events list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Newest first
    #[arg(long)]
    newest: bool,
    /// Continue after this cursor or position
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// Flags of `events watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    span: WatchSpan,
}

const COLUMNS: [Column; 6] = [
    Column::new("position", "/position"),
    Column::new("stream", "/stream"),
    Column::new("seq", "/sequence"),
    Column::new("when", "/time"),
    Column::new("type", "/type"),
    Column::new("data", "/data"),
];

/// An event as one line of a watch.
pub const LINE: [Column; 5] = [
    Column::new("cursor", "/cursor"),
    Column::new("stream", "/stream"),
    Column::new("seq", "/sequence"),
    Column::new("type", "/type"),
    Column::new("data", "/data"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: EventsCommand) -> Result<Exit> {
    match command {
        EventsCommand::Append(args) => append(ctx, *args).await?,
        EventsCommand::List(args) => list(ctx, args).await?,
        EventsCommand::Watch(args) => watch(ctx, Selector::Events(args.filter.build()?), args.span).await?,
        EventsCommand::Streams { prefix, after, limit } => streams(ctx, &prefix, after.as_deref(), limit).await?,
        EventsCommand::Stream { stream } => {
            let found = ctx.existing().await?.events().stream(&stream).await?;
            ctx.out.one(format_args!("stream {stream:?}"), found.as_ref())?;
        }
        EventsCommand::Stats { by, filter, limit } => stats(ctx, by, filter.build()?, limit).await?,
        EventsCommand::Trim { stream, before } => {
            if !ctx.yes() {
                crate::report::confirm(&format!("forgetting the events of {stream} before {before}"), &stream)?;
            }
            let receipt = ctx.existing().await?.events().trim(&stream, before).await?;
            ctx.out.say(format_args!("{stream} begins at {before} now"), &value(&receipt)?)?;
        }
        EventsCommand::Seal { stream } => {
            let pond = ctx.existing().await?;
            require_stream(&pond, &stream).await?;
            ctx.confirm(format_args!("closing {stream} for good"), &stream)?;
            let receipt = pond.commit(Commit::new().seal(&stream)?).await?;
            ctx.out.say(format_args!("{stream} is sealed"), &value(&receipt)?)?;
        }
    }
    Ok(Exit::Ok)
}

/// That a stream was ever appended to.
async fn require_stream(pond: &Pond, stream: &str) -> Result<()> {
    match pond.events().stream(stream).await? {
        Some(_) => Ok(()),
        None => {
            Err(Error::not_found(format!("stream {stream:?} does not exist"))
                .with_next("see what there is: millpond events streams"))
        }
    }
}

async fn append(ctx: &Context, args: AppendArgs) -> Result<()> {
    let events = match &args.file {
        Some(file) => input::read_text(file)?
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(n, line)| event_line(n + 1, line))
            .collect::<Result<Vec<_>>>()?,
        None => vec![NewEvent {
            id: args.id,
            kind: args.kind.unwrap_or_default(),
            time: args.time,
            correlation: args.correlation,
            agent: args.agent,
            source: args.source,
            labels: input::map(args.label),
            data: Json::parse(&input::inline_or_file(&args.data)?)?,
        }],
    };
    let commit = Events::append_part(&args.stream, events)?;
    let pond = ctx.open().await?;
    let receipt = pond.commit(commit).await?;
    pond.close().await?;
    let appended = receipt.sequences.first().map_or((0, 0), |a| (a.first, a.count));
    let text = match appended {
        (_, 0) => format!("nothing new for {}", args.stream),
        (first, 1) => format!("{} {first}", args.stream),
        (first, count) => format!("{} {first} to {}", args.stream, first + count - 1),
    };
    ctx.out.say(text, &value(&receipt)?)
}

fn event_line(number: usize, line: &str) -> Result<NewEvent> {
    let json = Json::parse(line).map_err(|e| e.with("line", number))?;
    serde_json::from_str(json.as_str()).map_err(|e| {
        Error::invalid(format!("line {number} is not an event"))
            .with_source(e)
            .with_next(r#"write it like {"type": "page.fetched", "data": {"n": 1}}"#)
    })
}

async fn list(ctx: &Context, args: ListArgs) -> Result<()> {
    let pond = ctx.existing().await?;
    let store = pond.store();
    let named = args.filter.named_stream()?;
    let after = args.after.as_ref().map(|c| store.resume(c)).transpose()?;
    let mut query = EventQuery::new(args.filter.build()?).after(after).limit(args.limit);
    if args.newest {
        query = query.newest_first();
    }
    let page = pond.events().page(query).await?;
    if let (true, Some(stream)) = (page.items.is_empty() && page.damaged.is_empty(), named) {
        require_stream(&pond, stream.as_str()).await?;
    }
    ctx.out.page(&COLUMNS, &values(&page.items)?, page.next.map(|p| store.cursor(p).to_string()), &page.damaged)
}

async fn streams(ctx: &Context, prefix: &str, after: Option<&str>, limit: usize) -> Result<()> {
    let streams = ctx.existing().await?.events().streams(prefix, after, limit).await?;
    let columns = [
        Column::new("stream", "/stream"),
        Column::new("oldest", "/oldest"),
        Column::new("head", "/head"),
        Column::new("sealed", "/sealed"),
        Column::new("changed", "/time"),
    ];
    let next = if streams.len() == limit { streams.last().map(|s| s.stream.to_string()) } else { None };
    ctx.out.page(&columns, &values(&streams)?, next, &[])
}

async fn stats(ctx: &Context, by: Option<By>, filter: EventFilter, limit: usize) -> Result<()> {
    let events = ctx.existing().await?.events();
    let Some(by) = by else {
        let stats = events.aggregate(filter).await?;
        let mut item = value(&stats)?;
        item["duration_us"] = u64::try_from(stats.duration().as_micros()).unwrap_or(u64::MAX).into();
        return ctx.out.item(&item);
    };
    let by = match by {
        By::Type => EventGroupBy::Kind,
        By::Stream => EventGroupBy::Stream,
        By::Agent => EventGroupBy::Agent,
    };
    let groups = events.groups(filter, by, limit).await?;
    let total: u64 = groups.iter().map(|g| g.count).sum();
    let columns = [
        Column::new("value", "/value"),
        Column::new("count", "/count"),
        Column::new("succeeded", "/succeeded"),
        Column::new("failed", "/failed"),
        Column::new("first", "/first"),
        Column::new("last", "/last"),
    ];
    ctx.out.list(&columns, &values(groups)?)?;
    if ctx.out.is_table() {
        crate::report::note(counted(total, "event"));
    }
    Ok(())
}
