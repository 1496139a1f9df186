//! A TCP proxy that counts round trips and loses answers.
//!
//! ```text
//!   client ──► flight 1 ──► server        a flight is everything the client sends before it waits
//!          ◄── answer 1 ◄──
//!   client ──► flight 2 ──► server        Fault::LoseRequest(2): the server never sees it
//!          ◄── answer 2 ◄──               Fault::LoseAnswer(2): the server does, the client never hears
//! ```

use std::collections::BTreeSet;
use std::io::{Read as _, Result, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Silence after which what was sent is a whole flight. Programs on one machine answer far sooner.
const SILENCE: Duration = Duration::from_millis(50);

/// How long after its connection was cut a request may arrive that was on its way.
pub const LATE: Duration = Duration::from_secs(1);

/// What goes wrong with a flight, counted over all connections from the moment the proxy was armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut before the server sees the flight with this number.
    LoseRequest(u64),
    /// The connection is cut after the server has answered the flight with this number, before the client hears.
    LoseAnswer(u64),
    /// The server answers the flight with this number, and the client never hears: the connection stays open, silent.
    HoldAnswer(u64),
    /// The connection is cut, and the server sees the flight with this number [`LATE`] afterwards.
    LateRequest(u64),
}

/// A proxy in front of a server, as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    flights: AtomicU64,
    connections: AtomicU64,
    faults: Mutex<Vec<Fault>>,
    met: Mutex<BTreeSet<u64>>,
}

impl Proxy {
    /// Starts a proxy for a server's port of the local address.
    ///
    /// # Errors
    /// What the operating system fails with.
    pub fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            flights: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            faults: Mutex::default(),
            met: Mutex::default(),
        });
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(shared) = weak.upgrade() else { return };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || drop(serve(&client, port, &shared)));
            }
        });
        Ok(Self { address, shared })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Flights since the proxy was started or armed.
    pub fn flights(&self) -> u64 {
        self.shared.flights.load(Ordering::SeqCst)
    }

    /// Connections since the proxy was started.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Begins to count from here, with these faults to come.
    pub fn arm(&self, faults: &[Fault]) {
        *lock(&self.shared.faults) = faults.to_vec();
        lock(&self.shared.met).clear();
        self.shared.flights.store(0, Ordering::SeqCst);
    }

    /// Numbers of the flights that a fault has met since the proxy was armed.
    pub fn met(&self) -> Vec<u64> {
        lock(&self.shared.met).iter().copied().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Wakes the thread that waits for clients; it finds that nobody holds the proxy any more.
        let address = self.address;
        self.shared = Arc::new(Shared {
            flights: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            faults: Mutex::default(),
            met: Mutex::default(),
        });
        drop(TcpStream::connect(address));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn has(&self, fault: Fault) -> bool {
        let found = lock(&self.faults).contains(&fault);
        if let (
            true,
            Fault::LoseRequest(flight) | Fault::LoseAnswer(flight) | Fault::HoldAnswer(flight) | Fault::LateRequest(flight),
        ) = (found, fault)
        {
            lock(&self.met).insert(flight);
        }
        found
    }
}

/// One connection, flight by flight: the client is heard to its end before the server is asked.
fn serve(client: &TcpStream, port: u16, shared: &Shared) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    let done = (|| {
        for stream in [client, &server] {
            stream.set_nodelay(true)?;
        }
        loop {
            let Some(request) = hear(client, &server)? else { return Ok(()) };
            let Heard::Client(request) = request else { continue };
            let flight = shared.flights.fetch_add(1, Ordering::SeqCst) + 1;
            if shared.has(Fault::LoseRequest(flight)) {
                return Ok(());
            }
            if shared.has(Fault::LateRequest(flight)) {
                client.shutdown(Shutdown::Both)?;
                std::thread::sleep(LATE);
                (&server).write_all(&request)?;
                // The server has it before its connection ends.
                until_silent(&server)?;
                return Ok(());
            }
            (&server).write_all(&request)?;
            let answer = answer(client, &server)?;
            if answer.is_empty() {
                return Ok(());
            }
            if shared.has(Fault::LoseAnswer(flight)) {
                return Ok(());
            }
            if shared.has(Fault::HoldAnswer(flight)) {
                return until_gone(client);
            }
            let (mut to, from) = (client, answer);
            to.write_all(&from)?;
        }
    })();
    for stream in [client, &server] {
        let _ = stream.shutdown(Shutdown::Both);
    }
    done
}

