//! The connection: questions with a deadline, and what it means when no answer comes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, Request};
use bytes::Bytes;
use futures_util::future::{Either, select};
use millpond_core::{CallPolicy, Error, ErrorKind, Host, Pauses, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::address::{Login, NatsOptions};
use crate::engine::io::Io;

/// How long one answer is waited for, at most.
const ANSWER: Duration = Duration::from_secs(3);
/// How much longer it is waited for once the connection was made again: what was asked over the old one is rarely
/// answered over the new one.
const ANSWER_ELSEWHERE: Duration = Duration::from_millis(250);
/// How long one connection may take to come about, at most.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection is made again for as long as the store is open; a clock that counts nanoseconds needs some end.
const FOR_EVER: Duration = Duration::from_secs(86_400);
/// Pauses that are counted one by one; from there on they are the longest in any case.
const MOST_DOUBLED: usize = 64;
/// How often the connection is tried; two silences in a row, and another server is connected to.
const PING: Duration = Duration::from_secs(2);
/// The oldest release that does what it is asked, or says that it does not.
const OLDEST: (u64, u64) = (2, 10);
/// The smallest limit of a message that leaves room for an entry of 64 KiB and its headers.
const LEAST_PAYLOAD: usize = (64 << 10) + HEADER_BYTES;
/// Room for the headers of an entry.
pub(super) const HEADER_BYTES: usize = 1_024;

/// Codes of refusals that this driver knows.
pub(super) mod code {
    pub(crate) const NO_PEERS: u32 = 10_005;
    pub(crate) const NOT_CLUSTERED: u32 = 10_074;
    pub(crate) const MESSAGE_NOT_FOUND: u32 = 10_037;
    pub(crate) const STREAM_NOT_FOUND: u32 = 10_059;
    pub(crate) const STREAM_NAME_IN_USE: u32 = 10_058;
    pub(crate) const WRONG_LAST_SEQUENCE: u32 = 10_071;
    /// The same without the sequence in its text.
    pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u32 = 10_164;
    /// Refusals that come before anything is stored, and pass: no leader, starting, another server was asked.
    pub(crate) const PASSING: [u32; 5] = [10_008, 10_009, 10_039, 10_076, 10_118];
    /// Refusals that come before anything is stored, and stay: too large, no room, another stream.
    pub(crate) const BEFORE_STORING: [u32; 6] = [10_002, 10_023, 10_047, 10_053, 10_054, 10_060];
}

/// A connection, with the runtime that it lives on: it outlasts the runtime of whoever calls.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    /// Counts how often the connection was made.
    connected: watch::Receiver<u64>,
    /// Counts how often it was lost.
    lost: watch::Receiver<u64>,
    calls: CallPolicy,
    host: Arc<dyn Host>,
    runtime: Handle,
    io: Io,
}

/// No answer came.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nobody got the question, and nobody will.
    Nobody(String),
    /// It may have arrived, or may still arrive.
    Silence(String),
    /// It was not sent, and never will be.
    NotSent(String),
}

/// What a server refused with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl Refusal {
    /// Whether the same question may be answered a little later: also one for servers that are just starting, which
    /// those that run take for ones that are off.
    pub(super) fn passes(&self) -> bool {
        let offline = self.err_code == code::NO_PEERS && self.description.contains("offline");
        offline || code::PASSING.contains(&self.err_code)
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    error: Option<Refusal>,
    #[serde(flatten)]
    answer: Option<T>,
}

impl Link {
    /// Connects, and refuses servers that are too old.
    pub(super) async fn connect(options: &NatsOptions) -> Result<Self> {
        let io = Io::start()?;
        let (counting, connected) = watch::channel(0);
        let (losing, lost) = watch::channel(0);
        let own = options.clone();
        let client = io.run(async move { client(&own, counting, losing).await }).await?;
        let link =
            Self { client, connected, lost, calls: options.calls, host: Arc::clone(&options.host), runtime: io.handle()?, io };
        link.check_server()?;
        Ok(link)
    }

