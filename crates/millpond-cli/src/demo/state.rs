//! Where a demo stands: the only thing it resumes from. It is saved with every commit, as the run's checkpoint.

use serde::{Deserialize, Serialize};

use super::index;

/// What is done at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// What an earlier run left is removed, and the files are listed.
    Prepare,
    /// Files are read.
    Collect,
    /// Markdown becomes plain text.
    Convert,
    /// Texts are cut into pieces.
    Segment,
    /// Terms are written with where they occur.
    Index,
    /// All is done; the run is sealed.
    Done,
}

impl Stage {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Collect => "collect",
            Self::Convert => "convert",
            Self::Segment => "segment",
            Self::Index => "index",
            Self::Done => "done",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Prepare => Self::Collect,
            Self::Collect => Self::Convert,
            Self::Convert => Self::Segment,
            Self::Segment => Self::Index,
            Self::Index | Self::Done => Self::Done,
        }
    }
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Files that were read.
    pub files: u64,
    /// Files that could not be read.
    pub unreadable: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Words.
    pub words: u64,
    /// Segments.
    pub segments: u64,
    /// Terms.
    pub terms: u64,
}

impl Counts {
    /// The sum.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self {
            files: self.files + more.files,
            unreadable: self.unreadable + more.unreadable,
            bytes: self.bytes + more.bytes,
            words: self.words + more.words,
            segments: self.segments + more.segments,
            terms: self.terms + more.terms,
        }
    }
}

/// Where a demo stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The corpus, by name.
    pub corpus: String,
    /// The run's id.
    pub run: String,
    /// The workflow's version.
    pub version: u32,
    /// What is done at the moment.
    pub stage: Stage,
    /// Steps of this stage that are committed.
    pub step: u64,
    /// Steps of collect, of convert and of segment.
    pub groups: u64,
    /// What was counted.
    pub counts: Counts,
}

impl State {
    /// Steps of a stage.
    pub fn steps_of(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Collect | Stage::Convert | Stage::Segment => self.groups,
            Stage::Index => index::SHARDS,
            // How much an earlier run left is not known before it is all removed.
            Stage::Prepare => self.step + 1,
            Stage::Done => 1,
        }
    }

    /// The state after one more step.
    #[must_use]
    pub fn after_step(&self, more: Counts) -> Self {
        let mut next = self.clone();
        next.counts = self.counts.plus(more);
        next.step += 1;
        if next.step >= self.steps_of(self.stage) {
            next.stage = self.stage.next();
            next.step = 0;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_stage_comes_once() {
        let mut state = State {
            corpus: "c".into(),
            run: "r".into(),
            version: 1,
            stage: Stage::Collect,
            step: 0,
            groups: 3,
            counts: Counts::default(),
        };
        let mut seen = Vec::new();
        while state.stage != Stage::Done {
            seen.push((state.stage.name(), state.step));
            state = state.after_step(Counts { files: 1, ..Counts::default() });
        }
        let count = |stage| seen.iter().filter(|(s, _)| *s == stage).count();
        assert_eq!((count("collect"), count("convert"), count("segment"), count("index")), (3, 3, 3, 64));
        assert_eq!(state.counts.files, 73);
        seen.dedup();
        assert_eq!(seen.len(), 73);
    }
}
