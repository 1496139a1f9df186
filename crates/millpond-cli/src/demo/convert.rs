//! Convert: Markdown to plain text. Small on purpose: the demo is about the state, not about Markdown.

use super::documents::{Source, Text};

/// The text of a source without markup.
pub fn convert(source: &Source) -> Text {
    let markdown = source.format == "markdown";
    let text = if markdown { plain(&source.text) } else { source.text.replace("\r\n", "\n") };
    let heading = source.text.lines().find_map(|l| l.strip_prefix("# ")).filter(|_| markdown);
    let title = heading.map_or_else(|| source.path.clone(), |h| inline(h.trim()));
    let words = super::segment::words(&text).count();
    Text { path: source.path.clone(), title, words: i64::try_from(words).unwrap_or(i64::MAX), text }
}

fn plain(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut fenced = false;
    for line in markdown.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            fenced = !fenced;
            continue;
        }
        // Code is kept as it stands; a line of dashes is only decoration.
        let text = if fenced { line.to_owned() } else { inline(block(trimmed)) };
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// A line without what marks it as heading, quote, list item or table row.
fn block(line: &str) -> &str {
    if !line.is_empty() && line.chars().all(|c| matches!(c, '-' | '=' | '|' | ':' | ' ' | '*' | '_')) {
        return "";
    }
    let line = line.trim_start_matches('>').trim_start();
    let headless = line.trim_start_matches('#');
    if headless.len() < line.len() && headless.starts_with(' ') {
        return headless.trim_start();
    }
    let item = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = if item.len() < line.len() { item.strip_prefix(". ") } else { None };
    numbered.or_else(|| ["- ", "* ", "+ "].iter().find_map(|m| line.strip_prefix(m))).unwrap_or(line)
}

/// A line without emphasis and code marks, table bars and the targets of links.
fn inline(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['*', '`', '|', '[', ']', '!', '<']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        rest = match tail.as_bytes()[0] {
            b']' => after_target(&tail[1..]),
            b'|' => {
                out.push(' ');
                &tail[1..]
            }
            b'!' if !tail.starts_with("![") => {
                out.push('!');
                &tail[1..]
            }
            b'<' => match tail.find('>') {
                Some(end) if tail[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') => &tail[end + 1..],
                _ => {
                    out.push('<');
                    &tail[1..]
                }
            },
            _ => &tail[1..],
        };
    }
    out.push_str(rest);
    out
}

/// What follows a link's text, without `(target)`.
fn after_target(tail: &str) -> &str {
    match (tail.strip_prefix('('), tail.find(')')) {
        (Some(_), Some(end)) => &tail[end + 1..],
        _ => tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markdown(text: &str) -> Source {
        Source { path: "a.md".into(), format: "markdown".into(), bytes: 0, sha256: String::new(), text: text.into() }
    }

    #[test]
    fn markup_goes_and_words_stay() {
        let source = markdown(
            "# The *title*\n\n> see [the docs](http://x/y), `code` and a<b!\n1. one\n- two\n\n| a | b |\n|---|---|\n```rust\nlet x = a[0];\n```\n<b>bold</b>",
        );
        let text = convert(&source);
        assert_eq!(text.title, "The title");
        let lines: Vec<&str> = text.text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert_eq!(lines, ["The title", "see the docs, code and a<b!", "one", "two", "a   b", "let x = a[0];", "bold"]);
    }

    #[test]
    fn text_is_not_markdown() {
        let mut source = markdown("# not a heading\r\n*as it is*");
        source.format = "text".into();
        let text = convert(&source);
        assert_eq!((text.title.as_str(), text.text.as_str()), ("a.md", "# not a heading\n*as it is*"));
    }
}
