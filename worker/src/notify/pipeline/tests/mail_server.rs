//! A mail server on a real socket that does as each test tells it, step by step, and keeps what it was sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Where a conversation is, before the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Greeting,
    Ehlo,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// 354 is said, nothing of the content is read.
    Content,
    /// The dot is here, and the mail with it.
    End,
}

/// One step of one conversation.
pub(super) struct Step<'a> {
    pub(super) stage: Stage,
    /// Whom the mail is for, from RCPT on.
    pub(super) to: &'a str,
    /// How often this stage was reached before, for this recipient.
    pub(super) before: usize,
    /// Mails that this connection has brought.
    pub(super) mails: usize,
}

pub(super) enum Act {
    Go,
    Say(&'static str),
    Late(Duration),
    /// Never answers.
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
    offers: Vec<&'static str>,
    received: Vec<Received>,
    seen: HashMap<(Stage, String), usize>,
    /// What was said, without contents.
    heard: Vec<String>,
}

#[derive(Clone)]
pub(super) enum Security {
    None,
    Implicit(TlsAcceptor),
    Starttls(TlsAcceptor),
}

/// A server that lasts as long as this does.
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
            script: Arc::new(|_| Act::Go),
            offers: vec!["8BITMIME", "SMTPUTF8", "SIZE 10000000"],
            received: Vec::new(),
            seen: HashMap::new(),
            heard: Vec::new(),
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
                    let talk = Talk { state, greeted: false, secure: false };
                    let conversation = async {
                        match security {
                            Security::None => drop(talk.converse(accepted, false).await),
                            Security::Implicit(tls) => {
                                if let Ok(stream) = tls.accept(accepted).await {
                                    drop(talk.converse(stream, false).await);
                                }
                            }
                            Security::Starttls(tls) => {
                                let state = talk.state.clone();
                                if let Some(plain) = talk.converse(accepted, true).await
                                    && let Ok(stream) = tls.accept(plain).await
                                {
                                    let talk = Talk { state, greeted: true, secure: true };
                                    drop(talk.converse(stream, false).await);
                                }
                            }
                        }
                    };
                    tokio::select! {
                        () = running.cancelled() => {}
                        () = conversation => {}
                    }
                });
            }
        });
    }

    /// Closes the port and every connection.
    pub(super) fn go_away(&self) {
        self.running.lock().unwrap().cancel();
    }

    pub(super) async fn come_back(&self) {
        let address = format!("127.0.0.1:{}", self.port);
        for _ in 0..200 {
            if let Ok(listener) = TcpListener::bind(&address).await {
                return self.serve(listener);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{address} is not free again");
    }

    /// From the next step on.
    pub(super) fn play(&self, script: impl Fn(&Step<'_>) -> Act + Send + Sync + 'static) {
        self.state.lock().unwrap().script = Arc::new(script);
    }

    pub(super) fn offer(&self, offers: &[&'static str]) {
        self.state.lock().unwrap().offers = offers.to_vec();
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// How often a stage was reached, whoever the mail was for.
    pub(super) fn reached(&self, stage: Stage) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|((at, _), _)| *at == stage).map(|(_, n)| n).sum()
    }

    pub(super) fn heard(&self) -> Vec<String> {
        self.state.lock().unwrap().heard.clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.go_away();
    }
}

struct Talk {
    state: Arc<Mutex<State>>,
    greeted: bool,
    secure: bool,
}

/// The connection is to be closed.
struct Over;

impl Talk {
    /// Returns the stream when the client wants TLS on it.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, starttls: bool) -> Option<S> {
        let mut stream = BufReader::new(stream);
        let talked = self.talk(&mut stream, starttls).await;
        matches!(talked, Ok(true)).then(|| stream.into_inner())
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        starttls: bool,
    ) -> Result<bool, Over> {
        let (mut to, mut mails) = (String::new(), 0);
        if !self.greeted {
            self.answer(stream, Stage::Greeting, "", 0, "220 mail.test ready").await?;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.map_err(|_| Over)? == 0 {
                return Err(Over);
            }
            let line = line.trim_end();
            self.state.lock().unwrap().heard.push(format!("{}{line}", if self.secure { "TLS " } else { "" }));
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let mut offers: Vec<&str> = self.state.lock().unwrap().offers.clone();
                    if starttls {
                        offers.push("STARTTLS");
                    }
                    let last = offers.pop().unwrap_or("HELP");
                    let mut lines = vec!["250-mail.test".to_owned()];
                    lines.extend(offers.iter().map(|offer| format!("250-{offer}")));
                    lines.push(format!("250 {last}"));
                    self.answer(stream, Stage::Ehlo, "", mails, &lines.join("\r\n")).await?;
                }
                "STARTTLS" => {
                    say(stream, "220 go on").await?;
                    return Ok(true);
                }
                "AUTH" => drop(self.answer(stream, Stage::Auth, "", mails, "235 welcome").await?),
                "MAIL" => drop(self.answer(stream, Stage::Mail, "", mails, "250 ok").await?),
                "RCPT" => {
                    to = line.trim_start_matches("RCPT TO:<").split('>').next().unwrap().to_owned();
                    self.answer(stream, Stage::Rcpt, &to, mails, "250 ok").await?;
                }
                "DATA" => {
                    if self.answer(stream, Stage::Data, &to, mails, "354 go on").await? {
                        self.act(Stage::Content, &to, mails).await?;
                        let content = read_content(stream).await?;
                        let received = Received { to: to.clone(), content, at: Instant::now() };
                        // A mail that is refused now was not taken.
                        let taken = self.taken(received);
                        if self.answer(stream, Stage::End, &to, mails, "250 taken").await? {
                            mails += 1;
                        } else {
                            self.state.lock().unwrap().received.remove(taken);
                        }
                    }
                }
                "RSET" | "NOOP" => say(stream, "250 ok").await?,
                "QUIT" => {
                    say(stream, "221 bye").await?;
                    return Err(Over);
                }
                _ => say(stream, "502 what?").await?,
            }
        }
    }

    fn taken(&self, received: Received) -> usize {
        let mut state = self.state.lock().unwrap();
        state.received.push(received);
        state.received.len() - 1
    }

    /// True when the script lets the usual answer pass.
    async fn answer(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        stage: Stage,
        to: &str,
        mails: usize,
        usual: &str,
    ) -> Result<bool, Over> {
        let said = self.act(stage, to, mails).await?;
        say(stream, said.unwrap_or(usual)).await?;
        if said.is_some_and(|said| said.starts_with("421")) {
            return Err(Over);
        }
        Ok(said.is_none())
    }

    async fn act(&self, stage: Stage, to: &str, mails: usize) -> Result<Option<&'static str>, Over> {
        let act = {
            let mut state = self.state.lock().unwrap();
            let seen = state.seen.entry((stage, to.to_owned())).or_default();
            *seen += 1;
            let before = *seen - 1;
            let script = state.script.clone();
            script(&Step { stage, to, before, mails })
        };
        match act {
            Act::Go => Ok(None),
            Act::Say(words) => Ok(Some(words)),
            Act::Late(long) => {
                tokio::time::sleep(long).await;
                Ok(None)
            }
            Act::Hang => std::future::pending().await,
            Act::Drop => Err(Over),
        }
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), words: &str) -> Result<(), Over> {
    stream.write_all(format!("{words}\r\n").as_bytes()).await.map_err(|_| Over)?;
    stream.flush().await.map_err(|_| Over)
}

async fn read_content<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<String, Over> {
    let mut content = String::new();
    loop {
        let start = content.len();
        if stream.read_line(&mut content).await.map_err(|_| Over)? == 0 {
            return Err(Over);
        }
        if &content[start..] == ".\r\n" {
            content.truncate(start);
            return Ok(content);
        }
    }
}
