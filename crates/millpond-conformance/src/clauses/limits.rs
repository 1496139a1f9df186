//! Limits: the largest is kept whole, one more is refused, named, and leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millpond::{
    Acquire, Collection, Commit, ErrorKind, FieldKind, Filter, Holder, Json, Key, NewEvent, Query, Read, RecordId, Result,
    Scalar, Store, Write, limits,
};
use serde_json::{Value, json};

use super::tools::{event, head, put, refused, value};
use crate::{Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "limits":
    names => "keys and stream names of 2,048 bytes are kept; longer, empty or unsafe ones are refused";
    documents => "a document of 1 MiB is kept; a larger, deeper or unfaithful one is refused";
    events => "an event of 256 KiB is kept; a larger one, or one with an oversized part, is refused";
    commits => "a commit of 4,096 operations or nearly 8 MiB is applied; a larger one is refused whole";
    indexed_values => "a declared text of 1,024 bytes and a set of 256 values are kept; more is refused";
    declarations => "32 fields may be declared, under plain names; more, or a changed meaning, is refused";
    reads => "pages, lists of values and reads in one call have limits that are refused by name";
    groups => "more groups than were asked for are refused, never left out in silence";
    leases => "a lease is held between a millisecond and a day";
}

/// Requires that a commit is refused as invalid, that the text names the limit and what was found, and that nothing
/// was written.
async fn too_much(store: &Store, commit: Result<Commit>, limit: &str, found: &str) -> Verdict {
    let before = head(store).await?;
    let answer = match commit {
        Ok(commit) => store.commit(commit).await.map(|_| ()),
        Err(error) => Err(error),
    };
    let what = format!("{found} where the limit is {limit}");
    let text = refused(answer, ErrorKind::Invalid, &what)?;
    ensure!(text.contains(limit), "the refusal of {what} does not name the limit: {text}");
    ensure!(text.contains(found), "the refusal of {what} does not say what was found: {text}");
    ensure_eq!(head(store).await?, before, "the head after a refusal of {what}");
    Ok(())
}

fn text(bytes: usize) -> Value {
    Value::from("x".repeat(bytes))
}

async fn names(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let (fits, over) = ("n".repeat(limits::NAME_BYTES), "n".repeat(limits::NAME_BYTES + 1));
    store.commit(put("notes", &fits, &json!(1))?.append(&fits, event("x", 1)?)?).await?;
    let other = format!("{}o", "n".repeat(limits::NAME_BYTES - 1));
    store.commit(put("notes", &other, &json!(2))?.append(&other, event("x", 2)?)?.append(&other, event("x", 3)?)?).await?;
    ensure_eq!(value(&store, "notes", &fits).await?, Some(json!(1)), "the record under the longest key");
    ensure_eq!(value(&store, "notes", &other).await?, Some(json!(2)), "the record under a key that differs in its last byte");
    ensure_eq!(store.stream(&fits).await?.map(|s| s.head), Some(1), "the stream with the longest name");
    too_much(&store, put("notes", &over, &json!(1)), "2048", "2049").await?;
    too_much(&store, Commit::new().append(&over, event("x", 1)?), "2048", "2049").await?;
    let short = "c".repeat(limits::SHORT_NAME_BYTES);
    store.commit(put(&short, "k", &json!(1))?).await?;
    ensure_eq!(value(&store, &short, "k").await?, Some(json!(1)), "the record in the longest collection");
    too_much(&store, put(&format!("{short}c"), "k", &json!(1)), "64", "65").await?;
    for bad in ["", "/a", "a/", "a//b", ".", "a/../b", "a\0b", "a\nb"] {
        refused(put("notes", bad, &json!(1)), ErrorKind::Invalid, &format!("the key {bad:?}"))?;
        refused(Commit::new().append(bad, event("x", 1)?), ErrorKind::Invalid, &format!("the stream {bad:?}"))?;
    }
    Ok(())
}

