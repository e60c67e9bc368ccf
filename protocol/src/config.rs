//! Every tunable of the agent with its default, its bound and why. A driver resolves it once and hands it over.

mod choice;
mod notation;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    RepositoryId, Shared, Wall,
    admission::{Closed, MAX_FLEETS},
    budget::Budgets,
    fetch::MIN_PIECE,
    label::{self, LabelError},
    policy::Needs,
    serving::MAX_QUESTION_BYTES,
};

pub use choice::Choice;
pub use notation::BadSetting;

/// How many repositories one node follows at most. Bounds the catalog, the digests and the subscriptions.
pub const MAX_FOLLOWS: usize = 256;
/// Attributes of a device at most.
pub const MAX_ATTRIBUTES: usize = 64;
/// Bytes of an attribute's value at most.
pub const MAX_ATTRIBUTE: usize = 256;
/// Peers that the agent keeps state for. The driver's connection limit lies below it.
pub const MAX_PEERS: usize = 256;
/// Addresses remembered for dialling.
pub const MAX_ADDRESSES: usize = 256;
/// Blobs being fetched at once; more offers wait.
pub const MAX_JOBS: usize = 64;
/// Releases of one app that failed here and are not tried again; the oldest is forgotten first.
pub const MAX_BAD: usize = 32;

/// How much more seldom those of other sites are told what arrived.
pub const FAR_SELDOM: u32 = 10;
/// And so much more seldom while there is little to tell.
pub const FAR_LATEST: u32 = 40;

/// The shortest wait that may be configured: a wait of nothing would be a loop.
const SHORTEST: Duration = Duration::from_millis(10);
/// The longest wait that may be configured.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What this node does and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// What to follow; at most [`MAX_FOLLOWS`].
    pub follows: Vec<Follow>,
    /// What this device is, for the rules of releases: values by name, such as `site`, `model`, `platform` and `native`;
    /// at most [`MAX_ATTRIBUTES`], none of them called `group`.
    pub attributes: BTreeMap<String, String>,
    /// This node's certificates, one for each repository that has it in a fleet, at most [`MAX_FLEETS`]: they say the groups
    /// that it is in, and go with receipts of releases that may halt. In a closed mesh the first is shown.
    pub certificates: Vec<Vec<u8>>,
    /// The closed mesh that this node belongs to, which takes a certificate; `None` in one that is open to everybody.
    pub closed: Option<Closed>,
    /// Nodes that may be connected at a time, 1 to [`MAX_PEERS`]. A quarter of the places is kept for those that this node
    /// chose itself.
    pub max_peers: usize,
    /// Metadata of a repository that was signed before this is refused: what the newest one's time was when a factory
    /// image was made, so that a device that lost its state can't be led back behind it.
    pub since: BTreeMap<RepositoryId, Wall>,
    /// Whether receipts of other devices are collected here rather than merely carried on.
    pub collect: bool,
    /// Whether other nodes are given what this node holds.
    pub serve: bool,
    /// The name of the site whose uplink this node shares; without one, nodes on one network are one site.
    pub site: Option<String>,
    /// What may be sent and taken, by what the way costs.
    pub budgets: Budgets,
    /// Bytes of blobs that may be kept. What an install needs comes before what is merely cached.
    pub quota: u64,
    /// Receipts kept at most; the oldest go first.
    pub max_receipts: usize,
    /// Whether this device's receipts tell what it is.
    pub tell_attributes: Tell,
    /// Bytes that are asked of one provider at a time at most: what its pipe can hold.
    pub provider_bytes: u64,
    /// Requests under way for one blob, over all providers.
    pub requests_per_job: usize,
    /// Bytes of one request at most. Long enough to save on proofs, short enough to move to another provider.
    pub request_bytes: u64,
    /// The longest that a provider rests that failed, or held things up.
    pub patience: Duration,
    /// Shortest and longest wait between two dials of one address.
    pub dial_backoff: (Duration, Duration),
    /// How long an answer to a metadata request may take before another peer is asked.
    pub metadata_patience: Duration,
    /// Providers of a wanted blob are asked for again this often while it lacks any.
    pub search_interval: Duration,
    /// What arrived is told to peers that want the same blob at most this often; to those of other sites it is told
    /// [`FAR_SELDOM`] times as seldom, since the words cross an uplink.
    pub map_interval: Duration,
    /// Digests are exchanged again this often with connected peers: the sure path when a message was lost.
    pub sync_interval: Duration,
    /// How often an install is tried again after a failure that is not the release's (no space, lost payload).
    pub retry_backoff: (Duration, Duration),
    /// How often a trial that is interrupted by restarts is started at all before the device goes back.
    pub max_trial_starts: u8,
}

