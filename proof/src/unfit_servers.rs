//! Two real S3 servers that break the promise of a conditional create: a store on them is refused, each for its own reason.

use std::process::Command;

use millpond_testservers::UnfitS3;

use crate::Failure;
use crate::writer::open;

/// Tries both.
///
/// # Errors
/// When one of them is not refused, or for another reason; when one is not installed.
pub fn run() -> Result<(), Failure> {
    let mut missing = Vec::new();
    for kind in UnfitS3::ALL {
        let Some(server) = kind.start()? else {
            missing.push(kind.to_string());
            continue;
        };
        let opened =
            Command::new(std::env::current_exe()?).args(["open-one", &server.store()]).envs(server.variables()).output()?;
        let said = String::from_utf8_lossy(&opened.stderr).trim().to_owned();
        let reason = match kind {
            UnfitS3::Garage => "it ignores If-None-Match",
            UnfitS3::S3sFs => "of 16 writers that created one object at once",
        };
        if opened.status.success() || !said.contains(reason) {
            return Err(format!("{kind} should be refused because {reason:?}; what was said: {said:?}").into());
        }
        println!("{kind}: {said}");
    }
    match missing[..] {
        [] => Ok(()),
        _ => Err(format!("not tried, because it is not installed: {}; .ci/long-servers builds it", missing.join(", ")).into()),
    }
}

/// Opens a store, in a process that has the credentials for it.
///
/// # Errors
/// What opening fails with.
pub async fn open_one(url: &str) -> Result<(), Failure> {
    open(url).await?;
    Ok(())
}
