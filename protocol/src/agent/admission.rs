//! The door: who may speak with this node, and who no longer may.

use std::{collections::BTreeSet, net::IpAddr};

use super::Agent;
use crate::{
    NodeId, RepositoryId,
    action::{Action, LinkId},
    admission::Admitted,
    fact::Fact,
    member::{self, Capability, Certificate, MemberError},
    peers::{Place, Standing},
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
    pub(super) fn introduced(&mut self, link: LinkId, bytes: Vec<u8>, actions: &mut Vec<Action>) {
        let Some((node, dialled)) = self.door.answered(link) else { return };
        match self.judge_member(node, &bytes) {
            Ok(certificate) => {
                let peers = &self.peers;
                self.door.admit(node, Admitted { bytes, certificate }, |node| peers.get(node).is_some());
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
        if let Some(certificate) = self.config.certificates.first().cloned() {
            actions.push(Action::Introduce { link, certificate });
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
        let is_concerned = |by: &Admitted| repository.is_none_or(|repository| by.certificate.repository == repository);
        let concerned = self.door.admitted().filter(|(_, by)| is_concerned(by));
        let judged = concerned.filter_map(|(node, by)| Some((node, self.judge_member(node, &by.bytes).err()?)));
        for (node, why) in judged.collect::<Vec<_>>() {
            self.door.expel(node);
            if self.peers.disconnected(node, self.now.time, &self.config).is_some() {
                actions.push(Action::Tell(Fact::MemberExpelled { node, why: why.to_string() }));
                self.without(node, actions);
            }
            actions.push(Action::Drop(node));
        }
    }

    /// A node is connected and may speak: whether there is room for it.
    pub(super) fn connected(&mut self, node: NodeId, dialled: bool, near: bool, actions: &mut Vec<Action>) -> bool {
        let standing = match self.door.member(node) {
            _ if dialled => Standing::Chosen,
            Some(member) if member.may(Capability::serves) => Standing::Chosen,
            Some(_) => Standing::Member,
            None => Standing::Stranger,
        };
        let known = self.peers.get(node).is_some();
        match self.peers.connected(node, standing, near, self.config.max_peers, self.now.time) {
            Place::Taken => {
                // It may be known to be near only now.
                if known && near {
                    self.placed(node, actions);
                }
                true
            }
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

    /// Whether a peer may have a right that goes by capabilities. In an open mesh everybody may: nobody shows any there.
    pub(super) fn may(&self, node: NodeId, right: fn(Capability) -> bool) -> bool {
        self.config.closed.is_none() || self.door.member(node).is_some_and(|member| member.may(right))
    }

    /// This node's own memberships: each certificate, and what it is worth by its fleet's metadata now.
    pub(super) fn memberships(&self) -> impl Iterator<Item = (&[u8], Result<Certificate, MemberError>)> {
        self.config.certificates.iter().map(|bytes| {
            let judged = Certificate::read(bytes).and_then(|own| {
                let verified = self.catalog.verified(own.repository).ok_or(MemberError::NotHeld(own.repository))?;
                member::admit(
                    verified,
                    &[own.fleet].into(),
                    bytes,
                    self.signer.node(),
                    self.trusted_now(own.repository),
                )
            });
            (bytes.as_slice(), judged)
        })
    }

    /// The groups that this node is in, for the releases of a repository. What a fleet calls its groups is for those of
    /// its own repository alone.
    pub(super) fn groups(&self, repository: RepositoryId) -> BTreeSet<String> {
        let good = self.memberships().filter_map(|(_, judged)| judged.ok());
        good.filter(|member| member.repository == repository).flat_map(|member| member.groups).collect()
    }

    /// The certificate that this node has of a fleet of a repository, whatever it is worth now.
    pub(super) fn certificate_of(&self, repository: RepositoryId) -> Option<&Vec<u8>> {
        let is_of = |bytes: &&Vec<u8>| Certificate::read(bytes).is_ok_and(|own| own.repository == repository);
        self.config.certificates.iter().find(is_of)
    }

    fn judge_member(&self, node: NodeId, certificate: &[u8]) -> Result<Certificate, MemberError> {
        let shown = Certificate::read(certificate)?;
        let repository = shown.repository;
        let fleets = self.config.closed.as_ref().and_then(|closed| closed.fleets.get(&repository));
        let fleets = fleets.ok_or(MemberError::Foreign { fleet: shown.fleet, repository })?;
        let verified = self.catalog.verified(repository).ok_or(MemberError::NotHeld(repository))?;
        member::admit(verified, fleets, certificate, node, self.trusted_now(repository))
    }

    fn dismiss(&mut self, link: LinkId, node: NodeId, why: String, actions: &mut Vec<Action>) {
        if self.door.may_tell(self.now.time) {
            actions.push(Action::Tell(Fact::PeerDismissed { node, why: why.clone() }));
        }
        actions.push(Action::Dismiss { link, why });
    }
}