async fn documents(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    // Two bytes of the document are its quotes.
    let fits = text(limits::DOCUMENT_BYTES - 2);
    store.commit(put("notes", "large", &fits)?).await?;
    ensure!(value(&store, "notes", "large").await? == Some(fits), "a document of 1 MiB came back changed");
    let over = put("notes", "larger", &text(limits::DOCUMENT_BYTES - 1));
    too_much(&store, over, "1048576", "1048577").await?;
    let grow = millpond::MergeOp::Set("/more".to_owned(), Json::of(&text(600_000))?);
    store.commit(Commit::new().merge("notes", "grown", vec![grow.clone()])?).await?;
    let again = millpond::MergeOp::Set("/still".to_owned(), Json::of(&text(600_000))?);
    too_much(&store, Commit::new().merge("notes", "grown", vec![again]), "1048576", "12000").await?;
    let deep = |n: usize| Json::parse(&format!("{}1{}", "[".repeat(n), "]".repeat(n)));
    let write = Write::Put(RecordId::new("notes", "deep")?, deep(limits::JSON_DEPTH)?);
    store.commit(Commit::new().write(write)).await?;
    ensure_eq!(store.get("notes", "deep").await?.map(|r| r.value), Some(deep(limits::JSON_DEPTH)?), "a deep document");
    refused(deep(limits::JSON_DEPTH + 1), ErrorKind::Invalid, "a document nested 65 levels deep")?;
    refused(Json::of("a\0b"), ErrorKind::Invalid, "a NUL in a string")?;
    refused(Json::parse("9223372036854775808"), ErrorKind::Invalid, "an integer beyond 64 bits")?;
    refused(Json::parse("0.1000000000000000055"), ErrorKind::Invalid, "a decimal that a float cannot hold")?;
    Ok(())
}

async fn events(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let with = |bytes: usize| NewEvent::of("x", &text(bytes));
    // One byte is the type, two are quotes.
    let fits = with(limits::EVENT_BYTES - 3)?;
    store.commit(Commit::new().append("log", fits.clone())?).await?;
    let stored = store.events(millpond::EventQuery::new(millpond::EventFilter::all())).await?;
    ensure!(stored.items.first().is_some_and(|e| e.data == fits.data), "an event of 256 KiB came back changed");
    too_much(&store, Commit::new().append("log", with(limits::EVENT_BYTES - 2)?), "262144", "262145").await?;
    let long = "l".repeat(limits::INDEXED_TEXT_BYTES + 1);
    let bare = event("x", 1)?;
    let parts = [
        NewEvent { kind: long.clone(), ..bare.clone() },
        NewEvent { id: Some(long.clone()), ..bare.clone() },
        NewEvent { agent: Some(long.clone()), ..bare.clone() },
        NewEvent { source: Some(long.clone()), ..bare.clone() },
        NewEvent { correlation: Some(long.clone()), ..bare.clone() },
        NewEvent { labels: BTreeMap::from([(long.clone(), "v".to_owned())]), ..bare.clone() },
        NewEvent { labels: BTreeMap::from([("k".to_owned(), long)]), ..bare.clone() },
    ];
    for part in parts {
        too_much(&store, Commit::new().append("log", part), "1024", "1025").await?;
    }
    let empty = Commit::new().append("log", NewEvent { kind: String::new(), ..bare })?;
    refused(store.commit(empty).await, ErrorKind::Invalid, "an event without a type")?;
    ensure_eq!(store.stream("log").await?.map(|s| s.head), Some(1), "the stream's head after refusals");
    Ok(())
}

async fn commits(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let mut commit = Commit::new().expect_absent("notes", "k0")?;
    let half = limits::COMMIT_OPERATIONS / 2;
    for n in 0..half {
        commit = commit.put("notes", &format!("k{n}"), &n)?;
    }
    let events = (0..half - 1).map(|n| event("x", n)).collect::<Result<Vec<_>>>()?;
    let full = commit.append_all("log", events)?;
    let receipt = store.commit(full.clone()).await?;
    ensure_eq!((receipt.revisions.len(), receipt.sequences[0].count), (half, half as u64 - 1), "a commit of 4,096 operations");
    ensure_eq!(store.count(Query::new("notes")?).await?, half as u64, "its records");
    too_much(&store, full.append("log", event("x", 0)?), "4096", "4097").await?;
    let mib = text(limits::DOCUMENT_BYTES - 100);
    let large = |n: usize| (0..n).try_fold(Commit::new(), |c, i| c.put("large", &format!("k{i}"), &mib));
    store.commit(large(8)?).await?;
    ensure_eq!(store.count(Query::new("large")?).await?, 8, "the records of a commit of nearly 8 MiB");
    too_much(&store, large(9), "8388608", "94").await?;
    let by = Commit::new().by("b".repeat(limits::INDEXED_TEXT_BYTES + 1));
    too_much(&store, Ok(by), "1024", "1025").await?;
    Ok(())
}

