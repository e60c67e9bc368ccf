//! `burr-sim swarm`: many seeds, and what to do about one that fails.

use std::{
    fmt::{self, Display},
    path::PathBuf,
    process::ExitCode,
};

use burr_sim::{
    scenario::Scenario,
    swarm,
    world::{Rule, Violation},
};

use super::{Failure, Source, show, side_by_side, write};

/// Failures that are named; all are counted.
const NAMED: usize = 10;

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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(serde::Serialize)]
struct Outcome {
    seeds: usize,
    faults: usize,
    /// Seeds that broke a rule.
    broke: usize,
    /// The first of them.
    failures: Vec<Broke>,
    small: Option<Small>,
}

/// A seed that broke a rule.
#[derive(serde::Serialize)]
struct Broke {
    seed: u64,
    rule: String,
    words: String,
}

/// The first failure, made small.
#[derive(serde::Serialize)]
struct Small {
    file: PathBuf,
    faults: usize,
    faults_before: usize,
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
        let failed: Vec<_> = runs.iter().filter(|(_, broken)| !broken.is_empty()).collect();
        let named = failed.iter().take(NAMED).map(|(scenario, broken)| {
            let Violation { rule, words, .. } = &broken[0];
            Broke { seed: scenario.seed, rule: rule.to_string(), words: words.clone() }
        });
        let outcome = Outcome {
            seeds: runs.len(),
            faults: runs.iter().map(|(scenario, _)| scenario.faults.len()).sum(),
            broke: failed.len(),
            failures: named.collect(),
            small: match failed.first() {
                Some((scenario, broken)) => Some(self.shrink(&source, scenario, broken[0].rule)?),
                None => None,
            },
        };
        show(&outcome, self.json)?;
        Ok(if outcome.broke == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn shrink(&self, source: &Source, scenario: &Scenario, rule: Rule) -> Result<Small, Failure> {
        eprintln!("seed {} broke a rule ({rule}); it is made small ...", scenario.seed);
        let small = swarm::shrink(scenario, rule).map_err(|error| source.failed(error))?;
        let text = small.write().map_err(|error| source.failed(error))?;
        write(&self.failure, &format!("# Breaks: {rule}.\n{text}"))?;
        Ok(Small { file: self.failure.clone(), faults: small.faults.len(), faults_before: scenario.faults.len() })
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds, {} faults; {} seeds broke a rule", self.seeds, self.faults, self.broke)?;
        for Broke { seed, rule, words } in &self.failures {
            writeln!(f, "  seed {seed}: {rule}: {words}")?;
        }
        if let Some(Small { file, faults, faults_before }) = &self.small {
            writeln!(f, "{faults} faults are left of {faults_before}; this shows it again:")?;
            writeln!(f, "  burr-sim run {}", file.display())?;
        }
        Ok(())
    }
}
