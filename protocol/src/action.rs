//! The agent's whole contract with a driver: what goes in, what comes out.
//!
//! A driver calls [`Agent::handle`](crate::Agent::handle) with each [`Input`] and carries out the [`Action`]s in
//! order; it calls with [`Input::Wake`] at [`Agent::wake_at`](crate::Agent::wake_at). It decides nothing.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Hash, NodeId, RepositoryId,
    budget::Direction,
    config::{Choice, Config},
    fact::Fact,
    fetch::{PieceMap, Request, RequestId},
    gateway::{Declined, Report},
    peers::Address,
    policy::Conditions,
    record::Record,
    release::Payload,
    seal::{Epoch, Lock},
    serving::QuestionId,
    update::{Hook, Refused},
};

/// Names a [`Action::Persist`] until its [`Input::Stored`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Token(pub u64);

/// The driver's own name for a report, or a wish of someone at the device, that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// The driver's own name for a gossip message that waits for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GossipId(pub u64);

/// The driver's own name for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The time of `wake_at` has come.
    Wake,
    /// An address is known: configured (`fixed`) or found on the LAN.
    Found {
        /// Where.
        address: Address,
        /// Who is there, if known.
        node: Option<NodeId>,
        /// Whether it is configured.
        fixed: bool,
    },
    /// An address that was found on the LAN is not heard of there any more.
    Lost {
        /// Where.
        address: Address,
    },
    /// A node was heard of on this node's own network: what goes between the two crosses no uplink.
    Near {
        /// Who.
        node: NodeId,
    },
    /// A connection stands; its node's identity is proven. In a closed mesh nothing may be spoken on it before
    /// [`Action::Admit`]; it ends as connected or departed.
    Arrived {
        /// Which connection.
        link: LinkId,
        /// Who.
        node: NodeId,
        /// From where, as far as the driver knows.
        from: Option<IpAddr>,
        /// Whether this side dialled.
        dialled: bool,
    },
    /// An arrived connection shows a certificate.
    Introduced {
        /// Which connection.
        link: LinkId,
        /// The certificate, not yet checked.
        #[serde(with = "crate::id::bytes")]
        certificate: Vec<u8>,
    },
    /// The other side of an arrived connection did not admit this node.
    TurnedAway {
        /// Who.
        node: NodeId,
        /// Its words.
        why: String,
    },
    /// An arrived connection is gone before anything was spoken on it.
    Departed {
        /// Which connection.
        link: LinkId,
    },
    /// A node is connected and may be spoken with: its identity is proven, and in a closed mesh each side admitted the
    /// other.
    Connected {
        /// Who.
        node: NodeId,
        /// Where, if this side dialled.
        address: Option<Address>,
        /// Whether it is reached at an address of this node's own network.
        near: bool,
    },
    /// The last connection to a node is gone.
    Disconnected {
        /// Who.
        node: NodeId,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Where.
        address: Address,
    },
    /// A frame arrived on the sync stream.
    Message {
        /// From whom.
        node: NodeId,
        /// An encoded [`Message`](crate::wire::Message), not yet checked.
        #[serde(with = "crate::id::bytes")]
        bytes: Vec<u8>,
    },
    /// Gossip brought something; nothing is forwarded before its [`Action::Verdict`].
    Announcement {
        /// Who passed it on (not who made it).
        node: NodeId,
        /// For the verdict.
        id: GossipId,
        /// An encoded [`Announcement`](crate::wire::Announcement), not yet checked.
        #[serde(with = "crate::id::bytes")]
        bytes: Vec<u8>,
    },
    /// A repository on this machine (a publisher's, a courier's stick) offers metadata; its blobs were put into the
    /// store, and told with [`Input::Held`], before.
    Import {
        /// Which repository.
        repository: RepositoryId,
        /// Its encoded trust pack, not yet checked.
        #[serde(with = "crate::id::bytes")]
        pack: Vec<u8>,
    },
    /// What a [`Action::Persist`] asked for is on disk.
    Stored(Token),
    /// It could not be written; nothing of it is on disk.
    StoreFailed {
        /// Of which persist.
        token: Token,
        /// Why, for people.
        why: String,
    },
    /// Which pieces of a blob are in the store, verified: the answer to [`Action::Look`],
    /// or news after an import.
    Held {
        /// Which blob.
        blob: Hash,
        /// Its size in bytes, as asked.
        size: u64,
        /// Which pieces.
        pieces: PieceMap,
    },
    /// Verified bytes of a request were stored.
    Received {
        /// Which request.
        id: RequestId,
        /// How many since the last report.
        bytes: u64,
    },
    /// A request was answered in full, and stored.
    Fetched {
        /// Which request.
        id: RequestId,
    },
    /// A request came to nothing, or to a part.
    FetchFailed {
        /// Which request.
        id: RequestId,
        /// Why.
        why: FetchFailure,
    },
    /// A node asks for a part of a blob, and waits for [`Action::Serve`] or [`Action::Decline`]; at most
    /// [`MAX_QUESTIONS`](crate::serving::MAX_QUESTIONS) of one node at a time.
    Asked {
        /// Which question.
        id: QuestionId,
        /// Who.
        node: NodeId,
        /// Of which blob.
        blob: Hash,
        /// Bytes that it asks for.
        bytes: u64,
    },
    /// An answer ended.
    Served {
        /// To which question.
        id: QuestionId,
        /// Bytes of the blob that went.
        bytes: u64,
    },
    /// Bytes of blobs are about to go by HTTP, where the driver itself moves them: they count like all others, as many as
    /// [`Agent::may_carry`](crate::Agent::may_carry) said.
    Carried {
        /// Whether they stay within this node's site.
        near: bool,
        /// Which way.
        direction: Direction,
        /// How many.
        bytes: u64,
    },
    /// Bytes that were counted so did not go.
    NotCarried {
        /// Whether they would have stayed within this node's site.
        near: bool,
        /// Which way.
        direction: Direction,
        /// How many.
        bytes: u64,
    },
    /// An [`Action::Delete`] ended.
    Deleted {
        /// Which blob.
        blob: Hash,
        /// Whether it is gone; if not, it is there as before.
        gone: bool,
    },
    /// A staging ended.
    Staged {
        /// For which app.
        app: String,
        /// Which bundle.
        bundle: Hash,
        /// How.
        result: Result<(), StageFailure>,
    },
    /// What came of a [`Action::Unlock`]; or of an enrolment, which brought a key.
    Unlocked {
        /// Of which epoch.
        epoch: Epoch,
        /// Whether its key is here now.
        result: Result<(), NoKey>,
    },
    /// A switch ended: `current` names this bundle now (nothing, if `None`), or the old one still.
    Switched {
        /// Of which app.
        app: String,
        /// To which bundle.
        bundle: Option<Hash>,
        /// How; in words if it failed.
        result: Result<(), String>,
    },
    /// A hook ended.
    Hooked {
        /// Of which app.
        app: String,
        /// On which bundle.
        bundle: Hash,
        /// Which.
        hook: Hook,
        /// What it wrote; or, if it says no, why, with that.
        result: Result<String, String>,
    },
    /// A health command ended.
    Health {
        /// Of which app.
        app: String,
        /// Of which bundle.
        bundle: Hash,
        /// Whether it says that all is well.
        healthy: bool,
        /// Its reason and last output.
        words: String,
    },
    /// Someone at the device asks to look for news now.
    Check,
    /// Something else was chosen at the device, within the bounds of [`Choice::check`].
    Choose(Choice),
    /// Someone at the device says that a staged release is to be switched to now.
    Apply {
        /// Of which app.
        app: String,
    },
    /// Settings that hold from now on; what is followed, and by whom it may be spoken with, are the same as before. The
    /// driver has checked them.
    Settings(Box<Config>),
    /// Someone at the device wants something of an app's update; answered by [`Action::Grant`].
    Wished {
        /// For the answer.
        ticket: Ticket,
        /// Of which app.
        app: String,
        /// What.
        wish: Wish,
    },
    /// What only the device itself knows of the moment, when it changed.
    Conditions(Conditions),
    /// A device behind this node's gateway reports; it is answered by [`Action::Answer`].
    Reported {
        /// For the answer.
        ticket: Ticket,
        /// What it says.
        report: Report,
    },
    /// The running app says that it works.
    Confirm {
        /// Which app.
        app: String,
    },
    /// This machine lost its network, or has one again. Where nothing is said, it has one.
    Network {
        /// Whether it has one.
        up: bool,
    },
}

