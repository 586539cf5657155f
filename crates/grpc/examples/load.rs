//! A client that costs next to nothing, for `scripts/echo_bench.py` and `scripts/lean_bench.py`: it
//! sends the same bytes again and again on each of some connections, one request at a time, and looks
//! at no more of the answers than how long they are.
//!
//!     load http|grpc PORT REQUEST_FILE ANSWER_BYTES CONNECTIONS SECONDS
//!
//! REQUEST_FILE: for http a whole request, for gRPC the message. Answers with fewer bytes than said
//! are a failure. Prints requests per second, and p50 and p99 in microseconds.

use std::io::{BufReader, Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize| arguments[index].parse::<usize>().map_err(Error::other);
    let (grpc, port) = (arguments[1] == "grpc", number(2)?);
    let request = std::fs::read(&arguments[3])?;
    let (answer, connections, seconds) = (number(4)?, number(5)?, number(6)?);
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds as u64);
    let mut times = std::thread::scope(|scope| {
        let one = || scope.spawn(|| drive(grpc, port, &request, answer, until));
        let threads: Vec<_> = (0..connections).map(|_| one()).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| Error::other("a connection panicked"))??);
        }
        Ok::<_, Error>(all)
    })?;
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let quantile =
        |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{rate:.1} {:.1} {:.1}", quantile(0.5), quantile(0.99));
    Ok(())
}

/// Asks until it is time to stop; how long each answer took.
fn drive(
    grpc: bool,
    port: usize,
    request: &[u8],
    answer: usize,
    until: Instant,
) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(("127.0.0.1", port as u16))?;
    stream.set_nodelay(true)?;
    let mut ask: Box<dyn FnMut() -> Result<usize>> = if grpc {
        let mut connection = Http2::open(stream)?;
        Box::new(move || connection.call(request))
    } else {
        let mut connection = Http1 { reader: BufReader::with_capacity(1 << 18, stream) };
        Box::new(move || connection.call(request))
    };
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let got = ask()?;
        times.push(began.elapsed());
        if got < answer {
            return Err(Error::other(format!("an answer of {got} bytes")));
        }
    }
    Ok(times)
}

struct Http1 {
    reader: BufReader<TcpStream>,
}

impl Http1 {
    fn call(&mut self, request: &[u8]) -> Result<usize> {
        self.reader.get_mut().write_all(request)?;
        let mut head = Vec::with_capacity(256);
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.reader.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(Error::other(head));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.trim().parse().ok());
        let length = length.ok_or_else(|| Error::other("an answer of unknown length"))?;
        skip(&mut self.reader, length)?;
        Ok(length)
    }
}

/// As much of HTTP/2 as one call at a time needs.
struct Http2 {
    reader: BufReader<TcpStream>,
    stream: u32,
    /// What the server takes: bytes of a frame, of a stream, and now on the connection.
    frame: usize,
    stream_window: i64,
    window: i64,
    /// Bytes that came since the server was last told that there is room for them.
    taken: usize,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// Nothing waits for room on our side.
const ROOM: u32 = 1 << 30;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut made = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    made.extend([kind, flags]);
    made.extend(stream.to_be_bytes());
    made.extend(payload);
    made
}

impl Http2 {
    fn open(stream: TcpStream) -> Result<Self> {
        let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = Vec::new();
        for (name, value) in [(4u16, ROOM), (5, 1 << 20)] {
            settings.extend(name.to_be_bytes());
            settings.extend(value.to_be_bytes());
        }
        start.extend(frame(SETTINGS, 0, 0, &settings));
        start.extend(frame(WINDOW_UPDATE, 0, 0, &ROOM.to_be_bytes()));
        (&stream).write_all(&start)?;
        let reader = BufReader::with_capacity(1 << 18, stream);
        let mut connection =
            Self { reader, stream: 1, frame: 16384, stream_window: 65535, window: 65535, taken: 0 };
        // The server's settings come first.
        let mut unused = 0;
        connection.read_frame(&mut unused)?;
        Ok(connection)
    }

    fn call(&mut self, message: &[u8]) -> Result<usize> {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/inference.GRPCInferenceService/ModelInfer"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.extend([0, name.len() as u8]);
            block.extend(name.as_bytes());
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        }
        let mut out = frame(HEADERS, END_HEADERS, self.stream, &block);
        let mut prefix = vec![0];
        prefix.extend((message.len() as u32).to_be_bytes());
        let mut room = self.stream_window - prefix.len() as i64;
        self.window -= prefix.len() as i64;
        out.extend(frame(DATA, 0, self.stream, &prefix));
        let mut rest = message;
        while !rest.is_empty() {
            let size = rest.len().min(self.frame).min(room.min(self.window).max(0) as usize);
            if size == 0 {
                self.reader.get_mut().write_all(&out)?;
                out.clear();
                self.read_frame(&mut room)?;
                continue;
            }
            let (piece, behind) = rest.split_at(size);
            let end = if behind.is_empty() { END_STREAM } else { 0 };
            let mut head = (size as u32).to_be_bytes()[1..].to_vec();
            head.extend([DATA, end]);
            head.extend(self.stream.to_be_bytes());
            out.extend(head);
            if size < 16384 {
                out.extend(piece);
            } else {
                self.reader.get_mut().write_all(&out)?;
                self.reader.get_mut().write_all(piece)?;
                out.clear();
            }
            rest = behind;
            room -= size as i64;
            self.window -= size as i64;
        }
        self.reader.get_mut().write_all(&out)?;
        let mut got = 0;
        loop {
            let (kind, flags, size) = self.read_frame(&mut room)?;
            if kind == DATA {
                got += size;
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                self.stream += 2;
                return Ok(got);
            }
        }
    }

    /// Reads a frame and does what it asks for; `room` is that of the stream.
    fn read_frame(&mut self, room: &mut i64) -> Result<(u8, u8, usize)> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head)?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if kind == DATA {
            skip(&mut self.reader, size)?;
            self.taken += size;
            if self.taken > ROOM as usize / 4 {
                let more = (self.taken as u32).to_be_bytes();
                self.reader.get_mut().write_all(&frame(WINDOW_UPDATE, 0, 0, &more))?;
                self.taken = 0;
            }
            return Ok((kind, flags, size));
        }
        let mut payload = vec![0; size];
        self.reader.read_exact(&mut payload)?;
        let value = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| payload[at + i]));
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for at in (0..size).step_by(6) {
                    match u16::from_be_bytes([payload[at], payload[at + 1]]) {
                        4 => self.stream_window = value(at + 2).into(),
                        5 => self.frame = value(at + 2) as usize,
                        _ => {}
                    }
                }
                self.reader.get_mut().write_all(&frame(SETTINGS, ACK, 0, &[]))?;
            }
            PING if flags & ACK == 0 => {
                self.reader.get_mut().write_all(&frame(PING, ACK, 0, &payload))?;
            }
            WINDOW_UPDATE if stream == 0 => self.window += i64::from(value(0)),
            WINDOW_UPDATE if stream == self.stream => *room += i64::from(value(0)),
            3 | 7 => return Err(Error::other(format!("the server gave up: {payload:?}"))),
            _ => {}
        }
        Ok((kind, flags, size))
    }
}

/// Reads so many bytes and forgets them.
fn skip(reader: &mut impl Read, mut len: usize) -> Result<()> {
    let mut buffer = [0; 1 << 16];
    while len > 0 {
        let size = len.min(buffer.len());
        reader.read_exact(&mut buffer[..size])?;
        len -= size;
    }
    Ok(())
}
