//! What everybody was told and saw, and the one order of units that has to explain all of it.

use std::collections::{BTreeMap, BTreeSet};

use millpond::{Document as _, ErrorKind, Position, Query};
use millpond_objects::Objects as _;
use serde_json::Value;

use crate::world::World;

/// The digest of an artifact's bytes.
pub(crate) type Content = String;
/// Which artifacts there are.
pub(crate) type Contents = BTreeMap<String, Content>;
/// What a unit makes of some paths: what is written, or nothing.
pub(crate) type Effects = BTreeMap<String, Option<Content>>;

/// What the caller of a commit was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Committed(Position),
    Refused(ErrorKind),
    /// Nothing, or that nobody knows.
    Nothing,
}

/// A unit that somebody worked on.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) effects: Effects,
    /// What deletions said about whether there was something.
    pub(crate) was_there: Vec<(String, bool)>,
    /// Bytes of its own were gone while it was worked on.
    pub(crate) lost_bytes: bool,
    pub(crate) told: Told,
}

/// What somebody saw of what was committed, at some moment between two positions.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) from: Position,
    pub(crate) to: Position,
    pub(crate) seen: Seen,
}

#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// One artifact, or that it was not there.
    One(String, Option<Content>),
    /// All of them, with what a unit that looked had made of some.
    All(Contents, Effects),
}

/// Everything that was said and seen.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) units: BTreeMap<String, Script>,
    /// Artifacts that were written alone, by short puts whose ids nobody heard.
    pub(crate) alone: Vec<(String, Content, Option<ErrorKind>)>,
    pub(crate) looks: Vec<Look>,
}

/// What a run brought, for the count.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) units: usize,
    pub(crate) committed: usize,
    pub(crate) refused: usize,
    pub(crate) looks: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.units += other.units;
        self.committed += other.committed;
        self.refused += other.refused;
        self.looks += other.looks;
    }
}

