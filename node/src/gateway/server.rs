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
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Request, StatusCode, body::Incoming, header, header::HeaderValue, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Shared, Transport,
    answer::{Reply, failure},
};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 4096;
/// Connections of one address at a time; a proxy has as many as there are.
const MAX_PER_ADDRESS: usize = 64;
/// Bytes of a request's head at most.
const MAX_HEAD: usize = 16 << 10;
/// Headers of a request at most.
const MAX_HEADERS: usize = 64;
/// How long a TLS handshake, and then a request's head, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Serves until the future is dropped, and all connections with it.
pub(super) async fn run(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let places = Places::default();
    let per_address = if shared.settings.transport == Transport::Proxy { MAX_CONNECTIONS } else { MAX_PER_ADDRESS };
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
        let Some(place) = places.take(from.ip(), per_address) else { continue };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => connection(stream, from, shared).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                        connection(stream, from, shared).await;
                    }
                }
            }
            drop(place);
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, from: SocketAddr, shared: Arc<Shared>) {
    let moved = Arc::new(AtomicU64::new(0));
    let stream = TokioIo::new(Watched { stream, moved: Arc::clone(&moved) });
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(request_of(request, from, &shared).await) }
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

async fn request_of(request: Request<Incoming>, from: SocketAddr, shared: &Shared) -> Reply {
    let address = match shared.settings.transport {
        Transport::Proxy => forwarded_for(request.headers()).unwrap_or(from.ip()),
        Transport::Tls { .. } | Transport::Plain => from.ip(),
    };
    match shared.flood.take(address, Instant::now()) {
        Ok(()) => shared.answer(request).await,
        Err(seconds) => {
            let message = "too many requests from this address";
            let mut reply = failure(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            reply
        }
    }
}

/// Whom a proxy forwards for: what it added itself stands last.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// Places for connections, all and by address.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Place(Places, IpAddr);

impl Places {
    fn take(&self, address: IpAddr, per_address: usize) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= MAX_CONNECTIONS || taken.get(&address).is_some_and(|n| *n >= per_address) {
            return None;
        }
        *taken.entry(address).or_default() += 1;
        Some(Place(self.clone(), address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
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
