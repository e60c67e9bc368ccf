//! The rules of a release: for which devices, how many of them, when, and how urgently. The publisher signs them with
//! the release (`protocol/README.md` §4.11), and each device judges them for itself, so that nobody on the way can widen
//! or narrow a rollout. A changed rule is a new signed statement about the same bundle.

mod expression;
mod halt;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    NodeId, RepositoryId, Wall,
    label::{self, LabelError},
    release::MAX_SEQ,
    time::in_words,
    trust::version,
};
pub use expression::{Expression, ExpressionError, MAX_EXPRESSION};
pub use halt::{Halt, HaltError, Tally};
pub use window::{Window, WindowError};

/// A whole, in hundredths of a percent: what a rollout to every device is.
pub const EVERYONE: u16 = 10_000;
/// Windows and platforms of one release at most.
pub const MAX_ITEMS: usize = 16;
/// Bytes of a constraint on versions, and of the reason of a yank.
pub const MAX_TEXT: usize = 256;
/// Seconds that a release may be put off at most: a year.
const MAX_DEFER: u64 = 365 * 24 * 3600;
/// The attribute of a device that [`Rules::platforms`] speaks of.
pub const PLATFORM: &str = "platform";
/// The attribute of a device that [`Rules::min_native`] speaks of.
pub const NATIVE: &str = "native";
/// What an audience calls the groups of a device's certificate. It may be in several, and no attribute has this name:
/// groups are what the fleet signed, not what a device says of itself.
pub const GROUP: &str = "group";

/// What a release asks of the devices that take it. The default asks nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// The share of devices that take it, in hundredths of a percent, up to [`EVERYONE`].
    #[serde(skip_serializing_if = "is_everyone")]
    pub rollout: u16,
    /// The devices that it is for, by their attributes and by their groups ([`GROUP`]).
    #[serde(skip_serializing_if = "is_default")]
    pub audience: Option<Expression>,
    /// The values of the attribute [`PLATFORM`] that it is for; any if none is named.
    #[serde(skip_serializing_if = "is_default")]
    pub platforms: Vec<String>,
    /// The least value, as a version, of the attribute [`NATIVE`].
    #[serde(skip_serializing_if = "is_default")]
    pub min_native: Option<String>,
    /// The versions that may be followed by it: a requirement of Semantic Versioning on the active one.
    #[serde(skip_serializing_if = "is_default")]
    pub from: Option<String>,
    /// The versions that may not.
    #[serde(skip_serializing_if = "is_default")]
    pub not_from: Option<String>,
    /// A stepping stone: the active version must be this one or a later one.
    #[serde(skip_serializing_if = "is_default")]
    pub via: Option<String>,
    /// How far the version may jump.
    #[serde(skip_serializing_if = "is_default")]
    pub within: Option<Within>,
    /// Not before this time.
    #[serde(skip_serializing_if = "is_default")]
    pub not_before: Option<Wall>,
    /// Not after this time.
    #[serde(skip_serializing_if = "is_default")]
    pub not_after: Option<Wall>,
    /// When a device may switch to it, in its local time; at any time if none is named.
    #[serde(skip_serializing_if = "is_default")]
    pub windows: Vec<Window>,
    /// How soon a device that has it switches to it.
    #[serde(skip_serializing_if = "is_default")]
    pub urgency: Urgency,
    /// Seconds that someone at a device may put it off at most; the device's own limit holds too.
    #[serde(skip_serializing_if = "is_default")]
    pub defer: Option<u64>,
    /// The failures after which devices begin to take it no more, by themselves.
    #[serde(skip_serializing_if = "is_default")]
    pub halt: Option<Halt>,
    /// Held back for now: nobody begins to take it.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// Taken back for good, and why: nobody begins to take it, ever.
    #[serde(skip_serializing_if = "is_default")]
    pub yanked: Option<String>,
    /// The number of the earlier release of the channel that it brings back.
    #[serde(skip_serializing_if = "is_default")]
    pub brings_back: Option<u64>,
}

/// The part of a version below which a jump has to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Within {
    /// The major version stays as it is.
    Major,
    /// The major and minor version stay as they are.
    Minor,
    /// All three stay: builds and pre-releases alone.
    Patch,
}

/// How soon a device switches to a release that it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// At once, whatever the windows and the device's conditions say.
    Critical,
    /// As soon as a window is open.
    #[default]
    Normal,
    /// When the device is idle or has just started, too.
    Background,
    /// When someone at the device says so.
    Manual,
}

