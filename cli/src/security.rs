//! Flags about who may connect and do what, and what becomes of them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgAction, Args};
use nereid_frontend::{Access, Forward, Keys, Restriction, Tls, TlsFiles};

use crate::flags::boolean;

#[derive(Args, Debug)]
pub(crate) struct HttpSecurity {
    /// Headers to hand on to models as parameters: those whose name matches this expression.
    #[arg(long, value_name = "REGEX", value_parser = Forward::new)]
    http_header_forward_pattern: Option<Forward>,
    /// `<api>,<api>:<header>=<value>`: these APIs are only for requests with this header. May be
    /// given several times.
    #[arg(long, value_name = "RULE", value_parser = |text: &str| Restriction::parse(text, ""))]
    http_restricted_api: Vec<Restriction>,
    /// TLS for HTTP; the certificates are read again when they change. (Not in Triton.)
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    http_use_ssl: bool,
    /// The same, only for clients with a certificate signed by --http-root-cert. (Not in Triton.)
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    http_use_ssl_mutual: bool,
    /// The server's certificate for HTTP, in PEM. (Not in Triton.)
    #[arg(long, value_name = "FILE")]
    http_server_cert: Option<PathBuf>,
    /// The key of the server's certificate for HTTP, in PEM. (Not in Triton.)
    #[arg(long, value_name = "FILE")]
    http_server_key: Option<PathBuf>,
    /// Who must have signed the certificates of HTTP clients, in PEM. (Not in Triton.)
    #[arg(long, value_name = "FILE")]
    http_root_cert: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct GrpcSecurity {
    /// Metadata to hand on to models as parameters: those whose name matches this expression.
    #[arg(long, value_name = "REGEX", value_parser = Forward::new)]
    grpc_header_forward_pattern: Option<Forward>,
    /// `<api>,<api>:<key>=<value>`: these APIs are only for calls with the metadata
    /// `triton-grpc-protocol-<key>`. May be given several times.
    #[arg(long, value_name = "RULE",
          value_parser = |text: &str| Restriction::parse(text, "triton-grpc-protocol-"))]
    grpc_restricted_protocol: Vec<Restriction>,
    /// TLS for gRPC; the certificates are read again when they change.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    grpc_use_ssl: bool,
    /// The same, only for clients with a certificate signed by --grpc-root-cert.
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    grpc_use_ssl_mutual: bool,
    /// The server's certificate for gRPC, in PEM.
    #[arg(long, value_name = "FILE")]
    grpc_server_cert: Option<PathBuf>,
    /// The key of the server's certificate for gRPC, in PEM.
    #[arg(long, value_name = "FILE")]
    grpc_server_key: Option<PathBuf>,
    /// Who must have signed the certificates of gRPC clients, in PEM.
    #[arg(long, value_name = "FILE")]
    grpc_root_cert: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct AccessFlags {
    /// Let clients on other machines load and unload models, register shared memory, and change
    /// trace and log settings, which clients on this machine may. (Not in Triton.)
    #[arg(long, default_value = "false", value_parser = boolean, action = ArgAction::Set)]
    allow_remote_control: bool,
    /// File with the keys that clients must show as `Authorization: Bearer <key>`: lines
    /// `<scope>[,<scope>] <key>` with the scopes infer, control and admin. Read again when it
    /// changes. (Not in Triton.)
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Open connections at the same time, for HTTP and gRPC each; further ones are closed. (Not in
    /// Triton.)
    #[arg(long, default_value_t = 1 << 16, value_name = "COUNT")]
    pub(crate) max_connections: usize,
}

/// What a frontend does about its clients.
pub(crate) struct Security {
    pub(crate) access: Access,
    pub(crate) forward: Option<Forward>,
    pub(crate) tls: Option<Arc<Tls>>,
}

impl AccessFlags {
    /// The keys, if there are to be any. Both frontends ask for the same.
    pub(crate) fn keys(&self) -> Result<Option<Arc<Keys>>, String> {
        self.api_key_file.clone().map(Keys::start).transpose()
    }

    fn rules(&self, rules: &[Restriction], keys: Option<Arc<Keys>>) -> Result<Access, String> {
        Access::new(rules.to_vec(), keys, self.allow_remote_control)
    }
}

impl HttpSecurity {
    pub(crate) fn start(
        &self,
        access: &AccessFlags,
        keys: Option<Arc<Keys>>,
    ) -> Result<Security, String> {
        let tls = TlsFlags {
            protocol: "http",
            used: self.http_use_ssl || self.http_use_ssl_mutual,
            mutual: self.http_use_ssl_mutual,
            certificate: &self.http_server_cert,
            key: &self.http_server_key,
            roots: &self.http_root_cert,
        };
        Ok(Security {
            access: access.rules(&self.http_restricted_api, keys)?,
            forward: self.http_header_forward_pattern.clone(),
            tls: tls.start(&[b"h2", b"http/1.1"])?,
        })
    }
}

impl GrpcSecurity {
    pub(crate) fn start(
        &self,
        access: &AccessFlags,
        keys: Option<Arc<Keys>>,
    ) -> Result<Security, String> {
        let tls = TlsFlags {
            protocol: "grpc",
            used: self.grpc_use_ssl || self.grpc_use_ssl_mutual,
            mutual: self.grpc_use_ssl_mutual,
            certificate: &self.grpc_server_cert,
            key: &self.grpc_server_key,
            roots: &self.grpc_root_cert,
        };
        Ok(Security {
            access: access.rules(&self.grpc_restricted_protocol, keys)?,
            forward: self.grpc_header_forward_pattern.clone(),
            tls: tls.start(&[b"h2"])?,
        })
    }
}

/// What the flags of one frontend say about TLS.
struct TlsFlags<'a> {
    protocol: &'static str,
    used: bool,
    mutual: bool,
    certificate: &'a Option<PathBuf>,
    key: &'a Option<PathBuf>,
    roots: &'a Option<PathBuf>,
}

impl TlsFlags<'_> {
    fn start(&self, protocols: &'static [&'static [u8]]) -> Result<Option<Arc<Tls>>, String> {
        if !self.used {
            return Ok(None);
        }
        let needed = |file: &Option<PathBuf>, flag: &str| {
            let protocol = self.protocol;
            file.clone().ok_or_else(|| format!("TLS needs --{protocol}-{flag}"))
        };
        let files = TlsFiles {
            certificate: needed(self.certificate, "server-cert")?,
            key: needed(self.key, "server-key")?,
            client_roots: self.mutual.then(|| needed(self.roots, "root-cert")).transpose()?,
        };
        Tls::start(files, protocols).map(Some)
    }
}
