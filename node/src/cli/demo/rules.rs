//! The demo's last chapter: releases by rule. A rollout to a quarter, a release that goes from channel to channel, a
//! channel that goes back, and a release that halts by itself.

use std::fs;

use burr_node::{
    error::{Error, Kind},
    membership,
};
use burr_protocol::{
    RepositoryId,
    fact::{Fact, UpdateStep},
    rules::{EVERYONE, drawn_at, percent},
    standing::Standing,
};

use super::{DEVICES, FIRST, KIOSK, LONELY, PUBLISHER, bundle::Bundle, process, publish, read, watch::Watch};

const V4: &str = "4.0.0";
const V5: &str = "5.0.0";
const V6: &str = "6.0.0";
/// Whose members the devices are: their outcomes count where a release halts by itself, those of strangers do not.
const FLEET: &str = "stores";
/// A quarter, in hundredths of a percent.
const QUARTER: u16 = 2_500;
/// The number of version 4 on its channel.
const SEQ: u64 = 4;

/// Tells it. Every device runs version 2, and nobody is missing.
pub(super) async fn tell(watch: &mut Watch, bundle: &Bundle, repository: RepositoryId) -> Result<(), Error> {
    rollout(watch, bundle, repository).await?;
    promote(watch, bundle).await?;
    roll_back(watch, bundle).await?;
    halt(watch, bundle, repository).await
}

/// Gives the devices their names before they run. The draw of a rollout goes by them, and of four a quarter may be none:
/// so the last one takes another name until somebody is drawn.
fn name_devices(watch: &Watch, repository: RepositoryId) -> Result<(), Error> {
    let is_drawn = |role: &str| -> Result<bool, Error> {
        let data = process::data(watch.home(), role);
        fs::create_dir_all(&data)
            .map_err(|error| Error::new(Kind::Storage, format!("can't make {}", data.display())).with_source(error))?;
        Ok(drawn_at(repository, "stable", SEQ, membership::node(&data)?) <= QUARTER)
    };
    let drawn = DEVICES.map(is_drawn).into_iter().collect::<Result<Vec<bool>, Error>>()?;
    let mut somebody = drawn.contains(&true);
    while !somebody {
        let nameless = process::data(watch.home(), LONELY);
        fs::remove_dir_all(&nameless).map_err(|error| {
            Error::new(Kind::Storage, format!("can't remove {}", nameless.display())).with_source(error)
        })?;
        somebody = is_drawn(LONELY)?;
    }
    Ok(())
}

/// Makes the devices members of a fleet before they run, by files: they have not met the publisher.
pub(super) async fn enrol(watch: &mut Watch, repository: RepositoryId) -> Result<(), Error> {
    name_devices(watch, repository)?;
    watch.ask(PUBLISHER, &["fleet", "create", FLEET]).await?;
    for role in DEVICES {
        let invited = watch.ask(PUBLISHER, &["enrol", FLEET]).await?;
        let invitation: String = read(invited["invitation"].clone())?;
        let file = |ending| process::data(watch.home(), role).with_extension(ending).to_string_lossy().into_owned();
        let (request, answer) = (file("request"), file("answer"));
        watch.ask(role, &["join", &invitation, "--request", &request]).await?;
        watch.ask(PUBLISHER, &["enrol", FLEET, "--sign", &request, "--out", &answer]).await?;
        watch.ask(role, &["join", &invitation, "--answer", &answer]).await?;
    }
    watch.act(PUBLISHER, &format!("made the devices members of the fleet {FLEET}, by files"));
    Ok(())
}

async fn rollout(watch: &mut Watch, bundle: &Bundle, repository: RepositoryId) -> Result<(), Error> {
    watch.title("Version 4 is rolled out to 25 % of the devices, to more, and to all");
    publish(watch, bundle, V4, true, &["--rollout", "25%"]).await?;
    settle(watch, repository, QUARTER).await?;
    // As many as it takes for a second device, wherever the draw has put it.
    let mut places = DEVICES.map(|role| place(watch, repository, role));
    places.sort_unstable();
    let more = places[1].max(QUARTER + 1);
    raise(watch, bundle, V4, more).await?;
    settle(watch, repository, more).await?;
    raise(watch, bundle, V4, EVERYONE).await?;
    let all = |watch: &Watch| DEVICES.iter().all(|role| watch.is_active(role, V4));
    watch.wait("every device runs version 4", all).await?;
    let once = DEVICES.iter().all(|role| watch.times_active(role, V4) == 1);
    watch.claim("a growing rollout adds the others and disturbs nobody", once, "each device switched to 4 once");
    Ok(())
}

