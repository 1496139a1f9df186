//! Quantiles from log-spaced buckets with integer counts.
//!
//! Bucket i counts the values in (γ^(i−1), γ^i] with γ = 1.01 / 0.99, so a bucket's middle is within 1 % of
//! every value in it. Two sketches merge by adding their counts: that is one `add` a value, which never conflicts.

use std::collections::BTreeMap;

use millpond_core::MergeOp;
use serde::{Deserialize, Serialize};

/// A quantile from a sketch is within this share of the exact one (and half a microsecond of rounding).
pub const QUANTILE_ERROR: f64 = 0.01;

const GAMMA: f64 = (1.0 + QUANTILE_ERROR) / (1.0 - QUANTILE_ERROR);

/// The bucket of the value 0.
const ZERO: &str = "zero";

/// Counts of values by bucket. Values are integers of at least 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sketch {
    buckets: BTreeMap<String, i64>,
}

impl Sketch {
    /// The merge that counts a value in the sketch at a JSON pointer.
    pub(super) fn add_op(pointer: &str, value: i64) -> MergeOp {
        MergeOp::Add(format!("{pointer}/{}", bucket(value)), 1)
    }

    /// Counts a value.
    pub fn add(&mut self, value: i64) {
        *self.buckets.entry(bucket(value)).or_default() += 1;
    }

    /// Takes in everything another sketch counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(bucket.clone()).or_default() += count;
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> i64 {
        self.buckets.values().sum()
    }

    /// The value below or at which a share of all values lies (by nearest rank); `None` when nothing was counted.
    ///
    /// Within [`QUANTILE_ERROR`] of the exact one, and half of one for rounding.
    pub fn quantile(&self, share: f64) -> Option<i64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let mut ordered: Vec<(i32, i64)> = self.buckets.iter().map(|(b, n)| (index_of(b), *n)).collect();
        ordered.sort_unstable();
        let mut left = rank(count, share);
        for (index, n) in ordered {
            left -= n;
            if left <= 0 {
                return Some(middle(index));
            }
        }
        None
    }
}

/// Which of `count` sorted values a share asks for: 1 for the first.
pub(super) fn rank(count: i64, share: f64) -> i64 {
    // Counts are far below 2^53, where a float still counts exactly.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let rank = (share * count as f64).ceil() as i64;
    rank.clamp(1, count)
}

fn bucket(value: i64) -> String {
    if value <= 0 {
        return ZERO.to_owned();
    }
    // At most 2,200 buckets for all of 63 bits.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let index = ((value as f64).ln() / GAMMA.ln()).ceil() as i32;
    index.to_string()
}

/// The index of a bucket; the one of 0, and one that is no bucket of ours, come first.
fn index_of(bucket: &str) -> i32 {
    bucket.parse().unwrap_or(i32::MIN)
}

fn middle(index: i32) -> i64 {
    if index == i32::MIN {
        return 0;
    }
    #[allow(clippy::cast_possible_truncation)]
    let middle = (2.0 * GAMMA.powi(index) / (GAMMA + 1.0)).round() as i64;
    middle
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are the same in each run.
    fn values(n: u64, spread: u32) -> Vec<i64> {
        (1..=n).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - spread)) as i64).collect()
    }

    #[test]
    fn quantiles_are_within_one_percent_of_the_exact_ones() {
        for (n, spread) in [(1, 20), (2, 10), (10, 5), (1_000, 8), (10_000, 40), (5_000, 63)] {
            let mut all = values(n, spread);
            let mut sketch = Sketch::default();
            all.iter().for_each(|v| sketch.add(*v));
            all.sort_unstable();
            for share in [0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
                let exact = all[usize::try_from(rank(n as i64, share) - 1).expect("rank")] as f64;
                let found = sketch.quantile(share).expect("some") as f64;
                let allowed = exact * (QUANTILE_ERROR + 1e-9) + 0.5;
                assert!((found - exact).abs() <= allowed, "{n} {spread} {share}: {found} for {exact}");
            }
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn merged_sketches_equal_the_sketch_of_all() {
        let (left, right, mut all) = (values(700, 30), values(300, 12), Sketch::default());
        let (mut one, mut two) = (Sketch::default(), Sketch::default());
        left.iter().for_each(|v| one.add(*v));
        right.iter().for_each(|v| two.add(*v));
        left.iter().chain(&right).for_each(|v| all.add(*v));
        one.merge(&two);
        assert_eq!(one, all);
        assert_eq!(one.count(), 1_000);
    }

    #[test]
    fn a_merge_op_counts_as_add_does() {
        let mut document = serde_json::json!({});
        let mut sketch = Sketch::default();
        for value in [0, 1, 2, 999, i64::MAX] {
            sketch.add(value);
            Sketch::add_op("/s", value).apply(&mut document).expect("applies");
        }
        assert_eq!(serde_json::from_value::<Sketch>(document["s"].clone()).expect("a sketch"), sketch);
    }
}
