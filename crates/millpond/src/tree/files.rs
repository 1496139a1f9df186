//! Files of the tree: replaced at once, and never while they hold what a person wrote.
//!
//! A file is written beside the tree and then exchanged with the one in its place, so that whoever reads sees the old
//! or the new one, and what was in its place is still there to be looked at. Only then is it removed.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind as Io, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millpond_core::{Error, Result};

use crate::text::sha256_hex;

/// Where the tree keeps what is its own.
pub(super) const OWN: &str = ".millpond";
/// Where edits are kept that could not be adopted.
pub(super) const CONFLICTS: &str = "conflicts";
/// Looks at a file that somebody changes again and again before it is left alone.
const TRIES: usize = 8;

/// The tree's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    /// Folders whose names changed and are not durable yet.
    touched: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// What became of a file that was to be replaced or removed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is as asked for.
    Done,
    /// It holds something else than expected, and was left as it is.
    Edited(Vec<u8>),
    /// It is as asked for, but what was in its place had just been changed: it has to be kept, then forgotten.
    Raced(Aside),
}

/// What was taken out of the tree and is not kept yet. It survives a crash.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) bytes: Vec<u8>,
    at: PathBuf,
}

/// The right to write the tree, held until dropped. The system gives it back when the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code)] File); // Held for its lock alone.

pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::unavailable(format!("cannot {what} {path}")).with_source(e).with_next("check the disk and the permissions")
}

