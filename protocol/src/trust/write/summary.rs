//! What a draft changes, worked out from its documents. Each one is made again from what it follows on and from what it
//! seems to change; if that is not the very same document, it hides something and is refused. So the list of
//! differences that a person reads is complete.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};
use sigstore_tuf::{Metadata, Root, Targets, canonical_json};

use super::{Role, Signers, TrustError, Verified, WriteError, change, check_newer, documents, roles};
use crate::{
    Hash, NodeId, Wall,
    member::Revoked,
    release::{Capacitor, Payload, Release},
    rules::Rules,
    seal,
    trust::{check_root, document, fleets, releases},
};

/// One thing that a draft would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A new release.
    Release {
        /// What is released.
        release: Box<Release>,
        /// The SHA-256 of its payload.
        sha256: Hash,
        /// The version before it on its channel.
        after: Option<String>,
    },
    /// Other rules for a release.
    Rules {
        /// The release, with its new rules.
        release: Box<Release>,
        /// The rules that it has.
        before: Box<Rules>,
    },
    /// Other keys, another threshold, or a new channel.
    Signers {
        /// Whose.
        role: Role,
        /// What they were; `None` for a new channel.
        before: Option<Signers>,
        /// What they would be.
        after: Signers,
    },
    /// A member of a fleet that is none any more.
    Revoked {
        /// The fleet.
        fleet: String,
        /// The member.
        node: NodeId,
        /// Its certificates up to this serial don't count.
        serial: u64,
        /// The number of the list with it.
        seq: u64,
    },
    /// A fleet begins another epoch, with a key that this list gives to its devices.
    Keys {
        /// The fleet.
        fleet: String,
        /// The epoch.
        epoch: u64,
        /// The list of keys.
        list: Payload,
        /// Its SHA-256.
        sha256: Hash,
    },
    /// The same again, with new signatures and a new life.
    Renewed {
        /// Whose document.
        role: Role,
        /// When it would expire.
        expires: Wall,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release { release, after, .. } => {
                let Release { app, channel, seq, version, bundle, payload, files, unpacked, rules, enc, capacitor } =
                    &**release;
                let after = after.as_ref().map_or_else(|| "the first".to_owned(), |after| format!("after {after}"));
                write!(f, "release {app} {version} on {channel}, number {seq} ({after}): bundle {bundle}, ")?;
                write!(f, "{files} files, {unpacked} bytes; payload {} of {} bytes; ", payload.blob, payload.size)?;
                if let Some(Capacitor { checksum, session_key }) = capacitor {
                    let kind = if session_key.is_some() { "an encrypted zip" } else { "a zip" };
                    write!(f, "for Capgo's plugin, {kind} with the checksum {checksum}; ")?;
                }
                write!(f, "{rules}")?;
                enc.iter().try_for_each(|enc| write!(f, "; sealed for fleet {}, epoch {}", enc.fleet, enc.epoch))
            }
            Self::Rules { release, before } => {
                let Release { app, channel, seq, version, rules, .. } = &**release;
                write!(f, "rules of {app} {version} on {channel}, number {seq}: {rules}\n  were: {before}")
            }
            Self::Signers { role, before, after } => {
                let none = Signers::default();
                let old = before.as_ref().unwrap_or(&none);
                let (need, of) = (after.threshold, after.keys.len());
                match before {
                    None => write!(f, "new {role}: {need} of {of} keys")?,
                    Some(old) => write!(f, "{role}: {need} of {of} keys, was {} of {}", old.threshold, old.keys.len())?,
                }
                let added = after.keys.keys().filter(|id| !old.keys.contains_key(*id));
                added.into_iter().try_for_each(|id| write!(f, "\n  + {id}"))?;
                let gone = old.keys.keys().filter(|id| !after.keys.contains_key(*id));
                gone.into_iter().try_for_each(|id| write!(f, "\n  - {id}"))
            }
            Self::Revoked { fleet, node, serial, seq } => {
                write!(f, "revoke {node} from fleet {fleet}, up to serial {serial} (revocation {seq})")
            }
            Self::Keys { fleet, epoch, list, .. } => {
                let devices = seal::devices_in(list.size);
                write!(f, "epoch {epoch} of fleet {fleet}, whose key {devices} devices get")
            }
            Self::Renewed { role, expires } => match jiff::Timestamp::from_second(expires.0) {
                Ok(expires) => write!(f, "{role}: the same, signed anew until {expires}"),
                Err(_) => write!(f, "{role}: the same, signed anew"),
            },
        }
    }
}

/// A draft's documents, understood.
pub(super) struct Review {
    pub differences: Vec<Difference>,
    pub before: BTreeMap<Role, Signers>,
    pub after: BTreeMap<Role, Signers>,
}

