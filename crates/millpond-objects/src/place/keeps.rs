//! What an object store keeps of what it acknowledged. It cannot be asked: no call of these services tells when a server
//! flushes. So a cloud's own service is taken at its provider's word, and a server at an address of its own is not
//! (SeaweedFS, for one, acknowledges before it flushes), unless its operator says so in the URL.

use std::path::PathBuf;

/// Who says what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeps {
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
    pub fn of_service(service: &'static str, endpoint: Option<&str>, domains: &[&str]) -> Self {
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

    /// On whose word that is.
    pub fn words(&self) -> String {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_provider_s_own_address_is_taken_at_its_word() {
        let of = |endpoint| Keeps::of_service("Amazon S3", endpoint, &["amazonaws.com"]);
        for cloud in [None, Some("https://s3.eu-central-1.amazonaws.com"), Some("https://amazonaws.com:443/x")] {
            assert_eq!(of(cloud), Keeps::Promised("Amazon S3"), "{cloud:?}");
        }
        for other in
            ["http://127.0.0.1:8333", "https://minio.example", "https://notamazonaws.com", "https://amazonaws.com.evil.example"]
        {
            assert!(matches!(of(Some(other)), Keeps::NobodyKnows(_)), "{other}");
        }
    }
}
