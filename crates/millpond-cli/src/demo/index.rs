//! Index: for each term, the segments it occurs in. Terms are spread over shards; a step writes one shard.

use std::collections::BTreeMap;

use super::documents::{Place, Term};

/// Steps of the index stage.
pub const SHARDS: u64 = 64;
/// Places kept for a term; the counts cover all of them.
pub const PLACES: usize = 100;
/// Terms of one shard that are kept: a commit takes no more. The rarest go first.
const SHARD_TERMS: usize = 3_500;
/// Bytes that the places of one shard take at most, about: a commit holds no more than 8 MiB. The terms that occur
/// most come first; later ones keep their counts and lose their places.
const SHARD_PLACES_BYTES: usize = 4 << 20;
/// Characters of a term; what is longer is no word.
const TERM_CHARS: usize = 40;

/// An index being built.
#[derive(Debug, Default)]
pub struct Index {
    /// Shard, then term, then segment: how often.
    shards: Vec<BTreeMap<String, BTreeMap<String, i64>>>,
}

/// The terms of a text: runs of letters and digits, in lower case.
fn terms(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|t| t.chars().nth(1).is_some() && t.chars().nth(TERM_CHARS).is_none())
        .map(str::to_lowercase)
}

/// The shard of a term: FNV-1a, the same on every machine.
fn shard(term: &str) -> usize {
    let hash = term.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    usize::try_from(hash % SHARDS).unwrap_or_default()
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| BTreeMap::new()).collect() }
    }

    /// Adds a segment.
    pub fn add(&mut self, key: &str, text: &str) {
        for term in terms(text) {
            let Some(shard) = self.shards.get_mut(shard(&term)) else { continue };
            *shard.entry(term).or_default().entry(key.to_owned()).or_default() += 1;
        }
    }

    /// What a step writes.
    pub fn shard(&self, number: u64) -> Vec<Term> {
        let shard = usize::try_from(number).ok().and_then(|n| self.shards.get(n));
        let mut all: Vec<Term> = shard.into_iter().flatten().map(|(term, places)| entry(number, term, places)).collect();
        all.sort_by(|a, b| b.occurrences.cmp(&a.occurrences).then_with(|| a.term.cmp(&b.term)));
        all.truncate(SHARD_TERMS);
        let mut bytes = 0;
        for term in &mut all {
            bytes += term.places.iter().map(|p| p.segment.len() + 32).sum::<usize>();
            if bytes > SHARD_PLACES_BYTES {
                term.places.clear();
            }
        }
        all
    }
}

fn entry(shard: u64, term: &str, counts: &BTreeMap<String, i64>) -> Term {
    let mut places: Vec<Place> =
        counts.iter().map(|(segment, count)| Place { segment: segment.clone(), count: *count }).collect();
    places.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.segment.cmp(&b.segment)));
    let segments = i64::try_from(places.len()).unwrap_or(i64::MAX);
    places.truncate(PLACES);
    Term {
        term: term.to_owned(),
        shard: i64::try_from(shard).unwrap_or_default(),
        occurrences: counts.values().sum(),
        segments,
        places,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_term_is_in_one_shard_with_all_its_counts() {
        let mut index = Index::new();
        index.add("b#1", "The pond, the POND: x 2x");
        index.add("a#1", "pond");
        let all: Vec<Term> = (0..SHARDS).flat_map(|s| index.shard(s)).collect();
        let mut names: Vec<&str> = all.iter().map(|t| t.term.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["2x", "pond", "the"]);
        let pond = all.iter().find(|t| t.term == "pond").expect("indexed");
        assert_eq!((pond.occurrences, pond.segments), (3, 2));
        assert_eq!(pond.places[0], Place { segment: "b#1".into(), count: 2 });
        assert_eq!(pond.shard, i64::try_from(shard("pond")).expect("small"));
    }

    #[test]
    fn long_lists_are_cut_and_still_counted() {
        let mut index = Index::new();
        (0..PLACES + 5).for_each(|i| index.add(&format!("s{i:04}"), "word"));
        let word = (0..SHARDS).flat_map(|s| index.shard(s)).next().expect("indexed");
        assert_eq!((word.places.len(), word.segments), (PLACES, i64::try_from(PLACES + 5).expect("small")));
    }
}
