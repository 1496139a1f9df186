//! The table for people, and the lines that stand beside the peers' benches.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;

use crate::rounds::Figure;
use crate::world::Done;

/// Prints lines as they come.
pub struct Report {
    tsv: Option<File>,
    only: Option<String>,
    peers: HashMap<(String, String), f64>,
    missed: Vec<String>,
}

/// A peer's line in its own result file: section and item.
pub type PeerLine = (&'static str, &'static str);

impl Report {
    /// Reads the peers' result files.
    pub fn new(args: &crate::Args) -> Done<Self> {
        let mut peers = HashMap::new();
        for path in &args.peers {
            for line in std::fs::read_to_string(path)?.lines() {
                let c: Vec<&str> = line.split('\t').collect();
                if let [section, item, median, ..] = c[..]
                    && let Ok(median) = median.parse()
                {
                    peers.insert((section.to_owned(), item.to_owned()), median);
                }
            }
        }
        let tsv = args.tsv.as_ref().map(File::create).transpose()?;
        Ok(Self { tsv, only: args.only.clone(), peers, missed: Vec::new() })
    }

    /// Whether a line is wanted.
    pub fn wants(&self, item: &str) -> bool {
        self.only.as_ref().is_none_or(|o| item.contains(o.as_str()))
    }

    /// What the figures were measured on.
    pub fn machine(&self, args: &crate::Args) -> Done {
        let cores = std::thread::available_parallelism()?;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let folder = crate::world::folder(args)?;
        let (p50, p99) = flush_latency(folder.path())?;
        println!("{cores} cores; load {}; 4 KiB overwrite + fdatasync: p50 {p50:.0} us, p99 {p99:.0} us", load.trim());
        println!("command: {}", std::env::args().collect::<Vec<_>>().join(" "));
        println!("{} rounds of {} s, interleaved; medians [min..max]; SQLite {}\n", args.rounds, args.secs, rusqlite::version());
        Ok(())
    }

    /// A heading.
    pub fn heading(&self, text: &str) {
        println!("## {text}");
    }

    /// A figure of ours under the item name of the peers' comparison.
    pub fn product(&mut self, item: &str, figure: Figure, unit: &str) -> Done {
        if let Some(tsv) = &mut self.tsv {
            writeln!(tsv, "product\t{item}\t{:.2}\t{:.2}\t{:.2}\t{unit}", figure.median, figure.min, figure.max)?;
        }
        Ok(())
    }

    /// A variant's figure.
    pub fn figure(&self, name: &str, figure: Figure, unit: &str) {
        println!("  {name:<58} {:>12} [{} .. {}] {unit}", number(figure.median), number(figure.min), number(figure.max));
    }

    /// A ratio with the goal it has.
    pub fn ratio(&mut self, what: &str, ratio: f64, goal: f64) {
        self.goal(what, ratio, goal, ratio >= goal, ">=");
    }

    /// A ratio that is only shown.
    pub fn shown(&self, what: &str, ratio: f64) {
        println!("  {what:<58} {ratio:>12.2}");
    }

    /// A value with the most it may be.
    pub fn at_most(&mut self, what: &str, value: f64, goal: f64) {
        self.goal(what, value, goal, value <= goal, "<=");
    }

    fn goal(&mut self, what: &str, value: f64, goal: f64, met: bool, sign: &str) {
        let mark = if met { "ok" } else { "MISSED" };
        println!("  {what:<58} {value:>12.2}  goal {sign} {goal}  {mark}");
        if !met {
            self.missed.push(format!("{what}: {value:.2}, goal {sign} {goal}"));
        }
    }

    /// Our figure against a peer's, if its result file was given. For rates, ours over theirs; for times, theirs over ours.
    pub fn peer(&mut self, name: &str, ours: f64, line: PeerLine, goal: Option<f64>, time: bool) {
        let Some(theirs) = self.peers.get(&(line.0.to_owned(), line.1.to_owned())).copied() else { return };
        let ratio = if time { theirs / ours } else { ours / theirs };
        let what = format!("/ {name} ({})", number(theirs));
        match goal {
            Some(goal) => self.ratio(&what, ratio, goal),
            None => self.shown(&what, ratio),
        }
    }

    /// The last words.
    pub fn finish(&self) -> Done {
        println!();
        if self.missed.is_empty() {
            println!("every goal of the lines above was met");
        } else {
            println!("{} goals were missed in this run:", self.missed.len());
            for line in &self.missed {
                println!("  {line}");
            }
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut out = String::new();
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i) % 3 == 0 {
                out.push(',');
            }
            out.push(c);
        }
        out
    } else {
        format!("{value:.2}")
    }
}

/// What a flush costs on this disk, in microseconds.
fn flush_latency(folder: &std::path::Path) -> Done<(f64, f64)> {
    use std::io::Seek;
    let mut file = File::create(folder.join("flush"))?;
    let mut times = Vec::new();
    for _ in 0..300 {
        let begin = std::time::Instant::now();
        file.seek(std::io::SeekFrom::Start(0))?;
        file.write_all(&[7u8; 4096])?;
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}
