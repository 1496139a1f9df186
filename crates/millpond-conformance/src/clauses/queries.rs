//! Queries, by hand: each answer is written out.

use std::sync::Arc;
use std::time::Duration;

use millpond::{Answer, Collection, Commit, ErrorKind, FieldKind, Filter, Group, Query, Read, Scalar, Store, Timestamp};
use serde_json::{Value, json};

use super::tools::{joined, keys, put, refused, two};
use crate::{Failure, Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "queries":
    filters => "each filter takes what it says on each kind of field, and absent values meet only absent";
    changes_are_found => "a changed record is found by what it holds now, and no more by what it held before";
    patterns_are_literal => "percent signs, underscores, stars, brackets, quotes and backslashes in a filter stand for themselves";
    bytes_order_text => "text and keys are ordered by their UTF-8 bytes, upper case before lower, accents after both";
    absent_sorts_first => "absent values sort before all others, equal ones by key; descending is the exact reverse";
    sorted_before_it_is_cut => "a limit takes the first of the order, not the first that were found";
    pages_do_not_skip_or_repeat => "pages of any size, over ties and absent values, show each record once";
    pages_stand_concurrent_writes => "records that do not move are shown exactly once while others come, go and change";
    undeclared_fields_are_refused => "a field nobody declared, a filter that does not fit its kind and a foreign cursor are refused";
    groups => "group_by counts by value, in order, with min, max and sum of a measure, and buckets of time";
    a_new_field_is_filled_in => "a field declared later finds the records from before";
    declaring_moves_records => "declaring a collection keeps its records, revisions, tombstones and feed as they are";
    a_misfit_stops_a_declaration => "a declaration that a stored document does not fit is refused and changes nothing";
    declarations_reach_every_handle => "a handle opened before a declaration writes records that the new fields find";
}

const ITEMS: Collection = Collection::new("items")
    .index("name", FieldKind::Text)
    .index("size", FieldKind::Integer)
    .index_at("score", "/deep/score", FieldKind::Real)
    .index("done", FieldKind::Bool)
    .index("at", FieldKind::Timestamp)
    .index("tags", FieldKind::TextSet)
    .index("labels", FieldKind::TextSet)
    .index_on(&["name", "size"]);

async fn items(store: &Store) -> millpond::Result<()> {
    store.declare(&[ITEMS.spec()?]).await?;
    let documents = [
        (
            "a",
            json!({"name": "alpha", "size": 1, "deep": {"score": 0.5}, "done": true, "at": "2026-01-01T00:00:00Z",
                     "tags": ["x", "y"], "labels": {"env": "prod"}}),
        ),
        (
            "b",
            json!({"name": "beta", "size": 2, "deep": {"score": 2}, "done": false, "at": "2026-01-02T00:00:00Z", "tags": ["y"]}),
        ),
        (
            "c",
            json!({"name": "alphabet", "size": -3, "deep": {"score": -1.5}, "done": true, "at": 1_767_225_600_000_001_i64,
                     "labels": {"env": "dev", "a=b": "c"}}),
        ),
        ("d", json!({"name": "ALPHA", "size": 9_007_199_254_740_993_i64, "tags": []})),
        ("e", json!({"name": null, "size": 2, "done": null, "tags": ["x=y", "X"]})),
        ("f", json!({})),
    ];
    for (key, document) in documents {
        store.commit(put("items", key, &document)?).await?;
    }
    Ok(())
}

fn query() -> millpond::Result<Query> {
    Query::new("items")
}

