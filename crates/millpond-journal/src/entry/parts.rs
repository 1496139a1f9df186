//! Putting a change together again from its parts.

use millpond_sqlite::Tail;

use super::wire::{Body, Entry, Signature};

/// A change whose last entry has been read.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) text: String,
    /// Its last entry.
    pub(crate) tail: Tail,
    pub(crate) signature: Signature,
}

/// Parts read so far. A writer that was overtaken between two parts leaves some that nothing completes: they are
/// passed over as soon as another change follows them.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    id: String,
    next: u32,
    of: u32,
    text: String,
}

impl Parts {
    /// Takes the next entry. Answers the change that it completes.
    pub(crate) fn take(&mut self, entry: Entry) -> Option<Whole> {
        let tail = entry.tail();
        let Entry { signature, body, .. } = entry;
        match body {
            Body::Change(text) => {
                self.open = None;
                Some(Whole { text, tail, signature })
            }
            Body::Part { part, of, text } => {
                let mut open = match self.open.take() {
                    Some(open) if open.id == signature.id && open.of == of && open.next == part => open,
                    _ if part == 1 => Open { id: signature.id.clone(), next: 1, of, text: String::new() },
                    // The end of something whose beginning was overtaken.
                    _ => return None,
                };
                open.text.push_str(&text);
                open.next += 1;
                if part == of {
                    return Some(Whole { text: open.text, tail, signature });
                }
                self.open = Some(open);
                None
            }
        }
    }

    /// Forgets what was begun.
    pub(crate) fn clear(&mut self) {
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, id: &str, part: u32, of: u32) -> Entry {
        Entry {
            number,
            previous: String::new(),
            digest: String::new(),
            signature: Signature { by: "w".into(), id: id.into() },
            body: Body::Part { part, of, text: format!("{id}{part}") },
        }
    }

    #[test]
    fn parts_of_an_overtaken_writer_are_passed_over() {
        let mut parts = Parts::default();
        assert!(parts.take(part(1, "a", 1, 3)).is_none());
        assert!(parts.take(part(2, "a", 2, 3)).is_none());
        assert!(parts.take(part(3, "b", 1, 2)).is_none());
        assert_eq!(parts.take(part(4, "b", 2, 2)).map(|w| w.text).as_deref(), Some("b1b2"));
        assert!(parts.take(part(5, "a", 3, 3)).is_none(), "the end of what was overtaken");
    }
}