/// Understands the documents of a draft, whoever made them.
pub(super) fn review(base: &Verified, proposed: &[(Role, Map<String, Value>)]) -> Result<Review, WriteError> {
    let bad = |words: String| WriteError::Draft(words);
    if proposed.is_empty() || !proposed.iter().map(|(role, _)| role).is_sorted_by(|a, b| a < b) {
        return Err(bad("its documents are none, or not in order".to_owned()));
    }
    let held = base.documents();
    let root = held.roots.last().expect("a pack has at least one root");
    let before = roles::of_documents(root, held.targets)?;
    let app = app(base);
    let mut after = before.clone();
    let mut differences = Vec::new();
    for (role, signed) in proposed {
        let name = role.document(&app);
        let envelope = envelope(&name, signed)?;
        let issued = issued(&name, signed)?;
        let expected = match role {
            Role::Root => {
                let new: Metadata<Root> = document::read(&name, &envelope)?;
                check_root(&name, new.signed(), base.root_version() + 1)?;
                after.extend(roles::of_root(new.signed()));
                change::root_naming(root, &after, issued)?
            }
            Role::Targets => {
                let new: Metadata<Targets> = document::read(&name, &envelope)?;
                let Some(delegations) = &new.signed().delegations else {
                    return Err(bad("its targets delegate to no channel".to_owned()));
                };
                let keys = delegations.roles.iter().map(|role| (role.name.as_str(), role.role_keys()));
                document::check_keys(&name, &delegations.keys, keys)?;
                after.extend(roles::of_targets(new.signed())?);
                let expected = change::targets_naming(held.targets, &app, &after, issued)?;
                let renewed = documents::again(held.targets, documents::life(role), issued)?;
                if renewed == *signed { renewed } else { expected }
            }
            Role::Channel(channel) => match held.delegated(&name) {
                None if after.contains_key(role) => documents::channel(issued)?,
                None => return Err(bad(format!("there is no channel {channel}"))),
                Some(document) => match released(document, signed, &app, channel)? {
                    None => match ruled(base, &name, signed, &app, channel)? {
                        None => documents::again(document, documents::life(role), issued)?,
                        Some((release, before)) => {
                            let expected = documents::with_rules(document, &release, &release.rules, issued)?;
                            differences
                                .push(Difference::Rules { release: Box::new(release), before: Box::new(before) });
                            expected
                        }
                    },
                    Some((release, sha256)) => {
                        check_newer(base, &release)?;
                        let before = super::newest(base, channel).map(|release| release.version.clone());
                        let expected = documents::with_release(document, &release, sha256, issued)?;
                        differences.push(Difference::Release {
                            release: Box::new(release),
                            sha256: Hash(sha256),
                            after: before,
                        });
                        expected
                    }
                },
            },
            Role::Fleet(fleet) => match held.delegated(&name) {
                None if after.contains_key(role) => documents::delegated(role, issued)?,
                None => return Err(bad(format!("there is no fleet {fleet}"))),
                Some(document) => match revoked(base, signed, fleet)? {
                    None => match keyed(base, signed, fleet)? {
                        None => documents::again(document, documents::life(role), issued)?,
                        Some((epoch, list, sha256)) => {
                            let fleet = fleet.clone();
                            let expected = documents::with_keys(document, &fleet, epoch, &list, sha256, issued)?;
                            differences.push(Difference::Keys { fleet, epoch, list, sha256: Hash(sha256) });
                            expected
                        }
                    },
                    Some((list, node, serial)) => {
                        let (fleet, seq) = (fleet.clone(), list.seq());
                        let expected = documents::with_revoked(document, &fleet, &list, issued)?;
                        differences.push(Difference::Revoked { fleet, node, serial, seq });
                        expected
                    }
                },
            },
            Role::Snapshot | Role::Timestamp => return Err(bad(format!("nobody proposes a {role}"))),
        };
        if expected != *signed {
            return Err(bad(format!("its {role} changes more than it may")));
        }
        let says_nothing_else = *role != Role::Root
            && before.contains_key(role)
            && !differences.iter().any(|difference| match difference {
                Difference::Release { release, .. } | Difference::Rules { release, .. } => {
                    Role::Channel(release.channel.clone()) == *role
                }
                Difference::Revoked { fleet, .. } | Difference::Keys { fleet, .. } => {
                    Role::Fleet(fleet.clone()) == *role
                }
                _ => false,
            });
        let changes_channels = *role == Role::Targets
            && before.iter().chain(&after).any(|(role, signers)| {
                role.keeper() == Role::Targets && (before.get(role), after.get(role)) != (Some(signers), Some(signers))
            });
        if says_nothing_else && !changes_channels {
            let life = i64::try_from(documents::life(role).as_secs()).expect("a document lives for years at most");
            differences.push(Difference::Renewed { role: role.clone(), expires: Wall(issued.0.saturating_add(life)) });
        }
    }
    let changed = after.iter().filter(|(role, signers)| before.get(*role) != Some(*signers));
    let signers = |(role, signers): (&Role, &Signers)| Difference::Signers {
        role: role.clone(),
        before: before.get(role).cloned(),
        after: signers.clone(),
    };
    differences.splice(0..0, changed.map(signers).collect::<Vec<_>>());
    Ok(Review { differences, before, after })
}

