//! Statements with their values, and several of them as one.
//!
//! The server answers each statement by itself: it wakes, runs it, and sends what it has. What can be one statement
//! costs a commit of one step a fraction of that.

use std::borrow::Cow;
use std::fmt::Write as _;

use tokio_postgres::types::{ToSql, Type};

pub(crate) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A statement and its values.
pub(crate) struct Call<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) values: Vec<Param<'a>>,
    pub(crate) types: Vec<Type>,
    pub(crate) prepared: bool,
    pub(crate) page: bool,
}

impl<'a> Call<'a> {
    /// A statement that is sent often and in few forms: it is prepared once on each connection.
    pub(crate) fn often(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: text.into(), values: Vec::new(), types: Vec::new(), prepared: true, page: false }
    }

    /// A statement of many forms: not kept, and planned for its values in a transaction that is no batch.
    pub(crate) fn once(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: text.into(), values: Vec::new(), types: Vec::new(), prepared: false, page: false }
    }

    /// Adds the next value.
    pub(crate) fn with(mut self, kind: Type, value: impl ToSql + Sync + Send + 'a) -> Self {
        self.bind(kind, value);
        self
    }

    /// Adds the next value and returns its place in the text.
    pub(crate) fn bind(&mut self, kind: Type, value: impl ToSql + Sync + Send + 'a) -> String {
        self.values.push(Box::new(value));
        self.types.push(kind);
        format!("${}", self.values.len())
    }

    /// Keeps no more rows than a page may hold bytes, and one: that one tells that there are more.
    pub(crate) fn page(mut self) -> Self {
        self.page = true;
        self
    }

    /// Sets the text of a statement whose values were bound first.
    pub(crate) fn say(mut self, text: String) -> Self {
        self.text = Cow::Owned(text);
        self
    }
}

/// Reads that answer with the same columns, as one. All have the same first value, the namespace.
pub(crate) fn together(reads: Vec<Call<'_>>) -> Option<Call<'_>> {
    joined(reads, |texts, out| {
        for (n, text) in texts.iter().enumerate() {
            if n > 0 {
                out.push_str(" UNION ALL ");
            }
            text.put(out);
        }
    })
}

/// Changes of different rows, as one. All have the same first value, the namespace.
///
/// They all see what was there before the first of them, and come in no order: none may need another's rows.
pub(crate) fn at_once(changes: Vec<Call<'_>>) -> Option<Call<'_>> {
    joined(changes, |texts, out| {
        let Some((last, first)) = texts.split_last() else { return };
        for (n, text) in first.iter().enumerate() {
            out.push_str(if n == 0 { "WITH c" } else { ", c" });
            out.push_str(&n.to_string());
            out.push_str(" AS (");
            text.put(out);
            out.push(')');
        }
        if !first.is_empty() {
            out.push(' ');
        }
        last.put(out);
    })
}

/// A statement, and how many values come between its first one and its others.
struct Text<'a> {
    text: Cow<'a, str>,
    before: usize,
}

impl Text<'_> {
    /// Writes it with every place behind the first moved on. No name and no literal of ours holds a `$`.
    fn put(&self, out: &mut String) {
        let mut parts = self.text.split('$');
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            let number: usize = number.parse().unwrap_or_default();
            let _ = write!(out, "${}", if number > 1 { number + self.before } else { number });
            out.push_str(rest);
        }
    }
}

fn joined<'a>(calls: Vec<Call<'a>>, write: impl Fn(&[Text<'a>], &mut String)) -> Option<Call<'a>> {
    let mut texts = Vec::with_capacity(calls.len());
    let mut calls = calls.into_iter();
    let mut all = calls.next()?;
    texts.push(Text { text: std::mem::take(&mut all.text), before: 0 });
    for call in calls {
        texts.push(Text { text: call.text, before: all.values.len() - 1 });
        all.values.extend(call.values.into_iter().skip(1));
        all.types.extend(call.types.into_iter().skip(1));
    }
    let mut text = String::with_capacity(texts.iter().map(|text| text.text.len() + 64).sum());
    write(&texts, &mut text);
    Some(all.say(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_move_and_the_namespace_stays() {
        let moved = |text: &'static str| {
            let mut out = String::new();
            Text { text: text.into(), before: 3 }.put(&mut out);
            out
        };
        assert_eq!(moved("a = $1 AND b = $2::int8[] AND c = $12"), "a = $1 AND b = $5::int8[] AND c = $15");
        assert_eq!(moved("nothing"), "nothing");
        let call = |text: &'static str, values: usize| {
            (0..values).fold(Call::often(text).with(Type::INT8, 1_i64), |call, n| call.with(Type::INT8, n as i64))
        };
        let one = at_once(vec![call("A $1 $2", 1), call("B $1 $2 $3", 2), call("C $2 $1", 1)]).unwrap();
        assert_eq!(one.text, "WITH c0 AS (A $1 $2), c1 AS (B $1 $3 $4) C $5 $1");
        assert_eq!((one.values.len(), one.types.len(), one.prepared), (5, 5, true));
        assert_eq!(together(vec![call("A $2", 1), call("B $2", 1)]).unwrap().text, "A $2 UNION ALL B $3");
        assert_eq!(at_once(vec![call("A $2", 1)]).unwrap().text, "A $2");
        assert!(together(Vec::new()).is_none());
    }
}