/// From which share on a device takes version 4.
fn place(watch: &Watch, repository: RepositoryId, role: &str) -> u16 {
    drawn_at(repository, "stable", SEQ, watch.running(role).node)
}

async fn raise(watch: &mut Watch, bundle: &Bundle, version: &str, share: u16) -> Result<(), Error> {
    let given = percent(share).replace(' ', "");
    watch.ask(PUBLISHER, &["release", "set-rollout", &given, version, "--app", bundle.app]).await?;
    watch.act(PUBLISHER, &format!("raised the rollout of {version} to {}", percent(share)));
    Ok(())
}

/// Waits until each device has taken version 4 at this share, or said why it does not.
async fn settle(watch: &mut Watch, repository: RepositoryId, share: u16) -> Result<(), Error> {
    let drawn = DEVICES.map(|role| (role, place(watch, repository, role) <= share));
    let reason = format!("its rollout is at {}", percent(share));
    let settled = |watch: &Watch| {
        drawn.iter().all(|(role, drawn)| if *drawn { watch.is_active(role, V4) } else { watch.waits(role, &reason) })
    };
    watch.wait("each device has taken version 4, or said why it does not", settled).await?;
    let taken: Vec<&str> = DEVICES.into_iter().filter(|role| watch.is_active(role, V4)).collect();
    let right = drawn.iter().all(|(role, drawn)| taken.contains(role) == *drawn);
    let (some, who) = (!taken.is_empty(), taken.join(" and "));
    let seen =
        format!("{} of {} take it: {who}; the others say from which share on they will", taken.len(), drawn.len());
    watch.claim(format!("at {} exactly the devices that were drawn take it", percent(share)), right && some, seen);
    Ok(())
}

async fn promote(watch: &mut Watch, bundle: &Bundle) -> Result<(), Error> {
    watch.title("Version 5 is tried on the channel beta, and promoted to stable");
    watch.ask(FIRST, &["device", "set-channel", "beta", "--app", bundle.app]).await?;
    watch.act(FIRST, "follows beta from now on, without a restart");
    let v5 = publish(watch, bundle, V5, true, &["--channel", "beta"]).await?;
    watch.wait("device-1 runs version 5", |watch| watch.is_active(FIRST, V5)).await?;
    let alone = DEVICES.iter().all(|role| *role == FIRST || !watch.reached(role, V5, |_| true));
    watch.claim("who follows beta takes what is on beta, nobody else does", alone, format!("{FIRST} alone runs 5"));
    watch
        .ask(PUBLISHER, &["release", "promote", V5, "--channel", "beta", "--to", "stable", "--app", bundle.app])
        .await?;
    watch.act(PUBLISHER, "promoted 5.0.0 to stable");
    let all = |watch: &Watch| DEVICES.iter().all(|role| watch.is_active(role, V5));
    watch.wait("every device runs version 5", all).await?;
    let fetches = watch.times_fetched(KIOSK, v5.payload.blob);
    let seen = format!("the kiosk fetched it {fetches} time; {FIRST} stayed with what it has");
    let quiet = fetches == 1 && watch.times_active(FIRST, V5) == 1;
    watch.claim("a promoted release is the same bytes, signed for another channel", quiet, seen);
    Ok(())
}

