//! What an object store keeps of what it acknowledged. It cannot be asked: no call of these services tells when a server
//! flushes. So a cloud's own service is taken at its provider's word, and a server at an address of its own is not
//! (SeaweedFS, for one, acknowledges before it flushes), unless its operator says so in the URL.

use std::path::PathBuf;

use millpond_core::{Durability, Examination, HealthCheck, Result};
use millpond_sqlite::FileSystem;

/// The name of the check that says on whose word the class rests.
const ACKNOWLEDGED: &str = "acknowledged";

/// Who says what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keeps {
    /// A cloud's own service: its provider promises it.
    Promised(&'static str),
    /// Whoever wrote the URL says so.
    Asserted,
    /// A server at an address of its own, which nobody can ask.
    NobodyKnows(String),
    /// Files of this machine, flushed by this process: it depends on their file system.
    Files(PathBuf),
    /// It is in this process's memory.
    Nothing,
}

impl Keeps {
    /// A service by the address its requests go to, if that is not the usual one. `domains` are the provider's own.
    pub(super) fn of_service(service: &'static str, endpoint: Option<&str>, domains: &[&str]) -> Self {
        let Some(endpoint) = endpoint else { return Self::Promised(service) };
        let address = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
        let host = match address.split_once(']') {
            // An address of IPv6 has colons of its own.
            Some((address, _)) if address.starts_with('[') => address.trim_start_matches('['),
            _ => address.split(['/', ':', '?']).next().unwrap_or_default(),
        };
        let of_provider = |domain: &&str| host == *domain || host.strip_suffix(*domain).is_some_and(|name| name.ends_with('.'));
        if domains.iter().any(of_provider) { Self::Promised(service) } else { Self::NobodyKnows(host.to_owned()) }
    }

    /// What an acknowledgement survives.
    pub(super) fn durability(&self) -> Durability {
        match self {
            Self::Promised(_) | Self::Asserted => Durability::PowerLoss,
            Self::NobodyKnows(_) => Durability::ProcessCrash,
            // Where it is not known, nothing is promised.
            Self::Files(folder) => FileSystem::of(folder).map_or(Durability::ProcessCrash, FileSystem::durability),
            Self::Nothing => Durability::Memory,
        }
    }

    /// On whose word that is.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Promised(service) => format!("on more than one disk, as the provider of {service} promises"),
            Self::Asserted => "on the disk, as durable=power-loss in the URL says; nobody measured it".to_owned(),
            Self::NobodyKnows(host) => format!(
                "not known: {host} cannot be asked whether it flushes before it answers, so a power cut there may take the last \
                 commits; say durable=power-loss in the URL if you know that it does"
            ),
            Self::Files(_) => "in files of this machine, flushed before the answer".to_owned(),
            Self::Nothing => "in this process's memory".to_owned(),
        }
    }

    /// What doctor says of it.
    pub(super) fn examine(&self) -> Result<Examination> {
        let examined = Examination::of(self.durability()).telling(vec![(ACKNOWLEDGED, self.words())]);
        Ok(match self {
            Self::Files(folder) => {
                let found = FileSystem::of(folder)?;
                found.explain(examined).with(found.check()).at(folder)
            }
            Self::NobodyKnows(host) => {
                let next = "say durable=power-loss in the URL if its operator knows that it flushes before it answers";
                let found = format!("whether {host} flushes before it answers cannot be asked");
                let sentence = "if power fails at the server now, you may lose commits that were acknowledged";
                examined.saying(format!("{found}: {sentence}")).with(HealthCheck::warning(ACKNOWLEDGED, found, next))
            }
            Self::Asserted => {
                let sentence = format!("{}, if the URL is right: durable=power-loss", Durability::PowerLoss.sentence());
                examined.saying(sentence).with(HealthCheck::ok(ACKNOWLEDGED, self.words()))
            }
            Self::Promised(_) | Self::Nothing => examined.with(HealthCheck::ok(ACKNOWLEDGED, self.words())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::Finding;

    #[test]
    fn only_a_provider_s_own_address_is_taken_at_its_word() {
        let of = |endpoint| Keeps::of_service("Amazon S3", endpoint, &["amazonaws.com"]).durability();
        for cloud in [None, Some("https://s3.eu-central-1.amazonaws.com"), Some("https://amazonaws.com:443/x")] {
            assert_eq!(of(cloud), Durability::PowerLoss, "{cloud:?}");
        }
        for other in
            ["http://127.0.0.1:8333", "https://minio.example", "https://notamazonaws.com", "https://amazonaws.com.evil.example"]
        {
            assert_eq!(of(Some(other)), Durability::ProcessCrash, "{other}");
        }
    }

    #[test]
    fn each_says_on_whose_word_it_stands() {
        let found = |keeps: Keeps| {
            let examined = keeps.examine().unwrap();
            (examined.durability, examined.checks[0].name, examined.checks[0].finding)
        };
        assert_eq!(found(Keeps::Promised("x")), (Durability::PowerLoss, ACKNOWLEDGED, Finding::Ok));
        assert_eq!(found(Keeps::Asserted), (Durability::PowerLoss, ACKNOWLEDGED, Finding::Ok));
        assert_eq!(found(Keeps::NobodyKnows("h".to_owned())), (Durability::ProcessCrash, ACKNOWLEDGED, Finding::Warning));
        let asserted = Keeps::Asserted.examine().unwrap().sentence.unwrap();
        assert!(asserted.contains("durable=power-loss"), "an assertion is shown as one: {asserted}");
        let unknown = Keeps::NobodyKnows("h".to_owned()).examine().unwrap().sentence.unwrap();
        assert!(unknown.contains("cannot be asked"), "{unknown}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_are_worth_what_their_file_system_is() {
        let memory = Keeps::Files("/dev/shm".into()).examine().unwrap();
        assert_eq!((memory.durability, memory.checks[0].name), (Durability::ProcessCrash, "file_system"));
        assert_eq!((memory.checks[0].finding, memory.folder), (Finding::Warning, Some("/dev/shm".into())));
        let disk = Keeps::Files("/proc/self".into()).examine().unwrap();
        assert_eq!((disk.durability, disk.checks[0].finding), (Durability::PowerLoss, Finding::Ok));
    }
}
