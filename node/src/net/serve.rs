//! Answering questions for parts of blobs, from whatever part of it is held. See `fetch.rs` for the other side.

use std::{io, time::Duration};

use bao_tree::io::mixed::EncodedItem;
use burr_protocol::Hash;
use iroh_blobs::protocol::{ChunkRanges, GetRequest, RequestType};
use libp2p::{
    Stream,
    futures::{
        AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _,
        io::{BufReader, ReadHalf, WriteHalf},
    },
};
use tokio::time::timeout;

use super::{driver::Asking, fetch::status};
use crate::store::blobs::{Blobs, OpenFiles, chunks};

/// Bytes of a question at most: a hash and a few ranges.
const MAX_QUESTION: usize = 1024;
/// How long a node may take to finish a question that it began, or take none of an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes written at a time.
const BUFFER: usize = 64 << 10;

/// Answers the questions of one stream in their order until the node closes it. Anything but a question for a part of
/// one blob is an error that ends the stream. Each answer waits for its turn; where there is none, the stream ends
/// without a word, and what was asked is asked of another.
pub(crate) async fn serve(stream: Stream, blobs: &Blobs, turns: &Asking) -> io::Result<()> {
    let (read, mut to) = stream.split();
    let mut read = BufReader::with_capacity(MAX_QUESTION, read);
    let mut open: Option<OpenFiles> = None;
    loop {
        // Whoever asks no more for now keeps no file open.
        if read.buffer().is_empty() {
            open = None;
        }
        let Some(question) = next(&mut read).await? else { break };
        let (hash, ranges) = decode(&question).ok_or(io::ErrorKind::InvalidData)?;
        if open.as_ref().is_none_or(|open| open.hash != hash) {
            open = Some(blobs.open_files(hash).await.map_err(io::Error::other)?);
        }
        let (size, held) = blobs.ranges(hash).await.map_err(io::Error::other)?;
        let wanted = ranges & chunks(0, size);
        if size == 0 || !held.is_superset(&wanted) {
            write(&mut to, &[status::NOT_FOUND]).await?;
            continue;
        }
        let Some(turn) = turns.turn(hash, bytes_of(&wanted, size)).await else { break };
        let mut sent = 0;
        let answered = answer(&mut to, blobs, hash, wanted, &mut sent).await;
        turns.over(turn, sent).await;
        answered?;
    }
    timeout(PATIENCE, to.close()).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// The next question's bytes; waits as long as it takes for one to begin. `None` at the end of the stream.
async fn next(read: &mut BufReader<ReadHalf<Stream>>) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    let first = read.read(&mut length).await?;
    if first == 0 {
        return Ok(None);
    }
    let rest = async {
        read.read_exact(&mut length[first..]).await?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_QUESTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut question = vec![0; length];
        read.read_exact(&mut question).await?;
        Ok(question)
    };
    timeout(PATIENCE, rest).await.map_err(|_| io::ErrorKind::TimedOut)?.map(Some)
}

/// Bytes of a blob of this size in ranges of its chunks.
fn bytes_of(ranges: &ChunkRanges, size: u64) -> u64 {
    let ends = ranges.boundaries().chunks(2);
    ends.map(|ends| ends.get(1).map_or(size, |end| end.to_bytes().min(size)) - ends[0].to_bytes().min(size)).sum()
}

/// Sends what is held, and counts what went of the blob.
async fn answer(
    stream: &mut WriteHalf<Stream>,
    blobs: &Blobs,
    hash: Hash,
    wanted: ChunkRanges,
    sent: &mut u64,
) -> io::Result<()> {
    let mut answer = Vec::with_capacity(BUFFER + (32 << 10));
    answer.push(status::FOUND);
    let mut items = std::pin::pin!(blobs.store().export_bao(hash.0, wanted).stream());
    while let Some(item) = items.next().await {
        match item {
            EncodedItem::Size(size) => answer.extend_from_slice(&size.to_le_bytes()),
            EncodedItem::Parent(parent) => {
                answer.extend_from_slice(parent.pair.0.as_bytes());
                answer.extend_from_slice(parent.pair.1.as_bytes());
            }
            EncodedItem::Leaf(leaf) => {
                answer.extend_from_slice(&leaf.data);
                *sent += leaf.data.len() as u64;
            }
            EncodedItem::Done => break,
            // The file changed on disk, or it is gone: nothing false was sent, and the rest never comes.
            EncodedItem::Error(error) => {
                return Err(io::Error::other(format!("the blob {hash} can't be read: {error}")));
            }
        }
        if answer.len() >= BUFFER {
            write(stream, &answer).await?;
            answer.clear();
        }
    }
    write(stream, &answer).await
}

async fn write(stream: &mut WriteHalf<Stream>, mut bytes: &[u8]) -> io::Result<()> {
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
