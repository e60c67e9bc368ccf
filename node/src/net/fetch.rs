//! Asking one provider for a part of a blob: iroh-blobs' get request over a stream of ours.
//!
//! The provider answers with one byte of [`status`], and then, if it has what was asked, in iroh-blobs' encoding: the
//! blob's size, and hashes and chunk groups in the order of the tree. Each is verified before it goes to the store.

use std::{
    io,
    num::NonZeroU64,
    time::{Duration, Instant},
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
    fetch::{GROUP, Request},
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
    futures::{AsyncReadExt as _, AsyncWriteExt as _},
};
use tokio::time::timeout;

use super::streams::{NotOpened, Opening};
use crate::store::blobs::{Blobs, chunks};

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
const BUFFER: usize = 128 << 10;
/// Verified parts that wait for the disk.
const WAITING: usize = 64;
/// Progress is told after so many bytes, or after this time.
const REPORT_BYTES: u64 = 256 << 10;
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Carries out a request; `progress` is told how many verified bytes came since it was told last.
pub(crate) async fn fetch<P: Future<Output = ()> + Send>(
    request: Request,
    opening: Opening,
    blobs: Blobs,
    progress: impl Fn(u64) -> P,
) -> Result<(), FetchFailure> {
    assert!(request.start <= request.end && request.end <= request.size, "a request lies within its blob");
    assert!(
        request.start.is_multiple_of(GROUP) && (request.end.is_multiple_of(GROUP) || request.end == request.size),
        "a request is made of whole chunk groups"
    );
    let Some(size) = NonZeroU64::new(request.size) else {
        // Every store has the empty blob, and there is no other of that size.
        return if request.blob == Hash::of(b"") { Ok(()) } else { Err(FetchFailure::NotFound) };
    };
    let new = blobs.ranges(request.blob).await.map_err(store)?.0 == 0;
    blobs.keep(request.blob).await.map_err(store)?;
    let mut source = ask(&request, opening).await?;
    match source.read_exact::<1>().await {
        Ok([status::FOUND]) => {}
        Ok([status::NOT_FOUND]) => return Err(FetchFailure::NotFound),
        Ok(_) => return Err(FetchFailure::Corrupt),
        // Closed without a word: the provider is busy.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(FetchFailure::Refused),
        Err(error) => return Err(lost(&error)),
    }
    if u64::from_le_bytes(source.read_exact().await.map_err(|error| lost(&error))?) != size.get() {
        return Err(FetchFailure::Corrupt);
    }
    let begin = || async { blobs.store().import_bao(request.blob.0, size, WAITING).await.map_err(store) };
    let mut import = begin().await?;
    let mut decoder = ResponseDecoder::new(
        request.blob.0.into(),
        chunks(request.start, request.end),
        BaoTree::new(size.get(), IROH_BLOCK_SIZE),
        source,
    );
    let (mut untold, mut told, mut noted) = (0, Instant::now(), !new);
    loop {
        let item = match decoder.next().await {
            ResponseDecoderNext::Done(_) => break,
            ResponseDecoderNext::More((next, item)) => {
                decoder = next;
                item.map_err(|error| match error {
                    DecodeError::ParentHashMismatch(_) | DecodeError::LeafHashMismatch(_) => FetchFailure::Corrupt,
                    DecodeError::Io(error) => lost(&error),
                    DecodeError::ParentNotFound(_) | DecodeError::LeafNotFound(_) => FetchFailure::Lost,
                })?
            }
        };
        if let BaoContentItem::Leaf(leaf) = &item {
            untold += leaf.data.len() as u64;
        }
        import.tx.send(item).await.map_err(store)?;
        if untold >= REPORT_BYTES || (untold > 0 && told.elapsed() >= REPORT_INTERVAL) {
            if !noted {
                // From here on, a kill does not forget the blob. That it exists is certain to be on its way to the
                // database only when an import has ended; while one runs, all that was sent to it may wait still.
                let first = std::mem::replace(&mut import, begin().await?);
                end(first).await?;
                blobs.sync(request.blob).await.map_err(store)?;
                noted = true;
            }
            progress(std::mem::take(&mut untold)).await;
            told = Instant::now();
        }
    }
    end(import).await?;
    let (_, held) = blobs.ranges(request.blob).await.map_err(store)?;
    if !noted || held.is_superset(&chunks(0, request.size)) {
        blobs.sync(request.blob).await.map_err(store)?;
    }
    if untold > 0 {
        progress(untold).await;
    }
    Ok(())
}

/// Waits until all that was sent to an import is written.
async fn end(import: ImportBaoHandle) -> Result<(), FetchFailure> {
    drop(import.tx);
    import.rx.await.map_err(store)?.map_err(store)
}

/// Opens the stream and sends the request.
async fn ask(request: &Request, opening: Opening) -> Result<Source, FetchFailure> {
    let mut stream = match timeout(PATIENCE, opening).await.map_err(|_| FetchFailure::TimedOut)? {
        Ok(Ok(stream)) => stream,
        Ok(Err(NotOpened::Unsupported)) => return Err(FetchFailure::Refused),
        Ok(Err(NotOpened::Lost)) | Err(_) => return Err(FetchFailure::Lost),
    };
    let ranges = chunks(request.start, request.end);
    let get = GetRequest::blob_ranges(request.blob.0.into(), ranges);
    let question = encode(&get);
    let sent = async {
        stream.write_all(&question).await?;
        stream.close().await
    };
    match timeout(PATIENCE, sent).await {
        Ok(Ok(())) => Ok(Source { stream, part: vec![0; BUFFER].into(), buffer: BytesMut::new() }),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(FetchFailure::TimedOut),
    }
}

/// The bytes of a get request, as iroh-blobs puts them on a stream.
fn encode(get: &GetRequest) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(&RequestType::Get).expect("a plain enum");
    bytes.extend(postcard::to_stdvec(get).expect("a hash and a few numbers"));
    bytes
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
    stream: Stream,
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
