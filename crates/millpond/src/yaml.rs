//! YAML in and out, as the JSON value it stands for.
//!
//! Reading is strict where leniency loses something: a key given twice, an alias bomb, a second document, an infinite
//! number are errors with their line and column. Only `true` and `false` are booleans, so `on:` and `no` stay text.
//! Writing is canonical: the same value is always the same text, and reads back as the same value. The keys by which
//! people find their way (`id`, `name`, `version`, …) come first, the rest in byte order.

use millpond_core::{Error, Json, Result, limits, number_survives};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

/// Bytes of YAML text that are read: more than a document, because indentation makes YAML longer than its JSON.
pub const TEXT_BYTES: usize = 8 * limits::DOCUMENT_BYTES;

/// Nodes and replayed alias events of one text. A document of 1 MiB cannot hold more values than this.
const NODES: usize = 600_000;

/// Reads one YAML document.
///
/// # Errors
/// `Invalid` with line and column: not YAML, a key given twice, too many aliases, too deep, too long, or a value that
/// JSON cannot hold.
pub fn parse(text: &str) -> Result<Value> {
    if text.len() > TEXT_BYTES {
        return Err(Error::invalid(format!("the YAML text has {} bytes; the limit is {TEXT_BYTES}", text.len()))
            .with_next("split it, or keep large parts outside of the definition"));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: limits::JSON_DEPTH,
            max_nodes: NODES,
            max_events: 4 * NODES,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 1,
            max_total_scalar_bytes: TEXT_BYTES,
            max_recorded_anchor_bytes: TEXT_BYTES,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: NODES, max_replay_stack_depth: 16 },
        strict_booleans: true,
        with_snippet: false,
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options.clone()).map_err(|e| not_yaml(&e))?;
    if holds_float(&value) {
        let places: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|e| not_yaml(&e))?;
        check_floats(&places, text)?;
    }
    // The rules every document keeps: depth, 64-bit numbers, no NUL. Fails here with a place rather than at the commit.
    Json::from_value(&value).map_err(|e| e.during("yaml"))?;
    Ok(value)
}

fn not_yaml(error: &serde_saphyr::Error) -> Error {
    let place = error.location().map_or_else(String::new, |l| format!(" at line {} column {}", l.line(), l.column()));
    Error::invalid(format!("not YAML that can be kept{place}")).with_source(error.to_string())
}

fn holds_float(value: &Value) -> bool {
    match value {
        Value::Number(n) => n.is_f64(),
        Value::Array(items) => items.iter().any(holds_float),
        Value::Object(map) => map.values().any(holds_float),
        _ => false,
    }
}

/// The shape of a document, with the place of each float: its token tells whether reading it rounded it.
enum Node {
    Float,
    Inner(Vec<Spanned<Node>>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Float)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Inner(Vec::new()))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Inner(Vec::new()))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Inner(Vec::new()))
    }
    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Inner(Vec::new()))
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Inner(Vec::new()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut inner = Vec::new();
        while let Some(item) = seq.next_element()? {
            inner.push(item);
        }
        Ok(Node::Inner(inner))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut inner = Vec::new();
        while let Some((_, item)) = map.next_entry::<String, _>()? {
            inner.push(item);
        }
        Ok(Node::Inner(inner))
    }
}

fn check_floats(node: &Spanned<Node>, text: &str) -> Result<()> {
    let Node::Inner(inner) = &node.value else {
        let span = node.defined.span();
        let token = span.byte_offset().zip(span.byte_len()).and_then(|(at, len)| {
            let at = usize::try_from(at).ok()?;
            text.get(at..at.checked_add(usize::try_from(len).ok()?)?)
        });
        let plain = token.unwrap_or_default().trim().trim_start_matches('+').replace('_', "");
        if number_survives(&plain) {
            return Ok(());
        }
        return Err(Error::invalid(format!(
            "the number {plain} at line {} column {} does not fit 64-bit integers nor a 64-bit float without loss",
            node.defined.line(),
            node.defined.column()
        ))
        .with_next("write it as text, in quotes"));
    };
    inner.iter().try_for_each(|n| check_floats(n, text))
}

/// Writes a value as canonical YAML, ending with a line feed.
///
/// # Errors
/// `Invalid` when the value cannot be written as YAML.
pub fn write(value: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: true };
    let mut text = serde_saphyr::to_string_with_options(&Ordered(value), options)
        .map_err(|e| Error::invalid("cannot be written as YAML").with_source(e.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Keys that come first, in this order.
const FIRST: [&str; 9] = ["id", "name", "version", "type", "component", "description", "from", "to", "condition"];

/// A value whose objects are written with the well-known keys first.
struct Ordered<'v>(&'v Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => serialize_object(map, serializer),
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(&Ordered(item)))?;
                seq.end()
            }
            scalar => scalar.serialize(serializer),
        }
    }
}

