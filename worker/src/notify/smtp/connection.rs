//! `smtp://` and `smtps://`: one connection kept over many mails, and for each mail exactly what is known of it. Until the
//! dot that ends a mail's content is completely written, the server can't have taken it; from then on only the server's
//! answer tells. Decides nothing about trying again.
//!
//! Passwords go over TLS only, unless the address says `tls=none`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{self, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Quit, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::write_tracking_stream::Wire;
use crate::notify::transport::{Credentials, Delivery, Offer, TransportError, Words};

/// Closing well: it takes too.
const SERVICE_NOT_AVAILABLE: u16 = 421;
const START_OF_CONTENT: u16 = 354;
/// What a good-bye may take.
const TO_QUIT: Duration = Duration::from_secs(2);

/// How long a line waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a connection with everything up to its login.
    pub(crate) connect: Duration,
    /// For the answer to a command before the hand-over.
    pub(crate) command: Duration,
}

/// A server, and how it is spoken to.
pub(crate) struct Server {
    scheme: &'static str,
    host: String,
    port: u16,
    security: Security,
    login: Option<Credentials>,
}

enum Security {
    /// TLS from the first byte.
    Implicit(Arc<ClientConfig>, ServerName<'static>),
    /// STARTTLS where it is offered, or always.
    Starttls {
        tls: TlsParameters,
        required: bool,
    },
    None,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.name()).finish()
    }
}

impl Server {
    pub(crate) fn parse(url: &Url, login: Option<Credentials>) -> Result<Self, TransportError> {
        let wrong = |why: &str| TransportError::Address(why.to_owned());
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("empty host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let implicit = url.scheme() == "smtps";
        let (mut tls, mut certificates) = (None, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "tls" if !implicit => tls = Some(value.into_owned()),
                "caFile" => certificates = Some(value.into_owned()),
                other => return Err(wrong(&format!("{other} is unknown, or not for {}://", url.scheme()))),
            }
        }
        let roots = Roots::read(certificates)?;
        let starttls = |required| {
            Ok::<_, TransportError>(Security::Starttls { tls: roots.for_starttls(&host)?, required })
        };
        let security = match tls.as_deref() {
            None if implicit => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| wrong("its host can't be in a certificate"))?;
                Security::Implicit(Arc::new(roots.for_tls()?), name)
            }
            // A password never goes where it can be read, nor where somebody took the offer of TLS away.
            None | Some("opportunistic") => starttls(login.is_some())?,
            Some("required") => starttls(true)?,
            Some("none") => Security::None,
            Some(_) => return Err(wrong("tls is one of required, opportunistic, none")),
        };
        let (scheme, port) = if implicit { ("smtps", 465) } else { ("smtp", 587) };
        Ok(Self { scheme, host, port: url.port().unwrap_or(port), security, login })
    }

    pub(crate) fn name(&self) -> String {
        let Self { scheme, host, port, .. } = self;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }
}

/// Whom a server's certificate may come from: the public authorities, and those of a file.
struct Roots {
    path: String,
    pem: Option<Vec<u8>>,
}

impl Roots {
    fn read(path: Option<String>) -> Result<Self, TransportError> {
        let pem = path.as_ref().map(std::fs::read).transpose();
        let path = path.clone().unwrap_or_default();
        match pem {
            Ok(pem) => Ok(Self { path, pem }),
            Err(source) => Err(TransportError::Certificates { path, source }),
        }
    }

    fn unusable(&self, reason: impl ToString) -> TransportError {
        TransportError::CertificateForm { path: self.path.clone(), reason: reason.to_string() }
    }

    fn for_starttls(&self, host: &str) -> Result<TlsParameters, TransportError> {
        let mut tls =
            TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
        if let Some(pem) = &self.pem {
            tls = tls.add_root_certificate(Certificate::from_pem(pem).map_err(|error| self.unusable(error))?);
        }
        tls.build_rustls().map_err(|error| self.unusable(error))
    }

    fn for_tls(&self) -> Result<ClientConfig, TransportError> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(self.pem.as_deref().unwrap_or_default()) {
            let certificate = certificate.map_err(|error| self.unusable(error))?;
            roots.add(certificate).map_err(|error| self.unusable(error))?;
        }
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| self.unusable(error))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// A connection that speaks SMTP, opened when it is needed.
pub(crate) struct Line {
    server: Arc<Server>,
    hello: ClientId,
    patience: Patience,
    open: Option<Open>,
}

struct Open {
    smtp: AsyncSmtpConnection,
    /// The largest mail that the server takes, where it says so.
    largest: Option<usize>,
    /// A write failed: what was being written did not get out completely.
    cut: Arc<AtomicBool>,
}

impl Line {
    pub(crate) fn new(server: Arc<Server>, hello: &str, patience: Patience) -> Self {
        Self { server, hello: client_id(hello), patience, open: None }
    }