enum Heard {
    /// A whole flight.
    Client(Vec<u8>),
    /// Something the server said by itself; it was passed on.
    Server,
}

/// Waits for whoever speaks first. `None` when one of them has gone.
fn hear(client: &TcpStream, server: &TcpStream) -> Result<Option<Heard>> {
    loop {
        let said = until_silent(client)?;
        if !said.is_empty() {
            return Ok(Some(Heard::Client(said)));
        }
        if gone(client) || gone(server) {
            return Ok(None);
        }
        let said = until_silent(server)?;
        if !said.is_empty() {
            let mut to = client;
            to.write_all(&said)?;
            return Ok(Some(Heard::Server));
        }
    }
}

/// What the server answers to a flight. The client may go on while it waits: on a busy machine a flight comes in two
/// parts, and some messages have no answer. What it says then belongs to the same flight. Empty when one has gone.
fn answer(client: &TcpStream, mut server: &TcpStream) -> Result<Vec<u8>> {
    loop {
        let said = until_silent(server)?;
        if !said.is_empty() || gone(server) || gone(client) {
            return Ok(said);
        }
        server.write_all(&until_silent(client)?)?;
    }
}

fn gone(stream: &TcpStream) -> bool {
    let short = stream.set_read_timeout(Some(Duration::from_millis(1)));
    short.is_err() || matches!(stream.peek(&mut [0]), Ok(0))
}

/// Hears the client and says nothing, until it goes away.
fn until_gone(mut client: &TcpStream) -> Result<()> {
    client.set_read_timeout(None)?;
    let mut part = [0; 1_024];
    while client.read(&mut part)? > 0 {}
    Ok(())
}

/// Everything that comes until there is silence; nothing when nothing is on its way.
fn until_silent(stream: &TcpStream) -> Result<Vec<u8>> {
    let (mut said, mut part, mut from) = (Vec::new(), [0; 65_536], stream);
    stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    loop {
        match from.read(&mut part) {
            Ok(0) => return Ok(said),
            Ok(count) => {
                said.extend_from_slice(&part[..count]);
                stream.set_read_timeout(Some(SILENCE))?;
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Ok(said);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// A server that answers once it has heard four bytes.
    fn echo_fours() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut word = [0; 4];
                while stream.read_exact(&mut word).is_ok() && stream.write_all(&word).is_ok() {}
            }
        });
        port
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    #[test]
    fn a_request_in_two_parts_is_one_flight() {
        let proxy = Proxy::start(echo_fours()).unwrap();
        let mut stream = client(&proxy);
        stream.write_all(b"ab").unwrap();
        std::thread::sleep(SILENCE * 4);
        stream.write_all(b"cd").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((&answer, proxy.flights()), (b"abcd", 1));
    }

    #[test]
    fn a_lost_answer_is_counted_and_the_connection_ends() {
        let proxy = Proxy::start(echo_fours()).unwrap();
        let mut stream = client(&proxy);
        proxy.arm(&[Fault::LoseAnswer(2)]);
        let mut answer = [0; 4];
        stream.write_all(b"abcd").unwrap();
        stream.read_exact(&mut answer).unwrap();
        stream.write_all(b"efgh").unwrap();
        let ended = stream.read_exact(&mut answer).unwrap_err().kind();
        assert!(matches!(ended, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{ended}: {answer:?}");
        assert_eq!(proxy.met(), [2]);
    }
}
