//! Interleaved rounds: every variant once, then again, so that a slow minute of the machine hits all alike.

use std::time::{Duration, Instant};

/// Median, smallest and largest of a variant's rounds.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Figure {
    /// From the rounds' values.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median: (low + high) / 2.0, min: values[0], max: values[values.len() - 1] }
    }

    /// The same, where one turn was so many.
    pub fn times(self, many: f64) -> Self {
        Self { median: self.median * many, min: self.min * many, max: self.max * many }
    }
}

/// One way of doing the work, measured once a round.
pub type Variant<'a> = (&'static str, Box<dyn FnMut() -> crate::world::Done<f64> + 'a>);

/// Measures all variants in turn.
pub fn interleave(rounds: usize, variants: &mut [Variant<'_>]) -> crate::world::Done<Vec<(&'static str, Figure)>> {
    let mut values = vec![Vec::new(); variants.len()];
    for round in 0..rounds {
        for i in 0..variants.len() {
            // Every other round runs backwards, so that no variant always follows the same one.
            let i = if round % 2 == 0 { i } else { variants.len() - 1 - i };
            values[i].push((variants[i].1)()?);
        }
    }
    Ok(variants.iter().map(|v| v.0).zip(values.into_iter().map(Figure::of)).collect())
}

/// Operations a second of a synchronous call.
pub fn rate(secs: f64, mut call: impl FnMut() -> crate::world::Done) -> crate::world::Done<f64> {
    let begin = Instant::now();
    let limit = Duration::from_secs_f64(secs);
    let mut n = 0u64;
    while begin.elapsed() < limit {
        call()?;
        n += 1;
    }
    Ok(n as f64 / begin.elapsed().as_secs_f64())
}
