//! What is done when answers are lost on the way.

use bytes::Bytes;
use millpond_objects::Objects as _;
use millpond_testservers::{Fault, Proxy};

use super::{PART, at, bucket, bytes, run};

pub fn put(port: u16) {
    run(async {
        let (proxy, direct) = (Proxy::start(port).unwrap(), bucket(port, "lost-put", ""));
        let through = bucket(proxy.port(), "lost-put", "&retry_first=10ms");
        for (number, fault) in [(1, Fault::LoseAnswer(1)), (2, Fault::LoseRequest(1)), (3, Fault::LateRequest(1))] {
            proxy.arm(&[fault]);
            through.put(&at(7, number), bytes(100_000), None).await.unwrap();
            assert_eq!(proxy.met(), [1], "{fault:?} happened");
            assert_eq!(direct.read(&at(7, number), 0..200_000).await.unwrap().unwrap(), bytes(100_000), "{fault:?}");
        }
        assert_eq!(direct.list(None, 9).await.unwrap().len(), 3, "nothing else is there");
        // Reading and removing are asked again, too.
        proxy.arm(&[Fault::LoseAnswer(1)]);
        assert_eq!(through.length(&at(7, 1)).await.unwrap(), Some(100_000));
        proxy.arm(&[Fault::LoseAnswer(1)]);
        through.remove(&at(7, 1)).await.unwrap();
        assert_eq!(direct.length(&at(7, 1)).await.unwrap(), None);
        proxy.arm(&[Fault::LoseAnswer(1)]);
        assert_eq!(through.list(None, 9).await.unwrap().len(), 2);
    });
}

pub fn stream(port: u16) {
    run(async {
        let (proxy, direct) = (Proxy::start(port).unwrap(), bucket(port, "lost-stream", ""));
        let through = bucket(proxy.port(), "lost-stream", "&retry_first=10ms");
        let all = bytes(PART + 7);
        // It begins an upload, sends two parts and puts them together: each answer is lost once.
        let mut flights = 0;
        for lost in 1.. {
            proxy.arm(&[Fault::LoseAnswer(lost)]);
            let mut writing = through.begin(&at(lost.into(), 1), None).await.unwrap();
            for piece in all.chunks(1 << 20) {
                writing.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            writing.finish(None).await.unwrap();
            assert_eq!(direct.read(&at(lost.into(), 1), 0..u64::MAX).await.unwrap().unwrap(), all, "answer {lost} was lost");
            if proxy.met().is_empty() {
                break;
            }
            flights = lost;
        }
        assert!(flights >= 4, "{flights} answers were lost, one after another");
    });
}