/// Whether nobody's words are in it: a file cut short by a power failure is no edit.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| b.is_ascii_whitespace() || *b == 0)
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, touched: Arc::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn own(&self) -> PathBuf {
        self.root.join(OWN)
    }

    fn temporary(&self) -> PathBuf {
        self.own().join("tmp")
    }

    /// Makes the folders.
    pub(super) fn prepare(&self) -> Result<()> {
        let tmp = self.temporary();
        std::fs::create_dir_all(&tmp).map_err(failed("make", &tmp))?;
        // What is the tree's own is no part of what a person keeps in git.
        let ignore = self.own().join(".gitignore");
        if !ignore.exists() {
            std::fs::write(&ignore, "*\n").map_err(failed("write", &ignore))?;
        }
        Ok(())
    }

    /// The lock, if nobody has it.
    pub(super) fn lock(&self) -> Result<Option<Lock>> {
        let path = self.own().join("lock");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed("lock", &path)(e)),
        }
    }

    pub(super) fn read_own(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read(&self.own().join(name))
    }

    /// Writes a file of the tree's own, at once and durably, after everything that was written before it.
    pub(super) fn write_own(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.settle()?;
        let path = self.own().join(name);
        let staged = self.stage(bytes)?;
        std::fs::rename(&staged, &path).map_err(failed("write", &path))?;
        sync_folder(&self.own())
    }

    /// Makes the names durable that changed since the last time.
    fn settle(&self) -> Result<()> {
        let touched = std::mem::take(&mut *self.touched());
        touched.iter().filter(|f| f.is_dir()).try_for_each(|f| sync_folder(f))
    }

    fn touched(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        read(&self.root.join(path))
    }

    /// Puts a file in its place, unless there is something whose digest is not the one expected.
    pub(super) fn put(&self, path: &str, bytes: &[u8], expected: Option<&str>) -> Result<Put> {
        let target = self.root.join(path);
        for _ in 0..TRIES {
            let current = read(&target)?;
            match &current {
                Some(current) if current == bytes => return Ok(Put::Done),
                Some(current) if !is_blank(current) && expected != Some(sha256_hex(current).as_str()) => {
                    return Ok(Put::Edited(current.clone()));
                }
                _ => {}
            }
            self.make_parents(&target)?;
            let staged = self.stage(bytes)?;
            let Some(before) = current else {
                if place(&staged, &target)? {
                    return Ok(Put::Done);
                }
                continue;
            };
            exchange(&staged, &target).map_err(failed("write", &target))?;
            return self.look_at_what_was(staged, &before);
        }
        Err(Error::unavailable(format!("{} changes all the time", target.display())))
    }

    /// Puts a file in its place, or takes what is there out of the tree, whatever it is: the answer is what was there.
    pub(super) fn put_over(&self, path: &str, bytes: Option<&[u8]>) -> Result<Put> {
        let target = self.root.join(path);
        self.make_parents(&target)?;
        let staged = match bytes {
            Some(bytes) => {
                let staged = self.stage(bytes)?;
                exchange(&staged, &target).map_err(failed("write", &target))?;
                staged
            }
            None => self.take_out(&target)?,
        };
        match read(&staged)? {
            Some(found) if Some(&found[..]) != bytes => Ok(Put::Raced(Aside { bytes: found, at: staged })),
            _ => forget(&staged).map(|()| Put::Done),
        }
    }

    fn take_out(&self, target: &Path) -> Result<PathBuf> {
        let staged = self.temporary().join(format!("removed-{}.swap", unique()));
        match std::fs::rename(target, &staged) {
            Err(e) if e.kind() != Io::NotFound => return Err(failed("remove", target)(e)),
            _ => {}
        }
        self.prune(target);
        Ok(staged)
    }

    /// Takes a file out of the tree, unless its digest is not the one expected.
    pub(super) fn remove(&self, path: &str, expected: Option<&str>) -> Result<Put> {
        let target = self.root.join(path);
        let Some(before) = read(&target)? else { return Ok(Put::Done) };
        if !is_blank(&before) && expected != Some(sha256_hex(&before).as_str()) {
            return Ok(Put::Edited(before));
        }
        let staged = self.take_out(&target)?;
        self.look_at_what_was(staged, &before)
    }

    /// What was exchanged goes when it is what was seen before; somebody may have been faster.
    fn look_at_what_was(&self, staged: PathBuf, before: &[u8]) -> Result<Put> {
        match read(&staged)? {
            Some(found) if found != before => Ok(Put::Raced(Aside { bytes: found, at: staged })),
            _ => {
                forget(&staged)?;
                Ok(Put::Done)
            }
        }
    }

    /// Writes bytes durably under a name that tells whether they have been exchanged for others.
    fn stage(&self, bytes: &[u8]) -> Result<PathBuf> {
        let name = format!("{}-{}", sha256_hex(bytes), unique());
        let writing = self.temporary().join(format!("{name}.writing"));
        let staged = self.temporary().join(format!("{name}.swap"));
        let written = File::create(&writing).and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_data()));
        written.and_then(|()| std::fs::rename(&writing, &staged)).map_err(failed("write", &writing))?;
        Ok(staged)
    }

    pub(super) fn make_parents(&self, target: &Path) -> Result<()> {
        let Some(parent) = target.parent() else { return Ok(()) };
        if !parent.is_dir() {
            std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
        }
        let folders = target.ancestors().skip(1).take_while(|f| f.starts_with(&self.root)).map(Path::to_owned);
        self.touched().extend(folders);
        Ok(())
    }

    /// Removes the folders that became empty.
    fn prune(&self, target: &Path) {
        let mut folder = target.parent();
        while let Some(here) = folder.filter(|f| f.starts_with(&self.root) && *f != self.root) {
            if std::fs::remove_dir(here).is_err() {
                self.touched().insert(here.to_owned());
                return;
            }
            folder = here.parent();
        }
        self.touched().insert(self.root.clone());
    }

    /// What a process that ended left over and that is nobody's words is removed; the rest is answered.
    ///
    /// `known` says whether bytes of this digest are what the tree wrote.
    pub(super) fn leftovers(&self, known: impl Fn(&str) -> bool) -> Result<(usize, Vec<Aside>)> {
        let (mut removed, mut foreign, tmp) = (0, Vec::new(), self.temporary());
        for entry in std::fs::read_dir(&tmp).map_err(failed("list", &tmp))? {
            let path = entry.map_err(failed("list", &tmp))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = read(&path)?.unwrap_or_default();
            let digest = sha256_hex(&bytes);
            if name.ends_with(".writing") || name.starts_with(&digest) || is_blank(&bytes) || known(&digest) {
                tracing::warn!(file = %path.display(), "a temporary file that was left over is removed");
                forget(&path)?;
                removed += 1;
            } else {
                foreign.push(Aside { bytes, at: path });
            }
        }
        Ok((removed, foreign))
    }

    /// A place for a file that is written bit by bit. One that is left over is nobody's words.
    pub(super) fn temporary_for(&self, name: &str) -> PathBuf {
        self.temporary().join(format!("{name}-{}.writing", unique()))
    }

    /// Every file of the tree, by path; without what is the tree's own, what is kept aside, and hidden files.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for kind in ["workflows", "flows", "records", "streams"] {
            list_into(&self.root, Path::new(kind), &mut found)?;
        }
        found.sort();
        Ok(found)
    }

    /// Keeps an edit aside, with the reason beside it. Answers where, below the tree's folder.
    pub(super) fn keep(&self, path: &str, bytes: &[u8], reason: &str) -> Result<String> {
        let conflicts = self.root.join(CONFLICTS);
        std::fs::create_dir_all(&conflicts).map_err(failed("make", &conflicts))?;
        let mut number = highest(&conflicts)? + 1;
        let place = loop {
            let place = conflicts.join(number.to_string());
            match std::fs::create_dir(&place) {
                Ok(()) => break place,
                Err(e) if e.kind() == Io::AlreadyExists => number += 1,
                Err(e) => return Err(failed("make", &place)(e)),
            }
        };
        let file = place.join(path);
        self.make_parents(&file)?;
        self.touched().extend([place.clone(), conflicts]);
        for (path, bytes) in [(file, bytes), (place.join("reason.txt"), reason.as_bytes())] {
            let written = File::create(&path).and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()));
            written.map_err(failed("write", &path))?;
        }
        self.settle()?;
        Ok(format!("{CONFLICTS}/{number}/{path}"))
    }

    /// Moves everything aside that belongs to another store.
    pub(super) fn set_aside(&self, store_id: &str) -> Result<Option<String>> {
        let there = ["workflows", "flows", "records", "streams"].map(|kind| self.root.join(kind));
        if there.iter().all(|kind| !kind.exists()) {
            return Ok(None);
        }
        let mut name = format!("{CONFLICTS}/store-{store_id}");
        while self.root.join(&name).exists() {
            name.push_str("-again");
        }
        let place = self.root.join(&name);
        std::fs::create_dir_all(&place).map_err(failed("make", &place))?;
        for kind in there.iter().filter(|kind| kind.exists()) {
            let to = place.join(kind.file_name().unwrap_or_default());
            std::fs::rename(kind, &to).map_err(failed("move", kind))?;
        }
        self.touched().extend([self.root.clone(), place]);
        self.settle()?;
        Ok(Some(name))
    }
}

