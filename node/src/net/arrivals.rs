//! Connections of a closed mesh before they are admitted: the driver's part at the door. What is let in, and what is
//! sent away, is the agent's decision; a connection goes on to the others once each side admitted the other.

use std::{collections::BTreeMap, io, sync::Arc};

use burr_protocol::{
    NodeId,
    action::{Input, LinkId},
    peers::Address,
};
use libp2p::{PeerId, Stream, swarm::ConnectionId};

use super::{
    Enroller, door,
    driver::{Driver, Report},
    enrol,
    streams::{Opened, Protocol},
};

/// By the name that the agent knows them by.
pub(super) type Arrivals = BTreeMap<LinkId, Arrival>;

/// A connection that was made.
pub(super) struct Contact {
    pub(super) peer: PeerId,
    pub(super) node: NodeId,
    pub(super) connection: ConnectionId,
    /// Where it was reached, if this side dialled.
    pub(super) address: Option<Address>,
    /// Whether that is an address of one of this machine's own networks.
    pub(super) near: bool,
}

/// A connection on which nothing may be spoken yet.
pub(super) struct Arrival {
    contact: Contact,
    /// The stream on which the other side showed its certificate, and waits for an answer.
    reply: Option<Stream>,
    /// Whether this side lets the other in, as far as that is decided.
    verdict: Option<Verdict>,
    /// Whether the other side lets this one in.
    welcomed: bool,
    /// Whether a request to be enrolled is being answered on it: it is not closed in the middle of that.
    enrolling: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Admitted,
    Dismissed,
}

impl Arrival {
    pub(super) fn new(contact: Contact) -> Self {
        Self { contact, reply: None, verdict: None, welcomed: false, enrolling: false }
    }
}

/// What a task at the door says.
pub(super) enum AtDoor {
    /// The other side showed something.
    Introduced { link: LinkId, certificate: io::Result<Vec<u8>>, stream: Stream },
    /// The other side answered what this one showed.
    Answered { link: LinkId, answer: io::Result<Result<(), String>> },
    /// The other side was told why it is sent away.
    ToldWhy { link: LinkId },
    /// A request to be enrolled was answered.
    Enrolled { connection: ConnectionId },
}

impl Driver {
    /// Whether connections have to be admitted, and who answers requests to be enrolled.
    pub(super) fn keep_door(&mut self, closed: bool, enroller: Option<Enroller>) {
        (self.closed, self.enroller) = (closed, enroller);
    }

    /// Shows this node's certificate.
    pub(super) fn introduce(&mut self, link: LinkId, certificate: Vec<u8>) {
        let Some(arrival) = self.arrivals.get(&link) else { return };
        let (peer, connection) = (arrival.contact.peer, arrival.contact.connection);
        let opening = self.swarm.behaviour_mut().door.open_on(peer, connection, Protocol::Member);
        self.at_door(async move { AtDoor::Answered { link, answer: door::show(opening, certificate).await } });
    }

    /// Lets the other side speak, and tells it so.
    pub(super) fn admit(&mut self, link: LinkId) {
        let Some(arrival) = self.arrivals.get_mut(&link) else { return };
        arrival.verdict = Some(Verdict::Admitted);
        let (connection, welcomed, reply) = (arrival.contact.connection, arrival.welcomed, arrival.reply.take());
        let Some(listens) = self.swarm.behaviour_mut().speech.listen(connection) else {
            self.swarm.close_connection(connection);
            return;
        };
        if let Some(reply) = reply {
            self.tasks.spawn(async move {
                // It may speak as soon as it hears of this, so this side listens before. Without an answer the connection
                // is gone, or the other side gives up.
                if listens.await.is_ok() {
                    let _ = door::admit(reply).await;
                }
            });
        }
        if welcomed {
            self.enter(link);
        }
    }

    /// Sends the other side away, with words if it showed anything.
    pub(super) fn dismiss(&mut self, link: LinkId, why: String) {
        let Some(arrival) = self.arrivals.get_mut(&link) else { return };
        arrival.verdict = Some(Verdict::Dismissed);
        match arrival.reply.take() {
            Some(reply) => self.at_door(async move {
                door::turn_away(reply, &why).await;
                AtDoor::ToldWhy { link }
            }),
            None => self.leave(link),
        }
    }

