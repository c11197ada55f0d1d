//! As much HTTP/1.1 as a test needs: one request a connection, bodies with a length or to the end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server of ours may take for an answer before the test gives up.
const BOUND: Duration = Duration::from_secs(30);

/// A request or a response.
#[derive(Clone, Debug)]
pub struct Message {
    /// The first line: method and path, or version and status.
    pub start: String,
    /// The body.
    pub body: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// 200 and the like.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// GETs a path, from the network namespace of the calling thread.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, BOUND)?;
    stream.set_read_timeout(Some(BOUND))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let Message { start, body } = read_message(&stream)?;
    let status = start.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| malformed(&start))?;
    Ok(Response { status, body })
}

/// Reads a request or a response to its end.
pub fn read_message(stream: &TcpStream) -> io::Result<Message> {
    let mut reader = BufReader::new(stream);
    let start = header_line(&mut reader)?;
    let mut length = None;
    let mut chunked = false;
    loop {
        let line = header_line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse().map_err(|_| malformed(&line))?),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => read_chunks(&mut reader, &mut body)?,
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        // A response may go on to the end of the connection; a request without a length has no body.
        None if start.starts_with("HTTP/") => {
            reader.read_to_end(&mut body)?;
        }
        None => {}
    }
    let body = String::from_utf8(body).map_err(|error| malformed(&error.to_string()))?;
    Ok(Message { start, body })
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = header_line(reader)?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| malformed(&size))?;
        let mut chunk = vec![0; size];
        reader.read_exact(&mut chunk)?;
        body.append(&mut chunk);
        header_line(reader)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn header_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP as it should be: '{text}'"))
}
