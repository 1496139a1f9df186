//! Adopting what was edited by hand: the rules are the domains' own, and what breaks one is kept aside.
//!
//! ```text
//!   edited file ─► what does it stand for? ─► workflows.rs: the next version, made from the edited one
//!                                             flows.rs:     an update at the revision that was edited
//!                                             records.rs:   a put at the revision that was edited
//!        │ refused                            streams, runs, locks, anything a domain owns: never
//!        ▼
//!   conflicts/<n>/…  with the reason beside it, and the file as the store has it
//! ```

mod flows;
mod records;
mod workflows;

use millpond_core::{Error, ErrorKind, Result, Store};
use serde::Serialize;
use serde_json::Value;

use super::form;
use super::pen::Pen;
use super::round::{Desk, Round, STREAMS_ARE_THE_STORES};
use super::scan::{Edit, Found, scan};
use super::subject::Subject;
use crate::text::sha256_hex;

/// What became of a file that a person changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// What it says is in the store now.
    Adopted,
    /// It could not be adopted: it is kept aside, and the file is as the store has it.
    Kept,
    /// It was deleted, and is back as the store has it.
    Restored,
    /// The store could not take it now; the file is as it was found.
    Waiting,
    /// Something that a process left over was removed.
    Removed,
}

/// A file that was not as it was left, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adoption {
    /// The file, below the tree's folder.
    pub file: String,
    /// What became of it.
    pub fate: Fate,
    /// As what it was adopted, or why not.
    pub detail: String,
    /// Where the person's words are kept, below the tree's folder, if the store or the file cannot hold them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

impl Adoption {
    pub(super) fn of(file: &str, fate: Fate, detail: &str) -> Self {
        Self { file: file.to_owned(), fate, detail: detail.to_owned(), kept: None }
    }

    pub(super) fn kept_at(mut self, place: &str) -> Self {
        self.kept = Some(place.to_owned());
        self
    }
}

/// What an edit comes to, by the rules of the domain it belongs to.
enum Verdict {
    /// The store says the same.
    Same { revision: u64 },
    /// It is in the store, or would be: as this, in words.
    Stored { subject: Subject, detail: String },
    /// It is no file of the tree's; it stays where it is.
    Ignored,
}

/// What a person wrote, and where.
struct Edited<'a> {
    path: &'a str,
    /// What the path stands for; of a new file perhaps nothing yet.
    subject: Option<Subject>,
    /// The revision that was edited; of a new file none.
    revision: Option<u64>,
    value: Value,
    /// Nothing is stored.
    dry_run: bool,
}

/// Adopts under the lock.
pub(super) struct Adopting<'a> {
    pub(super) store: &'a Store,
    pub(super) desk: &'a mut Desk,
    pub(super) dry_run: bool,
}

/// Who changes what is adopted, as the store's history shows it.
const BY_HAND: &str = "edited by hand";
const DELETED: &str = "it was deleted by hand; to delete what it stands for, use the program";

