//! Properties of `plan`, against a model that was written from the rules alone.

#![allow(clippy::unwrap_used)] // A test that meets an error has failed.

#[path = "plan/engine.rs"]
mod engine;
#[path = "plan/model.rs"]
mod model;
#[path = "plan/steps.rs"]
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use millpond_core::{Outcome, Position, Result};
use proptest::prelude::*;

use engine::Tables;
use model::{Answer, Model};
use steps::{Script, commits, script};

/// A plan's answer in the words of the model.
fn answer(outcome: &Result<Outcome>) -> Answer {
    match outcome {
        Ok(Outcome::Committed(r)) => Answer::Committed {
            position: r.position.0,
            revisions: r.revisions.clone(),
            sequences: r
                .sequences
                .iter()
                .map(|a| (0..a.count as usize + a.existing.len()).map(|i| a.sequence(i)).collect())
                .collect(),
            replayed: r.replayed,
        },
        Ok(Outcome::Conflict(_)) => Answer::Conflict,
        Err(error) => Answer::Error(error.kind()),
    }
}

/// Plays a script, a batch of the sizes given at a time, and returns the answers and what is stored at the end.
fn play(script: &Script, sizes: &[usize]) -> (Vec<Answer>, Tables) {
    let mut tables = Tables::new();
    let commits = commits(script);
    let (mut answers, mut rest, mut sizes) = (Vec::new(), &commits[..], sizes.iter().cycle());
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap()).clamp(1, rest.len());
        let (batch, later) = rest.split_at(size);
        answers.extend(tables.commit(batch).iter().map(answer));
        rest = later;
    }
    (answers, tables)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn plan_answers_as_the_model_does(script in script(), sizes in prop::collection::vec(1_usize..6, 1..8)) {
        let (answers, tables) = play(&script, &sizes);
        let mut model = Model::default();
        for (n, commit) in commits(&script).iter().enumerate() {
            prop_assert_eq!(&answers[n], &model.commit(commit), "commit {}: {:?}", n, commit);
        }
        prop_assert_eq!(tables.content(), model.content());
    }

    #[test]
    fn batches_change_nothing(script in script(), sizes in prop::collection::vec(1_usize..9, 1..8)) {
        let (one_by_one, single) = play(&script, &[1]);
        let (in_batches, batched) = play(&script, &sizes);
        prop_assert_eq!(one_by_one, in_batches);
        prop_assert_eq!(single.content(), batched.content());
    }

    #[test]
    fn numbers_are_given_out_once(script in script(), sizes in prop::collection::vec(1_usize..6, 1..8)) {
        let commits = commits(&script);
        let (answers, _) = play(&script, &sizes);
        let mut revisions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut sequences: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut last = 0;
        for (commit, answer) in commits.iter().zip(&answers) {
            let Answer::Committed { position, revisions: given, sequences: placed, replayed: false } = answer else { continue };
            let mut changes = 0;
            for (write, revision) in commit.writes.iter().zip(given) {
                if *revision > 0 {
                    let known = revisions.entry(steps::key_of(write)).or_default();
                    prop_assert!(known.last().is_none_or(|l| l < revision), "{} took revision {} again", steps::key_of(write), revision);
                    known.insert(*revision);
                    changes += 1;
                }
            }
            for (append, placed) in commit.appends.iter().zip(placed) {
                let known = sequences.entry(append.stream.to_string()).or_default();
                for sequence in placed {
                    changes += u64::from(known.insert(*sequence));
                }
            }
            prop_assert_eq!(*position, last + changes, "positions are dense");
            last = *position;
        }
        for (stream, known) in sequences {
            let dense: BTreeSet<u64> = (1..=known.len() as u64).collect();
            prop_assert_eq!(known, dense, "sequences of {}", stream);
        }
    }

    #[test]
    fn a_refusal_changes_nothing(script in script()) {
        let mut tables = Tables::new();
        for commit in commits(&script) {
            let (before, head) = (tables.content(), tables.position());
            match tables.commit(std::slice::from_ref(&commit)).pop() {
                Some(Ok(Outcome::Committed(receipt))) if !receipt.replayed => {}
                refused => {
                    prop_assert_eq!(tables.content(), before, "after {:?}", refused);
                    prop_assert_eq!(tables.position(), head);
                }
            }
        }
    }

    #[test]
    fn a_purge_lets_no_revision_come_again(script in script(), purges in prop::collection::btree_set(0_usize..24, 1..4)) {
        let mut tables = Tables::new();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for (n, commit) in commits(&script).iter().enumerate() {
            if purges.contains(&n) {
                tables.purge_tombstones();
            }
            if let Some(Ok(Outcome::Committed(receipt))) = tables.commit(std::slice::from_ref(commit)).pop() {
                if receipt.replayed || receipt.position == Position::ZERO {
                    continue;
                }
                for (write, revision) in commit.writes.iter().zip(receipt.revisions) {
                    let last = seen.entry(steps::key_of(write)).or_default();
                    prop_assert!(revision == 0 || revision > *last, "{} took {} after {}", steps::key_of(write), revision, last);
                    *last = revision.max(*last);
                }
            }
        }
    }
}