async fn roll_back(watch: &mut Watch, bundle: &Bundle) -> Result<(), Error> {
    watch.title("Version 5 was a mistake: the channel stable goes back to 4");
    watch.ask(PUBLISHER, &["release", "rollback", V4, "--app", bundle.app]).await?;
    watch.act(PUBLISHER, "rolled stable back to 4.0.0");
    let back = |watch: &Watch, role: &str| watch.times_active(role, V4) == if role == FIRST { 1 } else { 2 };
    let told = |watch: &Watch| watch.times_told(KIOSK, V4) == 2 * DEVICES.len() - 1;
    let all = |watch: &Watch| DEVICES.iter().all(|role| back(watch, role)) && told(watch);
    watch.wait("the devices on stable run version 4 again, and the kiosk knows", all).await?;
    let releases: Vec<Standing> = read(watch.ask(KIOSK, &["releases"]).await?)?;
    let active = |channel: &str, version: &str| {
        let newest = releases.iter().find(|release| release.channel == channel);
        newest.filter(|release| release.version == version).map_or(0, |release| release.active)
    };
    let (stable, beta) = (active("stable", V4), active("beta", V5));
    let seen = format!("`burr releases` at the kiosk: {V4} is active on {stable} devices, beta's {V5} on {beta}");
    watch.claim("one command brings a channel back, and what is known of it says so", (stable, beta) == (3, 1), seen);
    Ok(())
}

async fn halt(watch: &mut Watch, bundle: &Bundle, repository: RepositoryId) -> Result<(), Error> {
    watch.title("Version 6 is bad, and halts by itself after one failure");
    let rules = ["--rollout", "0%", "--halt-at", "1/1%/1"];
    let v6 = publish(watch, bundle, V6, false, &rules).await?;
    // One device on stable is drawn at first, wherever the draw has put it.
    let mut drawn: Vec<(u16, &str)> = DEVICES
        .into_iter()
        .filter(|role| *role != FIRST)
        .map(|role| (drawn_at(repository, "stable", v6.seq, watch.running(role).node), role))
        .collect();
    drawn.sort_unstable();
    let (share, victim) = drawn[0];
    raise(watch, bundle, V6, share).await?;
    let halted = |watch: &Watch| {
        watch.reached(victim, V6, |step| matches!(step, UpdateStep::RolledBack { .. })) && watch.halted(PUBLISHER, V6)
    };
    watch.wait("a device has fallen over version 6, and the publisher's node has heard of it", halted).await?;
    raise(watch, bundle, V6, EVERYONE).await?;
    let others: Vec<&str> = drawn[1..].iter().map(|(_, role)| *role).collect();
    let off = |watch: &Watch| {
        let why = ["its publisher paused it", "halts by its own rules"];
        others.iter().all(|role| why.iter().all(|why| watch.waits(role, why)))
    };
    watch.wait("the other devices on stable hold off by themselves, and because it is paused", off).await?;
    let shown = watch.ask(PUBLISHER, &["release", "show", V6, "--app", bundle.app]).await?;
    let paused = shown[0]["rules"]["paused"] == true;
    let spared = others.iter().all(|role| !watch.reached(role, V6, |_| true));
    let seen = format!("{victim} fell over it; {} never tried it; its pause is signed: {paused}", others.join(" and "));
    watch.claim("a release that fails halts by itself, and its publisher's node pauses it", spared && paused, seen);
    Ok(())
}

impl Watch {
    /// Whether a role found that a version halts by its own rules.
    fn halted(&self, role: &str, wanted: &str) -> bool {
        self.facts(role).any(|fact| matches!(fact, Fact::Halted { version, .. } if version == wanted))
    }

    /// Whether a role said that it takes nothing for now, in these words.
    fn waits(&self, role: &str, words: &str) -> bool {
        self.facts(role).any(|fact| matches!(fact, Fact::Waiting { why, .. } if why.contains(words)))
    }

    /// How often a version became active on a role.
    fn times_active(&self, role: &str, wanted: &str) -> usize {
        let is =
            |fact: &&Fact| matches!(fact, Fact::Update { version, step: UpdateStep::Active, .. } if version == wanted);
        self.facts(role).filter(is).count()
    }

    /// How often a role fetched a payload.
    fn times_fetched(&self, role: &str, wanted: burr_protocol::Hash) -> usize {
        self.facts(role).filter(|fact| matches!(fact, Fact::FetchCompleted { blob, .. } if *blob == wanted)).count()
    }

    /// How many receipts about a version a role came to keep.
    fn times_told(&self, role: &str, wanted: &str) -> usize {
        self.facts(role).filter(|fact| matches!(fact, Fact::ReceiptKept { version, .. } if version == wanted)).count()
    }
}