async fn all(world: &World, collection: &str) -> Vec<Value> {
    let query = Query::new(collection).unwrap().limit(10_000);
    let page = world.sight.store().query(query).await.unwrap();
    assert!(page.next.is_none());
    page.items.iter().map(|record| record.value.value().unwrap()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl History {
    /// Compares all of it with the one order of the units that were committed.
    pub(crate) async fn check(&self, world: &World) -> Tally {
        let order = self.order(world).await;
        let mut states = vec![(Position::ZERO, Contents::new())];
        for (position, unit, effects) in &order {
            let mut contents = states[states.len() - 1].1.clone();
            if let Some(script) = self.units.get(unit) {
                for (path, was_there) in &script.was_there {
                    assert_eq!(contents.contains_key(path), *was_there, "unit {unit} deleted {path}: was it there?");
                }
            }
            apply(&mut contents, effects);
            states.push((*position, contents));
        }
        for look in &self.looks {
            let meanwhile: Vec<_> = states.iter().filter(|(position, _)| *position <= look.to).rev().take(4).collect();
            assert!(states.is_explained(look), "nothing explains {look:?}, before that: {meanwhile:?}");
        }
        let last = &states[states.len() - 1].1;
        self.check_end(world, last).await;
        let refused = self.units.values().filter(|script| matches!(script.told, Told::Refused(_))).count();
        Tally { units: self.units.len() + self.alone.len(), committed: order.len(), refused, looks: self.looks.len() }
    }

    /// The units that were committed, by their receipts.
    async fn order(&self, world: &World) -> Vec<(Position, String, Effects)> {
        let versions = all(world, "artifact_versions").await;
        let mut alone = self.alone.clone();
        let mut order = Vec::new();
        let mut committed = BTreeSet::new();
        // A short put has no record of its unit, unless it was aborted, and a version, if it was not.
        let mut ids: BTreeSet<String> = versions.iter().map(|version| unit_of(&text(&version["version"]))).collect();
        for unit in all(world, millpond::UnitInfo::COLLECTION.name()).await {
            let id = text(&unit["id"]);
            match unit["state"].as_str().unwrap() {
                "committed" => drop(ids.insert(id)),
                "aborted" => assert!(!ids.contains(&id), "unit {id} was aborted, and has a version"),
                state => panic!("unit {id} is still {state}"),
            }
        }
        for id in ids {
            let receipt = world.sight.store().outcome(millpond::CommitId::parse(&id).unwrap()).await.unwrap();
            let position = receipt.unwrap_or_else(|| panic!("unit {id} is committed without a receipt")).position;
            let effects = match self.units.get(&id) {
                Some(script) => {
                    match script.told {
                        Told::Committed(told) => assert_eq!(told, position, "unit {id}"),
                        Told::Refused(kind) => panic!("unit {id} was refused as {kind:?}, and is committed: {script:?}"),
                        Told::Nothing => {}
                    }
                    assert!(!script.lost_bytes, "unit {id} lost its bytes and is committed");
                    script.effects.clone()
                }
                None => written_alone(&id, &versions, &mut alone),
            };
            committed.insert(id.clone());
            order.push((position, id, effects));
        }
        for (id, script) in &self.units {
            let is_told = matches!(script.told, Told::Committed(_));
            // What touches nothing is no unit of its own.
            assert!(
                !is_told || script.effects.is_empty() || committed.contains(id),
                "unit {id} was said to be committed: {script:?}"
            );
        }
        for (path, content, error) in &alone {
            assert!(error.is_some(), "{path} was said to be written as {content}, and no unit did");
        }
        order.sort();
        order
    }

    /// Nothing is half done, nothing is left over, and what is there is what the order says.
    async fn check_end(&self, world: &World, last: &Contents) {
        assert_eq!(all(world, millpond::PathClaim::COLLECTION.name()).await, [Value::Null; 0], "claims");
        let artifacts = world.sight.artifacts();
        let found = artifacts.list(&millpond::ArtifactFilter::default()).await.unwrap();
        let found: Contents = found.items.into_iter().map(|item| (item.value.key.clone(), item.value.sha256)).collect();
        assert_eq!(&found, last);
        for (path, content) in last {
            assert_eq!(&crate::worker::content(&artifacts.read(path).await.unwrap()), content, "{path}");
        }
        let named: BTreeSet<String> = all(world, "artifact_versions")
            .await
            .iter()
            .filter(|v| v["location"].is_string())
            .map(|v| text(&v["location"]))
            .collect();
        let listed = world.memory.list(None, usize::MAX).await.unwrap();
        let there: BTreeSet<String> = listed.into_iter().map(|listed| listed.location.to_string()).collect();
        assert_eq!(there, named, "what is there, and what is named");
    }
}

/// The unit in the name of a version.
fn unit_of(version: &str) -> String {
    version.split_once('.').unwrap().0.to_owned()
}

/// What a unit wrote whose id its caller did not hear: one artifact that somebody wrote alone.
fn written_alone(id: &str, versions: &[Value], alone: &mut Vec<(String, Content, Option<ErrorKind>)>) -> Effects {
    let own = |version: &&Value| version["version"].as_str().is_some_and(|version| version.starts_with(id));
    let own: Vec<&Value> = versions.iter().filter(own).collect();
    assert_eq!(own.len(), 1, "unit {id} is nobody's: {own:?}");
    let artifact = &own[0]["artifact"];
    let (path, written) = (text(&artifact["key"]), text(&artifact["sha256"]));
    let at = alone.iter().position(|(key, content, _)| *key == path && *content == written);
    let (_, _, error) = alone.remove(at.unwrap_or_else(|| panic!("nobody wrote {own:?}")));
    assert!(error.is_none_or(|kind| kind == ErrorKind::UnknownOutcome), "{path} was refused as {error:?}, and is committed");
    BTreeMap::from([(path, Some(written))])
}

fn apply(contents: &mut Contents, effects: &Effects) {
    for (path, effect) in effects {
        match effect {
            Some(content) => contents.insert(path.clone(), content.clone()),
            None => contents.remove(path),
        };
    }
}

trait Explains {
    fn is_explained(&self, look: &Look) -> bool;
}

impl Explains for Vec<(Position, Contents)> {
    fn is_explained(&self, look: &Look) -> bool {
        // What held at `from` is the last state up to it.
        let first = self.iter().rposition(|(position, _)| *position <= look.from).unwrap_or_default();
        self[first..].iter().take_while(|(position, _)| *position <= look.to).any(|(_, contents)| match &look.seen {
            Seen::One(path, content) => contents.get(path) == content.as_ref(),
            Seen::All(seen, own) => {
                let mut contents = contents.clone();
                apply(&mut contents, own);
                contents == *seen
            }
        })
    }
}
