//! The blocking API: documents of one's own, and every path of it inside an async runtime.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use millpond::blocking::{self, Records};
use millpond::{
    Collection, Document, ErrorKind, EventFilter, FieldKind, Filter, Key, Query, Result, Selector, StartAt, StreamName,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tenant {
    id: String,
    plan: String,
    seats: i64,
    #[serde(default)]
    regions: Vec<String>,
    #[serde(flatten)]
    extra: BTreeMap<String, Value>,
}

impl Document for Tenant {
    const COLLECTION: Collection = Collection::new("tenants")
        .version(1)
        .index("plan", FieldKind::Text)
        .index("seats", FieldKind::Integer)
        .index("regions", FieldKind::TextSet);

    fn key(&self) -> Result<Key> {
        Key::new(self.id.as_str())
    }
}

fn tenant(id: &str, plan: &str, seats: i64) -> Tenant {
    Tenant { id: id.to_owned(), plan: plan.to_owned(), seats, regions: vec![format!("in-{plan}")], extra: BTreeMap::new() }
}

fn tenants() -> (blocking::Pond, Records<Tenant>) {
    let pond = blocking::open("memory:").expect("opens");
    let tenants = pond.collection::<Tenant>().expect("declares");
    for (id, plan, seats) in [("a", "pro", 40), ("b", "pro", 12), ("c", "free", 3)] {
        tenants.create(&tenant(id, plan, seats)).expect("creates");
    }
    (pond, tenants)
}

#[test]
fn documents_of_ones_own_are_written_without_a_runtime() {
    let (pond, tenants) = tenants();
    assert!(tenants.create(&tenant("a", "free", 1)).expect_err("taken").is_conflict());
    assert_eq!(tenants.get("nobody").expect("reads"), None);
    assert_eq!(tenants.require("nobody").expect_err("absent").kind(), ErrorKind::NotFound);
    tenants.save(&tenant("c", "free", 4)).expect("saves");
    let mut read = tenants.require("c").expect("reads");
    read.seats = 5;
    tenants.update(&read).expect("updates");
    assert!(tenants.update(&read).expect_err("stale").is_conflict());
    let grown = tenants.clone().modify("c", |t| {
        t.seats += 1;
        Ok(())
    });
    assert_eq!((grown.expect("modifies").seats, tenants.require("c").expect("reads").seats), (6, 6));
    assert_eq!((tenants.delete("c").expect("deletes"), tenants.delete("c").expect("deletes")), (true, false));
    assert_eq!(tenants.get("c").expect("reads"), None);
    pond.close().expect("closes");
}

#[test]
fn documents_of_ones_own_are_found_without_a_runtime() {
    let (_pond, tenants) = tenants();
    let query = || tenants.query().expect("a query");
    let ids = |page: millpond::Page<millpond::Versioned<Tenant>>| page.items.into_iter().map(|t| t.value.id).collect::<Vec<_>>();
    let first = query().order_desc("seats").limit(2).page().expect("pages");
    let rest = query().order_desc("seats").limit(2).after(first.next.clone()).page().expect("pages");
    assert_eq!((ids(first), ids(rest)), (vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]));
    assert_eq!(ids(query().eq("plan", "pro").order_asc("seats").page().expect("pages")), ["b", "a"]);
    assert_eq!(query().eq_opt("plan", Some("free")).count().expect("counts"), 1);
    assert_eq!(query().eq_opt("plan", None::<&str>).count().expect("counts"), 3);
    assert_eq!(ids(query().at_least("seats", 12_i64).below("seats", 40_i64).page().expect("pages")), ["b"]);
    assert_eq!(query().has("regions", "in-pro").count().expect("counts"), 2);
    assert_eq!(query().filter(Filter::Prefix("plan".to_owned(), "fr".to_owned())).count().expect("counts"), 1);
    assert_eq!(ids(query().key(&Key::new("b").expect("a key")).page().expect("pages")), ["b"]);
    assert_eq!(query().order_asc("seats").first().expect("reads").map(|t| t.value.id), Some("c".to_owned()));
    assert_eq!(ids(tenants.page(query().eq("plan", "free").build()).expect("pages")), ["c"]);
    assert_eq!(ids(tenants.page(Query::new("tenants").expect("a name").limit(1)).expect("pages")), ["a"]);
}