fn serialize_object<S: Serializer>(object: &Map<String, Value>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(object.len()))?;
    for key in FIRST {
        if let Some(value) = object.get(key) {
            map.serialize_entry(key, &Ordered(value))?;
        }
    }
    for (key, value) in object.iter().filter(|(k, _)| !FIRST.contains(&k.as_str())) {
        map.serialize_entry(key, &Ordered(value))?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn writing_and_reading_again_changes_nothing() {
        let texts = [
            "two\nlines\n",
            "  x \n\n",
            "12",
            "0o17",
            "2026-11-21",
            "a: b # c",
            "~",
            "żółć\u{85}\u{2028}",
            "\tx",
            "a\r\nb",
            "x\n\n\n",
            "\n  indented\nnot",
            "'\"",
            "%YAML",
            "@x",
            "YES",
            ".inf",
            "0x1F",
            "1:30:00",
            "-",
            "...",
            "---\na",
            "1_000",
            "+1",
            "null",
            "no",
            "<<",
            "",
            "- x",
            "1e3",
            "#",
            "&a",
            "*a",
            "!t",
            "|",
            ">",
            "{}",
            "[]",
            "\u{feff}x",
            "\u{7f}",
            "=",
        ];
        let long = "word ".repeat(60);
        let value = json!({
            "id": "etl", "version": 3, "on": "push", "empty": {}, "none": null, "list": [[], [1, [2, "3"]]], "texts": texts.to_vec(),
            "keys": texts.iter().map(|t| ((*t).to_owned(), json!({*t: t}))).collect::<Map<_, _>>(), "long": long,
            "numbers": [i64::MIN, i64::MAX, 1.5e-7, 1e300, 2.0, -0.0, 0, 0.1], "<<": "merge",
            "nested": [{"b": 1, "a": {"type": "T", "config": {"k": [true, false]}}}],
        });
        let text = write(&value).expect("writes");
        let back = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(back, value, "{text}");
        assert_eq!(write(&back).expect("writes"), text);
        assert!(text.starts_with("id: etl\nversion: 3\n"), "{text}");
        for scalar in
            [json!(null), json!("x"), json!(""), json!([]), json!({}), json!(1.0), json!("a\nb"), json!([1]), json!("~")]
        {
            let text = write(&scalar).expect("writes");
            assert_eq!(parse(&text).expect("reads"), scalar, "{text:?}");
        }
    }

    #[test]
    fn refusals_name_line_and_column() {
        for (bad, line) in [
            ("a: 1\nb: 2\na: 3\n", "line 3"),
            ("a:\n  - 1\n - 2\n", "line 3"),
            ("x: [1, 2\ny: 3", "line 2"),
            ("a: 1\n---\nb: 2\n", "line 2"),
            ("a: .inf\n", "line 1"),
            ("a: *nowhere\n", "line 1"),
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.kind(), millpond_core::ErrorKind::Invalid);
            assert!(error.message().contains(line), "{bad:?}: {error}");
            assert!(error.message().contains("column"), "{bad:?}: {error}");
        }
        for number in [
            "9223372036854775808",
            "123456789012345678901234567890",
            "1e999",
            "-9223372036854775809",
            "0.1000000000000000055",
            "-1.00000000000000001",
        ] {
            for text in [format!("n: {number}"), format!("- a\n- [1.5, {number}]"), format!("a: &x {number}\nb: *x")] {
                let read = parse(&text);
                assert!(read.is_err(), "{text} was read as {read:?}");
            }
        }
        let fine = parse("[.5, 1., +2.5, 1e3, 0.1, 100.00, 6.02e23, -0.0]").expect("these survive");
        assert_eq!(fine, json!([0.5, 1.0, 2.5, 1000.0, 0.1, 100.0, 6.02e23, -0.0]));
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let before = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![before; 9].join(",")));
        }
        assert!(parse(&bomb).is_err());
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(parse(&deep).is_err());
        assert!(parse(&"x".repeat(TEXT_BYTES + 1)).expect_err("long").message().contains("limit"));
    }

    #[test]
    fn small_aliases_and_merges_are_fine() {
        let value = parse("base: &b {retries: 3, on: push}\nstep:\n  <<: *b\n  name: x\n").expect("reads");
        assert_eq!(value["step"], json!({"retries": 3, "on": "push", "name": "x"}));
    }

    fn any_text() -> impl Strategy<Value = String> {
        // Words YAML has another reading for, its punctuation, and anything else a document may hold.
        let odd = prop::sample::select(vec![
            "", "~", "yes", "null", "1e3", "0x1", "-", "? a", "a: b", "#", " a", "a ", "\n", "\t", "\r",
        ]);
        let marks = "[ -~\u{85}\u{a0}\u{2028}\u{feff}\u{e000}\u{1f600}\n\r\t]{0,12}";
        let any = any::<String>().prop_map(|t| t.replace('\0', ""));
        prop_oneof![odd.prop_map(str::to_owned), marks.prop_map(|t: String| t), any]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Value::from);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            number,
            any_text().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any_text(), inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in any_value()) {
            let text = write(&value).expect("writes");
            match parse(&text) {
                Ok(back) => prop_assert_eq!(&back, &value, "{:?}", text),
                Err(e) => prop_assert!(false, "{:?}: {}", text, e),
            }
        }
    }
}