/// A configuration that breaks a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too many follows.
    #[error("{0} repositories are followed, the limit is {MAX_FOLLOWS}")]
    TooManyFollows(usize),
    /// An app is followed twice.
    #[error("the app {0:?} is followed twice; follow it from one repository, once")]
    Twice(String),
    /// A name is not usable.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A device says of itself what only its fleet can say.
    #[error("a device does not say its groups itself: its certificate does (burr enrol FLEET --groups ...)")]
    OwnGroup,
    /// A member of a closed mesh has nothing to show.
    #[error("the mesh is closed, and there is no certificate to show")]
    NoCertificate,
    /// A number is out of its bounds.
    #[error("{name} is {value}; it must be from {least} to {most}")]
    OutOfBounds {
        /// Which tunable.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
}

impl Config {
    /// How an app is installed, if it is.
    pub fn install_of(&mut self, app: &str) -> Option<&mut Shared<Install>> {
        self.follows.iter_mut().find(|follow| follow.app == app)?.install.as_mut()
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that does not hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.follows.len() > MAX_FOLLOWS {
            return Err(ConfigError::TooManyFollows(self.follows.len()));
        }
        let mut apps = BTreeSet::new();
        let mut repositories = BTreeSet::new();
        for follow in &self.follows {
            label::check_name("app", &follow.app)?;
            if !apps.insert(&follow.app) || !repositories.insert(follow.repository) {
                return Err(ConfigError::Twice(follow.app.clone()));
            }
            for channel in follow.cache.iter().flatten().chain(follow.install.iter().map(|install| &install.channel)) {
                label::check_name("channel", channel)?;
            }
            if let Some(install) = &follow.install {
                install.pin.iter().try_for_each(|version| label::check_version(version))?;
                bound("keep", u64::from(install.keep), 0, 16)?;
                bound("attempts", u64::from(install.attempts), 1, 100)?;
                span("defer", install.defer, Duration::ZERO)?;
                install
                    .before
                    .iter()
                    .chain(&install.after)
                    .try_for_each(|limit| span("hook_timeout", *limit, SHORTEST))?;
            }
        }
        choice::check_attributes(&self.attributes)?;
        bound("the number of certificates", self.certificates.len() as u64, 0, MAX_FLEETS as u64)?;
        if let Some(closed) = &self.closed {
            self.certificates.first().ok_or(ConfigError::NoCertificate)?;
            bound("the number of closed repositories", closed.fleets.len() as u64, 1, MAX_FLEETS as u64)?;
            // They are followed too.
            let all = repositories.iter().chain(closed.fleets.keys()).collect::<BTreeSet<_>>().len();
            if all > MAX_FOLLOWS {
                return Err(ConfigError::TooManyFollows(all));
            }
        }
        bound("max_connections", self.max_peers as u64, 1, MAX_PEERS as u64)?;
        if let Some(site) = &self.site {
            label::check_name("site", site)?;
        }
        span("patience", self.patience, SHORTEST)?;
        span("metadata_patience", self.metadata_patience, SHORTEST)?;
        span("search_interval", self.search_interval, SHORTEST)?;
        span("map_interval", self.map_interval, SHORTEST)?;
        span("sync_interval", self.sync_interval, SHORTEST)?;
        for (name, (shortest, longest)) in [("dial_backoff", self.dial_backoff), ("retry_backoff", self.retry_backoff)]
        {
            span(name, shortest, SHORTEST)?;
            span(name, longest, shortest)?;
        }
        if let Some(month) = self.budgets.month {
            bound("budget.month", month, MIN_PIECE, 1 << 50)?;
        }
        bound("max_receipts", self.max_receipts as u64, 1, 1 << 20)?;
        bound("provider_bytes", self.provider_bytes, MIN_PIECE, 1 << 30)?;
        bound("requests_per_job", self.requests_per_job as u64, 1, 1024)?;
        bound("request_bytes", self.request_bytes, MIN_PIECE, MAX_QUESTION_BYTES)?;
        bound("max_trial_starts", u64::from(self.max_trial_starts), 1, 100)
    }
}

