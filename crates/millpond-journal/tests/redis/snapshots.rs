//! The journal is in the server's memory, so it is cut short after each snapshot.

use bytes::Bytes;
use millpond_core::ErrorKind;
use millpond_journal::{After, JournalOptions, Limit};

use crate::world::{digest, engine, journal, log_of, numbers, on, server, steps, store, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_cuts_the_journal_short_and_others_start_from_it() {
    let Some(server) = server() else { return };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let options = JournalOptions { snapshot_bytes: 300_000, ..JournalOptions::default() };
    let writer = on(engine(&server.url(), folders[0].path(), options).await.unwrap()).await.unwrap();
    steps(&writer, 0..2).await;
    let behind = store(&server.url(), folders[1].path()).await.unwrap();
    assert_eq!(numbers(&behind).await.len(), 2);
    steps(&writer, 2..1_200).await;
    let log = log_of(&server);
    let items = || server.cli(&["XLEN", &log]).unwrap().trim().parse::<u64>().unwrap();
    until("the journal is trimmed", async || items() < 2 * 1_100).await;
    println!("{} of {} items of the stream are left", items(), 2 * 1_201);
    let fresh = store(&server.url(), folders[2].path()).await.unwrap();
    for store in [&fresh, &behind] {
        assert_eq!(digest(store).await, digest(&writer).await);
    }
    steps(&behind, 1_200..1_202).await;
    assert_eq!(numbers(&fresh).await, (0..1_202).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_many_pieces_comes_back_whole_or_not_at_all() {
    let Some(server) = server() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let journal = journal(&server.url(), "one").await;
    assert_eq!(journal.get_snapshot(&to).await.unwrap(), None);
    let pieces = || server.cli(&["KEYS", "millpond:{one}:snapshot:*-*:*"]).unwrap().split_whitespace().count();
    for (upto, megabytes) in [(7, 9), (9, 5)] {
        let bytes: Vec<u8> = (0..megabytes << 20).map(|n: u32| (n / 7 + upto) as u8).collect();
        std::fs::write(&from, &bytes).unwrap();
        journal.put_snapshot(u64::from(upto), &from).await.unwrap();
        assert_eq!(journal.get_snapshot(&to).await.unwrap(), Some(u64::from(upto)));
        assert!(std::fs::read(&to).unwrap() == bytes, "other bytes");
    }
    assert_eq!(pieces(), 2, "those of the older one are gone");
    // One that is older than what is there changes nothing, and leaves nothing.
    journal.put_snapshot(8, &from).await.unwrap();
    assert_eq!((journal.get_snapshot(&to).await.unwrap(), pieces()), (Some(9), 2));
    let piece = server.cli(&["KEYS", "millpond:{one}:snapshot:9-*:1"]).unwrap();
    server.cli(&["SETRANGE", piece.trim(), "10", "changed"]).unwrap();
    assert_eq!(journal.get_snapshot(&to).await.unwrap_err().kind(), ErrorKind::Corrupt);
    server.cli(&["DEL", piece.trim()]).unwrap();
    assert_eq!(journal.get_snapshot(&to).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_trimmed_is_told_from_what_was_lost() {
    let Some(server) = server() else { return };
    let journal = journal(&server.url(), "one").await;
    for after in 0..10 {
        journal.append(after, Bytes::from(vec![b'x'; 100])).await.unwrap();
    }
    assert_eq!(journal.size().await.unwrap(), 1_000);
    journal.trim(6).await.unwrap();
    assert_eq!(journal.size().await.unwrap(), 400);
    assert_eq!(journal.read(5, Limit::default()).await.unwrap(), After::Trimmed);
    let After::Entries(left) = journal.read(6, Limit::default()).await.unwrap() else { panic!("trimmed too far") };
    assert_eq!(left.iter().map(|e| e.number).collect::<Vec<_>>(), [7, 8, 9, 10]);
    // Never beyond the end: the last mark says where that is.
    journal.trim(99).await.unwrap();
    journal.trim(10).await.unwrap();
    assert_eq!(journal.read(10, Limit::default()).await.unwrap(), After::Entries(Vec::new()));
    journal.append(10, Bytes::from_static(b"next")).await.unwrap();
    // A stream that somebody emptied is no trimmed one.
    server.cli(&["DEL", "millpond:{one}:log"]).unwrap();
    assert_eq!(journal.read(11, Limit::default()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// As after a restart of one node of a cluster that kept nothing: the register is on another.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_gone_is_not_taken_for_a_deleted_namespace() {
    let Some(server) = server() else { return };
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let first = store(&server.url(), folders[0].path()).await.unwrap();
    steps(&first, 0..3).await;
    let log = log_of(&server);
    server.cli(&["RENAME", &log, "aside"]).unwrap();
    for folder in folders.iter().rev() {
        let error = store(&server.url(), folder.path()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("lost history"), "{error}");
    }
    assert_eq!(log_of(&server), "", "nothing was made anew");
    server.cli(&["RENAME", "aside", &log]).unwrap();
    assert_eq!(numbers(&store(&server.url(), folders[1].path()).await.unwrap()).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_taken_out_by_hand_is_noticed() {
    let Some(server) = server() else { return };
    let journal = journal(&server.url(), "one").await;
    for after in 0..4 {
        journal.append(after, Bytes::from_static(b"entry")).await.unwrap();
    }
    server.cli(&["XDEL", "millpond:{one}:log", "3-0"]).unwrap();
    let error = journal.read(1, Limit::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("entry 3"), "{error}");
}
