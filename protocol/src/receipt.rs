//! Receipts: a device's signed reports of outcomes, carried hop by hop to whoever collects them.
//!
//! Each device numbers its receipts of a repository from 1, so "everything up to n" is one number in a digest
//! (`Mark`), and a receipt that was taken twice is seen to be the same.

mod sent;
mod signer;

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

pub use self::{
    sent::Sent,
    signer::{KeyPair, Recorded, Signer},
};
use crate::{
    Hash, NodeId, RepositoryId, Shared, Wall,
    gateway::{Via, is_device},
    label,
    rules::GROUP,
    table::Table,
    wire::{MAX_MARKS, MAX_RECEIPTS, Mark, Room},
};

/// What the signature covers besides the receipt, so that it can't be taken for anything else.
const CONTEXT: &[u8] = b"burr receipt v1\0";
/// Bytes of the words in one receipt (reason, output); longer ones are cut at a character.
pub const MAX_WORDS: usize = 1024;
/// Bytes of what hooks wrote in one receipt; of more, the end is kept.
pub const MAX_SAID: usize = 512;
/// Bytes of the attributes, names and values, in one receipt; a device with more tells none.
pub const MAX_ATTRIBUTES: usize = 1024;
/// Bytes of the certificate in one receipt; a device with a longer one does not count.
pub const MAX_MEMBER: usize = 2048;
/// Receipts kept of one device and repository.
const MAX_PER_DEVICE: usize = 64;

/// How an update ended on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The version is active and was confirmed.
    Active,
    /// The version was tried, found bad, and the device went back.
    RolledBack {
        /// Why, with the last output of the health command.
        reason: String,
    },
    /// The version never became active.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// The outcome with its words cut to their bound.
    #[must_use]
    pub fn cut(self) -> Self {
        match self {
            Self::Active => Self::Active,
            Self::RolledBack { reason } => Self::RolledBack { reason: last_words(&reason) },
            Self::Failed { reason } => Self::Failed { reason: last_words(&reason) },
        }
    }
}

/// One report of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Of which repository.
    pub repository: RepositoryId,
    /// Who reports.
    pub device: NodeId,
    /// The device's running number in this repository, from 1.
    pub counter: u64,
    /// The app.
    pub app: String,
    /// The channel.
    pub channel: String,
    /// The version that was tried.
    pub version: String,
    /// Its release number in the channel.
    pub seq: u64,
    /// Its bundle.
    pub bundle: Hash,
    /// The version that is active after it, if any.
    pub active: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes fetched for it, by provider; at most 16 providers.
    pub sources: Vec<(NodeId, u64)>,
    /// Milliseconds from the decision to the outcome.
    pub took_ms: u64,
    /// The end of what the device's hooks wrote around the switch, at most [`MAX_SAID`].
    pub said: String,
    /// When, by the device's own clock, if it had one.
    pub at: Option<Wall>,
    /// The age of the metadata that the decision rested on: the issue time that it was signed with.
    pub issued: Wall,
    /// All attributes of the device, if its owner lets it tell them ([`Tell`](crate::config::Tell)); at most
    /// [`MAX_ATTRIBUTES`] bytes.
    pub attributes: Option<BTreeMap<String, String>>,
    /// Whose word it is, if not the device's own.
    pub via: Option<Via>,
    /// What makes the device a member of a fleet of the repository: with a receipt of a release that may halt, so that it
    /// counts (`protocol/README.md` §9.8), and where it tells its attributes, so that its groups are known. Judged when it is counted; at most [`MAX_MEMBER`] bytes.
    #[serde(with = "crate::id::hex_or_bytes")]
    pub member: Option<Vec<u8>>,
}

impl Receipt {
    /// Whether it says that the version is no good on the device.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.outcome != Outcome::Active
    }

    /// Who signs it.
    #[must_use]
    pub fn signer(&self) -> NodeId {
        self.via.as_ref().map_or(self.device, |via| via.gateway)
    }
}

