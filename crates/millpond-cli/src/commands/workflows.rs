//! `millpond workflows …`: immutable versions of definitions.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use millpond::{Error, NewWorkflow, Result, Tags, Timestamp, VersionRef, WorkflowFilter};

use super::input::{self, PageArgs};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{self, Column, value, values};

/// Commands on workflows.
#[derive(Debug, Subcommand)]
pub enum WorkflowsCommand {
    /// Store a definition as a new version
    Store(StoreArgs),
    /// Show one version
    #[command(alias = "show")]
    Get {
        /// The version, such as etl@3
        version: VersionRef,
        /// Print the definition alone, as YAML
        #[arg(long)]
        yaml: bool,
    },
    /// Show the latest version
    Latest {
        /// The workflow
        id: String,
        /// Print the definition alone, as YAML
        #[arg(long)]
        yaml: bool,
    },
    /// List workflows, or the versions of one
    #[command(alias = "ls")]
    List {
        /// The workflow whose versions are listed
        id: Option<String>,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// List versions of all workflows that meet conditions
    Find {
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Delete one version; its place in the lineage stays
    #[command(alias = "rm")]
    Delete {
        /// The version, such as etl@3
        version: VersionRef,
        /// Who deletes it
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// What differs between two versions
    Diff {
        /// The older one, such as etl@2
        old: VersionRef,
        /// The newer one
        new: VersionRef,
    },
    /// Where a version comes from
    Lineage {
        /// The version, such as etl@3
        version: VersionRef,
    },
    /// The versions it was made from, nearest first
    Ancestors {
        /// The version, such as etl@3
        version: VersionRef,
        /// At most this many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// The versions that were made from it
    Children {
        /// The version, such as etl@3
        version: VersionRef,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// Flags of `workflows store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The definition as YAML or JSON, or a version as `get -o json` prints it; - is stdin
    file: String,
    /// The workflow's id; else the definition's own
    #[arg(long)]
    id: Option<String>,
    /// This version; else the definition's own, else the next
    #[arg(long, value_name = "N", conflicts_with = "next")]
    as_version: Option<u32>,
    /// The next version, whatever the definition says; of a version, made from it
    #[arg(long)]
    next: bool,
    /// The version it was made from, such as etl@2
    #[arg(long, value_name = "VERSION")]
    parent: Option<VersionRef>,
    /// Why it was made
    #[arg(long, value_name = "TEXT")]
    reasoning: Option<String>,
    /// A tag: a word, or NAME=VALUE for all of them
    #[arg(long)]
    tag: Vec<String>,
    /// Who made it
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

/// Conditions on workflows.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// The id begins with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// The name holds this, case-sensitive
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// With this tag: a word, or NAME=VALUE
    #[arg(long)]
    tag: Option<String>,
    /// By this author
    #[arg(long)]
    author: Option<String>,
    /// Stored since this moment, or so long ago
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    since: Option<Timestamp>,
    /// Stored before this moment
    #[arg(long, value_name = "WHEN", value_parser = input::moment)]
    until: Option<Timestamp>,
    /// Also workflows of which every version was deleted
    #[arg(long)]
    deleted: bool,
    #[command(flatten)]
    page: PageArgs,
}

impl FilterArgs {
    fn build(self) -> WorkflowFilter {
        WorkflowFilter {
            id_prefix: self.prefix,
            name_contains: self.name,
            tag: self.tag,
            author: self.author,
            from: self.since,
            to: self.until,
            deleted: self.deleted,
            limit: self.page.limit,
            after: self.page.after,
        }
    }

    /// Whether anything but the page was said.
    fn has_conditions(&self) -> bool {
        let texts = [&self.prefix, &self.name, &self.tag, &self.author];
        texts.iter().any(|t| t.is_some()) || self.since.is_some() || self.until.is_some() || self.deleted
    }
}

const HEADS: [Column; 6] = [
    Column::new("workflow", "/id"),
    Column::new("latest", "/latest"),
    Column::new("versions", "/versions"),
    Column::new("name", "/name"),
    Column::new("author", "/author"),
    Column::new("tags", "/tags"),
];

const VERSIONS: [Column; 6] = [
    Column::new("workflow", "/id"),
    Column::new("version", "/version"),
    Column::new("stored", "/created_at"),
    Column::new("author", "/author"),
    Column::new("parent", "/parent/version"),
    Column::new("reasoning", "/reasoning"),
];

const LINEAGE: [Column; 6] = [
    Column::new("workflow", "/id"),
    Column::new("version", "/version"),
    Column::new("stored", "/created_at"),
    Column::new("author", "/author"),
    Column::new("deleted", "/deleted_at"),
    Column::new("reasoning", "/reasoning"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: WorkflowsCommand) -> Result<Exit> {
    let pond = match &command {
        WorkflowsCommand::Store(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let workflows = pond.workflows();
    match command {
        WorkflowsCommand::Store(args) => {
            let stored = workflows.store(&new_workflow(args)?).await?;
            ctx.out.say(stored.reference(), &value(&stored)?)?;
        }
        WorkflowsCommand::Get { version, yaml } => {
            let found = workflows.require(&version.id, version.version).await?;
            show(ctx, &found.value, &value(&found)?, yaml)?;
        }
        WorkflowsCommand::Latest { id, yaml } => {
            let found = workflows.latest(&id).await?;
            let found = found.ok_or_else(|| Error::not_found(format!("workflow {id:?} has no version")))?;
            show(ctx, &found.value, &value(&found)?, yaml)?;
        }
        WorkflowsCommand::List { id: Some(id), filter } => {
            if filter.has_conditions() {
                return Err(Error::invalid("the versions of one workflow are listed without conditions").with_next(
                    "leave the id out to list workflows, or ask for versions with: millpond workflows find --prefix ID",
                ));
            }
            let id = input::whole_workflow(id, "workflows get")?;
            ctx.out.found(&VERSIONS, &workflows.list(&id, filter.page.limit, filter.page.after).await?)?;
        }
        WorkflowsCommand::List { id: None, filter } => ctx.out.found(&HEADS, &workflows.list_all(&filter.build()).await?)?,
        WorkflowsCommand::Find { filter } => ctx.out.found(&VERSIONS, &workflows.find(&filter.build()).await?)?,
        WorkflowsCommand::Delete { version, by } => {
            workflows.require(&version.id, version.version).await?;
            ctx.confirm(format_args!("deleting workflow {version}"), &version.to_string())?;
            let was_there = workflows.delete(&version.id, version.version, by.as_deref()).await?;
            ctx.out.deleted(format_args!("workflow {version}"), was_there)?;
        }
        WorkflowsCommand::Diff { old, new } => {
            let diff = workflows.diff(&old, &new).await?;
            let text = if diff.is_empty() { format!("{old} and {new} are the same") } else { diff.trim_end().to_owned() };
            ctx.out.say(text, &serde_json::json!({ "old": old.to_string(), "new": new.to_string(), "diff": diff }))?;
        }
        WorkflowsCommand::Lineage { version } => {
            ctx.out.one(format_args!("workflow {version}"), workflows.lineage(&version).await?.as_ref())?;
        }
        WorkflowsCommand::Ancestors { version, limit } => {
            let ancestors = workflows.ancestors(&version, limit).await?;
            ctx.out.list(&LINEAGE, &values(&ancestors.items)?)?;
            if let Some(next) = ancestors.next {
                crate::report::note(format_args!("there are more: millpond workflows ancestors {next}"));
            }
        }
        WorkflowsCommand::Children { version, page } => {
            ctx.out.found(&LINEAGE, &workflows.children(&version, page.limit, page.after).await?)?;
        }
    }
    pond.close().await?;
    Ok(Exit::Ok)
}

fn new_workflow(args: StoreArgs) -> Result<NewWorkflow> {
    let mut new = given(&args.file, args.next)?;
    new.id = args.id.or(new.id);
    new.version = args.as_version.or(new.version);
    new.parent = args.parent.or(new.parent);
    new.reasoning = args.reasoning.or(new.reasoning);
    new.author = args.author.or(new.author);
    if !args.tag.is_empty() {
        let pairs: Option<BTreeMap<String, String>> =
            args.tag.iter().map(|t| t.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect();
        new.tags = Some(pairs.map_or(Tags::List(args.tag), Tags::Map));
    }
    Ok(new)
}

/// A definition, or a whole version as `get -o json` prints it; perhaps to be stored as the next version.
fn given(file: &str, next: bool) -> Result<NewWorkflow> {
    let text = input::read_text(file)?;
    // JSON is YAML, so one reader takes both.
    let document = millpond::yaml::parse(&text)?;
    if !NewWorkflow::is_version(&document) {
        let new = NewWorkflow::from_yaml(&input::without_store_field(text))?;
        return Ok(if next { new.next() } else { new });
    }
    if let Some(at) = document.get("created_at").and_then(serde_json::Value::as_str) {
        crate::report::note(format_args!("created_at {at} is not taken over: a version has the moment it is stored at"));
    }
    if next { NewWorkflow::next_of(document) } else { NewWorkflow::from_version(document) }
}

fn show(ctx: &Context, version: &millpond::WorkflowVersion, item: &serde_json::Value, yaml: bool) -> Result<()> {
    if yaml {
        return output::write(&version.to_yaml()?);
    }
    ctx.out.item(item)
}
