//! Zip archives as a source, read as if an enemy had made them.
//!
//! Nothing is written under a name from the archive: all contents go one after the other to a spool, an unnamed private
//! file. The central directory is read entry by entry, so memory stays small whatever it declares, and every limit
//! counts what really came out.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
};

use burr_protocol::manifest::{Content, Entry, MAX_BYTES, MAX_FILES, MAX_PATH, check_path};
use zip::{ZipReadOptions, read::Config, result::ZipError, unstable::read::ZipIterable};

use super::{
    hash::{self, CopyError},
    pack::{Listed, Origin, bad_bundle},
};
use crate::error::{Error, Kind};

/// Above [`FREE`] bytes an archive may unpack to this many times its own size. Real builds stay below 50; deflate can
/// do 1,000, and archives whose entries share their bytes can do any number.
const MAX_RATIO: u64 = 200;
/// Bytes that may come out whatever the ratio.
const FREE: u64 = 64 << 20;

const LINK: u32 = 0o120_000;
const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const KIND: u32 = 0o170_000;

/// Unpacks the contents of an archive to `spool` and lists them.
pub(super) fn unpack(source: &Path, spool: &mut File) -> Result<Listed, Error> {
    let open = || File::open(source).map(BufReader::new).map_err(|error| super::tree::unreadable(source, error));
    let refuse = |what: String| Error::new(Kind::BadInput, format!("{} can't be a bundle: {what}", source.display()));
    let broken = |error: ZipError| refuse(in_words(error)).with_hint("give a directory, or make the archive anew");
    let mut contents = open()?;
    let archived = contents.get_ref().metadata().map_err(|error| super::tree::unreadable(source, error))?.len();
    let limit = MAX_BYTES.min(archived.saturating_mul(MAX_RATIO).max(FREE));

    let mut archive = ZipIterable::try_new(open()?, Config::default()).map_err(broken)?;
    if archive.len() as u64 > MAX_FILES {
        return Err(refuse(format!("it has {} entries, the limit is {MAX_FILES}", archive.len())));
    }
    let mut listed = Listed::new();
    let mut buffer = Vec::new();
    let mut offset = 0;
    for entry in archive.files().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = std::str::from_utf8(entry.name_raw()).map_err(|_| {
            refuse(format!("the name {:?} is not UTF-8", String::from_utf8_lossy(entry.name_raw())))
                .with_hint("rename the file and make the archive anew")
        })?;
        let mode = entry.unix_mode().unwrap_or(0);
        let directory = name.ends_with('/');
        let path = name.strip_suffix('/').unwrap_or(name).to_owned();
        check_path(&path).map_err(|error| bad_bundle(source, error))?;
        match mode & KIND {
            // Archives from Windows have no mode, and one of a file is made up for them.
            DIRECTORY | FILE | 0 if directory && entry.size() == 0 => {}
            LINK | FILE | 0 if !directory => {}
            _ => return Err(refuse(format!("{path:?} is neither a file nor a link nor a directory"))),
        }
        if entry.encrypted() {
            return Err(refuse(format!("{path:?} is encrypted")).with_hint("make the archive without a password"));
        }
        if directory {
            continue;
        }
        let mut content = entry.with_reader(&mut contents, ZipReadOptions::new()).map_err(broken)?;
        if mode & KIND == LINK {
            let target = read_target(&mut content).map_err(|why| refuse(format!("the link {path:?} {why}")))?;
            listed.push((Entry { path, content: Content::Link { target } }, None));
            continue;
        }
        let (size, hash) =
            hash::copy(&mut content, spool, limit - offset, &mut buffer).map_err(|error| match error {
                CopyError::Read(error) => refuse(format!("{path:?} is damaged: {error}")),
                CopyError::Write(error) => Error::file("unpack", source, error),
            })?;
        if size > limit - offset {
            let words = format!("its {archived} bytes unpack to more than {limit}, as a decompression bomb does");
            return Err(refuse(words).with_hint("if it is none, unpack it and give the directory"));
        }
        let executable = mode & 0o100 != 0;
        listed
            .push((Entry { path, content: Content::File { size, executable, hash } }, Some(Origin::Spool { offset })));
        offset += size;
    }
    spool.flush().map_err(|error| Error::file("unpack", source, error))?;
    Ok(listed)
}

fn read_target(content: &mut impl Read) -> Result<String, String> {
    let mut target = String::new();
    match content.take(MAX_PATH as u64 + 1).read_to_string(&mut target) {
        Ok(read) if read > MAX_PATH => Err(format!("points to a path of more than {MAX_PATH} bytes")),
        Ok(_) => Ok(target),
        Err(error) => Err(format!("can't be read: {error}")),
    }
}

fn in_words(error: ZipError) -> String {
    match error {
        ZipError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "it is cut short".to_owned(),
        ZipError::InvalidArchive(why) => format!("it is no zip archive, or a damaged one ({why})"),
        ZipError::CompressionMethodNotSupported(method) => {
            format!("it is compressed with method {method}; only stored and deflated files are read")
        }
        error => error.to_string(),
    }
}
