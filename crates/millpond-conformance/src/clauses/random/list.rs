//! One random list of operations for every engine, and the smallest part of it that two engines answer differently.

use std::sync::Arc;
use std::time::Duration;

use millpond::{Commit, Engine, Front, Host, ManualHost, Namespace, NamespaceStatus, Store, Timestamp};

use super::compare::answers;
use super::history::{History, ITEMS, Question};
use super::{decide, outcome_of};
use crate::Failure;

/// Between two operations of a list, by the clock of their ids.
const STEP: Duration = Duration::from_millis(20);

/// One operation on a namespace.
#[derive(Debug, Clone)]
enum Operation {
    /// A batch of commits, some of which will be refused.
    Commits(Vec<Commit>),
    /// Declares a collection, which moves and indexes what is there.
    Declare,
    /// Forgets receipts of ids made before this moment.
    Purge(Timestamp),
    /// Freezes the namespace, or opens it again.
    Status(NamespaceStatus),
    /// Makes the namespace again, which is refused.
    CreateAgain,
    /// Deletes it under a wrong confirmation, which is refused.
    DeleteWrongly,
    /// Asks in between.
    Ask(Vec<Question>),
}

/// A list of operations that a seed decides.
#[derive(Debug, Clone)]
pub struct OperationList {
    operations: Vec<Operation>,
}

