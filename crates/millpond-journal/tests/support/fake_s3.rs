//! A small S3 server in this process, with the manners and mishaps that real ones have.
//!
//! It knows what the driver asks for: put with a condition, get, head, list, delete. One connection, one request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millpond_journal::drivers::object::ObjectPlace;

/// What the server makes of `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// It obeys.
    Obeys,
    /// It does not know the condition and overwrites.
    Ignores,
    /// It looks, and writes a moment later: right as long as nobody else writes.
    LooksThenWrites,
}

/// What happens to the creation of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It is done, and the connection is cut before the answer.
    AnswerLost,
    /// The connection is cut, and nothing is done.
    RequestLost,
    /// 409, as real servers answer when two requests meet; nothing is done.
    Met,
}

/// See the module. It serves as long as the program runs.
#[derive(Debug, Clone)]
pub struct FakeS3 {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manners: Manners,
    state: Mutex<State>,
    looked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    changes: u64,
    mishaps: VecDeque<Mishap>,
    /// Writers that have looked at an object and have not written it yet.
    looking: HashMap<String, usize>,
    puts: u64,
    gets: u64,
}

/// A request, as far as it matters.
struct Request {
    method: String,
    path: String,
    query: String,
    if_none_match: bool,
    if_match: Option<String>,
    body: Vec<u8>,
}

impl FakeS3 {
    /// Starts a server.
    pub fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its port").port();
        let shared = Arc::new(Shared { manners, state: Mutex::default(), looked: Condvar::new() });
        let server = Self { port, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        server
    }

    /// A place on it.
    pub fn place(&self) -> ObjectPlace {
        let url = format!("s3://bucket/prefix?endpoint=http://127.0.0.1:{}&region=here", self.port);
        let keys = [("aws_access_key_id", "key"), ("aws_secret_access_key", "secret")];
        ObjectPlace::parse_with(&url, &keys).expect("a place").expect("an object store's URL")
    }

    /// What happens to the next creations of entries.
    pub fn fail(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.shared.state().mishaps.extend(mishaps);
    }

    /// Mishaps that have not happened yet.
    pub fn mishaps_left(&self) -> usize {
        self.shared.state().mishaps.len()
    }

    /// Requests to write and to read an object, so far.
    pub fn requests(&self) -> (u64, u64) {
        let state = self.shared.state();
        (state.puts, state.gets)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, though not for ever, until another writer has looked at the object, too.
    fn dawdle(&self, path: &str) {
        let mut state = self.state();
        *state.looking.entry(path.to_owned()).or_default() += 1;
        self.looked.notify_all();
        let wait = self.looked.wait_timeout_while(state, Duration::from_millis(300), |state| {
            state.looking.get(path).copied().unwrap_or_default() < 2
        });
        // Whoever came meets the others still there: the count stays.
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    fn answer(&self, request: &Request) -> Option<(u16, Vec<u8>, Option<u64>)> {
        let query = &request.query;
        match request.method.as_str() {
            "PUT" => self.put(request),
            "GET" if query.contains("list-type=2") => Some((200, self.list(query), None)),
            "GET" | "HEAD" => {
                let mut state = self.state();
                state.gets += 1;
                Some(
                    state
                        .objects
                        .get(&request.path)
                        .map_or((404, Vec::new(), None), |(body, tag)| (200, body.clone(), Some(*tag))),
                )
            }
            "POST" => {
                let text = String::from_utf8_lossy(&request.body).into_owned();
                let mut answer = "<DeleteResult>".to_owned();
                for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                    self.state().objects.remove(&format!("/bucket/{key}"));
                    answer.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
                }
                answer.push_str("</DeleteResult>");
                Some((200, answer.into_bytes(), None))
            }
            "DELETE" => {
                self.state().objects.remove(&request.path);
                Some((204, Vec::new(), None))
            }
            _ => Some((501, Vec::new(), None)),
        }
    }

    fn put(&self, request: &Request) -> Option<(u16, Vec<u8>, Option<u64>)> {
        let mishap = if request.path.contains("/entries/") { self.state().mishaps.pop_front() } else { None };
        match mishap {
            Some(Mishap::RequestLost) => return None,
            Some(Mishap::Met) => return Some((409, Vec::new(), None)),
            Some(Mishap::AnswerLost) | None => {}
        }
        let mut state = self.state();
        state.puts += 1;
        let found = state.objects.get(&request.path).map(|(_, tag)| *tag);
        let wrong_tag = request.if_match.as_ref().is_some_and(|tag| found.map(|t| format!("\"{t}\"")).as_ref() != Some(tag));
        let refused = (request.if_none_match && found.is_some()) || wrong_tag;
        if refused && self.manners != Manners::Ignores {
            return Some((412, Vec::new(), None));
        }
        if request.if_none_match && self.manners == Manners::LooksThenWrites {
            drop(state);
            self.dawdle(&request.path);
            state = self.state();
        }
        state.changes += 1;
        let tag = state.changes;
        state.objects.insert(request.path.clone(), (request.body.clone(), tag));
        if mishap == Some(Mishap::AnswerLost) { None } else { Some((200, Vec::new(), Some(tag))) }
    }

    fn list(&self, query: &str) -> Vec<u8> {
        let prefix = query.split('&').find_map(|p| p.strip_prefix("prefix=")).unwrap_or_default().replace("%2F", "/");
        let start = format!("/bucket/{prefix}");
        let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (path, (body, tag)) in self.state().objects.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start)) {
            let (key, size) = (path.trim_start_matches("/bucket/"), body.len());
            text.push_str(&format!(
                "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>\"{tag}\"</ETag>\
                 <LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            ));
        }
        text.push_str("</ListBucketResult>");
        text.into_bytes()
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some(request) = read(&mut reader)? else { return Ok(()) };
    let Some((status, body, tag)) = shared.answer(&request) else { return Ok(()) };
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
    if let Some(tag) = tag {
        head.push_str(&format!("ETag: \"{tag}\"\r\n"));
    }
    let mut stream = stream;
    write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len())?;
    if request.method != "HEAD" {
        stream.write_all(&body)?;
    }
    stream.flush()
}

fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let (mut length, mut if_none_match, mut if_match) = (0, false, None);
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or((&header, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "if-none-match" => if_none_match = true,
            "if-match" => if_match = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, query, if_none_match, if_match, body }))
}
