//! Where mails go: an SMTP server, or nowhere at all for load. Owns how a transport is written down, and the words that
//! a session understands of any of them: an offer that is accepted, put off, refused or meets a closed door, and a
//! hand-over that ends as sent, put off, refused or unknown.

use std::sync::Arc;

use lettre::Address;
use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use super::mock_transport as mock;
use super::pipeline::in_flight::Mail;
use super::smtp::connection as smtp;

/// The transport that a consumer was started with. Clones share what was read for it.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    Smtp(Arc<smtp::Server>),
    Mock(mock::Mock),
}

/// Who logs in at the server.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: SecretString,
}

/// Why a transport can't be used as it is written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error(
        "the transport must be smtp://HOST:PORT, smtps://HOST:PORT or mock://?latencyMs=5&failPerMillion=50000, with \
         nothing else in it than the parameters that it knows: {0}"
    )]
    Address(String),
    #[error(
        "a user and a password don't belong into the transport's address: set SMTP_USERNAME and SMTP_PASSWORD"
    )]
    Login,
    #[error("cannot read the certificates in {path}")]
    Certificates { path: String, source: std::io::Error },
    #[error("the certificates in {path} cannot be used: {reason}")]
    CertificateForm { path: String, reason: String },
}

impl Transport {
    /// Reads an address. `credentials` are for SMTP.
    ///
    /// # Errors
    /// What is wrong with it, or with the certificates that it names.
    pub(crate) fn parse(text: &str, credentials: Option<Credentials>) -> Result<Self, TransportError> {
        let wrong = |why: &str| TransportError::Address(why.to_owned());
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TransportError::Login);
        }
        if !["mock", "smtp", "smtps"].contains(&url.scheme()) {
            return Err(wrong(&format!("{}:// is unknown", url.scheme())));
        }
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(wrong("it has a path"));
        }
        match url.scheme() {
            "mock" if url.host_str().is_none_or(str::is_empty) => mock::Mock::parse(&url).map(Self::Mock),
            "mock" => Err(wrong("mock:// has no host")),
            _ => Ok(Self::Smtp(Arc::new(smtp::Server::parse(&url, credentials)?))),
        }
    }

    /// What others are told of it: scheme, host and port.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Smtp(server) => server.name(),
            Self::Mock(_) => "mock://".to_owned(),
        }
    }

    /// A line for one session. `hello` is what it calls itself at a server.
    pub(crate) fn line(&self, hello: &str, patience: smtp::Patience) -> Line {
        match self {
            Self::Smtp(server) => Line::Smtp(Box::new(smtp::Line::new(server.clone(), hello, patience))),
            Self::Mock(mock) => Line::Mock(*mock),
        }
    }
}

/// What came of offering a mail's addresses. Nothing of the mail itself is out yet.
#[derive(Debug)]
pub(crate) enum Offer {
    Accepted,
    /// From RCPT on: not now.
    PutOff(Words),
    /// From RCPT on: never.
    Refused(Words),
    /// Before RCPT: the server is not to be had, whatever the mail.
    Down(Words),
}

/// What came of handing a mail over.
#[derive(Debug)]
pub(crate) enum Delivery {
    Sent,
    /// Certainly not taken, and worth another try.
    PutOff(Words),
    /// Certainly not taken.
    Refused(Words),
    /// Nobody can know.
    Unknown(Words),
}

/// What one session sends over, mail after mail.
pub(crate) enum Line {
    Smtp(Box<smtp::Line>),
    Mock(mock::Mock),
}

impl Line {
    pub(crate) async fn offer(&mut self, mail: &Mail) -> Offer {
        match self {
            Self::Smtp(line) => line.offer(mail.email.envelope(), mail.email.content().expose().len()).await,
            Self::Mock(_) => Offer::Accepted,
        }
    }

    /// Sends what was offered and accepted; over by the deadline.
    pub(crate) async fn hand_over(&mut self, mail: &Mail, deadline: Instant) -> Delivery {
        match self {
            Self::Smtp(line) => {
                line.hand_over(mail.email.envelope(), mail.email.content().expose(), deadline).await
            }
            Self::Mock(mock) => mock.send(&mail.hand).await,
        }
    }

    /// Takes an accepted offer back.
    pub(crate) async fn withdraw(&mut self) {
        if let Self::Smtp(line) = self {
            line.withdraw().await;
        }
    }

    /// Says good-bye.
    pub(crate) async fn close(&mut self) {
        if let Self::Smtp(line) = self {
            line.close().await;
        }
    }
}

/// What a server or the system said, fit for the database and the log: one line without addresses, not too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words(String);

impl Words {
    const LONGEST: usize = 300;

    pub(crate) fn new(text: &str) -> Self {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let masked = logging::masking::mask_text(line.trim());
        Self(masked.chars().take(Self::LONGEST).collect())
    }

    /// Of a server that was told an address, and may say it again in a form that can't be told from words.
    pub(crate) fn about(text: &str, to: &[Address]) -> Self {
        let mut text = text.to_owned();
        for address in to {
            let domain = format!("@{}", address.domain());
            let parts =
                [<Address as AsRef<str>>::as_ref(address), address.user().trim_matches('"'), domain.as_str()];
            for part in parts {
                text = without(&text, part);
            }
        }
        Self::new(&text)
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `text` with every `part` in it hidden that is no part of a longer word, in whatever case.
fn without(text: &str, part: &str) -> String {
    let (folded, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut clean, mut from) = (String::with_capacity(text.len()), 0);
    for (at, found) in folded.match_indices(&part).filter(|(_, found)| !found.is_empty()) {
        let end = at + found.len();
        if inside(folded[..at].chars().next_back()) || inside(folded[end..].chars().next()) {
            continue;
        }
        clean.push_str(&text[from..at]);
        clean.push_str("***");
        from = end;
    }
    clean.push_str(&text[from..]);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let name = |text: &str| Transport::parse(text, None).map(|transport| transport.name()).unwrap();
        assert_eq!(name("smtp://mail:1025"), "smtp://mail:1025");
        assert_eq!(name("smtp://mail"), "smtp://mail:587");
        assert_eq!(name("smtps://[::1]?"), "smtps://[::1]:465");
        assert_eq!(name("smtp://mail.example.com:25?tls=required"), "smtp://mail.example.com:25");
        assert_eq!(name("mock://"), "mock://");
        assert_eq!(name("mock://?latencyMs=5&failPerMillion=50000"), "mock://");
        for (text, why) in [
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
            let refused = Transport::parse(text, None).unwrap_err().to_string();
            assert!(refused.contains(why) && !refused.contains("secret"), "{text}: {refused}");
        }
    }

    #[test]
    fn words_hide_whom_they_are_about() {
        let to: Address = "Haneul.Kim@example.com".parse().unwrap();
        let about = |text: &str| Words::about(text, std::slice::from_ref(&to)).into_string();
        assert_eq!(about("550 5.1.1 <haneul.kim@EXAMPLE.com>: unknown"), "550 5.1.1 <***>: unknown");
        assert_eq!(about("550 no HANEUL.KIM here\r\n"), "550 no *** here");
        assert_eq!(about("550 try other@example.com"), "550 try o***@e***.com");
        assert_eq!(about("550 \"haneul.kim\"@example.com is busy"), "550 \"***\"*** is busy");
        assert_eq!(about("450 a\u{0}b"), "450 a b");
        assert_eq!(about(&"x".repeat(1000)).len(), Words::LONGEST);
        let short: Address = "a@example.com".parse().unwrap();
        assert_eq!(Words::about("450 a bad day", &[short]).into_string(), "450 *** bad day");
    }
}
