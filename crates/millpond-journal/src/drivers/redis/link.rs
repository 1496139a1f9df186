//! The way to the server: one connection that is shared, made again when it breaks, and never waited for too long.
//!
//! ```text
//!   call ─► connected? ─no─► connect, again after a pause that doubles, until the deadline
//!              │ yes
//!              ▼
//!           send ─► answer
//!                └► refused:  again after a pause where that may help, else the error
//!                └► silence:  again if the call may be repeated, else UnknownOutcome: only a look at the journal tells
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millpond_core::{CallPolicy, Error, ErrorKind, Host, Result};
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, TlsCertificates, Value};
use redis::{IntoConnectionInfo as _, RedisResult};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::errors::{Failure, unknown, unreadable};
use super::server;
use super::settings::Settings;
use crate::engine::io::Io;

/// Sendings of a request that a cluster's connection makes by itself, to follow slots that moved.
const REDIRECTIONS: u32 = 5;

/// What happens when a call is sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// It only reads, and has to be answered by a master.
    Read,
    /// The second does what the first did.
    Repeatable,
    /// It may not be sent again without knowing what became of the first.
    Once,
}

/// A connection to one server or to a cluster.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

enum Target {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// See the module.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    target: Target,
    calls: CallPolicy,
    host: Arc<dyn Host>,
    connect_timeout: Duration,
    location: String,
    /// The connection that is shared, and how many there were before it.
    current: Mutex<(u64, Option<Connection>)>,
    io: Io,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("location", &self.0.location).finish_non_exhaustive()
    }
}

impl Link {
    /// Prepares the way, without connecting.
    pub(super) fn new(settings: &Settings, host: Arc<dyn Host>) -> Result<Self> {
        let target = target(settings)?;
        let (calls, location) = (settings.calls, settings.location());
        let connect_timeout = settings.connect_timeout.min(calls.timeout);
        let (current, io) = (Mutex::default(), Io::start()?);
        Ok(Self(Arc::new(Inner { target, calls, host, connect_timeout, location, current, io })))
    }

    /// Sends a command until it is answered, within the deadline.
    ///
    /// # Errors
    /// `UnknownOutcome` for one that is sent once and of which it is not known whether it was carried out.
    pub(super) async fn call(&self, command: Cmd, sending: Sending) -> Result<Value> {
        let link = self.clone();
        self.run(async move { link.until_answered(&command, sending).await }).await
    }

    /// Runs something where the connections live: they outlast the runtime of whoever calls.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.0.io.run(work).await
    }

    /// Begins something there, and does not wait for it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        self.0.io.handle().map(|runtime| drop(runtime.spawn(work)))
    }

    /// A connection of one's own, for commands that block it.
    pub(super) async fn own_connection(&self, longest_answer: Duration) -> Result<Connection> {
        let deadline = Instant::now() + self.0.calls.timeout;
        match timeout_at(deadline, self.0.connect(longest_answer + self.0.calls.timeout)).await {
            Ok(made) => made.map_err(|f| f.error),
            Err(_) => Err(Failure::silence().error),
        }
    }

    /// Asks the server, or every master of a cluster.
    pub(super) async fn ask_masters(&self, command: Cmd) -> Result<Vec<Value>> {
        if matches!(self.0.target, Target::One(_)) {
            return Ok(vec![self.call(command, Sending::Repeatable).await?]);
        }
        let link = self.clone();
        let answers = self.run(async move {
            let Connection::Cluster(mut connection) = link.own_connection(Duration::ZERO).await? else { return Ok(Value::Nil) };
            let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special)));
            connection.route_command(command, masters).await.map_err(|e| Failure::of(&e).error)
        });
        match answers.await? {
            Value::Map(nodes) if !nodes.is_empty() => Ok(nodes.into_iter().map(|(_, answer)| answer).collect()),
            _ => Err(unreadable("every master")),
        }
    }

    async fn until_answered(&self, command: &Cmd, sending: Sending) -> Result<Value> {
        let mut pauses = self.0.calls.pauses(&*self.0.host);
        loop {
            let failure = match self.0.attempt(command, sending, pauses.deadline()).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if sending == Sending::Once && !failure.refused {
                return Err(unknown(&failure.error));
            }
            let Some(pause) = failure.retry.then(|| pauses.next_pause()).flatten() else {
                return Err(failure.error.with("server", &self.0.location));
            };
            tokio::time::sleep(pause).await;
        }
    }
}

