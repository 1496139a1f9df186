//! Objects as files of a folder, read and written through the standard library.
//!
//! ```text
//!   ROOT/c7/0198f3…c7.12              the bytes of an object, as they are
//!   ROOT/c7/0198f3…c7.12.meta.json    its note, if it has one
//! ```
//!
//! A location is fresh, so a file is written where it stays: until the commit that names it nobody looks there. It is
//! flushed, and its folder too, before anything is said; a file that was cut short is nobody's object.
//!
//! A note is written before the folder is flushed, and has no flush of its own: it is a copy, and after a power cut it may
//! be missing or empty.

use std::fs::File;
use std::io::{ErrorKind as Io, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Listed, Location, Note, Objects, Writing};

/// Pieces that wait for the disk before whoever writes them has to wait.
const AHEAD: usize = 4;

/// See the module.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Arc<Path>,
    shown: Arc<str>,
    /// For each first digit of folders, whether these are known to be durable.
    durable: Arc<[AtomicBool; 16]>,
}

impl Folder {
    /// Objects in a folder, which is made when the first of them is written.
    ///
    /// # Errors
    /// `Invalid` when the path cannot be made absolute.
    pub fn new(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let absolute = std::path::absolute(root)
            .map_err(|e| Error::invalid(format!("{} is no folder for objects", root.display())).with_source(e))?;
        Ok(Self { shown: format!("file:{}", absolute.display()).into(), root: absolute.into(), durable: Arc::default() })
    }

    fn path(&self, at: &Location) -> PathBuf {
        self.root.join(at.as_str())
    }

    fn note_path(&self, at: &Location) -> PathBuf {
        self.root.join(format!("{at}.meta.json"))
    }

