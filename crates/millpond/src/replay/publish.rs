//! Publishing: one commit a page, which appends the messages, moves the position and takes the page away.

use std::collections::BTreeMap;

use millpond_core::{Commit, Error, NewEvent, Records, Result, Write};
use serde_json::json;

use super::Replays;
use super::held::Told;
use super::model::{PlannedMessage, Replay, ReplayPage, ReplayStatus};
use crate::locks::Lease;
use crate::text::sha256_hex;

/// The type of a message that a replay publishes.
pub const ARTIFACT_REPLAYED: &str = "artifact.replayed";

impl Replays {
    pub(super) async fn publish(&self, replay: &mut Replay, lease: &Lease, told: Told<'_>) -> Result<()> {
        let pages = Records::<ReplayPage>::new(self.store().clone());
        while replay.published_pages < replay.pages {
            let key = ReplayPage::key_of(&replay.id, replay.published_pages);
            let page = pages.get(&key).await?;
            let page = page.ok_or_else(|| Error::corrupt("a page of a replay's plan is gone").with("page", &key))?.value;
            let messages = page.messages.iter().map(|message| event(replay, message)).collect::<Result<Vec<_>>>()?;
            let commit =
                Commit::new().write(Write::Delete(Records::<ReplayPage>::id(&key)?)).append_all(&replay.to_stream, messages)?;
            replay.published_pages += 1;
            replay.published += page.messages.len() as u64;
            replay.position = page.messages.last().map(|message| message.key.clone());
            self.write(replay, lease, commit).await?;
            told(replay);
        }
        self.over(replay, lease, ReplayStatus::Completed).await
    }
}

/// A message. Its id follows from batch, key and version: a stream that has it takes it no second time, also from
/// another replay.
fn event(replay: &Replay, message: &PlannedMessage) -> Result<NewEvent> {
    let PlannedMessage { key, version, length, sha256, content_type, .. } = message;
    let data = json!({
        "key": key, "version": version, "length": length, "sha256": sha256, "content_type": content_type,
        "message": message.message, "batch": replay.batch, "replay": replay.id,
    });
    let mut event = NewEvent::of(ARTIFACT_REPLAYED, &data)?;
    event.id = Some(sha256_hex(format!("{}\n{key}\n{version}", replay.batch).as_bytes()));
    event.correlation.clone_from(&message.correlation);
    let labels = [
        ("execution", Some(&replay.execution)),
        ("route", Some(&replay.route)),
        ("stage", Some(&replay.stage)),
        ("batch", Some(&replay.batch)),
        ("extension", message.extension.as_ref()),
    ];
    let labels = labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone())));
    event.labels = labels.collect::<BTreeMap<_, _>>();
    Ok(event)
}
