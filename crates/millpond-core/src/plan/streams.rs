//! Stream writes: appends, which skip event ids that are there already, and trims.

use crate::commit::{Append, Commit};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::name::StreamName;
use crate::outcome::{Appended, Conflict, Expected, Found};
use crate::plan::apply::Refusal;
use crate::plan::current::CurrentStream;
use crate::plan::work::Work;

impl Work {
    pub(super) fn append(&mut self, append: &Append) -> Result<Appended, Refusal> {
        let name = &append.stream;
        let mut stream = self.stream(name);
        let first = stream.head + 1;
        let mut existing = Vec::new();
        let mut count = 0;
        self.events.reserve(append.events.len());
        for (index, event) in append.events.iter().enumerate() {
            if let Some(sequence) = event.id.as_ref().and_then(|id| self.event_sequence(name, id, stream.oldest)) {
                existing.push((index, sequence));
                continue;
            }
            if stream.sealed {
                let found = Found::Stream { head: stream.head, sealed: true };
                return Err(Conflict { index: None, expected: Expected::Open(name.clone()), found }.into());
            }
            stream.head += 1;
            count += 1;
            if let Some(id) = &event.id {
                self.set_event_id(name, id, stream.head);
            }
            let position = self.next_position();
            self.events.push(Event {
                stream: name.clone(),
                sequence: stream.head,
                position,
                id: event.id.clone(),
                kind: event.kind.clone(),
                time: event.time.unwrap_or(self.now),
                correlation: event.correlation.clone(),
                agent: event.agent.clone(),
                source: event.source.clone(),
                labels: event.labels.clone(),
                data: event.data.clone(),
            });
        }
        let first = if count == 0 { stream.head } else { first };
        if count > 0 {
            self.set_stream(name, stream);
        }
        Ok(Appended { first, count, existing })
    }

    /// Where an event id is in its stream. One that was trimmed is gone, also when that was earlier in this batch.
    fn event_sequence(&self, stream: &StreamName, id: &str, oldest: u64) -> Option<u64> {
        let key = (stream.clone(), id.to_owned());
        let found = self.event_ids.get(&key).or_else(|| self.state.event_ids.get(&key)).copied();
        found.filter(|sequence| *sequence >= oldest)
    }

    pub(super) fn trim(&mut self, commit: &Commit, name: &StreamName, before: u64) -> Result<(), Refusal> {
        let stream = self.stream(name);
        if stream.sealed && !commit.trusted {
            return Err(Error::invalid(format!("stream {name} is sealed; it can only go as a whole, with what owns it")).into());
        }
        if before > stream.head + 1 {
            let message = format!("cannot trim stream {name} before {before}: its last sequence is {}", stream.head);
            return Err(Error::invalid(message).with_next(format!("trim before at most {}", stream.head + 1)).into());
        }
        if before > stream.oldest {
            self.set_stream(name, CurrentStream { oldest: before, ..stream });
        }
        Ok(())
    }
}
