//! The search for an order. Which operations are placed and what the store holds then is a place; no place is visited
//! twice.

use std::collections::HashSet;

use super::{Call, History, State};

/// Places that are looked at before the search gives up. A history that can be explained takes about as many as it has
/// operations; one that cannot takes more the more outcomes in it are unknown.
const MOST: usize = 400_000;

/// What the search found.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Not {
        /// The largest number of operations that some order explained.
        explained: usize,
        /// Operations that could not come next there, though one of them had to.
        stuck: Vec<Call>,
    },
    /// The search gave up after so many places. Take fewer callers or fewer operations.
    Undecided(usize),
}

/// Which operations are placed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Placed(Vec<u64>);

impl Placed {
    fn none(operations: usize) -> Self {
        Self(vec![0; operations.div_ceil(64)])
    }

    fn has(&self, n: usize) -> bool {
        self.0[n / 64] & (1 << (n % 64)) != 0
    }

    fn with(&self, n: usize) -> Self {
        let mut more = self.clone();
        more.0[n / 64] |= 1 << (n % 64);
        more
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// Looks for an order that explains a history.
pub fn check(history: &History) -> Verdict {
    let mut calls: Vec<&Call> = history.calls.iter().collect();
    calls.sort_by_key(|c| c.called);
    // Only what was answered needs an explanation; the rest may never happen.
    let needed = calls.iter().filter(|c| c.answer.is_some()).count();
    let mut visited = HashSet::new();
    let mut open = vec![(Placed::none(calls.len()), State::default(), 0)];
    let mut furthest = (0, Placed::none(calls.len()), State::default());
    while let Some((placed, state, explained)) = open.pop() {
        if explained == needed {
            return Verdict::Linearizable;
        }
        if explained > furthest.0 {
            furthest = (explained, placed.clone(), state.clone());
        }
        for (n, next) in candidates(&calls, &placed, &state).into_iter().rev() {
            let place = (placed.with(n), next);
            if visited.len() >= MOST {
                return Verdict::Undecided(MOST);
            }
            if visited.insert(place.clone()) {
                open.push((place.0, place.1, explained + usize::from(calls[n].answer.is_some())));
            }
        }
    }
    let (explained, placed, _) = furthest;
    let stuck = possible(&calls, &placed).into_iter().map(|n| calls[n].clone()).collect();
    Verdict::Not { explained: explained.min(placed.count()), stuck }
}

/// Operations that may come next by the clock: called before any that is still to come has returned.
fn possible(calls: &[&Call], placed: &Placed) -> Vec<usize> {
    let (mut found, mut first_return) = (Vec::new(), u64::MAX);
    for (n, call) in calls.iter().enumerate() {
        if call.called > first_return {
            break;
        }
        if !placed.has(n) {
            // What was never answered holds nobody up, however long its caller waited.
            let returned = if call.answer.is_some() { call.returned.unwrap_or(u64::MAX) } else { u64::MAX };
            first_return = first_return.min(returned);
            found.push(n);
        }
    }
    found
}

/// Of those, the ones that the model answers as they were answered, and what the store holds then.
fn candidates(calls: &[&Call], placed: &Placed, state: &State) -> Vec<(usize, State)> {
    let explained = |n: usize| {
        let (next, answer) = state.after(&calls[n].operation);
        match &calls[n].answer {
            Some(found) => (answer == *found).then_some((n, next)),
            // Without an effect it explains nothing that its never happening does not.
            None => (next != *state).then_some((n, next)),
        }
    };
    // Answered ones first: an order that needs no unknown outcome is the likeliest.
    let (known, unknown): (Vec<usize>, Vec<usize>) =
        possible(calls, placed).into_iter().partition(|n| calls[*n].answer.is_some());
    known.into_iter().chain(unknown).filter_map(explained).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Change, Expect, Operation, Seen};
    use super::*;

    fn call(caller: u32, at: (u64, u64), operation: Operation, answer: Option<Answer>) -> Call {
        Call { caller, operation, called: at.0, returned: answer.as_ref().map(|_| at.1), answer }
    }

    fn put(at: (u64, u64), number: i64, revision: Option<u64>) -> Call {
        let operation = Operation::Commit { expect: vec![], changes: vec![Change::Put(0, number)] };
        call(0, at, operation, revision.map(|r| Answer::Committed(vec![r])))
    }

    fn get(at: (u64, u64), seen: Option<(i64, u64)>) -> Call {
        let operation = Operation::Read { records: vec![0], streams: vec![] };
        call(1, at, operation, Some(Answer::Read(vec![Seen::Record(seen)])))
    }

    fn holds(calls: Vec<Call>) -> bool {
        match check(&History { calls }) {
            Verdict::Linearizable => true,
            Verdict::Not { .. } => false,
            Verdict::Undecided(n) => panic!("undecided after {n}"),
        }
    }

    #[test]
    fn a_read_shows_what_was_acknowledged_before_it_began() {
        assert!(holds(vec![put((1, 2), 7, Some(1)), get((3, 4), Some((7, 1)))]));
        assert!(!holds(vec![put((1, 2), 7, Some(1)), get((3, 4), None)]), "a stale read");
        // At the same time either is right, but not back and forth.
        assert!(holds(vec![put((1, 9), 7, Some(1)), get((2, 3), None), get((4, 5), Some((7, 1)))]));
        assert!(!holds(vec![put((1, 9), 7, Some(1)), get((2, 3), Some((7, 1))), get((4, 5), None)]), "there and gone again");
    }

    #[test]
    fn an_unknown_outcome_may_take_effect_at_any_later_time_or_never() {
        assert!(holds(vec![put((1, 2), 7, None), get((3, 4), None), get((50, 60), None)]), "never");
        assert!(holds(vec![put((1, 2), 7, None), get((3, 4), None), get((50, 60), Some((7, 1)))]), "late");
        assert!(!holds(vec![get((1, 2), Some((7, 1))), put((3, 4), 7, None)]), "before its call");
        let twice = vec![put((1, 2), 7, None), get((3, 4), Some((7, 1))), get((5, 6), Some((7, 2)))];
        assert!(!holds(twice), "twice");
    }

    #[test]
    fn an_unknown_outcome_that_was_taken_for_a_failure_is_found() {
        // Its caller was told that nothing happened, so the history does not hold it; but its effect is seen.
        assert!(!holds(vec![get((3, 4), Some((7, 1)))]));
    }

    #[test]
    fn one_of_two_that_expect_the_same_wins() {
        let create = |at, answer| {
            let operation = Operation::Commit { expect: vec![Expect::Revision(0, 0)], changes: vec![Change::Put(0, 1)] };
            call(0, at, operation, Some(answer))
        };
        let won = || Answer::Committed(vec![1]);
        assert!(holds(vec![create((1, 5), won()), create((2, 6), Answer::Conflict)]));
        assert!(!holds(vec![create((1, 5), won()), create((2, 6), won())]), "both won");
        assert!(!holds(vec![create((1, 5), Answer::Conflict), create((2, 6), Answer::Conflict)]), "neither won");
    }

    #[test]
    fn a_commit_is_seen_whole_and_in_one_order() {
        let both = |at| {
            let changes = vec![Change::Add(0, 1), Change::Append(0, 5)];
            call(0, at, Operation::Commit { expect: vec![], changes }, Some(Answer::Committed(vec![1, 1])))
        };
        let see = |at, record, stream: &[i64]| {
            let seen = vec![Seen::Record(record), Seen::Stream(stream.to_vec())];
            call(1, at, Operation::Read { records: vec![0], streams: vec![0] }, Some(Answer::Read(seen)))
        };
        assert!(holds(vec![both((1, 9)), see((2, 3), None, &[]), see((4, 5), Some((1, 1)), &[5])]));
        assert!(!holds(vec![both((1, 9)), see((2, 3), Some((1, 1)), &[])]), "half a commit");
    }

    #[test]
    fn a_long_history_of_many_unknown_outcomes_is_decided() {
        let (calls, _) = puts(400);
        assert!(holds(calls));
        let (mut calls, revision) = puts(100);
        calls.push(get((3_000, 3_001), Some((99, revision + 1))));
        assert!(!holds(calls), "a revision that nobody made");
    }

    /// Puts that overlap, one in ten of unknown outcome, of which half happened; and the last revision.
    fn puts(count: u64) -> (Vec<Call>, u64) {
        let (mut calls, mut revision) = (Vec::new(), 0);
        for n in 0..count {
            let lost = n % 10 == 0;
            revision += u64::from(!lost || n % 20 == 0);
            let number = i64::try_from(n).expect("small");
            calls.push(put((n * 10, n * 10 + 15), number, (!lost).then_some(revision)));
        }
        (calls, revision)
    }
}