async fn filters(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    items(&store).await?;
    let at = |t: &str| Timestamp::parse(t);
    let f = |name: &str| name.to_owned();
    let table: Vec<(Query, &str)> = vec![
        (query()?, "abcdef"),
        (query()?.eq("name", "alpha"), "a"),
        (query()?.eq("size", 2_i64), "be"),
        (query()?.eq("size", 9_007_199_254_740_993_i64), "d"),
        (query()?.eq("size", 9_007_199_254_740_992_i64), ""),
        (query()?.eq("score", 2_i64), "b"),
        (query()?.eq("score", 0.5), "a"),
        (query()?.eq("done", true), "ac"),
        (query()?.eq("done", false), "b"),
        (query()?.eq("at", "2026-01-01T01:00:00+01:00"), "a"),
        (query()?.eq("at", at("2026-01-02T00:00:00Z")?), "b"),
        (query()?.eq("key", "c"), "c"),
        (query()?.one_of("name", ["beta", "ALPHA", "nobody"]), "bd"),
        (query()?.one_of("size", [1_i64, -3]), "ac"),
        (query()?.one_of("key", ["f", "a", "a"]), "af"),
        (query()?.filter(Filter::OneOf(f("size"), Vec::new())), ""),
        (query()?.at_least("size", 2_i64), "bde"),
        (query()?.below("size", 2_i64), "ac"),
        (query()?.at_least("size", -3_i64).below("size", 2_i64), "ac"),
        (query()?.filter(Filter::Range(f("score"), Some(Scalar::Real(-1.5)), Some(Scalar::Integer(2)))), "ac"),
        (query()?.at_least("at", "2026-01-01T00:00:00.000001Z"), "bc"),
        (query()?.below("at", "2026-01-01T00:00:00.000001Z"), "a"),
        (query()?.at_least("name", "alphab"), "bc"),
        (query()?.below("key", "c"), "ab"),
        (query()?.prefix("name", "alpha"), "ac"),
        (query()?.prefix("name", ""), "abcd"),
        (query()?.prefix("key", "a"), "a"),
        (query()?.contains("name", "pha"), "ac"),
        (query()?.contains("name", "PHA"), "d"),
        (query()?.has("tags", "x"), "a"),
        (query()?.has("tags", "X"), "e"),
        (query()?.has("tags", "y"), "ab"),
        (query()?.has("tags", "x=y"), "e"),
        (query()?.has("labels", "env=prod"), "a"),
        (query()?.has("labels", "a=b=c"), "c"),
        (query()?.has("labels", "env"), ""),
        (query()?.has("tags", "x").has("tags", "y"), "a"),
        (query()?.filter(Filter::Absent(f("name"))), "ef"),
        (query()?.filter(Filter::Present(f("name"))), "abcd"),
        (query()?.filter(Filter::Absent(f("tags"))), "cdf"),
        (query()?.filter(Filter::Present(f("tags"))), "abe"),
        (query()?.filter(Filter::Absent(f("score"))), "def"),
        (query()?.eq("done", true).at_least("size", 0_i64), "a"),
        (query()?.eq("size", 2_i64).filter(Filter::Absent(f("done"))), "e"),
        (query()?.prefix("name", "a").eq("size", -3_i64).has("labels", "env=dev"), "c"),
    ];
    for (query, expected) in table {
        ensure_eq!(keys(&store, &query).await?.concat(), expected, "records that {:?} takes", query.filters);
        ensure_eq!(store.count(query.clone()).await?, expected.len() as u64, "records counted by {:?}", query.filters);
    }
    Ok(())
}

async fn changes_are_found(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    items(&one).await?;
    one.commit(put("items", "a", &json!({"name": "gamma", "tags": ["z"], "deep": {"score": 9}}))?.delete("items", "b")?).await?;
    one.commit(Commit::new().merge("items", "c", vec![millpond::MergeOp::Add("/size".to_owned(), 10)])?).await?;
    one.commit(put("items", "b", &json!({"tags": ["new"]}))?).await?;
    let table: Vec<(Query, &str)> = vec![
        (query()?.prefix("name", "alpha"), "c"),
        (query()?.eq("name", "gamma"), "a"),
        (query()?.eq("name", "beta"), ""),
        (query()?.has("tags", "y"), ""),
        (query()?.has("tags", "z"), "a"),
        (query()?.has("tags", "new"), "b"),
        (query()?.has("labels", "env=prod"), ""),
        (query()?.eq("score", 9_i64), "a"),
        (query()?.eq("size", -3_i64), ""),
        (query()?.eq("size", 7_i64), "c"),
        (query()?.filter(Filter::Absent("size".to_owned())), "abf"),
        (query()?.order_desc("size").limit(2), "dcefba"),
    ];
    for (query, expected) in table {
        for store in [&one, &two] {
            ensure_eq!(keys(store, &query).await?.concat(), expected, "records that {:?} takes now", query.filters);
        }
    }
    Ok(())
}

