//! The same rows on PostgreSQL by hand: one prepared `unnest` statement for a group, which writes and does not plan.
//!
//! The tables are those that Millpond made, in a schema of their own, so that both sides keep the same indexes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use crate::world::{self, Done};

const STREAMS: usize = 64;

/// One statement, so one round trip and one flush: records, events, the streams' heads, receipts.
const GROUP: &str = "WITH r AS (INSERT INTO work (ns, key, \"row\", revision, position, time, doc, status, ts) \
       SELECT 1, u.key, u.p, 1, u.p, u.p, u.doc::json, 'running', u.p FROM unnest($1::text[], $2::int8[], $3::text[]) u(key, p, doc)), \
     e AS (INSERT INTO events (ns, position, stream, sequence, type, time, data) \
       SELECT 1, u.p + 1, u.stream, u.sequence, 'step.completed', u.p, u.data::json \
       FROM unnest($2::int8[], $4::int8[], $5::int8[], $6::text[]) u(p, stream, sequence, data)), \
     s AS (INSERT INTO streams (ns, id, name, head, oldest, sealed, position, time) \
       SELECT 1, u.id, 'runs/' || u.id, u.head, 1, false, u.p, u.p FROM unnest($7::int8[], $8::int8[], $9::int8[]) u(id, head, p) \
       ON CONFLICT (ns, name) DO UPDATE SET head = excluded.head, position = excluded.position, time = excluded.time) \
     INSERT INTO commits (ns, id, position, time, digest, revisions, sequences) \
       SELECT 1, u.id, u.p + 1, u.p, '\\x00112233445566778899aabbccddeeff', '[1]', '[{\"first\":1,\"count\":1}]' \
       FROM unnest($10::uuid[], $2::int8[]) u(id, p)";
const EVENTS: &str = "WITH e AS (INSERT INTO events (ns, position, stream, sequence, type, time, data) \
       SELECT 1, u.p, 1, u.p, 'step.completed', u.p, u.data::json FROM unnest($1::int8[], $2::text[]) u(p, data)) \
     INSERT INTO streams (ns, id, name, head, oldest, sealed, position, time) VALUES (1, 1, 'runs/1', $3, 1, false, $3, $3) \
       ON CONFLICT (ns, name) DO UPDATE SET head = excluded.head, position = excluded.position, time = excluded.time";

/// Numbers given out by the program: nobody else writes here.
#[derive(Debug)]
pub struct Numbers {
    position: AtomicI64,
    heads: Mutex<[i64; STREAMS]>,
}

impl Numbers {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { position: AtomicI64::new(1), heads: Mutex::new([0; STREAMS]) })
    }
}

/// A connection with the statements prepared.
pub struct Hand {
    client: Client,
    group: Statement,
    events: Statement,
    get: Statement,
    numbers: Arc<Numbers>,
}

impl Hand {
    /// Connects to a schema that a store was opened in.
    pub async fn connect(url: &str, schema: &str, numbers: Arc<Numbers>) -> Done<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        client.batch_execute(&format!("SET search_path = {schema}")).await?;
        let group = client.prepare(GROUP).await?;
        let events = client.prepare(EVENTS).await?;
        let get = "SELECT revision, position, time, by, doc::text FROM work WHERE ns = $1 AND key = $2";
        let get = client.prepare_typed(get, &[Type::INT8, Type::TEXT]).await?;
        Ok(Self { client, group, events, get, numbers })
    }

    /// Writes a group of steps.
    pub async fn steps(&self, count: usize) -> Done {
        let first = self.numbers.position.fetch_add(2 * count as i64, Ordering::Relaxed);
        let (mut keys, mut positions, mut docs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut streams, mut sequences, mut data, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut touched: std::collections::BTreeMap<i64, (i64, i64)> = std::collections::BTreeMap::new();
        {
            let mut heads = self.numbers.heads.lock().unwrap_or_else(PoisonError::into_inner);
            for n in 0..count as i64 {
                let position = first + 2 * n;
                let stream = (position / 2).rem_euclid(STREAMS as i64);
                let head = heads.get_mut(stream as usize).ok_or("a stream")?;
                *head += 1;
                touched.insert(stream, (*head, position + 1));
                keys.push(format!("k{position}"));
                positions.push(position);
                docs.push(world::document(position as u64));
                streams.push(stream);
                sequences.push(*head);
                data.push(world::body());
                ids.push(Uuid::from_u128((position as u128) << 64));
            }
        }
        let touched_streams: Vec<i64> = touched.keys().copied().collect();
        let heads: Vec<i64> = touched.values().map(|(head, _)| *head).collect();
        let last: Vec<i64> = touched.values().map(|(_, position)| *position).collect();
        self.client
            .execute(&self.group, &[&keys, &positions, &docs, &streams, &sequences, &data, &touched_streams, &heads, &last, &ids])
            .await?;
        Ok(())
    }

    /// Writes events of one stream.
    pub async fn append(&self, count: usize) -> Done {
        let first = self.numbers.position.fetch_add(count as i64, Ordering::Relaxed);
        let positions: Vec<i64> = (first..first + count as i64).collect();
        let data: Vec<String> = positions.iter().map(|_| world::body()).collect();
        self.client.execute(&self.events, &[&positions, &data, &(first + count as i64 - 1)]).await?;
        Ok(())
    }

    /// Reads a record by key.
    pub async fn get(&self, key: &str) -> Done<bool> {
        let row = self.client.query_opt(&self.get, &[&1_i64, &key]).await?;
        Ok(row.is_some_and(|r| r.get::<_, &str>(4).len() > 100))
    }
}

/// Groups what callers have ready, as the store does: one writer, the next group forms while the last one is written.
pub struct Grouped(mpsc::UnboundedSender<oneshot::Sender<bool>>);

impl Grouped {
    pub fn start(hand: Hand, most: usize) -> Arc<Self> {
        let (sender, mut waiting) = mpsc::unbounded_channel::<oneshot::Sender<bool>>();
        tokio::spawn(async move {
            let mut group = Vec::new();
            while waiting.recv_many(&mut group, most).await > 0 {
                let done = hand.steps(group.len()).await.is_ok();
                for caller in group.drain(..) {
                    let _ = caller.send(done);
                }
            }
        });
        Arc::new(Self(sender))
    }

    pub async fn step(&self) -> bool {
        let (answer, done) = oneshot::channel();
        self.0.send(answer).is_ok() && done.await.unwrap_or(false)
    }
}