/// Rules that break a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A label is not usable.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A number is out of its bounds.
    #[error("{what} is {value}; it must be from {least} to {most}")]
    OutOfBounds {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// A constraint on versions can't be read.
    #[error("{text:?} is no constraint on versions ({why}); write it like >=1.2, <2")]
    Constraint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The earliest time is after the latest.
    #[error("it may not be taken before a time that is later than the latest one")]
    NeverInTime,
}

/// What the rules are judged against.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The device.
    pub device: NodeId,
    /// Its attributes.
    pub attributes: &'a BTreeMap<String, String>,
    /// Groups that it is in, by its certificate.
    pub groups: &'a BTreeSet<String>,
    /// The version that is active on it, if any.
    pub active: Option<&'a str>,
    /// The trusted time.
    pub now: Wall,
}

/// Why rules keep a device from a release, in the words of [`fmt::Display`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Against {
    /// Taken back, and why.
    Yanked(String),
    /// Held back by its publisher.
    Paused,
    /// For other platforms.
    Platform {
        /// The device's own.
        own: Option<String>,
        /// Those that it is for.
        of: Vec<String>,
    },
    /// For other devices.
    Audience(Expression),
    /// The device's native part is too old, or not known.
    Native {
        /// The device's own.
        own: Option<String>,
        /// The least that is needed.
        least: String,
    },
    /// It may not follow the active version.
    From {
        /// The active version.
        active: String,
        /// What it breaks, in words.
        rule: String,
    },
    /// The device was not drawn yet.
    NotDrawn {
        /// The share that is, in hundredths of a percent.
        rollout: u16,
        /// The share at which the device will be.
        drawn_at: u16,
    },
    /// It is too early.
    Early(Wall),
    /// It is too late.
    Late(Wall),
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rollout: EVERYONE,
            audience: None,
            platforms: Vec::new(),
            min_native: None,
            from: None,
            not_from: None,
            via: None,
            within: None,
            not_before: None,
            not_after: None,
            windows: Vec::new(),
            urgency: Urgency::Normal,
            defer: None,
            halt: None,
            paused: false,
            yanked: None,
            brings_back: None,
        }
    }
}