async fn patterns_are_literal(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.declare(&[ITEMS.spec()?]).await?;
    let odd = ["50%", "50x", "a_b", "axb", "*", "?", "[ab]", "a", "\\", "\\%", "'", "\"", "--", "é", "E\u{301}", "", " "];
    for name in odd {
        let key = format!("k/{}", if name.is_empty() { "empty" } else { name });
        store.commit(put("items", &key, &json!({"name": name, "tags": [name]}))?).await?;
    }
    let names = |query: Query| {
        let store = store.clone();
        async move {
            let page = store.query(query).await?;
            let name = |r: millpond::Record| Ok(r.value.value()?["name"].as_str().unwrap_or_default().to_owned());
            page.items.into_iter().map(name).collect::<millpond::Result<std::collections::BTreeSet<String>>>()
        }
    };
    let set = |taken: &dyn Fn(&str) -> bool| odd.iter().filter(|n| taken(n)).map(|n| (*n).to_owned()).collect();
    for text in odd.into_iter().chain(["%", "_", "[", "]", "[a", "\\_", "''", "A", "É"]) {
        ensure_eq!(names(query()?.prefix("name", text)).await?, set(&|n| n.starts_with(text)), "names that begin with {text:?}");
        ensure_eq!(names(query()?.contains("name", text)).await?, set(&|n| n.contains(text)), "names that hold {text:?}");
        ensure_eq!(names(query()?.eq("name", text)).await?, set(&|n| n == text), "names equal to {text:?}");
        ensure_eq!(names(query()?.has("tags", text)).await?, set(&|n| n == text), "sets that hold {text:?}");
    }
    for (prefix, expected) in [("k/5", 2), ("k/50%", 1), ("k/a_", 1), ("k/[", 1), ("k/*", 1), ("k/", odd.len() as u64)] {
        ensure_eq!(store.count(query()?.prefix("key", prefix)).await?, expected, "keys that begin with {prefix:?}");
    }
    Ok(())
}

async fn bytes_order_text(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.declare(&[ITEMS.spec()?]).await?;
    // In the order of UTF-8 bytes; UTF-16 would put the last two the other way round.
    let sorted = ["A", "Z", "a", "aa", "a\u{301}", "b", "z", "é", "日本", "ﬀ", "😀"];
    for name in sorted.iter().rev() {
        store.commit(put("items", name, &json!({"name": name}))?).await?;
    }
    let expected: Vec<String> = sorted.iter().map(|n| (*n).to_owned()).collect();
    let reversed: Vec<String> = expected.iter().rev().cloned().collect();
    for field in ["key", "name"] {
        ensure_eq!(keys(&store, &query()?.order_asc(field).limit(2)).await?, expected, "ascending by {field}");
        ensure_eq!(keys(&store, &query()?.order_desc(field).limit(2)).await?, reversed, "descending by {field}");
    }
    ensure_eq!(keys(&store, &query()?.at_least("name", "z").below("name", "ﬀ")).await?, vec!["z", "é", "日本"], "a range");
    Ok(())
}

