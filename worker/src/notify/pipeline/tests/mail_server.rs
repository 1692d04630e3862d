//! A mail server on a real socket, whose reply at each step a test decides. Keeps the emails that
//! it receives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A step of an SMTP session, before the server replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Greeting,
    Ehlo,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// After the reply 354, before the content is read.
    Content,
    /// After the dot that ends the content.
    End,
}

/// One step of one session.
pub(super) struct Step<'a> {
    pub(super) stage: Stage,
    /// The recipient, from RCPT on.
    pub(super) to: &'a str,
    /// How often this stage was reached before, for this recipient.
    pub(super) before: usize,
    /// Emails that came over this connection before.
    pub(super) emails: usize,
}

/// What the server does at a step.
pub(super) enum Act {
    /// The usual reply.
    Accept,
    Reply(&'static str),
    /// The usual reply, after a delay.
    Delay(Duration),
    /// No reply.
    Hang,
    /// Closes the connection.
    Drop,
}

type Script = Arc<dyn Fn(&Step<'_>) -> Act + Send + Sync>;

#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) to: String,
    pub(super) content: String,
    pub(super) at: Instant,
}

impl Received {
    /// `2026-10.42.1`, of `<2026-10.42.1@example.com>`.
    pub(super) fn bill(&self) -> &str {
        let id = self.content.lines().find_map(|line| line.strip_prefix("Message-ID: <")).unwrap();
        id.split('@').next().unwrap()
    }
}

struct State {
    script: Script,
    extensions: Vec<&'static str>,
    received: Vec<Received>,
    seen: HashMap<(Stage, String), usize>,
    /// The lines that clients sent, without contents.
    commands: Vec<String>,
}

#[derive(Clone)]
pub(super) enum Security {
    None,
    Implicit(TlsAcceptor),
    Starttls(TlsAcceptor),
}

/// A server that runs until it is dropped.
pub(super) struct MailServer {
    pub(super) port: u16,
    state: Arc<Mutex<State>>,
    security: Security,
    running: Mutex<CancellationToken>,
}

impl MailServer {
    pub(super) async fn start() -> Self {
        Self::with(Security::None).await
    }

    pub(super) async fn with(security: Security) -> Self {
        let state = State {
            script: Arc::new(|_| Act::Accept),
            extensions: vec!["8BITMIME", "SMTPUTF8", "SIZE 10000000"],
            received: Vec::new(),
            seen: HashMap::new(),
            commands: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, state, security, running: Mutex::default() };
        server.serve(listener);
        server
    }

