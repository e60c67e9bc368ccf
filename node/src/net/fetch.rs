//! Asking one provider for parts of blobs: requests behind each other on one stream, answers in the same order.
//!
//! A question is its length in two bytes, big-endian, and an iroh-blobs get request. The provider answers with one byte of
//! [`status`], and then, if it has what was asked, in iroh-blobs' encoding: the blob's size, and hashes and chunk groups
//! in the order of the tree. Each is verified before it goes to the store. The next question does not wait for the answer
//! to the one before, so no round trip is lost between parts, or between small blobs.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    num::NonZeroU64,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bao_tree::{
    BaoTree,
    io::{
        BaoContentItem, DecodeError,
        fsm::{ResponseDecoder, ResponseDecoderNext},
    },
};
use burr_protocol::{
    Hash,
    action::FetchFailure,
    fetch::{GROUP, Request, RequestId, piece_size},
};
use iroh_blobs::{
    api::blobs::ImportBaoHandle,
    protocol::{GetRequest, RequestType},
    store::IROH_BLOCK_SIZE,
};
use iroh_io::AsyncStreamReader;
use libp2p::{
    Stream,
    bytes::{Bytes, BytesMut},
    futures::{
        AsyncReadExt as _, AsyncWriteExt as _,
        future::poll_immediate,
        io::{ReadHalf, WriteHalf},
    },
};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use super::streams::{NotOpened, Opening};
use crate::store::blobs::{Blobs, OpenFiles, chunks};

/// What a provider says first.
pub(crate) mod status {
    /// The answer follows.
    pub(crate) const FOUND: u8 = 1;
    /// The provider does not hold all of what was asked.
    pub(crate) const NOT_FOUND: u8 = 2;
}

/// How long a provider may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes read from a stream at a time.
const BUFFER: usize = 64 << 10;
/// Verified parts that wait for the disk.
const WAITING: usize = 64;
/// Bytes after which a piece is told of, however fast more come.
const TOLD: u64 = 1 << 20;

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Pieces, or the rest of one, of so many bytes in all were stored.
    Stored(u64),
    /// It is over.
    Ended(Result<(), FetchFailure>),
}

/// Asks for everything that comes from `requests`, and tells of each what becomes of it, until there are no more or the
/// stream fails; then everything that was asked for has failed, and nothing more is taken.
pub(crate) async fn ask<P: Future<Output = ()> + Send>(
    mut requests: mpsc::UnboundedReceiver<Request>,
    opening: Opening,
    blobs: Blobs,
    tell: impl Fn(RequestId, Progress) -> P,
) {
    let stream = match timeout(PATIENCE, opening).await {
        Ok(Ok(Ok(stream))) => Ok(stream),
        Ok(Ok(Err(NotOpened::Unsupported))) => Err(FetchFailure::Refused),
        Ok(Ok(Err(NotOpened::Lost)) | Err(_)) => Err(FetchFailure::Lost),
        Err(_) => Err(FetchFailure::TimedOut),
    };
    let asked = Asked::default();
    let why = match stream {
        Ok(stream) => {
            let (read, write) = stream.split();
            let source = Source { stream: read, part: vec![0; BUFFER].into(), buffer: BytesMut::new() };
            tokio::select! {
                why = questions(&mut requests, write, &asked) => why,
                why = answers(&asked, source, &blobs, &tell) => why,
            }
        }
        Err(why) => why,
    };
    requests.close();
    // The first one failed so; those behind it are lost with the stream.
    let mut why = Some(why);
    while let Some(request) = asked.take() {
        tell(request.id, Progress::Ended(Err(why.take().unwrap_or(FetchFailure::Lost)))).await;
    }
    while let Some(request) = requests.recv().await {
        tell(request.id, Progress::Ended(Err(why.take().unwrap_or(FetchFailure::Lost)))).await;
    }
}

/// The requests whose answers are awaited, first asked first. The agent bounds them.
#[derive(Debug, Default)]
struct Asked {
    requests: Mutex<VecDeque<Request>>,
    more: Notify,
}