async fn absent_sorts_first(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    items(&store).await?;
    for (field, ascending) in
        [("name", "efdacb"), ("size", "fcabed"), ("score", "defcab"), ("done", "defbac"), ("at", "defacb"), ("key", "abcdef")]
    {
        for limit in [1, 2, 100] {
            let up = keys(&store, &query()?.order_asc(field).limit(limit)).await?.concat();
            ensure_eq!(up, ascending, "ascending by {field}, {limit} at a time");
            let down = keys(&store, &query()?.order_desc(field).limit(limit)).await?.concat();
            let expected: String = ascending.chars().rev().collect();
            ensure_eq!(down, expected, "descending by {field}, {limit} at a time");
        }
    }
    Ok(())
}

async fn sorted_before_it_is_cut(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.declare(&[ITEMS.spec()?]).await?;
    for n in 0..30_i64 {
        store.commit(put("items", &format!("k{n:02}"), &json!({"size": (n * 7) % 30, "name": "n"}))?).await?;
    }
    for filter in [query()?, query()?.eq("name", "n"), query()?.at_least("size", 0_i64)] {
        let sizes = |page: millpond::Page| {
            let size = |r: millpond::Record| Ok::<_, millpond::Error>(r.value.value()?["size"].as_i64().unwrap_or(-1));
            page.items.into_iter().map(size).collect::<millpond::Result<Vec<_>>>()
        };
        let top = sizes(store.query(filter.clone().order_desc("size").limit(3)).await?)?;
        ensure_eq!(top, vec![29, 28, 27], "the largest three of {:?}", filter.filters);
        let bottom = sizes(store.query(filter.clone().order_asc("size").limit(3)).await?)?;
        ensure_eq!(bottom, vec![0, 1, 2], "the smallest three of {:?}", filter.filters);
    }
    Ok(())
}

async fn pages_do_not_skip_or_repeat(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    one.declare(&[ITEMS.spec()?]).await?;
    for n in 0..24 {
        // Three records to each size, and six without one.
        let document = if n % 4 == 0 { json!({"done": true}) } else { json!({"size": n / 4, "done": n % 2 == 0}) };
        one.commit(put("items", &format!("k{n:02}"), &document)?).await?;
    }
    for base in [query()?, query()?.eq("done", true), query()?.filter(Filter::Present("size".to_owned()))] {
        for order in ["key", "size", "done", "name"] {
            for query in [base.clone().order_asc(order), base.clone().order_desc(order)] {
                let whole = keys(&two, &query.clone().limit(1_000)).await?;
                ensure_eq!(two.count(query.clone()).await?, whole.len() as u64, "count and page of {query:?}");
                for limit in [2, 5, 23] {
                    let paged = keys(&two, &query.clone().limit(limit)).await?;
                    ensure_eq!(paged, whole, "{:?} by {order} {:?}, {limit} at a time", query.filters, query.direction);
                }
            }
        }
    }
    let first = two.query(query()?.limit(23)).await?;
    ensure!(first.next.is_some(), "a page of 23 of 24 records does not go on");
    ensure!(two.query(query()?.limit(24)).await?.next.is_none(), "a page of all 24 records goes on");
    let text = first.next.map(|c| c.to_string()).unwrap_or_default();
    let rest = two.query(query()?.limit(23).after(Some(text.parse()?))).await?;
    ensure_eq!(rest.items.len(), 1, "the page after a cursor that was kept as text");
    Ok(())
}

