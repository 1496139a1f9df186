//! `millpond dead-letters …`: what failed too often, to be worked off, requeued or given up.

mod flags;

use std::time::Duration;

use millpond::{
    Claim, ClaimRequest, DeadLetter, DeadLetterFilter, DeadLetterState, DeadLetteredItem, DeadLetters, Error, ErrorType,
    FailureDetail, LetterRef, PurgeRequest, Result, Timestamp, Versioned,
};
use serde_json::{Value, json};

use super::input;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Column, counted, value, values};
pub use flags::DeadLettersCommand;
use flags::{AddArgs, AnalyzeArgs, By, ClaimedArgs, FilterArgs, Letter, RequeueArgs};

const COLUMNS: [Column; 7] = [
    Column::new("job", "/job_id"),
    Column::new("item", "/item_id"),
    Column::new("state", "/state"),
    Column::new("failures", "/failure_count"),
    Column::new("last failed", "/last_attempt"),
    Column::new("eligible", "/reprocess_eligible"),
    Column::new("signature", "/error_signature"),
];

const CLAIMS: [Column; 5] = [
    Column::new("job", "/letter/job_id"),
    Column::new("item", "/letter/item_id"),
    Column::new("token", "/token"),
    Column::new("until", "/until"),
    Column::new("signature", "/letter/error_signature"),
];

const ATTEMPTS: [Column; 5] = [
    Column::new("attempt", "/attempt_number"),
    Column::new("when", "/timestamp"),
    Column::new("error", "/error_type"),
    Column::new("step", "/step_failed"),
    Column::new("message", "/error_message"),
];

const PATTERNS: [Column; 4] = [
    Column::new("count", "/count"),
    Column::new("first", "/first"),
    Column::new("last", "/last"),
    Column::new("signature", "/signature"),
];

/// Runs one.
pub async fn run(ctx: &Context, command: DeadLettersCommand) -> Result<Exit> {
    let pond = match &command {
        DeadLettersCommand::Add(_) => ctx.open().await?,
        _ => ctx.existing().await?,
    };
    let letters = pond.dead_letters();
    let now = pond.store().now();
    let mut exit = Exit::Ok;
    match command {
        DeadLettersCommand::Add(args) => add(ctx, &letters, *args, now).await?,
        DeadLettersCommand::List(args) => match args.by {
            Some(By::Signature) => by_signature(ctx, &letters, args.filter).await?,
            None => ctx.out.found(&COLUMNS, &letters.list(&args.filter.build()?).await?)?,
        },
        DeadLettersCommand::Count(args) => {
            let count = letters.count(&args.build()?).await?;
            ctx.out.say(count, &json!({ "count": count }))?;
        }
        DeadLettersCommand::Get(letter) => ctx.out.item(&value(&require(&letters, &letter).await?)?)?,
        DeadLettersCommand::Attempts(letter) => {
            let attempts = letters.attempts(&letter.job, &letter.item).await?;
            ctx.out.list(&ATTEMPTS, &values(attempts)?)?;
        }
        DeadLettersCommand::Claim(args) => {
            let mut request = ClaimRequest::of(args.by, args.limit, args.visibility);
            request.job = args.job;
            let claimed = letters.claim(&request).await?;
            ctx.out.page(&CLAIMS, &values(claimed.items)?, None, &claimed.damaged)?;
            if !claimed.damaged.is_empty() {
                exit = Exit::Unhealthy;
            }
        }
        DeadLettersCommand::Extend { claim, visibility } => {
            let claim = letters.extend(&claimed(&letters, &claim).await?, visibility).await?;
            ctx.out.say(format_args!("token {} until {}", claim.token, claim.until), &value(&claim)?)?;
        }
        DeadLettersCommand::Complete(claim) => {
            let receipt = letters.complete(&claimed(&letters, &claim).await?).await?;
            ctx.out.say(format_args!("{} is completed", claim.letter.item), &value(&receipt)?)?;
        }
        DeadLettersCommand::Release(claim) => {
            let receipt = letters.release(&claimed(&letters, &claim).await?).await?;
            ctx.out.say(format_args!("{} is free", claim.letter.item), &value(&receipt)?)?;
        }
        DeadLettersCommand::RetryLater { claim, error, kind, delay } => {
            let failure = FailureDetail::of(now, error_type(&kind), error);
            let receipt = letters.retry_later(&claimed(&letters, &claim).await?, failure, delay).await?;
            ctx.out.say(format_args!("{} can be claimed again in {delay:?}", claim.letter.item), &value(&receipt)?)?;
        }
        DeadLettersCommand::Requeue(args) => requeue(ctx, &letters, args, now).await?,
        DeadLettersCommand::Discard { letter, reason, by } => {
            let found = require(&letters, &letter).await?;
            let receipt = letters.discard(&LetterRef::from(&found), &reason, &by).await?;
            ctx.out.say(format_args!("{} is discarded", letter.item), &value(&receipt)?)?;
        }
        DeadLettersCommand::Stats { job } => ctx.out.item(&value(&letters.stats(job.as_deref()).await?)?)?,
        DeadLettersCommand::Analyze(args) => analyze(ctx, &letters, args).await?,
        DeadLettersCommand::Jobs { open, page } => {
            let columns = [
                Column::new("job", "/job_id"),
                Column::new("open", "/open"),
                Column::new("added", "/added"),
                Column::new("evicted", "/evicted"),
            ];
            ctx.out.found(&columns, &letters.jobs(open, page.limit, page.after).await?)?;
        }
        DeadLettersCommand::Purge { older_than, job, state } => purge(ctx, &letters, older_than, job, state).await?,
    }
    pond.close().await?;
    Ok(exit)
}

