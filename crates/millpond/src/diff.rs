//! The difference of two texts, in the unified format.

use similar::TextDiff;

/// The unified diff of two texts, with three lines of context; empty when they are equal.
pub(crate) fn unified(old_name: &str, old: &str, new_name: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    TextDiff::from_lines(old, new).unified_diff().context_radius(3).header(old_name, new_name).to_string()
}
