//! A flight recording, flown again: the same agent, told the same, must want the same.

mod waits;

use burr_protocol::{
    Agent, Time,
    action::{Action, Input},
    fact::Fact,
    flight::{self, FlightError, Moment, Recording},
    wire::Message,
};

pub use waits::{Waits, Work};

/// What one input led to, again.
#[derive(Debug)]
pub struct Step<'a> {
    /// What was recorded.
    pub moment: &'a Moment,
    /// What is wanted now.
    pub actions: Vec<Action>,
    /// Whether that is what was wanted when it was recorded.
    pub same: bool,
}

/// Why a recording can't be run again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The agent that it begins with can't be read.
    #[error(transparent)]
    Beginning(#[from] FlightError),
    /// No agent can have made it.
    #[error("at its input {input} the recording's time goes back from {from:?} to {to:?}")]
    TimeWentBack {
        /// The number of the input, from 0.
        input: usize,
        /// The time before.
        from: Time,
        /// Its time.
        to: Time,
    },
}

/// Runs a recording again and shows what the agent told at its start, if it begins with that, and then each step. Returns
/// the agent as it is at the end.
///
/// # Errors
/// [`ReplayError`] if it is no recording of this version, or of any.
pub fn replay(
    recording: &Recording,
    start: impl FnOnce(&[Fact]),
    mut step: impl FnMut(&Step<'_>),
) -> Result<Agent, ReplayError> {
    let (mut agent, facts) = recording.agent()?;
    start(&facts);
    let mut now = recording.beginning.now().time;
    for (input, moment) in recording.moments.iter().enumerate() {
        let to = moment.now.time;
        if to < now {
            return Err(ReplayError::TimeWentBack { input, from: now, to });
        }
        now = to;
        let mut actions = Vec::new();
        agent.handle(moment.now, moment.input.clone(), &mut actions);
        let same = flight::hash(&actions) == moment.actions;
        step(&Step { moment, actions, same });
    }
    Ok(agent)
}

/// An input in a line.
#[must_use]
pub fn input_in_words(input: &Input) -> String {
    match input {
        Input::Message { node, bytes } => format!("{} says {}", node.short(), message_in_words(bytes)),
        Input::Announcement { node, bytes, .. } => {
            format!("{} passes on an announcement of {} bytes", node.short(), bytes.len())
        }
        Input::Import { repository, pack } => {
            format!("import of {}: metadata of {} bytes", repository.short(), pack.len())
        }
        other => cut(&format!("{other:?}")),
    }
}

/// An action in a line.
#[must_use]
pub fn action_in_words(action: &Action) -> String {
    match action {
        Action::Tell(fact) => format!("tell: {fact}"),
        Action::Send { node, bytes } => format!("send to {}: {}", node.short(), message_in_words(bytes)),
        Action::Persist { token, records } => format!("write {} records ({})", records.len(), token.0),
        Action::Announce { repository, bytes } => {
            format!("announce metadata of {} in {} bytes", repository.short(), bytes.len())
        }
        other => cut(&format!("{other:?}")),
    }
}

fn message_in_words(bytes: &[u8]) -> String {
    match Message::decode(bytes) {
        Ok(Message::Pack { repository, bytes }) => {
            format!("the metadata of {} in {} bytes", repository.short(), bytes.len())
        }
        Ok(message) => cut(&format!("{message:?}")),
        Err(why) => format!("{} bytes that are {why}", bytes.len()),
    }
}

/// Lists of hashes are long, and their beginning tells what they are.
fn cut(words: &str) -> String {
    const MOST: usize = 200;
    match words.char_indices().nth(MOST) {
        Some((at, _)) => format!("{} ...", &words[..at]),
        None => words.to_owned(),
    }
}
