//! Documents of your own: a type, its declaration, and what you get for it.
//!
//! ```text
//! cargo run -p millpond --example own_documents            # in memory
//! cargo run -p millpond --example own_documents ./data     # kept in a folder
//! ```

use std::collections::BTreeMap;

use millpond::{Collection, Document, FieldKind, Key, NewRun, Result, Step};
use serde::{Deserialize, Serialize};

/// A customer of ours. Millpond knows nothing about it but this declaration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// The key.
    pub id: String,
    /// What they pay for.
    pub plan: String,
    /// How many people may log in.
    pub seats: i64,
    /// Regions they use.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Keep what a newer program wrote, so that this one does not drop it.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Document for Tenant {
    // Each declared field can be asked for; on SQLite it is a real column with an index.
    const COLLECTION: Collection = Collection::new("tenants")
        .version(1)
        .index("plan", FieldKind::Text)
        .index("seats", FieldKind::Integer)
        .index("regions", FieldKind::TextSet)
        // "Equal plan, ordered by seats" is one index lookup.
        .index_on(&["plan", "seats"]);

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

fn tenant(id: &str, plan: &str, seats: i64, regions: &[&str]) -> Tenant {
    Tenant {
        id: id.to_owned(),
        plan: plan.to_owned(),
        seats,
        regions: regions.iter().map(|r| (*r).to_owned()).collect(),
        extra: BTreeMap::new(),
    }
}

/// Does all of it on one store, and says what happened.
///
/// # Errors
/// What the store fails with.
pub async fn run(place: &str) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let pond = millpond::open(place).await?;
    let tenants = pond.collection::<Tenant>().await?;

    // Create and replace.
    for (id, plan, seats) in [("acme", "pro", 40), ("birch", "pro", 12), ("cedar", "free", 3)] {
        tenants.save(&tenant(id, plan, seats, &["eu", if seats > 10 { "us" } else { "ap" }])).await?;
    }

    // Ask declared fields; the engine does the work, page by page.
    let page = tenants.query()?.eq("plan", "pro").at_least("seats", 10_i64).order_desc("seats").limit(50).page().await?;
    let ids: Vec<&str> = page.items.iter().map(|t| t.id.as_str()).collect();
    said.push(format!("pro tenants by seats: {}", ids.join(", ")));
    said.push(format!("tenants in ap: {}", tenants.query()?.has("regions", "ap").count().await?));

    // An optimistic edit: whoever read an older revision is told, and nothing is lost.
    let mut mine = tenants.require("acme").await?;
    let mut theirs = mine.clone();
    theirs.seats = 45;
    tenants.update(&theirs).await?;
    mine.seats = 41;
    match tenants.update(&mine).await {
        Err(error) if error.is_conflict() => {
            said.push(format!("refused: the store holds revision {}", error.found_revision().unwrap_or(0)));
        }
        other => said.push(format!("not refused: {other:?}")),
    }
    // Or let the store read again until it fits.
    let grown = tenants
        .modify("acme", |t| {
            t.seats += 1;
            Ok(())
        })
        .await?;
    said.push(format!("acme has {} seats", grown.seats));

    // Your documents and Millpond's own, in one commit: all of it, or none of it.
    let run = pond.runs().start(NewRun::of("onboarding", 1)).await?;
    let mut unit = pond.unit();
    unit.put(&tenant("dogwood", "pro", 5, &["eu"]));
    unit.runs().step_completed(run.id(), Step::new("create-tenant"));
    unit.events("audit").append("tenant.created", &serde_json::json!({"id": "dogwood"}));
    unit.commit().await?;
    said.push(format!("tenants: {}", tenants.query()?.count().await?));

    pond.close().await?;
    Ok(said)
}

#[tokio::main]
async fn main() -> Result<()> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    for line in run(&place).await? {
        println!("{line}");
    }
    Ok(())
}
