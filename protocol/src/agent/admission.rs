//! The door: who may speak with this node, and who no longer may.

use std::net::IpAddr;

use super::Agent;
use crate::{
    NodeId, RepositoryId,
    action::{Action, LinkId},
    fact::Fact,
    member::{self, Certificate, MemberError},
    peers::Place,
    receipt::last_words,
};

impl Agent {
    /// A connection stands. In a closed mesh it has to show a certificate. So has this node where it dialled; to one that
    /// came by itself it says who it is only once that one is admitted.
    pub(super) fn arrived(
        &mut self,
        link: LinkId,
        node: NodeId,
        from: Option<IpAddr>,
        dialled: bool,
        actions: &mut Vec<Action>,
    ) {
        self.peers.came_from(node, from);
        if self.config.closed.is_none() {
            return;
        }
        if dialled {
            self.introduce(link, actions);
        }
        if let Some((link, node)) = self.door.arrived(link, node, from, dialled, self.now.time) {
            self.dismiss(link, node, "too many others wait to be admitted; try again later".to_owned(), actions);
        }
    }

    /// A connection showed a certificate.
    pub(super) fn introduced(&mut self, link: LinkId, certificate: Vec<u8>, actions: &mut Vec<Action>) {
        let Some((node, dialled)) = self.door.answered(link) else { return };
        match self.judge_member(node, &certificate) {
            Ok(()) => {
                let peers = &self.peers;
                self.door.admit(node, certificate, |node| peers.get(node).is_some());
                if !dialled {
                    self.introduce(link, actions);
                }
                actions.push(Action::Admit { link });
            }
            Err(why) => self.dismiss(link, node, why.to_string(), actions),
        }
    }

    /// Another node did not let this one in.
    pub(super) fn turned_away(&mut self, node: NodeId, why: &str, actions: &mut Vec<Action>) {
        if self.door.may_tell(self.now.time) {
            // A stranger's words.
            actions.push(Action::Tell(Fact::TurnedAway { node, why: last_words(why) }));
        }
    }

    fn introduce(&self, link: LinkId, actions: &mut Vec<Action>) {
        if let Some(closed) = &self.config.closed {
            actions.push(Action::Introduce { link, certificate: closed.certificate.clone() });
        }
    }

    /// Connections that showed nothing for too long.
    pub(super) fn close_door(&mut self, actions: &mut Vec<Action>) {
        for (link, node) in self.door.overdue(self.now.time) {
            self.dismiss(link, node, "no certificate was shown in time".to_owned(), actions);
        }
    }

    /// What was admitted is judged again: metadata changed, or time passed.
    pub(super) fn judge_members_again(&mut self, repository: Option<RepositoryId>, actions: &mut Vec<Action>) {
        let of = |bytes: &[u8]| Certificate::read(bytes).ok().map(|certificate| certificate.repository);
        let concerned = self.door.admitted().filter(|(_, bytes)| repository.is_none() || of(bytes) == repository);
        let judged = concerned.filter_map(|(node, bytes)| Some((node, self.judge_member(node, bytes).err()?)));
        for (node, why) in judged.collect::<Vec<_>>() {
            self.door.expel(node);
            if self.peers.disconnected(node, self.now.time, &self.config).is_some() {
                actions.push(Action::Tell(Fact::MemberExpelled { node, why: why.to_string() }));
                self.sent.remove(&node);
                self.without(node, actions);
            }
            actions.push(Action::Drop(node));
        }
    }

    /// A node is connected and may speak: whether there is room for it.
    pub(super) fn connected(&mut self, node: NodeId, dialled: bool, actions: &mut Vec<Action>) -> bool {
        let known = dialled || self.config.closed.is_some();
        match self.peers.connected(node, known, self.config.max_peers) {
            Place::Taken => true,
            Place::Liar => {
                actions.push(Action::Refuse(node));
                false
            }
            Place::Full => {
                if self.door.may_tell(self.now.time) {
                    actions.push(Action::Tell(Fact::NoPlace { node }));
                }
                actions.push(Action::Drop(node));
                false
            }
        }
    }

    fn judge_member(&self, node: NodeId, certificate: &[u8]) -> Result<(), MemberError> {
        let shown = Certificate::read(certificate)?;
        let repository = shown.repository;
        let fleets = self.config.closed.as_ref().and_then(|closed| closed.fleets.get(&repository));
        let fleets = fleets.ok_or(MemberError::Foreign { fleet: shown.fleet, repository })?;
        let verified = self.catalog.verified(repository).ok_or(MemberError::NotHeld(repository))?;
        member::admit(verified, fleets, certificate, node, self.trusted_now()).map(drop)
    }

    fn dismiss(&mut self, link: LinkId, node: NodeId, why: String, actions: &mut Vec<Action>) {
        if self.door.may_tell(self.now.time) {
            actions.push(Action::Tell(Fact::PeerDismissed { node, why: why.clone() }));
        }
        actions.push(Action::Dismiss { link, why });
    }
}
