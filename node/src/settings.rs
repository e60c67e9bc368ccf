//! What a node is told to do: defaults, then the file `burr.toml`, then what `burr config set` chose, then `BURR_*`, then
//! flags, then what `burr device` chose, resolved once.
//!
//! [`keys`] lists every setting with its default and why; [`Resolved`] is the text of each with where it came from,
//! which `burr config` prints; [`Settings`] is what that means.

mod chosen;
pub(crate) mod device;
pub mod follow;
pub mod keys;

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use burr_protocol::{
    Wall,
    config::{BadSetting, Config, Confirm, Follow, Freshness, Install},
};

use crate::{
    condition,
    error::{Error, Kind},
    gateway::{self, Serves, Transport},
    membership,
    net::Enroller,
    upstream::{self, MAX_UPSTREAMS},
};
use device::Chosen;
use follow::Link;
use keys::{APP_KEYS, KEYS, Key};

/// Where a value came from; later ones win.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of this call.
    Flag,
    /// What was chosen at the device, by `burr device`.
    Device(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) | Self::Device(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A value as text, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The text, in the notation of [`keys`].
    pub text: String,
    /// Where it came from.
    pub source: Source,
}

/// Texts of all settings, with their sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    data: PathBuf,
    values: BTreeMap<&'static str, Value>,
    apps: BTreeMap<String, BTreeMap<&'static str, Value>>,
}

/// What a node is to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory.
    pub data: PathBuf,
    /// The interface to listen on.
    pub listen: IpAddr,
    /// The port for QUIC and TCP; 0 lets the system choose.
    pub port: u16,
    /// Whether nodes on the LAN find each other.
    pub mdns: bool,
    /// Nodes to connect to, as `ip:port` or multiaddress.
    pub peers: Vec<String>,
    /// Answers those who ask to be enrolled; set by whoever starts the node, never by a file.
    pub enroller: Option<Enroller>,
    /// The agent's own settings.
    pub agent: Config,
    /// What is run on the device for its apps.
    pub commands: BTreeMap<String, Commands>,
    /// The directory to record what the agent is told in, for `burr-sim replay`.
    pub flight_recorder: Option<PathBuf>,
    /// Where to serve local control over HTTP, on loopback, if it is to be served.
    pub control: Option<SocketAddr>,
    /// Web servers that the node takes from as a last resort, if there are any.
    pub upstream: Option<upstream::Settings>,
    /// The command that measures the device's condition, if there is one.
    pub conditions: Option<condition::Settings>,
    /// Where to serve `/metrics` over HTTP, if it is to be served.
    pub metrics: Option<SocketAddr>,
    /// The HTTP gateway, if there is to be one.
    pub gateway: Option<gateway::Settings>,
}

/// Shell commands of an app; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// Says whether a new version works.
    pub health: String,
    /// The hook before a switch.
    pub before: String,
    /// The hook after it.
    pub after: String,
}

impl Resolved {
    /// The defaults, what `burr.toml` in the data directory says, and what `burr config set` chose.
    ///
    /// # Errors
    /// [`Kind::Config`] for a file that can't be read, is no TOML, or has a key that no setting has.
    pub fn load(data: &Path) -> Result<Self, Error> {
        Self::load_with(data, None)
    }

