//! `millpond sessions …`: long-running work with a state machine.

use std::time::Duration;

use clap::{Args, Subcommand};
use millpond::{
    Error, MapReduceData, MapReducePhase, NewSession, Result, Session, SessionCounts, SessionFilter, SessionStatus, SessionType,
    Timestamp, Versioned, WorkflowData,
};
use serde_json::json;

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, value};

/// Commands on sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// Make a session
    Create(CreateArgs),
    /// Create or replace a session with a whole document
    Save {
        /// The document as JSON; @FILE reads a file, - stdin
        document: String,
        /// Only if it is still at this revision
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Show a session
    #[command(alias = "get", alias = "show")]
    Load {
        /// The session's id
        id: String,
    },
    /// List sessions, newest first
    #[command(alias = "ls")]
    List(ListArgs),
    /// Count sessions
    Count(ListArgs),
    /// Delete a session with what maps it to a job
    #[command(alias = "rm")]
    Delete {
        /// The session's id
        id: String,
        /// Keep what maps it to a job
        #[arg(long)]
        keep_mapping: bool,
    },
    /// Go to another state
    UpdateState {
        /// The session's id
        id: String,
        /// initializing, running, paused, completed, failed or cancelled
        status: SessionStatus,
    },
    /// Go to the state failed, with the reason
    Fail {
        /// The session's id
        id: String,
        /// Why
        error: String,
    },
    /// Say how far the work is
    Progress {
        /// The session's id
        id: String,
        /// Steps or items done
        current: u64,
        /// Steps or items in all
        total: u64,
    },
    /// Set metadata; names not given stay
    Metadata {
        /// The session's id
        id: String,
        /// The metadata
        #[arg(value_name = "NAME=JSON", value_parser = input::pair, required = true)]
        set: Vec<(String, String)>,
    },
    /// Say how long an operation took
    Timing {
        /// The session's id
        id: String,
        /// The operation
        operation: String,
        /// How long
        #[arg(value_parser = input::duration)]
        took: Duration,
    },
    /// Add to a session's counters
    AddCounts {
        /// The session's id
        id: String,
        /// Files changed
        #[arg(long, value_name = "N", default_value_t = 0)]
        files_changed: u32,
        /// Iterations completed
        #[arg(long, value_name = "N", default_value_t = 0)]
        iterations: u32,
    },
    /// Sessions that can be taken up again, last changed first
    Resumable(PageArgs),
    /// The session that was interrupted last
    LastInterrupted,
    /// What one session adds up to, or all of them
    Stats {
        /// The session's id; all sessions if left out
        id: Option<String>,
    },
    /// Bring a session and a job together
    MapJob {
        /// The session's id
        session: String,
        /// The job's id
        job: String,
        /// The workflow's name
        workflow: String,
    },
    /// Part a session and its job
    UnmapJob {
        /// The session's id
        session: String,
    },
    /// The job of a session
    JobOf {
        /// The session's id
        session: String,
    },
    /// The session of a job
    SessionOf {
        /// The job's id
        job: String,
    },
    /// List which session has which job
    Mappings(PageArgs),
}

/// Flags of `sessions create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// An id of your own
    #[arg(long)]
    id: Option<String>,
    /// The workflow it runs: its id
    #[arg(long, value_name = "ID", required_unless_present = "job")]
    workflow: Option<String>,
    /// The workflow's name
    #[arg(long, value_name = "NAME", requires = "workflow")]
    workflow_name: Option<String>,
    /// The worktree it works in
    #[arg(long, value_name = "NAME", requires = "workflow")]
    worktree: Option<String>,
    /// The map-reduce job it runs: its id
    #[arg(long, value_name = "ID", conflicts_with = "workflow")]
    job: Option<String>,
    /// The workflow's steps, or the job's items
    #[arg(long, value_name = "N", default_value_t = 0)]
    total: u64,
    /// The job's agents
    #[arg(long, value_name = "N", default_value_t = 0, requires = "job")]
    agents: u64,
    /// Metadata
    #[arg(long, value_name = "NAME=JSON", value_parser = input::pair)]
    metadata: Vec<(String, String)>,
}

/// Conditions on sessions.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// In one of these states
    #[arg(long, value_delimiter = ',')]
    status: Vec<SessionStatus>,
    /// workflow or mapreduce
    #[arg(long = "type", value_name = "TYPE")]
    session_type: Option<SessionType>,
    /// Started since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// Started before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
    /// In this worktree
    #[arg(long, value_name = "NAME")]
    worktree: Option<String>,
    /// Of this workflow
    #[arg(long, value_name = "ID")]
    workflow: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl ListArgs {
    fn filter(self) -> SessionFilter {
        SessionFilter {
            statuses: self.status,
            session_type: self.session_type,
            started_from: self.since,
            started_before: self.until,
            worktree_name: self.worktree,
            workflow_id: self.workflow,
            limit: self.page.limit,
            after: self.page.after,
        }
    }
}

const COLUMNS: [Column; 6] = [
    Column::new("session", "/id"),
    Column::new("type", "/session_type"),
    Column::new("status", "/status"),
    Column::new("started", "/started_at"),
    Column::new("changed", "/updated_at"),
    Column::new("error", "/error"),
];

