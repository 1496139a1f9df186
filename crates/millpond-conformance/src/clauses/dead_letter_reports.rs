//! Dead letters seen together: lists, counts, analysis, purging.

use std::collections::BTreeMap;
use std::sync::Arc;

use millpond::{
    AnalysisRequest, Commit, DeadLetterFilter, DeadLetterState, DeadLetteredItem, DeadLetters, ErrorKind, ErrorType,
    FailureDetail, LetterRef, PurgeRequest,
};
use serde_json::json;

use super::dead_letters::{at, counted, item, letter, letters, worker};
use super::tools::refused;
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "dead_letters":
    filters_are_asked_together => "job, state, error type, eligibility, review, last attempt and signature filter letters, newest first, page by page";
    stats_are_exact => "counts by state and signature, eligibility, review, oldest, newest and the average agree with the letters";
    an_analysis_groups_failures => "failures are grouped by signature with samples, by error type and over time";
    a_purge_is_bounded => "a purge removes old letters a batch at a time, leaves claimed ones, and keeps the job's count right";
    raw_commits_stay_out => "a raw commit into dead letters or their counters is refused";
}

/// Twelve letters in two jobs, a second apart, with three kinds of failure.
async fn dozen(letters: &DeadLetters) -> Result<(), Failure> {
    let kinds = [
        (ErrorType::Timeout, "agent timed out after 3s"),
        (ErrorType::CommandFailed { exit_code: 2 }, "make failed in /src"),
        (ErrorType::MergeConflict, "both changed a.rs"),
    ];
    for i in 0..12u32 {
        let (error_type, message) = kinds[i as usize % 3].clone();
        let job = if i < 8 { "j" } else { "k" };
        let mut new = item(format!("i{i:02}"), i64::from(i) * 600);
        new.failure_history = vec![FailureDetail::of(at(i64::from(i) * 600), error_type, message)];
        new.failure_count = 1 + i % 2;
        new.reprocess_eligible = i % 4 != 0;
        new.manual_review_required = i % 6 == 1;
        letters.add(job, new).await?;
    }
    Ok(())
}

async fn filters_are_asked_together(ground: Arc<Ground>) -> Verdict {
    let letters = letters(&ground).await?;
    dozen(&letters).await?;
    let found = async |filter: DeadLetterFilter| -> Result<String, Failure> {
        let mut filter = filter.limit(2);
        let mut found = Vec::new();
        loop {
            let page = letters.list(&filter).await?;
            ensure!(page.items.len() <= 2 && page.damaged.is_empty(), "a page of two: {page:?}");
            found.extend(page.items.iter().map(|l| l.item.item_id[1..].to_owned()));
            filter = filter.after(page.next);
            if filter.after.is_none() {
                ensure_eq!(letters.count(&filter).await?, found.len() as u64, "the count of {filter:?}");
                return Ok(found.join(" "));
            }
        }
    };
    let all = DeadLetterFilter::all;
    ensure_eq!(found(all()).await?, "11 10 09 08 07 06 05 04 03 02 01 00", "all");
    ensure_eq!(found(all().job("k")).await?, "11 10 09 08", "of a job");
    let kind = DeadLetterFilter { error_type: Some("CommandFailed".into()), ..all() };
    ensure_eq!(found(kind).await?, "10 07 04 01", "of an error type, whatever its exit code");
    let kinds = DeadLetterFilter { last_error_types: vec!["Timeout".into(), "MergeConflict".into()], ..all() };
    ensure_eq!(found(kinds).await?, "11 09 08 06 05 03 02 00", "of one of two error types");
    ensure_eq!(found(DeadLetterFilter { eligible: Some(false), ..all() }).await?, "08 04 00", "not eligible");
    ensure_eq!(found(DeadLetterFilter { review: Some(true), ..all() }).await?, "07 01", "to be looked at");
    let between = DeadLetterFilter { last_attempt_from: Some(at(1_200)), last_attempt_before: Some(at(3_000)), ..all() };
    ensure_eq!(found(between).await?, "04 03 02", "from, before");
    let part = DeadLetterFilter { signature_contains: Some("timed out".into()), ..all() };
    ensure_eq!(found(part).await?, "09 06 03 00", "a part of the signature");
    let whole = DeadLetterFilter { signature: Some("MergeConflict::both changed a.rs".into()), ..all() };
    ensure_eq!(found(whole.job("j")).await?, "05 02", "the whole signature in a job");
    letters.discard(&LetterRef::from(&letter(&letters, "i03").await?), "no", "ops").await?;
    ensure_eq!(found(all().state(DeadLetterState::Discarded)).await?, "03", "discarded");
    let waiting = all().job("j").state(DeadLetterState::Pending).state(DeadLetterState::Claimed);
    ensure_eq!(found(DeadLetterFilter { eligible: Some(true), ..waiting }).await?, "07 06 05 02 01", "all together");
    Ok(())
}

