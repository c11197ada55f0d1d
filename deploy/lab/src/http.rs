//! As much HTTP as the lab needs: one request a connection, over TCP or a Unix socket.
//!
//! Version 1.0, so that the answer comes in one piece and its end is the connection's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request; its body is sent as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a str,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The body of an answer that is a 2xx; what it says otherwise.
    pub(crate) fn ok(self) -> Result<String, String> {
        if (200..300).contains(&self.status) {
            Ok(self.body)
        } else {
            Err(format!("HTTP {}: {}", self.status, self.body.trim()))
        }
    }
}

pub(crate) fn over_tcp(address: SocketAddr, request: Request<'_>) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(stream, &address.to_string(), request)
}

pub(crate) fn over_unix(socket: &Path, request: Request<'_>) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(stream, "localhost", request)
}

fn exchange(mut stream: impl Read + Write, host: &str, request: Request<'_>) -> io::Result<Answer> {
    let Request { method, path, headers, body } = request;
    let mut head = format!("{method} {path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    read(&String::from_utf8_lossy(&answer))
}

/// Reads an answer, which must be whole.
fn read(text: &str) -> io::Result<Answer> {
    let torn = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the answer {what}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| torn("ends within its head"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| torn("is not HTTP"))?;
    let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| body.len() < length) {
        return Err(torn("ends within its body"));
    }
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let text = "HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nwait";
        let answer = read(text).unwrap();
        assert_eq!(answer, Answer { status: 503, body: "wait".to_owned() });
        assert_eq!(answer.ok(), Err("HTTP 503: wait".to_owned()));
        assert!(read(&text[..text.len() - 1]).is_err());
        assert!(read("HTTP/1.1 200 OK\r\n").is_err());
        assert!(read("hello\r\n\r\n").is_err());
    }
}
