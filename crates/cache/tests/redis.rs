//! The Redis cache against a real `redis-server`, which must be installed.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nereid_cache::{Entry, Key, ResponseCache, Settings};
use nereid_inference::{
    Answer, Buffer, DataType, Parameter, Request, Responder, ResponseSink, Tensor, Times,
};
use tokio::sync::oneshot;

/// A server of this test's own: nothing on disk, ends with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        // Free now; taken by somebody else in the meantime, the server would not start.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--requirepass", "secret", "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: scripts/setup.sh");
        Self { process, port }
    }

    async fn cache(&self, password: &str) -> nereid_inference::Result<ResponseCache> {
        let set = |key: &str, value: &str| ("redis".into(), key.into(), value.into());
        let port = self.port.to_string();
        let settings = [set("host", "127.0.0.1"), set("port", &port), set("password", password)];
        ResponseCache::new(&Settings::new(&settings).unwrap().unwrap()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn key(model: &str) -> Key {
    struct Ignore;
    impl ResponseSink for Ignore {
        fn deliver(&mut self, _: Answer, _: &Times) {}
    }
    Key::of(&Request::new(model, None, Responder::new(Box::new(Ignore))), 1, true)
}

fn entry() -> Entry {
    let tensor = Tensor {
        name: "OUT".into(),
        datatype: DataType::Uint8,
        shape: vec![1, 3],
        data: Buffer::from(vec![1, 2, 3]),
    };
    Entry { outputs: vec![tensor], parameters: vec![("p".into(), Parameter::Int(7))] }
}

async fn lookup(cache: &ResponseCache, key: Key) -> Option<Arc<Entry>> {
    let (sender, found) = oneshot::channel();
    cache.lookup(key, move |entry| drop(sender.send(entry)));
    found.await.unwrap()
}

#[tokio::test]
async fn entries_are_kept_and_a_server_that_is_gone_is_a_miss() {
    let server = Server::start();
    let mut tries = 0;
    let cache = loop {
        match server.cache("secret").await {
            Ok(cache) => break cache,
            Err(error) => assert!(tries < 500, "{error}"),
        }
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(server.cache("wrong").await.is_err());

    assert!(lookup(&cache, key("m")).await.is_none());
    cache.insert(key("m"), entry());
    let other = server.cache("secret").await.unwrap();
    let found = loop {
        if let Some(found) = lookup(&other, key("m")).await {
            break found;
        }
    };
    assert_eq!(found.parameters, entry().parameters);
    assert_eq!(found.outputs[0].data.contiguous(), entry().outputs[0].data.contiguous());
    assert!(lookup(&other, key("n")).await.is_none());

    drop(server);
    assert!(lookup(&cache, key("m")).await.is_none());
    cache.insert(key("m"), entry());
}
