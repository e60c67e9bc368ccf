//! `burr-sim replay`: a node's flight recording, run again.

use std::{fs, path::PathBuf, process::ExitCode};

use burr_protocol::{
    action::Action,
    flight::{Beginning, Recording},
};
use burr_sim::replay::{action_in_words, input_in_words, replay};

use super::Failure;

#[derive(clap::Args)]
pub(crate) struct Replay {
    /// A file that `burr run --flight-recorder` wrote
    file: PathBuf,
    /// Print what the node told people alone
    #[arg(long)]
    facts: bool,
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
        println!("node {}, {} inputs {from}", recording.beginning.me(), recording.moments.len());
        let (mut number, mut others) = (0_usize, Vec::new());
        let start = |facts: &[burr_protocol::fact::Fact]| facts.iter().for_each(|fact| println!("  tell: {fact}"));
        let replayed = replay(&recording, start, |step| {
            number += 1;
            let time = step.moment.now.time.0;
            if self.facts {
                for action in &step.actions {
                    if let Action::Tell(fact) = action {
                        println!("{time:>10} ms  {fact}");
                    }
                }
            } else {
                println!("{time:>10} ms  {}", input_in_words(&step.moment.input));
                step.actions.iter().for_each(|action| println!("{:>13}   {}", "", action_in_words(action)));
            }
            if !step.same {
                others.push(number);
                println!("{:>13}   ! these are not the actions that were recorded", "");
            }
        });
        replayed.map_err(|error| Failure::Recording { path, words: error.to_string() })?;
        match others.first() {
            None => {
                println!("all {number} inputs led to the actions that were recorded");
                Ok(ExitCode::SUCCESS)
            }
            Some(first) => {
                println!("{} of {number} inputs led to others, the first of them input {first}", others.len());
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