    pub(super) fn on_member_stream(&mut self, mut opened: Opened) {
        let waits = |arrival: &Arrival| arrival.contact.connection == opened.connection && arrival.verdict.is_none();
        // One that is judged has nothing more to show.
        let Some((link, _)) = self.arrivals.iter().find(|(_, arrival)| waits(arrival)) else { return };
        let link = *link;
        self.at_door(async move {
            let certificate = door::look(&mut opened.stream).await;
            AtDoor::Introduced { link, certificate, stream: opened.stream }
        });
    }

    pub(super) fn on_enrol_stream(&mut self, opened: Opened) {
        let Some(enroller) = self.enroller.clone() else { return };
        // Too busy: the stream is dropped, which the other side sees at once.
        let Ok(place) = Arc::clone(&self.enrolling).try_acquire_owned() else { return };
        let connection = opened.connection;
        if let Some(arrival) = self.arrivals.values_mut().find(|arrival| arrival.contact.connection == connection) {
            arrival.enrolling = true;
        }
        self.at_door(async move {
            if let Err(error) = enrol::serve(opened.stream, enroller).await {
                tracing::debug!("a request to be enrolled was not answered: {error}");
            }
            drop(place);
            AtDoor::Enrolled { connection }
        });
    }

    pub(super) fn on_door(&mut self, report: AtDoor) {
        match report {
            AtDoor::Introduced { link, certificate, stream } => {
                let Some(arrival) = self.arrivals.get_mut(&link) else { return };
                match certificate {
                    // Only the first counts.
                    Ok(certificate) if arrival.reply.is_none() && arrival.verdict.is_none() => {
                        arrival.reply = Some(stream);
                        self.pending.push_back(Input::Introduced { link, certificate });
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(node = %arrival.contact.node, "showed no certificate: {error}"),
                }
            }
            AtDoor::Answered { link, answer } => {
                let Some(arrival) = self.arrivals.get_mut(&link) else { return };
                match answer {
                    Ok(Ok(())) => {
                        arrival.welcomed = true;
                        if arrival.verdict == Some(Verdict::Admitted) {
                            self.enter(link);
                        }
                    }
                    Ok(Err(why)) => {
                        self.pending.push_back(Input::TurnedAway { node: arrival.contact.node, why });
                        self.leave(link);
                    }
                    // Admitted by this side alone, it would wait for ever.
                    Err(_) if arrival.verdict == Some(Verdict::Admitted) => self.leave(link),
                    // It may be here to be enrolled: the agent's patience ends it.
                    Err(error) => tracing::debug!(node = %arrival.contact.node, "took no certificate: {error}"),
                }
            }
            AtDoor::ToldWhy { link } => self.leave(link),
            AtDoor::Enrolled { connection } => {
                let found = self.arrivals.iter_mut().find(|(_, arrival)| arrival.contact.connection == connection);
                if let Some((link, arrival)) = found {
                    arrival.enrolling = false;
                    let (link, dismissed) = (*link, arrival.verdict == Some(Verdict::Dismissed));
                    if dismissed {
                        self.leave(link);
                    }
                }
            }
        }
    }

    /// An arrived connection closed; returns false if it is none of those.
    pub(super) fn departed(&mut self, connection: ConnectionId) -> bool {
        let found = self.arrivals.iter().find(|(_, arrival)| arrival.contact.connection == connection);
        let Some(link) = found.map(|(link, _)| *link) else { return false };
        let arrival = self.arrivals.remove(&link).expect("found above");
        self.pending.push_back(Input::Departed { link });
        self.pending.extend(arrival.contact.address.map(|address| Input::DialFailed { address }));
        true
    }

    /// Each side admitted the other: the connection is one like all others.
    fn enter(&mut self, link: LinkId) {
        let Some(arrival) = self.arrivals.remove(&link) else { return };
        self.swarm.behaviour_mut().speech.speak(arrival.contact.peer, arrival.contact.connection);
        self.join(arrival.contact);
    }

    fn leave(&mut self, link: LinkId) {
        if let Some(arrival) = self.arrivals.get(&link).filter(|arrival| !arrival.enrolling) {
            self.swarm.close_connection(arrival.contact.connection);
        }
    }

    fn at_door(&mut self, work: impl Future<Output = AtDoor> + Send + 'static) {
        let report = self.report.clone();
        self.tasks.spawn(async move {
            let _ = report.send(Report::AtDoor(work.await)).await;
        });
    }
}