impl Aside {
    /// Its bytes are kept elsewhere by now.
    pub(super) fn forget(self) -> Result<()> {
        forget(&self.at)
    }
}

fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == Io::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != Io::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("flush", folder))
}

/// Puts a file where there is none; false when there is one by now.
fn place(staged: &Path, target: &Path) -> Result<bool> {
    match std::fs::hard_link(staged, target) {
        Ok(()) => {}
        Err(e) if e.kind() == Io::AlreadyExists => {
            forget(staged)?;
            return Ok(false);
        }
        // A file system without links.
        Err(_) => std::fs::rename(staged, target).map_err(failed("write", target))?,
    }
    forget(staged)?;
    Ok(true)
}

/// Exchanges two files at once. Where the system cannot, the second is replaced.
#[cfg(target_os = "linux")]
fn exchange(staged: &Path, target: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, staged, CWD, target, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // The file went away meanwhile, or the file system does not know how.
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => std::fs::rename(staged, target),
        Err(other) => Err(other.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(staged: &Path, target: &Path) -> std::io::Result<()> {
    std::fs::rename(staged, target)
}

fn highest(conflicts: &Path) -> Result<u64> {
    let entries = std::fs::read_dir(conflicts).map_err(failed("list", conflicts))?;
    let names = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u64>().ok());
    Ok(names.max().unwrap_or(0))
}

fn list_into(root: &Path, at: &Path, found: &mut Vec<String>) -> Result<()> {
    let folder = root.join(at);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), Io::NotFound | Io::NotADirectory) => return Ok(()),
        Err(e) => return Err(failed("list", &folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(failed("list", &folder))?;
        // A name that is not UTF-8 is none that the tree gives.
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if name.starts_with('.') {
            continue;
        }
        let path = at.join(&name);
        let kind = entry.file_type().map_err(failed("look at", &folder))?;
        if kind.is_dir() {
            list_into(root, &path, found)?;
        } else if kind.is_file() {
            found.extend(path.to_str().map(str::to_owned));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(place.path().join("tree"));
        folder.prepare().expect("made");
        (place, folder)
    }

    #[test]
    fn what_a_person_wrote_is_not_replaced() {
        let (_place, folder) = folder();
        let known = sha256_hex(b"ours");
        assert_eq!(folder.put("flows/a.yaml", b"ours", None).expect("put"), Put::Done);
        assert_eq!(folder.put("flows/a.yaml", b"newer", Some(&known)).expect("put"), Put::Done);
        assert_eq!(folder.put("flows/a.yaml", b"newest", Some(&known)).expect("put"), Put::Edited(b"newer".to_vec()));
        assert_eq!(folder.remove("flows/a.yaml", Some(&known)).expect("remove"), Put::Edited(b"newer".to_vec()));
        assert_eq!(folder.read("flows/a.yaml").expect("read").as_deref(), Some(&b"newer"[..]));
        assert_eq!(folder.remove("flows/a.yaml", Some(&sha256_hex(b"newer"))).expect("remove"), Put::Done);
        assert!(!folder.root().join("flows").exists(), "an empty folder goes with its last file");
        std::fs::write(folder.root().join("x"), b"\n\0").expect("a file that was cut short");
        assert_eq!(folder.put("x", b"ours", None).expect("put"), Put::Done);
        assert_eq!(folder.leftovers(|_| false).expect("none"), (0, Vec::new()));
    }

    #[test]
    fn leftovers_are_removed_unless_they_are_a_persons() {
        let (_place, folder) = folder();
        let tmp = folder.temporary();
        let staged = folder.stage(b"written whole, never exchanged").expect("staged");
        std::fs::write(tmp.join("abc-1-1.writing"), b"half of it").expect("a file");
        std::fs::write(tmp.join("abc-1-2.swap"), b"what was there before").expect("a file");
        std::fs::write(tmp.join("abc-1-3.swap"), b"a person's words").expect("a file");
        let before = sha256_hex(b"what was there before");
        let (removed, foreign) = folder.leftovers(|digest| digest == before).expect("looked");
        assert_eq!((removed, foreign.len()), (3, 1));
        assert_eq!(foreign[0].bytes, b"a person's words");
        assert!(!staged.exists() && tmp.join("abc-1-3.swap").exists());
    }

    #[test]
    fn what_is_kept_has_a_place_and_a_reason_of_its_own() {
        let (_place, folder) = folder();
        let first = folder.keep("flows/a.yaml", b"one", "because").expect("kept");
        let second = folder.keep("flows/a.yaml", b"two", "because").expect("kept");
        assert_eq!((first.as_str(), second.as_str()), ("conflicts/1/flows/a.yaml", "conflicts/2/flows/a.yaml"));
        assert_eq!(folder.read(&second).expect("read").as_deref(), Some(&b"two"[..]));
        assert_eq!(folder.read("conflicts/1/reason.txt").expect("read").as_deref(), Some(&b"because"[..]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_exchanged_is_looked_at() {
        let (_place, folder) = folder();
        folder.put("a", b"ours", None).expect("put");
        let staged = folder.stage(b"new").expect("staged");
        // Somebody saves between the look and the exchange.
        std::fs::write(folder.root().join("a"), b"theirs").expect("saved");
        exchange(&staged, &folder.root().join("a")).expect("exchanged");
        let Put::Raced(aside) = folder.look_at_what_was(staged, b"ours").expect("looked") else { panic!("not noticed") };
        assert_eq!(aside.bytes, b"theirs");
        aside.forget().expect("forgotten");
        assert_eq!(folder.read("a").expect("read").as_deref(), Some(&b"new"[..]));
    }
}
