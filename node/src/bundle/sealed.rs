//! Sealing a payload on its way to disk, and opening it on its way from there: one segment in memory at a time.

use std::io::{self, Read, Write};

use burr_protocol::seal::{NotSealed, Opening, Part, ReleaseKey, SEGMENT, Sealing, TAG};

/// Seals what is written to it. What [`SealedWriter::finish`] has not ended does not open.
pub(super) struct SealedWriter<W> {
    to: W,
    sealing: Sealing,
    segment: Vec<u8>,
}

impl<W: Write> SealedWriter<W> {
    pub(super) fn new(to: W, key: &ReleaseKey) -> Self {
        Self { to, sealing: Sealing::new(key, Part::Payload), segment: Vec::with_capacity(SEGMENT + TAG) }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.sealing.last(&mut self.segment);
        self.to.write_all(&self.segment)
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full segment waits for what follows it: only then is it known not to be the last.
        if self.segment.len() == SEGMENT && !bytes.is_empty() {
            self.sealing.next(&mut self.segment);
            self.to.write_all(&self.segment)?;
            self.segment.clear();
        }
        let taken = bytes.len().min(SEGMENT - self.segment.len());
        self.segment.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Gives out the plain bytes of a sealed payload, each segment once it is known to be authentic.
pub(super) struct OpenedReader<R> {
    from: R,
    opening: Opening,
    segment: Vec<u8>,
    at: usize,
}

impl<R: Read> OpenedReader<R> {
    /// Opens a payload of `size` sealed bytes.
    pub(super) fn new(from: R, key: &ReleaseKey, size: u64) -> Result<Self, NotSealed> {
        let opening = Opening::new(key, Part::Payload, size)?;
        Ok(Self { from, opening, segment: Vec::with_capacity(SEGMENT + TAG), at: 0 })
    }
}

impl<R: Read> Read for OpenedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.segment.len() && self.opening.wants() > 0 {
            self.at = 0;
            self.segment.resize(self.opening.wants(), 0);
            let opened = self.from.read_exact(&mut self.segment).and_then(|()| {
                self.opening.open(&mut self.segment).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            });
            // Nothing of a segment that was not read whole and opened is ever given out.
            opened.inspect_err(|_| self.segment.clear())?;
        }
        let given = buffer.len().min(self.segment.len() - self.at);
        buffer[..given].copy_from_slice(&self.segment[self.at..self.at + given]);
        self.at += given;
        Ok(given)
    }
}

/// Whether a reading failed because the sealed bytes are not what was sealed.
pub(super) fn is_not_sealed(error: &io::Error) -> bool {
    match error.get_ref() {
        Some(inner) => inner.is::<NotSealed>(),
        None => false,
    }
}
