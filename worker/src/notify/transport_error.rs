//! Why a transport's URL cannot be used.

/// What is wrong with a transport's URL, or with the file of certificates that it names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error(
        "the transport must be smtp://HOST:PORT, smtps://HOST:PORT or mock://?latencyMs=5&failPerMillion=50000, with no \
         other parameters than the documented ones: {0}"
    )]
    Url(String),
    #[error(
        "user name and password do not belong in the transport's URL: set SMTP_USERNAME and SMTP_PASSWORD"
    )]
    CredentialsInUrl,
    #[error("cannot read the certificates in {path}")]
    ReadCertificates { path: String, source: std::io::Error },
    #[error("cannot use the certificates in {path}: {reason}")]
    InvalidCertificates { path: String, reason: String },
}
