//! HTTP as this node serves it, whoever asks: bounded connections and requests, and answers; and as it asks it of others
//! (`http/client.rs`).
//!
//! What is answered is the [gateway](crate::gateway)'s and the [control](crate::control)'s own.

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod request;
pub(crate) mod server;

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::error::{Error, Kind};

/// Listens on an address that a setting names; returns where, too, as port 0 lets the system choose.
///
/// # Errors
/// [`Kind::PortInUse`] or [`Kind::Network`] if the address can't be listened on.
pub(crate) async fn listen(address: SocketAddr, setting: &str) -> Result<(TcpListener, SocketAddr), Error> {
    let listening = async {
        let listener = TcpListener::bind(address).await?;
        let at = listener.local_addr()?;
        Ok((listener, at))
    };
    listening.await.map_err(|error: io::Error| {
        let kind = if error.kind() == io::ErrorKind::AddrInUse { Kind::PortInUse } else { Kind::Network };
        Error::new(kind, format!("can't listen on {address} for HTTP"))
            .with_hint(format!("choose another address with {setting}"))
            .with_source(error)
    })
}
