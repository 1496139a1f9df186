//! `kill -9` of the writing process at many points, and of the server under load: nothing acknowledged is lost, and no
//! commit is there by half.

use std::time::{Duration, Instant};

use millpond_conformance::random::Random;

use crate::backends::{self, Kind};
use crate::writer::{Acknowledged, Writer, look};
use crate::{Failure, block_on};

/// Microseconds within which a writer is killed that was just started: it opens the store then.
const OPENING: u64 = 60_000;
/// Microseconds within which a writer is killed after an acknowledgement.
const COMMITTING: u64 = 5_000;

/// How often.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Kills of the writing process on each backend.
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// Kills of each server.
    #[arg(long, default_value_t = 2)]
    crashes: u64,
    /// What decides the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plants a defect: the writer says that it committed before it does. This command has to find it.
    #[arg(long, hide = true)]
    careless: bool,
}

/// Kills, and looks.
///
/// # Errors
/// When something acknowledged is gone.
pub fn run(on: &[String], options: &Arguments) -> Result<(), Failure> {
    for (name, kind) in backends::chosen(on)? {
        if !matches!(kind, Kind::Memory) {
            one(name, kind, options)?;
        }
    }
    Ok(())
}

fn one(name: &str, kind: Kind, options: &Arguments) -> Result<(), Failure> {
    let began = Instant::now();
    let Some(mut running) = kind.start()? else { return Ok(()) };
    let url = running.store("killed")?;
    let mut random = Random::new(options.seed);
    let mut acknowledged = Acknowledged::default();
    let (mut ahead, mut last) = (0, 0);
    for kill in 1..=options.kills {
        let mut writer = Writer::start(&url, &[], options.careless, acknowledged)?;
        // Some are killed while they open the store.
        if kill % 5 != 0 {
            writer.until(1 + random.below(150))?;
        }
        let most = if kill % 5 == 0 { OPENING } else { COMMITTING };
        std::thread::sleep(Duration::from_micros(random.below(most)));
        acknowledged = writer.kill();
        let found = block_on(look(&url, &acknowledged))??;
        if found.lost > 0 {
            return Err(
                format!("{name}: kill {kill} lost {} of {} acknowledged commits", found.lost, acknowledged.total()).into()
            );
        }
        ahead += u64::from(found.ahead > last);
        last = found.ahead;
    }
    if options.kills >= 100 && ahead == 0 {
        return Err(format!("{name}: no kill fell between a commit and its acknowledgement, so this finds little").into());
    }
    let mut crashes = 0;
    for _ in 0..options.crashes {
        let mut writer = Writer::start(&url, &[], options.careless, acknowledged)?;
        writer.until(20 + random.below(150))?;
        let crashed = running.kill();
        acknowledged = writer.kill();
        if !crashed {
            break;
        }
        running.restart()?;
        crashes += 1;
        let found = block_on(look(&url, &acknowledged))??;
        if found.lost > 0 {
            return Err(format!("{name}: a crash of the server lost {} of {} commits", found.lost, acknowledged.total()).into());
        }
    }
    println!(
        "{name}: {} kills ({ahead} between a commit and its acknowledgement), {crashes} crashes of the server; {} commits \
         acknowledged, 0 lost ({:.1?})",
        options.kills,
        acknowledged.total(),
        began.elapsed()
    );
    Ok(())
}
