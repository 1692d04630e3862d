//! A connection to the mail server that is reused for many emails, and for each email exactly what
//! is known of it. Until the dot that ends the content is completely written, the server cannot
//! have taken the email; from then on only the server's reply tells. Does not decide whether an
//! email is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{self, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Quit, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::{Response, Severity};
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::command_error::{CommandError, with_deadline};
use super::outcome::{ContentOutcome, EnvelopeOutcome};
use super::reply::ServerReply;
use super::server_address::{Credentials, Security, ServerAddress};
use super::write_tracking_stream::WriteTrackingStream;

const START_MAIL_INPUT: u16 = 354;
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection waits for the server before it sends a content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For connecting, TLS and login together.
    pub(crate) connect: Duration,
    /// For the reply to one command.
    pub(crate) command: Duration,
}

/// A connection to the mail server, opened when an email needs it.
pub(crate) struct SmtpConnection {
    server: Arc<ServerAddress>,
    client_id: ClientId,
    timeouts: Timeouts,
    open: Option<OpenConnection>,
}

struct OpenConnection {
    smtp: AsyncSmtpConnection,
    /// The server's limit for the size of an email, in bytes.
    max_size: Option<usize>,
    /// A write failed: what was being written did not get out completely.
    write_failed: Arc<AtomicBool>,
}

impl SmtpConnection {
    /// `client_name` is what the client calls itself, if it has the form of a host name.
    pub(crate) fn new(server: Arc<ServerAddress>, client_name: &str, timeouts: Timeouts) -> Self {
        Self { server, client_id: client_id(client_name), timeouts, open: None }
    }

    /// Sends MAIL and RCPT. The server may have closed a connection that was kept since the last
    /// email, so a first failure on such a connection leads to a new one.
    pub(crate) async fn send_envelope(&mut self, envelope: &Envelope, size: usize) -> EnvelopeOutcome {
        loop {
            let kept = self.open.is_some();
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.connect().await {
                    Ok(open) => open,
                    Err(error) => return EnvelopeOutcome::Unavailable(error),
                },
            };
            let parameters = match mail_parameters(&open, envelope, size) {
                Ok(parameters) => parameters,
                Err(reason) => {
                    self.open = Some(open);
                    return EnvelopeOutcome::Rejected(reason);
                }
            };
            let mail = Mail::new(envelope.from().cloned(), parameters);
            match self.command(&mut open, mail).await {
                Ok(_) => {}
                Err(_) if kept => continue,
                Err(error) => return EnvelopeOutcome::Unavailable(error.reply_to("MAIL", &[])),
            }
            for to in envelope.to() {
                if let Err(error) = self.command(&mut open, Rcpt::new(to.clone(), Vec::new())).await {
                    let reply = error.reply_to("RCPT", envelope.to());
                    if error.keeps_connection() {
                        self.reset(open).await;
                    }
                    return if error.is_permanent() {
                        EnvelopeOutcome::Rejected(reply)
                    } else {
                        EnvelopeOutcome::Deferred(reply)
                    };
                }
            }
            self.open = Some(open);
            return EnvelopeOutcome::Accepted;
        }
    }

    /// Sends DATA and the content, after an accepted envelope. Gives up at the deadline.
    pub(crate) async fn send_content(
        &mut self,
        envelope: &Envelope,
        content: &[u8],
        deadline: Instant,
    ) -> ContentOutcome {
        let to = envelope.to();
        let Some(mut open) = self.open.take() else {
            return ContentOutcome::Deferred(ServerReply::new("the connection is closed"));
        };
        let command_deadline = deadline.min(Instant::now() + self.timeouts.command);
        match with_deadline(command_deadline, open.smtp.command(Data)).await {
            Ok(response) if response.has_code(START_MAIL_INPUT) => {}
            Ok(response) => {
                let code = response.code();
                let reply = ServerReply::masking(&format!("DATA was answered with {code}"), to);
                return ContentOutcome::Deferred(reply);
            }
            Err(error) => {
                let reply = error.reply_to("DATA", to);
                if error.keeps_connection() {
                    self.reset(open).await;
                }
                return refused(&error, reply);
            }
        }
        // lettre writes the dot after the iterator's end, and not before.
        let mut content_written = false;
        let mut parts = Some(content).into_iter();
        let parts = std::iter::from_fn(|| {
            let part = parts.next();
            content_written = part.is_none();
            part
        });
        match with_deadline(deadline, open.smtp.message_iter(parts)).await {
            Ok(response) if response.code().severity == Severity::PositiveCompletion => {
                self.open = Some(open);
                ContentOutcome::Sent
            }
            Ok(response) => {
                let code = response.code();
                let reply = ServerReply::masking(&format!("the content was answered with {code}"), to);
                ContentOutcome::Unknown(reply)
            }
            Err(error) => {
                let reply = error.reply_to("the content", to);
                if error.keeps_connection() {
                    self.open = Some(open);
                    return refused(&error, reply);
                }
                let incomplete = !content_written || open.write_failed.load(Ordering::Relaxed);
                if error.has_reply() || incomplete {
                    ContentOutcome::Deferred(reply)
                } else {
                    ContentOutcome::Unknown(reply)
                }
            }
        }
    }

    /// Cancels an accepted envelope whose content is not sent.
    pub(crate) async fn cancel(&mut self) {
        if let Some(open) = self.open.take() {
            self.reset(open).await;
        }
    }

    /// Says QUIT, and closes the connection.
    pub(crate) async fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            // The connection closes even when the server does not answer.
            drop(timeout(QUIT_TIMEOUT, open.smtp.command(Quit)).await);
        }
    }

    /// Keeps the connection if the server forgets the envelope.
    async fn reset(&mut self, mut open: OpenConnection) {
        if self.command(&mut open, Rset).await.is_ok() {
            self.open = Some(open);
        }
    }

    async fn command(
        &self,
        open: &mut OpenConnection,
        command: impl std::fmt::Display,
    ) -> Result<Response, CommandError> {
        with_deadline(Instant::now() + self.timeouts.command, open.smtp.command(command)).await
    }

    async fn connect(&self) -> Result<OpenConnection, ServerReply> {
        let name = self.server.name();
        match timeout(self.timeouts.connect, self.connect_without_timeout()).await {
            Ok(Ok(open)) => Ok(open),
            Ok(Err(error)) => Err(ServerReply::new(&format!("{name}: {error}"))),
            Err(_) => {
                let seconds = self.timeouts.connect.as_secs();
                Err(ServerReply::new(&format!("{name}: no connection within {seconds} s")))
            }
        }
    }

    async fn connect_without_timeout(&self) -> Result<OpenConnection, String> {
        let server = &*self.server;
        let cannot = |what: &'static str| move |error: std::io::Error| format!("cannot {what}: {error}");
        let tcp = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(cannot("connect"))?;
        // A content and its dot are two writes: the second must not wait for the acknowledgement of
        // the first.
        tcp.set_nodelay(true).map_err(cannot("set up the connection"))?;
        let peer = tcp.peer_addr().map_err(cannot("set up the connection"))?;
        let mut write_failed = Arc::new(AtomicBool::new(false));
        let stream: Box<dyn AsyncTokioStream> = match &server.security {
            Security::ImplicitTls(config, name) => {
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name.clone(), tcp).await.map_err(cannot("agree on TLS"))?;
                Box::new(WriteTrackingStream::new(stream, peer, write_failed.clone()))
            }
            Security::Starttls { .. } | Security::None => {
                Box::new(WriteTrackingStream::new(tcp, peer, write_failed.clone()))
            }
        };
        let failed = |step: &'static str| {
            move |error: Error| format!("{step}: {}", CommandError::Smtp(error).text(&[]))
        };
        let mut smtp = AsyncSmtpConnection::connect_with_transport(stream, &self.client_id)
            .await
            .map_err(failed("the greeting"))?;
        if let Security::Starttls { tls, required } = &server.security {
            if smtp.can_starttls() {
                smtp.starttls(tls.clone(), &self.client_id).await.map_err(failed("STARTTLS"))?;
                // Below TLS, a failed write need not be one of the content.
                write_failed = Arc::default();
            } else if *required {
                return Err("the server offers no STARTTLS, which is required".to_owned());
            }
        }
        let extensions = smtp.command(Ehlo::new(self.client_id.clone())).await.map_err(failed("EHLO"))?;
        let max_size = max_size(&extensions);
        if let Some(Credentials { username, password }) = &server.credentials {
            let credentials =
                authentication::Credentials::new(username.clone(), password.expose_secret().to_owned());
            smtp.auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
                .await
                .map_err(failed("the login"))?;
        }
        Ok(OpenConnection { smtp, max_size, write_failed })
    }
}

