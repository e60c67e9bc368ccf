//! Connections: accepted, bounded in number and patience, and served with HTTP/1.1.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::answer::Reply;

/// Bytes of a request's head at most.
const MAX_HEAD: usize = 16 << 10;
/// Headers of a request at most.
const MAX_HEADERS: usize = 64;
/// How long a TLS handshake, and then a request's head, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// In all.
    pub(crate) connections: usize,
    /// Of one address.
    pub(crate) per_address: usize,
}

/// Serves until the future is dropped, and all connections with it.
pub(crate) async fn run<R>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    room: Room,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> R + Clone + Send + Sync + 'static,
) where
    R: Future<Output = Reply> + Send,
{
    let mut connections = JoinSet::new();
    let places = Places { room, taken: Arc::default() };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, from)) = accepted else {
            // Out of descriptors, or the peer was gone at once.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Too many: whoever comes last is turned away, without a word that it could wait for.
        let Some(place) = places.take(from.ip()) else { continue };
        let (tls, answer) = (tls.clone(), answer.clone());
        connections.spawn(async move {
            let answer = |request| answer(request, from);
            match tls {
                None => connection(stream, answer).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                        connection(stream, answer).await;
                    }
                }
            }
            drop(place);
        });
    }
}

async fn connection<R: Future<Output = Reply>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<Incoming>) -> R,
) {
    let moved = Arc::new(AtomicU64::new(0));
    let stream = TokioIo::new(Watched { stream, moved: Arc::clone(&moved) });
    let service = service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let mut served = std::pin::pin!(builder.serve_connection(stream, service));
    let mut seen = 0;
    // Ends with the client, with its mistake, or when nothing moves any more.
    while timeout(IDLE, served.as_mut()).await.is_err() {
        let now = moved.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// Places for connections, all and by address.
#[derive(Debug, Clone)]
struct Places {
    room: Room,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

struct Place(Places, IpAddr);

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let Room { connections, per_address } = self.room;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= connections || taken.get(&address).is_some_and(|n| *n >= per_address) {
            return None;
        }
        *taken.entry(address).or_default() += 1;
        Some(Place(self.clone(), address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

/// Counts the bytes that move on a connection.
struct Watched<S> {
    stream: S,
    moved: Arc<AtomicU64>,
}

impl<S> Watched<S> {
    fn count(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.count(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.count(*written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
