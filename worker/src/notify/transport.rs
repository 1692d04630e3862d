//! Where emails are sent: to an SMTP server, or nowhere, for load tests. Owns the URL of a
//! transport, and is all that the pipeline knows of one.

use std::sync::Arc;

use email::Email;
use store::notification::ClaimedDelivery;
use tokio::time::Instant;
use url::Url;

use super::mock_transport::MockTransport;
use super::smtp::connection::{SmtpConnection, Timeouts};
use super::smtp::outcome::{ContentOutcome, EnvelopeOutcome};
use super::smtp::server_address::{Credentials, ServerAddress};
use super::transport_error::TransportError;

/// The transport of a consumer. Clones share its configuration.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    Smtp(Arc<ServerAddress>),
    Mock(MockTransport),
}

impl Transport {
    /// Parses a URL. `credentials` are for SMTP.
    ///
    /// # Errors
    /// The URL or the certificates that it names cannot be used.
    pub(crate) fn parse(text: &str, credentials: Option<Credentials>) -> Result<Self, TransportError> {
        let invalid = |reason: &str| TransportError::Url(reason.to_owned());
        let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TransportError::CredentialsInUrl);
        }
        if !["mock", "smtp", "smtps"].contains(&url.scheme()) {
            return Err(invalid(&format!("{}:// is unknown", url.scheme())));
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(invalid("it has a path or a fragment"));
        }
        match url.scheme() {
            "mock" if url.host_str().is_none_or(str::is_empty) => MockTransport::parse(&url).map(Self::Mock),
            "mock" => Err(invalid("mock:// has no host")),
            _ => Ok(Self::Smtp(Arc::new(ServerAddress::parse(&url, credentials)?))),
        }
    }

    /// Scheme, host and port, for the database and the log.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Smtp(server) => server.name(),
            Self::Mock(_) => "mock://".to_owned(),
        }
    }

    /// A connection for one sender. `client_name` is what the client calls itself to the server.
    pub(crate) fn connection(&self, client_name: &str, timeouts: Timeouts) -> Connection {
        match self {
            Self::Smtp(server) => {
                Connection::Smtp(Box::new(SmtpConnection::new(server.clone(), client_name, timeouts)))
            }
            Self::Mock(mock) => Connection::Mock(*mock),
        }
    }
}

/// What one sender sends over, email after email.
pub(crate) enum Connection {
    Smtp(Box<SmtpConnection>),
    Mock(MockTransport),
}

impl Connection {
    pub(crate) async fn send_envelope(&mut self, email: &Email) -> EnvelopeOutcome {
        match self {
            Self::Smtp(smtp) => smtp.send_envelope(email.envelope(), email.content().expose().len()).await,
            Self::Mock(_) => EnvelopeOutcome::Accepted,
        }
    }

    /// Sends the content after an accepted envelope. Gives up at the deadline.
    pub(crate) async fn send_content(
        &mut self,
        delivery: &ClaimedDelivery,
        email: &Email,
        deadline: Instant,
    ) -> ContentOutcome {
        match self {
            Self::Smtp(smtp) => smtp.send_content(email.envelope(), email.content().expose(), deadline).await,
            Self::Mock(mock) => mock.send(delivery).await,
        }
    }

    /// Cancels an accepted envelope whose content is not sent.
    pub(crate) async fn cancel(&mut self) {
        if let Self::Smtp(smtp) = self {
            smtp.cancel().await;
        }
    }

    pub(crate) async fn close(&mut self) {
        if let Self::Smtp(smtp) = self {
            smtp.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_invalid_ones_are_explained() {
        let name = |text: &str| Transport::parse(text, None).map(|transport| transport.name()).unwrap();
        assert_eq!(name("smtp://mail:1025"), "smtp://mail:1025");
        assert_eq!(name("smtp://mail"), "smtp://mail:587");
        assert_eq!(name("smtps://[::1]?"), "smtps://[::1]:465");
        assert_eq!(name("smtp://mail.example.com:25?tls=required"), "smtp://mail.example.com:25");
        assert_eq!(name("mock://"), "mock://");
        assert_eq!(name("mock://?latencyMs=5&failPerMillion=50000"), "mock://");
        for (text, reason) in [
            ("mail:1025", "unknown"),
            ("http://mail", "http:// is unknown"),
            ("smtp://", "empty host"),
            ("smtp://mail/in", "path"),
            ("smtp://mail?tls=maybe", "tls"),
            ("smtps://mail?tls=none", "tls"),
            ("smtp://mail?latencyMs=5", "latencyMs"),
            ("mock://host", "no host"),
            ("mock://?latency=5", "latency"),
            ("mock://?failPerMillion=1000001", "failPerMillion"),
            ("mock://?latencyMs=-1", "latencyMs"),
            ("smtp://user:secret@mail", "SMTP_PASSWORD"),
            ("smtp://mail?caFile=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ] {
            let error = Transport::parse(text, None).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
