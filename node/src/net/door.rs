//! At the door of a closed mesh: each side shows its certificate on a stream of its own, `/burr/member/1`, and reads there
//! whether it is let in. Nothing else is agreed on before (`gate.rs`).
//!
//! ```text
//!   opener   length (2 bytes), certificate  ─▶
//!            ◀─  1                                   let in
//!            ◀─  0, length (1 byte), words           turned away, and why
//! ```

use std::{io, time::Duration};

use burr_protocol::member::MAX_CERTIFICATE;
use libp2p::{
    Stream,
    futures::{AsyncReadExt as _, AsyncWriteExt as _},
};
use tokio::time::timeout;

use super::streams::Opening;

/// How long the other side may take, from the stream's opening to its answer: it has to judge one certificate.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that is turned away may take to read why.
const GOODBYE: Duration = Duration::from_secs(1);
/// Bytes of the reason at most.
const MAX_WORDS: usize = 255;

const ADMITTED: u8 = 1;
const TURNED_AWAY: u8 = 0;

/// Shows a certificate and hears whether it was good: the words of the other side if not.
pub(super) async fn show(opening: Opening, certificate: Vec<u8>) -> io::Result<Result<(), String>> {
    let shown = async {
        let mut stream = opening
            .await
            .map_err(|_| io::ErrorKind::ConnectionReset)?
            .map_err(|_| io::Error::other("it does not take certificates: it is no node of a closed mesh"))?;
        let length = u16::try_from(certificate.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&certificate).await?;
        stream.flush().await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        if answer[0] == ADMITTED {
            return Ok(Ok(()));
        }
        stream.read_exact(&mut answer).await?;
        let mut words = vec![0; answer[0].into()];
        stream.read_exact(&mut words).await?;
        // They are shown to people: one line, and nothing that a terminal would obey.
        Ok(Err(String::from_utf8_lossy(&words).chars().filter(|c| !c.is_control()).collect()))
    };
    timeout(PATIENCE, shown).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads the certificate that the other side shows.
pub(super) async fn look(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let looked = async {
        let mut length = [0; 2];
        stream.read_exact(&mut length).await?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_CERTIFICATE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a certificate of {length} bytes")));
        }
        let mut certificate = vec![0; length];
        stream.read_exact(&mut certificate).await?;
        Ok(certificate)
    };
    timeout(PATIENCE, looked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Tells the other side that it may speak.
pub(super) async fn admit(mut stream: Stream) -> io::Result<()> {
    let told = async {
        stream.write_all(&[ADMITTED]).await?;
        stream.close().await
    };
    timeout(PATIENCE, told).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Tells the other side why it may not, and gives it a moment to read that.
pub(super) async fn turn_away(mut stream: Stream, why: &str) {
    let mut end = why.len().min(MAX_WORDS);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    let told = async {
        let length = u8::try_from(end).expect("cut to 255 above");
        stream.write_all(&[&[TURNED_AWAY, length], &why.as_bytes()[..end]].concat()).await?;
        stream.close().await?;
        stream.read(&mut [0]).await
    };
    // It may be gone already.
    let _ = timeout(GOODBYE, told).await;
}
