//! A proxy before PostgreSQL that lets a COMMIT through and loses its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Listens on a port of its own, passes everything on, and closes the connection in place of answering the first
/// `losses` COMMITs, once the server has carried them out.
pub(crate) struct LossyProxy {
    pub(crate) port: u16,
    pub(crate) lost: Arc<AtomicU32>,
}

impl LossyProxy {
    pub(crate) async fn before(server: String, losses: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lost = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&lost);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass_on(client, server, Arc::clone(&count), losses));
            }
        });
        Self { port, lost }
    }
}

async fn pass_on(mut client: TcpStream, mut server: TcpStream, lost: Arc<AtomicU32>, losses: u32) {
    let (mut to_server, mut to_client) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut to_server) => {
                let Ok(length @ 1..) = read else { return };
                server.write_all(&to_server[..length]).await.unwrap();
                let commit = to_server[..length].windows(7).any(|bytes| bytes == b"COMMIT\0");
                if commit && lost.load(Ordering::SeqCst) < losses {
                    // The first byte of the answer says that the server has committed.
                    server.read_exact(&mut to_client[..1]).await.unwrap();
                    lost.fetch_add(1, Ordering::SeqCst);
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
