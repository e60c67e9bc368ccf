//! Unpacking: a payload becomes a slot directory that holds exactly the bundle that was asked for.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use burr_protocol::{
    Hash,
    action::StageFailure,
    manifest::{Content, HEAD, MAX_MANIFEST, MAX_WINDOW_LOG, Manifest},
    seal::{self, ReleaseKey},
};

use super::{
    MANIFEST, SEALED, TREE,
    hash::{self, CopyError},
    sealed::{self, OpenedReader},
};
use crate::error::is_no_space;

/// Unpacks a payload into the new slot directory `into`, private to this user until all of it is there and right.
///
/// The bundle must be `bundle` and have exactly so many `files` (links count) and `bytes`. When this returns all of it
/// is on disk, synced.
///
/// # Errors
/// [`StageFailure::Bad`] if the payload is not exactly that bundle, [`StageFailure::NoSpace`], or
/// [`StageFailure::Other`] for a payload that can't be read or a disk that can't be written. Then `into` is gone.
pub fn unpack(payload: impl Read, into: &Path, bundle: Hash, files: u64, bytes: u64) -> Result<(), StageFailure> {
    make_slot(into)?;
    clean_up(into, Unpacker::new(payload, into).and_then(|unpacker| unpacker.run(bundle, files, bytes, None)))
}

/// As [`unpack`], of a payload of `size` sealed bytes that this key opens. The slot gets a mark of its manifest besides,
/// since its own name is that of the sealed one.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_sealed(
    payload: impl Read,
    size: u64,
    key: &ReleaseKey,
    into: &Path,
    bundle: Hash,
    files: u64,
    bytes: u64,
) -> Result<(), StageFailure> {
    let payload = OpenedReader::new(payload, key, size).map_err(bad)?;
    make_slot(into)?;
    clean_up(into, Unpacker::new(payload, into).and_then(|unpacker| unpacker.run(bundle, files, bytes, Some(key))))
}

fn make_slot(into: &Path) -> Result<(), StageFailure> {
    fs::DirBuilder::new().mode(0o700).create(into).map_err(|error| disk("create", into, &error))
}

fn clean_up(into: &Path, result: Result<(), StageFailure>) -> Result<(), StageFailure> {
    if result.is_err() {
        // What can't be removed now is cleaned up as a leftover later.
        let _ = fs::remove_dir_all(into);
    }
    result
}

fn bad(what: impl std::fmt::Display) -> StageFailure {
    StageFailure::Bad(format!("the payload is not the bundle that was released: {what}"))
}

fn disk(what: &str, path: &Path, error: &io::Error) -> StageFailure {
    let words = format!("cannot {what} {}: {error}", path.display());
    if is_no_space(error) { StageFailure::NoSpace(words) } else { StageFailure::Other(words) }
}

/// Passes reads on and remembers a failure: zstd does not tell it from bad data.
struct Watched<R> {
    reader: R,
    failed: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.reader.read(buffer);
        self.failed |= result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        result
    }
}

struct Unpacker<'a, R: Read> {
    frame: zstd::Decoder<'static, BufReader<Watched<R>>>,
    into: &'a Path,
    buffer: Vec<u8>,
}

impl<'a, R: Read> Unpacker<'a, R> {
    fn new(payload: R, into: &'a Path) -> Result<Self, StageFailure> {
        let payload = BufReader::with_capacity(hash::CHUNK, Watched { reader: payload, failed: false });
        let frame = zstd::Decoder::with_buffer(payload).and_then(|mut frame| {
            frame.window_log_max(MAX_WINDOW_LOG)?;
            Ok(frame.single_frame())
        });
        let frame = frame.map_err(|error| StageFailure::Other(format!("cannot start zstd: {error}")))?;
        Ok(Self { frame, into, buffer: Vec::new() })
    }

    fn run(mut self, bundle: Hash, files: u64, bytes: u64, key: Option<&ReleaseKey>) -> Result<(), StageFailure> {
        let encoded = self.read_manifest(files)?;
        if key.map_or_else(|| Hash::of(&encoded), |key| seal::bundle_name(key, &encoded)) != bundle {
            return Err(bad("its manifest is another one"));
        }
        let manifest = Manifest::decode_within(&encoded, files, bytes).map_err(bad)?;
        let tree = self.into.join(TREE);
        let mut directories = vec![tree.clone()];
        make_directory(&tree)?;
        self.write_files(&manifest, &tree, &mut directories)?;
        self.expect_end()?;
        // Last, so that no file is ever written through a link.
        for entry in manifest.entries() {
            if let Content::Link { target } = &entry.content {
                let at = tree.join(&entry.path);
                make_parents(&tree, &entry.path, &mut directories)?;
                symlink(target, &at).map_err(|error| disk("create", &at, &error))?;
            }
        }
        let at = self.into.join(MANIFEST);
        write_new(&at, 0o644, |file| file.write_all(&encoded)).map_err(|error| disk("write", &at, &error))?;
        if key.is_some() {
            let (at, mark) = (self.into.join(SEALED), Hash::of(&encoded).to_string());
            write_new(&at, 0o644, |file| file.write_all(mark.as_bytes()))
                .map_err(|error| disk("write", &at, &error))?;
        }
        directories.push(self.into.to_owned());
        let open_up = fs::set_permissions(self.into, Permissions::from_mode(0o755));
        open_up.map_err(|error| disk("open up", self.into, &error))?;
        sync(self.into, &manifest, &directories).map_err(|error| disk("write", self.into, &error))
    }

