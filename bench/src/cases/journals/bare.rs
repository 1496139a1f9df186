//! What each server does by itself: one acknowledged write of some bytes, and its smallest read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions};
use serde_json::{Value, json};

use super::Ground;
use super::place::S3_KEYS;
use crate::cases::crowd::Step;
use crate::world::Done;

/// One acknowledged write of so many bytes to a place of its own; `None` on files, where a flush is all there is.
pub fn write(ground: &Ground<'_>, name: &str, bytes: usize) -> Done<Option<Step>> {
    let body = Bytes::from("x".repeat(bytes));
    Ok(match ground.driver {
        "redis" => {
            let (connection, key) = (redis(ground)?, format!("bare-{name}"));
            Some(Arc::new(move |_| {
                let (mut connection, key, body) = (connection.clone(), key.clone(), body.clone());
                Box::pin(async move {
                    let mut add = redis::cmd("XADD");
                    add.arg(key).arg("*").arg("e").arg(&body[..]);
                    add.query_async::<redis::Value>(&mut connection).await.is_ok()
                })
            }))
        }
        "nats" => {
            let (client, name) = (nats(ground)?, format!("bare{name}"));
            let stream = json!({"name": name, "subjects": [name], "storage": "file", "allow_direct": true}).to_string();
            let made = ground.runtime.block_on(client.request(format!("$JS.API.STREAM.CREATE.{name}"), stream.into()))?;
            let made: Value = serde_json::from_slice(&made.payload)?;
            if !made["error"].is_null() {
                return Err(made["error"].to_string().into());
            }
            Some(Arc::new(move |_| {
                let (client, name, body) = (client.clone(), name.clone(), body.clone());
                Box::pin(async move {
                    let answer = client.request(name, body).await;
                    answer.is_ok_and(|a| serde_json::from_slice::<Value>(&a.payload).is_ok_and(|a| a["seq"].is_u64()))
                })
            }))
        }
        "s3" => {
            let (bucket, number) = (s3(ground)?, Arc::new(AtomicU64::new(1)));
            let name = name.to_owned();
            Some(Arc::new(move |_| {
                let (bucket, body) = (Arc::clone(&bucket), body.clone());
                let key = format!("bare/{name}/{}", number.fetch_add(1, Ordering::Relaxed)).into();
                Box::pin(async move {
                    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                    bucket.put_opts(&key, body.into(), options).await.is_ok()
                })
            }))
        }
        _ => None,
    })
}

/// One round trip that reads next to nothing; `None` on files, which have none.
pub fn trip(ground: &Ground<'_>) -> Done<Option<Step>> {
    Ok(match ground.driver {
        "redis" => {
            let connection = redis(ground)?;
            Some(Arc::new(move |_| {
                let mut connection = connection.clone();
                Box::pin(async move {
                    let mut get = redis::cmd("GET");
                    get.arg("absent");
                    get.query_async::<redis::Value>(&mut connection).await.is_ok()
                })
            }))
        }
        "nats" => {
            // The stream is made by its first write; asking it for a message it does not have is a round trip.
            write(ground, "trip", 1)?;
            let client = nats(ground)?;
            Some(Arc::new(move |_| {
                let client = client.clone();
                Box::pin(async move { client.request("$JS.API.DIRECT.GET.baretrip", r#"{"seq":9}"#.into()).await.is_ok() })
            }))
        }
        "s3" => {
            let bucket = s3(ground)?;
            Some(Arc::new(move |_| {
                let bucket = Arc::clone(&bucket);
                Box::pin(async move { bucket.get(&"bare/absent".into()).await.is_err() })
            }))
        }
        _ => None,
    })
}

fn redis(ground: &Ground<'_>) -> Done<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", port(ground)?))?;
    Ok(ground.runtime.block_on(client.get_multiplexed_async_connection())?)
}

fn nats(ground: &Ground<'_>) -> Done<async_nats::Client> {
    // Ten thousand publishes that are each flushed take longer than the client's usual ten seconds.
    let options = async_nats::ConnectOptions::new().request_timeout(Some(std::time::Duration::from_secs(60)));
    Ok(ground.runtime.block_on(options.connect(format!("nats://127.0.0.1:{}", port(ground)?)))?)
}

/// A bucket beside those of the stores, made when it is first asked for.
fn s3(ground: &Ground<'_>) -> Done<Arc<AmazonS3>> {
    if let Some(bucket) = ground.bucket.get() {
        return Ok(Arc::clone(bucket));
    }
    ground.running.store("bare")?;
    let mut builder =
        AmazonS3Builder::new().with_bucket_name("bare").with_endpoint(format!("http://127.0.0.1:{}", port(ground)?));
    for (key, value) in S3_KEYS {
        builder = builder.with_config(key.parse::<AmazonS3ConfigKey>()?, value);
    }
    let bucket = Arc::new(builder.with_client_options(ClientOptions::new().with_allow_http(true)).build()?);
    Ok(Arc::clone(ground.bucket.get_or_init(|| bucket)))
}

fn port(ground: &Ground<'_>) -> Done<u16> {
    ground.running.port().ok_or_else(|| "the server has no port".into())
}
