//! The sync streams: frames of encoded messages, each behind its length in four bytes, big-endian.
//!
//! Each side opens one stream to send on and takes one to receive from. A stream that fails takes its connection with
//! it: the agents say everything that matters again when they meet again.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use burr_protocol::wire::MAX_MESSAGE;
use libp2p::{
    Stream,
    futures::{
        AsyncRead, AsyncReadExt as _, AsyncWriteExt as _,
        io::{BufReader, BufWriter},
    },
    swarm::ConnectionId,
};
use tokio::{sync::mpsc, time::timeout};

use super::streams::{NotOpened, Opening};

/// Frames that wait to be sent to one node at most.
const MAX_QUEUED: usize = 1024;
/// Bytes that wait to be sent to one node at most.
const MAX_QUEUED_BYTES: usize = 4 * MAX_MESSAGE;
/// How long a node may take none of a frame before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node that does not sync may stay where it can be enrolled, which may be what it is here for.
pub(super) const ENROLLING: Duration = Duration::from_mins(1);
/// Bytes read or written at a time.
const BUFFER: usize = 64 << 10;

/// The queue of frames to one node.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// What the frames go over.
    pub connection: ConnectionId,
    frames: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// The other end of an [`Outbox`].
#[derive(Debug)]
pub(crate) struct Outgoing {
    frames: mpsc::Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// An empty queue.
    pub(super) fn new(connection: ConnectionId) -> (Self, Outgoing) {
        let (sender, frames) = mpsc::channel(MAX_QUEUED);
        let bytes = Arc::default();
        (Self { connection, frames: sender, bytes: Arc::clone(&bytes) }, Outgoing { frames, bytes })
    }

    /// Queues a frame; returns false if the node can't keep up, or the stream broke.
    pub(super) fn send(&self, frame: Vec<u8>) -> bool {
        let waiting = self.bytes.fetch_add(frame.len(), Ordering::Relaxed);
        waiting <= MAX_QUEUED_BYTES && self.frames.try_send(frame).is_ok()
    }
}

/// Sends what is queued until the queue is dropped. A node that does not sync may stay for `grace` nevertheless.
pub(crate) async fn send(opening: Opening, mut queue: Outgoing, grace: Duration) -> io::Result<()> {
    let stream = match timeout(PATIENCE, opening).await {
        Ok(Ok(Ok(stream))) => stream,
        Ok(Ok(Err(NotOpened::Unsupported))) => {
            tokio::time::sleep(grace).await;
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it does not sync"));
        }
        Ok(_) => return Err(io::ErrorKind::ConnectionReset.into()),
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let mut stream = BufWriter::with_capacity(BUFFER, stream);
    while let Some(frame) = queue.frames.recv().await {
        let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        patiently(stream.write_all(&length.to_be_bytes())).await?;
        for part in frame.chunks(BUFFER) {
            patiently(stream.write_all(part)).await?;
        }
        queue.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        if queue.frames.is_empty() {
            patiently(stream.flush()).await?;
        }
    }
    patiently(stream.close()).await
}

/// The frames of a stream that a node opened.
#[derive(Debug)]
pub(crate) struct Incoming<S>(BufReader<S>);

impl Incoming<Stream> {
    /// Reads from a stream.
    pub(super) fn new(stream: Stream) -> Self {
        Self(BufReader::with_capacity(BUFFER, stream))
    }
}

impl<S: AsyncRead + Unpin> Incoming<S> {
    /// The next frame; waits as long as it takes for one to begin. `None` when the other side closed the stream.
    ///
    /// # Errors
    /// The stream's own; [`io::ErrorKind::InvalidData`] for a frame over the limit, of which nothing is read.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        let first = self.0.read(&mut length).await?;
        if first == 0 {
            return Ok(None);
        }
        patiently(self.0.read_exact(&mut length[first..])).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        // Memory follows what arrives, not what is promised.
        let mut frame = Vec::new();
        while frame.len() < length {
            let start = frame.len();
            frame.resize(length.min(start + BUFFER), 0);
            patiently(self.0.read_exact(&mut frame[start..])).await?;
        }
        Ok(Some(frame))
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    fn incoming(bytes: &[u8]) -> Incoming<Cursor<Vec<u8>>> {
        Incoming(BufReader::new(Cursor::new(bytes.to_vec())))
    }

    #[tokio::test]
    async fn frames_come_out_whole_and_in_order() {
        let mut frames = incoming(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1, 9]);
        assert_eq!(frames.next().await.unwrap().unwrap(), [7, 8]);
        assert!(frames.next().await.unwrap().unwrap().is_empty());
        assert_eq!(frames.next().await.unwrap().unwrap(), [9]);
        assert_eq!(frames.next().await.unwrap(), None);
        assert_eq!(incoming(&[0, 0]).next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let length = u32::try_from(MAX_MESSAGE + 1).unwrap();
        let error = incoming(&length.to_be_bytes()).next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let cut_off = u32::try_from(MAX_MESSAGE).unwrap();
        let error = incoming(&cut_off.to_be_bytes()).next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