    /// Runs work on a thread that may wait for a disk.
    async fn off<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let own = self.clone();
        tokio::task::spawn_blocking(move || work(&own)).await.unwrap_or_else(|e| Err(gone(e)))
    }

    /// Makes a file where there is none, and the folder it is in.
    fn create(&self, at: &Location) -> Result<File> {
        let path = self.path(at);
        let create = || File::options().write(true).create_new(true).open(&path);
        let family = self.family(at)?;
        if !family.load(Ordering::Acquire) {
            self.make_folders(at, family)?;
        }
        match create() {
            // Somebody removed the folder.
            Err(e) if e.kind() == Io::NotFound => {
                family.store(false, Ordering::Release);
                self.make_folders(at, family)?;
                create().map_err(failed("make", &path))
            }
            Err(e) if e.kind() == Io::AlreadyExists => Err(Error::invalid(format!("there is an object at {at} already"))
                .with("place", self.place())
                .with_next("this is a fault of the program: a location is used once")),
            made => made.map_err(failed("make", &path)),
        }
    }

    /// Whether the folder of a location is known to be durable, with those that share its first digit.
    fn family(&self, at: &Location) -> Result<&AtomicBool> {
        let first = at.folder().chars().next().and_then(|first| first.to_digit(16));
        let family = first.and_then(|first| self.durable.get(usize::try_from(first).ok()?));
        family.ok_or_else(|| Error::invalid(format!("{at} has no folder")))
    }

    /// Makes a folder and those that share its first digit, together: they cost one flush and not one each. One that is
    /// there may have been made a moment ago, or before a crash, so its name is flushed, too.
    fn make_folders(&self, at: &Location, family: &AtomicBool) -> Result<()> {
        std::fs::create_dir_all(&*self.root).map_err(failed("make", &self.root))?;
        for last in "0123456789abcdef".chars() {
            let folder = self.root.join(format!("{}{last}", &at.folder()[..1]));
            match std::fs::create_dir(&folder) {
                Err(e) if e.kind() != Io::AlreadyExists => return Err(failed("make", &folder)(e)),
                _ => {}
            }
        }
        sync_folder(&self.root)?;
        // And the names of the root, and of what the root is in. What may not be opened is not ours to have made.
        for above in self.root.ancestors().skip(1).take(2) {
            match File::open(above) {
                Err(e) if e.kind() == Io::PermissionDenied => {}
                opened => opened.and_then(|folder| folder.sync_all()).map_err(failed("flush", above))?,
            }
        }
        family.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes what was written durable: the file, then its name.
    fn keep(&self, at: &Location, file: &File, note: Option<&Note>) -> Result<()> {
        if let Some(note) = note {
            let path = self.note_path(at);
            std::fs::write(&path, format!("{}\n", note.as_str())).map_err(failed("write", &path))?;
            // Removed meanwhile, by whoever gave this write up: a note without its object would be found by nobody.
            if self.length_of(at)?.is_none() {
                return Err(Error::unavailable(format!("the object at {at} was removed while it was written")));
            }
        }
        file.sync_data().map_err(failed("flush", &self.path(at)))?;
        sync_folder(&self.root.join(at.folder()))
    }

    /// Removes a file that does not come about.
    fn forget(&self, at: &Location) {
        // What cannot be removed is found by its location.
        let _ = self.remove_both(at);
    }

    /// The note goes first: an object without one is still found, a note without its object by nobody. And once more
    /// afterwards: who still writes may have written it in between, and looks for the object after that.
    fn remove_both(&self, at: &Location) -> Result<()> {
        for path in [self.note_path(at), self.path(at), self.note_path(at)] {
            absent(std::fs::remove_file(&path)).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    fn write_whole(&self, at: &Location, bytes: &[u8], note: Option<&Note>) -> Result<()> {
        let mut file = self.create(at)?;
        let written = file.write_all(bytes).map_err(failed("write", &self.path(at))).and_then(|()| self.keep(at, &file, note));
        written.inspect_err(|_| self.forget(at))
    }

    fn write_pieces(&self, at: &Location, mut file: File, mut pieces: mpsc::Receiver<Step>) -> Result<()> {
        let path = self.path(at);
        while let Some(step) = pieces.blocking_recv() {
            match step {
                Step::Piece(bytes) => file.write_all(&bytes).map_err(failed("write", &path)).inspect_err(|_| self.forget(at))?,
                Step::Keep(note) => return self.keep(at, &file, note.as_ref()).inspect_err(|_| self.forget(at)),
            }
        }
        self.forget(at);
        Ok(())
    }

    fn read_range(&self, at: &Location, range: &Range<u64>) -> Result<Option<Bytes>> {
        let path = self.path(at);
        let reading = || {
            let mut file = File::open(&path)?;
            let there = file.metadata()?.len().min(range.end).saturating_sub(range.start);
            if range.start > 0 {
                file.seek(SeekFrom::Start(range.start))?;
            }
            let mut bytes = Vec::with_capacity(usize::try_from(there).unwrap_or(0));
            file.take(there).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        absent(reading()).map(|found| found.map(Bytes::from)).map_err(failed("read", &path))
    }

    /// The names in a folder, in order; none where there is no folder.
    fn names(folder: &Path) -> Result<Vec<String>> {
        let listing = || {
            let names = std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.file_name().into_string().ok()));
            let mut names: Vec<String> = names.filter_map(Result::transpose).collect::<std::io::Result<_>>()?;
            names.sort_unstable();
            Ok(names)
        };
        Ok(absent(listing()).map_err(failed("list", folder))?.unwrap_or_default())
    }

    fn list_after(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        // What stands beside our folders is somebody else's.
        let ours = |name: &&String| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let is_left = |name: &&String| after.is_none_or(|after| name.as_str() >= after.folder());
        for folder in Self::names(&self.root)?.iter().filter(ours).filter(is_left) {
            for name in Self::names(&self.root.join(folder))? {
                let Ok(location) = format!("{folder}/{name}").parse::<Location>() else { continue };
                if after.is_some_and(|after| location <= *after) {
                    continue;
                }
                if found.len() == most {
                    return Ok(found);
                }
                // One that was removed meanwhile is not there.
                if let Some(length) = self.length_of(&location)? {
                    found.push(Listed { location, length });
                }
            }
        }
        Ok(found)
    }

    fn length_of(&self, at: &Location) -> Result<Option<u64>> {
        let path = self.path(at);
        absent(std::fs::metadata(&path)).map(|found| found.map(|m| m.len())).map_err(failed("look at", &path))
    }
}

#[async_trait]
impl Objects for Folder {
    fn place(&self) -> &str {
        &self.shown
    }

    async fn put(&self, at: &Location, bytes: Bytes, note: Option<&Note>) -> Result<()> {
        let (at, note) = (at.clone(), note.cloned());
        self.off(move |folder| folder.write_whole(&at, &bytes, note.as_ref())).await
    }

    async fn begin(&self, at: &Location, _: Option<&Note>) -> Result<Box<dyn Writing>> {
        let (own, make) = (at.clone(), at.clone());
        let file = self.off(move |folder| folder.create(&make)).await?;
        let (steps, pieces) = mpsc::channel(AHEAD);
        let folder = self.clone();
        let thread = tokio::task::spawn_blocking(move || folder.write_pieces(&own, file, pieces));
        Ok(Box::new(Growing { steps, thread }))
    }

    async fn read(&self, at: &Location, range: Range<u64>) -> Result<Option<Bytes>> {
        let at = at.clone();
        self.off(move |folder| folder.read_range(&at, &range)).await
    }

    async fn length(&self, at: &Location) -> Result<Option<u64>> {
        let at = at.clone();
        self.off(move |folder| folder.length_of(&at)).await
    }

    async fn remove(&self, at: &Location) -> Result<()> {
        let at = at.clone();
        self.off(move |folder| folder.remove_both(&at)).await
    }

    async fn list(&self, after: Option<&Location>, most: usize) -> Result<Vec<Listed>> {
        let after = after.cloned();
        self.off(move |folder| folder.list_after(after.as_ref(), most)).await
    }

    async fn address(&self, _: &Location, _: Duration) -> Result<String> {
        Err(Error::new(ErrorKind::Unsupported, "objects in a folder have no addresses of their own")
            .with("place", self.place())
            .with_next("keep objects in S3 or another object store, or read them through Millpond"))
    }
}

/// What the thread of an object that is being written is told.
#[derive(Debug)]
enum Step {
    Piece(Bytes),
    Keep(Option<Note>),
}

/// An object that is being written by a thread of its own.
#[derive(Debug)]
struct Growing {
    steps: mpsc::Sender<Step>,
    thread: JoinHandle<Result<()>>,
}

impl Growing {
    /// Why the thread takes nothing more.
    async fn why(&mut self) -> Error {
        match (&mut self.thread).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::invalid("nothing is written to an object after an error"),
            Err(error) => gone(error),
        }
    }
}

