//! Which certificates a mail server may show: those of public authorities, and those of a file.

use std::sync::Arc;

use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::notify::transport_error::TransportError;

/// The certificate authorities that are trusted.
pub(super) struct TrustedRoots {
    path: String,
    pem: Option<Vec<u8>>,
}

impl TrustedRoots {
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(path: Option<String>) -> Result<Self, TransportError> {
        let pem = path.as_ref().map(std::fs::read).transpose();
        let path = path.unwrap_or_default();
        match pem {
            Ok(pem) => Ok(Self { path, pem }),
            Err(source) => Err(TransportError::ReadCertificates { path, source }),
        }
    }

    fn invalid(&self, reason: impl ToString) -> TransportError {
        TransportError::InvalidCertificates { path: self.path.clone(), reason: reason.to_string() }
    }

    /// # Errors
    /// The file holds no valid certificates.
    pub(super) fn for_starttls(&self, host: &str) -> Result<TlsParameters, TransportError> {
        let mut tls =
            TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
        if let Some(pem) = &self.pem {
            tls = tls.add_root_certificate(Certificate::from_pem(pem).map_err(|error| self.invalid(error))?);
        }
        tls.build_rustls().map_err(|error| self.invalid(error))
    }

    /// # Errors
    /// The file holds no valid certificates.
    pub(super) fn for_implicit_tls(&self) -> Result<ClientConfig, TransportError> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(self.pem.as_deref().unwrap_or_default()) {
            let certificate = certificate.map_err(|error| self.invalid(error))?;
            roots.add(certificate).map_err(|error| self.invalid(error))?;
        }
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| self.invalid(error))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}