/// A wait, in milliseconds in the message.
fn span(name: &'static str, value: Duration, least: Duration) -> Result<(), ConfigError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    bound(name, millis(value), millis(least), millis(LONGEST))
}

fn bound(name: &'static str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfBounds { name, value, least, most }) }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            follows: Vec::new(),
            attributes: BTreeMap::new(),
            certificates: Vec::new(),
            closed: None,
            max_peers: 128,
            since: BTreeMap::new(),
            collect: false,
            serve: true,
            site: None,
            budgets: Budgets::default(),
            quota: 10 << 30,
            max_receipts: 4096,
            tell_attributes: Tell::Closed,
            provider_bytes: 32 << 20,
            requests_per_job: 256,
            request_bytes: 16 << 20,
            patience: Duration::from_secs(10),
            dial_backoff: (Duration::from_secs(1), Duration::from_secs(300)),
            metadata_patience: Duration::from_secs(10),
            search_interval: Duration::from_secs(5),
            map_interval: Duration::from_millis(50),
            sync_interval: Duration::from_secs(300),
            retry_backoff: (Duration::from_secs(5), Duration::from_secs(3600)),
            max_trial_starts: 3,
        }
    }
}

/// Whether a device's receipts tell its attributes: whoever gets the receipts can read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// In a closed mesh, where members of its fleets alone get them.
    Closed,
    /// In every mesh.
    Always,
    /// Never.
    Never,
}

/// One repository that this node follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Which repository; its name pins the publisher's keys.
    pub repository: RepositoryId,
    /// The app: other apps' releases in the repository are passed over.
    pub app: String,
    /// Keeps the newest payload of this channel for others, of every channel if `None`.
    pub cache: Option<Option<String>>,
    /// What to install from it, if anything. One app is installed from one repository.
    pub install: Option<Shared<Install>>,
}

/// How a followed channel is installed on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// The channel.
    pub channel: String,
    /// The only version that is taken, if any.
    pub pin: Option<String>,
    /// Who says that a new version is healthy.
    pub confirm: Confirm,
    /// What signed metadata past its expiry still permits.
    pub freshness: Freshness,
    /// Earlier versions kept beside the active one, 0 to 16.
    pub keep: u8,
    /// Bytes of the files of these, together, at most; no bound if `None`.
    pub keep_bytes: Option<u64>,
    /// How often an install is tried again after a failure that is not the release's own, 1 to 100.
    pub attempts: u8,
    /// How long someone at the device may put a release off, in all.
    pub defer: Duration,
    /// The time limit of the hook before a switch, if there is one.
    pub before: Option<Duration>,
    /// The time limit of the hook after a switch, if there is one.
    pub after: Option<Duration>,
    /// What the device must be like before anything is fetched for it.
    pub download: Needs,
    /// What the device must be like before a staged release is switched to.
    pub activate: Needs,
}

impl Install {
    /// Installs a channel with the defaults: no confirmation, tolerant, one earlier version kept, three attempts, put off
    /// for a day at most.
    #[must_use]
    pub fn of(channel: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            pin: None,
            confirm: Confirm::Immediately,
            freshness: Freshness::default(),
            keep: 1,
            keep_bytes: None,
            attempts: 3,
            defer: Duration::from_secs(24 * 3600),
            before: None,
            after: None,
            download: Needs::default(),
            activate: Needs::default(),
        }
    }
}

/// Who confirms that a new version works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirm {
    /// Nobody: it counts as healthy once it is active.
    Immediately,
    /// A health command that the driver runs, ended after this time.
    Command(Duration),
    /// The app itself, by a call within this time.
    Call(Duration),
}

/// What metadata past its expiry permits (DESIGN.md section 3). Age is always shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Freshness {
    /// Expired metadata installs nothing.
    Strict,
    /// Metadata expired for less than `max_staleness` still installs.
    Tolerant {
        /// Time past the earliest expiry.
        max_staleness: Duration,
    },
}

impl Default for Freshness {
    /// Half a year: a device in a drawer still comes back by itself.
    fn default() -> Self {
        Self::Tolerant { max_staleness: Duration::from_secs(180 * 24 * 3600) }
    }
}
