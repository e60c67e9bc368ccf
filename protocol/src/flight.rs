//! A flight recording: what an agent began with and every input since, so that the same decisions can be made again
//! elsewhere.
//!
//! A driver writes it down while it works; `burr-sim replay` runs it again. It is [`MAGIC`], then a frame for the
//! [`Start`], then one for each [`Moment`], in order; a frame is its length in four bytes, big-endian, and the postcard
//! encoding. One that was cut short by a power cut ends with the last whole frame. It holds no private key: receipts that the
//! node signed are recorded with their signatures. It does hold what peers said, and the node's settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Agent, Hash, NodeId, Now,
    action::{Action, Input},
    cache::Stored,
    config::Config,
    fact::Fact,
    receipt::{Recorded, SignedReceipt, Signer},
    record::Record,
    wire,
};

/// What a recording begins with.
pub const MAGIC: &[u8] = b"burr flight 1\n";

/// What an agent was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Whose decisions they are.
    pub me: NodeId,
    /// Its settings.
    pub config: Config,
    /// What was on its disk.
    pub records: Vec<Record>,
    /// What was in its blob store.
    pub store: BTreeMap<Hash, Stored>,
    /// When.
    pub now: Now,
}

/// One input, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub now: Now,
    /// What happened.
    pub input: Input,
    /// What the actions that followed hash to.
    pub actions: Hash,
    /// Receipts among them that the node signed.
    pub signed: Vec<SignedReceipt>,
}

/// A file that is no recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlightError {
    /// It begins with something else.
    #[error("not a flight recording")]
    Other,
    /// A frame can't be read: damaged, or of another version of the agent.
    #[error("frame {0} can't be read: it is damaged, or another version of Burr recorded it")]
    Frame(usize),
}

/// A recording that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// What the agent was made of.
    pub start: Start,
    /// What happened, in order.
    pub moments: Vec<Moment>,
}

impl Start {
    /// The first bytes of a recording.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [MAGIC, &frame(self)].concat()
    }
}

impl Moment {
    /// What is recorded of one call of the agent of `me`.
    #[must_use]
    pub fn of(me: NodeId, now: Now, input: Input, actions: &[Action]) -> Self {
        let records = actions.iter().filter_map(|action| match action {
            Action::Persist { records, .. } => Some(records),
            _ => None,
        });
        let receipts = records.flatten().filter_map(|record| match record {
            Record::Receipt { receipt, .. } => receipt.as_ref(),
            _ => None,
        });
        let own = |signed: &&SignedReceipt| signed.peek().is_some_and(|receipt| receipt.signer() == me);
        Self { now, input, actions: hash(actions), signed: receipts.filter(own).cloned().collect() }
    }

    /// The next bytes of a recording.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        frame(self)
    }
}

impl Recording {
    /// Reads a recording up to its last whole frame.
    ///
    /// # Errors
    /// [`FlightError`] if it is none, or a whole frame can't be read.
    pub fn read(bytes: &[u8]) -> Result<Self, FlightError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(FlightError::Other)?;
        let start = next(&mut rest, 0)?.ok_or(FlightError::Frame(0))?;
        let mut moments = Vec::new();
        while let Some(moment) = next(&mut rest, moments.len() + 1)? {
            moments.push(moment);
        }
        Ok(Self { start, moments })
    }

    /// The agent as it was at the start, and what it told then.
    #[must_use]
    pub fn agent(&self) -> (Agent, Vec<Fact>) {
        let signed = self.moments.iter().flat_map(|moment| &moment.signed);
        let signed = signed.map(|signed| (signed.receipt.clone(), signed.clone())).collect();
        let Start { me, config, records, store, now } = self.start.clone();
        Agent::new(Signer::Recorded(Box::new(Recorded { me, signed })), config, records, store, now)
    }
}

/// What actions hash to.
#[must_use]
pub fn hash(actions: &[Action]) -> Hash {
    Hash::of(&wire::encode(&actions))
}

fn frame<T: Serialize>(value: &T) -> Vec<u8> {
    let body = wire::encode(value);
    let length = u32::try_from(body.len()).expect("an input is far below 4 GiB");
    [&length.to_be_bytes(), body.as_slice()].concat()
}

fn next<T: DeserializeOwned>(rest: &mut &[u8], number: usize) -> Result<Option<T>, FlightError> {
    let Some((length, after)) = rest.split_first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| FlightError::Frame(number))?;
    let Some((body, after)) = after.split_at_checked(length) else { return Ok(None) };
    *rest = after;
    postcard::from_bytes(body).map(Some).map_err(|_| FlightError::Frame(number))
}
