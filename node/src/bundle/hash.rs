//! Hashing files, on all cores and on the way from one place to another.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use burr_protocol::Hash;
use rustix::fs::{Mode, OFlags};

/// Bytes read at a time.
pub(super) const CHUNK: usize = 256 << 10;
/// Reading ahead hides the disk; more threads than this only fight over it.
const MAX_THREADS: usize = 8;

/// Opens a file for reading: not through a link, and without waiting for a writer where a pipe was put in its place.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Passes all of `from`, but at most `limit` bytes and one, on to `to`; returns how many and their hash.
pub(super) fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    limit: u64,
    buffer: &mut Vec<u8>,
) -> Result<(u64, Hash), CopyError> {
    buffer.resize(CHUNK, 0);
    let mut hasher = blake3::Hasher::new();
    let mut copied = 0_u64;
    while copied <= limit {
        let most = usize::try_from(limit - copied).unwrap_or(CHUNK).saturating_add(1).min(CHUNK);
        let read = match from.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        copied += read as u64;
    }
    Ok((copied, Hash(*hasher.finalize().as_bytes())))
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Does `work` for each item on all cores and returns the results in the order of the items, or the first error.
pub(super) fn on_all_cores<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T, &mut Vec<u8>) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(items.len().max(1));
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Mutex<Vec<(usize, Result<R, E>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        let mut buffer = Vec::with_capacity(CHUNK);
        let mut mine = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            let result = work(item, &mut buffer);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            mine.push((at, result));
        }
        results.lock().expect("no thread panics while it holds the results").extend(mine);
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results.into_inner().expect("no thread panics while it holds the results");
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}
