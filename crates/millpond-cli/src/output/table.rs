//! Tables for people: columns picked out of JSON by pointer.

use std::io::IsTerminal;

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::Value;

use super::cell;

/// Stands for no place: the heading itself is shown. No JSON pointer looks like this.
const WORD: &str = "word";

/// One column: its heading, where its value stands, how it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    heading: &'static str,
    pointer: &'static str,
    show: fn(&Value) -> String,
}

impl Column {
    /// A column.
    pub const fn new(heading: &'static str, pointer: &'static str) -> Self {
        Self { heading, pointer, show: cell::show }
    }

    /// A column of lengths in microseconds.
    pub const fn micros(heading: &'static str, pointer: &'static str) -> Self {
        Self { heading, pointer, show: cell::micros }
    }

    /// The same word in every row.
    pub const fn word(word: &'static str) -> Self {
        Self { heading: word, pointer: WORD, show: cell::show }
    }

    fn of(&self, item: &Value) -> String {
        if self.pointer == WORD {
            return self.heading.to_owned();
        }
        (self.show)(item.pointer(self.pointer).unwrap_or(&Value::Null))
    }
}

/// Whether headings may be bold: a terminal, and `NO_COLOR` is not set.
fn styled() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // In a pipe nothing is wrapped: a line is a row.
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

fn finish(table: &Table) -> String {
    table
        .lines()
        .map(|l| l.trim_end().strip_prefix(' ').map_or_else(|| l.trim_end().to_owned(), str::to_owned))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Rows under headings.
pub fn render(columns: &[Column], items: &[Value]) -> String {
    let mut table = empty_table();
    table.set_header(columns.iter().map(|c| {
        let cell = Cell::new(c.heading.to_uppercase());
        if styled() { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    for item in items {
        table.add_row(columns.iter().map(|c| c.of(item)));
    }
    finish(&table)
}

/// One row of a feed, without headings: two spaces between columns.
pub fn line(columns: &[Column], item: &Value) -> String {
    columns.iter().map(|c| c.of(item)).filter(|t| !t.is_empty()).collect::<Vec<_>>().join("  ")
}

/// One thing: a line for each field, nested fields under dotted names.
pub fn fields(item: &Value) -> String {
    let mut table = empty_table();
    let mut rows = Vec::new();
    flatten("", item, &mut rows);
    for (name, value) in rows {
        table.add_row([name, value]);
    }
    finish(&table)
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&path, value, rows);
            }
        }
        // A list of things is one line each.
        Value::Array(items) if items.iter().any(|i| i.is_object() || i.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                rows.push((format!("{name}[{index}]"), item.to_string()));
            }
        }
        // What is empty says nothing.
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Object(map) if map.is_empty() => {}
        other => rows.push((name.to_owned(), cell::show(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up_and_a_row_is_a_line() {
        let columns = [Column::new("name", "/name"), Column::micros("took", "/took"), Column::new("more", "/a/b")];
        let rows = [json!({"name": "é", "took": 1_500, "a": {"b": 1}}), json!({"name": "longer", "took": 7})];
        assert_eq!(render(&columns, &rows), "NAME    TOOK    MORE\né       1.5 ms  1\nlonger  7 µs");
    }

    #[test]
    fn nested_fields_get_dotted_names() {
        let item = json!({"a": {"b": 1, "c": []}, "d": [{"e": 1}], "f": null, "g": ["x", "y"]});
        assert_eq!(fields(&item), "a.b   1\nd[0]  {\"e\":1}\ng     x, y");
    }
}
