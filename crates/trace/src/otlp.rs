//! Sends spans to a collector: OpenTelemetry's protocol over HTTP, in protobuf.
//!
//! A thread of its own sends what has come together; who brings spans never waits. What does not
//! fit into the queue is dropped, and so is what the collector does not take.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::messages::{Export, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span};
use crate::settings::OpenTelemetry;

/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where systems keep the certificates that they trust: Debian's, Red Hat's, Alpine's.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

pub(crate) struct Exporter {
    /// `None` once no more spans are taken.
    queue: Option<SyncSender<Span>>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    pub(crate) fn start(settings: OpenTelemetry) -> std::io::Result<Self> {
        let (queue, spans) = sync_channel(settings.max_queue_size.max(1));
        let sender = Sender { settings, spans };
        let thread = std::thread::Builder::new().name("traces".into()).spawn(|| sender.run())?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(crate) fn send(&self, span: Span) {
        if let Some(queue) = &self.queue {
            // Full: tracing must not slow anything down.
            let _ = queue.try_send(span);
        }
    }

    /// Sends what is left.
    pub(crate) fn finish(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Trusts whom this machine trusts, or whom OpenTelemetry's variable names.
fn tls() -> TlsConfig {
    let named = ["OTEL_EXPORTER_OTLP_CERTIFICATE", "SSL_CERT_FILE"];
    let named = named.iter().find_map(|name| std::env::var(name).ok());
    let pem = match named {
        Some(file) => std::fs::read(&file).unwrap_or_else(|error| {
            tracing::warn!("traces: failed to read {file}: {error}");
            Vec::new()
        }),
        None => ROOTS.iter().find_map(|file| std::fs::read(file).ok()).unwrap_or_default(),
    };
    let roots: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

struct Sender {
    settings: OpenTelemetry,
    spans: Receiver<Span>,
}

impl Sender {
    fn run(self) {
        let mut config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
        if self.settings.url.starts_with("https://") {
            config = config.tls_config(tls());
        }
        let agent = ureq::Agent::new_with_config(config.build());
        let mut complained = false;
        while let Ok(first) = self.spans.recv() {
            let batch = self.batch(first);
            let body = self.export(batch).encode_to_vec();
            let post = agent.post(&self.settings.url);
            match post.header("Content-Type", "application/x-protobuf").send(body) {
                Ok(_) => complained = false,
                Err(error) if !complained => {
                    complained = true;
                    tracing::warn!("traces do not get to {}: {error}", self.settings.url);
                }
                Err(_) => {}
            }
        }
    }

    /// `first` and what comes until there is enough or the time is over.
    fn batch(&self, first: Span) -> Vec<Span> {
        let until = Instant::now() + self.settings.schedule_delay;
        let mut batch = vec![first];
        while batch.len() < self.settings.max_export_batch_size {
            match self.spans.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(span) => batch.push(span),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        batch
    }

    fn export(&self, spans: Vec<Span>) -> Export {
        let own = &self.settings.resource;
        let mut attributes: Vec<KeyValue> =
            own.iter().map(|(key, value)| KeyValue::text(key, value)).collect();
        if !own.iter().any(|(key, _)| key == "service.name") {
            attributes.push(KeyValue::text("service.name", "triton-inference-server"));
        }
        let scope = Scope { name: "triton-server".to_owned() };
        Export {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
            }],
        }
    }
}
