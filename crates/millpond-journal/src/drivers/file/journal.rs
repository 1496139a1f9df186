//! One journal in a folder.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millpond_core::{Error, ErrorKind, Result};

use super::folder::{failed, hop, make_folder, sync_folder};
use super::locks::{Attempt, Lock, Queue, removed};
use super::mark::Mark;
use super::{recover, segments, snapshots};
use crate::journal::{After, Append, Exclusive, Journal, Limit, lost};

/// How often a waiting reader looks at the mark.
const LOOK: Duration = Duration::from_millis(2);
/// The largest entry.
const ENTRY_BYTES: usize = 64 << 20;

/// See the module of the driver.
#[derive(Debug)]
pub(super) struct FileJournal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    segment_bytes: u64,
    /// The file of the mark. Once it is open, the journal was there; and the mark was brought up to date. Beside the state,
    /// because who only looks at it must not wait for a flush.
    mark: OnceLock<File>,
    /// Where this process waits for its turn.
    queue: Queue,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// This handle holds the lock over several calls. Whoever relies on it keeps the state locked meanwhile, because the
    /// lock is not given back before this is taken away.
    held: bool,
    /// The segment that is open, by its first entry.
    segment: Option<(u64, Arc<File>)>,
    /// The last entry that was read or written here: where to go on.
    cursor: Option<Mark>,
    /// A flush failed: what the disk holds is unknown, so nothing is written by this handle any more.
    broken: bool,
}

impl FileJournal {
    pub(super) fn new(folder: PathBuf, segment_bytes: u64) -> Self {
        let (queue, mark) = (Queue::new(folder.clone()), OnceLock::new());
        Self(Arc::new(Inner { folder, segment_bytes, mark, queue, state: Mutex::default() }))
    }
}

/// The lock over several calls.
struct Held {
    inner: Arc<Inner>,
    _lock: Lock,
}

impl Exclusive for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.state().held = false;
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn append(&self, after: u64, entry: Bytes) -> Result<Append> {
        let inner = Arc::clone(&self.0);
        hop(move || inner.append(after, &entry)).await
    }

    async fn read(&self, after: u64, limit: Limit) -> Result<After> {
        // Nothing new, as mostly: two calls of the system, less than a hop to another thread.
        if self.0.at_tail(after)? {
            return Ok(After::Entries(Vec::new()));
        }
        let inner = Arc::clone(&self.0);
        hop(move || inner.read(after, limit)).await
    }

    async fn changed(&self, after: u64) {
        while matches!(self.0.at(), Ok(Some(mark)) if mark.number <= after) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn max_entry_bytes(&self) -> usize {
        ENTRY_BYTES
    }

    async fn exclusive(&self) -> Result<Option<Box<dyn Exclusive>>> {
        let inner = Arc::clone(&self.0);
        let lock = match Lock::attempt(&inner.folder)? {
            Attempt::Taken(lock) => Some(lock),
            Attempt::Missing => None,
            Attempt::Busy => inner.queue.wait().await?,
        };
        let Some(lock) = lock else {
            // Never written: the first append makes the folder.
            return if inner.was_there() { Err(removed(&inner.folder)) } else { Ok(None) };
        };
        inner.state().held = true;
        Ok(Some(Box::new(Held { inner, _lock: lock })))
    }

    async fn put_snapshot(&self, upto: u64, file: &Path) -> Result<()> {
        let (inner, file) = (Arc::clone(&self.0), file.to_owned());
        hop(move || snapshots::put(&inner.folder, upto, &file)).await
    }

    async fn get_snapshot(&self, file: &Path) -> Result<Option<u64>> {
        let (inner, file) = (Arc::clone(&self.0), file.to_owned());
        hop(move || snapshots::get(&inner.folder, &file)).await
    }

    async fn trim(&self, upto: u64) -> Result<()> {
        let inner = Arc::clone(&self.0);
        hop(move || inner.trim(upto)).await
    }

    async fn size(&self) -> Result<u64> {
        let inner = Arc::clone(&self.0);
        hop(move || {
            let first = segments::list(&inner.folder)?.into_iter().map(|s| segments::path(&inner.folder, s));
            first.map(|p| std::fs::metadata(&p).map(|m| m.len()).map_err(failed("look at", &p))).sum()
        })
        .await
    }
}

