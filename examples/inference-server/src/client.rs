//! The least of an HTTP/1.1 client: one kept-alive connection, answers with a length.
//!
//! Enough to speak to this server as its users do, from a plain thread.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A connection to a server, opened anew when it breaks between two requests.
#[derive(Debug)]
pub struct Client {
    server: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header lines as they came.
    pub headers: Vec<String>,
    /// The body, `Null` where it is not JSON.
    pub body: Value,
    /// The body as it came, where it is text.
    pub plain: String,
}

impl Client {
    /// A client of `server`; it connects with the first request.
    #[must_use]
    pub const fn new(server: SocketAddr) -> Self {
        Self { server, stream: None }
    }

    /// `GET` of `path`.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or does not answer in HTTP.
    pub fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send("GET", path, &[], b"")
    }

    /// `POST` of `body` to `path`, with these further headers.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        self.send("POST", path, headers, body)
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.server);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n", body.len());
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        let reply = self.exchange(&request);
        match &reply {
            Ok(reply) if !reply.closes() => {}
            _ => self.stream = None,
        }
        reply
    }

    /// Sends `request` as it is, well formed or not, and reads one answer.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect_timeout(&self.server, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                none.insert(BufReader::new(stream))
            }
        };
        let written = stream.get_mut().write_all(request);
        match Reply::read(stream) {
            // A server may answer before it has read everything, and close.
            Ok(reply) => Ok(reply),
            Err(error) => written.and(Err(error)),
        }
    }
}

impl Reply {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| malformed("the first line is not a status"))?;
        let mut headers = Vec::new();
        let mut length = 0;
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some(("content-length", value)) = header.split_once(": ") {
                length = value.parse().map_err(|_| malformed("the length is not a number"))?;
            }
            headers.push(header.to_owned());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let plain = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Self { status, headers, body, plain })
    }

    fn closes(&self) -> bool {
        self.headers.iter().any(|header| header.eq_ignore_ascii_case("connection: close"))
    }

    /// A text of the body's object, empty where there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
}

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);
