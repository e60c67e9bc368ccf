//! A scenario: a fleet, what lies between its nodes, what is released when, and what goes wrong. Read from TOML.
//!
//! A value may be a range (`["1s", "1h"]`), from which each site or node draws its own by the run's seed. The table
//! `[config]` is the agent's part of a node's `burr.toml`, as it is.

pub mod fault;
pub mod quantity;
mod shipped;

use burr_protocol::config::{BadSetting, Config};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use fault::{Fault, FaultKind, Who};
use quantity::{Count, Range, Rate, Size, Span};
pub use shipped::SHIPPED;

/// What a scenario file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for: what can be learnt from it.
    pub teaches: String,
    /// How long it goes on.
    pub duration: Span,
    /// The seed, unless the command line gives one.
    #[serde(default = "one")]
    pub seed: u64,
    /// How often the publisher signs its timestamp anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew: Option<Span>,
    /// After this much of the time nothing new goes wrong, what went wrong is healed, and all must converge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal: Option<Span>,
    /// Whether what always holds is looked at, at every event.
    #[serde(default)]
    pub check: bool,
    /// A defect of the driver, to see the checks work: writes are reported before they are durable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub speaks_too_soon: bool,
    /// The agent's settings on every node, as `burr.toml` has them.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub config: Table,
    /// Where nodes can be.
    #[serde(default)]
    pub sites: Vec<Site>,
    /// The nodes.
    pub nodes: Vec<Nodes>,
    /// What is released.
    #[serde(default)]
    pub releases: Vec<Release>,
    /// Nodes of all groups that meet at random, two by two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meetings: Option<Meetings>,
    /// What one machine moves on which all nodes run, as in a lab: bytes of blobs in a second of its processors. Without
    /// it, each node has a processor that is never busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Rate>,
    /// Contacts that were recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

fn one() -> u64 {
    1
}

/// A group of sites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// How many there are.
    #[serde(default = "single")]
    pub count: Range<Count>,
    /// One way between two nodes of one site.
    #[serde(default = "lan_latency")]
    pub latency: Range<Span>,
    /// How many of those present a node that arrives hears of, by mDNS.
    #[serde(default = "neighbours")]
    pub neighbours: usize,
    /// The share of what its nodes' links carry that blobs get, 0.1 to 1: the rest are headers, and what is sent again as
    /// a queue overflows.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub goodput: f64,
    /// What connects a site to others, shared by all there; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
}

fn whole() -> f64 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_whole(share: &f64) -> bool {
    *share >= 1.0
}

fn single() -> Range<Count> {
    Range::of(Count(1))
}

fn lan_latency() -> Range<Span> {
    Range::of(Span(1))
}

fn neighbours() -> usize {
    16
}

/// A site's uplink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// Out of the site.
    pub up: Range<Rate>,
    /// Into the site.
    pub down: Range<Rate>,
    /// One way, to the middle of the network.
    #[serde(default = "wan_latency")]
    pub latency: Range<Span>,
    /// The share of packets that are lost, 0 to 0.5.
    #[serde(default)]
    pub loss: f64,
    /// The share of what it carries into a site that blobs get, as of a site's own links.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub goodput: f64,
    /// The same of what it carries out of a site, where there are the acknowledgements of what comes in as well.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub goodput_up: f64,
    /// What stands in front of either direction while it is busy: messages, requests and the first byte of an answer wait
    /// behind it.
    #[serde(default = "nothing")]
    pub queue: Size,
    /// The kind of line, for the report: `dsl`, `lte`, `satellite`.
    #[serde(default = "wan")]
    pub class: String,
    /// What a gigabyte costs on it, in either direction, in any currency.
    #[serde(default)]
    pub cost: f64,
}

fn nothing() -> Size {
    Size(0)
}

fn wan_latency() -> Range<Span> {
    Range::of(Span(20))
}

fn wan() -> String {
    "wan".to_owned()
}

/// What nodes of a group do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Installs what is released.
    Device,
    /// Keeps every release for others: a LAN cache, a courier.
    Cache,
    /// The same, and collects receipts: a kiosk, a gateway.
    Collector,
    /// Releases, and collects receipts. There is one.
    Publisher,
}

