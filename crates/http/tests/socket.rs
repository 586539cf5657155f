//! The server as its clients meet it: over a socket, with a model behind it.
// Helpers of tests are tests too, but clippy only knows functions with `#[test]`.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use nereid_arena::Arena;
use nereid_backend::{Host, Pulse};
use nereid_core::{ControlMode, Lifecycle, Regions, Repositories, Server};
use nereid_frontend::{Access, ConnectionOptions};
use nereid_http::{App, Limits, Service, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const CONFIG: &str = r#"
    backend: "identity"
    max_batch_size: 8
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"#;

struct Running {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    server: Arc<Server>,
}

/// A server with the model `echo`, and the model `slow` that takes 300 ms.
async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let slow = r#"parameters { key: "execute_delay_ms" value { string_value: "300" } }"#;
    for (name, more) in [("echo", ""), ("slow", slow)] {
        std::fs::create_dir_all(folder.path().join(name).join("1")).unwrap();
        std::fs::write(folder.path().join(name).join("config.pbtxt"), format!("{CONFIG}{more}"))
            .unwrap();
    }
    let (arena, pulse) = (Arena::new().unwrap(), Pulse::default());
    let server = Server::new("test", true);
    let host = Host {
        service: server.clone(),
        arena: arena.clone(),
        reactor: tokio::runtime::Handle::current(),
        pulse: pulse.clone(),
        metrics: Default::default(),
        alive: Arc::new(()),
        ending: Default::default(),
    };
    let repositories = Repositories {
        paths: vec![folder.path().to_owned().into()],
        namespaces: false,
        backends: vec![Box::new(nereid_backend_identity::IdentityBackend)],
        host,
        backend_settings: Vec::new(),
        load_threads: 1,
        load_retries: 0,
        auto_complete: true,
        config_name: None,
        cache: None,
        limiter: None,
        latencies: Default::default(),
        registered: nereid_core::Registered::default(),
    };
    let lifecycle = Arc::new(Lifecycle::new(repositories, server.clone(), ControlMode::None));
    lifecycle.aside(|lifecycle| lifecycle.start(None)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let limits = Limits { max_body: 8 << 20, ..Limits::default() };
    let regions = Arc::new(Regions::new(false));
    let log = nereid_logging::Log::default();
    let tracer = nereid_trace::Tracer::off().unwrap();
    let app = Arc::new(App {
        server: server.clone(),
        lifecycle,
        regions,
        arena,
        pulse,
        log,
        tracer,
        metrics: None,
        limits,
        access: Access::default(),
        forward: None,
    });
    let served =
        tokio::spawn(serve(listener, app, Service::Api, ConnectionOptions::default(), async {
            let _ = stopped.await;
        }));
    Running { address, stop, served, server }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let mut answer = Answer { status, head, body: Vec::new() };
    let len = answer.header("content-length").map_or(0, |len| len.parse().unwrap());
    answer.body.resize(len, 0);
    stream.read_exact(&mut answer.body).await.unwrap();
    answer
}

async fn ask(stream: &mut TcpStream, start: &str, headers: &str, body: &[u8]) -> Answer {
    let head =
        format!("{start} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    read_answer(stream).await
}

async fn ask_once(running: &Running, start: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    ask(&mut stream, start, headers, body).await
}

fn binary_request(elements: usize) -> (Vec<u8>, String) {
    let json = format!(
        r#"{{"id":"7","parameters":{{"binary_data_output":true}},"inputs":[{{"name":"IN","datatype":"FP32","shape":[1,{elements}],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        4 * elements
    );
    let headers = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    let tensor = (0..elements).flat_map(|i| (i as f32).to_le_bytes());
    (json.into_bytes().into_iter().chain(tensor).collect(), headers)
}

const INFER: &str = "POST /v2/models/echo/infer";
const JSON: &str = r#"{"inputs":[{"name":"IN","datatype":"FP32","shape":[1,2],"data":[1,2.5]}]}"#;

#[tokio::test]
async fn json_and_health_on_one_connection() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let ready = ask(&mut stream, "GET /v2/health/ready?x=1", "", b"").await;
    assert_eq!((ready.status, ready.body.len()), (200, 0));
    let answer = ask(&mut stream, INFER, "", JSON.as_bytes()).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text().contains(r#""shape":[1,2],"data":[1.0,2.5]}]}"#), "{}", answer.text());
    let metadata = ask(&mut stream, "GET /v2/models/echo", "", b"").await;
    assert!(metadata.text().starts_with(r#"{"name":"echo","versions":["1"]"#));
    let statistics = ask(&mut stream, "GET /v2/models/echo/stats", "", b"").await;
    assert!(statistics.text().contains(r#""inference_count":1"#), "{}", statistics.text());
}

#[tokio::test]
async fn binary_tensors_come_back_whatever_their_size() {
    let running = start().await;
    // Small, at the sizes where a body goes into the arena, and large.
    for elements in [1, 3000, 16_300, 16_384, 1_000_000] {
        let (body, headers) = binary_request(elements);
        let answer = ask_once(&running, INFER, &headers, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        let json_len = answer.header("inference-header-content-length").unwrap();
        let tensor = &answer.body[json_len.parse().unwrap()..];
        assert!(tensor == &body[body.len() - 4 * elements..], "{elements}");
    }
}

#[tokio::test]
async fn chunked_bodies() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let (first, second) = JSON.split_at(20);
    let chunks = format!(
        "{INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    stream.write_all(chunks.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.text().contains(r#""data":[1.0,2.5]"#), "{}", answer.text());
}

/// Method and path, headers, body; status, content type and part of the message of the answer.
type Case = (&'static str, &'static str, &'static str, u16, Option<&'static str>, &'static str);

#[tokio::test]
async fn errors_with_tritons_status_and_type() {
    let running = start().await;
    let json = Some("application/json");
    let text = Some("text/plain");
    let wrong_shape = r#"{"inputs":[{"name":"IN","datatype":"FP32","shape":[2],"data":[1,2]}]}"#;
    let cases: [Case; 12] = [
        ("GET /v2/nonsense", "", "", 404, text, r#"{"error":"Not Found"}"#),
        ("GET /v2/models/echo/infer", "", "", 405, text, r#"{"error":"Method Not Allowed"}"#),
        ("PUT /v2/logging", "", "", 405, json, r#"{"error":"Method Not Allowed"}"#),
        ("DELETE /v2", "", "", 405, json, r#"{"error":"Method Not Allowed"}"#),
        ("POST /v2/models/none/infer", "", "{}", 404, text, "unknown model: 'none' is not found"),
        ("POST /v2/models/echo/versions/0/infer", "", "{}", 404, text, "version 0 is not found"),
        ("GET /v2/models/none/config", "", "", 404, json, "unknown model: 'none' is not found"),
        (INFER, "", "{}", 500, json, "attempt to access non-existing object member 'inputs'"),
        (INFER, "", wrong_shape, 400, json, "unexpected shape for input 'IN'"),
        (INFER, "Inference-Header-Content-Length: x\r\n", "{}", 400, text, "got: x"),
        (INFER, "Inference-Header-Content-Length: 9\r\n", "{}", 400, text, "range (0, 2), got: 9"),
        (INFER, "Content-Encoding: br\r\n", "{}", 501, text, "Unsupported compression type"),
    ];
    for (start, headers, body, status, content_type, message) in cases {
        let answer = ask_once(&running, start, headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{start}: {}", answer.text());
        assert_eq!(answer.header("content-type"), content_type, "{start}");
        assert!(answer.text().contains(message), "{start}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let body = vec![b' '; 6 << 20];
    let answer = ask(&mut stream, "POST /v2/models/none/infer", "", &body).await;
    assert_eq!(answer.status, 404);
    // And the connection is still good.
    assert_eq!(ask(&mut stream, "GET /v2/health/live", "", b"").await.status, 200);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("{INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("exceeds the maximum"), "{}", answer.text());
    let long = format!("X-Long: {}\r\n", "x".repeat(100_000));
    assert_eq!(ask_once(&running, "GET /v2/health/live", &long, b"").await.status, 431);
}

#[tokio::test]
async fn broken_clients_do_no_harm() {
    let running = start().await;
    for nonsense in [
        &b"\x16\x03\x01\x02"[..],
        b"GET\r\n\r\n",
        b"POST /v2/models/echo/infer HTTP/1.1\r\nContent-Length: 100000\r\n\r\nshort",
        b"POST /v2/models/echo/infer HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort",
        b"POST /v2/models/echo/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        drop(stream);
    }
    assert_eq!(ask_once(&running, INFER, "", JSON.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn shutdown_lets_requests_finish() {
    let running = start().await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(ask(&mut idle, "GET /v2/health/live", "", b"").await.status, 200);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let asking = tokio::spawn(async move {
        ask(&mut stream, "POST /v2/models/slow/infer", "", JSON.as_bytes()).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.send(()).unwrap();
    assert_eq!(asking.await.unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(5), running.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
    running.server.unload_all();
}
