//! Records: what is put is what is read, and revisions only grow.

use std::sync::Arc;

use millpond::{Commit, Read, RecordId};
use serde_json::{Value, json};

use super::tools::{put, revision, two, value};
use crate::{Ground, Verdict, clauses, ensure, ensure_eq};

clauses! { "records":
    put_and_get => "what was put is read back, through any handle, with its revision, position, time and author";
    revisions_never_come_again => "each change takes the next revision, also after delete and re-create";
    names_survive => "keys differ by bytes: case, accents, spaces, percent signs and backslashes all count";
    documents_survive => "every JSON value comes back as it was put, numbers to the last digit";
    collections_are_apart => "the same key in two collections is two records, and both collections are listed";
    deleted_is_gone => "a deleted record is not read, queried or counted; deleting again changes nothing";
    several_reads_answer_in_order => "several reads in one call are answered one by one, in order";
}

async fn put_and_get(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    let receipt = one.commit(put("notes", "a", &json!({"x": [1, "é"]}))?.by("anna")).await?;
    let record = two.get("notes", "a").await?;
    ensure!(record.is_some(), "a record that was put is not there");
    if let Some(record) = record {
        ensure_eq!(record.value.as_str(), r#"{"x":[1,"é"]}"#, "the document");
        ensure_eq!(record.revision, 1, "the first revision");
        ensure_eq!(receipt.revisions, vec![1], "the receipt's revisions");
        ensure_eq!(record.position, receipt.position, "the record's position");
        ensure_eq!(record.time, receipt.time, "the record's time");
        ensure_eq!(record.by.as_deref(), Some("anna"), "who changed it");
        ensure_eq!(record.key.as_str(), "a", "the key");
    }
    ensure!(two.get("notes", "b").await?.is_none(), "a record that was never put is there");
    one.commit(put("notes", "a", &json!(2))?).await?;
    let by = two.get("notes", "a").await?.and_then(|r| r.by);
    ensure_eq!(by, None, "the author of a change that named none");
    Ok(())
}

async fn revisions_never_come_again(ground: Arc<Ground>) -> Verdict {
    let stores = two(&ground).await?;
    let mut seen = Vec::new();
    for round in 0..4 {
        let store = &stores[round % 2];
        seen.extend(store.commit(put("notes", "a", &json!(round))?).await?.revisions);
        seen.extend(store.commit(put("notes", "a", &json!("again"))?).await?.revisions);
        seen.extend(store.commit(Commit::new().delete("notes", "a")?).await?.revisions);
    }
    ensure_eq!(seen, (1..=12).collect::<Vec<u64>>(), "revisions over four lives of one key");
    let in_one = Commit::new().put("notes", "b", &1)?.delete("notes", "b")?.put("notes", "b", &2)?;
    ensure_eq!(stores[0].commit(in_one).await?.revisions, vec![1, 2, 3], "put, delete, put in one commit");
    ensure_eq!(revision(&stores[1], "notes", "b").await?, 3, "the revision that is left");
    stores[0].commit(Commit::new().put("notes", "c", &1)?.delete("notes", "c")?).await?;
    let again = stores[1].commit(put("notes", "c", &json!(2))?).await?;
    ensure_eq!(again.revisions, vec![3], "after a record that lived inside one commit only");
    Ok(())
}

async fn names_survive(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let long = "k".repeat(2_048);
    let names = [
        "a",
        "A",
        "a ",
        " a",
        "é",
        "e\u{301}",
        "日本/語",
        "a%2Fb",
        "a/b",
        "a\\b",
        "'",
        "\"",
        "...",
        "a.b",
        "😀",
        "ﬀ",
        "%",
        "_",
        "*",
        "null",
        "0",
        "00",
        &long,
    ];
    for (n, name) in names.iter().enumerate() {
        store.commit(put("names", name, &json!(n))?).await?;
    }
    for (n, name) in names.iter().enumerate() {
        ensure_eq!(value(&store, "names", name).await?, Some(json!(n)), "the record under {name:?}");
    }
    ensure_eq!(store.count(millpond::Query::new("names")?).await?, names.len() as u64, "how many names there are");
    Ok(())
}

async fn documents_survive(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    let documents = [
        "null",
        "true",
        "\"\"",
        "\"null\"",
        "[]",
        "{}",
        "0",
        "-0.0",
        "9223372036854775807",
        "-9223372036854775808",
        "9007199254740993",
        "0.1",
        "5e-324",
        "1.7976931348623157e308",
        "100.0",
        "[[[[[[[[1]]]]]]]]",
        r#"{"":{"a\"b":"\\","é":"日本\n\t😀\u007f"}}"#,
        r#"{"a":{"b":[null,false,1.5,"x"]},"z":1}"#,
        "\"{\\\"a\\\":1}\"",
    ];
    for (n, text) in documents.iter().enumerate() {
        let json = millpond::Json::parse(text)?;
        let write = millpond::Write::Put(RecordId::new("documents", &format!("d{n}"))?, json.clone());
        store.commit(Commit::new().write(write)).await?;
        let found = store.get("documents", &format!("d{n}")).await?.map(|r| r.value);
        ensure_eq!(found, Some(json), "the document {text}");
    }
    Ok(())
}

async fn collections_are_apart(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.commit(Commit::new().put("one", "k", &1)?.put("two", "k", &2)?.put("two", "l", &3)?).await?;
    store.commit(Commit::new().delete("one", "k")?).await?;
    ensure_eq!(value(&store, "one", "k").await?, None, "the deleted one");
    ensure_eq!(value(&store, "two", "k").await?, Some(json!(2)), "the other one");
    store.commit(put("one", "m", &json!(4))?).await?;
    let listed = store.collections().await?.into_iter().filter(|c| ["one", "two"].contains(&c.name.as_str()));
    let listed: Vec<_> = listed.map(|c| (c.name.to_string(), c.declared, c.records)).collect();
    ensure_eq!(listed, vec![("one".to_owned(), false, 1), ("two".to_owned(), false, 2)], "the collections");
    Ok(())
}

async fn deleted_is_gone(ground: Arc<Ground>) -> Verdict {
    let [one, two] = two(&ground).await?;
    for key in ["a", "b", "c"] {
        one.commit(put("notes", key, &json!(key))?).await?;
    }
    let before = one.commit(Commit::new().delete("notes", "b")?).await?;
    ensure_eq!(before.revisions, vec![2], "the revision a delete takes");
    ensure!(two.get("notes", "b").await?.is_none(), "a deleted record is read");
    let keys = super::tools::keys(&two, &millpond::Query::new("notes")?).await?;
    ensure_eq!(keys, vec!["a".to_owned(), "c".to_owned()], "a query after a delete");
    ensure_eq!(two.count(millpond::Query::new("notes")?).await?, 2, "a count after a delete");
    let again = one.commit(Commit::new().delete("notes", "b")?.delete("notes", "never")?).await?;
    ensure_eq!(again.revisions, vec![0, 0], "deleting what is not there");
    ensure_eq!(again.position, before.position, "the position after changing nothing");
    Ok(())
}

async fn several_reads_answer_in_order(ground: Arc<Ground>) -> Verdict {
    let store = ground.store().await?;
    store.commit(Commit::new().put("notes", "a", &1)?.put("notes", "b", &2)?).await?;
    let get = |key: &str| Ok::<_, millpond::Error>(Read::Get(RecordId::new("notes", key)?));
    let reads = vec![get("b")?, Read::Count(millpond::Query::new("notes")?), get("missing")?, get("a")?];
    let mut answers = store.read(reads).await?.into_iter();
    let mut next = || answers.next().ok_or_else(|| crate::Failure("an answer is missing".to_owned()));
    ensure_eq!(next()?.into_record()?.map(|r| r.key.to_string()), Some("b".to_owned()), "the first answer");
    ensure_eq!(next()?.into_count()?, 2, "the second answer");
    ensure_eq!(next()?.into_record()?, None, "the third answer");
    let last: Option<Value> = next()?.into_record()?.map(|r| r.value.value()).transpose()?;
    ensure_eq!(last, Some(json!(1)), "the fourth answer");
    Ok(())
}