/// A group of nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// Its name.
    pub name: String,
    /// What they do.
    pub role: Role,
    /// How many there are; at each site of `site`, if `each_site`.
    #[serde(default = "single")]
    pub count: Range<Count>,
    /// The group of sites where they are; spread over all of them in turn. Nowhere, if left out: they meet others, or
    /// are in a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Whether `count` is of each site.
    #[serde(default)]
    pub each_site: bool,
    /// Out of each node.
    #[serde(default = "lan_rate")]
    pub up: Range<Rate>,
    /// Into each node.
    #[serde(default = "lan_rate")]
    pub down: Range<Rate>,
    /// When they are there; always, if left out.
    #[serde(default)]
    pub presence: Presence,
    /// Groups whose nodes they are configured to know: of each those at the same site, or where there is none, some of all.
    #[serde(default)]
    pub knows: Vec<String>,
    /// How many of all that are, each node's own draw.
    #[serde(default = "some")]
    pub knows_at_most: usize,
    /// Settings of theirs alone, over those of all.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub config: Table,
    /// Whether they boot without a clock.
    #[serde(default)]
    pub no_clock: bool,
}

fn some() -> usize {
    8
}

fn lan_rate() -> Range<Rate> {
    Range::of(Rate(12_500_000))
}

/// When nodes are where they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Presence {
    /// Always.
    #[default]
    Always,
    /// With the radio on for a while once each period, each at a time of its own.
    Duty {
        /// For how long.
        on: Range<Span>,
        /// How often.
        every: Range<Span>,
    },
    /// On a round of stops: groups of sites, of which each node takes its own, in turn.
    Route {
        /// Groups of sites.
        stops: Vec<String>,
        /// At each.
        stay: Range<Span>,
        /// From a stop to the next.
        travel: Range<Span>,
    },
}

/// What is released.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// When.
    pub at: Span,
    /// Its version, higher than the one before.
    pub version: String,
    /// Of its payload.
    pub size: Range<Size>,
    /// Whether it fails its health check everywhere.
    #[serde(default)]
    pub bad: bool,
}

/// Random meetings: each two nodes meet at random times, on average so often, and stay together for a while.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meetings {
    /// The mean time between two meetings of the same two.
    pub every: Span,
    /// How long they last.
    pub lasting: Span,
    /// The rate between the two.
    pub rate: Rate,
}

/// Recorded contacts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The file, beside the scenario.
    pub file: String,
    /// Its form.
    pub format: TraceFormat,
    /// The rate between two in contact.
    pub rate: Rate,
}

/// Forms of recorded contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceFormat {
    /// The ONE's connectivity report: `TIME CONN A B up|down`.
    One,
    /// A contact list, as CRAWDAD's traces have it: `A B START END`, in seconds.
    Contacts,
}

/// What is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or not a scenario.
    #[error("{0}")]
    Toml(String),
    /// A setting that no node has, or a value that it can't have.
    #[error("config: {0}")]
    Config(String),
    /// Something names what is not there, or what can't be.
    #[error("{0}")]
    Wrong(String),
}

impl From<BadSetting> for ScenarioError {
    fn from(bad: BadSetting) -> Self {
        Self::Config(bad.to_string())
    }
}

impl Scenario {
    /// Reads a scenario and checks what can be checked before it runs.
    ///
    /// # Errors
    /// [`ScenarioError`] for the first thing that is wrong.
    pub fn read(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        scenario.check_names()?;
        Ok(scenario)
    }

    /// Reads one after a value in it was changed: `releases.0.size=20 MB`.
    ///
    /// # Errors
    /// [`ScenarioError`] if there is no such value, or it can't be that.
    pub fn read_with(text: &str, changes: &[(String, String)]) -> Result<Self, ScenarioError> {
        let mut table: Value =
            toml::from_str::<Table>(text).map(Value::Table).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        for (path, new) in changes {
            change(&mut table, path, new)?;
        }
        let text = toml::to_string(&table).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        Self::read(&text)
    }

    /// The scenario as a file has it.
    ///
    /// # Errors
    /// [`ScenarioError::Toml`] if it has a value that TOML can't have.
    pub fn write(&self) -> Result<String, ScenarioError> {
        toml::to_string(self).map_err(|error| ScenarioError::Toml(error.to_string()))
    }

    /// The agent's settings on the nodes of a group.
    ///
    /// # Errors
    /// [`ScenarioError::Config`] for a setting that no node has, or a value that it can't have.
    pub fn agent_config(&self, nodes: &Nodes) -> Result<Config, ScenarioError> {
        let mut config = Config::default();
        for table in [&self.config, &nodes.config] {
            for (name, text) in flatten("", table)? {
                config.set(&name, &text)?;
            }
        }
        config.check().map_err(|error| ScenarioError::Config(error.to_string()))?;
        Ok(config)
    }