    fn check_server(&self) -> Result<()> {
        let info = self.client.server_info();
        let mut numbers = info.version.split('.').map(|n| n.parse::<u64>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < OLDEST {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the NATS server has version {:?}; {}.{} is the oldest that can keep a journal, older ones silently ignore \
                     settings that they do not know",
                    info.version, OLDEST.0, OLDEST.1
                ),
            )
            .with_next("use a newer server")
            .in_check("version"));
        }
        if info.max_payload < LEAST_PAYLOAD {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the NATS server takes messages of {} bytes at most; {LEAST_PAYLOAD} are needed", info.max_payload),
            )
            .with_next("raise max_payload in the server's configuration"));
        }
        Ok(())
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs something where the connection lives.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.io.run(work).await
    }

    /// The largest message, headers included.
    pub(super) fn max_payload(&self) -> usize {
        match self.client.max_payload() {
            // Not told at the moment; it was enough when the connection was made.
            0 => LEAST_PAYLOAD,
            bytes => bytes,
        }
    }

    /// A receiver that changes when the connection was made again.
    pub(super) fn connected(&self) -> watch::Receiver<u64> {
        self.connected.clone()
    }

    /// The pauses between the tries of one call.
    pub(super) fn pauses(&self) -> Pauses {
        self.calls.pauses(&*self.host)
    }

    /// The pauses while something has to be found out, however often it is asked.
    pub(super) fn settling(&self) -> Pauses {
        self.calls.settling(self.calls.timeout).pauses(&*self.host)
    }

    /// Waits before the next try. False when there is no other.
    pub(super) async fn wait(&self, pauses: &mut Pauses) -> bool {
        let Some(pause) = pauses.next_pause() else { return false };
        self.pause(pause).await;
        true
    }

    /// A pause on the connection's runtime, so that it can be waited for on any other.
    fn pause(&self, time: Duration) -> tokio::time::Sleep {
        let _runtime = self.runtime.enter();
        tokio::time::sleep(time)
    }

    /// Asks once. The client never asks again by itself.
    pub(super) async fn ask(&self, subject: &str, headers: Option<HeaderMap>, payload: Bytes) -> Result<Message, NoAnswer> {
        // What is sent into a broken connection waits in a buffer: sooner or later it arrives.
        if self.client.connection_state() != State::Connected {
            return Err(NoAnswer::Nobody("there is no connection".to_owned()));
        }
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let (mut lost, mut again) = (self.lost.clone(), self.connected());
        lost.mark_unchanged();
        let asked = pin!(self.client.send_request(subject.to_owned(), request));
        let most = ANSWER.min(self.calls.timeout);
        let elsewhere = pin!(async {
            // What was told late of the connection that this goes over does not count: first it has to be lost.
            let heard = async {
                lost.changed().await?;
                again.mark_unchanged();
                again.changed().await
            };
            if heard.await.is_err() {
                std::future::pending::<()>().await;
            }
            self.pause(ANSWER_ELSEWHERE).await;
        });
        let answered = match select(asked, select(pin!(self.pause(most)), elsewhere)).await {
            Either::Left((answered, _)) => answered,
            Either::Right((Either::Left(_), _)) => {
                return Err(NoAnswer::Silence(format!("no answer within {} s", most.as_secs_f64())));
            }
            Either::Right((Either::Right(_), _)) => {
                return Err(NoAnswer::Silence("the connection broke before an answer came".to_owned()));
            }
        };
        answered.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => NoAnswer::Nobody("JetStream does not answer".to_owned()),
            RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => NoAnswer::NotSent(error.to_string()),
            RequestErrorKind::TimedOut | RequestErrorKind::Other => NoAnswer::Silence(error.to_string()),
        })
    }

    /// Asks the JetStream API something that may be asked twice, until there is an answer or no time is left. The leader
    /// of the stream, or of all servers, answers; never a follower.
    pub(super) async fn api<T: Answer>(&self, what: &str, question: &Value) -> Result<Result<T, Refusal>> {
        let payload = Bytes::from(question.to_string());
        let subject = format!("$JS.API.{what}");
        let mut pauses = self.pauses();
        loop {
            let why = match self.ask(&subject, None, payload.clone()).await {
                Ok(message) => match T::read(&message.payload)? {
                    Err(refusal) if refusal.passes() => refusal.description,
                    answer => return Ok(answer),
                },
                Err(NoAnswer::Nobody(why) | NoAnswer::Silence(why)) => why,
                Err(NoAnswer::NotSent(why)) => return Err(unavailable(&why)),
            };
            if !self.wait(&mut pauses).await {
                return Err(unavailable(&why));
            }
        }
    }
}

