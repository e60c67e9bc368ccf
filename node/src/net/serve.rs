//! Answering a request for a part of a blob, from whatever part of it is held. See `fetch.rs` for the other side.

use std::{io, time::Duration};

use bao_tree::io::mixed::EncodedItem;
use burr_protocol::Hash;
use iroh_blobs::protocol::{ChunkRanges, GetRequest, RequestType};
use libp2p::{
    Stream,
    futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _},
};
use tokio::time::timeout;

use super::fetch::status;
use crate::store::blobs::{Blobs, chunks};

/// Bytes of a request at most: a hash and a few ranges.
const MAX_REQUEST: u64 = 1024;
/// How long a node may take to send its request, or take none of the answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes written at a time.
const BUFFER: usize = 256 << 10;

/// Reads one request and answers it. Anything but a request for a part of one blob is an error that ends the stream.
pub(crate) async fn serve(mut stream: Stream, blobs: &Blobs) -> io::Result<()> {
    let mut question = Vec::new();
    let mut asking = (&mut stream).take(MAX_REQUEST);
    timeout(PATIENCE, asking.read_to_end(&mut question)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let (hash, ranges) = decode(&question).ok_or(io::ErrorKind::InvalidData)?;
    let (size, held) = blobs.ranges(hash).await.map_err(io::Error::other)?;
    let wanted = ranges & chunks(0, size);
    if size == 0 || !held.is_superset(&wanted) {
        write(&mut stream, &[status::NOT_FOUND]).await?;
        return stream.close().await;
    }
    let mut answer = Vec::with_capacity(BUFFER + (64 << 10));
    answer.push(status::FOUND);
    let mut items = std::pin::pin!(blobs.store().export_bao(hash.0, wanted).stream());
    while let Some(item) = items.next().await {
        match item {
            EncodedItem::Size(size) => answer.extend_from_slice(&size.to_le_bytes()),
            EncodedItem::Parent(parent) => {
                answer.extend_from_slice(parent.pair.0.as_bytes());
                answer.extend_from_slice(parent.pair.1.as_bytes());
            }
            EncodedItem::Leaf(leaf) => answer.extend_from_slice(&leaf.data),
            EncodedItem::Done => break,
            // The file changed on disk, or it is gone: nothing false was sent, and the rest never comes.
            EncodedItem::Error(error) => {
                return Err(io::Error::other(format!("the blob {hash} can't be read: {error}")));
            }
        }
        if answer.len() >= BUFFER {
            write(&mut stream, &answer).await?;
            answer.clear();
        }
    }
    write(&mut stream, &answer).await?;
    timeout(PATIENCE, stream.close()).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn write(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match timeout(PATIENCE, stream.write(bytes)).await.map_err(|_| io::ErrorKind::TimedOut)?? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    timeout(PATIENCE, stream.flush()).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// The blob and the ranges that a request asks for; `None` if it asks for anything else.
fn decode(question: &[u8]) -> Option<(Hash, ChunkRanges)> {
    let (RequestType::Get, rest) = postcard::take_from_bytes(question).ok()? else { return None };
    let (get, rest) = postcard::take_from_bytes::<GetRequest>(rest).ok()?;
    if !rest.is_empty() || !get.ranges.is_blob() {
        return None;
    }
    let ranges = get.ranges.iter_infinite().next()?.clone();
    Some((Hash(*get.hash.as_bytes()), ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_of_one_blob_may_be_asked_for() {
        let hash = Hash::of(b"a blob");
        let question = |kind: RequestType, get: GetRequest| {
            [postcard::to_stdvec(&kind).unwrap(), postcard::to_stdvec(&get).unwrap()].concat()
        };
        let part = GetRequest::blob_ranges(hash.0.into(), chunks(0, 32 << 10));
        assert_eq!(decode(&question(RequestType::Get, part.clone())), Some((hash, chunks(0, 32 << 10))));
        assert_eq!(decode(&question(RequestType::Push, part.clone())), None);
        assert_eq!(decode(&question(RequestType::Observe, part.clone())), None);
        assert_eq!(decode(&question(RequestType::Get, GetRequest::all(iroh_blobs::Hash::from(hash.0)))), None);
        assert_eq!(decode(&[question(RequestType::Get, part), vec![0]].concat()), None);
        assert_eq!(decode(b""), None);
    }
}