/// A kind of error by its name; a word that is not one of the usual ones stands for itself.
fn error_type(name: &str) -> ErrorType {
    serde_json::from_value(name.into()).unwrap_or_else(|_| ErrorType::Other(name.into()))
}

async fn add(ctx: &Context, letters: &DeadLetters, args: AddArgs, now: Timestamp) -> Result<()> {
    let mut failure = FailureDetail::of(now, error_type(&args.kind), args.error);
    (failure.step_failed, failure.agent_id) = (args.step, args.agent);
    let mut item = DeadLetteredItem::of(&args.letter.item, input::json_or_null(args.data.as_deref())?, failure);
    item.reprocess_eligible = !args.not_eligible;
    item.manual_review_required = args.review;
    let added = letters.clone().with_capacity(args.capacity).add(&args.letter.job, item).await?;
    let verb = if added.merged { "failed again" } else { "added" };
    ctx.out.say(format_args!("{}/{} {verb}", args.letter.job, args.letter.item), &value(&added)?)
}

async fn require(letters: &DeadLetters, letter: &Letter) -> Result<Versioned<DeadLetter>> {
    let found = letters.get(&letter.job, &letter.item).await?;
    found.ok_or_else(|| {
        Error::not_found(format!("dead letter {:?} of job {:?} does not exist", letter.item, letter.job))
            .with_next("see what there is: millpond dead-letters list")
    })
}

/// The claim that a token stands for. Whether it still holds is the store's to say.
async fn claimed(letters: &DeadLetters, args: &ClaimedArgs) -> Result<Claim> {
    let letter = require(letters, &args.letter).await?;
    let until = letter.claim.as_ref().map_or(letter.time, |c| c.until);
    Ok(Claim { token: args.token, until, letter: letter.value })
}

async fn by_signature(ctx: &Context, letters: &DeadLetters, filter: FilterArgs) -> Result<()> {
    let args = AnalyzeArgs {
        job: filter.job.clone(),
        since: filter.since,
        until: filter.until,
        bucket: Duration::from_secs(3_600),
        limit: filter.page.limit,
        samples: 1,
    };
    let other = filter.build()?;
    let plain = DeadLetterFilter {
        job: other.job.clone(),
        last_attempt_from: other.last_attempt_from,
        last_attempt_before: other.last_attempt_before,
        limit: other.limit,
        ..DeadLetterFilter::default()
    };
    if other != plain {
        return Err(Error::invalid("letters are grouped by signature with --job, --since, --until and --limit only"));
    }
    let analysis = letters.analyse(&args.request()).await?;
    ctx.out.list(&PATTERNS, &values(analysis.patterns)?)
}