/// A receipt's bytes and their signature. The bytes travel as they were signed. All who hold it share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt(Shared<Signed>);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signed {
    /// The encoded [`Receipt`].
    #[serde(with = "crate::id::bytes")]
    receipt: Vec<u8>,
    /// Ed25519 over a context string and those bytes, by the device's identity. Two halves, as serde has no 64-byte
    /// arrays.
    signature: ([u8; 32], [u8; 32]),
}

/// A receipt that can't be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not the encoding of a receipt, or over a bound.
    #[error("not a receipt within its bounds")]
    Malformed,
    /// Not signed by the device that it names, or by the gateway that speaks for it.
    #[error("not signed by the device, or the gateway, that it names")]
    Signature,
}

impl SignedReceipt {
    /// An encoded [`Receipt`] with what is said to be its signature.
    #[must_use]
    pub fn of(mut receipt: Vec<u8>, signature: [u8; 64]) -> Self {
        receipt.shrink_to_fit();
        let (left, right) = signature.split_at(32);
        let signature = (left.try_into().expect("32"), right.try_into().expect("32"));
        Self(Signed { receipt, signature }.into())
    }

    /// The encoded [`Receipt`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.receipt
    }

    /// Ed25519 over a context string and those bytes, by the device's identity or its gateway's.
    #[must_use]
    pub fn signature(&self) -> [u8; 64] {
        let (left, right) = self.0.signature;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&left);
        signature[32..].copy_from_slice(&right);
        signature
    }

    /// Checks bounds and signature.
    ///
    /// # Errors
    /// [`ReceiptError`] when it is malformed or not signed by whom it names.
    pub fn verify(&self) -> Result<Receipt, ReceiptError> {
        let receipt = self.read()?;
        self.check(&receipt)?;
        Ok(receipt)
    }

    /// Checks bounds alone.
    pub(crate) fn read(&self) -> Result<Receipt, ReceiptError> {
        if self.bytes().len() > 4 * MAX_WORDS + MAX_MEMBER {
            return Err(ReceiptError::Malformed);
        }
        let (receipt, rest): (Receipt, _) =
            postcard::take_from_bytes(self.bytes()).map_err(|_| ReceiptError::Malformed)?;
        if !rest.is_empty() || receipt.counter == 0 || receipt.sources.len() > 16 || !receipt.is_readable() {
            return Err(ReceiptError::Malformed);
        }
        if receipt.attributes.as_ref().is_some_and(|attributes| !Receipt::may_tell(attributes)) {
            return Err(ReceiptError::Malformed);
        }
        if receipt.via.as_ref().is_some_and(|via| !is_device(&via.device) || via.name() != receipt.device) {
            return Err(ReceiptError::Malformed);
        }
        if receipt.member.as_ref().is_some_and(|member| member.len() > MAX_MEMBER || receipt.via.is_some()) {
            return Err(ReceiptError::Malformed);
        }
        Ok(receipt)
    }

    /// Checks the signature of what it reads as.
    pub(crate) fn check(&self, receipt: &Receipt) -> Result<(), ReceiptError> {
        VerifyingKey::from_bytes(&receipt.signer().0)
            .and_then(|key| key.verify_strict(&signed_bytes(self.bytes()), &self.signature().into()))
            .map_err(|_| ReceiptError::Signature)
    }
}

impl Receipt {
    /// Whether attributes are few enough to be told, and nothing in them would act on a terminal.
    #[must_use]
    pub fn may_tell(attributes: &BTreeMap<String, String>) -> bool {
        let bytes = |(name, value): (&String, &String)| name.len() + value.len();
        attributes.iter().map(bytes).sum::<usize>() <= MAX_ATTRIBUTES
            && attributes.keys().all(|name| name != GROUP && label::check_name("attribute", name).is_ok())
            && !attributes.values().any(|value| value.chars().any(char::is_control))
    }