    /// MAIL and RCPT. A connection that was kept may have been closed at the other end, so that the first trouble with
    /// one is answered with another one.
    pub(crate) async fn offer(&mut self, envelope: &Envelope, size: usize) -> Offer {
        loop {
            let kept = self.open.is_some();
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.connect().await {
                    Ok(open) => open,
                    Err(words) => return Offer::Down(words),
                },
            };
            let parameters = match parameters(&open, envelope, size) {
                Ok(parameters) => parameters,
                Err(words) => {
                    self.open = Some(open);
                    return Offer::Refused(words);
                }
            };
            let mail = Mail::new(envelope.from().cloned(), parameters);
            match self.command(&mut open, mail).await {
                Ok(_) => {}
                Err(_) if kept => continue,
                Err(trouble) => return Offer::Down(trouble.words("MAIL", &[])),
            }
            for to in envelope.to() {
                if let Err(trouble) = self.command(&mut open, Rcpt::new(to.clone(), Vec::new())).await {
                    let words = trouble.words("RCPT", envelope.to());
                    let refused = trouble.is_permanent();
                    if trouble.leaves_a_connection() {
                        self.reset(open).await;
                    }
                    return if refused { Offer::Refused(words) } else { Offer::PutOff(words) };
                }
            }
            self.open = Some(open);
            return Offer::Accepted;
        }
    }

    /// DATA and the content, after an accepted offer. Whatever is not over by the deadline is broken off.
    pub(crate) async fn hand_over(
        &mut self,
        envelope: &Envelope,
        content: &[u8],
        deadline: Instant,
    ) -> Delivery {
        let to = envelope.to();
        let Some(mut open) = self.open.take() else {
            return Delivery::PutOff(Words::new("there is no connection any more"));
        };
        let by = deadline.min(Instant::now() + self.patience.command);
        match within(by, open.smtp.command(Data)).await {
            Ok(response) if response.has_code(START_OF_CONTENT) => {}
            Ok(response) => {
                let code = response.code();
                return Delivery::PutOff(Words::about(&format!("DATA was answered with {code}"), to));
            }
            Err(trouble) => {
                let words = trouble.words("DATA", to);
                let refused = trouble.is_permanent();
                if trouble.leaves_a_connection() {
                    self.reset(open).await;
                }
                return if refused { Delivery::Refused(words) } else { Delivery::PutOff(words) };
            }
        }
        // The dot is written when the parts have come to their end, and not before.
        let mut dot_begun = false;
        let mut parts = Some(content).into_iter();
        let parts = std::iter::from_fn(|| {
            let part = parts.next();
            dot_begun = part.is_none();
            part
        });
        match within(deadline, open.smtp.message_iter(parts)).await {
            Ok(response) if response.code().severity == Severity::PositiveCompletion => {
                self.open = Some(open);
                Delivery::Sent
            }
            Ok(response) => {
                let code = response.code();
                Delivery::Unknown(Words::about(&format!("the content was answered with {code}"), to))
            }
            Err(trouble) => {
                let words = trouble.words("the content", to);
                if trouble.leaves_a_connection() {
                    self.open = Some(open);
                    return if trouble.is_permanent() {
                        Delivery::Refused(words)
                    } else {
                        Delivery::PutOff(words)
                    };
                }
                match trouble {
                    Trouble::Smtp(error) if error.status().is_some() => Delivery::PutOff(words),
                    _ if !dot_begun || open.cut.load(Ordering::Relaxed) => Delivery::PutOff(words),
                    _ => Delivery::Unknown(words),
                }
            }
        }
    }

    /// After an accepted offer that is not followed by a hand-over.
    pub(crate) async fn withdraw(&mut self) {
        if let Some(open) = self.open.take() {
            self.reset(open).await;
        }
    }

    pub(crate) async fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            // It is only polite.
            drop(timeout(TO_QUIT, open.smtp.command(Quit)).await);
        }
    }

    /// Keeps the connection if the server takes what was begun on it back.
    async fn reset(&mut self, mut open: Open) {
        if self.command(&mut open, Rset).await.is_ok() {
            self.open = Some(open);
        }
    }

    async fn command(&self, open: &mut Open, command: impl std::fmt::Display) -> Result<Response, Trouble> {
        within(Instant::now() + self.patience.command, open.smtp.command(command)).await
    }

    async fn connect(&self) -> Result<Open, Words> {
        let name = self.server.name();
        match timeout(self.patience.connect, self.connect_at_leisure()).await {
            Ok(Ok(open)) => Ok(open),
            Ok(Err(why)) => Err(Words::new(&format!("{name}: {why}"))),
            Err(_) => {
                let seconds = self.patience.connect.as_secs();
                Err(Words::new(&format!("{name}: no connection within {seconds} s")))
            }
        }
    }

    async fn connect_at_leisure(&self) -> Result<Open, String> {
        let server = &*self.server;
        let cannot = |what: &'static str| move |error: std::io::Error| format!("cannot {what}: {error}");
        let tcp = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(cannot("connect"))?;
        // A mail's content and its dot are two writes: the second must not wait for the first one's acknowledgement.
        tcp.set_nodelay(true).map_err(cannot("set up the connection"))?;
        let peer = tcp.peer_addr().map_err(cannot("set up the connection"))?;
        let mut cut = Arc::new(AtomicBool::new(false));
        let stream: Box<dyn AsyncTokioStream> = match &server.security {
            Security::Implicit(config, name) => {
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name.clone(), tcp).await.map_err(cannot("agree on TLS"))?;
                Box::new(Wire::new(stream, peer, cut.clone()))
            }
            Security::Starttls { .. } | Security::None => Box::new(Wire::new(tcp, peer, cut.clone())),
        };
        let refused = |what: &'static str| {
            move |error: Error| format!("{what}: {}", Trouble::Smtp(error).words_of_server(&[]))
        };
        let mut smtp = AsyncSmtpConnection::connect_with_transport(stream, &self.hello)
            .await
            .map_err(refused("the greeting"))?;
        if let Security::Starttls { tls, required } = &server.security {
            if smtp.can_starttls() {
                smtp.starttls(tls.clone(), &self.hello).await.map_err(refused("STARTTLS"))?;
                // From below TLS a failed write may be another one than the mail's.
                cut = Arc::default();
            } else if *required {
                return Err("the server offers no STARTTLS, without which nothing is sent to it".to_owned());
            }
        }
        let largest = smtp.command(Ehlo::new(self.hello.clone())).await.map_err(refused("EHLO"))?;
        let largest = largest_of(&largest);
        if let Some(Credentials { username, password }) = &server.login {
            let login =
                authentication::Credentials::new(username.clone(), password.expose_secret().to_owned());
            smtp.auth(&[Mechanism::Plain, Mechanism::Login], &login).await.map_err(refused("the login"))?;
        }
        Ok(Open { smtp, largest, cut })
    }
}

