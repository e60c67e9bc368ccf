//! Why, or why not: each rule of a release with its verdict for a device, in words, from the very judgement by which
//! devices decide.

use serde::{Deserialize, Serialize};

use super::{Conditions, Device, Moment, Refusal, check_fresh, moment, newest_first, refusals};
use crate::{
    Wall,
    record::ReleaseId,
    release::Release,
    rules::{Against, EVERYONE, Expression, NATIVE, PLATFORM, drawn_at, percent, time},
    trust::Verified,
};

/// What a rule says of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It has nothing against it.
    Holds,
    /// It is against it.
    Against,
    /// It lets the device have it, and switch to it later.
    Later,
    /// It depends on something that only the device itself knows.
    Unknown,
}

/// One rule and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The rule, in a word.
    pub rule: String,
    /// What it says.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

/// The rules that may be against a release; each [`Refusal`] is of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Number,
    Failed,
    Held,
    Halt,
    Pin,
    Jump,
    Yank,
    Pause,
    Platform,
    Audience,
    Native,
    Versions,
    Rollout,
    NotBefore,
    NotAfter,
    Key,
}

impl Rule {
    fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotNewer => Self::Number,
            Refusal::Bad => Self::Failed,
            Refusal::Held => Self::Held,
            Refusal::Halted(_) => Self::Halt,
            Refusal::Pinned(_) => Self::Pin,
            Refusal::TooFar { .. } => Self::Jump,
            Refusal::Sealed { .. } => Self::Key,
            Refusal::Rule(against) => match against {
                Against::Yanked(_) => Self::Yank,
                Against::Paused => Self::Pause,
                Against::Platform { .. } => Self::Platform,
                Against::Audience(_) => Self::Audience,
                Against::Native { .. } => Self::Native,
                Against::From { .. } => Self::Versions,
                Against::NotDrawn { .. } => Self::Rollout,
                Against::Early(_) => Self::NotBefore,
                Against::Late(_) => Self::NotAfter,
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Halt => "halt",
            Self::Pin => "pin",
            Self::Jump => "jump",
            Self::Yank => "yank",
            Self::Pause => "pause",
            Self::Platform => "platform",
            Self::Audience => "audience",
            Self::Native => "native",
            Self::Versions => "versions",
            Self::Rollout => "rollout",
            Self::NotBefore => "not before",
            Self::NotAfter => "not after",
            Self::Key => "key",
        }
    }

    /// What would have to be known of a device to judge this rule of a release, and is not; nothing if all is.
    fn unknown(self, release: &Release, known: Known) -> Option<&'static str> {
        let Known::Receipts(Told { attributes, groups }) = known else { return None };
        let of_groups = || release.rules.audience.as_ref().is_some_and(Expression::asks_for_groups);
        match self {
            Self::Platform | Self::Native | Self::Audience if !attributes => Some("what the device's attributes are"),
            Self::Audience if !groups && of_groups() => Some("in which groups the device is"),
            Self::Key => Some("whether the device has the key"),
            _ => None,
        }
    }
}

/// What is known of a device.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// Everything: it is this one.
    All,
    /// What receipts tell.
    Receipts(Told),
}

/// What of a device its receipts told, or did not.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// Its attributes.
    pub attributes: bool,
    /// The groups that its certificate puts it in.
    pub groups: bool,
}

/// What a device knows of itself and of the moment; another node does not.
#[derive(Debug, Clone, Copy)]
pub struct Here {
    /// What it said last of itself.
    pub conditions: Conditions,
    /// Its clock, if it has one.
    pub wall: Option<Wall>,
    /// Whether it has just started.
    pub starting: bool,
    /// Until when someone put the release off.
    pub deferred: Option<Wall>,
}

/// Every rule of a release with its verdict for a device, as far as another node can tell from receipts, which told
/// it this much.
#[must_use]
pub fn checks_from_afar(verified: &Verified, release: &Release, device: &Device<'_>, told: Told) -> Vec<Check> {
    let known = Known::Receipts(told);
    let mut checks = of_rules(verified, release, device, known);
    checks.extend(newer_one(verified, release, device, known));
    let words = "whether the device is pinned to another version is not known here".to_owned();
    checks.push(Check { rule: Rule::Pin.name().to_owned(), verdict: Verdict::Unknown, words });
    checks
}