impl Rules {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`RulesError`] for the first that does not hold.
    pub fn check(&self) -> Result<(), RulesError> {
        bound("the rollout", self.rollout.into(), 0, EVERYONE.into())?;
        bound("the number of platforms", self.platforms.len() as u64, 0, MAX_ITEMS as u64)?;
        bound("the number of windows", self.windows.len() as u64, 0, MAX_ITEMS as u64)?;
        self.platforms.iter().try_for_each(|platform| label::check_name("platform", platform))?;
        self.min_native.iter().chain(&self.via).try_for_each(|version| label::check_version(version))?;
        self.from.iter().chain(&self.not_from).try_for_each(|text| constraint(text).map(drop))?;
        self.halt.iter().try_for_each(Halt::check)?;
        if let Some(seconds) = self.defer {
            bound("the seconds that it may be put off", seconds, 0, MAX_DEFER)?;
        }
        if let Some(reason) = &self.yanked {
            bound("the length of the reason", reason.len() as u64, 0, MAX_TEXT as u64)?;
        }
        if let Some(seq) = self.brings_back {
            bound("the number of the release that is brought back", seq, 1, MAX_SEQ - 1)?;
        }
        match (self.not_before, self.not_after) {
            (Some(first), Some(last)) if first > last => Err(RulesError::NeverInTime),
            _ => Ok(()),
        }
    }

    /// Whether every device may take the release, now and whatever comes of it.
    #[must_use]
    pub fn is_for_everyone(&self) -> bool {
        let Self { rollout, audience, platforms, min_native, from, not_from, via, within, halt, .. } = self;
        let jumps = from.is_none() && not_from.is_none() && via.is_none() && within.is_none();
        let timed = self.not_before.is_some() || self.not_after.is_some();
        let held_back = self.paused || self.yanked.is_some() || timed;
        *rollout == EVERYONE
            && audience.is_none()
            && platforms.is_empty()
            && min_native.is_none()
            && jumps
            && halt.is_none()
            && !held_back
    }

    /// Everything that keeps a device from taking the release numbered `seq` of a channel; nothing if it may.
    #[must_use]
    pub fn against(&self, repository: RepositoryId, channel: &str, seq: u64, subject: &Subject<'_>) -> Vec<Against> {
        let mut against = Vec::new();
        against.extend(self.yanked.clone().map(Against::Yanked));
        against.extend(self.paused.then_some(Against::Paused));
        let attribute = |name: &str| subject.attributes.get(name).cloned();
        let platform = attribute(PLATFORM);
        if !self.platforms.is_empty() && !platform.as_ref().is_some_and(|own| self.platforms.contains(own)) {
            against.push(Against::Platform { own: platform, of: self.platforms.clone() });
        }
        if let Some(audience) =
            self.audience.as_ref().filter(|audience| !audience.holds(subject.attributes, subject.groups))
        {
            against.push(Against::Audience(audience.clone()));
        }
        if let Some(least) = &self.min_native {
            let own = attribute(NATIVE);
            if own.as_ref().is_none_or(|own| version::is_newer(least, own)) {
                against.push(Against::Native { own, least: least.clone() });
            }
        }
        if let Some(active) = subject.active {
            let from = |rule| Against::From { active: active.to_owned(), rule };
            against.extend(self.against_jump(active).map(from));
        }
        let drawn_at = drawn_at(repository, channel, seq, subject.device);
        if drawn_at > self.rollout {
            against.push(Against::NotDrawn { rollout: self.rollout, drawn_at });
        }
        against.extend(self.not_before.filter(|first| subject.now < *first).map(Against::Early));
        against.extend(self.not_after.filter(|last| subject.now > *last).map(Against::Late));
        against
    }

    /// Why the active version may not be followed by this release, in words. A rule on Semantic Versions is not kept by
    /// a version that is none.
    fn against_jump(&self, active: &str) -> Option<String> {
        let parsed = semver::Version::parse(active).ok();
        let matches = |text: &String| {
            let requirement = constraint(text).expect("rules are checked before they are judged");
            parsed.as_ref().map(|version| requirement.matches(version))
        };
        if let Some(text) = self.from.as_ref().filter(|text| matches(text) != Some(true)) {
            return Some(format!("it follows {text} alone"));
        }
        if let Some(text) = self.not_from.as_ref().filter(|text| matches(text) != Some(false)) {
            return Some(format!("it does not follow {text}"));
        }
        self.via.as_ref().filter(|via| version::is_newer(via, active)).map(|via| format!("{via} has to run first"))
    }

    /// Whether a jump from `active` to `version` is longer than the rules permit.
    #[must_use]
    pub fn is_too_far(&self, active: &str, version: &str) -> bool {
        let Some(within) = self.within else { return false };
        let (Ok(a), Ok(b)) = (semver::Version::parse(active), semver::Version::parse(version)) else { return true };
        let parts = |version: &semver::Version| [version.major, version.minor, version.patch];
        let kept = match within {
            Within::Major => 1,
            Within::Minor => 2,
            Within::Patch => 3,
        };
        parts(&a)[..kept] != parts(&b)[..kept]
    }
}

/// The share, in hundredths of a percent from 1 to [`EVERYONE`], from which on a device belongs to a rollout of a
/// release. A device keeps its place in one release, so a growing share only adds devices; in the next release the
/// places are drawn anew, so it is not always the same devices that go first.
#[must_use]
pub fn drawn_at(repository: RepositoryId, channel: &str, seq: u64, device: NodeId) -> u16 {
    let mut hasher = blake3::Hasher::new_derive_key("burr rollout v1");
    hasher.update(&repository.0).update(&device.0).update(&seq.to_be_bytes()).update(channel.as_bytes());
    let bytes = hasher.finalize();
    let draw = u64::from_be_bytes(bytes.as_bytes()[..8].try_into().expect("8 of 32 bytes"));
    let place = (u128::from(draw) * u128::from(EVERYONE)) >> 64;
    u16::try_from(place).expect("below EVERYONE") + 1
}

fn bound(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), RulesError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(RulesError::OutOfBounds { what, value, least, most }) }
}

fn constraint(text: &str) -> Result<semver::VersionReq, RulesError> {
    let wrong = |why: String| RulesError::Constraint { text: text.chars().take(80).collect(), why };
    if text.len() > MAX_TEXT {
        return Err(wrong(format!("it has more than {MAX_TEXT} bytes")));
    }
    semver::VersionReq::parse(text).map_err(|error| wrong(error.to_string()))
}

