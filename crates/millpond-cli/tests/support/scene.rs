//! Transcripts of the program: commands, what they print, how they end; with all that differs from run to run taken
//! out. Compared with golden files in `tests/snapshots`.

use std::fmt::Write as _;
use std::process::{Command, Output, Stdio};

/// A folder to run the program in, and what was said there so far.
pub struct Scene {
    folder: tempfile::TempDir,
    transcript: String,
}

impl Scene {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), transcript: String::new() }
    }

    pub fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Writes a file.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
        self
    }

    /// Runs the program without writing it down.
    pub fn quiet(&self, line: &str) -> Output {
        self.quiet_with(line, &[])
    }

    /// As [`Scene::quiet`], with variables.
    pub fn quiet_with(&self, line: &str, variables: &[(&str, &str)]) -> Output {
        let args = split(line);
        let mut command = Command::new(super::millpond());
        command.args(&args).current_dir(self.folder.path()).stdin(Stdio::null()).env("USER", "anna");
        let settings = ["MILLPOND_STORE", "MILLPOND_OBJECTS", "MILLPOND_NAMESPACE", "MILLPOND_REQUIRE", "MILLPOND_CONFIG"];
        for name in settings.into_iter().chain(["MILLPOND_DEMO_ACK", "RUST_BACKTRACE"]) {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        command.output().expect("the program runs")
    }

    /// Runs the program and writes it down.
    pub fn run(&mut self, line: &str) -> &mut Self {
        let output = self.quiet(line);
        let _ = writeln!(self.transcript, "$ millpond {line}");
        self.transcript.push_str(&String::from_utf8_lossy(&output.stdout));
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let _ = writeln!(self.transcript, "! {line}");
        }
        if output.status.code() != Some(0) {
            let _ = writeln!(self.transcript, "exit {}", output.status.code().unwrap_or(-1));
        }
        self.transcript.push('\n');
        self
    }

    /// Writes down what a file says.
    pub fn note(&mut self, name: &str, text: &str) {
        let _ = writeln!(self.transcript, "# {name}\n{text}");
    }

    /// Everything so far.
    pub fn transcript(&self) -> String {
        let folder = self.folder.path().display().to_string();
        self.transcript.replace(&folder, "<folder>").lines().map(redact).collect::<Vec<_>>().join("\n")
    }
}

/// Words as a shell takes them: spaces part words, single quotes keep them together.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// A line without ids, moments and cursors. Columns lose their width with them.
fn redact(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let (skip, word) = match_word(rest);
        if skip > 0 && !out.ends_with(|p: char| p.is_ascii_alphanumeric()) {
            out.push_str(word);
            rest = &rest[skip..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if let Some(at) = out.find("duration_us\": ").map(|at| at + 14).or_else(|| out.find("total_duration_us").map(|at| at + 17)) {
        out.truncate(at);
        out.push_str("  <length>");
    }
    // Only data stands in columns; indented lines are JSON or belong to the line above.
    if line.starts_with("! ") || line.starts_with(' ') {
        return out;
    }
    out.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(cell).collect::<Vec<_>>().join("  ")
}

fn match_word(text: &str) -> (usize, &'static str) {
    let bytes = text.as_bytes();
    let fits = |pattern: &str| {
        bytes.len() >= pattern.len()
            && pattern.bytes().zip(bytes).all(|(p, b)| match p {
                b'x' => b.is_ascii_hexdigit(),
                b'9' => b.is_ascii_digit(),
                p => p == *b,
            })
    };
    if fits("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
        return (36, "<id>");
    }
    if fits("9999-99-99T99:99:99.999999Z") {
        return (27, "<time>");
    }
    // Where an object is.
    if fits("xx/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.9") {
        return (37, "<location>");
    }
    // Who works: the program and the number of its process.
    if let Some(rest) = text.strip_prefix("millpond:")
        && rest.starts_with(|c: char| c.is_ascii_digit())
    {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        return ("millpond:".len() + digits, "<process>");
    }
    if text.starts_with("eyJ") {
        return (text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_').count(), "<page>");
    }
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits > 0 && bytes.len() >= digits + 9 && bytes[digits] == b'.' {
        let tail = &bytes[digits + 1..digits + 9];
        if tail.iter().all(u8::is_ascii_hexdigit) && bytes.get(digits + 9).is_none_or(|b| !b.is_ascii_alphanumeric()) {
            return (digits + 9, "<cursor>");
        }
    }
    (0, "")
}

/// A cell that says when, in words.
fn cell(text: &str) -> &str {
    let when = text == "now" || text.ends_with(" ago") || (text.starts_with("in ") && text.ends_with([' ', 's', 'n', 'h']));
    if when { "<when>" } else { text }
}