    /// Whether its names are names and its words are words: whoever signs it, it comes to be shown on a terminal.
    fn is_readable(&self) -> bool {
        let words = match &self.outcome {
            Outcome::Active => "",
            Outcome::RolledBack { reason } | Outcome::Failed { reason } => reason,
        };
        let names = [("app", &self.app), ("channel", &self.channel)];
        words.len() <= MAX_WORDS
            && self.said.len() <= MAX_SAID
            && !words.chars().chain(self.said.chars()).any(is_odd)
            && names.into_iter().all(|(what, name)| label::check_name(what, name).is_ok())
            && [&self.version].into_iter().chain(&self.active).all(|version| label::check_version(version).is_ok())
    }
}

impl SignedReceipt {
    /// The receipt of one that was verified before it was kept.
    #[must_use]
    pub fn peek(&self) -> Option<Receipt> {
        postcard::from_bytes(self.bytes()).ok()
    }
}

fn signed_bytes(receipt: &[u8]) -> Vec<u8> {
    [CONTEXT, receipt].concat()
}

/// What would do something to a terminal.
fn is_odd(c: char) -> bool {
    c.is_control() && c != '\n'
}

/// Cuts words to [`MAX_WORDS`], keeping the end: the last lines of an output say most. Control characters become blanks.
#[must_use]
pub fn last_words(words: &str) -> String {
    last_bytes(words, MAX_WORDS)
}

/// The same, cut to so many bytes.
pub(crate) fn last_bytes(words: &str, most: usize) -> String {
    let words = words.replace(is_odd, " ");
    let mut start = words.len().saturating_sub(most);
    while !words.is_char_boundary(start) {
        start += 1;
    }
    words[start..].to_owned()
}

/// Who gives a receipt up first when there is no room: whether it is another device, no member, how many it has, and whether
/// it has the newest.
type Weight = (bool, bool, usize, bool);

/// A number of a receipt by repository and device.
pub type Numbers = Table<(RepositoryId, NodeId), u64>;

/// The receipts that a node keeps: its own and those it carries or collects.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Receipts {
    kept: Table<(RepositoryId, NodeId), Table<u64, SignedReceipt>>,
    count: usize,
    /// The lowest counter of each device that came and could not be kept, until it comes again.
    missed: Numbers,
    /// Devices that a kept receipt's certificate makes members: strangers' receipts go before theirs.
    members: Table<(RepositoryId, NodeId), ()>,
    /// Devices whose marks others can't know: one that was acknowledged is above what is claimed now, as a receipt below
    /// it was missed, or the one that was missed is here.
    changed: Table<(RepositoryId, NodeId), ()>,
    /// What all marks hash to, once somebody asked since one changed.
    #[serde(skip)]
    hash: Option<Box<Hash>>,
}

impl Receipts {
    /// Whether a receipt of this number is here already, or newer ones pushed it out.
    #[must_use]
    pub fn knows(&self, repository: RepositoryId, device: NodeId, counter: u64) -> bool {
        self.kept.get(&(repository, device)).is_some_and(|kept| {
            kept.contains_key(&counter)
                || kept.len() >= MAX_PER_DEVICE && kept.first().is_some_and(|(oldest, _)| counter < *oldest)
        })
    }

    /// Keeps a verified receipt and returns those that had to go for it (at most two). It may be itself that goes: when
    /// there is no room and no device has more, whoever sent it has to keep it. `me` is this device, and `is_member` says
    /// whether its certificate makes its device a member.
    pub fn insert(
        &mut self,
        me: NodeId,
        receipt: &Receipt,
        signed: SignedReceipt,
        is_member: bool,
        bound: usize,
    ) -> Vec<Mark> {
        self.hash = None;
        let key = (receipt.repository, receipt.device);
        if self.missed.get(&key) == Some(&receipt.counter) {
            self.missed.remove(&key);
            self.changed.insert(key, ());
        }
        if is_member {
            self.members.insert(key, ());
        }
        let kept = self.kept.get_or_insert_with(key, Table::default);
        if kept.insert(receipt.counter, signed).is_none() {
            self.count += 1;
        }
        let mut gone = Vec::new();
        if kept.len() > MAX_PER_DEVICE {
            gone.extend(self.drop_oldest(key));
        }
        if self.count > bound {
            let most = self
                .kept
                .iter()
                .max_by_key(|(device, kept)| self.weight(me, device, kept.len(), Some(&key)))
                .map(|(key, _)| *key);
            gone.extend(most.and_then(|key| self.drop_oldest(key)));
        }
        gone
    }

