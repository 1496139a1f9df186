//! Secrets: taken from the environment or a file, put into URLs, and never shown.

use std::collections::BTreeMap;

use millpond_core::{Error, Result};

/// What stands where a password was.
const MASK: &str = "PASSWORD";

/// A place as it may be shown: whatever may be a password is masked.
pub fn without_password(place: &str) -> String {
    let (address, query) = place.split_once('?').map_or((place, None), |(a, q)| (a, Some(q)));
    let address = match address.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        // A NATS token has no user before it.
        Some((scheme @ ("nats" | "tls"), (user, host))) if !user.contains(':') => format!("{scheme}://{}@{host}", masked(user)),
        Some((scheme, (user, host))) if user.contains(':') => {
            format!("{scheme}://{}:{MASK}@{host}", user.split(':').next().unwrap_or_default())
        }
        _ => address.to_owned(),
    };
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    };
    let query = query.map(|q| q.split('&').map(hide).collect::<Vec<_>>().join("&"));
    query.map_or(address.clone(), |query| format!("{address}?{query}"))
}

fn masked(text: &str) -> &str {
    if text.is_empty() { text } else { MASK }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "token"].iter().any(|word| name.contains(word))
}

/// Puts the values of `${NAME}` into a text.
///
/// # Errors
/// `Invalid` when a variable is not set, or a brace is not closed.
pub(super) fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, following) = after.split_once('}').ok_or_else(|| Error::invalid("a \"${\" is not closed with \"}\""))?;
        let value = environment.get(name).ok_or_else(|| {
            Error::invalid(format!("the environment variable {name} is not set")).with_next(format!("set {name}"))
        })?;
        whole.push_str(before);
        whole.push_str(value);
        rest = following;
    }
    whole.push_str(rest);
    Ok(whole)
}

/// Puts a password into a URL that names a user or a host and has none.
///
/// # Errors
/// `Invalid` when the URL has no place for it.
pub(super) fn with_password(url: &str, password: &str) -> Result<String> {
    let wrong = |what: &str| Error::invalid(format!("a password is given, but {what}")).with_next("write SCHEME://USER@HOST/…");
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("the URL names no host"))?;
    let (user, place) = rest.rsplit_once('@').map_or(("", rest), |(user, place)| (user, place));
    if user.contains(':') {
        return Err(wrong("the URL holds one already"));
    }
    Ok(format!("{scheme}://{user}:{}@{place}", encoded(password)))
}

/// A name or a password as it stands in the first part of a URL.
fn encoded(text: &str) -> String {
    encoded_but(text, b"-_.~")
}

/// A parameter's name or value as it stands behind a URL's `?`.
pub(super) fn parameter(text: &str) -> String {
    encoded_but(text, b"-_.~/:@,*")
}

fn encoded_but(text: &str, plain: &[u8]) -> String {
    let mut whole = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            whole.push(char::from(byte));
        } else {
            whole.push_str(&format!("%{byte:02X}"));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (place, shown) in [
            ("./folder", "./folder"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://u:s3:c@ret@h/d?pool=4", "postgres://u:PASSWORD@h/d?pool=4"),
            ("postgres://h/d?pool=4&password=s3cret", "postgres://h/d?pool=4&password=PASSWORD"),
            ("redis://:s3cret@h:1/0", "redis://:PASSWORD@h:1/0"),
            ("nats://t0ken@h:4222/s", "nats://PASSWORD@h:4222/s"),
            ("s3://b/p?secret_access_key=abc&region=x", "s3://b/p?secret_access_key=PASSWORD&region=x"),
        ] {
            assert_eq!(without_password(place), shown);
        }
    }

    #[test]
    fn a_password_is_put_where_it_belongs() {
        assert_eq!(with_password("postgres://u@h/d", "p@ss/w:rd").expect("put"), "postgres://u:p%40ss%2Fw%3Ard@h/d");
        assert_eq!(with_password("redis://h:1", "x").expect("put"), "redis://:x@h:1");
        assert!(with_password("postgres://u:old@h/d", "x").is_err());
        assert!(with_password("sqlite:a.db", "x").is_err());
    }

    #[test]
    fn variables_are_put_in_and_a_missing_one_is_named() {
        let environment = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("x${A}y${A}", &environment).expect("set"), "x1y1");
        assert!(expand("${B}", &environment).expect_err("not set").message().contains("variable B"));
        assert!(expand("${A", &environment).is_err());
    }
}