async fn stats_are_exact(ground: Arc<Ground>) -> Verdict {
    let letters = letters(&ground).await?;
    ensure_eq!(letters.stats(None).await?.total, 0, "letters before the first");
    dozen(&letters).await?;
    for closed in ["i00", "i07"] {
        letters.discard(&LetterRef::from(&letter(&letters, closed).await?), "no", "ops").await?;
    }
    let stats = letters.stats(Some("j")).await?;
    let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect::<BTreeMap<_, _>>();
    ensure_eq!((stats.total, &stats.by_state), (8, &counts(&[("discarded", 2), ("pending", 6)])), "by state");
    ensure_eq!((stats.eligible, stats.requiring_review), (5, 1), "eligible, to be looked at");
    ensure_eq!((stats.oldest, stats.newest), (Some(at(600)), Some(at(3_600))), "oldest and newest");
    ensure_eq!(format!("{:.6}", stats.average_failures), format!("{:.6}", 9.0 / 6.0), "failures on average");
    let signatures = counts(&[
        ("CommandFailed { exit_code: 2 }::make failed in", 2),
        ("MergeConflict::both changed a.rs", 2),
        ("Timeout::agent timed out after", 2),
    ]);
    ensure_eq!((stats.by_signature, stats.more_signatures), (signatures, false), "by signature");
    ensure_eq!(letters.stats(None).await?.total, 12, "letters of all jobs");
    Ok(())
}

async fn an_analysis_groups_failures(ground: Arc<Ground>) -> Verdict {
    let letters = letters(&ground).await?;
    dozen(&letters).await?;
    letters.add("j", DeadLetteredItem { ..item("extra", 7_300) }).await?;
    let analysis = letters.analyse(&AnalysisRequest { samples: 2, ..AnalysisRequest::default() }).await?;
    ensure_eq!(analysis.total, 13, "letters");
    let patterns: Vec<(&str, u64)> = analysis.patterns.iter().map(|p| (p.signature.as_str(), p.count)).collect();
    let expected = [
        ("CommandFailed { exit_code: 2 }::make failed in", 4),
        ("MergeConflict::both changed a.rs", 4),
        ("Timeout::agent timed out after", 4),
        ("Timeout::agent timed out", 1),
    ];
    ensure_eq!(patterns, expected, "patterns, most frequent first");
    let first = &analysis.patterns[0];
    ensure_eq!((first.first, first.last), (Some(at(600)), Some(at(6_000))), "first and last of a pattern");
    let samples: Vec<&str> = first.samples.iter().map(|s| s.item.item_id.as_str()).collect();
    ensure_eq!(samples, ["i10", "i07"], "samples of a pattern, newest first");
    let types: Vec<(&str, u64)> = analysis.error_types.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    ensure_eq!(types, [("CommandFailed", 4), ("MergeConflict", 4), ("Timeout", 5)], "by error type");
    let counts: Vec<u64> = analysis.over_time.iter().map(|(_, n)| *n).collect();
    ensure_eq!(counts.iter().sum::<u64>(), 13, "letters over time");
    let begins: Vec<i64> = analysis.over_time.iter().map(|(t, _)| t.as_micros() % 3_600_000_000).collect();
    ensure!(begins.iter().all(|b| *b == 0) && counts.len() >= 2, "buckets of an hour: {:?}", analysis.over_time);
    let one = AnalysisRequest {
        job: Some("k".into()),
        from: Some(at(5_400)),
        before: Some(at(6_600)),
        patterns: 1,
        samples: 0,
        ..AnalysisRequest::default()
    };
    let some = letters.analyse(&one).await?;
    ensure_eq!((some.total, some.patterns.len(), some.more), (2, 1, true), "a part of one job");
    ensure!(some.patterns[0].samples.is_empty(), "samples nobody asked for");
    let bad = AnalysisRequest { patterns: 0, ..AnalysisRequest::default() };
    refused(letters.analyse(&bad).await, ErrorKind::Invalid, "no patterns")?;
    Ok(())
}

async fn a_purge_is_bounded(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    let letters = pond.dead_letters();
    for i in 0..10 {
        letters.add(if i % 2 == 0 { "j" } else { "k" }, item(format!("i{i}"), i)).await?;
    }
    letters.discard(&LetterRef::from(&letter(&letters, "i0").await?), "no", "ops").await?;
    let claims = letters.claim(&worker(100).job("j")).await?;
    for claim in &claims {
        if claim.letter.item.item_id != "i2" {
            letters.release(claim).await?;
        }
    }
    let request = PurgeRequest { batch: 3, ..PurgeRequest::older_than(at(7)) };
    let first = letters.purge(&request).await?;
    ensure_eq!((first.deleted, first.more), (3, true), "the first batch");
    ensure!(letters.get("j", "i0").await?.is_none() && letters.get("j", "i4").await?.is_some(), "oldest first");
    let second = letters.purge(&request).await?;
    ensure_eq!((second.deleted, second.more), (3, false), "the second batch");
    ensure_eq!(letters.purge(&request).await?.deleted, 0, "a third batch");
    ensure_eq!(letter(&letters, "i2").await?.state, DeadLetterState::Claimed, "a claimed letter");
    counted(&letters, pond.store(), "j", 2).await?;
    counted(&letters, pond.store(), "k", 2).await?;
    let held = PurgeRequest { states: vec![DeadLetterState::Claimed], job: Some("j".into()), ..request.clone() };
    ensure_eq!(letters.purge(&held).await?.deleted, 1, "claimed letters, asked for by name");
    counted(&letters, pond.store(), "j", 1).await?;
    refused(letters.purge(&PurgeRequest { batch: 0, ..request.clone() }).await, ErrorKind::Invalid, "a batch of none")?;
    refused(letters.purge(&PurgeRequest { states: vec![], ..request }).await, ErrorKind::Invalid, "no states")?;
    Ok(())
}

async fn raw_commits_stay_out(ground: Arc<Ground>) -> Verdict {
    let pond = ground.pond().await?;
    for collection in ["dead_letters", "dead_letter_jobs"] {
        let raw = Commit::new().put(collection, "x", &json!({}))?;
        refused(pond.commit(raw).await, ErrorKind::Invalid, collection)?;
    }
    Ok(())
}
