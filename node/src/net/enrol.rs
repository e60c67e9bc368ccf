//! Enrolment over the mesh: one request and one answer on a stream of its own, `/burr/enrol/1`, before anything else may
//! be spoken. The one who asks is no member yet, so it comes with nothing but an invitation, and leaves again.

use std::{io, sync::Arc, time::Duration};

use burr_protocol::{
    NodeId,
    member::{MAX_ANSWER, MAX_REQUEST},
    peers::Address,
};
use libp2p::{
    Stream,
    futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _},
    identity::Keypair,
    swarm::{Swarm, SwarmEvent, dial_opts::DialOpts},
};
use tokio::time::timeout;

use super::{
    Enroller,
    address::{parse, peer_of},
    behaviour::{self, Behaviour},
    streams::{NotOpened, Protocol},
};
use crate::error::{Error, Kind};

/// How long one side may take to send, or to take, a part of what is said.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes at a time.
const BUFFER: usize = 64 << 10;
/// How long the connection may take to close at the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long one address may take until a connection stands.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);

/// Reads one request and answers it.
pub(super) async fn serve(mut stream: Stream, enroller: Enroller) -> io::Result<()> {
    let request = read(&mut stream, MAX_REQUEST).await?;
    let answer = tokio::task::spawn_blocking(move || (enroller.0)(&request)).await.map_err(io::Error::other)?;
    for part in answer.chunks(BUFFER) {
        patiently(stream.write_all(part)).await?;
    }
    patiently(stream.close()).await
}

/// Asks a node to be enrolled there, as the node with this identity; returns its answer, not yet checked.
///
/// # Errors
/// [`Kind::Network`] if it can't be reached at any of the addresses, does not enrol, or breaks off.
pub async fn ask(identity: [u8; 32], enroller: NodeId, addresses: &[String], request: &[u8]) -> Result<Vec<u8>, Error> {
    let bad = |what: &str| Error::new(Kind::Network, what.to_owned());
    let identity =
        Keypair::ed25519_from_bytes(identity).map_err(|error| bad("the identity is no key").with_source(error))?;
    let peer = peer_of(enroller).ok_or_else(|| bad("the invitation names no node"))?;
    // Everything but the door stays shut: this node is here to be enrolled and for nothing else.
    let mut swarm = behaviour::swarm(identity, false, 8, true, &[], Arc::default())?;
    let mut last = bad("the invitation names no address at which it may be used");
    for address in addresses {
        let Some(target) = parse(&Address(address.clone())) else { continue };
        for place in target.places {
            let options = DialOpts::peer_id(peer).addresses(vec![place]).allocate_new_port().build();
            let dialled = swarm.dial(options).map_err(|error| bad(&format!("can't dial {address}")).with_source(error));
            if let Err(error) = dialled {
                last = error;
                continue;
            }
            match timeout(DIAL_PATIENCE, connected(&mut swarm)).await {
                Ok(Ok(connection)) => {
                    let opening = swarm.behaviour_mut().door.open_on(peer, connection, Protocol::Enrol);
                    let asking = async {
                        let mut stream = opening.await.map_err(|_| io::ErrorKind::ConnectionReset)?.map_err(refused)?;
                        patiently(stream.write_all(request)).await?;
                        patiently(stream.close()).await?;
                        read(&mut stream, MAX_ANSWER).await
                    };
                    let mut asking = std::pin::pin!(asking);
                    let answer = loop {
                        tokio::select! {
                            answer = &mut asking => break answer,
                            _ = swarm.select_next_some() => {}
                        }
                    };
                    leave(&mut swarm).await;
                    return answer
                        .map_err(|error| bad(&format!("the enroller at {address} did not answer")).with_source(error));
                }
                Ok(Err(error)) => last = bad(&format!("can't reach the enroller at {address}")).with_source(error),
                Err(_) => last = bad(&format!("the enroller at {address} does not answer")),
            }
        }
    }
    Err(last.with_hint("is `burr run` running where the invitation was made, and can it be reached from here?"))
}

/// Closes the connection, so that the enroller need not wait for a certificate that never comes.
async fn leave(swarm: &mut Swarm<Behaviour>) {
    let peers: Vec<_> = swarm.connected_peers().copied().collect();
    for peer in peers {
        let _ = swarm.disconnect_peer_id(peer);
    }
    let gone = async {
        while swarm.connected_peers().next().is_some() {
            swarm.select_next_some().await;
        }
    };
    let _ = timeout(GOODBYE, gone).await;
}

async fn connected(swarm: &mut Swarm<Behaviour>) -> Result<libp2p::swarm::ConnectionId, libp2p::swarm::DialError> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => return Ok(connection_id),
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error),
            _ => {}
        }
    }
}

fn refused(why: NotOpened) -> io::Error {
    match why {
        NotOpened::Unsupported => io::Error::other("it does not enrol anybody"),
        NotOpened::Lost => io::ErrorKind::ConnectionReset.into(),
    }
}

/// All that the other side says, up to a limit.
async fn read(stream: &mut Stream, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = vec![0; BUFFER.min(limit + 1)];
    loop {
        match patiently(stream.read(&mut part)).await? {
            0 => return Ok(bytes),
            length => bytes.extend_from_slice(&part[..length]),
        }
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it says more than it may"));
        }
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
