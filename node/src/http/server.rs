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
/// A connection on which less than [`Room::least`] moves for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// In all.
    pub(crate) connections: usize,
    /// Of one address; an IPv6 host has a whole /64.
    pub(crate) per_address: usize,
    /// Bytes that must move on each in a minute, both ways together: who takes an answer drop by drop holds a place.
    pub(crate) least: u64,
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
        let Some(place) = places.take(network(from.ip())) else { continue };
        let (tls, answer) = (tls.clone(), answer.clone());
        connections.spawn(async move {
            let answer = |request| answer(request, from);
            match tls {
                None => connection(stream, room.least, answer).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                        connection(stream, room.least, answer).await;
                    }
                }
            }
            drop(place);
        });
    }
}

async fn connection<R: Future<Output = Reply>>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    least: u64,
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
    // Ends with the client, with its mistake, or when next to nothing moves any more.
    while timeout(IDLE, served.as_mut()).await.is_err() {
        let now = moved.load(Ordering::Relaxed);
        if now - seen < least {
            return;
        }
        seen = now;
    }
}

/// What counts as one address: an IPv6 host has a whole /64 to itself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
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
        let Room { connections, per_address, .. } = self.room;
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

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::http::answer::{fresh, json};

    #[test]
    fn a_host_with_many_ipv6_addresses_has_the_places_of_one() {
        let places = Places { room: Room { connections: 9, per_address: 2, least: 1 }, taken: Arc::default() };
        let at = |text: &str| network(text.parse().unwrap());
        let held: Vec<_> =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].iter().filter_map(|it| places.take(at(it))).collect();
        assert_eq!(held.len(), 2);
        assert!(places.take(at("2001:db8:0:1::1")).is_some() && places.take(at("10.0.0.1")).is_some());
        drop(held);
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_drop_by_drop_is_let_go_and_who_asks_now_and_then_is_not() {
        let (mut dripping, stream) = duplex(256);
        let answer = |_| async { fresh(vec![b'x'; 1 << 20].into(), "text/plain") };
        let served = tokio::spawn(connection(stream, 1024, answer));
        dripping.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let begun = tokio::time::Instant::now();
        while !served.is_finished() {
            let mut drop = [0; 32];
            let _ = dripping.read(&mut drop).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(begun.elapsed() < 4 * IDLE, "it goes on and on");
        }

        let (mut asking, stream) = duplex(64 << 10);
        let served = tokio::spawn(connection(stream, 128, |_| async { json(StatusCode::OK, &"well") }));
        for _ in 0..20 {
            asking.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 1024];
            assert!(asking.read(&mut answer).await.unwrap() > 0);
            tokio::time::sleep(IDLE / 10).await;
        }
        assert!(!served.is_finished());
    }
}
