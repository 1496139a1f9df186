//! Writing under the lock: each file as the store has it, and nothing a person wrote lost.

use millpond_core::{Record, Result, Timestamp};

use super::adopt::{Adoption, Fate};
use super::files::{Folder, Lock, Put, failed};
use super::form;
use super::manifest::{Entry, Manifest};
use super::subject::Subject;
use crate::text::sha256_hex;

/// What one writes with. There is one in all processes, because it has the lock.
#[derive(Debug)]
pub(super) struct Pen {
    pub(super) folder: Folder,
    pub(super) manifest: Manifest,
    /// What was found on the way, to be told.
    pub(super) found: Vec<Adoption>,
    pub(super) now: Timestamp,
    pub(super) _lock: Lock,
}

/// Why a file is replaced although a person had changed it, or written it.
const UNKNOWN: &str = "the tree had not written it, and the store says something else";
const OVERTAKEN: &str = "the store changed it, too, before the edit was looked at";
const LAYOUT: &str = "its comments and layout; what it said was in the store, which has changed since";
const GONE: &str = "the tree had not noted it, and what it stands for is not in the store any more";
const RACED: &str = "it was changed again at the moment it was replaced";

impl Pen {
    pub(super) fn entry(&self, path: &str) -> Option<&Entry> {
        self.manifest.files.get(path)
    }

    fn digest(&self, path: &str) -> Option<String> {
        self.entry(path).map(|e| e.digest.clone())
    }

    /// Shows a record as it is now, or that there is none.
    pub(super) fn show(&mut self, subject: &Subject, record: Option<&Record>) -> Result<()> {
        let path = subject.path();
        let why = if self.entry(&path).is_some() { OVERTAKEN } else { UNKNOWN };
        let shown = match record {
            Some(record) if self.entry(&path).is_some_and(|e| e.revision == record.revision) => return Ok(()),
            Some(record) => form::text_of(subject, record).and_then(|text| {
                self.replace(&path, Some(text.as_bytes()), self.digest(&path).as_deref(), why)?;
                self.wrote(&path, text.as_bytes(), record.revision);
                Ok(())
            }),
            // Written by a process that ended before it noted so, or by a person: nobody can tell any more.
            None if self.entry(&path).is_none() => self.replace(&path, None, None, GONE).map(drop),
            None => self.replace(&path, None, self.digest(&path).as_deref(), why).map(|_| {
                self.manifest.files.remove(&path);
            }),
        };
        match shown {
            Err(error) if concerns_only_this_file(&error) => {
                tracing::warn!(%error, file = path, "a record cannot be shown as a file and is left out");
                Ok(())
            }
            other => other,
        }
    }

    /// Notes what stands in a file.
    pub(super) fn wrote(&mut self, path: &str, bytes: &[u8], revision: u64) {
        let entry = Entry { digest: sha256_hex(bytes), revision, bytes: 0, by_hand: false };
        self.manifest.files.insert(path.to_owned(), entry);
    }

    /// Notes that a file says what the store says, in a person's words.
    pub(super) fn left(&mut self, path: &str, bytes: &[u8], revision: u64) {
        self.wrote(path, bytes, revision);
        if let Some(entry) = self.manifest.files.get_mut(path) {
            entry.by_hand = true;
        }
    }

    /// Replaces a file, or removes it. Whatever stands there and is not expected is kept aside, for this reason.
    ///
    /// Answers where the last of it was kept.
    pub(super) fn replace(
        &mut self,
        path: &str,
        bytes: Option<&[u8]>,
        expected: Option<&str>,
        why: &str,
    ) -> Result<Option<String>> {
        let mut kept = None;
        if self.entry(path).is_some_and(|e| e.by_hand && Some(e.digest.as_str()) == expected)
            && let Some(words) = self.folder.read(path)?
            && Some(sha256_hex(&words).as_str()) == expected
            && bytes != Some(&words)
        {
            kept = Some(self.keep(path, &words, LAYOUT)?);
        }
        let put = match bytes {
            Some(bytes) => self.folder.put(path, bytes, expected)?,
            None => self.folder.remove(path, expected)?,
        };
        let (put, why) = match put {
            // Somebody may save again and again: what is there at the moment of the exchange is what is kept.
            Put::Edited(_) => (self.folder.put_over(path, bytes)?, why),
            other => (other, RACED),
        };
        if let Put::Raced(aside) = put {
            kept = Some(self.keep(path, &aside.bytes, why)?);
            aside.forget()?;
        }
        Ok(kept)
    }

    /// Keeps bytes aside, and tells of it. Answers where.
    pub(super) fn keep(&mut self, path: &str, bytes: &[u8], why: &str) -> Result<String> {
        let kept = self.folder.keep(path, bytes, &reason(path, self.now, why))?;
        self.found.push(Adoption::of(path, Fate::Kept, why).kept_at(&kept));
        Ok(kept)
    }

    /// Removes what another process left over; what a person had written is kept.
    pub(super) fn clean(&mut self) -> Result<()> {
        let (removed, foreign) = {
            let known: std::collections::HashSet<&str> = self.manifest.files.values().map(|e| e.digest.as_str()).collect();
            self.folder.leftovers(|digest| known.contains(digest))?
        };
        for aside in foreign {
            self.keep("leftover", &aside.bytes, "it stood in a file that was being replaced when a process ended")?;
            aside.forget()?;
        }
        if removed > 0 {
            let text = crate::tree::counted(
                removed,
                "temporary file that a process left over",
                "temporary files that processes left over",
            );
            self.found.push(Adoption::of(".millpond/tmp", Fate::Removed, &text));
        }
        Ok(())
    }

    pub(super) fn save(&mut self) -> Result<()> {
        self.manifest.save(&self.folder)
    }

    /// Takes a stream's file out of the way, without reading it.
    pub(super) fn move_aside(&mut self, path: &str, why: &str) -> Result<String> {
        let kept = self.folder.keep(path, b"", &reason(path, self.now, why))?;
        let (from, to) = (self.folder.root().join(path), self.folder.root().join(&kept));
        std::fs::rename(&from, &to).map_err(failed("move", &from))?;
        self.found.push(Adoption::of(path, Fate::Kept, why).kept_at(&kept));
        Ok(kept)
    }
}

/// What stands beside an edit that was kept.
pub(super) fn reason(path: &str, now: Timestamp, why: &str) -> String {
    format!(
        "{path}\n\nKept at {now}, because this is not in the store:\n{why}\n\n\
         The file itself is as the store has it. To try again, change that file, or put this copy in its place;\n\
         to be done with it, delete this folder.\n"
    )
}

/// Whether an error is about a name or a document, so that the other files can be written all the same.
fn concerns_only_this_file(error: &millpond_core::Error) -> bool {
    use std::io::ErrorKind as Io;
    let io = std::error::Error::source(error).and_then(|s| s.downcast_ref::<std::io::Error>());
    match io {
        Some(io) => matches!(io.kind(), Io::InvalidFilename | Io::NotADirectory | Io::IsADirectory),
        None => matches!(error.kind(), millpond_core::ErrorKind::Corrupt | millpond_core::ErrorKind::Invalid),
    }
}