impl Adopting<'_> {
    /// Looks at every file, and adopts what was changed. In a dry run nothing is changed, neither store nor files.
    pub(super) async fn all(&mut self) -> Result<Vec<Adoption>> {
        let found = self.desk.run(|pen| scan(pen)).await?;
        let mut told = Vec::new();
        for found in found {
            told.extend(self.one(found).await?);
        }
        if !self.dry_run && !told.is_empty() {
            self.desk.run(Pen::save).await?;
        }
        Ok(told)
    }

    async fn one(&mut self, Found { path, edit }: Found) -> Result<Option<Adoption>> {
        match edit {
            Edit::Missing => self.missing(&path).await,
            Edit::NotRead => self.not_read(&path).await,
            Edit::Changed(bytes) | Edit::New(bytes) => self.edited(&path, bytes).await,
        }
    }

    async fn edited(&mut self, path: &str, bytes: Vec<u8>) -> Result<Option<Adoption>> {
        match self.judge(path, &bytes).await {
            Ok(Verdict::Ignored) => Ok(None),
            Ok(Verdict::Same { revision }) => self.same(path, bytes, revision).await.map(|()| None),
            Ok(Verdict::Stored { detail, .. }) if self.dry_run => Ok(Some(Adoption::of(path, Fate::Adopted, &detail))),
            Ok(Verdict::Stored { subject, detail }) => {
                let kept = self.stored(path, bytes, subject, &detail).await?;
                let told = Adoption::of(path, Fate::Adopted, &detail);
                Ok(Some(match kept {
                    Some(place) => told.kept_at(&place),
                    None => told,
                }))
            }
            Err(error) if is_for_later(&error) => Ok(Some(Adoption::of(path, Fate::Waiting, &words(&error)))),
            Err(error) => self.refused(path, words(&error)).await.map(Some),
        }
    }

    /// Asks the domain, which stores it unless this is a dry run.
    async fn judge(&self, path: &str, bytes: &[u8]) -> Result<Verdict> {
        let (_, value) = form::read(path, bytes)?;
        let revision = self.desk.pen()?.entry(path).map(|e| e.revision);
        let edited = Edited { path, subject: Subject::at(path), revision, value, dry_run: self.dry_run };
        match &edited.subject {
            Some(Subject::Version(_)) => workflows::judge(self.store, &edited).await,
            Some(Subject::Flow(_)) => flows::judge(self.store, &edited).await,
            Some(Subject::Record { collection, key }) => records::judge(self.store, &edited, collection, key).await,
            Some(Subject::Stream(_)) => Ok(Verdict::Ignored),
            None if path.starts_with("flows/") => flows::judge(self.store, &edited).await,
            None => workflows::judge(self.store, &edited).await,
        }
    }

    /// The file says what the store says, perhaps in other words.
    async fn same(&mut self, path: &str, bytes: Vec<u8>, revision: u64) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let (path, subject) = (path.to_owned(), Subject::at(path));
        let own = match subject {
            Some(subject) => self.text(&subject).await?.is_some_and(|(text, _)| text.as_bytes() == bytes),
            None => false,
        };
        self.desk
            .run(move |pen| {
                if own {
                    pen.wrote(&path, &bytes, revision)
                } else {
                    pen.left(&path, &bytes, revision)
                }
                pen.save()
            })
            .await
    }

    /// The text of a subject's file as the store has it, and its revision.
    async fn text(&self, subject: &Subject) -> Result<Option<(String, u64)>> {
        let Some((collection, key)) = subject.record() else { return Ok(None) };
        let record = self.store.get(&collection, &key).await?;
        record.map(|r| Ok((form::text_of(subject, &r)?, r.revision))).transpose()
    }

    /// Writes the file of what was stored, in the person's words where they say it, and the edited file as the store
    /// has it. Answers where words are kept that are in neither.
    async fn stored(&mut self, path: &str, bytes: Vec<u8>, subject: Subject, detail: &str) -> Result<Option<String>> {
        let to = subject.path();
        let (Some((own, revision)), before) = (self.text(&subject).await?, self.before(path, &to).await?) else {
            return Ok(None); // Deleted since; the next round shows it.
        };
        let (from, detail) = (path.to_owned(), detail.to_owned());
        self.desk
            .run(move |pen| {
                let (text, value) = form::read(&from, &bytes)?;
                let says = form::read(&to, own.as_bytes())?.1;
                let theirs =
                    if to.ends_with(".json") { (value == says).then(|| text.to_owned()) } else { form::retold(text, &says) };
                let is_lost = theirs.is_none() && form::text(&subject, &value)? != text;
                let kept = if is_lost {
                    let why = format!("{detail}; its comments and its layout could not be kept in the file");
                    Some(pen.folder.keep(&from, &bytes, &super::pen::reason(&from, pen.now, &why))?)
                } else {
                    None
                };
                let expected = if from == to { Some(sha256_hex(&bytes)) } else { pen.entry(&to).map(|e| e.digest.clone()) };
                let shown = theirs.as_deref().unwrap_or(&own);
                pen.replace(&to, Some(shown.as_bytes()), expected.as_deref(), "another version of it was stored")?;
                if shown == own {
                    pen.wrote(&to, shown.as_bytes(), revision);
                } else {
                    pen.left(&to, shown.as_bytes(), revision);
                }
                if from != to {
                    pen.put_back(&from, before, Some(&sha256_hex(&bytes)), "it was changed while it was adopted")?;
                }
                pen.save()?;
                Ok(kept)
            })
            .await
    }

    /// What the edited file was before, when the edit has gone elsewhere.
    async fn before(&self, path: &str, to: &str) -> Result<Option<(String, u64)>> {
        match Subject::at(path) {
            Some(subject) if path != to => self.text(&subject).await,
            _ => Ok(None),
        }
    }

    /// Keeps the edit aside and puts the file back.
    async fn refused(&mut self, path: &str, why: String) -> Result<Adoption> {
        if self.dry_run {
            return Ok(Adoption::of(path, Fate::Kept, &why));
        }
        let text = match Subject::at(path) {
            Some(subject) => self.text(&subject).await?,
            None => None,
        };
        let (file, reason) = (path.to_owned(), why.clone());
        let kept = self
            .desk
            .run(move |pen| {
                let told = pen.found.len();
                let kept = pen.put_back(&file, text, None, &reason)?;
                pen.found.truncate(told); // Told by the caller.
                pen.save()?;
                Ok(kept)
            })
            .await?;
        let told = Adoption::of(path, Fate::Kept, &why);
        Ok(match kept {
            Some(place) => told.kept_at(&place),
            None => told,
        })
    }

    async fn missing(&mut self, path: &str) -> Result<Option<Adoption>> {
        let Some(subject) = Subject::at(path) else { return Ok(None) };
        if self.dry_run {
            return Ok(Some(Adoption::of(path, Fate::Restored, DELETED)));
        }
        if let Subject::Stream(stream) = &subject {
            Round { store: self.store, desk: self.desk }.rebuild(stream).await?;
            return Ok(Some(Adoption::of(path, Fate::Restored, DELETED)));
        }
        let (text, file) = (self.text(&subject).await?, path.to_owned());
        let is_there = text.is_some();
        self.desk
            .run(move |pen| {
                let expected = pen.entry(&file).map(|e| e.digest.clone());
                pen.put_back(&file, text, expected.as_deref(), DELETED).map(|_| ())
            })
            .await?;
        Ok(is_there.then(|| Adoption::of(path, Fate::Restored, DELETED)))
    }

    /// A stream's file, or one too long to be read.
    async fn not_read(&mut self, path: &str) -> Result<Option<Adoption>> {
        let subject = Subject::at(path);
        let stream = match &subject {
            Some(Subject::Stream(stream)) => Some(stream),
            _ => None,
        };
        if let Some(stream) = stream
            && self.store.stream(stream.as_str()).await?.is_none()
        {
            return Ok(None); // A file of nobody's stream; it stays.
        }
        let why = if stream.is_some() { STREAMS_ARE_THE_STORES } else { "it is longer than any document can be" };
        if self.dry_run {
            return Ok(Some(Adoption::of(path, Fate::Kept, why)));
        }
        let kept = if let Some(stream) = stream {
            // A process that was killed while it appended leaves no more than the store says.
            let Some(kept) = (Round { store: self.store, desk: self.desk }).rebuild(stream).await? else { return Ok(None) };
            kept
        } else {
            let text = match &subject {
                Some(subject) => self.text(subject).await?,
                None => None,
            };
            let file = path.to_owned();
            self.desk
                .run(move |pen| {
                    let kept = pen.move_aside(&file, why)?;
                    pen.put_back(&file, text, None, why)?;
                    Ok(kept)
                })
                .await?
        };
        self.desk.run(|pen| Ok(pen.found.pop())).await?; // Told by the caller.
        Ok(Some(Adoption::of(path, Fate::Kept, why).kept_at(&kept)))
    }
}

