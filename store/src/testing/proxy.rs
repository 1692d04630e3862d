//! A TCP proxy in front of PostgreSQL, for tests: it can lose the answers to COMMITs, make
//! connections silent, and cut a connection at any message.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// Listens on a port of its own and passes everything on, except what the test asks it to lose.
pub struct DatabaseProxy {
    /// The database's address, through this proxy.
    pub url: SecretString,
    /// How many answers to COMMITs are lost by now.
    pub lost: Arc<AtomicU32>,
    silence: watch::Sender<()>,
    cut: Arc<Mutex<Option<(u32, Cut)>>>,
}

/// When a connection is closed at a message of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server does not get the message.
    Before,
    /// The server has begun to answer it.
    Answered,
}

/// What is done to the connections.
#[derive(Clone)]
struct Faults {
    lost: Arc<AtomicU32>,
    losses: u32,
    silence: watch::Receiver<()>,
    /// How many messages are passed on until the cut.
    cut: Arc<Mutex<Option<(u32, Cut)>>>,
}

impl DatabaseProxy {
    /// Closes the connection instead of answering each of the first `losses` COMMITs, once the
    /// server has committed.
    ///
    /// # Panics
    /// When the address has no host, or no port is free.
    pub async fn start(database: &SecretString, losses: u32) -> Self {
        let mut url = Url::parse(database.expose_secret()).expect("an address");
        let server = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        url.set_host(Some("127.0.0.1")).expect("an address with a host");
        let port = listener.local_addr().expect("a bound port").port();
        url.set_port(Some(port)).expect("an address with a port");
        url.query_pairs_mut().append_pair("sslmode", "disable");
        let lost = Arc::new(AtomicU32::new(0));
        let silence = watch::Sender::new(());
        let cut = Arc::new(Mutex::new(None));
        let faults =
            Faults { lost: Arc::clone(&lost), losses, silence: silence.subscribe(), cut: Arc::clone(&cut) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server can be reached");
                let mut faults = faults.clone();
                // Only connections that are open when the test asks for silence become silent.
                faults.silence.mark_unchanged();
                tokio::spawn(pass_on(client, server, faults));
            }
        });
        Self { url: SecretString::from(url.to_string()), lost, silence, cut }
    }

    /// Closes the connection at the client's message after the next `passed` ones, once.
    ///
    /// # Panics
    /// When a connection's task panicked.
    pub fn cut_after(&self, passed: u32, how: Cut) {
        *self.cut.lock().expect("no panic while it is locked") = Some((passed, how));
    }

    /// Cuts nothing any more. Returns whether the cut was still to come.
    ///
    /// # Panics
    /// When a connection's task panicked.
    #[must_use]
    pub fn clear_cut(&self) -> bool {
        self.cut.lock().expect("no panic while it is locked").take().is_some()
    }

    /// From now on the connections that are open pass nothing on, in either direction, and stay
    /// open: like those to a server that has disappeared. New connections work.
    pub fn silence_open_connections(&self) {
        self.silence.send_replace(());
    }
}

impl Faults {
    /// Counts a message of the client, and returns the cut if it is due.
    fn cut_now(&self) -> Option<Cut> {
        let mut cut = self.cut.lock().expect("no panic while it is locked");
        match &mut *cut {
            Some((0, _)) => cut.take().map(|(_, how)| how),
            Some((passed, _)) => {
                *passed -= 1;
                None
            }
            None => None,
        }
    }
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, mut faults: Faults) {
    let (mut to_server, mut to_client) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            biased;
            _ = faults.silence.changed() => {
                // Until the client closes it.
                while client.read(&mut to_server).await.is_ok_and(|length| length > 0) {}
                return;
            }
            read = client.read(&mut to_server) => {
                let Ok(length @ 1..) = read else { return };
                let cut = faults.cut_now();
                if cut == Some(Cut::Before) {
                    return;
                }
                server.write_all(&to_server[..length]).await.expect("the server takes it");
                if cut == Some(Cut::Answered) {
                    server.read_exact(&mut to_client[..1]).await.expect("the server answers");
                    return;
                }
                let commit = to_server[..length].windows(7).any(|bytes| bytes == b"COMMIT\0");
                if commit && faults.lost.load(Ordering::SeqCst) < faults.losses {
                    // The first byte of the answer says that the server has committed.
                    server.read_exact(&mut to_client[..1]).await.expect("the server answers");
                    faults.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            read = server.read(&mut to_client) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&to_client[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
