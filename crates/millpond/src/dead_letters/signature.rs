//! Error signatures: what failures that have the same cause have in common.

use super::ErrorType;

/// Words of the message that go into a signature.
const WORDS: usize = 10;
/// Bytes of a signature: it is an indexed field.
const BYTES: usize = 512;

/// The signature of a failure: its type, then the first ten words of its message that are no path and no number.
///
/// ```
/// use millpond::{ErrorType, error_signature};
/// let message = "cannot open /tmp/a.txt after 3 tries: no such file";
/// assert_eq!(error_signature(&ErrorType::Timeout, message), "Timeout::cannot open after tries: no such file");
/// ```
pub fn error_signature(error_type: &ErrorType, message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().filter(|w| !is_path(w) && !is_number(w)).take(WORDS).collect();
    let mut signature: String =
        format!("{}::{}", error_type.describe(), words.join(" ")).chars().filter(|c| !c.is_control()).collect();
    while signature.len() > BYTES {
        signature.pop();
    }
    signature
}

fn is_path(word: &str) -> bool {
    word.contains('/') || word.contains('\\')
}

/// A word that begins with a digit, past any bracket or sign: `3`, `12:07`, `(4.5)`, `0x1f`, `17ms`.
fn is_number(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    bare.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_cause_share_a_signature() {
        let a = error_signature(&ErrorType::Timeout, "agent 17 timed out after 300s in /srv/a at 12:07");
        let b = error_signature(&ErrorType::Timeout, "agent 4 timed out after 61s in /srv/other at 09:15");
        assert_eq!(a, "Timeout::agent timed out after in at");
        assert_eq!(a, b);
        let long = error_signature(&ErrorType::Unknown, "one two three four five six seven eight nine ten eleven");
        assert_eq!(long, "Unknown::one two three four five six seven eight nine ten");
        let exit = error_signature(&ErrorType::CommandFailed { exit_code: 2 }, r"make failed in C:\src (2)");
        assert_eq!(exit, "CommandFailed { exit_code: 2 }::make failed in");
        assert!(error_signature(&ErrorType::Unknown, &"ä".repeat(2_000)).len() <= BYTES);
    }
}