const MAPPINGS: [Column; 4] = [
    Column::new("session", "/session_id"),
    Column::new("job", "/job_id"),
    Column::new("workflow", "/workflow_name"),
    Column::new("since", "/created_at"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: SessionsCommand) -> Result<Exit> {
    let pond = match &command {
        SessionsCommand::Create(_) | SessionsCommand::Save { .. } => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let sessions = pond.sessions();
    match command {
        SessionsCommand::Create(args) => {
            let session = sessions.create(new_session(args)).await?;
            ctx.out.say(&session.id, &value(&session)?)?;
        }
        SessionsCommand::Save { document, revision } => {
            let session: Session = serde_json::from_value(input::document(&document)?).map_err(|e| {
                Error::invalid("not a session").with_source(e).with_next("millpond sessions load ID -o json shows one")
            })?;
            let saved = match revision {
                Some(revision) => {
                    let now = pond.store().now();
                    let position = millpond::Position::ZERO;
                    sessions.update(&Versioned { value: session, revision, position, time: now, by: None }).await?
                }
                None => sessions.save(&session).await?,
            };
            changed(ctx, &saved)?;
        }
        SessionsCommand::Load { id } => ctx.out.one(format_args!("session {id:?}"), sessions.load(&id).await?.as_ref())?,
        SessionsCommand::List(args) => ctx.out.found(&COLUMNS, &sessions.list(&args.filter()).await?)?,
        SessionsCommand::Count(args) => {
            let count = sessions.count(&args.filter()).await?;
            ctx.out.say(count, &json!({ "count": count }))?;
        }
        SessionsCommand::Delete { id, keep_mapping } => {
            if sessions.load(&id).await?.is_none() {
                return Err(Error::not_found(format!("session {id} does not exist")));
            }
            ctx.confirm(format_args!("deleting session {id}"), &id)?;
            let was_there = if keep_mapping { sessions.delete(&id).await? } else { sessions.delete_with_mapping(&id).await? };
            ctx.out.deleted(format_args!("session {id}"), was_there)?;
        }
        SessionsCommand::UpdateState { id, status } => changed(ctx, &sessions.update_state(&id, status).await?)?,
        SessionsCommand::Fail { id, error } => changed(ctx, &sessions.fail(&id, &error).await?)?,
        SessionsCommand::Progress { id, current, total } => changed(ctx, &sessions.set_progress(&id, current, total).await?)?,
        SessionsCommand::Metadata { id, set } => {
            let receipt = sessions.merge_metadata(&id, &input::json_map(set)).await?;
            ctx.out.say(format_args!("{id}: metadata set"), &value(&receipt)?)?;
        }
        SessionsCommand::Timing { id, operation, took } => {
            let receipt = sessions.set_timing(&id, &operation, took).await?;
            ctx.out.say(format_args!("{id}: {operation} took {took:?}"), &value(&receipt)?)?;
        }
        SessionsCommand::AddCounts { id, files_changed, iterations } => {
            let receipt = sessions.add_counts(&id, SessionCounts { files_changed, iterations }).await?;
            ctx.out.say(format_args!("{id}: counted"), &value(&receipt)?)?;
        }
        SessionsCommand::Resumable(page) => ctx.out.found(&COLUMNS, &sessions.resumable(page.limit, page.after).await?)?,
        SessionsCommand::LastInterrupted => ctx.out.one("an interrupted session", sessions.last_interrupted().await?.as_ref())?,
        SessionsCommand::Stats { id: Some(id) } => ctx.out.item(&value(&sessions.stats(&id).await?)?)?,
        SessionsCommand::Stats { id: None } => ctx.out.item(&value(&sessions.totals().await?)?)?,
        SessionsCommand::MapJob { session, job, workflow } => {
            let mapping = sessions.map_job(&session, &job, &workflow).await?;
            ctx.out.say(format_args!("{session} has job {job}"), &value(&mapping)?)?;
        }
        SessionsCommand::UnmapJob { session } => {
            ctx.out.deleted(format_args!("the job of session {session}"), sessions.unmap_job(&session).await?)?;
        }
        SessionsCommand::JobOf { session } => {
            ctx.out.one(format_args!("a job of session {session:?}"), sessions.job_of(&session).await?.as_ref())?;
        }
        SessionsCommand::SessionOf { job } => {
            ctx.out.one(format_args!("a session of job {job:?}"), sessions.session_of(&job).await?.as_ref())?;
        }
        SessionsCommand::Mappings(page) => ctx.out.found(&MAPPINGS, &sessions.mappings(page.limit, page.after).await?)?,
    }
    pond.close().await?;
    Ok(Exit::Ok)
}

fn changed(ctx: &Context, session: &Versioned<Session>) -> Result<()> {
    ctx.out.say(format_args!("{} is {} at revision {}", session.id, session.status, session.revision), &value(session)?)
}

fn new_session(args: CreateArgs) -> NewSession {
    let mut new = match args.job {
        Some(job_id) => NewSession::mapreduce(MapReduceData {
            job_id,
            total_items: args.total,
            processed_items: 0,
            failed_items: 0,
            agent_count: args.agents,
            phase: MapReducePhase::Setup,
            reduce_results: None,
            extra: Default::default(),
        }),
        None => {
            let id = args.workflow.unwrap_or_default();
            NewSession::workflow(WorkflowData {
                workflow_name: args.workflow_name.unwrap_or_else(|| id.clone()),
                workflow_id: id,
                total_steps: args.total,
                worktree_name: args.worktree,
                ..WorkflowData::default()
            })
        }
    };
    new.id = args.id;
    new.metadata = input::json_map(args.metadata);
    new
}