impl Pen {
    /// Makes a file as the store has it: with this text, or gone.
    fn put_back(&mut self, path: &str, text: Option<(String, u64)>, expected: Option<&str>, why: &str) -> Result<Option<String>> {
        let bytes = text.as_ref().map(|(text, _)| text.as_bytes());
        let kept = self.replace(path, bytes, expected, why)?;
        match &text {
            Some((text, revision)) => self.wrote(path, text.as_bytes(), *revision),
            None => {
                self.manifest.files.remove(path);
            }
        }
        Ok(kept)
    }
}

/// Whether the same edit may be adopted another time, unchanged.
fn is_for_later(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::UnknownOutcome | ErrorKind::Corrupt)
}

/// An error in one line.
fn words(error: &Error) -> String {
    let mut words = error.message().to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words.push_str(&format!(": {}", cause.to_string().lines().next().unwrap_or_default()));
        source = cause.source();
    }
    words
}

/// The error of an edit of something that the store has changed since.
fn overtaken(what: &str, edited: Option<u64>, found: u64) -> Error {
    match edited {
        Some(edited) => {
            Error::conflict(format!("{what} was changed in the store: revision {edited} was edited, it is at {found}"))
        }
        None => Error::conflict(format!("{what} exists in the store and is another")),
    }
}

/// The error of an edit of something that was deleted.
fn deleted(what: &str) -> Error {
    Error::conflict(format!("{what} was deleted from the store"))
}
