//! Which of some objects nobody names, and nobody will.
//!
//! How their units stand and who names them is asked in one read, which is one moment. Where more records name them than one
//! answer holds, those that it did not show are counted one by one, again in one read: pages that are asked for one after the
//! other would be of several moments, and a name can move from one record to another between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::IntoIter;

use millpond_core::{Answer, Error, Query, Read, Records, Result, limits};
use millpond_objects::Listed;
use uuid::Uuid;

use super::Units;
use super::collect::{OWNERS, UnusedObject};
use super::model::{UnitInfo, UnitState, moment_of};

/// How units stand; those without a record are not there.
type States = BTreeMap<Uuid, UnitState>;

impl Units {
    /// Those of at most 256 objects that nobody names and nobody will. A unit without a record counts as over below the floor;
    /// what is younger than `young` stays in any case. Both are milliseconds since 1970.
    pub(super) async fn unused(&self, page: &[Listed], floor: i64, young: i64) -> Result<Vec<UnusedObject>> {
        let old: Vec<&Listed> = page.iter().filter(|listed| moment_of(listed.location.unit()) < young).collect();
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let names = OWNERS.iter().map(|owner| {
            let locations = old.iter().map(|listed| listed.location.as_str());
            Ok(Read::Query(Query::new(owner)?.one_of("location", locations).limit(limits::PAGE_ROWS)))
        });
        let names = names.collect::<Result<Vec<Read>>>()?;
        let (mut states, answers) = self.at_once(&old, names).await?;
        let (named, is_all) = named(answers)?;
        let mut left: Vec<&Listed> = old.iter().copied().filter(|listed| !named.contains(listed.location.as_str())).collect();
        left.retain(|listed| is_over(&states, listed, floor));
        if !is_all && !left.is_empty() {
            let count = |owner: &str, at: &str| Ok(Read::Count(Query::new(owner)?.eq("location", at)));
            let counts = OWNERS.iter().flat_map(|owner| left.iter().map(move |listed| count(owner, listed.location.as_str())));
            let counts = counts.collect::<Result<Vec<Read>>>()?;
            let (now, answers) = self.at_once(&left, counts).await?;
            let counts = answers.map(Answer::into_count).collect::<Result<Vec<u64>>>()?;
            let many = left.len();
            let is_named = |at: usize| counts.iter().skip(at).step_by(many).any(|count| *count > 0);
            let mut at = 0..many;
            left.retain(|listed| at.next().is_some_and(|at| !is_named(at)) && is_over(&now, listed, floor));
            states = now;
        }
        let unused = left.into_iter().map(|listed| UnusedObject {
            location: listed.location.to_string(),
            length: listed.length,
            unit: states.get(&listed.location.unit()).copied(),
        });
        Ok(unused.collect())
    }

    /// How the units of some objects stand, and what else is asked, all at one moment.
    async fn at_once(&self, objects: &[&Listed], more: Vec<Read>) -> Result<(States, IntoIter<Answer>)> {
        let units: BTreeSet<Uuid> = objects.iter().map(|listed| listed.location.unit()).collect();
        let units_of = units.iter().map(|unit| Ok(Read::Get(Records::<UnitInfo>::id(&unit.to_string())?)));
        let mut reads = units_of.collect::<Result<Vec<Read>>>()?;
        reads.extend(more);
        let mut answers = self.undoing().store.read(reads).await?.into_iter();
        let mut states = States::new();
        for (unit, answer) in units.iter().zip(&mut answers) {
            if let Answer::Record(Some(record)) = answer {
                states.insert(*unit, record.value.decode::<UnitInfo>()?.state);
            }
        }
        Ok((states, answers))
    }
}

/// Whether nothing of an object's unit can be committed any more.
fn is_over(states: &States, listed: &Listed, floor: i64) -> bool {
    let unit = listed.location.unit();
    states.get(&unit).map_or(moment_of(unit) < floor, |state| state.is_over())
}

/// The locations that pages of records name, and whether these are all.
fn named(pages: IntoIter<Answer>) -> Result<(BTreeSet<String>, bool)> {
    let (mut named, mut is_all) = (BTreeSet::new(), true);
    for answer in pages {
        let page = answer.into_page()?;
        if let Some(damaged) = page.damaged.into_iter().next() {
            return Err(Error::corrupt("a record that may name bytes does not read back").with("record", damaged.what));
        }
        is_all &= page.next.is_none();
        for record in page.items {
            if let Some(location) = record.value.value()?.get("location").and_then(serde_json::Value::as_str) {
                named.insert(location.to_owned());
            }
        }
    }
    Ok((named, is_all))
}
