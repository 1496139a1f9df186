//! How a domain's filter becomes a query: it names its fields, and what was not asked for adds no condition.
//!
//! ```text
//!   filter.workflow: Option ──► .given("workflow", …)     none: nothing │ some: equals
//!   filter.statuses: Vec    ──► .any_of("status", …)      none: nothing │ one: equals │ several: one of
//!   filter.from, filter.to  ──► .between("started_at", …) from is inclusive, to exclusive; each may be open
//! ```
//!
//! Limits, orders and cursors are checked once, by [`Query::resolve`], for every domain and every engine alike. A page
//! cursor belongs to the conditions in the order a domain states them, so a domain keeps that order.

use millpond_core::{Query, Scalar};

/// Conditions that hold only where something was asked for.
pub(crate) trait Conditions: Sized {
    /// Equals the value, if there is one.
    fn given(self, field: &str, value: Option<impl Into<Scalar>>) -> Self;
    /// Equals one of the values, if there are any.
    fn any_of<V: Into<Scalar>>(self, field: &str, values: impl IntoIterator<Item = V>) -> Self;
    /// At or above the first, below the second, as far as they are given.
    fn between<V: Into<Scalar>>(self, field: &str, from: Option<V>, before: Option<V>) -> Self;
    /// Begins with the text, if there is one.
    fn given_prefix(self, field: &str, text: Option<&String>) -> Self;
    /// Holds the text, if there is one.
    fn given_part(self, field: &str, text: Option<&String>) -> Self;
    /// A set that holds every one of the texts.
    fn has_each<V: Into<String>>(self, field: &str, texts: impl IntoIterator<Item = V>) -> Self;
}

impl Conditions for Query {
    fn given(self, field: &str, value: Option<impl Into<Scalar>>) -> Self {
        match value {
            None => self,
            Some(value) => self.eq(field, value),
        }
    }

    fn any_of<V: Into<Scalar>>(self, field: &str, values: impl IntoIterator<Item = V>) -> Self {
        let mut values: Vec<Scalar> = values.into_iter().map(Into::into).collect();
        match values.len() {
            0 => self,
            1 => self.given(field, values.pop()),
            _ => self.one_of(field, values),
        }
    }

    fn between<V: Into<Scalar>>(mut self, field: &str, from: Option<V>, before: Option<V>) -> Self {
        if let Some(from) = from {
            self = self.at_least(field, from);
        }
        if let Some(before) = before {
            self = self.below(field, before);
        }
        self
    }

    fn given_prefix(self, field: &str, text: Option<&String>) -> Self {
        match text {
            None => self,
            Some(text) => self.prefix(field, text),
        }
    }

    fn given_part(self, field: &str, text: Option<&String>) -> Self {
        match text {
            None => self,
            Some(text) => self.contains(field, text),
        }
    }

    fn has_each<V: Into<String>>(self, field: &str, texts: impl IntoIterator<Item = V>) -> Self {
        texts.into_iter().fold(self, |query, text| query.has(field, text))
    }
}

/// Writes the steps of a filter that say one text each: `/// words` `step => field;`.
macro_rules! text_steps {
    ($( $(#[$doc:meta])* $step:ident => $field:ident; )*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $step(mut self, text: impl Into<String>) -> Self {
                self.$field = Some(text.into());
                self
            }
        )*
    };
}
pub(crate) use text_steps;

/// Writes the steps that every filter of pages has, for its fields `limit` and `after`.
macro_rules! page_steps {
    () => {
        /// At most this many.
        #[must_use]
        pub fn limit(mut self, limit: usize) -> Self {
            self.limit = limit;
            self
        }

        /// Continue after a page.
        #[must_use]
        pub fn after(mut self, cursor: Option<PageCursor>) -> Self {
            self.after = cursor;
            self
        }
    };
}
pub(crate) use page_steps;

#[cfg(test)]
mod tests {
    use millpond_core::Query;

    use super::Conditions;

    #[test]
    fn what_was_not_asked_for_adds_no_condition() -> millpond_core::Result<()> {
        let none: [&str; 0] = [];
        let query = Query::new("things")?
            .given("name", None::<&str>)
            .any_of("state", none)
            .between("at", None::<i64>, None)
            .given_prefix("id", None)
            .given_part("text", None)
            .has_each("tags", none);
        assert_eq!(query, Query::new("things")?);
        Ok(())
    }

    #[test]
    fn what_was_asked_for_is_the_condition_a_caller_would_write() -> millpond_core::Result<()> {
        let (id, text) = ("a".to_owned(), "b".to_owned());
        let query = Query::new("things")?
            .given("name", Some("n"))
            .any_of("state", ["one"])
            .any_of("kind", ["one", "two"])
            .between("at", Some(1_i64), Some(2))
            .between("end", None, Some(3_i64))
            .given_prefix("id", Some(&id))
            .given_part("text", Some(&text))
            .has_each("tags", ["x", "y"]);
        let written = Query::new("things")?
            .eq("name", "n")
            .eq("state", "one")
            .one_of("kind", ["one", "two"])
            .at_least("at", 1_i64)
            .below("at", 2_i64)
            .below("end", 3_i64)
            .prefix("id", "a")
            .contains("text", "b")
            .has("tags", "x")
            .has("tags", "y");
        assert_eq!(query, written);
        Ok(())
    }
}
