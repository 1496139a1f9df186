//! A place for objects, by its URL.

use std::sync::Arc;

use millpond_core::{Error, Host, Result};

use crate::{Folder, Memory, Objects};

/// What is said where a URL leads nowhere.
const PLACES: &str = "give a folder, file:DIR, memory:, s3://BUCKET/PREFIX, minio://HOST:PORT/BUCKET/PREFIX, \
                      gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or object-file:DIR";

/// Opens a place for objects: a path or `file:DIR`, `memory:`, `s3://BUCKET/PREFIX`, `minio://HOST:PORT/BUCKET/PREFIX`,
/// `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, or `object-file:DIR`, a folder through the same client as those.
///
/// The objects are below `root` there, a name such as a store's id, so that several stores share one place. Nothing is
/// asked of the place and nothing is made in it before the first object (but `object-file:` makes its folder). Parameters
/// are those of a journal in an object store (`endpoint`, `region`, `timeout` and so on); credentials come from the cloud's
/// own variables.
///
/// # Errors
/// `Invalid` for a URL that leads nowhere, holds credentials or has unknown parameters, and for a root that is no name;
/// `Unsupported` for a place that is not part of this program.
pub fn open(url: &str, root: &str, host: &Arc<dyn Host>) -> Result<Arc<dyn Objects>> {
    is_name(root)?;
    match scheme(url) {
        ("", "") => Err(Error::invalid("the place for objects is empty").with_next(PLACES)),
        ("", path) => folder(path, root),
        ("file", path) => match path.split_once('?') {
            Some(_) => Err(Error::invalid("file: has no parameters here").with_next("write file:DIR")),
            None if path.is_empty() => Err(Error::invalid("file: names no folder").with_next("write file:DIR")),
            None => folder(path.strip_prefix("//").unwrap_or(path), root),
        },
        ("memory", "") => Ok(Arc::new(Memory::new())),
        ("memory", _) => Err(Error::invalid("memory: takes nothing after the colon")),
        ("s3" | "minio" | "gs" | "az" | "object-file", _) => remote(url, root, host),
        (other, _) => Err(Error::invalid(format!("there are no objects at {other}:")).with_next(PLACES)),
    }
}

/// What stands before the first colon, if it is a scheme: one letter is a drive, and a path may hold a colon.
fn scheme(url: &str) -> (&str, &str) {
    match url.split_once(':') {
        Some((scheme, rest)) if scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            (scheme, rest)
        }
        _ => ("", url),
    }
}

/// Refuses a root that would lead elsewhere, or be another one in some places.
fn is_name(root: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if !root.is_empty() && root.len() <= 64 && root.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::invalid(format!("{root:?} cannot be the root of objects"))
        .with_next("give up to 64 small letters, digits, - and _, such as the store's id"))
}

fn folder(path: &str, root: &str) -> Result<Arc<dyn Objects>> {
    Ok(Arc::new(Folder::new(std::path::Path::new(path).join(root))?))
}

#[cfg(feature = "object")]
fn remote(url: &str, root: &str, host: &Arc<dyn Host>) -> Result<Arc<dyn Objects>> {
    if url.split_once('?').is_some_and(|(_, parameters)| parameters.split('&').any(|p| p.starts_with("durable"))) {
        return Err(Error::invalid("durable= says nothing about objects: they are kept as the store keeps them")
            .with_next("leave it out; it belongs to the place of a store"));
    }
    let place = crate::place::ObjectPlace::parse(url)?
        .ok_or_else(|| Error::invalid("this is no object store's URL").with_next(PLACES))?;
    Ok(Arc::new(crate::Bucket::new(place, root, Arc::clone(host))))
}

#[cfg(not(feature = "object"))]
fn remote(url: &str, _: &str, _: &Arc<dyn Host>) -> Result<Arc<dyn Objects>> {
    let (scheme, _) = scheme(url);
    Err(Error::new(millpond_core::ErrorKind::Unsupported, format!("{scheme}: is not part of this program"))
        .with_next("build Millpond with the feature `object`, or give a folder"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_core::{ErrorKind, SystemHost};

    fn opened(url: &str, root: &str) -> Result<String> {
        let host: Arc<dyn Host> = Arc::new(SystemHost);
        open(url, root, &host).map(|objects| objects.place().to_owned())
    }

    #[test]
    fn a_url_leads_below_its_root() {
        let here = std::env::current_dir().unwrap();
        for url in ["./a/b", "a/b", "file:a/b", "file:./a/b"] {
            assert_eq!(opened(url, "0198").unwrap(), format!("file:{}", here.join("a/b/0198").display()), "{url}");
        }
        assert_eq!(opened("file:///srv/x", "0198").unwrap(), "file:/srv/x/0198");
        assert_eq!(opened("/srv/a:b", "0198").unwrap(), "file:/srv/a:b/0198");
        assert_eq!(opened("memory:", "0198").unwrap(), "memory:");
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for url in ["", "file:", "file:a?x=1", "memory:x", "ftp://h/x", "sqlite:a.db"] {
            assert_eq!(opened(url, "r").unwrap_err().kind(), ErrorKind::Invalid, "{url}");
        }
        for root in ["", "..", "a/b", "a.b", "A", &"x".repeat(65)] {
            assert_eq!(opened("memory:", root).unwrap_err().kind(), ErrorKind::Invalid, "{root}");
        }
    }

    #[test]
    #[cfg(feature = "object")]
    fn a_parameter_without_a_meaning_is_refused() {
        let error = opened("s3://b/p?region=x&durable=power-loss", "r").unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("durable"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "object"))]
    fn a_place_that_was_left_out_says_how_to_get_it() {
        for url in ["s3://b/p", "minio://h:1/b", "gs://b", "az://c", "object-file:x"] {
            let error = opened(url, "r").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{url}");
            assert!(error.next().is_some_and(|next| next.contains("`object`")), "{error:?}");
        }
    }
}
