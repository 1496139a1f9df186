//! One value as a person reads it.

use millpond::{Host, SystemHost, Timestamp};
use serde_json::Value;

/// Characters of a nested value shown in a table.
const NESTED_CHARS: usize = 60;

/// A value in a table.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => moment(text).unwrap_or_else(|| text.clone()),
        Value::Array(items) if items.iter().all(|i| !i.is_array() && !i.is_object()) => {
            items.iter().map(show).collect::<Vec<_>>().join(", ")
        }
        Value::Array(_) | Value::Object(_) => shorten(&value.to_string()),
        other => other.to_string(),
    }
}

/// A length in microseconds.
pub fn micros(value: &Value) -> String {
    let Some(us) = value.as_i64() else { return show(value) };
    match us {
        ..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        1_000_000..120_000_000 => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
        _ => format!("{} min", us / 60_000_000),
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= NESTED_CHARS {
        return text.to_owned();
    }
    text.chars().take(NESTED_CHARS - 1).chain(['…']).collect()
}

/// Text that is a moment, in words.
fn moment(text: &str) -> Option<String> {
    let looks = text.len() >= 20 && text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z');
    if !looks {
        return None;
    }
    Timestamp::parse(text).ok().map(|t| human_time(t, SystemHost.now()))
}

/// A moment as people say it: how long ago within a day, else the date. UTC.
pub fn human_time(moment: Timestamp, now: Timestamp) -> String {
    let (seconds, future) = match now.since(moment).as_secs() {
        0 if moment > now => (moment.since(now).as_secs(), true),
        past => (past, false),
    };
    let text = match seconds {
        0 => return "now".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..86_400 => format!("{} h", seconds / 3_600),
        _ => return moment.to_string().get(..19).unwrap_or_default().replace('T', " "),
    };
    if future { format!("in {text}") } else { format!("{text} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_in_words() {
        let now = Timestamp::parse("2026-11-21T08:00:00Z").expect("time");
        for (seconds, expected) in
            [(0, "now"), (3, "3 s ago"), (600, "10 min ago"), (7_200, "2 h ago"), (172_800, "2026-11-19 08:00:00")]
        {
            assert_eq!(human_time(now.minus(Duration::from_secs(seconds)), now), expected);
        }
        assert_eq!(human_time(now.plus(Duration::from_secs(30)), now), "in 30 s");
    }

    #[test]
    fn long_nested_values_are_cut_at_a_character() {
        let shown = show(&serde_json::json!({ "text": "é".repeat(200) }));
        assert_eq!(shown.chars().count(), NESTED_CHARS);
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn lengths() {
        for (us, expected) in [(7, "7 µs"), (1_500, "1.5 ms"), (2_340_000, "2.3 s"), (600_000_000, "10 min")] {
            assert_eq!(micros(&us.into()), expected);
        }
    }
}
