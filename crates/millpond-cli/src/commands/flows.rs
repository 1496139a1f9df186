//! `millpond flows …`: visual flows, their versions and what is deployed of them.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use millpond::{
    ComponentConfig, Cursor, Error, Flow, FlowDelivery, FlowFilter, FlowOrder, Flows, Pond, Result, RuntimeState, StartAt,
    Timestamp, VersionRef, Versioned,
};
use serde_json::json;

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Column, value, values};

/// Commands on flows.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Who makes the change: kept in the history
    #[arg(long, value_name = "NAME", global = true)]
    by: Option<String>,
    /// The command.
    #[command(subcommand)]
    command: FlowsCommand,
}

/// Commands on flows.
#[derive(Debug, Subcommand)]
pub enum FlowsCommand {
    /// Create a flow
    Create {
        /// The flow as JSON; - is stdin
        file: String,
    },
    /// Show a flow
    #[command(alias = "show")]
    Get {
        /// The flow's id
        id: String,
    },
    /// Replace a flow; the version in the file has to be the flow's own
    Update {
        /// The flow as JSON; - is stdin
        file: String,
    },
    /// Delete a flow; its history stays
    #[command(alias = "rm")]
    Delete(Target),
    /// List flows
    #[command(alias = "ls")]
    List(ListArgs),
    /// Follow changes of flows
    Watch {
        /// Ids; * stands for one part between dots, > for all that follow
        #[arg(default_value = ">")]
        pattern: String,
        /// Resume after this cursor or position
        #[arg(long, value_name = "CURSOR")]
        after: Option<Cursor>,
        /// Stop when everything committed so far was shown
        #[arg(long)]
        once: bool,
    },
    /// Say everything that is wrong with a flow, without storing it
    Validate {
        /// The flow as JSON; - is stdin
        file: String,
    },
    /// Configure a flow's components, disabled
    Deploy(Target),
    /// Enable a deployed flow's components
    Start(Target),
    /// Disable a running flow's components
    Stop(Target),
    /// Remove a stopped flow's components
    Undeploy(Target),
    /// Mark a flow as failed; its components are disabled
    Fail {
        /// The flow's id
        id: String,
        /// Why
        reason: String,
    },
    /// What is deployed of a flow
    Components {
        /// The flow's id
        id: String,
        /// Only of this node
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// List a flow's versions, newest first; or show one
    History {
        /// The flow, or one version of it, such as ingest@7
        flow: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// The flow as it was at a moment
    AsOf {
        /// The flow's id
        id: String,
        /// The moment, or so long ago
        #[arg(value_parser = input::moment)]
        when: Timestamp,
    },
    /// What differs between two versions
    Diff {
        /// The older one, such as ingest@7
        old: VersionRef,
        /// The newer one
        new: VersionRef,
    },
    /// Make a flow from a static configuration of components
    Import {
        /// A JSON object of components by name; - is stdin
        file: String,
        /// The flow's name
        #[arg(long)]
        name: String,
        /// Only print the flow
        #[arg(long)]
        dry_run: bool,
    },
}

/// A flow, and the version it is expected at.
#[derive(Debug, Args)]
pub struct Target {
    /// The flow's id
    id: String,
    /// Only if this is its version
    #[arg(long, value_name = "N")]
    at_version: Option<i64>,
}

/// How flows are ordered.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Order {
    /// By id
    Id,
    /// Changed last
    Newest,
}

/// Conditions on flows.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The id begins with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// In this state: not_deployed, deployed_stopped, running, error
    #[arg(long, value_parser = state)]
    state: Option<RuntimeState>,
    /// The name holds this, case-sensitive
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Created by
    #[arg(long, value_name = "NAME")]
    created_by: Option<String>,
    /// Changed since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// Changed before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
    /// In this order
    #[arg(long, value_enum, default_value_t = Order::Id)]
    order: Order,
    #[command(flatten)]
    page: PageArgs,
}

fn state(text: &str) -> Result<RuntimeState, String> {
    match serde_json::from_value(text.into()) {
        Ok(RuntimeState::Other(_)) | Err(_) => Err("use not_deployed, deployed_stopped, running or error".to_owned()),
        Ok(state) => Ok(state),
    }
}

