//! Segment: a text in pieces of about a hundred words, cut between paragraphs where that is possible.

use super::documents::{Segment, Text};

/// A segment is closed once it has so many words.
const ENOUGH_WORDS: usize = 100;
/// No segment has more.
const MOST_WORDS: usize = 200;

/// The words of a text.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// The pieces of a text.
pub fn segments(text: &Text) -> Vec<Segment> {
    let mut pieces: Vec<Vec<&str>> = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    for paragraph in text.text.split("\n\n") {
        for word in words(paragraph) {
            open.push(word);
            if open.len() == MOST_WORDS {
                pieces.push(std::mem::take(&mut open));
            }
        }
        if open.len() >= ENOUGH_WORDS {
            pieces.push(std::mem::take(&mut open));
        }
    }
    if !open.is_empty() {
        pieces.push(open);
    }
    let piece = |(number, words): (i64, Vec<&str>)| Segment {
        path: text.path.clone(),
        number,
        words: i64::try_from(words.len()).unwrap_or(i64::MAX),
        text: words.join(" "),
    };
    (1..).zip(pieces).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_lost_and_no_piece_is_too_long() {
        let paragraph = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
        let body = [paragraph(60), paragraph(60), paragraph(450), paragraph(3)].join("\n\n");
        let text = Text { path: "a".into(), title: "a".into(), words: 0, text: body.clone() };
        let pieces = segments(&text);
        assert_eq!(pieces.iter().map(|s| s.words).collect::<Vec<_>>(), [120, 200, 200, 53]);
        assert_eq!(pieces.iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let joined = pieces.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(joined, words(&body).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn an_empty_text_has_no_piece() {
        assert!(segments(&Text { path: "a".into(), title: "a".into(), words: 0, text: " \n\n ".into() }).is_empty());
    }
}