async fn pages_stand_concurrent_writes(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    one.declare(&[ITEMS.spec()?]).await?;
    for n in 0..40 {
        one.commit(put("items", &format!("s{n:02}"), &json!({"size": n / 2, "name": "stable"}))?).await?;
    }
    let writing = tokio::spawn(async move {
        for n in 0..60 {
            let key = format!("s{:02}x", n % 40);
            let change = json!({"size": n / 2 % 20, "name": "stable", "touched": n});
            let commit =
                put("items", &key, &json!({"size": n % 20, "name": "moving"}))?.put("items", &format!("s{:02}", n % 40), &{
                    // Every field but the order field may change.
                    let mut change: Value = change;
                    change["size"] = json!(n % 40 / 2);
                    change
                })?;
            one.commit(commit).await?;
            one.commit(Commit::new().delete("items", &format!("s{:02}x", (n + 20) % 40))?).await?;
        }
        Ok::<_, Failure>(())
    });
    let mut walks = 0;
    while !writing.is_finished() || walks < 2 {
        for query in [query()?.limit(3), query()?.order_asc("size").limit(3), query()?.order_desc("size").limit(4)] {
            let mut seen = keys(&two, &query).await?;
            seen.retain(|k| !k.ends_with('x'));
            seen.sort();
            let expected: Vec<String> = (0..40).map(|n| format!("s{n:02}")).collect();
            ensure_eq!(seen, expected, "records that stayed in place, walked by {} {:?}", query.order, query.direction);
        }
        walks += 1;
        tokio::task::yield_now().await;
    }
    joined(writing).await
}

async fn undeclared_fields_are_refused(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    items(&store).await?;
    store.commit(put("free", "a", &json!({"name": "x"}))?).await?;
    let wrong = [
        query()?.eq("colour", "red"),
        query()?.order_asc("colour"),
        query()?.order_asc("tags"),
        query()?.eq("size", "two"),
        query()?.eq("tags", "x"),
        query()?.at_least("tags", "x"),
        query()?.has("name", "x"),
        query()?.prefix("size", "1"),
        query()?.contains("at", "2026"),
        query()?.eq("at", "yesterday"),
        query()?.eq("name", "x' OR 1=1 --").eq("deep", 1_i64),
        Query::new("free")?.eq("name", "x"),
        Query::new("free")?.order_desc("name"),
    ];
    for query in wrong {
        let text = refused(store.query(query.clone()).await, ErrorKind::Invalid, &format!("the query {query:?}"))?;
        ensure!(!text.is_empty(), "a refusal without a word");
        refused(store.count(query.clone()).await, ErrorKind::Invalid, &format!("counting by {query:?}"))?;
    }
    let group = |field: &str, bucket: Option<Duration>, measure: Option<&str>| {
        let read =
            query().map(|query| Read::GroupBy { query, field: field.to_owned(), bucket, measure: measure.map(str::to_owned) });
        let store = store.clone();
        async move { store.read(vec![read?]).await }
    };
    for (field, bucket, measure) in
        [("colour", None, None), ("tags", None, None), ("name", None, Some("colour")), ("name", None, Some("tags"))]
    {
        refused(group(field, bucket, measure).await, ErrorKind::Invalid, &format!("grouping by {field}, {measure:?}"))?;
    }
    refused(group("size", Some(Duration::from_secs(1)), None).await, ErrorKind::Invalid, "buckets of an integer")?;
    let cursor = store.query(query()?.limit(1)).await?.next;
    for other in [query()?.order_desc("key"), query()?.eq("done", true), Query::new("free")?] {
        let answer = store.query(other.after(cursor.clone())).await;
        refused(answer, ErrorKind::Invalid, "the cursor of another query")?;
    }
    ensure_eq!(keys(&store, &Query::new("free")?.prefix("key", "a")).await?, vec!["a"], "an undeclared collection by key");
    Ok(())
}

async fn group(
    store: &Store,
    field: &str,
    bucket: Option<Duration>,
    measure: Option<&str>,
    query: Query,
) -> millpond::Result<Vec<Group>> {
    let read = Read::GroupBy { query, field: field.to_owned(), bucket, measure: measure.map(str::to_owned) };
    store.read(vec![read]).await?.pop().map_or(Ok(Vec::new()), Answer::into_groups)
}