impl Inner {
    async fn attempt(&self, command: &Cmd, sending: Sending, deadline: Instant) -> std::result::Result<Value, Failure> {
        let (generation, mut connection) = match timeout_at(deadline, self.connection()).await {
            Ok(connected) => connected?,
            // Nothing was sent.
            Err(_) => return Err(Failure { refused: true, ..Failure::silence() }),
        };
        let answer = timeout_at(deadline, connection.send(command, sending)).await;
        let mut failure = match answer.unwrap_or_else(|_| Err(Failure::silence())) {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        // A cluster's connection sends again by itself, so its last error says nothing of what it sent before.
        if matches!(connection, Connection::Cluster(_)) && failure.error.kind() != ErrorKind::NotFound {
            failure.refused = false;
        }
        if failure.disconnect {
            self.forget(generation).await;
        }
        Err(failure)
    }

    async fn connection(&self) -> std::result::Result<(u64, Connection), Failure> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.1 {
            return Ok((current.0, connection.clone()));
        }
        let connection = self.connect(self.calls.timeout).await?;
        *current = (current.0 + 1, Some(connection.clone()));
        Ok((current.0, connection))
    }

    /// Lets go of a connection that broke, unless somebody made another meanwhile.
    async fn forget(&self, generation: u64) {
        let mut current = self.current.lock().await;
        if current.0 == generation {
            current.1 = None;
        }
    }

    async fn connect(&self, longest_answer: Duration) -> std::result::Result<Connection, Failure> {
        match &self.target {
            Target::One(client) => {
                // The library's own limit for an answer is half a second: less than one slow flush may take.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(self.connect_timeout))
                    .set_response_timeout(Some(longest_answer));
                let made = client.get_multiplexed_async_connection_with_config(&config).await;
                made.map(Connection::One).map_err(|e| Failure::connecting(&e))
            }
            Target::Cluster(client) => {
                let config = redis::cluster::ClusterConfig::new()
                    .set_connection_timeout(self.connect_timeout)
                    .set_response_timeout(longest_answer);
                let made = client.get_async_connection_with_config(config).await;
                made.map(Connection::Cluster).map_err(|e| Failure::connecting(&e))
            }
        }
    }
}

impl Connection {
    /// Sends a command and waits for its answer.
    async fn send(&mut self, command: &Cmd, sending: Sending) -> std::result::Result<Value, Failure> {
        match self {
            // A replica answers reads as if nothing were, so the server is asked what it is in the same round trip. In a
            // cluster replicas send readers to the master.
            Self::One(connection) if sending == Sending::Read => {
                let mut both = redis::pipe();
                both.add_command(redis::cmd("HELLO")).add_command(command.clone()).ignore_errors();
                let answers: RedisResult<Vec<RedisResult<Value>>> = both.query_async(connection).await;
                let answers = answers.map_err(|e| Failure::of(&e))?;
                let Ok([role, answer]) = <[RedisResult<Value>; 2]>::try_from(answers) else {
                    return Err(Failure { error: unreadable("two commands"), refused: false, retry: false, disconnect: true });
                };
                if role.is_ok_and(|hello| server::is_replica(&hello)) {
                    return Err(Failure::no_master());
                }
                answered(answer)
            }
            // Not `send_packed_command`, which hands a refusal over as if it were an answer.
            Self::One(connection) => answered(command.query_async(connection).await),
            Self::Cluster(connection) => answered(command.query_async(connection).await),
        }
    }

    /// Sends a command as it is.
    pub(super) async fn ask(&mut self, command: &Cmd) -> Result<Value> {
        self.send(command, Sending::Repeatable).await.map_err(|f| f.error)
    }
}

fn answered(answer: RedisResult<Value>) -> std::result::Result<Value, Failure> {
    answer.map_err(|e| Failure::of(&e))
}

fn target(settings: &Settings) -> Result<Target> {
    if settings.tls {
        // The one the rest of the program uses. Another may have been chosen before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: settings.ca.as_deref().map(read_ca).transpose()? };
    let unusable = |e: redis::RedisError| Failure::of(&e).error;
    let nodes = settings.hosts.iter().map(|host| node(settings, host)).collect::<Result<Vec<_>>>()?;
    if settings.cluster {
        let builder = ClusterClientBuilder::new(nodes)
            .retries(REDIRECTIONS)
            .min_retry_wait(settings.calls.retry_first.as_millis() as u64)
            .max_retry_wait(settings.calls.retry_max.as_millis() as u64)
            .overall_response_timeout(None);
        let builder = if settings.tls { builder.certs(certificates) } else { builder };
        return builder.build().map(|c| Target::Cluster(Box::new(c))).map_err(unusable);
    }
    let node = nodes.into_iter().next().ok_or_else(|| Error::invalid("the Redis URL names no host"))?;
    let client = if settings.tls { Client::build_with_tls(node, certificates) } else { Client::open(node) };
    client.map(|c| Target::One(Box::new(c))).map_err(unusable)
}

fn node(settings: &Settings, (host, port): &(String, u16)) -> Result<ConnectionInfo> {
    let mut redis = RedisConnectionInfo::default().set_db(settings.database);
    if let Some(user) = &settings.user {
        redis = redis.set_username(user);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password);
    }
    let (host, port) = (host.clone(), *port);
    let address = if settings.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let info = address.into_connection_info().map_err(|e| Failure::of(&e).error)?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

fn read_ca(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        Error::invalid(format!("cannot read the certificate authority {}", path.display()))
            .with_source(e)
            .with_next("name a file in PEM form with ca=FILE")
    })
}