impl Inner {
    /// The mark, if the journal is open here.
    fn at(&self) -> Result<Option<Mark>> {
        let Some(file) = self.mark.get() else { return Ok(None) };
        Mark::read(file).map_err(|e| Error::unavailable("cannot read the journal's mark").with_source(e))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_there(&self) -> bool {
        self.mark.get().is_some()
    }

    /// Whether `after` is the last entry. False when that cannot be said at once.
    fn at_tail(&self, after: u64) -> Result<bool> {
        match self.at()? {
            Some(mark) if mark.number == after => self.holds(&mark).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Refuses a segment that is shorter than what was flushed into it.
    fn holds(&self, mark: &Mark) -> Result<()> {
        let path = segments::path(&self.folder, mark.segment);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() >= mark.end => Ok(()),
            Ok(_) => Err(lost(mark.number, mark.number.saturating_sub(1))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && mark.number == 0 => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !self.folder.exists() => Err(removed(&self.folder)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(lost(mark.number, mark.segment.saturating_sub(1)).with("file", path.display()))
            }
            Err(e) => Err(failed("look at", &path)(e)),
        }
    }

    /// Runs something under the lock; `None` when the journal's folder does not exist.
    fn locked<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<Option<T>> {
        let mut state = self.state();
        if state.held {
            return work(&mut state).map(Some);
        }
        drop(state);
        let _lock = match Lock::wait(&self.folder)? {
            Some(lock) => lock,
            None if self.was_there() => return Err(removed(&self.folder)),
            None => return Ok(None),
        };
        work(&mut self.state()).map(Some)
    }

    /// The mark under the lock, brought up to date.
    fn current_mark(&self, state: &mut State) -> Result<Mark> {
        let known = self.at()?;
        if let Some(mark) = known {
            let file = self.segment(state, mark.segment)?;
            let size = match &file {
                Some(file) => file.metadata().map_err(failed("look at", &self.folder))?,
                None if mark.number == 0 => return Ok(mark),
                None => return Err(lost(mark.number, mark.segment.saturating_sub(1))),
            };
            let next = segments::path(&self.folder, mark.number + 1);
            if size.nlink() > 0 && size.len() == mark.end && (mark.segment == mark.number + 1 || !next.exists()) {
                return Ok(mark);
            }
        }
        let path = self.folder.join("tail");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed("open", &path))?;
        let end = recover::end_of(&self.folder, Mark::read(&file).map_err(failed("read", &path))?)?;
        let end = end.unwrap_or(Mark { number: 0, segment: 1, start: 0, end: 0 });
        (state.segment, state.cursor) = (None, None);
        end.write(&file).map_err(failed("write", &path))?;
        // It is the same file as before, if there was one.
        let _ = self.mark.set(file);
        Ok(end)
    }

    /// The open file of a segment; `None` when there is no such file.
    fn segment(&self, state: &mut State, first: u64) -> Result<Option<Arc<File>>> {
        if let Some((open, file)) = &state.segment
            && *open == first
        {
            return Ok(Some(Arc::clone(file)));
        }
        let path = segments::path(&self.folder, first);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => {
                let file = Arc::new(file);
                state.segment = Some((first, Arc::clone(&file)));
                Ok(Some(file))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("open", &path)(e)),
        }
    }

    fn append(&self, after: u64, entry: &[u8]) -> Result<Append> {
        if after == 0 && !self.was_there() {
            make_folder(&self.folder)?;
        }
        self.locked(|state| self.append_locked(state, after, entry))?.ok_or_else(|| removed(&self.folder))
    }

    fn append_locked(&self, state: &mut State, after: u64, entry: &[u8]) -> Result<Append> {
        if state.broken {
            return Err(Error::unavailable("an earlier flush of the journal failed, so this handle writes nothing more")
                .with_next("check the disk, then open the store again"));
        }
        let mark = self.current_mark(state)?;
        if mark.number > after {
            return Ok(Append::Overtaken);
        }
        if mark.number < after {
            return Err(lost(after, mark.number));
        }
        let full = mark.end >= self.segment_bytes;
        let (segment, start) = if full { (after + 1, 0) } else { (mark.segment, mark.end) };
        let file = match self.segment(state, segment)? {
            Some(file) => file,
            None => self.begin_segment(state, segment)?,
        };
        let mut line = Vec::with_capacity(entry.len() + 1);
        line.extend_from_slice(entry);
        line.push(b'\n');
        let path = segments::path(&self.folder, segment);
        if let Err(error) = file.write_all_at(&line, start) {
            return Err(self.after_failed_write(state, &file, start, failed("write", &path)(error)));
        }
        let flushed = file.sync_data().map_err(failed("flush", &path));
        let flushed = flushed.and_then(|()| if start == 0 { sync_folder(&self.folder) } else { Ok(()) });
        if let Err(error) = flushed {
            return Err(self.after_failed_flush(state, &file, start, error));
        }
        let mark = Mark { number: after + 1, segment, start, end: start + line.len() as u64 };
        if let Some(file) = self.mark.get() {
            mark.write(file).map_err(|e| unknown(failed("write", &self.folder)(e)))?;
        }
        state.cursor = Some(mark);
        Ok(Append::Written)
    }

    fn begin_segment(&self, state: &mut State, first: u64) -> Result<Arc<File>> {
        let path = segments::path(&self.folder, first);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(failed("make", &path))?;
        let file = Arc::new(file);
        state.segment = Some((first, Arc::clone(&file)));
        Ok(file)
    }

    /// A line that is not whole was never flushed and never counts, as on a full disk: it goes, and nothing was written.
    fn after_failed_write(&self, state: &mut State, file: &File, start: u64, error: Error) -> Error {
        match file.set_len(start) {
            Ok(()) => error,
            Err(_) => self.after_failed_flush(state, file, start, error),
        }
    }

    /// A flush that failed once may succeed when it is asked again, without having written anything: so the line goes,
    /// and this handle writes no more.
    fn after_failed_flush(&self, state: &mut State, file: &File, start: u64, error: Error) -> Error {
        state.broken = true;
        if let Err(cut) = file.set_len(start) {
            tracing::error!(%cut, folder = %self.folder.display(), "an entry that may not be durable could not be taken back");
        }
        unknown(error)
    }

    fn read(&self, after: u64, limit: Limit) -> Result<After> {
        let mark = match self.at()? {
            Some(mark) => Some(mark),
            // Not opened here yet, or the mark is damaged.
            None => self.locked(|state| self.current_mark(state))?,
        };
        let Some(mark) = mark else {
            return if after == 0 { Ok(After::Entries(Vec::new())) } else { Err(removed(&self.folder)) };
        };
        self.holds(&mark)?;
        if mark.number < after {
            return Err(lost(after, mark.number));
        }
        if mark.number == after {
            return Ok(After::Entries(Vec::new()));
        }
        let found = self.read_upto(mark, after, limit)?;
        if !matches!(&found, After::Entries(entries) if entries.is_empty()) {
            return Ok(found);
        }
        // The segment that was gone on in ends here, and may have been trimmed together with the one that follows: what is
        // remembered of it is forgotten, and looked for by name.
        {
            let mut state = self.state();
            (state.segment, state.cursor) = (None, None);
        }
        match self.read_upto(mark, after, limit)? {
            After::Entries(entries) if entries.is_empty() => {
                Err(Error::corrupt(format!("entry {} is missing in {}", after + 1, self.folder.display()))
                    .with_next("restore the journal from a copy"))
            }
            found => Ok(found),
        }
    }

    /// The entries after `after`, which is before the mark; none if they are not where they were last time.
    fn read_upto(&self, mark: Mark, after: u64, limit: Limit) -> Result<After> {
        let Some((segment, offset)) = self.locate(&mark, after)? else { return Ok(After::Trimmed) };
        let path = segments::path(&self.folder, segment);
        let Some(file) = self.segment(&mut self.state(), segment)? else { return Ok(After::Trimmed) };
        let size = file.metadata().map_err(failed("look at", &path))?.len();
        let end = if segment == mark.segment { mark.end } else { size };
        let page = segments::page(&file, &path, offset, end, after + 1, limit)?;
        if let Some(last) = page.entries.last() {
            let cursor = Mark { number: last.number, segment, start: page.start, end: page.end };
            self.state().cursor = Some(cursor);
        }
        Ok(After::Entries(page.entries))
    }

    /// Where the entry after `after` begins. `None` when it was trimmed.
    fn locate(&self, mark: &Mark, after: u64) -> Result<Option<(u64, u64)>> {
        let known = [self.state().cursor, Some(*mark)].into_iter().flatten();
        for known in known {
            // A mark in a segment that was begun and holds nothing yet names an entry of the one before.
            if known.number == after + 1 && known.start < known.end {
                return Ok(Some((known.segment, known.start)));
            }
        }
        let cursor = self.state().cursor.filter(|c| c.number == after);
        if let Some(cursor) = cursor {
            // The next entry begins a segment when the one it would follow is full.
            let begins = segments::path(&self.folder, after + 1).exists();
            return Ok(Some(if begins { (after + 1, 0) } else { (cursor.segment, cursor.end) }));
        }
        let Some(segment) = segments::list(&self.folder)?.into_iter().rev().find(|first| *first <= after + 1) else {
            return Ok(None);
        };
        let path = segments::path(&self.folder, segment);
        let Some(file) = self.segment(&mut self.state(), segment)? else { return Ok(None) };
        let size = file.metadata().map_err(failed("look at", &path))?.len();
        let offset = segments::skip(&file, &path, 0, size, after + 1 - segment)?;
        let offset = offset.ok_or_else(|| Error::corrupt(format!("entry {} is missing in {}", after + 1, path.display())))?;
        Ok(Some((segment, offset)))
    }

    fn trim(&self, upto: u64) -> Result<()> {
        self.locked(|_| {
            let list = segments::list(&self.folder)?;
            // A segment goes when the next one begins at or before the first entry that is kept.
            for pair in list.windows(2) {
                if let [first, next] = pair
                    && *next <= upto + 1
                {
                    let path = segments::path(&self.folder, *first);
                    std::fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
            }
            sync_folder(&self.folder)
        })?;
        Ok(())
    }
}

fn unknown(error: Error) -> Error {
    Error::new(ErrorKind::UnknownOutcome, "the disk reported an error while an entry was being made durable")
        .with_source(error.to_string())
        .with_next("check the disk, open the store again, and send the same commit again under its id")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal in which every entry has a segment of its own.
    fn journal(folder: &Path) -> FileJournal {
        FileJournal::new(folder.join("j"), 1)
    }

    async fn numbers(journal: &FileJournal, after: u64) -> Option<Vec<u64>> {
        match journal.read(after, Limit::default()).await.unwrap() {
            After::Entries(entries) => Some(entries.iter().map(|e| e.number).collect()),
            After::Trimmed => None,
        }
    }

    /// Reads page by page, as the engine does.
    async fn all(journal: &FileJournal, mut after: u64) -> Option<u64> {
        loop {
            match numbers(journal, after).await?.last() {
                Some(last) => after = *last,
                None => return Some(after),
            }
        }
    }

    #[tokio::test]
    async fn a_reader_whose_segment_was_trimmed_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, reader) = (journal(folder.path()), journal(folder.path()));
        let write = async |after| assert_eq!(writer.append(after, "{}".into()).await.unwrap(), Append::Written);
        for after in 0..3 {
            write(after).await;
        }
        assert_eq!(all(&reader, 0).await, Some(3));
        for after in 3..10 {
            write(after).await;
        }
        writer.trim(6).await.unwrap();
        assert_eq!(numbers(&reader, 3).await, None, "entries 4 to 6 are gone, and this is not the tail");
        assert_eq!(all(&reader, 6).await, Some(10));
        writer.trim(9).await.unwrap();
        assert_eq!(numbers(&reader, 8).await, None);
        assert_eq!(all(&reader, 9).await, Some(10));
    }

