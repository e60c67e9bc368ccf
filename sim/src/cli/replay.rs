//! `burr-sim replay`: a node's flight recording, run again.

use std::{cell::RefCell, fs, path::PathBuf, process::ExitCode};

use burr_protocol::{
    action::Action,
    fact::Fact,
    flight::{Beginning, Recording},
};
use burr_sim::replay::{Step, Waits, action_in_words, input_in_words, replay};

use super::{Failure, print};

#[derive(clap::Args)]
pub(crate) struct Replay {
    /// A file that `burr run --flight-recorder` wrote
    file: PathBuf,
    /// Print what the node told people alone
    #[arg(long)]
    facts: bool,
    /// Print how long the node took for what its agent asked of it, and nothing else
    #[arg(long, conflicts_with = "facts")]
    waits: bool,
}

impl Replay {
    /// Prints every input and what followed; exit code 1 if that is not what followed on the node.
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let path = self.file.display().to_string();
        let bytes = fs::read(&self.file).map_err(|error| Failure::File { path: path.clone(), error })?;
        let recording = Recording::read(&bytes)
            .map_err(|error| Failure::Recording { path: path.clone(), words: error.to_string() })?;
        let from = match &recording.beginning {
            Beginning::Start(_) => "from its start",
            Beginning::Later(_) => "from the middle of a run",
        };
        let (me, inputs) = (recording.beginning.me(), recording.moments.len());
        print(format_args!("node {me}, {inputs} inputs {from}\n"))?;
        let printed = RefCell::new(Ok(()));
        let say = |words: String| {
            let mut printed = printed.borrow_mut();
            if printed.is_ok() {
                *printed = print(words);
            }
        };
        let (mut number, mut others, mut waits) = (0_usize, Vec::new(), Waits::default());
        let start = |facts: &[Fact]| {
            facts.iter().filter(|_| !self.waits).for_each(|fact| say(format!("  tell: {fact}\n")));
        };
        let replayed = replay(&recording, start, |step| {
            number += 1;
            waits.take(step);
            if !self.waits {
                say(self.words(step));
            }
            if !step.same {
                others.push(number);
                say(format!("{:>13}   ! these are not the actions that were recorded\n", ""));
            }
        });
        replayed.map_err(|error| Failure::Recording { path, words: error.to_string() })?;
        if self.waits {
            say(waits.to_string());
        }
        let many = others.len();
        match others.first() {
            None => say(format!("all {number} inputs led to the actions that were recorded\n")),
            Some(first) => say(format!("{many} of {number} inputs led to others, the first of them input {first}\n")),
        }
        printed.into_inner()?;
        Ok(if many == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// An input and what followed.
    fn words(&self, step: &Step<'_>) -> String {
        let time = step.moment.now.time.0;
        if self.facts {
            let facts = step.actions.iter().filter_map(|action| match action {
                Action::Tell(fact) => Some(format!("{time:>10} ms  {fact}\n")),
                _ => None,
            });
            return facts.collect();
        }
        let input = format!("{time:>10} ms  {}\n", input_in_words(&step.moment.input));
        let actions = step.actions.iter().map(|action| format!("{:>13}   {}\n", "", action_in_words(action)));
        input + &actions.collect::<String>()
    }
}