/// What a server is told of who calls. Only a name in the form of a host's is one.
fn client_id(name: &str) -> ClientId {
    let host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if !name.is_empty() && name.bytes().all(host) {
        ClientId::Domain(name.to_owned())
    } else {
        ClientId::default()
    }
}

/// `SIZE 10240000` among what the server offers; 0 is no limit.
fn largest_of(offers: &Response) -> Option<usize> {
    let size = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case("SIZE"))?;
        words.next()?.parse().ok()
    };
    offers.message().find_map(size).filter(|largest| *largest > 0)
}

/// What MAIL has to say of a mail, or why this server can't take it.
fn parameters(open: &Open, envelope: &Envelope, size: usize) -> Result<Vec<MailParameter>, Words> {
    if let Some(largest) = open.largest.filter(|largest| size > *largest) {
        return Err(Words::new(&format!("the mail has {size} bytes, and the server takes {largest}")));
    }
    let offers = |extension| open.smtp.server_info().supports_feature(extension);
    let mut parameters = Vec::new();
    let plain = |address: &Address| <Address as AsRef<str>>::as_ref(address).is_ascii();
    if !envelope.from().into_iter().chain(envelope.to()).all(plain) {
        if !offers(Extension::SmtpUtfEight) {
            return Err(Words::new(
                "the address has letters that the server can't handle: it has no SMTPUTF8",
            ));
        }
        parameters.push(MailParameter::SmtpUtfEight);
        // Such an address stands in the header as well.
        if offers(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
    }
    Ok(parameters)
}

/// Why a command did not do.
enum Trouble {
    Smtp(Error),
    TimedOut,
}

impl Trouble {
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Smtp(error) if error.is_permanent())
    }

    /// The server answered, and goes on listening.
    fn leaves_a_connection(&self) -> bool {
        match self {
            Self::Smtp(error) => error.status().is_some_and(|code| u16::from(code) != SERVICE_NOT_AVAILABLE),
            Self::TimedOut => false,
        }
    }

    fn words(&self, of: &str, to: &[Address]) -> Words {
        match self {
            Self::Smtp(error) if error.status().is_some() => Words::about(&self.words_of_server(to), to),
            Self::Smtp(_) => {
                Words::about(&format!("the connection broke off at {of}: {}", self.words_of_server(to)), to)
            }
            Self::TimedOut => Words::new(&format!("no answer to {of} in time")),
        }
    }

    fn words_of_server(&self, to: &[Address]) -> String {
        let text = match self {
            Self::Smtp(error) => {
                let text =
                    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
                error.status().map_or_else(|| text.clone(), |code| format!("{code} {text}"))
            }
            Self::TimedOut => "no answer in time".to_owned(),
        };
        Words::about(&text, to).into_string()
    }
}

async fn within<T>(by: Instant, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match timeout_at(by, answer).await {
        Ok(answer) => answer.map_err(Trouble::Smtp),
        Err(_) => Err(Trouble::TimedOut),
    }
}