/// Every rule of a release with its verdict for a device, by its own word.
#[must_use]
pub fn checks(verified: &Verified, release: &Release, device: &Device<'_>, here: Here) -> Vec<Check> {
    let mut checks = of_rules(verified, release, device, Known::All);
    checks.extend(newer_one(verified, release, device, Known::All));
    checks.push(match check_fresh(verified, device) {
        Ok(()) => freshness(Verdict::Holds, format!("the signed metadata is good until {}", time(verified.expires()))),
        Err(stale) => freshness(Verdict::Against, stale.to_string()),
    });
    let standing = Moment {
        conditions: &here.conditions,
        needs: &device.install.activate,
        wall: here.wall,
        starting: here.starting,
        deferred: here.deferred,
    };
    if let Err((why, _)) = moment(&release.rules, &standing) {
        checks.push(Check { rule: "moment".to_owned(), verdict: Verdict::Later, words: why.to_string() });
    }
    checks
}

/// Whether a release is for a device, as far as another node can tell (as in [`checks_from_afar`]), and whatever else
/// there is for it.
#[must_use]
pub fn is_for(verified: &Verified, release: &Release, device: &Device<'_>, told: Told) -> Verdict {
    worst(&of_rules(verified, release, device, Known::Receipts(told)))
}

fn worst(checks: &[Check]) -> Verdict {
    let has = |verdict| checks.iter().any(|check| check.verdict == verdict);
    let worst = [Verdict::Against, Verdict::Unknown, Verdict::Later].into_iter().find(|verdict| has(*verdict));
    worst.unwrap_or(Verdict::Holds)
}

/// The newest release that the device takes, or may take, before this one.
fn newer_one(verified: &Verified, release: &Release, device: &Device<'_>, known: Known) -> Option<Check> {
    let releases = newest_first(verified, &release.app, &release.channel);
    releases.into_iter().take_while(|newer| newer.seq > release.seq).find_map(|newer| {
        let (verdict, is) = match worst(&of_rules(verified, newer, device, known)) {
            Verdict::Against => return None,
            Verdict::Unknown => (Verdict::Unknown, "may be"),
            Verdict::Holds | Verdict::Later => (Verdict::Against, "is"),
        };
        let words = format!("a newer release, {}, {is} for this device", newer.version);
        Some(Check { rule: "newest".to_owned(), verdict, words })
    })
}

fn freshness(verdict: Verdict, words: String) -> Check {
    Check { rule: "freshness".to_owned(), verdict, words }
}

fn of_rules(verified: &Verified, release: &Release, device: &Device<'_>, known: Known) -> Vec<Check> {
    let refusals = refusals(verified.repository(), release, device);
    let judge = |(rule, holds): (Rule, Option<String>)| {
        let against = refusals.iter().find(|refusal| Rule::of(refusal) == rule);
        let is_asked = holds.is_some() || against.is_some();
        let (verdict, words) = match (rule.unknown(release, known).filter(|_| is_asked), against, holds) {
            (Some(what), ..) => (Verdict::Unknown, format!("it is not known here {what}")),
            (None, Some(against), _) => (Verdict::Against, against.to_string()),
            (None, None, Some(words)) => (Verdict::Holds, words),
            (None, None, None) => return None,
        };
        Some(Check { rule: rule.name().to_owned(), verdict, words })
    };
    asked(verified, release, device).into_iter().filter_map(judge).collect()
}

