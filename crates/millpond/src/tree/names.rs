//! Names as paths, and back: what a key or a stream is called in a folder.
//!
//! Only `a`–`z`, `0`–`9` and `-_@+=,.` stand for themselves; every other byte is `%XX`, so that two names never meet on
//! a file system that does not tell cases or accents apart. A slash in a name is a folder. A name too long for that is
//! `~` and base 32, in folders of [`SEGMENT`] characters.

use std::fmt::Write as _;

/// Characters of one file or folder name, without its extension.
const SEGMENT: usize = 200;
/// Characters of a whole name before it is written in base 32.
const WHOLE: usize = 1_000;
/// What files end with, and no part of a name does: so no folder is called as a file.
const EXTENSIONS: [&str; 4] = [".json", ".jsonl", ".yaml", ".yml"];
/// Names that some systems keep for devices.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The path of a name, without an extension.
pub(super) fn path_of(name: &str) -> String {
    let segments: Vec<String> = name.split('/').map(segment).collect();
    let fits = segments.iter().all(|s| s.len() <= SEGMENT) && segments.iter().map(|s| s.len() + 1).sum::<usize>() <= WHOLE;
    if fits { segments.join("/") } else { long(name) }
}

/// The name whose path this is; `None` when no name has it.
pub(super) fn name_of(path: &str) -> Option<String> {
    let name = if path.starts_with('~') { short(path)? } else { percent_decoded(path)? };
    (path_of(&name) == path).then_some(name)
}

/// What a person may have meant by a path: `%XX` is decoded where it can be, everything else stands for itself.
pub(super) fn meant_by(path: &str) -> String {
    name_of(path).or_else(|| percent_decoded(path)).unwrap_or_else(|| path.to_owned())
}

fn segment(text: &str) -> String {
    let bytes = text.as_bytes();
    let device = is_device(text);
    let extension = EXTENSIONS.iter().find(|e| text.ends_with(**e)).map(|e| bytes.len() - e.len());
    let mut out = String::with_capacity(bytes.len());
    for (i, byte) in bytes.iter().copied().enumerate() {
        let plain = match byte {
            b'.' => i > 0 && i + 1 < bytes.len() && Some(i) != extension,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'@' | b'+' | b'=' | b',' => !(device && i == 0),
            _ => false,
        };
        if plain {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn is_device(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default();
    let numbered = |kind: &str| stem.strip_prefix(kind).is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    DEVICES.contains(&stem) || numbered("com") || numbered("lpt")
}

fn percent_decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Five bits a character, each folder marked as a part of a long name.
fn long(name: &str) -> String {
    let (mut out, mut held, mut bits, mut length) = (String::from("~"), 0u32, 0u32, 1);
    let mut push = |digit: u32| {
        if length == SEGMENT {
            out.push_str("/~");
            length = 1;
        }
        out.push(char::from(DIGITS[(digit & 31) as usize]));
        length += 1;
    };
    for byte in name.bytes() {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(held >> bits);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        push(held << (5 - bits));
    }
    out
}

fn short(path: &str) -> Option<String> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0u32);
    for part in path.split('/') {
        for character in part.strip_prefix('~')?.bytes() {
            let digit = DIGITS.iter().position(|d| *d == character)?;
            held = held << 5 | u32::try_from(digit).ok()?;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push(u8::try_from(held >> bits & 255).ok()?);
            }
            held &= (1 << bits) - 1;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_name_has_its_path() {
        for (name, path) in [
            ("etl", "etl"),
            ("etl@3", "etl@3"),
            ("a/b", "a/b"),
            ("Etl", "%45tl"),
            ("two words", "two%20words"),
            ("ü/日", "%C3%BC/%E6%97%A5"),
            ("a.json/b.json", "a%2Ejson/b%2Ejson"),
            ("v1.2/x", "v1.2/x"),
            (".hidden", "%2Ehidden"),
            ("...", "%2E.%2E"),
            ("end.", "end%2E"),
            ("50%", "50%25"),
            ("~x", "%7Ex"),
            ("con", "%63on"),
            ("com1.x/nul", "%63om1.x/%6Eul"),
            ("conflicts", "conflicts"),
            ("a\\b:c*d?", "a%5Cb%3Ac%2Ad%3F"),
        ] {
            assert_eq!(path_of(name), path, "{name}");
            assert_eq!(name_of(path).as_deref(), Some(name));
        }
        let long = format!("{}/x", "Long".repeat(60));
        let path = path_of(&long);
        assert!(path.starts_with("~9hnmspqcdtn") && path.split('/').all(|s| s.len() <= SEGMENT), "{path}");
        assert_eq!(name_of(&path), Some(long));
        for nobodys in ["Etl", "a b", "%2e", "%", "%4", "a%65", "~", "~zz", "~0/1", "con"] {
            assert_eq!(name_of(nobodys), None, "{nobodys}");
        }
        assert_eq!((meant_by("My Flow"), meant_by("%45tl"), meant_by("50%")), ("My Flow".into(), "Etl".into(), "50%".into()));
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_none_meets_another(a in "[a-cA-CÄä./%~ ]{1,12}|.{1,2000}", b in "[a-cA-CÄä./%~ ]{1,12}") {
            let (path, other) = (path_of(&a), path_of(&b));
            prop_assert_eq!(name_of(&path), Some(a.clone()));
            prop_assert!(path.split('/').all(|s| s.len() <= SEGMENT));
            prop_assert_eq!(a == b, path.eq_ignore_ascii_case(&other));
        }
    }
}