impl Asked {
    fn add(&self, request: Request) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        self.more.notify_one();
    }

    fn first(&self) -> Option<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).front().copied()
    }

    fn take(&self) -> Option<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Puts questions on the stream as they come. Ends when there are no more, or the stream fails.
async fn questions(
    requests: &mut mpsc::UnboundedReceiver<Request>,
    mut stream: WriteHalf<Stream>,
    asked: &Asked,
) -> FetchFailure {
    while let Some(request) = requests.recv().await {
        let question = question(&request);
        asked.add(request);
        let sent = async {
            stream.write_all(&question).await?;
            // Questions that wait already go in the same packet.
            if requests.is_empty() { stream.flush().await } else { Ok(()) }
        };
        match timeout(PATIENCE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return lost(&error),
            Err(_) => return FetchFailure::TimedOut,
        }
    }
    FetchFailure::Lost
}

/// Reads the answers, in the order of the questions, until one fails in a way that leaves no next one to be read.
async fn answers<P: Future<Output = ()> + Send>(
    asked: &Asked,
    mut source: Source,
    blobs: &Blobs,
    tell: &impl Fn(RequestId, Progress) -> P,
) -> FetchFailure {
    let mut noted = BTreeSet::new();
    let mut open: Option<OpenFiles> = None;
    loop {
        let Some(request) = asked.first() else {
            open = None;
            asked.more.notified().await;
            continue;
        };
        if open.as_ref().is_none_or(|open| open.hash != request.blob) {
            match blobs.open_files(request.blob).await {
                Ok(files) => open = Some(files),
                Err(error) => return store(error),
            }
        }
        let result = match answer(&request, source, blobs, &mut noted, tell).await {
            Ok((next, result)) => {
                source = next;
                result
            }
            Err(why) => return why,
        };
        asked.take();
        tell(request.id, Progress::Ended(result)).await;
    }
}

/// Reads one answer.
async fn answer<P: Future<Output = ()> + Send>(
    request: &Request,
    mut source: Source,
    blobs: &Blobs,
    noted: &mut BTreeSet<Hash>,
    tell: &impl Fn(RequestId, Progress) -> P,
) -> Result<(Source, Result<(), FetchFailure>), FetchFailure> {
    match source.read_exact::<1>().await {
        Ok([status::FOUND]) => {}
        Ok([status::NOT_FOUND]) => return Ok((source, Err(FetchFailure::NotFound))),
        Ok(_) => return Err(FetchFailure::Corrupt),
        // Closed without a word: the provider is busy.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(FetchFailure::Refused),
        Err(error) => return Err(lost(&error)),
    }
    let size = u64::from_le_bytes(source.read_exact().await.map_err(|error| lost(&error))?);
    if size != request.size {
        return Err(FetchFailure::Corrupt);
    }
    // The empty blob is not asked for.
    let size = NonZeroU64::new(size).ok_or(FetchFailure::Corrupt)?;
    blobs.keep(request.blob).await.map_err(store)?;
    let piece = piece_size(request.size);
    let tree = BaoTree::new(size.get(), IROH_BLOCK_SIZE);
    let mut decoder = ResponseDecoder::new(request.blob.0.into(), chunks(request.start, request.end), tree, source);
    let mut import: Option<ImportBaoHandle> = None;
    let (mut bytes, mut at) = (0, request.start);
    let source = loop {
        let mut next = pin!(decoder.next());
        let ready = poll_immediate(&mut next).await;
        // A piece is passed on from the store, so it is told of as soon as it is there. To end an import costs about as
        // much as a piece, so pieces that come faster than the store takes them share one.
        if (ready.is_none() || bytes >= TOLD)
            && at.is_multiple_of(piece)
            && let Some(import) = import.take()
        {
            end(import, request, blobs, noted).await?;
            tell(request.id, Progress::Stored(std::mem::take(&mut bytes))).await;
        }
        let next = match ready {
            Some(next) => next,
            None => next.await,
        };
        let item = match next {
            ResponseDecoderNext::Done(source) => break Ok(source),
            ResponseDecoderNext::More((next, item)) => {
                decoder = next;
                match item {
                    Ok(item) => item,
                    Err(error) => break Err(not_decoded(&error)),
                }
            }
        };
        if let BaoContentItem::Leaf(leaf) = &item {
            bytes += leaf.data.len() as u64;
            at = leaf.offset + leaf.data.len() as u64;
        }
        let handle = match &import {
            Some(handle) => handle,
            None => import.insert(blobs.store().import_bao(request.blob.0, size, WAITING).await.map_err(store)?),
        };
        handle.tx.send(item).await.map_err(store)?;
    };
    // What came before an answer broke off is kept, and told.
    if let Some(import) = import {
        end(import, request, blobs, noted).await?;
        tell(request.id, Progress::Stored(bytes)).await;
    }
    Ok((source?, Ok(())))
}

