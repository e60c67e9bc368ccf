//! TLS with a certificate that the operator has.

use std::{path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::error::{Error, Kind};

/// Reads a certificate chain and its key.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let bad = |what: &str, path: &Path, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Kind::Config, format!("{what} {} can't be used", path.display()))
            .with_source(error)
            .with_hint("the gateway takes PEM files: the chain, the host's own certificate first, and its key")
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad("the certificate", certificate, error.to_string().into()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad("the key", key, error.to_string().into()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad("the certificate", certificate, error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