    #[tokio::test]
    async fn a_segment_that_was_begun_and_holds_nothing_hides_no_entry() {
        let folder = tempfile::tempdir().unwrap();
        let writer = journal(folder.path());
        for after in 0..3 {
            assert_eq!(writer.append(after, "{}".into()).await.unwrap(), Append::Written);
        }
        // As a writer leaves it that is killed before its first line.
        std::fs::write(segments::path(&folder.path().join("j"), 4), "").unwrap();
        let other = journal(folder.path());
        assert_eq!(all(&other, 0).await, Some(3));
        assert_eq!(numbers(&other, 2).await, Some(vec![3]));
        assert_eq!(numbers(&journal(folder.path()), 2).await, Some(vec![3]));
        assert_eq!(other.append(3, "{}".into()).await.unwrap(), Append::Written);
        assert_eq!(numbers(&writer, 2).await, Some(vec![3]));
        assert_eq!(all(&writer, 2).await, Some(4));
    }

    #[tokio::test]
    async fn who_looks_for_the_tail_waits_for_no_flush() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        journal.append(0, "{}".into()).await.unwrap();
        let inner = Arc::clone(&journal.0);
        // As an append has it while it flushes.
        let _flushing = inner.state();
        let looked = std::thread::spawn({
            let inner = Arc::clone(&inner);
            move || inner.at_tail(1)
        });
        let begin = std::time::Instant::now();
        while !looked.is_finished() {
            assert!(begin.elapsed() < Duration::from_secs(20), "a reader waits for the writer's flush");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(looked.join().unwrap().unwrap());
    }
}