    fn read_manifest(&mut self, files: u64) -> Result<Vec<u8>, StageFailure> {
        let mut length = [0; 4];
        self.frame.read_exact(&mut length).map_err(|error| self.unreadable(&error))?;
        let length = u64::from(u32::from_be_bytes(length));
        if length > MAX_MANIFEST as u64 {
            return Err(bad(format!("it declares a manifest of {length} bytes, the limit is {MAX_MANIFEST}")));
        }
        let mut head = [0; HEAD];
        self.frame.read_exact(&mut head).map_err(|error| self.unreadable(&error))?;
        Manifest::check_head(&head, files).map_err(bad)?;
        let mut encoded = head.to_vec();
        let rest = length.saturating_sub(HEAD as u64);
        (&mut self.frame).take(rest).read_to_end(&mut encoded).map_err(|error| self.unreadable(&error))?;
        if encoded.len() as u64 == length { Ok(encoded) } else { Err(bad("it ends within its manifest")) }
    }

    fn write_files(
        &mut self,
        manifest: &Manifest,
        tree: &Path,
        directories: &mut Vec<PathBuf>,
    ) -> Result<(), StageFailure> {
        for entry in manifest.entries() {
            let Content::File { size, executable, hash } = entry.content else { continue };
            make_parents(tree, &entry.path, directories)?;
            let at = tree.join(&entry.path);
            let mode = if executable { 0o755 } else { 0o644 };
            let mut outcome = Ok((0, hash));
            let (frame, buffer) = (&mut self.frame, &mut self.buffer);
            let opened = write_new(&at, mode, |file| {
                // `copy` reads one byte past a limit, which belongs to the next file here.
                outcome = hash::copy(&mut frame.take(size), file, size, buffer);
                Ok(())
            });
            opened.map_err(|error| disk("create", &at, &error))?;
            let (copied, found) = outcome.map_err(|error| match error {
                CopyError::Read(error) => self.unreadable(&error),
                CopyError::Write(error) => disk("write", &at, &error),
            })?;
            if copied < size {
                return Err(bad(format!("it ends within {:?}", entry.path)));
            }
            if found != hash {
                return Err(bad(format!("the bytes of {:?} are not what its manifest says", entry.path)));
            }
        }
        Ok(())
    }

    /// The frame ends here, whole, and so does the payload.
    fn expect_end(&mut self) -> Result<(), StageFailure> {
        let mut one = [0];
        if self.frame.read(&mut one).map_err(|error| self.unreadable(&error))? > 0 {
            return Err(bad("there is more in it than its manifest says"));
        }
        let rest = self.frame.get_mut().read(&mut one);
        match rest {
            Ok(0) => Ok(()),
            Ok(_) => Err(bad("bytes follow its end")),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn unreadable(&self, error: &io::Error) -> StageFailure {
        if self.frame.get_ref().get_ref().failed && !sealed::is_not_sealed(error) {
            StageFailure::Other(format!("cannot read the payload: {error}"))
        } else {
            bad(error)
        }
    }
}

fn make_directory(at: &Path) -> Result<(), StageFailure> {
    let made = fs::create_dir(at).and_then(|()| fs::set_permissions(at, Permissions::from_mode(0o755)));
    made.map_err(|error| disk("create", at, &error))
}

/// Makes the directories above a path that are not there. Paths come in byte order, so what the last one shares with
/// this one is there already.
fn make_parents(tree: &Path, path: &str, directories: &mut Vec<PathBuf>) -> Result<(), StageFailure> {
    let Some((parents, _)) = path.rsplit_once('/') else { return Ok(()) };
    let above = tree.join(parents);
    if directories.last() == Some(&above) || above.is_dir() {
        return Ok(());
    }
    let mut at = tree.to_owned();
    for name in parents.split('/') {
        at.push(name);
        if !at.is_dir() {
            make_directory(&at)?;
            directories.push(at.clone());
        }
    }
    Ok(())
}

fn write_new(at: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(at)?;
    write(&mut file)?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// Files that are synced one by one. One sync of the whole file system costs less than thousands of them, but it also
/// waits for all that others write there.
#[cfg(target_os = "linux")]
const FEW: u64 = 64;

fn sync(into: &Path, manifest: &Manifest, directories: &[PathBuf]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if manifest.files() > FEW {
        return Ok(rustix::fs::syncfs(File::open(into)?)?);
    }
    let files = manifest.entries().iter().filter(|entry| matches!(entry.content, Content::File { .. }));
    let beside = [MANIFEST, SEALED].map(|name| into.join(name)).into_iter().filter(|at| at.exists());
    for at in files.map(|entry| into.join(TREE).join(&entry.path)).chain(beside) {
        File::open(at)?.sync_all()?;
    }
    directories.iter().try_for_each(|at| sync_dir(at))
}

/// Makes what was renamed, created or removed in a directory survive a power cut.
pub(crate) fn sync_dir(at: &Path) -> io::Result<()> {
    File::open(at)?.sync_all()
}
