//! What the tests of the program share.
#![allow(dead_code)] // Each test file uses its own part.

pub mod life;
pub mod scene;
pub mod written_off;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use millpond::{Host, SystemHost};

/// The program.
pub fn millpond() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_millpond"))
}

/// A runtime for a test that opens a store itself.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A seed that was not used before.
pub fn fresh_seed() -> u64 {
    u64::try_from(SystemHost.random() >> 64).expect("64 bits")
}

/// Repeatable numbers (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below this one, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Writes a corpus of Markdown and text files in folders, and returns how many of them cannot be read.
pub fn corpus(root: &Path, files: usize, random: &mut Random) -> usize {
    let syllables = ["mi", "ll", "po", "nd", "ra", "ve", "to", "ka", "su", "en", "or", "ti", "lu", "ga"];
    let words: Vec<String> = (0..600)
        .map(|_| (0..2 + random.below(3)).map(|_| syllables[usize::try_from(random.below(14)).expect("small")]).collect())
        .collect();
    let mut unreadable = 0;
    for number in 0..files {
        let folder = root.join(format!("part-{:02}", number % 20));
        std::fs::create_dir_all(&folder).expect("a folder");
        let extension = if number % 3 == 0 { "txt" } else { "md" };
        let path = folder.join(format!("document {number:04}.{extension}"));
        if number % 97 == 5 {
            unreadable += 1;
            if number % 2 == 0 {
                std::os::unix::fs::symlink("nowhere", path).expect("a link");
            } else {
                std::fs::write(path, b"half a charact\xc3").expect("a file");
            }
            continue;
        }
        let mut text = format!("# Document {number}\n\n");
        for _ in 0..1 + random.below(5) {
            for _ in 0..20 + random.below(60) {
                let word = &words[usize::try_from(random.below(600)).expect("small")];
                let _ = write!(text, "{word} ");
            }
            text.push_str("\n\n- *one* [item](http://example.invalid/x)\n\n");
        }
        std::fs::write(path, text).expect("a file");
    }
    unreadable
}

/// The file of this name somewhere below a folder.
pub fn find(below: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            match entry.file_name() == name {
                true => return entry.path(),
                false if entry.path().is_dir() => folders.push(entry.path()),
                false => {}
            }
        }
    }
    panic!("there is no {name} below {}", below.display())
}