/// What someone at the device may want of an app's update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Put the release that is under way off, for so long from now.
    Defer(Duration),
    /// Go back to the last good version, and stay there.
    RollBack,
    /// Try again what failed, and end a stay.
    Retry,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchFailure {
    /// The provider sent bytes that are not the blob's.
    Corrupt,
    /// The provider does not have it.
    NotFound,
    /// The connection broke.
    Lost,
    /// Nothing came for too long.
    TimedOut,
    /// The provider is too busy.
    Refused,
    /// This node's own store failed.
    Store,
}

/// Why a bundle could not be staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageFailure {
    /// The payload is not the bundle that the release names: the publisher's fault, trying again does not help.
    Bad(String),
    /// No space left.
    NoSpace(String),
    /// Anything else of this machine.
    Other(String),
}

/// Why a device can't open a sealed release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoKey {
    /// The key is not here, and there was no list of keys to look into.
    Missing,
    /// This list has no key for this device.
    NotAMember(Hash),
    /// A key, a list or the disk is no good, in words.
    Failed(String),
}

/// What a driver is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Write these records, all or none, durably, in the order of the persists.
    Persist {
        /// For [`Input::Stored`].
        token: Token,
        /// What.
        records: Vec<Record>,
    },
    /// Connect to an address; ends in `Connected` or `DialFailed`.
    Dial(Address),
    /// Drop the connections to a node and accept no more from it.
    Refuse(NodeId),
    /// Drop the connections to a node; it may come again.
    Drop(NodeId),
    /// Show this certificate on an arrived connection.
    Introduce {
        /// Which connection.
        link: LinkId,
        /// The certificate.
        #[serde(with = "crate::id::bytes")]
        certificate: Vec<u8>,
    },
    /// Tell the other side of an arrived connection that it may speak, and speak once it says the same.
    Admit {
        /// Which connection.
        link: LinkId,
    },
    /// Tell the other side of an arrived connection why it may not speak, and close it.
    Dismiss {
        /// Which connection.
        link: LinkId,
        /// Why.
        why: String,
    },
    /// Send a frame on the sync stream.
    Send {
        /// To whom.
        node: NodeId,
        /// An encoded message.
        #[serde(with = "crate::id::bytes")]
        bytes: Vec<u8>,
    },
    /// Listen to the gossip about a repository.
    Subscribe(RepositoryId),
    /// Push an announcement to the gossip about a repository.
    Announce {
        /// Which repository.
        repository: RepositoryId,
        /// The encoded announcement.
        #[serde(with = "crate::id::bytes")]
        bytes: Vec<u8>,
    },
    /// Whether a gossip message is passed on.
    Verdict {
        /// Which message.
        id: GossipId,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// Say what is in the store of a blob.
    Look {
        /// Which blob.
        blob: Hash,
        /// Its size in bytes.
        size: u64,
    },
    /// Ask a provider for a part of a blob.
    Fetch(Request),
    /// End a request; it needs no answer.
    Cancel(RequestId),
    /// Answer a question; ends in [`Input::Served`].
    Serve(QuestionId),
    /// Say that a question is not answered now.
    Decline(QuestionId),
    /// Remove a blob from the store, which ends in [`Input::Deleted`].
    Delete {
        /// Which blob.
        blob: Hash,
    },
    /// See whether the key of an epoch is here and opens a release; if not, look for it in the list of keys, and keep it
    /// where this user alone can read it.
    Unlock {
        /// What is to be opened.
        lock: Box<Lock>,
        /// The epoch's list of keys, whole in the store, if it is there.
        keys: Option<Payload>,
    },
    /// Unpack a whole payload into a slot of its own, verifying everything.
    Stage {
        /// For which app.
        app: String,
        /// The bundle that must come out.
        bundle: Hash,
        /// The payload.
        payload: Payload,
        /// Files in it at most.
        files: u64,
        /// Bytes in it at most.
        bytes: u64,
        /// What opens it, if it is sealed.
        lock: Option<Box<Lock>>,
    },
    /// Make a staged bundle the current one in one atomic step; none, if `None`.
    Switch {
        /// Of which app.
        app: String,
        /// To which bundle.
        bundle: Option<Hash>,
    },
    /// Run one of the app's hooks.
    RunHook {
        /// Of which app.
        app: String,
        /// On which bundle.
        bundle: Hash,
        /// Its version, for the hook's environment.
        version: String,
        /// Which.
        hook: Hook,
        /// End it after this time.
        limit: Duration,
    },
    /// Run the app's health command.
    CheckHealth {
        /// Of which app.
        app: String,
        /// On which bundle.
        bundle: Hash,
        /// Its version, for the command's environment.
        version: String,
        /// End it after this time.
        limit: Duration,
    },
    /// Remove all slots of an app but these.
    Clean {
        /// Of which app.
        app: String,
        /// Which stay.
        keep: Vec<Hash>,
    },
    /// Answer a report: what it says is on disk, or it is not taken.
    Answer {
        /// Which report.
        ticket: Ticket,
        /// Why it is not taken.
        result: Result<(), Declined>,
    },
    /// Answer a wish: it is done, or under way and on disk, or why it is not done.
    Grant {
        /// Which wish.
        ticket: Ticket,
        /// Why it is not done.
        result: Result<(), Refused>,
    },
    /// Tell people.
    Tell(Fact),
}

/// What becomes of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// Drop it; its sender did nothing wrong.
    Ignore,
    /// Drop it; its sender should have known.
    Reject,
}