/// The document that a role's next one follows on; `None` for a new channel's.
pub(super) fn predecessor(base: &Verified, role: &Role) -> Option<Vec<u8>> {
    let held = base.documents();
    let document = match role {
        Role::Root => held.roots.last().copied(),
        Role::Targets => Some(held.targets),
        Role::Snapshot => Some(held.snapshot),
        Role::Timestamp => Some(held.timestamp),
        Role::Channel(_) | Role::Fleet(_) => held.delegated(&role.document(&app(base))),
    };
    document.map(<[u8]>::to_vec)
}

/// The app of a repository.
pub(super) fn app(base: &Verified) -> String {
    let channels = documents::channels(base.documents().targets).expect("verified documents are read back");
    channels.into_values().next().map(|(app, _)| app).unwrap_or_default()
}

fn envelope(name: &str, signed: &Map<String, Value>) -> Result<Vec<u8>, TrustError> {
    let envelope = json!({ "signatures": [], "signed": signed });
    canonical_json::to_canonical_bytes(&envelope).map_err(|error| TrustError::tuf(name, &error))
}

fn issued(name: &str, signed: &Map<String, Value>) -> Result<Wall, TrustError> {
    let fields = signed.iter().filter(|(field, _)| *field == "x-issued");
    document::issued(name, &fields.map(|(field, value)| (field.clone(), value.clone())).collect())
}

/// The one release that a channel's document has and the one before has not.
fn released(
    document: &[u8],
    signed: &Map<String, Value>,
    app: &str,
    channel: &str,
) -> Result<Option<(Release, [u8; 32])>, WriteError> {
    let name = releases::role_name(app, channel);
    let old: Metadata<Targets> = document::read(&name, document)?;
    let new: Metadata<Targets> = document::read(&name, &envelope(&name, signed)?)?;
    let mut added = new.signed().targets.iter().filter(|(path, _)| !old.signed().targets.contains_key(*path));
    let Some((path, target)) = added.next() else { return Ok(None) };
    if added.next().is_some() {
        return Err(WriteError::Draft("it releases more than one thing on a channel".to_owned()));
    }
    let mut releases = releases::read(new.signed(), app, channel)?.into_iter();
    let release = releases.find(|release| release.target_path() == **path);
    let sha256 = target.hashes.get("sha256").and_then(|hash| hash.parse::<Hash>().ok());
    Ok(release.zip(sha256.map(|hash| hash.0)))
}

/// The first release that a channel's document gives other rules than it has, and those it has.
fn ruled(
    base: &Verified,
    name: &str,
    signed: &Map<String, Value>,
    app: &str,
    channel: &str,
) -> Result<Option<(Release, Rules)>, WriteError> {
    let new: Metadata<Targets> = document::read(name, &envelope(name, signed)?)?;
    let releases = releases::read(new.signed(), app, channel)?;
    // Everything but the rules is the held release's, so that nothing else can hide in the change.
    let change = |new: Release| {
        let held = base.releases().find(|held| held.channel == channel && held.seq == new.seq)?;
        (held.rules != new.rules).then(|| (Release { rules: new.rules, ..held.clone() }, held.rules.clone()))
    };
    Ok(releases.into_iter().find_map(change))
}

/// The list of revocations that a fleet's document has and the one before has not, with the one that is new in it.
fn revoked(
    base: &Verified,
    signed: &Map<String, Value>,
    fleet: &str,
) -> Result<Option<(Revoked, NodeId, u64)>, WriteError> {
    let name = fleets::role_name(fleet);
    let held = base.fleet(fleet).expect("a fleet with a document is verified");
    let new: Metadata<Targets> = document::read(&name, &envelope(&name, signed)?)?;
    let new = fleets::read(new.signed(), fleet, held.signers.clone())?.revoked;
    if new == held.revoked {
        return Ok(None);
    }
    let added = new.iter().find(|(node, serial)| !held.revoked.covers(*node, *serial));
    // Exactly one more: whatever else it changes shows in the list that would follow.
    let follows =
        |(node, serial)| held.revoked.with(node, serial).filter(|list| *list == new).zip(Some((node, serial)));
    match added.and_then(follows) {
        Some((list, (node, serial))) => Ok(Some((list, node, serial))),
        None => Err(WriteError::Draft("it changes more than one revocation at once".to_owned())),
    }
}

/// The list of keys that a fleet's document has for an epoch after those before, and its SHA-256.
fn keyed(
    base: &Verified,
    signed: &Map<String, Value>,
    fleet: &str,
) -> Result<Option<(u64, Payload, [u8; 32])>, WriteError> {
    let name = fleets::role_name(fleet);
    let held = base.fleet(fleet).expect("a fleet with a document is verified");
    let new: Metadata<Targets> = document::read(&name, &envelope(&name, signed)?)?;
    let keys = fleets::read(new.signed(), fleet, held.signers.clone())?.keys;
    let Some((epoch, list)) = keys.last_key_value().filter(|(epoch, _)| !held.keys.contains_key(epoch)) else {
        return Ok(None);
    };
    super::check_next_epoch(held, fleet, *epoch)?;
    let sha256 = new.signed().targets[&fleets::keys_path(fleet, *epoch)].hashes["sha256"].parse::<Hash>();
    Ok(sha256.ok().map(|sha256| (*epoch, list.clone(), sha256.0)))
}
