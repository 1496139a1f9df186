//! What a person sees of a tree.

use std::path::Path;

/// The files of a tree, by their paths from its root in order, without what belongs to the program.
pub fn of_tree(root: &Path) -> Vec<String> {
    fn into(root: &Path, at: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with(".millpond") {
                into(root, &path, found);
            } else if path.is_file() {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    into(root, root, &mut found);
    found.sort();
    found
}
