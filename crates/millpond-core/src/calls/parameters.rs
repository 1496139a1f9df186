//! The error for a parameter of a URL that nobody knows.

use crate::Error;

/// Letters that may be wrong in a name before it is another one.
const NEAR: usize = 3;

/// The error for a parameter that is none of `known`, with the nearest of them. The value may be a secret in the wrong
/// place, so it is not asked for.
pub fn unknown_parameter<'k>(url: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> Error {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    let near = known.iter().map(|k| (distance(k, name), k)).min();
    let next = match near {
        // More than half of a short name is another name.
        Some((apart, near)) if apart <= NEAR && apart * 2 < near.chars().count() => format!("did you mean {near}?"),
        _ => format!("it takes {}", known.join(", ")),
    };
    Error::invalid(format!("{url} has an unknown parameter {name:?}")).with_next(next)
}

/// How many letters have to be changed, added or left out.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered() {
        let next = |name| unknown_parameter("the URL", name, ["pool", "timeout", "retries"]).next().map(str::to_owned);
        assert_eq!(next("timout").as_deref(), Some("did you mean timeout?"));
        assert_eq!(next("retrys").as_deref(), Some("did you mean retries?"));
        assert_eq!(next("pol").as_deref(), Some("did you mean pool?"));
        assert_eq!(next("x").as_deref(), Some("it takes pool, retries, timeout"));
    }
}