impl OperationList {
    /// So many operations, and every question at the end. Commit ids are made as from this moment on, which should be a
    /// few minutes ago: an engine refuses ids of the future.
    ///
    /// # Errors
    /// When a name breaks a rule, which would be a mistake of the generator.
    pub fn random(seed: u64, length: usize, from: Timestamp) -> millpond::Result<Self> {
        let host = Arc::new(ManualHost::at(from));
        let mut history = History::new(seed, Arc::clone(&host) as Arc<dyn Host>);
        let mut operations = Vec::with_capacity(length + 1);
        let declare_at = history.below(length.max(1));
        for at in 0..length {
            host.advance(STEP);
            operations.push(match history.below(24) {
                _ if at == declare_at => Operation::Declare,
                0 => Operation::Purge(host.now()),
                1 => Operation::Status(NamespaceStatus::Frozen),
                2 | 3 => Operation::Status(NamespaceStatus::Open),
                4 => Operation::CreateAgain,
                5 => Operation::DeleteWrongly,
                6 | 7 => {
                    let all = history.questions()?;
                    let from = history.below(all.len());
                    Operation::Ask(all.into_iter().skip(from).take(4).collect())
                }
                _ => {
                    let size = 1 + history.below(3);
                    Operation::Commits((0..size).map(|_| history.commit()).collect::<millpond::Result<_>>()?)
                }
            });
        }
        operations.push(Operation::Ask(history.questions()?));
        Ok(Self { operations })
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn without(&self, from: usize, count: usize) -> Self {
        let mut operations = self.operations.clone();
        operations.drain(from..(from + count).min(operations.len()));
        Self { operations }
    }
}

/// What an engine answers to a list on a namespace of its own, as text without moments and ids, a line for each.
///
/// # Errors
/// When the namespace cannot be made or removed.
pub async fn answers_to(engine: &Arc<dyn Engine>, namespace: &Namespace, list: &OperationList) -> Result<Vec<String>, Failure> {
    let info = engine.create_namespace(namespace).await?;
    let store = Store::open(Arc::new(Front::new(Arc::clone(engine))), namespace.clone()).await?;
    let mut lines = Vec::new();
    for operation in &list.operations {
        lines.extend(one(&store, namespace, operation).await?);
    }
    engine.delete_namespace(namespace, &info.store_id).await?;
    Ok(lines)
}

async fn one(store: &Store, namespace: &Namespace, operation: &Operation) -> Result<Vec<String>, Failure> {
    let engine = store.engine();
    Ok(match operation {
        Operation::Commits(commits) => decide(engine, namespace, commits).await?,
        Operation::Declare => vec![outcome_of("declare", engine.declare(namespace, &[ITEMS.spec()?]).await)],
        Operation::Purge(before) => match engine.purge(namespace, *before).await {
            Ok(purged) => vec![format!("{purged:?}")],
            Err(error) => vec![outcome_of::<()>("purge", Err(error))],
        },
        Operation::Status(status) => {
            let set = engine.set_status(namespace, status.clone()).await;
            vec![outcome_of(&format!("{status:?} at {:?}", set.as_ref().map(|i| i.position).ok()), set)]
        }
        Operation::CreateAgain => vec![outcome_of("create again", engine.create_namespace(namespace).await)],
        Operation::DeleteWrongly => vec![outcome_of("delete wrongly", engine.delete_namespace(namespace, "another").await)],
        Operation::Ask(questions) => {
            let mut lines = Vec::new();
            for question in questions {
                lines.extend(answers(store, question).await?);
            }
            lines
        }
    })
}

/// The first answer in which two engines differ over a list, after the list was cut down as far as they still differ.
/// `None` when they answer alike.
///
/// # Errors
/// As [`answers_to`].
pub async fn difference(
    engine: &Arc<dyn Engine>,
    oracle: &Arc<dyn Engine>,
    list: &OperationList,
) -> Result<Option<String>, Failure> {
    let Some(mut words) = differ(engine, oracle, list).await? else { return Ok(None) };
    let mut list = list.clone();
    let mut chunk = list.len().div_ceil(2);
    while chunk > 0 {
        let mut from = 0;
        while from < list.len() {
            let shorter = list.without(from, chunk);
            match differ(engine, oracle, &shorter).await? {
                Some(found) => (list, words) = (shorter, found),
                None => from += chunk,
            }
        }
        chunk /= 2;
    }
    Ok(Some(format!("{words}\n  after {:#?}", list.operations)))
}

async fn differ(engine: &Arc<dyn Engine>, oracle: &Arc<dyn Engine>, list: &OperationList) -> Result<Option<String>, Failure> {
    let namespace = Namespace::new(format!("list-{:08x}", engine.host().random() as u32))?;
    let found = answers_to(engine, &namespace, list).await?;
    let expected = answers_to(oracle, &namespace, list).await?;
    let at = found.iter().zip(&expected).position(|(f, e)| f != e);
    let at = at.or((found.len() != expected.len()).then(|| found.len().min(expected.len())));
    Ok(at.map(|at| format!("answer {at}: found {:?}, expected {:?}", found.get(at), expected.get(at))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BrokenEngine, ReferencePlace};

    async fn found(engine: Arc<dyn Engine>) -> Option<String> {
        let from = engine.host().now().minus(Duration::from_secs(60));
        let oracle: Arc<dyn Engine> = Arc::new(ReferencePlace::new().engine());
        for seed in 1..6 {
            let list = OperationList::random(seed, 120, from).expect("a list");
            if let Some(words) = difference(&engine, &oracle, &list).await.expect("answers") {
                return Some(words);
            }
        }
        None
    }

    #[tokio::test]
    async fn an_honest_engine_answers_alike() {
        assert_eq!(found(Arc::new(ReferencePlace::new().engine())).await, None);
    }

    #[tokio::test]
    async fn a_broken_engine_is_found_and_the_list_cut_down() {
        for name in ["reused-revision", "like-patterns", "ignored-trims", "thawed", "absent-last"] {
            let broken = BrokenEngine::all().into_iter().find(|b| b.name == name).expect(name);
            let words = found(broken.place().open().await.expect("opens")).await;
            let words = words.unwrap_or_else(|| panic!("{name} answers as the reference engine does: {}", broken.defect));
            let commits = words.matches("Commit {").count();
            assert!(commits <= 8, "{name}: {commits} commits are left of the list: {words}");
        }
    }
}
