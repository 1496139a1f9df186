//! Declarations of programs that know more or less of a collection than one another.

use std::sync::Arc;

use millpond::{Collection, ErrorKind, FieldKind, Query};
use serde_json::json;

use super::tools::{put, refused, two, value};
use crate::{Ground, Verdict, clauses, ensure_eq};

clauses! { "declarations":
    an_older_program_changes_nothing => "a program that declares fewer fields opens, reads and writes; the newer one's fields and indexes stay";
}

const OLD: Collection =
    Collection::new("items").index("name", FieldKind::Text).index("size", FieldKind::Integer).index_on(&["name", "size"]);
const NEW: Collection = Collection::new("items")
    .version(2)
    .index("name", FieldKind::Text)
    .index("size", FieldKind::Integer)
    .index("colour", FieldKind::Text)
    .index_on(&["name", "colour"]);

async fn an_older_program_changes_nothing(ground: Arc<Ground>) -> Verdict {
    let [new, old] = two(&ground).await?;
    new.declare(&[NEW.spec()?]).await?;
    new.commit(put("items", "a", &json!({"name": "a", "size": 1, "colour": "red"}))?).await?;
    for version in [1, 2] {
        let mut spec = OLD.spec()?;
        spec.version = version;
        old.declare(&[spec]).await?;
        ensure_eq!(value(&old, "items", "a").await?.map(|v| v["size"].clone()), Some(json!(1)), "what the older program reads");
        let key = format!("old{version}");
        old.commit(put("items", &key, &json!({"name": key, "size": 2, "colour": "red"}))?).await?;
        let red = new.count(Query::new("items")?.eq("colour", "red")).await?;
        ensure_eq!(red, 1 + u64::from(version), "records by the newer program's field");
        let kept = ground.engine().catalog(ground.namespace()).await?;
        let kept = kept.get("items").map(|s| (s.version, s.fields.len(), s.indexes.len()));
        ensure_eq!(kept, Some((2, 3, 2)), "version, fields and indexes after a declaration at version {version}");
    }
    let mut other = OLD.spec()?;
    other.fields[1].kind = FieldKind::Text;
    refused(old.declare(&[other]).await, ErrorKind::Invalid, "an older declaration with another meaning")?;
    Ok(())
}
