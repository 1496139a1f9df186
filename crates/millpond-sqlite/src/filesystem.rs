//! What kind of file system a store is on: some cannot keep what an acknowledgement promises.

use std::fmt;
use std::path::Path;

use millpond_core::{Durability, Error, Examination, HealthCheck, Result};

/// As far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// A disk of this machine, or nothing that is known to be worse.
    Local,
    /// Memory: gone with the machine's power.
    Memory(&'static str),
    /// Somewhere else: locks and flushes are another machine's word.
    Network(&'static str),
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Memory(name) | Self::Network(name) => f.write_str(name),
        }
    }
}

/// The numbers by which Linux names them.
const KNOWN: [(u32, FileSystem); 16] = [
    (0x0102_1994, FileSystem::Memory("tmpfs")),
    (0x8584_58f6, FileSystem::Memory("ramfs")),
    (0x0000_6969, FileSystem::Network("nfs")),
    (0x0000_517b, FileSystem::Network("smb")),
    (0xff53_4d42, FileSystem::Network("cifs")),
    (0xfe53_4d42, FileSystem::Network("smb2")),
    (0x0102_1997, FileSystem::Network("9p")),
    (0x6573_5546, FileSystem::Network("fuse, which may be sshfs")),
    (0x6a65_6a63, FileSystem::Network("virtiofs")),
    (0x5346_414f, FileSystem::Network("afs")),
    (0x00c3_6400, FileSystem::Network("ceph")),
    (0x7375_7245, FileSystem::Network("coda")),
    (0x0bd0_0bd0, FileSystem::Network("lustre")),
    (0x4750_4653, FileSystem::Network("gpfs")),
    (0x7461_636f, FileSystem::Network("ocfs2")),
    (0x0116_1970, FileSystem::Network("gfs2")),
];

impl FileSystem {
    /// What a flushed file survives there. What another machine does with a flush cannot be asked.
    pub fn durability(self) -> Durability {
        match self {
            Self::Memory(_) | Self::Network(_) => Durability::ProcessCrash,
            Self::Local => Durability::PowerLoss,
        }
    }

    /// Adds the sentence that says what may be lost there, where the class alone does not say why.
    #[must_use]
    pub fn explain(self, examined: Examination) -> Examination {
        match self {
            Self::Local => examined,
            Self::Memory(kind) => {
                examined.saying(format!("the store is on {kind}, which is memory: if power fails now, everything is lost"))
            }
            Self::Network(kind) => examined.saying(format!(
                "the store is on {kind}: whether its server flushes when it is asked to cannot be told; if that machine loses \
                 power now, you may lose commits that were acknowledged"
            )),
        }
    }

    /// Whether a store should be there.
    pub fn check(self) -> HealthCheck {
        const NAME: &str = "file_system";
        match self {
            Self::Local => HealthCheck::ok(NAME, "the store is on a disk of this machine"),
            Self::Memory(kind) => {
                HealthCheck::warning(NAME, format!("the store is on {kind}: gone with this machine's power"), "put it on a disk")
            }
            Self::Network(kind) => HealthCheck::warning(
                NAME,
                format!("the store is on {kind}: its locks and flushes may not hold between machines"),
                "put it on a local disk, or use a store with a server",
            ),
        }
    }

    fn named(number: u32) -> Self {
        KNOWN.iter().find(|(known, _)| *known == number).map_or(Self::Local, |(_, kind)| *kind)
    }

    /// What a file or folder is on.
    ///
    /// # Errors
    /// `Unavailable` when the system does not say.
    #[cfg(target_os = "linux")]
    pub fn of(folder: &Path) -> Result<Self> {
        let found = rustix::fs::statfs(folder)
            .map_err(|e| Error::unavailable(format!("cannot tell what file system {} is on", folder.display())).with_source(e))?;
        // The field's width and sign differ between machines; the numbers have 32 bits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
        Ok(Self::named(found.f_type as u32))
    }

    /// Other systems are not asked.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_: &Path) -> Result<Self> {
        Ok(Self::Local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::Finding;

    #[test]
    fn known_file_systems_are_told_apart() {
        assert_eq!(FileSystem::named(0x6969), FileSystem::Network("nfs"));
        assert_eq!(FileSystem::named(0x0102_1994), FileSystem::Memory("tmpfs"));
        assert_eq!(FileSystem::named(0xef53), FileSystem::Local);
        let here = FileSystem::of(Path::new("/proc")).unwrap();
        assert_eq!(here, FileSystem::Local);
    }

    #[test]
    fn only_a_disk_of_this_machine_passes_without_a_word() {
        assert_eq!(FileSystem::Local.check().finding, Finding::Ok);
        assert_eq!(FileSystem::Memory("tmpfs").check().finding, Finding::Warning);
        assert_eq!(FileSystem::Network("nfs").check().finding, Finding::Warning);
        assert_eq!(FileSystem::Memory("tmpfs").durability(), Durability::ProcessCrash);
        assert_eq!(FileSystem::Network("nfs").durability(), Durability::ProcessCrash, "its flushes are another machine's word");
        assert_eq!(FileSystem::Local.durability(), Durability::PowerLoss);
    }
}
