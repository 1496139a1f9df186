//! `millpond artifacts get`: bytes as they are, to stdout or to a file.

use std::io::IsTerminal;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millpond::{ArtifactReader, Artifacts, Error, Result};

use super::flags::GetArgs;
use crate::context::Context;
use crate::output::{counted, value, write_bytes};

pub(super) async fn get(ctx: &Context, artifacts: &Artifacts, args: &GetArgs) -> Result<()> {
    match args.path() {
        Some(file) => to_file(ctx, artifacts, args, &file).await,
        None if ctx.out.is_table() => to_stdout(artifacts, args).await,
        None => as_json(ctx, artifacts, args).await,
    }
}

async fn to_file(ctx: &Context, artifacts: &Artifacts, args: &GetArgs, file: &Path) -> Result<()> {
    let saved = match &args.version {
        Some(version) => artifacts.save_version(&args.key, version, args.range.clone(), file).await?,
        None => artifacts.save(&args.key, args.range.clone(), file).await?,
    };
    let text = format!("{}: {} written", file.display(), counted(saved.written, "byte"));
    ctx.out.say(text, &value(&saved)?)
}

async fn opened(artifacts: &Artifacts, args: &GetArgs) -> Result<ArtifactReader> {
    match &args.version {
        Some(version) => artifacts.version_reader(&args.key, version, args.range.clone()).await,
        None => artifacts.reader(&args.key, args.range.clone()).await,
    }
}

/// Piece by piece: memory stays flat, and a reader that goes away ends it.
async fn to_stdout(artifacts: &Artifacts, args: &GetArgs) -> Result<()> {
    let mut reader = opened(artifacts, args).await?;
    let mut first = std::io::stdout().is_terminal();
    while let Some(piece) = reader.next().await? {
        if std::mem::take(&mut first) && !is_readable(&piece) {
            return Err(Error::invalid(format!("{:?} is no text, and stdout is a terminal", args.key)).with_next(format!(
                "write it to a file: millpond artifacts get {} FILE, or say what to do with it: … | less",
                args.key
            )));
        }
        write_bytes(&piece)?;
    }
    Ok(())
}

/// What is known of it, with its bytes as text, or as base64 where they are none.
async fn as_json(ctx: &Context, artifacts: &Artifacts, args: &GetArgs) -> Result<()> {
    let mut reader = opened(artifacts, args).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    let mut item = value(reader.artifact())?;
    match String::from_utf8(bytes) {
        Ok(text) => item["text"] = text.into(),
        Err(e) => item["base64"] = STANDARD.encode(e.as_bytes()).into(),
    }
    ctx.out.item(&item)
}

/// Whether a terminal can show it without harm: text, and of control characters only line ends and tabs.
fn is_readable(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // A character may be cut by the end of the piece.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::is_readable;

    #[test]
    fn what_a_terminal_is_shown() {
        for (bytes, expected) in [
            (&b"lines\n\tand tabs\r\n"[..], true),
            ("wörter".as_bytes(), true),
            (&"wörter".as_bytes()[..2], true),
            (b"\x89PNG\r\n", false),
            (b"a\0b", false),
            (b"\x1b[2J", false),
            (b"", true),
        ] {
            assert_eq!(is_readable(bytes), expected, "{bytes:?}");
        }
    }
}
