//! Where the mail server is and how connections to it are secured, read from an `smtp://` or
//! `smtps://` URL.
//!
//! A password is sent over TLS only, unless the URL says `tls=none`.

use std::sync::Arc;

use lettre::transport::smtp::client::TlsParameters;
use secrecy::SecretString;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use super::tls::TrustedRoots;
use crate::notify::transport_error::TransportError;

/// The user that logs in at the mail server.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: SecretString,
}

/// A mail server, and how to connect to it.
pub(crate) struct ServerAddress {
    scheme: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
}

pub(super) enum Security {
    /// TLS from the first byte.
    ImplicitTls(Arc<ClientConfig>, ServerName<'static>),
    /// STARTTLS when the server supports it, or always.
    Starttls {
        tls: TlsParameters,
        required: bool,
    },
    None,
}

impl std::fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerAddress").field(&self.name()).finish()
    }
}

impl ServerAddress {
    /// # Errors
    /// The host is missing or invalid, a parameter is unknown, or the certificates cannot be used.
    pub(crate) fn parse(url: &Url, credentials: Option<Credentials>) -> Result<Self, TransportError> {
        let invalid = |reason: &str| TransportError::Url(reason.to_owned());
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("empty host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let implicit = url.scheme() == "smtps";
        let (mut tls, mut ca_file) = (None, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "tls" if !implicit => tls = Some(value.into_owned()),
                "caFile" => ca_file = Some(value.into_owned()),
                other => {
                    return Err(invalid(&format!("{other} is no parameter of {}://", url.scheme())));
                }
            }
        }
        let roots = TrustedRoots::read(ca_file)?;
        let starttls = |required| {
            Ok::<_, TransportError>(Security::Starttls { tls: roots.for_starttls(&host)?, required })
        };
        let security = match tls.as_deref() {
            None if implicit => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| invalid("the host cannot be the name in a certificate"))?;
                Security::ImplicitTls(Arc::new(roots.for_implicit_tls()?), name)
            }
            // With a password, TLS is required: an attacker could remove STARTTLS from the server's
            // reply.
            None | Some("opportunistic") => starttls(credentials.is_some())?,
            Some("required") => starttls(true)?,
            Some("none") => Security::None,
            Some(_) => return Err(invalid("tls is one of required, opportunistic, none")),
        };
        let (scheme, port) = if implicit { ("smtps", 465) } else { ("smtp", 587) };
        Ok(Self { scheme, host, port: url.port().unwrap_or(port), security, credentials })
    }

    /// Scheme, host and port.
    pub(crate) fn name(&self) -> String {
        let Self { scheme, host, port, .. } = self;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }
}