async fn groups(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    items(&store).await?;
    let made = |value: Option<Scalar>, count: u64, min: Option<Scalar>, max: Option<Scalar>, sum: Option<i64>| Group {
        value,
        count,
        min,
        max,
        sum,
    };
    let int = |n: i64| Some(Scalar::Integer(n));
    let found = group(&store, "done", None, Some("size"), query()?).await?;
    let big = 9_007_199_254_740_993;
    let expected = vec![
        made(None, 3, int(2), int(big), Some(big + 2)),
        made(Some(Scalar::Bool(false)), 1, int(2), int(2), Some(2)),
        made(Some(Scalar::Bool(true)), 2, int(-3), int(1), Some(-2)),
    ];
    ensure_eq!(found, expected, "sizes by done");
    let few = query()?.at_least("size", 1_i64).below("size", 3_i64).limit(2);
    let found = group(&store, "size", None, Some("score"), few).await?;
    let real = |f: f64| Some(Scalar::Real(f));
    let expected = vec![made(int(1), 1, real(0.5), real(0.5), None), made(int(2), 2, real(2.0), real(2.0), None)];
    ensure_eq!(found, expected, "scores by size, as many as the limit");
    let day = Duration::from_secs(86_400);
    let found = group(&store, "at", Some(day), None, query()?.filter(Filter::Present("at".to_owned()))).await?;
    let at = |t: &str| Ok::<_, millpond::Error>(Some(Scalar::Timestamp(Timestamp::parse(t)?)));
    let expected =
        vec![made(at("2026-01-01T00:00:00Z")?, 2, None, None, None), made(at("2026-01-02T00:00:00Z")?, 1, None, None, None)];
    ensure_eq!(found, expected, "records by day");
    store.commit(put("items", "old", &json!({"at": "1969-12-31T23:59:59Z"}))?).await?;
    let found = group(&store, "at", Some(day), None, query()?.eq("key", "old")).await?;
    ensure_eq!(found, vec![made(at("1969-12-31T00:00:00Z")?, 1, None, None, None)], "a day before 1970");
    let found = group(&store, "name", None, Some("at"), query()?.prefix("name", "alpha")).await?;
    let first = at("2026-01-01T00:00:00Z")?;
    ensure_eq!(found.first().map(|g| (g.count, g.min.clone(), g.sum)), Some((1, first, None)), "times by name");
    ensure_eq!(group(&store, "name", None, None, query()?.eq("name", "nobody")).await?, vec![], "groups of nothing");
    Ok(())
}

async fn a_new_field_is_filled_in(ground: Arc<Ground>) -> Verdict {
    const FIRST: Collection = Collection::new("items").index("name", FieldKind::Text);
    let [one, two] = two(&ground).await?;
    one.declare(&[FIRST.spec()?]).await?;
    for n in 0..20 {
        let document = json!({"name": format!("n{n}"), "size": n, "deep": {"score": 0.5}, "tags": [format!("t{}", n % 2)]});
        one.commit(put("items", &format!("k{n:02}"), &document)?).await?;
    }
    one.commit(Commit::new().delete("items", "k07")?).await?;
    refused(two.count(query()?.eq("size", 3_i64)).await, ErrorKind::Invalid, "a field that is not declared yet")?;
    two.declare(&[ITEMS.spec()?]).await?;
    one.commit(put("items", "new", &json!({"size": 3}))?).await?;
    for store in [&one, &two] {
        ensure_eq!(keys(store, &query()?.eq("size", 3_i64)).await?, vec!["k03", "new"], "by the new integer");
        ensure_eq!(store.count(query()?.eq("score", 0.5)).await?, 19, "by the new field inside the document");
        ensure_eq!(store.count(query()?.has("tags", "t1")).await?, 9, "by the new set");
        ensure_eq!(store.count(query()?.filter(Filter::Absent("size".to_owned()))).await?, 0, "records without the new field");
        let first = store.query(query()?.order_desc("size").limit(1)).await?.items.pop().map(|r| (r.key.to_string(), r.revision));
        ensure_eq!(first, Some(("k19".to_owned(), 1)), "the largest by the new field");
    }
    Ok(())
}