    /// Whether a first receipt of this device would be kept, or go at once because there is no room for it.
    #[must_use]
    pub fn has_room_for(&self, me: NodeId, receipt: &Receipt, is_member: bool, bound: usize) -> bool {
        let key = (receipt.repository, receipt.device);
        self.kept.contains_key(&key) || self.has_room_over(me, (key.1 != me, !is_member, 1, true), bound)
    }

    /// Of which devices receipts are kept here of which there is none yet. Who holds those of so many that its marks can't
    /// name each says that of all.
    #[must_use]
    pub fn room(&self, me: NodeId, bound: usize) -> Room {
        if self.kept.len() > MAX_MARKS || self.has_room_over(me, (true, true, 1, true), bound) {
            Room::All
        } else if self.has_room_over(me, (true, false, 1, true), bound) {
            Room::Members
        } else {
            Room::None
        }
    }

    /// Whether there is room for a receipt of a device of such a weight that has none here.
    fn has_room_over(&self, me: NodeId, weight: Weight, bound: usize) -> bool {
        self.count < bound || self.kept.iter().any(|(device, kept)| self.weight(me, device, kept.len(), None) > weight)
    }

    /// Who gives one up when there is no room for that of `newest`. The device with most receipts: a chatty device can't push
    /// the others' out, nor can many invented ones; they go before those of members, so that who makes up devices hides
    /// nothing that these say; and what this device has to report goes last.
    fn weight(
        &self,
        me: NodeId,
        device: &(RepositoryId, NodeId),
        count: usize,
        newest: Option<&(RepositoryId, NodeId)>,
    ) -> Weight {
        (device.1 != me, !self.members.contains_key(device), count, Some(device) == newest)
    }

    fn drop_oldest(&mut self, key: (RepositoryId, NodeId)) -> Option<Mark> {
        let kept = self.kept.get_mut(&key)?;
        let (counter, _) = kept.pop_first()?;
        self.count -= 1;
        if kept.is_empty() {
            self.kept.remove(&key);
            self.members.remove(&key);
            self.changed.remove(&key);
        }
        Some(Mark { repository: key.0, device: key.1, counter })
    }

    /// Who is a member changed: judges all devices of a repository by what their kept receipts show.
    pub fn judge_members(&mut self, repository: RepositoryId, is_member: impl Fn(&Receipt) -> bool) {
        self.members.retain(|(other, _), ()| *other != repository);
        let of_it = self.kept.from(&(repository, NodeId([0; 32]))).take_while(|((of, _), _)| *of == repository);
        let shows = |kept: &Table<u64, SignedReceipt>| {
            kept.values().filter_map(SignedReceipt::peek).any(|receipt| is_member(&receipt))
        };
        for (key, _) in of_it.filter(|(_, kept)| shows(kept)) {
            self.members.insert(*key, ());
        }
    }

    /// After a restart: a device's own receipts have no gap in their numbers, so one that is missing was missed, unless
    /// it was never to be had.
    pub fn recall_missed(&mut self) {
        for (key, kept) in self.kept.iter() {
            let gap = kept.keys().zip(kept.keys().skip(1)).find(|(number, next)| **number + 1 < **next);
            let is_own =
                || kept.first().and_then(|(_, signed)| signed.peek()).is_some_and(|receipt| receipt.via.is_none());
            if let Some((number, _)) = gap
                && self.missed.len() < MAX_MARKS
                && is_own()
            {
                self.missed.insert(*key, number + 1);
            }
        }
    }

