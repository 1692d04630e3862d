//! A stream that records whether a write on it failed: what was being written then did not leave
//! this machine completely.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that sets `write_failed` when a write or flush fails.
#[derive(Debug)]
pub(super) struct WriteTrackingStream<S> {
    stream: S,
    peer: SocketAddr,
    write_failed: Arc<AtomicBool>,
}

impl<S> WriteTrackingStream<S> {
    pub(super) fn new(stream: S, peer: SocketAddr, write_failed: Arc<AtomicBool>) -> Self {
        Self { stream, peer, write_failed }
    }

    fn track<T>(&self, written: io::Result<T>) -> Poll<io::Result<T>> {
        if written.is_err() {
            self.write_failed.store(true, Ordering::Relaxed);
        }
        Poll::Ready(written)
    }
}

impl<S> AsyncTokioStream for WriteTrackingStream<S>
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug,
{
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTrackingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTrackingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.track(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.track(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