    fn check_names(&self) -> Result<(), ScenarioError> {
        let wrong = |words: String| Err(ScenarioError::Wrong(words));
        let sites: Vec<&str> = self.sites.iter().map(|site| site.name.as_str()).collect();
        let groups: Vec<&str> = self.nodes.iter().map(|nodes| nodes.name.as_str()).collect();
        for (names, what) in [(&sites, "sites"), (&groups, "nodes")] {
            if let Some(twice) = names.iter().find(|name| names.iter().filter(|other| other == name).count() > 1) {
                return wrong(format!("there are two groups of {what} of the name {twice:?}"));
            }
        }
        let publishers = self.nodes.iter().filter(|nodes| nodes.role == Role::Publisher).count();
        if publishers != 1 {
            return wrong(format!("there must be one group of the role publisher, and there are {publishers}"));
        }
        for nodes in &self.nodes {
            self.agent_config(nodes)?;
            let stops: &[String] = if let Presence::Route { stops, .. } = &nodes.presence { stops } else { &[] };
            if let Some(gone) = nodes.site.iter().chain(stops).find(|site| !sites.contains(&site.as_str())) {
                return wrong(format!("{}: there are no sites of the name {gone:?}", nodes.name));
            }
            if let Some(gone) = nodes.knows.iter().find(|group| !groups.contains(&group.as_str())) {
                return wrong(format!("{}: there are no nodes of the name {gone:?}", nodes.name));
            }
            if nodes.each_site && nodes.site.is_none() {
                return wrong(format!("{}: `each_site` needs a `site`", nodes.name));
            }
        }
        for fault in &self.faults {
            let (who, names) = match (fault.kind.node(), fault.kind.site()) {
                (Some(node), _) => (node, &groups),
                (None, Some(site)) => (site, &sites),
                (None, None) => continue,
            };
            if !names.contains(&who.group.as_str()) {
                return wrong(format!("the fault {} is about {who}, which is not there", fault.kind.name()));
            }
        }
        if self.sites.iter().filter_map(|site| site.uplink.as_ref()).any(|uplink| !(0.0..=0.5).contains(&uplink.loss)) {
            return wrong("the loss of an uplink is from 0 to 0.5".to_owned());
        }
        let uplinks = self.sites.iter().filter_map(|site| site.uplink.as_ref());
        let mut shares = self
            .sites
            .iter()
            .map(|site| site.goodput)
            .chain(uplinks.flat_map(|uplink| [uplink.goodput, uplink.goodput_up]));
        if !shares.all(|share| (0.1..=1.0).contains(&share)) {
            return wrong("the goodput of a link is from 0.1 to 1".to_owned());
        }
        Ok(())
    }
}

/// Changes a value that is there, or one of a table that is there.
fn change(table: &mut Value, path: &str, new: &str) -> Result<(), ScenarioError> {
    let wrong = || ScenarioError::Wrong(format!("there is nothing of the name {path} to change"));
    let mut at = table;
    let (way, last) = path.rsplit_once('.').unwrap_or(("", path));
    for step in way.split('.').filter(|step| !step.is_empty()) {
        at = match at {
            Value::Table(table) => table.entry(step).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(list) => step.parse().ok().and_then(|at: usize| list.get_mut(at)).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
    }
    // A value as TOML has it, or else text.
    let value = format!("value = {new}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = value.unwrap_or_else(|| Value::String(new.to_owned()));
    match at {
        Value::Table(table) => {
            table.insert(last.to_owned(), value);
            Ok(())
        }
        _ => Err(wrong()),
    }
}

/// A nested table's values as text, with their dotted names.
fn flatten(prefix: &str, table: &Table) -> Result<Vec<(String, String)>, ScenarioError> {
    let mut out = Vec::new();
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => out.extend(flatten(&name, inner)?),
            Value::String(text) => out.push((name, text.clone())),
            Value::Integer(number) => out.push((name, number.to_string())),
            Value::Boolean(flag) => out.push((name, flag.to_string())),
            _ => return Err(ScenarioError::Config(format!("{name} must be text, a number, true or false"))),
        }
    }
    Ok(out)
}
