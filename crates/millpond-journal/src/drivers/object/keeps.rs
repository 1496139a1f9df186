//! What an acknowledgement of an object store survives, by whose word it is known.

use millpond_core::{Durability, Examination, HealthCheck, Result};
use millpond_objects::place::Keeps;
use millpond_sqlite::FileSystem;

/// The name of the check that says on whose word the class rests.
const ACKNOWLEDGED: &str = "acknowledged";

/// What an acknowledgement survives.
pub(super) fn durability(keeps: &Keeps) -> Durability {
    match keeps {
        Keeps::Promised(_) | Keeps::Asserted => Durability::PowerLoss,
        Keeps::NobodyKnows(_) => Durability::ProcessCrash,
        // Where it is not known, nothing is promised.
        Keeps::Files(folder) => FileSystem::of(folder).map_or(Durability::ProcessCrash, FileSystem::durability),
        Keeps::Nothing => Durability::Memory,
    }
}

/// What doctor says of it.
pub(super) fn examine(keeps: &Keeps) -> Result<Examination> {
    let examined = Examination::of(durability(keeps)).telling(vec![(ACKNOWLEDGED, keeps.words())]);
    Ok(match keeps {
        Keeps::Files(folder) => {
            let found = FileSystem::of(folder)?;
            found.explain(examined).with(found.check()).at(folder)
        }
        Keeps::NobodyKnows(host) => {
            let next = "say durable=power-loss in the URL if its operator knows that it flushes before it answers";
            let found = format!("whether {host} flushes before it answers cannot be asked");
            let sentence = "if power fails at the server now, you may lose commits that were acknowledged";
            examined.saying(format!("{found}: {sentence}")).with(HealthCheck::warning(ACKNOWLEDGED, found, next))
        }
        Keeps::Asserted => {
            let sentence = format!("{}, if the URL is right: durable=power-loss", Durability::PowerLoss.sentence());
            examined.saying(sentence).with(HealthCheck::ok(ACKNOWLEDGED, keeps.words()))
        }
        Keeps::Promised(_) | Keeps::Nothing => examined.with(HealthCheck::ok(ACKNOWLEDGED, keeps.words())),
    })
}
#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::Finding;

    #[test]
    fn each_says_on_whose_word_it_stands() {
        let found = |keeps: Keeps| {
            let examined = examine(&keeps).unwrap();
            (examined.durability, examined.checks[0].name, examined.checks[0].finding)
        };
        assert_eq!(found(Keeps::Promised("x")), (Durability::PowerLoss, ACKNOWLEDGED, Finding::Ok));
        assert_eq!(found(Keeps::Asserted), (Durability::PowerLoss, ACKNOWLEDGED, Finding::Ok));
        assert_eq!(found(Keeps::NobodyKnows("h".to_owned())), (Durability::ProcessCrash, ACKNOWLEDGED, Finding::Warning));
        let asserted = examine(&Keeps::Asserted).unwrap().sentence.unwrap();
        assert!(asserted.contains("durable=power-loss"), "an assertion is shown as one: {asserted}");
        let unknown = examine(&Keeps::NobodyKnows("h".to_owned())).unwrap().sentence.unwrap();
        assert!(unknown.contains("cannot be asked"), "{unknown}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_are_worth_what_their_file_system_is() {
        let memory = examine(&Keeps::Files("/dev/shm".into())).unwrap();
        assert_eq!((memory.durability, memory.checks[0].name), (Durability::ProcessCrash, "file_system"));
        assert_eq!((memory.checks[0].finding, memory.folder), (Finding::Warning, Some("/dev/shm".into())));
        let disk = examine(&Keeps::Files("/proc/self".into())).unwrap();
        assert_eq!((disk.durability, disk.checks[0].finding), (Durability::PowerLoss, Finding::Ok));
    }
}