    /// The same, as if this were what was chosen.
    fn load_with(data: &Path, chosen: Option<&str>) -> Result<Self, Error> {
        let default = |key: &Key| (key.name, Value { text: key.default.to_owned(), source: Source::Default });
        let mut resolved =
            Self { data: data.to_owned(), values: KEYS.iter().map(default).collect(), apps: BTreeMap::new() };
        for (name, text) in [("burr.toml", None), (chosen::FILE, chosen)] {
            let path = data.join(name);
            match text.map_or_else(|| fs::read_to_string(&path), |text| Ok(text.to_owned())) {
                Ok(text) => resolved.take_file(&path, &text)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::new(Kind::Config, format!("can't read {}", path.display())).with_source(error));
                }
            }
        }
        Ok(resolved)
    }

    fn take_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let bad = |words: String| Error::new(Kind::Config, format!("{}: {words}", path.display()));
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| bad(error.to_string()))?;
        let source = || Source::File(path.to_owned());
        for (name, value) in flatten(table) {
            let text = text_of(&value)
                .ok_or_else(|| bad(format!("{name} must be text, a number, true or false, or a list of them")))?;
            let known = match name.strip_prefix("apps.").and_then(|rest| rest.rsplit_once('.')) {
                Some((app, key)) => self.set_app(app, key, text, source()),
                None => self.set(&name, text, source()),
            };
            known.map_err(|error| {
                let named = bad(error.to_string());
                if let Some(hint) = error.hint() { named.with_hint(hint) } else { named }
            })?;
        }
        Ok(())
    }

    /// Takes in the environment's `BURR_*`.
    ///
    /// # Errors
    /// [`Kind::Config`] for a `BURR_*` variable that no setting has.
    pub fn take_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<(), Error> {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("BURR_") else { continue };
            if keys::OTHER_VARIABLES.contains(&rest) {
                continue;
            }
            let key = KEYS.iter().find(|key| key.variable() == name);
            let Some(key) = key else {
                let words = format!("the environment variable {name} is no setting of Burr");
                return Err(Error::new(Kind::Config, words).with_hint("`burr config` lists them all"));
            };
            self.values.insert(key.name, Value { text, source: Source::Environment(name) });
        }
        Ok(())
    }

    /// Sets one value.
    ///
    /// # Errors
    /// [`Kind::Config`] if no setting has this name.
    pub fn set(&mut self, name: &str, text: String, source: Source) -> Result<(), Error> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(unknown(name, KEYS.iter().map(|key| key.name)));
        };
        self.values.insert(key.name, Value { text, source });
        Ok(())
    }

    /// Sets one value of an app.
    ///
    /// # Errors
    /// [`Kind::Config`] if no setting of apps has this name.
    pub fn set_app(&mut self, app: &str, name: &str, text: String, source: Source) -> Result<(), Error> {
        let Some(key) = APP_KEYS.iter().find(|key| key.name == name) else {
            return Err(unknown(&format!("apps.{app}.{name}"), APP_KEYS.iter().map(|key| key.name)));
        };
        let default = |key: &Key| (key.name, Value { text: key.default.to_owned(), source: Source::Default });
        let values = self.apps.entry(app.to_owned()).or_insert_with(|| APP_KEYS.iter().map(default).collect());
        values.insert(key.name, Value { text, source });
        Ok(())
    }

    /// Installs what a link names, from now on.
    ///
    /// # Errors
    /// [`Kind::Config`] if it names no channel.
    pub fn install(&mut self, link: &Link, source: &Source) -> Result<(), Error> {
        let channel = link.channel.clone().ok_or_else(|| {
            Error::new(Kind::Config, format!("the link of {} names no channel to install", link.app))
                .with_hint("write APP/CHANNEL@REPOSITORY")
        })?;
        self.set_app(&link.app, "repository", link.repository.to_string(), source.clone())?;
        self.set_app(&link.app, "install", channel, source.clone())
    }

    /// Sets a value that nobody has set.
    pub fn set_default(&mut self, name: &'static str, text: &str) {
        if let Some(value) = self.values.get_mut(name).filter(|value| value.source == Source::Default) {
            text.clone_into(&mut value.text);
        }
    }

    /// Whether an app is followed.
    #[must_use]
    pub fn follows(&self, app: &str) -> bool {
        let of = self.apps.get(app).and_then(|values| values.get("repository"));
        of.is_some_and(|repository| !repository.text.is_empty())
    }

    /// The apps that are followed.
    pub fn apps(&self) -> impl Iterator<Item = &str> {
        self.apps.keys().map(String::as_str)
    }

    /// All values by their full names, in order.
    #[must_use]
    pub fn list(&self) -> Vec<(String, &Value)> {
        let apps = self
            .apps
            .iter()
            .flat_map(|(app, values)| values.iter().map(move |(name, value)| (format!("apps.{app}.{name}"), value)));
        self.values.iter().map(|(name, value)| ((*name).to_owned(), value)).chain(apps).collect()
    }

    /// Takes in what was chosen at the device.
    ///
    /// # Errors
    /// [`Kind::Config`] if the file that says so can't be read.
    pub fn take_device(&mut self) -> Result<(), Error> {
        let chosen = Chosen::read(&self.data)?;
        let source = Source::Device(device::path(&self.data));
        if let Some(attributes) = chosen.attributes {
            let pairs: Vec<_> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.set("attributes", pairs.join(" "), source.clone())?;
        }
        for (app, device::App { channel, pin }) in chosen.apps {
            // What is not installed any more has no channel.
            let installed = self.apps.get(&app).and_then(|values| values.get("install"));
            if installed.is_none_or(|channel| channel.text.is_empty()) {
                continue;
            }
            for (name, value) in [("install", channel), ("pin", pin)] {
                if let Some(value) = value {
                    self.set_app(&app, name, value, source.clone())?;
                }
            }
        }
        Ok(())
    }

    /// Reads every value and checks every bound; what was chosen at the device goes before all else.
    ///
    /// # Errors
    /// [`Kind::Config`], naming the setting, its value, where it came from and what it may be.
    pub fn settings(&self) -> Result<Settings, Error> {
        let mut last = self.clone();
        last.take_device()?;
        last.read()
    }

    fn read(&self) -> Result<Settings, Error> {
        let mut follows = Vec::new();
        let mut since = BTreeMap::new();
        let mut commands = BTreeMap::new();
        let mut serves = Vec::new();
        for (app, values) in &self.apps {
            let of = Reader { prefix: format!("apps.{app}."), values };
            let follow = of.follow(app)?;
            since.extend(of.since()?.map(|since| (follow.repository, since)));
            follows.push(follow);
            let command = |name| of.text(name).map(str::to_owned);
            let of_app = Commands { health: command("health")?, before: command("before")?, after: command("after")? };
            commands.insert(app.clone(), of_app);
            let id = if of.text("app_id")?.is_empty() { app } else { of.text("app_id")? };
            serves.push(Serves {
                app: app.clone(),
                id: id.to_owned(),
                repository: follows.last().expect("it was just pushed").repository,
            });
        }
        let of = Reader { prefix: String::new(), values: &self.values };
        // Its groups count in an open mesh too.
        let mut own = membership::certificates(&self.data)?;
        let mut agent = Config {
            follows,
            attributes: of.attributes()?,
            closed: if of.flag("mesh.closed")? {
                Some(membership::closed(&mut own, of.text("mesh.fleets")?, of.flag("collect")?)?)
            } else {
                None
            },
            certificates: own.into_iter().map(|(_, bytes)| bytes).collect(),
            max_peers: of.number("max_connections")?,
            since,
            ..Config::default()
        };
        for (name, value) in &self.values {
            match agent.set(name, &value.text) {
                // A setting of the node's own.
                Ok(()) | Err(BadSetting::Unknown(_)) => {}
                Err(BadSetting::Value { expected, .. }) => return Err(of.bad(name, expected)),
            }
        }
        agent.check().map_err(|error| Error::new(Kind::Config, error.to_string()))?;
        let peers = of.text("peers")?.split_whitespace().map(str::to_owned).collect();
        Ok(Settings {
            data: self.data.clone(),
            listen: of.parsed("listen", "an IP address such as 0.0.0.0")?,
            port: of.number("port")?,
            mdns: of.flag("mdns")?,
            peers,
            enroller: None,
            flight_recorder: Some(of.text("flight_recorder")?).filter(|path| !path.is_empty()).map(PathBuf::from),
            control: of.address("control.http", "an address on loopback with a port, such as 127.0.0.1:7450")?,
            upstream: of.upstream()?,
            conditions: of.conditions()?,
            metrics: of.address("metrics.listen", "an address with a port, such as 127.0.0.1:7451")?,
            gateway: of.gateway(serves)?,
            agent,
            commands,
        })
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known: Vec<_> = known.collect();
    Error::new(Kind::Config, format!("there is no setting {name}"))
        .with_hint(format!("known are: {}", known.join(", ")))
}

