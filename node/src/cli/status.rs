//! `burr status`: peers, what is held, what is installed, how fresh; for people, programs or Prometheus.

use std::{fmt, process::ExitCode};

use burr_node::{
    control::{self, Overview, Request},
    error::Error,
};
use burr_protocol::{member::Capability, status::Membership};
use bytesize::ByteSize;
use serde::Serialize;

use super::{Context, fleet, in_words, print};

/// Show how the node on this data directory stands: peers, what is held, what is installed, how fresh it is.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print it as Prometheus metrics, such as for the textfile collector of `node_exporter`.
    #[arg(long)]
    metrics: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    if arguments.metrics {
        let text: String = control::ask(&context.data, &Request::Metrics)?;
        print(text.trim_end())?;
    } else {
        context.print(&Shown(control::ask(&context.data, &Request::Status)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Overview);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.0.status;
        writeln!(f, "node      {}", status.node)?;
        for Membership { repository, fleet, groups, capabilities, not_after, why_not } in &status.memberships {
            let (standing, until) = (standing(capabilities, groups), fleet::time(*not_after));
            write!(f, "member    of fleet {fleet} of {}{standing}, until {until}", repository.short())?;
            writeln!(f, "{}", why_not.as_ref().map(|why| format!("; IT DOES NOT COUNT: {why}")).unwrap_or_default())?;
        }
        for listener in &self.0.listeners {
            writeln!(f, "listens   {listener}")?;
        }
        writeln!(f, "peers     {} connected, {} refused", status.peers.len(), status.refused.len())?;
        for peer in &status.peers {
            let collects = if peer.collects { ", collects receipts" } else { "" };
            writeln!(f, "          {}{}{collects}", peer.node.short(), standing(&peer.capabilities, &peer.groups))?;
        }
        for (node, lie) in &status.refused {
            writeln!(f, "          {} refused for {lie}", node.short())?;
        }
        for app in &status.apps {
            let active = app.active.as_ref().map_or("nothing", |active| &active.version);
            write!(f, "app       {} on {}: {active} is active, {}", app.app, app.channel, app.phase)?;
            if let Some(next) = &app.next {
                write!(f, " {next}")?;
            }
            writeln!(f, "{}", app.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())?;
        }
        for repository in &status.repositories {
            write!(f, "metadata  {}: ", repository.repository.short())?;
            let (Some(version), Some(age), Some(left)) =
                (repository.version, repository.age_s, repository.expires_in_s)
            else {
                writeln!(f, "nothing yet")?;
                continue;
            };
            write!(f, "version {version}, signed {} ago, ", in_words(age))?;
            if left < 0 {
                write!(f, "EXPIRED {} ago", in_words(-left))?;
            } else {
                write!(f, "good for {}", in_words(left))?;
            }
            for (channel, version) in &repository.newest {
                write!(f, "; {channel} {version}")?;
            }
            if let Some((acts, head)) = &repository.log {
                write!(f, "; its publisher's log has {acts} acts, the last is {}", head.short())?;
            }
            if let Some(why) = &repository.forked {
                write!(f, "\n          TWO HISTORIES: {why}")?;
            }
            writeln!(f)?;
        }
        let budget = &status.budget;
        for limit in budget.limits.iter().filter(|limit| limit.rate != "unlimited" || limit.waits.is_some()) {
            let waits = limit.waits.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
            writeln!(f, "budget    {} {}: {}{waits}", limit.link, limit.direction, limit.rate)?;
        }
        if let Some(cap) = budget.cap {
            let (used, cap) = (ByteSize::b(budget.used), ByteSize::b(cap));
            writeln!(f, "month     {}: {used} of {cap} used with other sites", budget.month)?;
        }
        for halted in &status.halted {
            let held_back = if halted.held_back { " (its publisher held it back)" } else { "" };
            writeln!(f, "HALTED    {} {}: {}{held_back}", halted.app, halted.version, halted.tally)?;
        }
        let held: u64 = status.blobs.iter().map(|blob| blob.held).sum();
        write!(f, "store     {} of {}", ByteSize::b(held), ByteSize::b(status.quota))?;
        for blob in &status.blobs {
            let percent = (blob.held * 100).checked_div(blob.size).unwrap_or(100);
            write!(f, "\n          {} {} {percent} %", blob.blob.short(), ByteSize::b(blob.size))?;
        }
        Ok(())
    }
}

/// What a member is there for, and its groups, if it showed a certificate.
fn standing(capabilities: &[Capability], groups: &[String]) -> String {
    let capabilities =
        if capabilities.is_empty() { String::new() } else { format!(" as {}", fleet::words(capabilities)) };
    if groups.is_empty() { capabilities } else { format!("{capabilities}, in {}", fleet::words(groups)) }
}
