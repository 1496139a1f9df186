//! Bytes on their way to their place: summed while they pass, and described beside them.

use std::future::poll_fn;

use bytes::Bytes;
use millpond_core::{Error, Result};
use millpond_objects::{Location, Note, Objects, Summing, Sums};

use super::model::Artifact;
use super::new::{Body, sniff};
use crate::text::hex;

/// Up to here bytes at hand are written with one call. Longer ones go in pieces, so that one is summed while the one
/// before it is written.
pub(super) const AT_ONCE: usize = 4 << 20;
/// Bytes of a piece, and of what a stream has brought before it is written in pieces.
const PIECE: usize = 1 << 20;
/// Bytes that are looked at to find out what kind they are.
const LOOKED_AT: usize = 8 << 10;

/// Writes a body to a location, and answers the artifact's record with what is known of the bytes.
///
/// # Errors
/// What the place or the stream fails with; some bytes may be at the location then, and nobody names them.
pub(super) async fn staged(objects: &dyn Objects, at: &Location, body: Body, draft: Artifact) -> Result<(Artifact, Sums)> {
    match body {
        Body::Bytes(bytes) if bytes.len() <= AT_ONCE => at_once(objects, at, bytes, draft).await,
        body => in_pieces(objects, at, Pieces::of(body), draft).await,
    }
}

async fn at_once(objects: &dyn Objects, at: &Location, bytes: Bytes, mut draft: Artifact) -> Result<(Artifact, Sums)> {
    let sums = Sums::of(&bytes);
    describe(&mut draft, &bytes);
    fill(&mut draft, &sums);
    objects.put(at, bytes, Some(&Note::of(&draft)?)).await?;
    Ok((draft, sums))
}

/// The same without writing it: what is said of bytes that are at their location already.
///
/// # Errors
/// What the stream fails with.
pub(super) async fn summed(body: Body, mut draft: Artifact) -> Result<(Artifact, Sums)> {
    let (mut pieces, mut first, mut summing) = (Pieces::of(body), Vec::new(), Summing::default());
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        first.extend_from_slice(&piece[..piece.len().min(LOOKED_AT.saturating_sub(first.len()))]);
        summing.add(&piece);
    }
    describe(&mut draft, &first);
    let sums = summing.finish();
    fill(&mut draft, &sums);
    Ok((draft, sums))
}

/// Where pieces come from.
enum Pieces {
    AtHand(Box<dyn FnMut() -> Option<Result<Bytes>> + Send>),
    Coming(std::pin::Pin<Box<dyn futures_core::Stream<Item = Result<Bytes>> + Send>>),
}

impl Pieces {
    fn of(body: Body) -> Self {
        match body {
            Body::Bytes(mut rest) => {
                let next =
                    move || -> Option<Result<Bytes>> { (!rest.is_empty()).then(|| Ok(rest.split_to(PIECE.min(rest.len())))) };
                Self::AtHand(Box::new(next))
            }
            Body::Stream(stream) => Self::Coming(stream),
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes>> {
        match self {
            Self::AtHand(next) => next(),
            Self::Coming(stream) => poll_fn(|cx| stream.as_mut().poll_next(cx)).await,
        }
    }
}

async fn in_pieces(objects: &dyn Objects, at: &Location, mut pieces: Pieces, mut draft: Artifact) -> Result<(Artifact, Sums)> {
    // What is short is written at once: most streams are.
    let mut first = Vec::new();
    let mut ended = false;
    while first.len() < PIECE {
        match pieces.next().await {
            Some(piece) => first.extend_from_slice(&piece?),
            None => {
                ended = true;
                break;
            }
        }
    }
    let first = Bytes::from(first);
    if ended {
        return at_once(objects, at, first, draft).await;
    }
    describe(&mut draft, &first);
    let mut writing = objects.begin(at, Some(&begun(&draft)?)).await?;
    let mut summing = Summing::default();
    summing.add(&first);
    writing.write(first).await?;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        // Handed over first: the place writes it while it is summed here.
        writing.write(piece.clone()).await?;
        summing.add(&piece);
    }
    let sums = summing.finish();
    fill(&mut draft, &sums);
    writing.finish(Some(&Note::of(&draft)?)).await?;
    Ok((draft, sums))
}

/// What is said of bytes before all of them were seen, where a place takes its note first: not how many they are, and not
/// their digest.
fn begun(draft: &Artifact) -> Result<Note> {
    let mut said = serde_json::to_value(draft).map_err(|e| Error::invalid("the artifact's record is no JSON").with_source(e))?;
    if let Some(said) = said.as_object_mut() {
        said.remove("length");
        said.remove("sha256");
    }
    Note::of(&said)
}

fn describe(draft: &mut Artifact, first: &[u8]) {
    if draft.content_type.is_empty() {
        draft.content_type = sniff(&draft.key, &first[..first.len().min(LOOKED_AT)]);
    }
}

fn fill(draft: &mut Artifact, sums: &Sums) {
    draft.length = sums.length;
    draft.sha256 = hex(&sums.sha256);
}