async fn indexed_values(ground: Arc<Ground>) -> Verdict {
    const INDEXED: Collection = Collection::new("indexed").index("name", FieldKind::Text).index("tags", FieldKind::TextSet);
    let store = ground.store().await?;
    store.declare(&[INDEXED.spec()?]).await?;
    let long = "é".repeat(limits::INDEXED_TEXT_BYTES / 2);
    let tags: Vec<String> = (0..limits::SET_VALUES).map(|n| format!("t{n}")).collect();
    store.commit(put("indexed", "fits", &json!({"name": long, "tags": tags, "free": "f".repeat(5_000)}))?).await?;
    for query in [Query::new("indexed")?.eq("name", &long), Query::new("indexed")?.has("tags", "t255")] {
        ensure_eq!(store.count(query).await?, 1, "the record by its largest values");
    }
    too_much(&store, put("indexed", "over", &json!({"name": format!("{long}x")})), "1024", "1025").await?;
    let tags: Vec<String> = (0..=limits::SET_VALUES).map(|n| format!("t{n}")).collect();
    too_much(&store, put("indexed", "over", &json!({"tags": tags})), "256", "257").await?;
    too_much(&store, put("indexed", "over", &json!({"tags": ["y".repeat(1_025)]})), "1024", "1025").await?;
    for misfit in [json!({"name": 1}), json!({"tags": "one"}), json!({"tags": [1]}), json!({"tags": {"a": 1}})] {
        refused(store.commit(put("indexed", "over", &misfit)?).await, ErrorKind::Invalid, &format!("the document {misfit}"))?;
    }
    ensure_eq!(store.count(Query::new("indexed")?).await?, 1, "records after refusals");
    Ok(())
}

async fn declarations(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let spec = |fields: usize| {
        let mut spec = Collection::new("wide").spec()?;
        spec.fields = (0..fields)
            .map(|n| millpond::Field { name: format!("f{n}"), path: format!("/f{n}"), kind: FieldKind::Integer })
            .collect();
        Ok::<_, millpond::Error>(spec)
    };
    let fits = spec(limits::COLLECTION_FIELDS)?;
    store.declare(std::slice::from_ref(&fits)).await?;
    store.commit(put("wide", "a", &json!({"f31": 31}))?).await?;
    ensure_eq!(store.count(Query::new("wide")?.eq("f31", 31_i64)).await?, 1, "the record by its last field");
    let mut other = spec(limits::COLLECTION_FIELDS + 1)?;
    other.name = millpond::CollectionName::new("wider")?;
    let over = refused(store.declare(&[other]).await, ErrorKind::Invalid, "33 fields")?;
    ensure!(over.contains("33") && over.contains("32"), "the refusal does not name limit and found: {over}");
    let mut changed = fits.clone();
    changed.fields[3].kind = FieldKind::Text;
    let mut fewer = fits.clone();
    (fewer.version, _) = (2, fewer.fields.pop());
    let mut owned = fits.clone();
    owned.owned = true;
    let (mut reserved, mut twice) = (spec(1)?, spec(2)?);
    reserved.fields[0].name = "revision".to_owned();
    twice.fields[1].name = "f0".to_owned();
    let mut older = fits;
    older.version = 0;
    older.fields[3].name = "another".to_owned();
    for (what, spec) in [
        ("a field of another type", changed),
        ("a newer version without a field", fewer),
        ("a collection that became owned", owned),
        ("a reserved name", reserved),
        ("a name declared twice", twice),
        ("an older version with a field of its own", older),
    ] {
        refused(ground.engine().declare(ground.namespace(), &[spec]).await, ErrorKind::Invalid, what)?;
    }
    let kept = ground.engine().catalog(ground.namespace()).await?.get("wide").map(|s| (s.fields.len(), s.owned, s.version));
    ensure_eq!(kept, Some((limits::COLLECTION_FIELDS, false, 1)), "the declaration after refusals");
    Ok(())
}

