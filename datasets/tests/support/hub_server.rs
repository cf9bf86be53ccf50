//! A server that plays the Hub: its paths, redirects and headers, and what can go wrong with it.
#![allow(dead_code)] // Every test binary uses its own part.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "8ccc9b6f36199bec6961081d44eb72fb3f7353f3";

/// Answer to one request for the content of a file.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An answer with this status.
    Status(u16),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing comes for so long.
    Stall(Duration),
    /// The body comes in small pieces with pauses.
    Slow(Duration),
    /// Other bytes of the same length.
    Wrong,
    /// The range is ignored: the whole file comes.
    NoRange,
}

#[derive(Default)]
struct State {
    /// By path of the repository (`owner/name` or `datasets/owner/name`) and file.
    files: BTreeMap<(String, String), Vec<u8>>,
    /// Taken one by one, by file.
    faults: BTreeMap<String, Vec<Fault>>,
    token: Option<String>,
    /// (path, range) of every request.
    requests: Vec<(String, Option<String>)>,
}

#[derive(Clone)]
pub struct HubServer {
    state: Arc<Mutex<State>>,
    pub endpoint: String,
}

struct Request {
    path: String,
    range: Option<usize>,
    token: Option<String>,
}

impl HubServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = HubServer { state: Arc::default(), endpoint };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    pub fn put(&self, repository: &str, file: &str, content: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().files.insert((repository.into(), file.into()), content.into());
    }

    pub fn fail(&self, file: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.entry(file.into()).or_default().extend(faults);
    }

    pub fn require(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.into());
    }

    /// Ranges asked for in requests for the content of the large `file`, the probe of one byte left out.
    pub fn ranges(&self, file: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let content = state.files.iter().find(|((_, name), _)| name == file).map(|(_, content)| sha256(content));
        let is_content = |path: &str| content.as_ref().is_some_and(|sum| path.ends_with(sum));
        let ranges = state.requests.iter().filter(|(path, _)| is_content(path)).filter_map(|(_, range)| range.clone());
        ranges.filter(|range| range != "bytes=0-0").collect()
    }

    pub fn request_count(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = self.read(&mut reader) {
            if self.answer(&stream, &request).is_err() {
                return;
            }
        }
    }

    fn read(&self, reader: &mut BufReader<TcpStream>) -> Option<Request> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let path = line.split(' ').nth(1)?.to_string();
        let (mut range, mut token) = (None, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let header = header.trim_end();
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(": ")?;
            match name.to_lowercase().as_str() {
                "range" => range = Some(value.to_string()),
                "authorization" => token = Some(value.replace("Bearer ", "")),
                _ => {}
            }
        }
        self.state.lock().unwrap().requests.push((path.clone(), range.clone()));
        let range = range
            .filter(|range| range != "bytes=0-0")
            .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
        Some(Request { path, range, token })
    }

    fn answer(&self, stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let known = self.state.lock().unwrap().token.clone();
        if known.is_some() && known != request.token && !request.path.starts_with("/cdn/") {
            return send(stream, "401 Unauthorized", &[], b"");
        }
        if let Some(id) = request.path.strip_prefix("/api/models/").and_then(|path| path.split("/revision/").next()) {
            return self.list(stream, id);
        }
        if let Some(sum) = request.path.strip_prefix("/cdn/") {
            let state = self.state.lock().unwrap();
            let found = state.files.iter().find(|(_, content)| sha256(content) == sum);
            let (file, content) = found.map(|((_, file), content)| (file.clone(), content.clone())).unwrap();
            drop(state);
            return self.content(stream, request, &file, &content, &[]);
        }
        let is_cached = request.path.starts_with("/api/resolve-cache/");
        let path = request.path.trim_start_matches("/api/resolve-cache").trim_start_matches('/');
        let Some((repository, rest)) = path.split_once("/resolve/") else {
            return send(stream, "404 Not Found", &[], b"");
        };
        let file = rest.split_once('/').map_or("", |(_, file)| file).to_string();
        let content = self.state.lock().unwrap().files.get(&(repository.to_string(), file.clone())).cloned();
        let Some(content) = content else { return send(stream, "404 Not Found", &[], b"") };
        let commit = format!("X-Repo-Commit: {COMMIT}");
        if file.ends_with("json") {
            // A small file lies in git: a relative redirect to another path of the same server.
            if !is_cached {
                let location = format!("Location: /api/resolve-cache/{path}");
                return send(stream, "307 Temporary Redirect", &[&location, &commit], b"");
            }
            let mut hash = Sha1::new();
            hash.update(format!("blob {}\0", content.len()));
            hash.update(&content);
            let etag = format!("ETag: \"{}\"", hex::encode(hash.finalize()));
            return self.content(stream, request, &file, &content, &[&etag, &commit]);
        }
        // A large file lies elsewhere.
        let sum = sha256(&content);
        let location = format!("Location: {}/cdn/{sum}", self.endpoint);
        let (etag, size) = (format!("X-Linked-Etag: \"{sum}\""), format!("X-Linked-Size: {}", content.len()));
        send(stream, "302 Found", &[&location, &etag, &size, &commit], b"")
    }

    fn list(&self, stream: &TcpStream, id: &str) -> std::io::Result<()> {
        let state = self.state.lock().unwrap();
        let files = state.files.keys().filter(|(repository, _)| repository == id);
        let siblings: Vec<String> = files.map(|(_, file)| format!(r#"{{"rfilename": "{file}"}}"#)).collect();
        drop(state);
        if siblings.is_empty() {
            return send(stream, "404 Not Found", &[], b"");
        }
        let body = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, siblings.join(", "));
        send(stream, "200 OK", &["Content-Type: application/json"], body.as_bytes())
    }

    fn content(
        &self,
        mut stream: &TcpStream,
        request: &Request,
        file: &str,
        content: &[u8],
        headers: &[&str],
    ) -> std::io::Result<()> {
        let Some(start) = request.range else {
            let range = format!("Content-Range: bytes 0-0/{}", content.len());
            return send(
                stream,
                "206 Partial Content",
                &[headers, &[&range]].concat(),
                &content[..content.len().min(1)],
            );
        };
        let fault = {
            let mut state = self.state.lock().unwrap();
            state.faults.get_mut(file).filter(|faults| !faults.is_empty()).map(|faults| faults.remove(0))
        };
        if start >= content.len() {
            return send(stream, "416 Range Not Satisfiable", headers, b"");
        }
        let range = format!("Content-Range: bytes {start}-{}/{}", content.len() - 1, content.len());
        let all = [headers, &[range.as_str()]].concat();
        let body = &content[start..];
        match fault {
            None => send(stream, "206 Partial Content", &all, body),
            Some(Fault::Status(code)) => send(stream, &format!("{code} Fault"), &[], b""),
            Some(Fault::NoRange) => send(stream, "200 OK", headers, content),
            Some(Fault::Wrong) => {
                let wrong: Vec<u8> = body.iter().map(|byte| !byte).collect();
                send(stream, "206 Partial Content", &all, &wrong)
            }
            Some(Fault::Stall(time)) => {
                std::thread::sleep(time);
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            Some(Fault::Cut(length)) => {
                head(stream, "206 Partial Content", &all, body.len())?;
                stream.write_all(&body[..length.min(body.len())])?;
                stream.shutdown(std::net::Shutdown::Both)?;
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            Some(Fault::Slow(pause)) => {
                head(stream, "206 Partial Content", &all, body.len())?;
                for piece in body.chunks(body.len().div_ceil(10)) {
                    stream.write_all(piece)?;
                    std::thread::sleep(pause);
                }
                Ok(())
            }
        }
    }
}

fn head(mut stream: &TcpStream, status: &str, headers: &[&str], length: usize) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n")
}

fn send(mut stream: &TcpStream, status: &str, headers: &[&str], body: &[u8]) -> std::io::Result<()> {
    head(stream, status, headers, body.len())?;
    stream.write_all(body)
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}
