//! `burr-sim swarm`: many seeds, and what to do about one that fails.

use std::{path::PathBuf, process::ExitCode};

use burr_sim::{
    scenario::Scenario,
    swarm,
    world::{Rule, Violation},
};

use super::{Failure, Source, side_by_side, write};

#[derive(clap::Args)]
pub(crate) struct Swarm {
    /// A file, or a built-in name: the fleet that faults are drawn for
    #[arg(default_value = "swarm")]
    scenario: String,
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Change a value of the scenario (may be given again)
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::change)]
    changes: Vec<(String, String)>,
    /// Where to write the smallest scenario that fails as the first failure does
    #[arg(long, value_name = "FILE", default_value = "failure.toml")]
    failure: PathBuf,
}

impl Swarm {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let source = Source::find(&self.scenario)?;
        let base = source.scenario(&self.changes)?;
        let seeds: Vec<u64> = (self.first..self.first.saturating_add(self.seeds)).collect();
        let runs: Vec<(Scenario, Vec<Violation>)> = side_by_side(&seeds, |seed| {
            let scenario = swarm::draw(&base, *seed);
            let broken = swarm::run(&scenario).map_err(|error| source.failed(error))?;
            Ok::<_, Failure>((scenario, broken))
        })?;
        let faults: usize = runs.iter().map(|(scenario, _)| scenario.faults.len()).sum();
        let failed: Vec<_> = runs.iter().filter(|(_, broken)| !broken.is_empty()).collect();
        println!("{} seeds, {faults} faults; {} seeds broke a rule", runs.len(), failed.len());
        for (scenario, broken) in failed.iter().take(10) {
            println!("  seed {}: {}: {}", scenario.seed, broken[0].rule, broken[0].words);
        }
        let Some((scenario, broken)) = failed.first() else { return Ok(ExitCode::SUCCESS) };
        self.shrink(&source, scenario, broken[0].rule)?;
        Ok(ExitCode::FAILURE)
    }

    fn shrink(&self, source: &Source, scenario: &Scenario, rule: Rule) -> Result<(), Failure> {
        println!("making seed {} small ...", scenario.seed);
        let small = swarm::shrink(scenario, rule).map_err(|error| source.failed(error))?;
        let text = small.write().map_err(|error| source.failed(error))?;
        write(&self.failure, &format!("# Breaks: {rule}.\n{text}"))?;
        println!("{} faults are left of {}; this shows it again:", small.faults.len(), scenario.faults.len());
        println!("  burr-sim run {}", self.failure.display());
        Ok(())
    }
}