const COLUMNS: [Column; 6] = [
    Column::new("flow", "/id"),
    Column::new("version", "/version"),
    Column::new("state", "/runtime_state"),
    Column::new("changed", "/updated_at"),
    Column::new("created by", "/created_by"),
    Column::new("name", "/name"),
];

const HISTORY: [Column; 5] = [
    Column::new("flow", "/id"),
    Column::new("version", "/version"),
    Column::new("when", "/at"),
    Column::new("change", "/change"),
    Column::new("by", "/changed_by"),
];

const COMPONENTS: [Column; 5] = [
    Column::new("node", "/node"),
    Column::new("component", "/name"),
    Column::new("enabled", "/enabled"),
    Column::new("flow version", "/flow_version"),
    Column::new("config", "/config"),
];

/// Runs one.
pub async fn run(ctx: &Context, args: FlowsArgs) -> Result<Exit> {
    if let FlowsCommand::Validate { file } = &args.command {
        return validate(ctx, &read_flow(file)?);
    }
    let pond = match &args.command {
        FlowsCommand::Create { .. } | FlowsCommand::Import { dry_run: false, .. } => ctx.open().await?,
        FlowsCommand::Import { dry_run: true, file, name } => {
            let flow = Flow::from_component_configs(&millpond::SystemHost, name, &read_components(file)?);
            ctx.out.item(&value(&flow)?)?;
            return Ok(Exit::Ok);
        }
        _ => ctx.existing().await?,
    };
    let flows = args.by.into_iter().fold(pond.flows(), |flows, by| flows.by(by));
    change_or_show(ctx, &pond, &flows, args.command).await?;
    pond.close().await?;
    Ok(Exit::Ok)
}

async fn change_or_show(ctx: &Context, pond: &Pond, flows: &Flows, command: FlowsCommand) -> Result<()> {
    match command {
        FlowsCommand::Create { file } => changed(ctx, &flows.create(&read_flow(&file)?).await?),
        FlowsCommand::Get { id } => ctx.out.item(&value(&flows.require(&id).await?)?),
        FlowsCommand::Update { file } => changed(ctx, &flows.update(&read_flow(&file)?).await?),
        FlowsCommand::Delete(t) => {
            flows.require(&t.id).await?;
            ctx.confirm(format_args!("deleting flow {}", t.id), &t.id)?;
            ctx.out.deleted(format_args!("flow {:?}", t.id), flows.delete(&t.id, t.at_version).await?)
        }
        FlowsCommand::List(args) => ctx.out.found(&COLUMNS, &flows.list(&args.filter()).await?),
        FlowsCommand::Watch { pattern, after, once } => watch(ctx, flows, &pattern, after, once).await,
        FlowsCommand::Deploy(t) => changed(ctx, &flows.deploy(&t.id, t.at_version).await?),
        FlowsCommand::Start(t) => changed(ctx, &flows.start(&t.id, t.at_version).await?),
        FlowsCommand::Stop(t) => changed(ctx, &flows.stop(&t.id, t.at_version).await?),
        FlowsCommand::Undeploy(t) => changed(ctx, &flows.undeploy(&t.id, t.at_version).await?),
        FlowsCommand::Fail { id, reason } => changed(ctx, &flows.fail(&id, &reason).await?),
        FlowsCommand::Components { id, node: Some(node), .. } => {
            ctx.out.one(format_args!("a component of node {node:?} of flow {id:?}"), flows.component(&id, &node).await?.as_ref())
        }
        FlowsCommand::Components { id, node: None, page } => {
            ctx.out.found(&COMPONENTS, &flows.components(&id, page.limit, page.after).await?)
        }
        FlowsCommand::History { flow, page } => match flow.parse::<VersionRef>() {
            Ok(at) => ctx.out.one(format_args!("flow {at}"), flows.at_version(&at.id, at.version.into()).await?.as_ref()),
            Err(_) => {
                let page = flows.versions(&flow, page.limit, page.after).await?;
                if page.items.is_empty() && page.damaged.is_empty() {
                    flows.require(&flow).await?;
                }
                ctx.out.found(&HISTORY, &page)
            }
        },
        FlowsCommand::AsOf { id, when } => {
            ctx.out.one(format_args!("flow {id:?} as of {when}"), flows.as_of(&id, when).await?.as_ref())
        }
        FlowsCommand::Diff { old, new } => diff(ctx, flows, &old, &new).await,
        FlowsCommand::Import { file, name, .. } => {
            let flow = Flow::from_component_configs(pond.store().host(), &name, &read_components(&file)?);
            changed(ctx, &flows.create(&flow).await?)
        }
        FlowsCommand::Validate { .. } => Ok(()), // Answered before the store was opened.
    }
}