/// A nested table's values with their dotted names.
fn flatten(table: toml::Table) -> Vec<(String, toml::Value)> {
    let mut out = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => {
                out.extend(flatten(inner).into_iter().map(|(rest, value)| (format!("{name}.{rest}"), value)));
            }
            value => out.push((name, value)),
        }
    }
    out
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(list) => list.iter().map(text_of).collect::<Option<Vec<_>>>().map(|list| list.join(" ")),
        _ => None,
    }
}

struct Reader<'a> {
    prefix: String,
    values: &'a BTreeMap<&'static str, Value>,
}

impl Reader<'_> {
    fn value(&self, name: &str) -> Result<&Value, Error> {
        self.values.get(name).ok_or_else(|| unknown(name, self.values.keys().copied()))
    }

    fn text(&self, name: &str) -> Result<&str, Error> {
        Ok(self.value(name)?.text.trim())
    }

    fn bad(&self, name: &str, expected: &str) -> Error {
        let (text, source) = self.value(name).map_or(("", &Source::Default), |value| (&value.text, &value.source));
        Error::new(Kind::Config, format!("{}{name} is {text:?} (from {source}); it must be {expected}", self.prefix))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str, expected: &str) -> Result<T, Error> {
        self.text(name)?.parse().map_err(|_| self.bad(name, expected))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Error> {
        self.parsed(name, "a whole number in its range")
    }

    fn address(&self, name: &str, expected: &str) -> Result<Option<SocketAddr>, Error> {
        if self.text(name)?.is_empty() { Ok(None) } else { self.parsed(name, expected).map(Some) }
    }

    fn flag(&self, name: &str) -> Result<bool, Error> {
        self.parsed(name, "true or false")
    }

    fn duration(&self, name: &str) -> Result<Duration, Error> {
        humantime::parse_duration(self.text(name)?).map_err(|_| self.bad(name, "a time with a unit, such as 30s or 5m"))
    }

    fn size_or_unlimited(&self, name: &str) -> Result<Option<u64>, Error> {
        match self.text(name)? {
            "unlimited" => Ok(None),
            text => {
                let size = text.parse::<bytesize::ByteSize>();
                let size = size.map_err(|_| self.bad(name, "a size with a unit, such as 500 MB, or unlimited"))?;
                Ok(Some(size.as_u64()))
            }
        }
    }

    fn attributes(&self) -> Result<BTreeMap<String, String>, Error> {
        let bad = || self.bad("attributes", "a list such as [\"site=depot-7\", \"model=a\"]");
        let words = self.text("attributes")?.split_whitespace();
        words
            .map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(bad))
            .collect()
    }

    fn follow(&self, app: &str) -> Result<Follow, Error> {
        let repository = self.parsed("repository", "the repository's name that `burr init` printed: 64 hex digits")?;
        let cache = match self.text("cache")? {
            "none" => None,
            "all" => Some(None),
            channel => Some(Some(channel.to_owned())),
        };
        let install = match self.text("install")? {
            "" => None,
            channel => Some(self.install(channel)?.into()),
        };
        Ok(Follow { repository, app: app.to_owned(), cache, install })
    }

    fn since(&self) -> Result<Option<Wall>, Error> {
        let text = self.text("since")?;
        if text.is_empty() {
            return Ok(None);
        }
        let time = humantime::parse_rfc3339(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let seconds = time.and_then(|since| i64::try_from(since.as_secs()).ok());
        seconds
            .map(|seconds| Some(Wall(seconds)))
            .ok_or_else(|| self.bad("since", "a time such as 2026-11-24T12:00:00Z"))
    }

    fn conditions(&self) -> Result<Option<condition::Settings>, Error> {
        let command = self.text("conditions.command")?.to_owned();
        let (interval, timeout) = (self.duration("conditions.interval")?, self.duration("conditions.timeout")?);
        for (name, time) in [("conditions.interval", interval), ("conditions.timeout", timeout)] {
            if !(Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&time) {
                return Err(self.bad(name, "from 1s to 1day"));
            }
        }
        Ok(Some(condition::Settings { command, interval, timeout }).filter(|settings| !settings.command.is_empty()))
    }

    fn upstream(&self) -> Result<Option<upstream::Settings>, Error> {
        let urls = self.text("upstream.urls")?.split_whitespace().map(|url| url.trim_end_matches('/').to_owned());
        let urls: Vec<String> = urls.collect();
        let is_web = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if urls.len() > MAX_UPSTREAMS || !urls.iter().all(is_web) {
            let expected = format!("up to {MAX_UPSTREAMS} addresses that begin with http:// or https://");
            return Err(self.bad("upstream.urls", &expected));
        }
        let interval = self.duration("upstream.interval")?;
        if interval < Duration::from_secs(1) {
            return Err(self.bad("upstream.interval", "a second or more"));
        }
        let ca = Some(self.text("upstream.ca")?).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Some(upstream::Settings { urls, ca, interval }).filter(|settings| !settings.urls.is_empty()))
    }

    fn gateway(&self, serves: Vec<Serves>) -> Result<Option<gateway::Settings>, Error> {
        let Some(listen) = self.address("gateway.listen", "an address with a port, such as 0.0.0.0:8080")? else {
            return Ok(None);
        };
        let file = |name| match self.text(name)? {
            "" => Err(self
                .bad(name, "a PEM file while gateway.transport is tls")
                .with_hint("or choose gateway.transport = \"proxy\" or \"plain\"; `burr config` says what they are")),
            path => Ok(PathBuf::from(path)),
        };
        let transport = match self.text("gateway.transport")? {
            "tls" => Transport::Tls { certificate: file("gateway.certificate")?, key: file("gateway.key")? },
            "proxy" => Transport::Proxy,
            "plain" => Transport::Plain,
            _ => return Err(self.bad("gateway.transport", "tls, proxy or plain")),
        };
        let rate = self.number("gateway.rate")?;
        if !(1..=1_000_000).contains(&rate) {
            return Err(self.bad("gateway.rate", "from 1 to 1000000"));
        }
        Ok(Some(gateway::Settings {
            listen,
            transport,
            url: Some(self.text("gateway.url")?.trim_end_matches('/').to_owned()).filter(|url| !url.is_empty()),
            rate,
            channel: self.text("gateway.channel")?.to_owned(),
            self_assign: self.flag("gateway.self_assign")?,
            quota: self.size_or_unlimited("gateway.quota")?.unwrap_or(u64::MAX),
            serves,
        }))
    }

    fn install(&self, channel: &str) -> Result<Install, Error> {
        let has_command = !self.text("health")?.is_empty();
        let limit = self.duration("confirm_timeout")?;
        let confirm = match self.text("confirm")? {
            "auto" | "command" if has_command => Confirm::Command(limit),
            "auto" | "none" => Confirm::Immediately,
            "call" => Confirm::Call(limit),
            "command" => return Err(self.bad("confirm", "another while `health` names no command")),
            _ => return Err(self.bad("confirm", "auto, none, command or call")),
        };
        let freshness = match self.text("freshness")? {
            "strict" => Freshness::Strict,
            _ => Freshness::Tolerant { max_staleness: self.duration("freshness")? },
        };
        let (keep, attempts) = (self.number("keep")?, self.number("attempts")?);
        let pin = Some(self.text("pin")?).filter(|version| !version.is_empty()).map(str::to_owned);
        let hook = |name| {
            let runs = !self.text(name)?.is_empty();
            if runs { self.duration("hook_timeout").map(Some) } else { Ok(None) }
        };
        let needs =
            |name: &str| self.parsed(name, "words such as [\"mains\", \"battery>=30\", \"unmetered\", \"idle\"]");
        Ok(Install {
            channel: channel.to_owned(),
            pin,
            confirm,
            freshness,
            keep,
            keep_bytes: self.size_or_unlimited("keep_bytes")?,
            attempts,
            defer: self.duration("defer")?,
            before: hook("before")?,
            after: hook("after")?,
            download: needs("download_if")?,
            activate: needs("activate_if")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Settings, Error> {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("burr.toml"), toml).unwrap();
        Resolved::load(data.path())?.settings()
    }

    #[test]
    fn the_defaults_are_the_agents_own() {
        let settings = load("").unwrap();
        assert_eq!(settings.agent, Config::default());
        assert_eq!((settings.port, settings.mdns), (0, true));
    }

    #[test]
    fn an_app_is_read_and_bounds_are_kept() {
        let name = "ab".repeat(32);
        let text = format!(
            "quota = \"2 GiB\"\npeers = [\"10.0.0.1:70\", \"10.0.0.2:70\"]\n[apps.shop]\nrepository = \"{name}\"\ninstall = \"stable\"\nhealth = \"true\"\nconfirm_timeout = \"3s\"\n"
        );
        let settings = load(&text).unwrap();
        assert_eq!(settings.agent.quota, 2 << 30);
        assert_eq!(settings.peers.len(), 2);
        let install = settings.agent.follows[0].install.clone().unwrap();
        assert_eq!(install.confirm, Confirm::Command(Duration::from_secs(3)));
        assert!(load(&text.replace("install =", "keep = 99\ninstall =")).unwrap_err().to_string().contains("keep"));
    }

    #[test]
    fn what_is_unknown_or_wrong_is_named() {
        let error = load("colour = 1").unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("colour") && error.to_string().contains("burr.toml"), "{error}");
        let error = load("port = 99999").unwrap_err().to_string();
        assert!(error.contains("port") && error.contains("99999") && error.contains("burr.toml"), "{error}");
        assert!(load("quota = \"many\"").unwrap_err().to_string().contains("10 GiB"));
        let mut resolved = Resolved::load(Path::new("/nonexistent")).unwrap();
        let variables = [("BURR_QUOTA".to_owned(), "1 GB".to_owned()), ("HOME".to_owned(), "/".to_owned())];
        resolved.take_environment(variables.into_iter()).unwrap();
        assert_eq!(resolved.settings().unwrap().agent.quota, 1_000_000_000);
        let typo = [("BURR_QUOTTA".to_owned(), String::new())];
        assert!(resolved.take_environment(typo.into_iter()).unwrap_err().to_string().contains("BURR_QUOTTA"));
    }
}
