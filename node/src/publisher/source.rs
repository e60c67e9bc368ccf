//! What is published: a build, or a zip that has to stay as it is.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
};

use burr_protocol::{Hash, release::Capacitor};
use sha2::{Digest as _, Sha256};

use crate::{
    bundle::{self, Packed, Progress},
    error::{Error, Kind},
};

/// What is published.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A directory, a zip archive that is unpacked, or a single file.
    Build(&'a Path),
    /// A zip for apps with Capgo's plugin, byte for byte as Capgo's command line made it.
    Capacitor {
        /// Where it is.
        zip: &'a Path,
        /// The checksum that was printed for it; made here if there is none.
        checksum: Option<&'a str>,
        /// What was printed as `ivSessionKey`, if it is encrypted.
        session_key: Option<&'a str>,
    },
}

impl<'a> From<&'a Path> for Source<'a> {
    fn from(path: &'a Path) -> Self {
        Self::Build(path)
    }
}

impl<'a> From<&'a PathBuf> for Source<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::Build(path)
    }
}

impl Source<'_> {
    /// Packs it, and says what its release says for the plugin.
    pub(super) fn pack(self, out: &Path, progress: &Progress<'_>) -> Result<(Packed, Option<Capacitor>), Error> {
        match self {
            Self::Build(path) => Ok((bundle::pack(path, out, progress)?, None)),
            Self::Capacitor { zip, checksum, session_key } => {
                let capacitor = check_zip(zip, checksum, session_key)?;
                Ok((bundle::pack_file(zip, out, progress)?, Some(capacitor)))
            }
        }
    }
}

/// What can be known to be wrong is refused here rather than by every device.
fn check_zip(zip: &Path, checksum: Option<&str>, session_key: Option<&str>) -> Result<Capacitor, Error> {
    let refuse = |words: String, hint: &str| Err(Error::new(Kind::BadInput, words).with_hint(hint));
    if !zip.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip")) {
        let words = format!("{} is no .zip file", zip.display());
        return refuse(words, "make one with `npx @capgo/cli bundle zip`");
    }
    if session_key.is_some_and(|key| !key.contains(':')) {
        let words = "the session key is not IV:KEY".to_owned();
        return refuse(words, "give what `bundle encrypt` printed as ivSessionKey");
    }
    let found = sha256(zip)
        .map_err(|error| Error::new(Kind::BadInput, format!("cannot read {}", zip.display())).with_source(error))?;
    let checksum = match (checksum, session_key) {
        (Some(sealed), Some(_)) => sealed.to_owned(),
        (None, Some(_)) => {
            let words = "an encrypted zip needs its checksum".to_owned();
            return refuse(words, "give what `bundle encrypt` printed as checksum");
        }
        (Some(given), None) if !given.eq_ignore_ascii_case(&found) => {
            let words = format!("the checksum is not that of {}, whose SHA-256 is {found}", zip.display());
            return refuse(words, "zip again; or, if it is encrypted, give its --session-key too");
        }
        _ => found,
    };
    Ok(Capacitor { checksum, session_key: session_key.map(str::to_owned) })
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Hash(hasher.finalize().into()).to_string()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