/// The rules that a release has for a device, with what each says if it is not against it.
fn asked(verified: &Verified, release: &Release, device: &Device<'_>) -> Vec<(Rule, Option<String>)> {
    let rules = &release.rules;
    let active = device.record.active.as_ref();
    let version = active.map_or("nothing", |active| &active.version);
    let own = |name: &str| device.attributes.get(name).map_or("not known", String::as_str);
    let place = drawn_at(verified.repository(), &release.channel, release.seq, device.node);
    let jumps = rules.from.is_some() || rules.not_from.is_some() || rules.via.is_some();
    vec![
        (
            Rule::Number,
            Some(match active {
                Some(active) => format!("it is newer than {}, which is active", active.version),
                None => "nothing is active".to_owned(),
            }),
        ),
        (Rule::Failed, Some("it has not failed on this device".to_owned())),
        (Rule::Held, None),
        (Rule::Halt, rules.halt.map(|at| format!("it halts at {at}; too few failures are known here for that"))),
        (Rule::Pin, device.install.pin.as_ref().map(|pin| format!("this device is pinned to {pin}"))),
        (Rule::Jump, rules.within.map(|_| format!("it is close enough to {version}, which is active"))),
        (Rule::Yank, None),
        (Rule::Pause, None),
        (
            Rule::Platform,
            (!rules.platforms.is_empty()).then(|| {
                format!("it is for the platform {}, this device's is {}", rules.platforms.join(" or "), own(PLATFORM))
            }),
        ),
        (Rule::Audience, rules.audience.as_ref().map(|audience| format!("this device is one with {audience}"))),
        (
            Rule::Native,
            rules
                .min_native
                .as_ref()
                .map(|least| format!("it needs the native version {least}, this device's is {}", own(NATIVE))),
        ),
        (Rule::Versions, jumps.then(|| format!("it may follow {version}"))),
        (
            Rule::Rollout,
            (rules.rollout < EVERYONE).then(|| {
                format!(
                    "its rollout is at {}, this device takes part from {} on",
                    percent(rules.rollout),
                    percent(place)
                )
            }),
        ),
        (Rule::NotBefore, rules.not_before.map(|first| format!("it started at {}", time(first)))),
        (Rule::NotAfter, rules.not_after.map(|last| format!("it ends at {}", time(last)))),
        (Rule::Key, release.enc.as_ref().map(|_| "it is sealed, and its key is here".to_owned())),
    ]
}

/// Everything about one release on one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which device.
    pub device: crate::NodeId,
    /// Whether that is the node that explains; what others know of a device comes from its receipts.
    pub here: bool,
    /// Seconds since the device was last heard of; `None` if it is this one, or never was.
    pub heard_s: Option<i64>,
    /// The app.
    pub app: String,
    /// The release's channel.
    pub channel: String,
    /// Its number there.
    pub seq: u64,
    /// Its version.
    pub version: String,
    /// All in all.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
    /// Rule by rule.
    pub checks: Vec<Check>,
}

/// All in all: whether a device takes a release that is judged so.
#[must_use]
pub fn conclude(verified: &Verified, release: &Release, device: &Device<'_>, checks: &[Check]) -> (Verdict, String) {
    let active = device.record.active.as_ref();
    if active.is_some_and(|active| active.id == ReleaseId::of(verified.repository(), release)) {
        return (Verdict::Holds, "it is active".to_owned());
    }
    let verdict = worst(checks);
    let words = match verdict {
        Verdict::Holds => "it is taken",
        Verdict::Later => "it is taken, and switched to later",
        Verdict::Unknown => "it is taken unless something is against it that is not known here",
        Verdict::Against => "it is not taken",
    };
    (verdict, words.to_owned())
}

/// What is asked about a release and a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The app.
    pub app: String,
    /// The release: its version, or its number as `#7`.
    pub release: String,
    /// Its channel; the device's own if none is named.
    #[serde(default)]
    pub channel: Option<String>,
    /// The device: its name or the beginning of one that is known here; this node if none is named.
    #[serde(default)]
    pub device: Option<String>,
}

/// Why there is no answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The app is not followed here.
    #[error("this node follows no app {0:?}")]
    App(String),
    /// Nothing of the app came yet.
    #[error("nothing was published of {0}, or it did not come here yet")]
    Metadata(String),
    /// This node installs no such app.
    #[error("this node does not install {0}; name another device")]
    NotInstalled(String),
    /// There is no such release.
    #[error("{app} has no release {release}")]
    Release {
        /// The app.
        app: String,
        /// What was asked for.
        release: String,
    },
    /// No device is known by this name.
    #[error("no receipt of a device {0}... is here; give its whole name")]
    Device(String),
    /// Several are.
    #[error("several devices begin with {0}")]
    Ambiguous(String),
}