fn refused<T: Debug>(what: &str, result: Result<T>) {
    match result {
        Err(error) => {
            assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("async runtime"), "{what}: {error}")
        }
        Ok(value) => panic!("{what} answered inside a runtime: {value:?}"),
    }
}

#[test]
fn inside_a_runtime_every_path_answers_with_an_error() {
    let (pond, tenants) = tenants();
    pond.events().append("s", vec![millpond::NewEvent::of("t", &json!(1)).expect("an event")]).expect("appends");
    let stream = || EventFilter::stream(StreamName::new("s").expect("a name"));
    let mut reader = pond.events().query(stream());
    let mut feed = pond.events().subscribe(Selector::types("*"), StartAt::Oldest).expect("a feed");
    let mut watch = pond.flows().watch(">", StartAt::Oldest).expect("a watch");
    let mut subscription = pond.store().subscribe(Selector::types("*"), StartAt::Oldest);
    let mut unit = pond.unit();
    unit.put(&tenant("d", "pro", 1));
    let all = || tenants.query().and_then(blocking::TypedQuery::page).expect("pages").items;
    let before = all();
    let wait = Duration::from_secs(5);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        refused("open", blocking::open("memory:").map(drop));
        refused("open_with", blocking::open_with(millpond::OpenOptions::new(), "memory:").map(drop));
        refused("close", pond.close());
        refused("commit", pond.commit(millpond::Commit::new()));
        refused("try_commit", pond.try_commit(millpond::Commit::new()));
        refused("collection", pond.collection::<Tenant>());
        refused("Unit::commit", unit.commit());
        refused("EventReader", reader.next().expect("an error is an item"));
        refused("EventFeed", feed.next_within(wait));
        refused("FlowWatch::next_within", watch.next_within(wait));
        refused("FlowWatch::try_next", watch.try_next());
        refused("Subscription::next_delivery", subscription.next_delivery());
        refused("Subscription::try_next", subscription.try_next());
        refused("a domain", pond.runs().get("r"));
        refused("Records::get", tenants.get("a"));
        refused("Records::require", tenants.require("a"));
        refused("Records::create", tenants.create(&tenant("d", "pro", 1)));
        refused("Records::save", tenants.save(&tenant("d", "pro", 1)));
        refused("Records::modify", tenants.modify("a", |_| Ok(())));
        refused("Records::delete", tenants.delete("a"));
        refused("TypedQuery::page", tenants.query().expect("a query").page());
        refused("TypedQuery::count", tenants.query().expect("a query").count());
        refused("TypedQuery::first", tenants.query().expect("a query").first());
    });

    // Nothing was done, nothing is used up, and all of it goes on outside.
    assert_eq!(all(), before);
    assert_eq!(reader.next().expect("an event").expect("reads").kind, "t");
    assert!(feed.next_within(wait).expect("feeds").is_some());
    assert!(watch.next_within(wait).expect("watches").is_some());
    assert!(subscription.try_next().expect("feeds").is_some());
    // Dropped inside a runtime, whatever is left waits for no thread and does not panic.
    runtime.block_on(async {
        drop((reader, feed, watch, subscription, tenants));
        drop(pond);
    });
}

#[test]
fn receipts_are_never_purged_before_seven_days() {
    let pond = millpond::blocking::open("memory:").unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let error = pond.store().purge(day * 6).unwrap_err();
    assert_eq!(error.kind(), millpond::ErrorKind::Invalid);
    assert!(error.message().contains("at least 7 days"), "{error}");
    let receipt = pond.commit(millpond::Commit::new().put("c", "k", &1).unwrap()).unwrap();
    pond.store().purge(day * 7).unwrap();
    assert!(pond.store().outcome(receipt.id).unwrap().is_some());
}
