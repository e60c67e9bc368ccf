//! Bundles as zips for those who know nothing else, and the contents of a zip in one private file.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use burr_protocol::manifest::{Content, Manifest};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{MANIFEST, archive, pack::Origin};
use crate::error::{Error, Kind};

/// Where the content of a file is in a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spooled {
    /// The file's path in the bundle.
    pub(crate) path: String,
    /// Where it begins.
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) size: u64,
}

/// Unpacks a zip into a spool, read as if an enemy had made it.
///
/// # Errors
/// [`Kind::BadInput`] for what is no zip of files, or one that unpacks to far too much.
pub(crate) fn spool_zip(zip: &Path, spool: &mut File) -> Result<Vec<Spooled>, Error> {
    let listed = archive::unpack(zip, spool)?;
    let spooled = |(entry, origin): (burr_protocol::manifest::Entry, Option<Origin>)| match (entry.content, origin) {
        (Content::File { size, .. }, Some(Origin::Spool { offset })) => Ok(Spooled { path: entry.path, offset, size }),
        _ => Err(links(&entry.path)),
    };
    listed.into_iter().map(spooled).collect()
}

/// Makes a zip of the files of an unpacked bundle, and copies them to a spool. The same bundle makes the same zip.
///
/// # Errors
/// [`Kind::BadInput`] for a bundle with links, [`Kind::NoSpace`] and [`Kind::Storage`] for the disk.
pub(crate) fn zip_tree(tree: &Path, slot: &Path, zip: &Path, spool: &mut File) -> Result<Vec<Spooled>, Error> {
    let storage = |error: io::Error| Error::file("write", zip, error);
    let manifest = fs::read(slot.join(MANIFEST)).map_err(storage)?;
    let manifest = Manifest::decode(&manifest).map_err(|error| {
        Error::new(Kind::Storage, format!("the manifest in {} is damaged", slot.display())).with_source(error)
    })?;
    let file = File::options().write(true).create_new(true).open(zip).map_err(storage)?;
    let mut writer = ZipWriter::new(BufWriter::new(file));
    let mut spooled = Vec::new();
    let mut offset = 0;
    for entry in manifest.entries() {
        let Content::File { size, executable, .. } = entry.content else { return Err(links(&entry.path)) };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(if executable { 0o755 } else { 0o644 })
            .large_file(size > u64::from(u32::MAX) / 2);
        writer.start_file(entry.path.as_str(), options).map_err(|error| storage(error.into()))?;
        let mut content = File::open(tree.join(&entry.path)).map_err(storage)?;
        let copied = io::copy(&mut (&mut content).take(size), &mut Both(&mut writer, spool)).map_err(storage)?;
        assert_eq!(copied, size, "the files were just unpacked and are ours alone");
        spooled.push(Spooled { path: entry.path.clone(), offset, size });
        offset += size;
    }
    let finished = writer.finish().map_err(io::Error::from).and_then(|mut file| file.flush());
    finished.map_err(storage)?;
    Ok(spooled)
}

fn links(path: &str) -> Error {
    Error::new(Kind::BadInput, format!("{path:?} is a link, which Capgo's plugin does not unpack"))
        .with_hint("publish the app with files alone")
}

struct Both<'a, A: Write>(&'a mut A, &'a mut File);

impl<A: Write> Write for Both<'_, A> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