    /// A receipt came that could not be kept: it is not claimed by the mark of a later one.
    pub fn missed(&mut self, mark: &Mark) {
        let key = (mark.repository, mark.device);
        if self.knows(mark.repository, mark.device, mark.counter)
            || self.missed.len() >= MAX_MARKS && !self.missed.contains_key(&key)
        {
            return;
        }
        self.hash = None;
        let lowest = self.missed.get_or_insert_with(key, || mark.counter);
        *lowest = mark.counter.min(*lowest);
        if self.kept.contains_key(&key) {
            self.changed.insert(key, ());
        }
    }

    /// The newest counter held of each device, or the one before the first that was missed; at most [`MAX_MARKS`].
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        self.all_marks().take(MAX_MARKS).collect()
    }

    fn all_marks(&self) -> impl Iterator<Item = Mark> {
        self.kept.iter().filter_map(|(key, kept)| self.mark_of(*key, kept))
    }

    /// What all marks hash to: the BLAKE3 of each one's repository, device, and counter in 8 bytes, big-endian, in their order.
    pub fn hash(&mut self) -> Hash {
        let hash = self.hash.take().unwrap_or_else(|| {
            let mut hasher = blake3::Hasher::new();
            for Mark { repository, device, counter } in self.all_marks() {
                hasher.update(&repository.0).update(&device.0).update(&counter.to_be_bytes());
            }
            Box::new(Hash(*hasher.finalize().as_bytes()))
        });
        **self.hash.insert(hash)
    }

    /// Of how many devices there are receipts here.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.kept.len()
    }

    /// The marks of devices that others name.
    #[must_use]
    pub fn marks_among(&self, named: &[Mark]) -> Vec<Mark> {
        named.iter().filter_map(|mark| self.mark((mark.repository, mark.device))).collect()
    }

    /// Those marks that others can't know and that were not told since; where they are over [`MAX_MARKS`], the next answer
    /// has the others.
    pub fn changed_marks(&mut self) -> Vec<Mark> {
        let told: Vec<_> = self.changed.keys().take(MAX_MARKS).copied().collect();
        self.changed.retain(|key, ()| told.binary_search(key).is_err());
        told.into_iter().filter_map(|key| self.mark(key)).collect()
    }

    fn mark(&self, key: (RepositoryId, NodeId)) -> Option<Mark> {
        self.mark_of(key, self.kept.get(&key)?)
    }

    fn mark_of(&self, key: (RepositoryId, NodeId), kept: &Table<u64, SignedReceipt>) -> Option<Mark> {
        let (newest, _) = kept.last()?;
        // One that newer ones have pushed out since is missed no more.
        let missed = self.missed.get(&key).filter(|missed| !self.knows(key.0, key.1, **missed));
        let missed = missed.map_or(u64::MAX, |missed| missed.saturating_sub(1));
        Some(Mark { repository: key.0, device: key.1, counter: missed.min(*newest) })
    }

    /// What a device that holds its own receipts up to a mark lacks of them, oldest first, at most [`MAX_RECEIPTS`].
    #[must_use]
    pub fn newer_than(&self, mark: &Mark) -> Vec<SignedReceipt> {
        let newer = self.kept.get(&(mark.repository, mark.device)).into_iter();
        let newer = newer.flat_map(|kept| kept.from(&mark.counter.saturating_add(1)));
        newer.take(MAX_RECEIPTS).map(|(_, signed)| signed.clone()).collect()
    }

    /// The highest counter that `device` used in `repository`; zero if none is known.
    #[must_use]
    pub fn highest(&self, repository: RepositoryId, device: NodeId) -> u64 {
        self.kept.get(&(repository, device)).and_then(|kept| kept.last()).map_or(0, |(counter, _)| *counter)
    }

    /// The newest receipt of `device` in `repository`.
    #[must_use]
    pub fn newest(&self, repository: RepositoryId, device: NodeId) -> Option<&SignedReceipt> {
        self.kept.get(&(repository, device))?.last().map(|(_, signed)| signed)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All receipts, in the order of repository, device and counter.
    pub fn iter(&self) -> impl Iterator<Item = &SignedReceipt> {
        self.kept.values().flat_map(Table::values)
    }
}
