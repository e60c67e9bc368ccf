//! Why a device takes a release, or does not, as far as this node knows: all of itself, of others what they reported.

use std::collections::BTreeSet;

use super::Agent;
use crate::{
    NodeId, RepositoryId,
    config::Install,
    policy::{
        Device,
        explain::{Check, Explanation, Here, NoAnswer, Question, Told, Verdict, checks, checks_from_afar, conclude},
    },
    receipt::{Receipt, SignedReceipt},
    release::Release,
    standing::{Nothing, Reported, reported},
    trust::Verified,
    update::Update,
};

impl Agent {
    /// Why a device takes a release, or does not.
    ///
    /// # Errors
    /// [`NoAnswer`] if the app, the release or the device is not known here.
    pub fn explain(&self, question: &Question) -> Result<Explanation, NoAnswer> {
        let Question { app, device, .. } = question;
        let follow = self.config.follows.iter().find(|follow| follow.app == *app);
        let follow = follow.ok_or_else(|| NoAnswer::App(app.clone()))?;
        let verified = self.catalog.verified(follow.repository).ok_or_else(|| NoAnswer::Metadata(app.clone()))?;
        let own = self.apps.get(app);
        if device.as_ref().is_none_or(|name| self.signer.node().to_string().starts_with(name)) {
            let update = own.ok_or_else(|| NoAnswer::NotInstalled(app.clone()))?;
            let release = find(verified, question, Some(&update.install().channel))?;
            let starting = update.is_starting();
            let deferred = self.now.wall.and_then(|now| update.deferred(release, now));
            let here = Here { conditions: self.standing(), wall: self.now.wall, starting, deferred };
            let groups = self.groups(follow.repository);
            let device = self.device(follow.repository, update, &groups);
            let mut checks = checks(verified, release, &device, here);
            checks.splice(0..0, channel(&update.install().channel, release));
            return Ok(explanation(verified, release, &device, checks, true, None));
        }
        let receipts: Vec<Receipt> = self.receipts.iter().filter_map(SignedReceipt::peek).collect();
        let devices = reported(follow.repository, &receipts).remove(app).unwrap_or_default();
        let (node, known) = named(device.as_deref().unwrap_or_default(), &devices)?;
        let release = find(verified, question, known.map(|known| known.channel.as_str()))?;
        let mut nothing = Nothing::default();
        nothing.halted.clone_from(self.halting.halted());
        let (install, unheard) = (Install::of(&release.channel), Reported::unheard(node));
        let now = self.trusted_now(follow.repository);
        let known_or_not = known.unwrap_or(&unheard);
        let groups = known_or_not.groups(verified, now);
        let told = Told { attributes: known_or_not.attributes.is_some(), groups: groups.is_some() };
        let subject = known_or_not.subject(&install, now, &nothing, groups.as_ref());
        let mut checks = checks_from_afar(verified, release, &subject, told);
        let first = match known {
            Some(known) => channel(&known.channel, release),
            None => Some(check("channel", Verdict::Unknown, "no receipt of this device is here".to_owned())),
        };
        checks.splice(0..0, first);
        let heard_s = known.map(|known| now.0.saturating_sub(known.heard.0).max(0));
        Ok(Explanation { device: node, ..explanation(verified, release, &subject, checks, false, heard_s) })
    }

    /// This device, as it stands for the rules of a repository's releases, in these groups.
    pub(super) fn device<'a>(
        &'a self,
        repository: RepositoryId,
        update: &'a Update,
        groups: &'a BTreeSet<String>,
    ) -> Device<'a> {
        Device {
            node: self.signer.node(),
            attributes: &self.config.attributes,
            groups,
            install: update.install(),
            record: update.record(),
            keys: self.keys(),
            halted: self.halting.halted(),
            now: self.trusted_now(repository),
        }
    }
}

fn explanation(
    verified: &Verified,
    release: &Release,
    device: &Device<'_>,
    checks: Vec<Check>,
    here: bool,
    heard_s: Option<i64>,
) -> Explanation {
    let (verdict, words) = conclude(verified, release, device, &checks);
    Explanation {
        device: device.node,
        here,
        heard_s,
        app: release.app.clone(),
        channel: release.channel.clone(),
        seq: release.seq,
        version: release.version.clone(),
        verdict,
        words,
        checks,
    }
}

fn check(rule: &str, verdict: Verdict, words: String) -> Check {
    Check { rule: rule.to_owned(), verdict, words }
}

/// What a device's channel says of a release, if it is on another.
fn channel(followed: &str, release: &Release) -> Option<Check> {
    let words = || format!("this device follows {followed}, the release is on {}", release.channel);
    (followed != release.channel).then(|| check("channel", Verdict::Against, words()))
}

/// The release of that version, the newest if it came twice, or of that number: on the channel that is asked for, or on
/// the device's own before any other.
fn find<'a>(verified: &'a Verified, question: &Question, own: Option<&str>) -> Result<&'a Release, NoAnswer> {
    let Question { app, release: wanted, channel, .. } = question;
    let number = wanted.strip_prefix('#').and_then(|number| number.parse::<u64>().ok());
    let is = |release: &&Release| {
        let named = number.map_or(release.version == *wanted, |seq| release.seq == seq);
        named && release.app == *app && channel.as_ref().is_none_or(|channel| *channel == release.channel)
    };
    let found = verified.releases().filter(is);
    let found = found.max_by_key(|release| (own == Some(release.channel.as_str()), release.seq));
    found.ok_or_else(|| NoAnswer::Release { app: app.clone(), release: wanted.clone() })
}

/// The device that a name or the beginning of one means.
fn named<'a>(
    name: &str,
    devices: &'a std::collections::BTreeMap<NodeId, Reported>,
) -> Result<(NodeId, Option<&'a Reported>), NoAnswer> {
    if let Ok(node) = name.parse::<NodeId>() {
        return Ok((node, devices.get(&node)));
    }
    let mut found = devices.iter().filter(|(node, _)| !name.is_empty() && node.to_string().starts_with(name));
    match (found.next(), found.next()) {
        (Some((node, known)), None) => Ok((*node, Some(known))),
        (Some(_), Some(_)) => Err(NoAnswer::Ambiguous(name.to_owned())),
        (None, _) => Err(NoAnswer::Device(name.to_owned())),
    }
}
