//! Stores on journals, each beside what its server does by itself: one caller, bursts, a crowd, reads, several writer
//! processes, and opening.
//!
//! Every line runs on every driver of [`DRIVERS`]; a further driver is one more entry there, and its own write and
//! smallest read in `bare.rs`.

mod bare;
mod burst;
mod loops;
mod opening;
mod place;
mod reads;
mod writers;

use millpond_testservers::{Backend, RunningBackend};
use tokio::runtime::Runtime;

use crate::report::Report;
use crate::world::{self, Done};

pub use opening::OPENER;
pub use place::S3_KEYS;
pub use writers::WRITER;

/// What lines are made for, by the name that begins their items.
const DRIVERS: &[(&str, Backend)] =
    &[("file", Backend::File), ("redis", Backend::Redis), ("nats", Backend::Nats), ("s3", Backend::S3)];

/// A driver's place that runs, and what measures on it.
struct Ground<'r> {
    driver: &'static str,
    running: RunningBackend,
    runtime: &'r Runtime,
    bucket: std::cell::OnceCell<std::sync::Arc<object_store::aws::AmazonS3>>,
}

/// What is measured on a ground.
type Line = fn(&Ground<'_>, &crate::Args, &mut Report) -> Done;

/// The lines, by what ends their items.
const LINES: &[(&str, Line)] = &[
    ("append1", loops::one_caller),
    ("burst10k", burst::ten_thousand),
    ("puts1000", burst::puts),
    ("loop1000", loops::a_thousand),
    ("reads", reads::run),
    ("writers", writers::run),
];

/// All lines on every driver whose server is installed.
pub fn run(args: &crate::Args, report: &mut Report) -> Done {
    for (driver, backend) in DRIVERS {
        let wanted: Vec<&Line> =
            LINES.iter().filter(|(line, _)| report.wants(&format!("{driver}.{line}"))).map(|(_, run)| run).collect();
        let opening = args.growth && report.wants(&format!("{driver}.open"));
        if wanted.is_empty() && !opening {
            continue;
        }
        let runtime = world::runtime()?;
        let start = || -> Done<Option<Ground<'_>>> {
            let Some(running) = backend.start()? else { return Ok(None) };
            Ok(Some(Ground { driver, running, runtime: &runtime, bucket: std::cell::OnceCell::new() }))
        };
        if !wanted.is_empty() {
            let Some(ground) = start()? else { continue };
            for line in wanted {
                line(&ground, args, report)?;
            }
        }
        if opening {
            opening::run(&start, args, report)?;
        }
    }
    Ok(())
}

/// What a child process of this bench does: told by its name.
pub fn child(args: &crate::Args, what: &str) -> std::process::ExitCode {
    let result = (|| -> Done {
        let url = args.store.clone().ok_or("--store")?;
        let runtime = world::runtime()?;
        if what == WRITER { writers::child(&runtime, &url, args.secs) } else { opening::child(&runtime, &url) }
    })();
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
