//! TLS with certificates from files, which are read again when they change.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::reload::follow;

/// Where certificates are, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who must have signed the certificates of clients; `None`: clients need none.
    pub client_roots: Option<PathBuf>,
}

/// The server's side of TLS.
pub struct Tls {
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Reads the files now, and whenever they change: new connections get the new certificates. What
    /// cannot be used then is logged, and the old ones stay.
    ///
    /// `protocols` are those that clients may choose from, best first.
    pub fn start(
        files: TlsFiles,
        protocols: &'static [&'static [u8]],
    ) -> Result<Arc<Self>, String> {
        let current = ArcSwap::from_pointee(load(&files, protocols)?);
        let tls = Arc::new(Self { current });
        let used = Arc::downgrade(&tls);
        let paths = [&files.certificate, &files.key].into_iter().chain(&files.client_roots);
        let paths = paths.cloned().collect();
        tokio::spawn(follow(paths, move || {
            let Some(tls) = used.upgrade() else { return false };
            match load(&files, protocols) {
                Ok(config) => {
                    tls.current.store(Arc::new(config));
                    tracing::info!("certificates read again: {}", files.certificate.display());
                }
                Err(error) => tracing::error!("the certificates stay as they are: {error}"),
            }
            true
        }));
        Ok(tls)
    }

    pub(crate) fn accept(&self, stream: TcpStream) -> Accept<TcpStream> {
        TlsAcceptor::from(self.current.load_full()).accept(stream)
    }
}

fn load(files: &TlsFiles, protocols: &[&[u8]]) -> Result<ServerConfig, String> {
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("no key in '{}': {error}", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.client_roots {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| format!("'{}': {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = verifier.build().map_err(|error| error.to_string())?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| format!("'{}': {error}", files.certificate.display()))?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("no certificate in '{}': {error}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    match found.is_empty() {
        true => Err(format!("no certificate in '{}'", path.display())),
        false => Ok(found),
    }
}