async fn analyze(ctx: &Context, letters: &DeadLetters, args: AnalyzeArgs) -> Result<()> {
    let analysis = letters.analyse(&args.request()).await?;
    if !ctx.out.is_table() {
        return ctx.out.item(&value(&analysis)?);
    }
    ctx.out.list(&PATTERNS, &values(&analysis.patterns)?)?;
    let time: Vec<Value> = analysis.over_time.iter().map(|(at, n)| json!({ "from": at, "count": n })).collect();
    crate::output::write("\n")?;
    ctx.out.list(&[Column::new("from", "/from"), Column::new("failed", "/count")], &time)?;
    let more = if analysis.more { ", and there are more patterns" } else { "" };
    crate::report::note(format_args!("{}{more}", counted(analysis.total, "letter")));
    Ok(())
}

/// Requeues one letter, or page after page of those that meet the conditions. A letter that changed meanwhile is left
/// to whoever changed it. Unless states are named, only letters that nobody works on and nobody can claim are touched.
async fn requeue(ctx: &Context, letters: &DeadLetters, args: RequeueArgs, now: Timestamp) -> Result<()> {
    if let [job, item] = args.letter.as_slice() {
        let letter = Letter { job: job.clone(), item: item.clone() };
        let mut found = require(letters, &letter).await?;
        if !args.dry_run {
            letters.requeue(&LetterRef::from(&found)).await?;
            found = require(letters, &letter).await?;
        }
        return ctx.out.list(&COLUMNS, &values([&found])?);
    }
    let mut filter = args.filter.build()?;
    let anything = DeadLetterFilter { limit: filter.limit, after: filter.after.clone(), ..DeadLetterFilter::default() };
    if filter == anything && !ctx.yes() && !args.dry_run {
        return Err(Error::invalid("this would requeue every dead letter there is")
            .with_next("say which with --signature, --job, --state …, or say --yes"));
    }
    let stuck_only = filter.states.is_empty();
    if stuck_only {
        filter.states = vec![DeadLetterState::Pending, DeadLetterState::Discarded];
    }
    let (mut requeued, mut changed) = (0_u64, 0_u64);
    loop {
        let mut page = letters.list(&filter).await?;
        // A letter that can be claimed already is where requeueing would bring it.
        page.items.retain(|l| !(stuck_only && l.state == DeadLetterState::Pending && l.available_at.is_some_and(|at| at <= now)));
        if args.dry_run {
            return ctx.out.found(&COLUMNS, &page);
        }
        for letter in &page.items {
            match letters.requeue(&LetterRef::from(letter)).await {
                Ok(_) => requeued += 1,
                Err(e) if e.is_conflict() => changed += 1,
                Err(e) => return Err(e),
            }
        }
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    let left = if changed > 0 { format!(", {changed} left alone because somebody changed them") } else { String::new() };
    ctx.out
        .say(format_args!("{} requeued{left}", counted(requeued, "letter")), &json!({ "requeued": requeued, "changed": changed }))
}

async fn purge(
    ctx: &Context,
    letters: &DeadLetters,
    older_than: Timestamp,
    job: Option<String>,
    states: Vec<DeadLetterState>,
) -> Result<()> {
    if !ctx.yes() {
        crate::report::confirm(&format!("deleting dead letters that failed last before {older_than}"), "purge")?;
    }
    let mut request = PurgeRequest::older_than(older_than);
    request.job = job;
    if !states.is_empty() {
        request.states = states;
    }
    let mut deleted = 0;
    loop {
        let purged = letters.purge(&request).await?;
        deleted += purged.deleted;
        if !purged.more {
            break;
        }
    }
    ctx.out.say(format_args!("{} deleted", counted(deleted, "letter")), &json!({ "deleted": deleted }))
}
