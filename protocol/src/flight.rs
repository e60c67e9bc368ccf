//! A flight recording: what an agent began with and every input since, so that the same decisions can be made again
//! elsewhere.
//!
//! A driver writes it down while it works; `burr-sim replay` runs it again. It is [`MAGIC`], then a frame for the
//! [`Beginning`], then one for each [`Moment`], in order; a frame is its length in four bytes, big-endian, and the postcard
//! encoding. One that was cut short by a power cut ends with the last whole frame. It holds no private key: receipts that the
//! node signed are recorded with their signatures. It does hold what peers said, and the node's settings.
//!
//! What fails in the field fails at the end of a long run. So a recording may begin in the middle of one, with a
//! [`Snapshot`] of the agent: a driver begins a new one now and then, and keeps the newest. That nothing of an agent is
//! missing in a snapshot is tried where it can be (`sim/tests/all/flight.rs`): agents that are written down and read back
//! at every input do what they would have done.

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
pub const MAGIC: &[u8] = b"burr flight 2\n";

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

/// An agent in the middle of its work, all of it but who signs for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    me: NodeId,
    now: Now,
    agent: Vec<u8>,
}

/// What a recording begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Beginning {
    /// The agent is made.
    Start(Start),
    /// It goes on.
    Later(Snapshot),
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
    /// What it begins with.
    pub beginning: Beginning,
    /// What happened, in order.
    pub moments: Vec<Moment>,
}

impl Snapshot {
    /// Takes an agent down as it is between two inputs.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        Self { me: agent.me(), now: agent.now(), agent: wire::encode(agent) }
    }

    /// The agent as it was; it tells nothing, as it goes on.
    ///
    /// # Errors
    /// [`FlightError::Frame`] if another version of the agent was taken down.
    pub fn agent(&self, signer: impl Into<Signer>) -> Result<Agent, FlightError> {
        let agent: Agent = postcard::from_bytes(&self.agent).map_err(|_| FlightError::Frame(0))?;
        Ok(agent.signed_by(signer.into()))
    }
}

impl Beginning {
    /// Whose decisions they are.
    #[must_use]
    pub fn me(&self) -> NodeId {
        match self {
            Self::Start(start) => start.me,
            Self::Later(snapshot) => snapshot.me,
        }
    }

    /// When.
    #[must_use]
    pub fn now(&self) -> Now {
        match self {
            Self::Start(start) => start.now,
            Self::Later(snapshot) => snapshot.now,
        }
    }

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
        let beginning = next(&mut rest, 0)?.ok_or(FlightError::Frame(0))?;
        let mut moments = Vec::new();
        while let Some(moment) = next(&mut rest, moments.len() + 1)? {
            moments.push(moment);
        }
        Ok(Self { beginning, moments })
    }

    /// The agent as it was at the beginning, and what it told then.
    ///
    /// # Errors
    /// [`FlightError::Frame`] if another version of the agent was taken down.
    pub fn agent(&self) -> Result<(Agent, Vec<Fact>), FlightError> {
        let signed = self.moments.iter().flat_map(|moment| &moment.signed);
        let signed = signed.map(|signed| (signed.bytes().to_vec(), signed.clone())).collect();
        let signer = Signer::Recorded(Box::new(Recorded { me: self.beginning.me(), signed }));
        match self.beginning.clone() {
            Beginning::Start(Start { config, records, store, now, .. }) => {
                Ok(Agent::new(signer, config, records, store, now))
            }
            Beginning::Later(snapshot) => Ok((snapshot.agent(signer)?, Vec::new())),
        }
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

/// What a snapshot holds of what has a form for JSON alone: that.
pub(crate) mod json {
    use serde::{
        Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error as _, ser::Error as _,
    };

    pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(value).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
