//! What is said of an artifact when it is written, and its bytes on their way.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use millpond_core::{Error, Result, limits};
use serde_json::Value;

use super::Provenance;

/// Bytes that are read from a reader at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait for whoever writes them before the reader has to wait.
const AHEAD: usize = 4;

/// When an artifact is written at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Only {
    /// Whatever is there.
    #[default]
    Always,
    /// Where there is none.
    New,
    /// In the place of what has this revision.
    Revision(u64),
}

/// What is said of an artifact when it is written. What is not said is taken from the key, if that follows the
/// convention, and from the bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewArtifact {
    /// What kind of bytes they are, as a MIME type; found out from the bytes and the key if not said.
    pub content_type: Option<String>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// The hash of the configuration it was made with.
    pub config_hash: Option<String>,
    /// The row of its lineage.
    pub lineage: Option<String>,
    /// What it belongs together with.
    pub correlation: Option<String>,
    /// The document it is of.
    pub document: Option<String>,
    /// The key it had where it comes from.
    pub original_key: Option<String>,
    /// Fields of the caller's own: any JSON, all of it kept.
    pub custom: BTreeMap<String, Value>,
    /// When it is written at all.
    pub only: Only,
}

impl NewArtifact {
    /// Only where there is none.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.only = Only::New;
        self
    }

    /// Its MIME type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// A field of one's own.
    #[must_use]
    pub fn custom(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.custom.insert(name.into(), value.into());
        self
    }

    /// Checks what events and indexes have to hold.
    pub(super) fn check(&self) -> Result<()> {
        let Provenance { execution, route, stage, adapter, message, written_at: _ } = &self.provenance;
        let named = [
            ("execution", execution),
            ("route", route),
            ("stage", stage),
            ("adapter", adapter),
            ("message", message),
            ("correlation", &self.correlation),
            ("document", &self.document),
            ("content type", &self.content_type),
        ];
        for (name, text) in named {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > limits::INDEXED_TEXT_BYTES || text.chars().any(char::is_control) {
                return Err(Error::invalid(format!(
                    "an artifact's {name} has {} bytes; it may have 1 to {}, and no control characters",
                    text.len(),
                    limits::INDEXED_TEXT_BYTES
                ))
                .with_next("put longer texts into a custom field"));
            }
        }
        Ok(())
    }
}

/// The bytes of an artifact that is written: at hand, or piece by piece.
pub enum Body {
    /// At hand.
    Bytes(Bytes),
    /// Piece by piece, each of any size. An error among them gives the artifact up.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>),
}

impl Body {
    /// A body whose bytes come piece by piece.
    pub fn stream(pieces: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self::Stream(Box::pin(pieces))
    }

    /// A body that a reader gives. It is read on a thread of its own, a few pieces ahead: a pipe in which nothing comes
    /// holds nothing else up. A body that is given up leaves that thread waiting for the reader, at most until the
    /// program ends.
    pub fn reader(reader: impl Read + Send + 'static) -> Self {
        let (pieces, coming) = tokio::sync::mpsc::channel(AHEAD);
        let failed = pieces.clone();
        let thread = std::thread::Builder::new().name("millpond-body".to_owned());
        if let Err(e) = thread.spawn(move || read_ahead(reader, &pieces)) {
            let _ = failed.try_send(Err(Error::unavailable("cannot start the thread that reads an artifact").with_source(e)));
        }
        Self::stream(futures_util::stream::unfold(coming, |mut coming| async move { Some((coming.recv().await?, coming)) }))
    }
}

/// Reads until the end, an error, or until nobody takes the pieces any more.
fn read_ahead(mut reader: impl Read, pieces: &tokio::sync::mpsc::Sender<Result<Bytes>>) {
    loop {
        let piece = next_piece(&mut reader);
        let last = !matches!(&piece, Ok(piece) if !piece.is_empty());
        let sent = match piece {
            Ok(piece) if piece.is_empty() => Ok(()),
            piece => pieces.blocking_send(piece),
        };
        if last || sent.is_err() {
            return;
        }
    }
}

/// The next bytes of a reader; none at the end.
pub(super) fn next_piece(reader: &mut impl Read) -> Result<Bytes> {
    let mut piece = vec![0; PIECE];
    let read = loop {
        match reader.read(&mut piece) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    let read = read.map_err(|e| Error::unavailable("the bytes of an artifact cannot be read").with_source(e))?;
    piece.truncate(read);
    Ok(piece.into())
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Body of {} bytes", bytes.len()),
            Self::Stream(_) => f.write_str("Body of pieces"),
        }
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// What kind of bytes they are, by what they begin with, then by the key, then by whether they are text.
pub(super) fn sniff(key: &str, first: &[u8]) -> String {
    if let Some(kind) = infer::get(first) {
        return kind.mime_type().to_owned();
    }
    if let Some(kind) = mime_guess::from_path(key).first() {
        return kind.essence_str().to_owned();
    }
    let is_text = match std::str::from_utf8(first) {
        Ok(text) => !text.is_empty() && !text.contains('\0'),
        // A character may be cut by the end of the piece.
        Err(e) => e.error_len().is_none() && e.valid_up_to() > 0 && !first.contains(&0),
    };
    if is_text { "text/plain".to_owned() } else { "application/octet-stream".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_bytes_is_found_out() {
        for (key, bytes, kind) in [
            ("a/b", &b"\x89PNG\r\n\x1a\n"[..], "image/png"),
            ("a.json", b"{}", "application/json"),
            ("page.html", b"<p>", "text/html"),
            ("notes", "wörter".as_bytes(), "text/plain"),
            ("cut", &"wörter".as_bytes()[..2], "text/plain"),
            ("blob", &[0xff, 0xfe, 0x00], "application/octet-stream"),
            ("empty", b"", "application/octet-stream"),
        ] {
            assert_eq!(sniff(key, bytes), kind, "{key}");
        }
    }

    #[test]
    fn what_no_index_could_hold_is_refused_with_its_name() {
        let long = NewArtifact { document: Some("x".repeat(1_025)), ..NewArtifact::default() };
        assert!(long.check().expect_err("too long").to_string().contains("document"), "{:?}", long.check());
        let mut lines = NewArtifact::default();
        lines.provenance.stage = Some("a\nb".to_owned());
        assert!(lines.check().expect_err("a line break").to_string().contains("stage"));
        NewArtifact::default().check().expect("nothing said");
    }
}