/// Waits until everything of an import is in the store. That its blob exists is certain to be on its way to the database
/// only then.
async fn end(
    import: ImportBaoHandle,
    request: &Request,
    blobs: &Blobs,
    noted: &mut BTreeSet<Hash>,
) -> Result<(), FetchFailure> {
    drop(import.tx);
    import.rx.await.map_err(store)?.map_err(store)?;
    let (_, held) = blobs.ranges(request.blob).await.map_err(store)?;
    // From the first piece on, a kill does not forget the blob; a whole one outlives a loss of power.
    if noted.insert(request.blob) || held.is_superset(&chunks(0, request.size)) {
        blobs.sync(request.blob).await.map_err(store)?;
    }
    Ok(())
}

/// The bytes of a question.
fn question(request: &Request) -> Vec<u8> {
    assert!(request.start <= request.end && request.end <= request.size, "a request lies within its blob");
    assert!(
        request.start.is_multiple_of(GROUP) && (request.end.is_multiple_of(GROUP) || request.end == request.size),
        "a request is made of whole chunk groups"
    );
    let get = GetRequest::blob_ranges(request.blob.0.into(), chunks(request.start, request.end));
    let mut bytes = vec![0; 2];
    bytes.extend(postcard::to_stdvec(&RequestType::Get).expect("a plain enum"));
    bytes.extend(postcard::to_stdvec(&get).expect("a hash and a few numbers"));
    let length = u16::try_from(bytes.len() - 2).expect("a hash and two numbers");
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn not_decoded(error: &DecodeError) -> FetchFailure {
    match error {
        DecodeError::ParentHashMismatch(_) | DecodeError::LeafHashMismatch(_) => FetchFailure::Corrupt,
        DecodeError::Io(error) => lost(error),
        DecodeError::ParentNotFound(_) | DecodeError::LeafNotFound(_) => FetchFailure::Lost,
    }
}

fn lost(error: &io::Error) -> FetchFailure {
    if error.kind() == io::ErrorKind::TimedOut { FetchFailure::TimedOut } else { FetchFailure::Lost }
}

fn store(error: impl std::fmt::Display) -> FetchFailure {
    tracing::warn!("the blob store failed during a fetch: {error}");
    FetchFailure::Store
}

/// The answer's bytes, read in large parts.
#[derive(Debug)]
struct Source {
    stream: ReadHalf<Stream>,
    part: Box<[u8]>,
    buffer: BytesMut,
}

impl Source {
    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            let read = timeout(PATIENCE, self.stream.read(&mut self.part));
            match read.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.buffer.extend_from_slice(&self.part[..read]),
            }
        }
        Ok(())
    }
}

impl AsyncStreamReader for Source {
    async fn read_bytes(&mut self, length: usize) -> io::Result<Bytes> {
        self.fill(length).await?;
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn read<const L: usize>(&mut self) -> io::Result<[u8; L]> {
        self.fill(L).await?;
        Ok(self.buffer.split_to(L).as_ref().try_into().expect("split at that length"))
    }
}
