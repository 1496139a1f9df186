//! Printing data on stdout: as a table for people, as JSON or JSON lines for programs.
//!
//! Every command hands over JSON values. JSON is printed as it is; a table picks columns by JSON pointer and shows
//! moments the way people say them.

mod cell;
mod table;

use std::io::Write;

use millpond::{Damaged, Error, Page, Result, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

pub use table::Column;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One JSON document a line
    Jsonl,
}

/// Where data goes.
#[derive(Debug)]
pub struct Out {
    format: Format,
}

/// So many things, in words.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Any serialisable thing as JSON.
///
/// # Errors
/// `Corrupt` when it cannot be JSON.
pub fn value<T: Serialize + ?Sized>(thing: &T) -> Result<Value> {
    serde_json::to_value(thing).map_err(|e| Error::corrupt("cannot be shown as JSON").with_source(e))
}

/// Turns moments that are kept as integer microseconds (so that merges can compare them) into RFC 3339 text.
pub fn write_moments(item: &mut Value, pointers: &[&str]) {
    for pointer in pointers {
        let slot = item.pointer_mut(pointer);
        if let Some((slot, micros)) = slot.and_then(|s| s.as_i64().map(|micros| (s, micros))) {
            *slot = Timestamp::from_micros(micros).to_string().into();
        }
    }
}

/// Things as JSON.
///
/// # Errors
/// As [`value()`].
pub fn values<T: Serialize>(things: impl IntoIterator<Item = T>) -> Result<Vec<Value>> {
    things.into_iter().map(|t| value(&t)).collect()
}

/// Writes text to stdout. When the reader has gone, the program ends quietly, as a pipe expects.
///
/// # Errors
/// `Unavailable` when stdout cannot be written for another reason.
pub fn write(text: &str) -> Result<()> {
    write_bytes(text.as_bytes())
}

/// Writes bytes to stdout, as [`write()`] does.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|e| Error::unavailable("cannot write to stdout").with_source(e)),
    }
}

fn write_line(text: &str) -> Result<()> {
    write(&format!("{text}\n"))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

impl Out {
    /// In this format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether a person reads along.
    pub fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// A page of things, and the cursor of the next one.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn page(&self, columns: &[Column], items: &[Value], next: Option<String>, damaged: &[Damaged]) -> Result<()> {
        match self.format {
            Format::Table if items.is_empty() => crate::report::note("nothing found"),
            Format::Table => write_line(&table::render(columns, items))?,
            Format::Json => {
                let mut page = json!({ "items": items, "next": next });
                if !damaged.is_empty() {
                    page["damaged"] = value(damaged)?;
                }
                write_line(&pretty(&page))?;
            }
            Format::Jsonl => items.iter().try_for_each(|i| write_line(&i.to_string()))?,
        }
        for d in damaged {
            crate::report::note(format_args!("damaged: {}: {}", d.what, d.why));
        }
        if let (Some(next), true) = (next, self.format != Format::Json) {
            crate::report::note(format_args!("there is more: --after {next}"));
        }
        Ok(())
    }

    /// A page as the library answers it.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn found<T: Serialize>(&self, columns: &[Column], page: &Page<T>) -> Result<()> {
        self.page(columns, &values(&page.items)?, page.next.as_ref().map(ToString::to_string), &page.damaged)
    }

    /// A page whose moments are kept as integers; see [`write_moments`].
    ///
    /// # Errors
    /// As [`write()`].
    pub fn found_with_moments<T: Serialize>(&self, columns: &[Column], page: &Page<T>, moments: &[&str]) -> Result<()> {
        let mut items = values(&page.items)?;
        items.iter_mut().for_each(|i| write_moments(i, moments));
        self.page(columns, &items, page.next.as_ref().map(ToString::to_string), &page.damaged)
    }

    /// One thing by key, or that it is not there.
    ///
    /// # Errors
    /// `NotFound`, and as [`write()`].
    pub fn one<T: Serialize>(&self, what: impl std::fmt::Display, thing: Option<&T>) -> Result<()> {
        match thing {
            Some(thing) => self.item(&value(thing)?),
            None => Err(Error::not_found(format!("{what} does not exist"))),
        }
    }

    /// Whether something was there to be deleted.
    ///
    /// # Errors
    /// `NotFound` when it was not, and as [`write()`].
    pub fn deleted(&self, what: impl std::fmt::Display, was_there: bool) -> Result<()> {
        if !was_there {
            return Err(Error::not_found(format!("{what} does not exist")));
        }
        self.say(format_args!("{what} deleted"), &json!({ "deleted": what.to_string() }))
    }

    /// A list that is whole.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn list(&self, columns: &[Column], items: &[Value]) -> Result<()> {
        self.page(columns, items, None, &[])
    }

    /// One thing, field by field.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn item(&self, item: &Value) -> Result<()> {
        match self.format {
            Format::Table => write_line(&table::fields(item)),
            Format::Json => write_line(&pretty(item)),
            Format::Jsonl => write_line(&item.to_string()),
        }
    }

    /// One thing, which a person sees as this text.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn say(&self, text: impl std::fmt::Display, item: &Value) -> Result<()> {
        match self.format {
            Format::Table => write_line(&text.to_string()),
            _ => self.item(item),
        }
    }

    /// One thing of a feed that goes on: always one line.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn line(&self, columns: &[Column], item: &Value) -> Result<()> {
        match self.format {
            Format::Table => write_line(&table::line(columns, item)),
            _ => write_line(&item.to_string()),
        }
    }
}