#[async_trait]
impl Writing for Growing {
    async fn write(&mut self, piece: Bytes) -> Result<()> {
        match self.steps.send(Step::Piece(piece)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why().await),
        }
    }

    async fn finish(mut self: Box<Self>, note: Option<&Note>) -> Result<()> {
        if self.steps.send(Step::Keep(note.cloned())).await.is_err() {
            return Err(self.why().await);
        }
        self.thread.await.unwrap_or_else(|e| Err(gone(e)))
    }
}

fn absent<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == Io::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("flush", folder))
}

fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::unavailable(format!("cannot {what} {path}")).with_source(e).with_next("check the disk and the permissions")
}

fn gone(error: tokio::task::JoinError) -> Error {
    Error::unavailable("the thread that works on objects went away").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(unit: u128, number: u32) -> Location {
        Location::new(Uuid::from_u128(unit), number)
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("objects")).unwrap();
        (place, folder)
    }

    #[tokio::test]
    async fn what_is_put_is_read_whole_and_in_ranges() {
        let (_place, folder) = folder();
        let at = at(7, 1);
        assert_eq!(folder.read(&at, 0..9).await.unwrap(), None);
        assert_eq!(folder.length(&at).await.unwrap(), None);
        folder.put(&at, Bytes::from_static(b"0123456789"), None).await.unwrap();
        for (range, expected) in [(0..10, "0123456789"), (3..5, "34"), (8..99, "89"), (10..11, ""), (99..100, "")] {
            assert_eq!(folder.read(&at, range.clone()).await.unwrap().unwrap(), expected, "{range:?}");
        }
        assert_eq!(folder.length(&at).await.unwrap(), Some(10));
        folder.remove(&at).await.unwrap();
        folder.remove(&at).await.unwrap();
        assert_eq!(folder.length(&at).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_object_is_never_written_over() {
        let (_place, folder) = folder();
        let at = at(7, 1);
        folder.put(&at, "first".into(), None).await.unwrap();
        assert_eq!(folder.put(&at, "second".into(), None).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(folder.begin(&at, None).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(folder.read(&at, 0..9).await.unwrap().unwrap(), "first");
    }

    #[tokio::test]
    async fn pieces_become_an_object_and_what_is_dropped_becomes_none() {
        let (_place, folder) = folder();
        let mut writing = folder.begin(&at(7, 1), None).await.unwrap();
        for piece in ["one ", "two ", "three"] {
            writing.write(piece.into()).await.unwrap();
        }
        writing.finish(None).await.unwrap();
        assert_eq!(folder.read(&at(7, 1), 0..99).await.unwrap().unwrap(), "one two three");

        let mut writing = folder.begin(&at(7, 2), None).await.unwrap();
        writing.write("half".into()).await.unwrap();
        drop(writing);
        for _ in 0..1_000 {
            if folder.length(&at(7, 2)).await.unwrap().is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("what was given up is still there");
    }

    #[tokio::test]
    async fn a_note_lies_beside_the_bytes_and_goes_with_them() {
        let (place, folder) = folder();
        let notes = ["begun", "finished"].map(|is| Note::of(&serde_json::json!({ "is": is })).unwrap());
        folder.put(&at(7, 1), "whole".into(), Some(&notes[1])).await.unwrap();
        let mut writing = folder.begin(&at(7, 2), Some(&notes[0])).await.unwrap();
        writing.write("in pieces".into()).await.unwrap();
        writing.finish(Some(&notes[1])).await.unwrap();
        for at in [at(7, 1), at(7, 2)] {
            let file = place.path().join(format!("objects/{at}.meta.json"));
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"is\":\"finished\"}\n");
            folder.remove(&at).await.unwrap();
            assert!(!file.exists(), "{at}");
        }
    }

    /// A note that was left behind would be found by nobody: it is in no list.
    #[tokio::test]
    async fn an_object_goes_after_its_note_and_does_not_come_about_without_it() {
        let (place, folder) = folder();
        let note = Note::of(&serde_json::json!({})).unwrap();
        for number in [1, 2] {
            // What stands where the note belongs can be neither removed nor written.
            std::fs::create_dir_all(place.path().join(format!("objects/{}.meta.json", at(7, number)))).unwrap();
        }
        folder.put(&at(7, 1), "bytes".into(), None).await.unwrap();
        assert_eq!(folder.remove(&at(7, 1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(folder.length(&at(7, 1)).await.unwrap(), Some(5));
        assert_eq!(folder.put(&at(7, 2), "bytes".into(), Some(&note)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    /// Who gave a write up removes what there is; the thread that still writes finds out, and leaves no note behind.
    #[test]
    fn who_still_writes_what_was_removed_leaves_nothing() {
        let (place, folder) = folder();
        let note = Note::of(&serde_json::json!({})).unwrap();
        let file = folder.create(&at(7, 1)).unwrap();
        folder.remove_both(&at(7, 1)).unwrap();
        let late = folder.keep(&at(7, 1), &file, Some(&note)).inspect_err(|_| folder.forget(&at(7, 1)));
        assert!(late.unwrap_err().to_string().contains("was removed"));
        let left = std::fs::read_dir(place.path().join("objects").join(at(7, 1).folder())).unwrap().count();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn lists_go_on_where_they_ended_and_leave_out_what_is_no_object() {
        let (place, folder) = folder();
        assert_eq!(folder.list(None, 9).await.unwrap(), []);
        let mut all: Vec<Location> = (0..7).flat_map(|unit| (0..3).map(move |n| at(unit, n))).collect();
        let note = Note::of(&serde_json::json!({"is": "no object"})).unwrap();
        for location in &all {
            folder.put(location, location.to_string().into(), Some(&note)).await.unwrap();
        }
        std::fs::write(place.path().join("objects/README"), "somebody's").unwrap();
        std::fs::write(place.path().join("objects/00/notes.txt"), "somebody's").unwrap();
        all.sort();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = folder.list(after.as_ref(), 4).await.unwrap();
            assert!(page.len() <= 4);
            let Some(last) = page.last() else { break };
            after = Some(last.location.clone());
            found.extend(page.into_iter().map(|listed| listed.location));
        }
        assert_eq!(found, all);
    }
}