/// The outcome of an email that the server certainly did not take.
fn refused(error: &CommandError, reply: ServerReply) -> ContentOutcome {
    if error.is_permanent() { ContentOutcome::Rejected(reply) } else { ContentOutcome::Deferred(reply) }
}

/// What the client calls itself. A pod's name has the form of a host name; anything else is left
/// out.
fn client_id(name: &str) -> ClientId {
    let host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    if !name.is_empty() && name.bytes().all(host) {
        ClientId::Domain(name.to_owned())
    } else {
        ClientId::default()
    }
}

/// The limit in a line such as `SIZE 10240000` of the reply to EHLO. 0 means no limit.
fn max_size(extensions: &Response) -> Option<usize> {
    let size = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case("SIZE"))?;
        words.next()?.parse().ok()
    };
    extensions.message().find_map(size).filter(|size| *size > 0)
}

/// The parameters of MAIL for an email, or why this server cannot take it.
fn mail_parameters(
    open: &OpenConnection,
    envelope: &Envelope,
    size: usize,
) -> Result<Vec<MailParameter>, ServerReply> {
    if let Some(max_size) = open.max_size.filter(|max_size| size > *max_size) {
        return Err(ServerReply::new(&format!(
            "the email has {size} bytes, and the server takes {max_size}"
        )));
    }
    let supports = |extension| open.smtp.server_info().supports_feature(extension);
    let mut parameters = Vec::new();
    let ascii = |address: &Address| <Address as AsRef<str>>::as_ref(address).is_ascii();
    if !envelope.from().into_iter().chain(envelope.to()).all(ascii) {
        if !supports(Extension::SmtpUtfEight) {
            return Err(ServerReply::new(
                "the address is not ASCII, and the server does not support it: it has no SMTPUTF8",
            ));
        }
        parameters.push(MailParameter::SmtpUtfEight);
        // The address is in the header as well.
        if supports(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
    }
    Ok(parameters)
}