/// Connects on the current runtime.
async fn client(options: &NatsOptions, counting: watch::Sender<u64>, losing: watch::Sender<u64>) -> Result<Client> {
    let (counting, losing) = (Arc::new(counting), Arc::new(losing));
    let (calls, host) = (options.calls, Arc::clone(&options.host));
    let mut connect = ConnectOptions::new()
        .name("millpond")
        .ping_interval(PING)
        .connection_timeout(CONNECT.min(options.calls.timeout))
        .max_reconnects(None)
        .reconnect_delay_callback(move |tries| reconnect_pause(&calls, &*host, tries))
        .event_callback(move |event| {
            match event {
                Event::Connected => counting.send_modify(|count| *count += 1),
                Event::Disconnected => losing.send_modify(|count| *count += 1),
                _ => {}
            }
            async move { tracing::debug!(%event, "nats") }
        })
        .require_tls(options.tls);
    if let Some(file) = &options.authorities {
        connect = connect.add_root_certificates(file.clone());
    }
    connect = match &options.login {
        Login::Anonymous => connect,
        Login::Token(token) => connect.token(token.clone()),
        Login::Password { user, password } => connect.user_and_password(user.clone(), password.clone()),
        Login::File(file) => connect
            .credentials_file(file)
            .await
            .map_err(|e| Error::invalid(format!("the credentials in {} cannot be read", file.display())).with_source(e))?,
    };
    let scheme = if options.tls { "tls" } else { "nats" };
    let addresses: Vec<String> = options.servers.iter().map(|server| format!("{scheme}://{server}")).collect();
    let mut pauses = options.calls.pauses(&*options.host);
    loop {
        let error = match connect.clone().connect(addresses.clone()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        // A name, a password or a certificate that is wrong stays so.
        let passing = matches!(error.kind(), ConnectErrorKind::Io | ConnectErrorKind::TimedOut);
        let Some(pause) = passing.then(|| pauses.next_pause()).flatten() else {
            return Err(Error::unavailable(format!("cannot connect to {}", options.location()))
                .with_source(error)
                .with_next("check the address, that the server runs, and the user's rights"));
        };
        tokio::time::sleep(pause).await;
    }
}

/// The pause before a lost connection is made again, for as long as the store is open: the client counts the tries.
fn reconnect_pause(calls: &CallPolicy, host: &dyn Host, tries: usize) -> Duration {
    let mut pauses = calls.settling(FOR_EVER).pauses(host);
    let nth = std::iter::from_fn(|| pauses.next_pause()).nth(tries.min(MOST_DOUBLED));
    nth.unwrap_or(calls.retry_max)
}

/// What a server answers to a question.
pub(super) trait Answer: Sized {
    /// Reads it, or the refusal.
    ///
    /// # Errors
    /// `Unavailable` for what no server of this protocol says.
    fn read(payload: &[u8]) -> Result<Result<Self, Refusal>>;
}

impl<T: DeserializeOwned> Answer for T {
    fn read(payload: &[u8]) -> Result<Result<Self, Refusal>> {
        let envelope: Envelope<T> = serde_json::from_slice(payload).map_err(|e| strange().with_source(e))?;
        match (envelope.error, envelope.answer) {
            (Some(refusal), _) => Ok(Err(refusal)),
            (None, Some(answer)) => Ok(Ok(answer)),
            (None, None) => Err(strange()),
        }
    }
}

/// The error of an answer that cannot be read.
pub(super) fn strange() -> Error {
    Error::unavailable("the NATS server's answer does not read").with_next("check what answers at this address")
}

/// The error of servers that cannot be reached.
pub(super) fn unavailable(why: &str) -> Error {
    Error::unavailable(format!("NATS: {why}"))
        .with_next("check that the servers run with JetStream and have a leader, then try again")
}