impl ListArgs {
    fn filter(self) -> FlowFilter {
        FlowFilter {
            id_prefix: self.prefix,
            runtime_state: self.state,
            name_contains: self.name,
            created_by: self.created_by,
            updated_from: self.since,
            updated_to: self.until,
            order: match self.order {
                Order::Id => FlowOrder::Id,
                Order::Newest => FlowOrder::UpdatedNewest,
            },
            limit: self.page.limit,
            after: self.page.after,
        }
    }
}

fn read_flow(file: &str) -> Result<Flow> {
    Flow::from_json(&input::document_file(file)?)
}

fn read_components(file: &str) -> Result<BTreeMap<String, ComponentConfig>> {
    let components = serde_json::from_str(&input::read_text(file)?);
    components.map_err(|e| {
        Error::invalid("not a configuration of components")
            .with_source(e)
            .with_next(r#"write it like {"udp": {"type": "input", "name": "udp", "enabled": true, "config": {}}}"#)
    })
}

fn changed(ctx: &Context, flow: &Versioned<Flow>) -> Result<()> {
    ctx.out.say(format_args!("{}@{} is {}", flow.id, flow.version, flow.runtime_state), &value(flow)?)
}

/// Every problem at once. Exit code 2 when there is one.
fn validate(ctx: &Context, flow: &Flow) -> Result<Exit> {
    let problems = flow.problems();
    if problems.is_empty() {
        ctx.out.say("valid", &json!({ "valid": true, "problems": [] }))?;
        return Ok(Exit::Ok);
    }
    let columns = [Column::new("where", "/path"), Column::new("rule", "/rule"), Column::new("problem", "/message")];
    if ctx.out.is_table() {
        ctx.out.list(&columns, &values(&problems)?)?;
    } else {
        ctx.out.item(&json!({ "valid": false, "problems": problems }))?;
    }
    Ok(Exit::Usage)
}

async fn diff(ctx: &Context, flows: &Flows, old: &VersionRef, new: &VersionRef) -> Result<()> {
    if old.id != new.id {
        return Err(Error::invalid(format!("{old} and {new} are two flows")).with_next("name two versions of one flow"));
    }
    let diff = flows.diff(&old.id, old.version.into(), new.version.into()).await?;
    if ctx.out.is_table() && !diff.is_empty() {
        return output::write(&diff);
    }
    ctx.out.say(
        format_args!("{old} and {new} are the same"),
        &json!({ "old": old.to_string(), "new": new.to_string(), "diff": diff }),
    )
}

async fn watch(ctx: &Context, flows: &Flows, pattern: &str, after: Option<Cursor>, once: bool) -> Result<()> {
    let mut watch = flows.watch(pattern, after.map_or(StartAt::Oldest, StartAt::After))?;
    loop {
        let delivery = if once { watch.try_next().await } else { watch.next().await.map(Some) };
        let delivery = delivery.map_err(super::records::expired)?;
        let Some(delivery) = delivery else { return Ok(()) };
        let cursor = delivery.cursor().to_string();
        match delivery {
            FlowDelivery::Changed(flow, _) => {
                let mut item = value(&*flow)?;
                item["cursor"] = cursor.into();
                ctx.out.line(&COLUMNS, &item)?;
            }
            FlowDelivery::Deleted(gone, _) => {
                let item = json!({ "id": gone.key, "deleted": true, "updated_at": gone.time, "by": gone.by, "cursor": cursor });
                ctx.out
                    .line(&[Column::new("flow", "/id"), Column::word("deleted"), Column::new("when", "/updated_at")], &item)?;
            }
            FlowDelivery::SnapshotEnd(_) if ctx.out.is_table() => {
                crate::report::note("— that is what is there; changes follow —");
            }
            FlowDelivery::SnapshotEnd(_) => ctx.out.line(&[], &json!({ "snapshot_end": true, "cursor": cursor }))?,
            FlowDelivery::Damaged(damaged, _) => crate::report::note(format_args!("damaged: {}: {}", damaged.what, damaged.why)),
        }
    }
}
