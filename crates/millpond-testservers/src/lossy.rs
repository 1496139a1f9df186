//! A TCP proxy that loses connections by chance: before a request arrives, or before its answer does.
//!
//! ```text
//!   client ──► request ──► server      one request in so many: the server never sees it, the connection ends
//!          ◄── answer  ◄──             one request in so many: it is passed on, the connection ends instead of an answer
//! ```
//!
//! Which ones is drawn from a seed. What arrives together counts as one request, so a run is not repeated to the byte; and
//! where a server speaks by itself or answers several requests at once, the one that is lost may be an earlier answer.

use std::io::{Read as _, Result, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A proxy in front of a server, as long as it lives.
#[derive(Debug)]
pub struct LossyProxy {
    port: u16,
    chance: Arc<Chance>,
}

#[derive(Debug)]
struct Chance {
    one_in: u64,
    state: AtomicU64,
    requests: AtomicU64,
    answers: AtomicU64,
}

impl LossyProxy {
    /// Starts a proxy for a server's port of the local address that loses one request in `one_in`, or its answer.
    ///
    /// # Errors
    /// What the operating system fails with.
    pub fn start(server: u16, seed: u64, one_in: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let chance = Chance { one_in, state: AtomicU64::new(seed), requests: AtomicU64::new(0), answers: AtomicU64::new(0) };
        let chance = Arc::new(chance);
        let weak = Arc::downgrade(&chance);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if weak.strong_count() == 0 {
                    return;
                }
                // A server that is not there is a connection that ends at once.
                let _ = TcpStream::connect(("127.0.0.1", server)).and_then(|server| connect(client, server, &weak));
            }
        });
        Ok(Self { port, chance })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many requests and how many answers were lost so far.
    pub fn lost(&self) -> [u64; 2] {
        [&self.chance.requests, &self.chance.answers].map(|count| count.load(Ordering::SeqCst))
    }
}

impl Drop for LossyProxy {
    fn drop(&mut self) {
        // Wakes the thread that waits for clients, once nobody holds the chance any more.
        let unheld = Chance { one_in: 1, state: AtomicU64::new(0), requests: AtomicU64::new(0), answers: AtomicU64::new(0) };
        self.chance = Arc::new(unheld);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

impl Chance {
    /// Below `n`, by SplitMix64 (Steele, Lea, Flood 2014).
    fn below(&self, n: u64) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Passes on both ways, each on a thread of its own, until one of them ends or is cut.
fn connect(client: TcpStream, server: TcpStream, chance: &Weak<Chance>) -> Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Set once the answer to what was just sent is to be lost.
    let swallow = Arc::new(AtomicBool::new(false));
    let (from, to, lose, own) = (client.try_clone()?, server.try_clone()?, Arc::clone(&swallow), Weak::clone(chance));
    std::thread::spawn(move || {
        pass(&from, &to, || {
            let Some(chance) = own.upgrade() else { return true };
            if chance.below(chance.one_in) != 0 {
                return true;
            }
            if chance.below(2) == 0 {
                chance.requests.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            lose.store(true, Ordering::SeqCst);
            true
        });
    });
    let own = Weak::clone(chance);
    std::thread::spawn(move || {
        pass(&server, &client, || {
            let lost = swallow.load(Ordering::SeqCst);
            if let (true, Some(chance)) = (lost, own.upgrade()) {
                chance.answers.fetch_add(1, Ordering::SeqCst);
            }
            !lost
        });
    });
    Ok(())
}

/// Passes on what comes as long as it may; then both connections end.
fn pass(mut from: &TcpStream, mut to: &TcpStream, may: impl Fn() -> bool) {
    let mut part = vec![0; 256 << 10];
    while let Ok(count) = from.read(&mut part) {
        if count == 0 || !may() || to.write_all(&part[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_loss_happen_and_what_is_not_lost_arrives() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let heard = Arc::new(AtomicU64::new(0));
        let (port, count) = (server.local_addr().unwrap().port(), Arc::clone(&heard));
        std::thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                    if stream.write_all(&byte).is_err() {
                        break;
                    }
                }
            }
        });
        let proxy = LossyProxy::start(port, 1, 4).unwrap();
        let mut told = 0;
        for _ in 0..200 {
            let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
            let mut byte = [0];
            told += u64::from(stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok());
        }
        let [requests, answers] = proxy.lost();
        assert!(requests > 5 && answers > 5, "{requests} and {answers}");
        assert_eq!((told, heard.load(Ordering::SeqCst)), (200 - requests - answers, 200 - requests));
    }
}