async fn reads(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.commit(put("notes", "a", &json!(1))?).await?;
    // The one that is there is the last.
    let many = |n: usize| {
        let values = (1..n).map(|i| format!("k{i}")).chain(["a".to_owned()]);
        Filter::OneOf("key".to_owned(), values.map(Scalar::from).collect())
    };
    let query = |n: usize| Ok::<_, millpond::Error>(Query::new("notes")?.filter(many(n)));
    ensure_eq!(store.count(query(limits::ONE_OF_VALUES)?).await?, 1, "what the last of 1,024 values takes");
    let text = refused(store.count(query(limits::ONE_OF_VALUES + 1)?).await, ErrorKind::Invalid, "1,025 values")?;
    ensure!(text.contains("1025") && text.contains("1024"), "the refusal does not name limit and found: {text}");
    for limit in [0, limits::PAGE_ROWS + 1] {
        let answer = store.query(Query::new("notes")?.limit(limit)).await;
        let text = refused(answer, ErrorKind::Invalid, "a limit out of range")?;
        ensure!(text.contains(&limit.to_string()), "the refusal does not say what was found: {text}");
    }
    ensure_eq!(store.query(Query::new("notes")?.limit(limits::PAGE_ROWS)).await?.items.len(), 1, "a page of 10,000");
    let get = || Ok::<_, millpond::Error>(Read::Get(RecordId::new("notes", "a")?));
    let reads = (0..limits::READS).map(|_| get()).collect::<Result<Vec<_>>>()?;
    ensure_eq!(store.read(reads.clone()).await?.len(), limits::READS, "answers to 1,024 reads");
    let text = refused(store.read([reads, vec![get()?]].concat()).await, ErrorKind::Invalid, "1,025 reads")?;
    ensure!(text.contains("1025") && text.contains("1024"), "the refusal does not name limit and found: {text}");
    Ok(())
}

async fn groups(ground: Arc<Ground>) -> Verdict {
    const GROUPED: Collection = Collection::new("grouped").index("colour", FieldKind::Text);
    let store = ground.store().await?;
    store.declare(&[GROUPED.spec()?]).await?;
    for n in 0..3 {
        let document = json!({"colour": format!("c{n}")});
        store.commit(put("grouped", &format!("k{n}"), &document)?.append("log", event(&format!("t{n}"), n)?)?).await?;
    }
    for limit in [2, 3] {
        let query = Query::new("grouped")?.limit(limit);
        let records = Read::GroupBy { query, field: "colour".to_owned(), bucket: None, measure: None };
        let (filter, by) = (millpond::EventFilter::all(), millpond::EventGroupBy::Kind);
        for read in [records, Read::EventGroups { filter, by, limit }] {
            let answer = store.read(vec![read]).await;
            if limit == 3 {
                answer?;
                continue;
            }
            let text = refused(answer, ErrorKind::Invalid, "three groups where two were asked for")?;
            ensure!(text.contains("more than 2 groups"), "the refusal does not name the limit: {text}");
        }
    }
    Ok(())
}

async fn leases(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let acquire = |name: &str, micros: u64| {
        let holder = Holder { name: "me".to_owned(), ..Holder::default() };
        let ttl = Duration::from_micros(micros);
        Ok::<_, millpond::Error>(Commit::new().write(Write::Acquire(Acquire {
            lease: Key::new(name)?,
            holder,
            ttl,
            purpose: None,
            dead: None,
        })))
    };
    store.commit(acquire("short", 1_000)?).await?;
    store.commit(acquire("long", 86_400_000_000)?).await?;
    for micros in [0, 999, 86_400_000_001] {
        refused(store.commit(acquire("bad", micros)?).await, ErrorKind::Invalid, &format!("a lease of {micros} µs"))?;
    }
    ensure!(store.get("locks", "bad").await?.is_none(), "a refused lease is held");
    Ok(())
}