    fn serve(&self, listener: TcpListener) {
        let (state, security) = (self.state.clone(), self.security.clone());
        let running = CancellationToken::new();
        *self.running.lock().unwrap() = running.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = running.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                accepted.set_nodelay(true).unwrap();
                let (state, security, running) = (state.clone(), security.clone(), running.clone());
                tokio::spawn(async move {
                    let session = Session { state, greeted: false, secure: false };
                    let running_session = async {
                        match security {
                            Security::None => drop(session.run_session(accepted, false).await),
                            Security::Implicit(tls) => {
                                if let Ok(stream) = tls.accept(accepted).await {
                                    drop(session.run_session(stream, false).await);
                                }
                            }
                            Security::Starttls(tls) => {
                                let state = session.state.clone();
                                if let Some(plain) = session.run_session(accepted, true).await
                                    && let Ok(stream) = tls.accept(plain).await
                                {
                                    let session = Session { state, greeted: true, secure: true };
                                    drop(session.run_session(stream, false).await);
                                }
                            }
                        }
                    };
                    tokio::select! {
                        () = running.cancelled() => {}
                        () = running_session => {}
                    }
                });
            }
        });
    }

    /// Closes the port and every connection.
    pub(super) fn shut_down(&self) {
        self.running.lock().unwrap().cancel();
    }

    pub(super) async fn restart(&self) {
        let address = format!("127.0.0.1:{}", self.port);
        for _ in 0..200 {
            if let Ok(listener) = TcpListener::bind(&address).await {
                return self.serve(listener);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{address} is still in use");
    }

    /// Sets what the server does from the next step on.
    pub(super) fn script(&self, script: impl Fn(&Step<'_>) -> Act + Send + Sync + 'static) {
        self.state.lock().unwrap().script = Arc::new(script);
    }

    pub(super) fn set_extensions(&self, extensions: &[&'static str]) {
        self.state.lock().unwrap().extensions = extensions.to_vec();
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// How often a stage was reached, for all recipients.
    pub(super) fn times_reached(&self, stage: Stage) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|((at, _), _)| *at == stage).map(|(_, n)| n).sum()
    }

    pub(super) fn commands(&self) -> Vec<String> {
        self.state.lock().unwrap().commands.clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

struct Session {
    state: Arc<Mutex<State>>,
    greeted: bool,
    secure: bool,
}

/// The connection is to be closed.
struct Closed;

impl Session {
    /// Returns the stream when the client wants TLS on it.
    async fn run_session<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, starttls: bool) -> Option<S> {
        let mut stream = BufReader::new(stream);
        let result = self.run_commands(&mut stream, starttls).await;
        matches!(result, Ok(true)).then(|| stream.into_inner())
    }

    async fn run_commands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        starttls: bool,
    ) -> Result<bool, Closed> {
        let (mut to, mut emails) = (String::new(), 0);
        if !self.greeted {
            self.reply(stream, Stage::Greeting, "", 0, "220 mail.test ready").await?;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.map_err(|_| Closed)? == 0 {
                return Err(Closed);
            }
            let line = line.trim_end();
            self.state
                .lock()
                .unwrap()
                .commands
                .push(format!("{}{line}", if self.secure { "TLS " } else { "" }));
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let mut extensions: Vec<&str> = self.state.lock().unwrap().extensions.clone();
                    if starttls {
                        extensions.push("STARTTLS");
                    }
                    let last = extensions.pop().unwrap_or("HELP");
                    let mut lines = vec!["250-mail.test".to_owned()];
                    lines.extend(extensions.iter().map(|extension| format!("250-{extension}")));
                    lines.push(format!("250 {last}"));
                    self.reply(stream, Stage::Ehlo, "", emails, &lines.join("\r\n")).await?;
                }
                "STARTTLS" => {
                    write_line(stream, "220 go on").await?;
                    return Ok(true);
                }
                "AUTH" => drop(self.reply(stream, Stage::Auth, "", emails, "235 welcome").await?),
                "MAIL" => drop(self.reply(stream, Stage::Mail, "", emails, "250 ok").await?),
                "RCPT" => {
                    to = line.trim_start_matches("RCPT TO:<").split('>').next().unwrap().to_owned();
                    self.reply(stream, Stage::Rcpt, &to, emails, "250 ok").await?;
                }
                "DATA" => {
                    if self.reply(stream, Stage::Data, &to, emails, "354 go on").await? {
                        self.act(Stage::Content, &to, emails).await?;
                        let content = read_content(stream).await?;
                        let received = Received { to: to.clone(), content, at: Instant::now() };
                        // An email that is rejected now was not received.
                        let index = self.keep(received);
                        if self.reply(stream, Stage::End, &to, emails, "250 received").await? {
                            emails += 1;
                        } else {
                            self.state.lock().unwrap().received.remove(index);
                        }
                    }
                }
                "RSET" | "NOOP" => write_line(stream, "250 ok").await?,
                "QUIT" => {
                    write_line(stream, "221 bye").await?;
                    return Err(Closed);
                }
                _ => write_line(stream, "502 what?").await?,
            }
        }
    }

    fn keep(&self, received: Received) -> usize {
        let mut state = self.state.lock().unwrap();
        state.received.push(received);
        state.received.len() - 1
    }

    /// Replies as the script says. True if that is the usual reply.
    async fn reply(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        stage: Stage,
        to: &str,
        emails: usize,
        usual: &str,
    ) -> Result<bool, Closed> {
        let scripted = self.act(stage, to, emails).await?;
        write_line(stream, scripted.unwrap_or(usual)).await?;
        if scripted.is_some_and(|reply| reply.starts_with("421")) {
            return Err(Closed);
        }
        Ok(scripted.is_none())
    }

    async fn act(&self, stage: Stage, to: &str, emails: usize) -> Result<Option<&'static str>, Closed> {
        let act = {
            let mut state = self.state.lock().unwrap();
            let seen = state.seen.entry((stage, to.to_owned())).or_default();
            *seen += 1;
            let before = *seen - 1;
            let script = state.script.clone();
            script(&Step { stage, to, before, emails })
        };
        match act {
            Act::Accept => Ok(None),
            Act::Reply(reply) => Ok(Some(reply)),
            Act::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Ok(None)
            }
            Act::Hang => std::future::pending().await,
            Act::Drop => Err(Closed),
        }
    }
}

async fn write_line(stream: &mut (impl AsyncWrite + Unpin), line: &str) -> Result<(), Closed> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.map_err(|_| Closed)?;
    stream.flush().await.map_err(|_| Closed)
}

async fn read_content<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<String, Closed> {
    let mut content = String::new();
    loop {
        let start = content.len();
        if stream.read_line(&mut content).await.map_err(|_| Closed)? == 0 {
            return Err(Closed);
        }
        if &content[start..] == ".\r\n" {
            content.truncate(start);
            return Ok(content);
        }
    }
}
