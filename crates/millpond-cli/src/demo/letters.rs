//! Files that cannot be read, as dead letters of the run. They do not stop it.

use millpond::{Commit, DeadLetterFilter, DeadLetteredItem, DeadLetters, ErrorType, FailureDetail, Pond, Result, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::corpus::MAX_FILES;
use super::state::State;
use super::work::Unreadable;

/// Bytes of a file's name that are taken as the item's id.
const ID_BYTES: usize = 300;
/// Letters in one page.
const PAGE: usize = 1_000;

/// The dead letters, with room for every file of a corpus.
fn letters(pond: &Pond) -> DeadLetters {
    pond.dead_letters().with_capacity(u32::try_from(MAX_FILES).unwrap_or(u32::MAX))
}

/// The part of a commit that adds a letter.
///
/// # Errors
/// What the store fails with.
pub async fn add_part(pond: &Pond, state: &State, file: &Unreadable, step: &str, now: Timestamp) -> Result<Option<Commit>> {
    let mut failure = FailureDetail::of(now, ErrorType::Other(file.kind.into()), file.why.as_str());
    step.clone_into(&mut failure.step_failed);
    let item = DeadLetteredItem::of(item_id(&file.path), json!({ "path": file.path, "corpus": state.corpus }), failure);
    letters(pond).add_part(&state.run, item).await
}

/// The file's name, shortened to what can be indexed, without characters that no id may have.
fn item_id(path: &str) -> String {
    let plain: String = path.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if plain == path && path.len() <= ID_BYTES {
        return plain;
    }
    let hash: String = Sha256::digest(path).iter().take(8).map(|b| format!("{b:02x}")).collect();
    let end = (0..=ID_BYTES.min(plain.len())).rev().find(|i| plain.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…{hash}", &plain[..end])
}

/// The run's letters, one text each without times, in the order of the texts.
///
/// # Errors
/// What the store fails with.
pub async fn texts(pond: &Pond, run: &str) -> Result<Vec<String>> {
    let mut filter = DeadLetterFilter::all().job(run).limit(PAGE);
    let mut texts = Vec::new();
    loop {
        let page = letters(pond).list(&filter).await?;
        texts.extend(page.items.iter().map(|l| {
            let why = l.item.failure_history.first().map_or("", |f| f.error_message.as_str());
            format!("{}\n{}\n{why}", l.item.item_id, l.last_error_type.as_deref().unwrap_or_default())
        }));
        filter.after = page.next;
        if filter.after.is_none() {
            texts.sort_unstable();
            return Ok(texts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_plain_and_different() {
        assert_eq!(item_id("a/b.md"), "a/b.md");
        let long = item_id(&"é".repeat(900));
        assert!(long.len() <= ID_BYTES + 20 && long.starts_with("éé"), "{long}");
        assert_ne!(item_id("a\u{1}b"), item_id("a\u{2}b"));
    }
}