/// In one line: what is asked, or that nothing is.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut asked: Vec<String> = Vec::new();
        asked.extend((self.rollout != EVERYONE).then(|| format!("{} of the devices", percent(self.rollout))));
        asked.extend(self.audience.as_ref().map(|audience| format!("devices with {audience}")));
        asked.extend((!self.platforms.is_empty()).then(|| format!("on {}", self.platforms.join(" or "))));
        asked.extend(self.min_native.as_ref().map(|least| format!("with the native version {least} or later")));
        asked.extend(self.from.as_ref().map(|from| format!("after {from}")));
        asked.extend(self.not_from.as_ref().map(|from| format!("not after {from}")));
        asked.extend(self.via.as_ref().map(|via| format!("after {via} has run")));
        asked.extend(self.within.map(|within| match within {
            Within::Major => "within the major version".to_owned(),
            Within::Minor => "within the minor version".to_owned(),
            Within::Patch => "within the patch version".to_owned(),
        }));
        asked.extend(self.not_before.map(|first| format!("from {}", time(first))));
        asked.extend(self.not_after.map(|last| format!("until {}", time(last))));
        let windows: Vec<String> = self.windows.iter().map(Window::to_string).collect();
        asked.extend((!windows.is_empty()).then(|| format!("between {}", windows.join(" or "))));
        asked.extend(
            match self.urgency {
                Urgency::Normal => None,
                Urgency::Critical => Some("at once"),
                Urgency::Background => Some("when idle or at the next start"),
                Urgency::Manual => Some("when told at the device"),
            }
            .map(str::to_owned),
        );
        asked.extend(
            self.defer.map(|seconds| format!("put off for {} at most", in_words(Duration::from_secs(seconds)))),
        );
        asked.extend(self.halt.map(|Halt { failures, share, outcomes }| {
            format!("until {failures} or more, {} of at least {outcomes}, failed", percent(share))
        }));
        asked.extend(self.brings_back.map(|seq| format!("brings back release {seq}")));
        asked.extend(self.paused.then(|| "paused".to_owned()));
        asked.extend(self.yanked.as_ref().map(|why| format!("taken back: {why}")));
        if asked.is_empty() { f.write_str("for every device, now") } else { f.write_str(&asked.join(", ")) }
    }
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = |own: &Option<String>| own.clone().unwrap_or_else(|| "not known".to_owned());
        match self {
            Self::Yanked(reason) if reason.is_empty() => write!(f, "its publisher took it back"),
            Self::Yanked(reason) => write!(f, "its publisher took it back: {reason}"),
            Self::Paused => write!(f, "its publisher paused it"),
            Self::Platform { own: device, of } => {
                write!(f, "it is for the platform {}, this device's is {}", of.join(" or "), own(device))
            }
            Self::Audience(audience) => write!(f, "it is for devices with {audience}"),
            Self::Native { own: device, least } => {
                write!(f, "it needs the native version {least}, this device's is {}", own(device))
            }
            Self::From { active, rule } => write!(f, "{rule}; {active} is active"),
            Self::NotDrawn { rollout, drawn_at } => {
                write!(
                    f,
                    "its rollout is at {}, this device takes part from {} on",
                    percent(*rollout),
                    percent(*drawn_at)
                )
            }
            Self::Early(first) => write!(f, "it starts at {}", time(*first)),
            Self::Late(last) => write!(f, "it ended at {}", time(*last)),
        }
    }
}

/// Hundredths of a percent from `10%`, `2.5 %` or `10`, with at most two digits after the point; none for anything else,
/// and above 100 %.
#[must_use]
pub fn share(text: &str) -> Option<u16> {
    let number = text.trim().trim_end_matches('%').trim_end();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let share = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(format!("{part:0<2}").parse().ok()?)?;
    (share <= EVERYONE).then_some(share)
}

/// Hundredths of a percent, as people write them.
#[must_use]
pub fn percent(share: u16) -> String {
    match (share / 100, share % 100) {
        (whole, 0) => format!("{whole} %"),
        (whole, part) => format!("{whole}.{part:02} %"),
    }
}

/// A time, as people read it.
#[must_use]
pub fn time(wall: Wall) -> String {
    jiff::Timestamp::from_second(wall.0).map_or_else(|_| format!("second {}", wall.0), |time| time.to_string())
}

/// Whether a field may be left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

// serde hands every field over by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_everyone(rollout: &u16) -> bool {
    *rollout == EVERYONE
}