async fn declaring_moves_records(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for n in 0..6 {
        one.commit(put("items", &format!("k{n}"), &json!({"size": n}))?.by("anna")).await?;
    }
    one.commit(put("items", "k1", &json!({"size": 10}))?).await?;
    one.commit(Commit::new().delete("items", "k2")?).await?;
    one.commit(put("items2", "k1", &json!("another collection"))?).await?;
    let selector = millpond::Selector::collection(millpond::CollectionName::new("items")?);
    let feed = super::tools::feed_positions(&one, &selector, None, 100).await?;
    let before = one.query(query()?).await?.items;
    two.declare(&[ITEMS.spec()?]).await?;
    for store in [&one, &two] {
        ensure_eq!(store.query(query()?).await?.items, before, "the records after the declaration");
        ensure_eq!(super::tools::feed_positions(store, &selector, None, 100).await?, feed, "the feed after the declaration");
        ensure_eq!(keys(store, &query()?.order_desc("size").limit(2)).await?, vec!["k1", "k5", "k4", "k3", "k0"], "by size");
    }
    let again = one.commit(put("items", "k2", &json!({"size": 2}))?.put("items", "k1", &json!({"size": 0}))?).await?;
    ensure_eq!(again.revisions, vec![3, 3], "the next revisions of a tombstone and of a record");
    let listed = two.collections().await?.into_iter().filter(|c| c.name.as_str().starts_with("items"));
    let listed: Vec<_> = listed.map(|c| (c.name.to_string(), c.declared, c.records)).collect();
    ensure_eq!(listed, vec![("items".to_owned(), true, 6), ("items2".to_owned(), false, 1)], "the collections");
    Ok(())
}

async fn a_misfit_stops_a_declaration(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    one.commit(put("items", "fits", &json!({"size": 1}))?.put("items", "misfit", &json!({"size": "large"}))?).await?;
    let engine = ground.engine();
    let declared = [Collection::new("others").spec()?, ITEMS.spec()?];
    let text = refused(engine.declare(ground.namespace(), &declared).await, ErrorKind::Invalid, "a declaration with a misfit")?;
    ensure!(text.contains("size"), "the refusal does not name the field: {text}");
    ensure!(engine.catalog(ground.namespace()).await?.iter().next().is_none(), "a refused declaration left something behind");
    ensure_eq!(keys(&two, &query()?).await?, vec!["fits", "misfit"], "the records after a refused declaration");
    one.commit(put("items", "misfit", &json!({"size": 2}))?).await?;
    two.declare(&[ITEMS.spec()?]).await?;
    ensure_eq!(keys(&one, &query()?.eq("size", 2_i64)).await?, vec!["misfit"], "the record that fits now");
    let misfit = put("items", "later", &json!({"size": 1.5}))?;
    refused(two.commit(misfit).await, ErrorKind::Invalid, "a document that does not fit its declaration")?;
    Ok(())
}

async fn declarations_reach_every_handle(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    one.commit(put("items", "before", &json!({"size": 7}))?).await?;
    two.declare(&[ITEMS.spec()?]).await?;
    // This handle has not heard of the declaration.
    one.commit(put("items", "after", &json!({"size": 7}))?).await?;
    let add = vec![millpond::MergeOp::Add("/size".to_owned(), 7)];
    one.commit(Commit::new().merge("items", "merged", add)?).await?;
    ensure_eq!(keys(&one, &query()?.eq("size", 7_i64)).await?, vec!["after", "before", "merged"], "records by the new field");
    let misfit = put("items", "misfit", &json!({"size": "seven"}))?;
    refused(one.commit(misfit).await, ErrorKind::Invalid, "a misfit through the handle that has not heard")?;
    ensure!(one.get("items", "misfit").await?.is_none(), "a misfit was stored");
    let known = ground.place().open().await?.catalog(ground.namespace()).await?;
    ensure_eq!(known.get("items").map(|s| s.fields.len()), Some(7), "what a third handle knows");
    Ok(())
}
