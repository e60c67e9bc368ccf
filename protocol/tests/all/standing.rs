//! How releases stand with the devices, and why a device takes one or not: the same judgement, told.

use std::collections::{BTreeMap, BTreeSet};

use burr_protocol::{
    Hash, NodeId, Wall,
    config::Install,
    member::Certificate,
    policy::{
        Conditions, Device, decide,
        explain::{Check, Here, Told, Verdict, checks, checks_from_afar},
    },
    receipt::{Outcome, Receipt},
    record::{AppRecord, Installed, ReleaseId},
    rules::{EVERYONE, Rules, Urgency, Within, drawn_at},
    standing::standings,
    trust::{Verified, write::Repository},
};

use crate::{
    member,
    trust::repository::{self, NOW, keys, release, verified},
};

/// A shop with releases 1.0 and 2.0 on `stable`, the newest under these rules.
fn shop(rules: Rules) -> Verified {
    let mut shop: Repository = repository::shop();
    repository::publish(&mut shop, "stable", 1);
    let newest = burr_protocol::release::Release { rules, ..release("stable", 2) };
    shop.release(&newest, [2; 32], &keys(), NOW).unwrap();
    verified(&shop, None).unwrap()
}

fn device(number: u8) -> NodeId {
    NodeId([number; 32])
}

/// What a device reported, so many seconds ago.
fn receipt(shop: &Verified, number: u8, counter: u64, seq: u64, outcome: Outcome, ago: i64) -> Receipt {
    let took = outcome == Outcome::Active;
    Receipt {
        repository: shop.repository(),
        device: device(number),
        counter,
        app: "shop".to_owned(),
        channel: "stable".to_owned(),
        version: format!("{seq}.0"),
        seq,
        bundle: Hash::of(&seq.to_be_bytes()),
        active: if took { Some(format!("{seq}.0")) } else { Some("1.0".to_owned()) },
        outcome,
        sources: Vec::new(),
        said: String::new(),
        took_ms: 5,
        at: Some(Wall(NOW.0 - ago)),
        issued: NOW,
        via: None,
        attributes: None,
        member: None,
    }
}

/// A device with a place in the rollout of 2.0 up to a share, or beyond it.
fn drawn(shop: &Verified, share: u16, within: bool, but: &[u8]) -> u8 {
    let place = |number: &u8| drawn_at(shop.repository(), "stable", 2, device(*number)) <= share;
    (1..=255).filter(|number| !but.contains(number)).find(|number| place(number) == within).unwrap()
}

#[test]
fn devices_are_counted_by_their_last_word_and_each_number_says_how_old_it_is() {
    let share = 5000;
    let shop = shop(Rules { rollout: share, ..Rules::default() });
    let back = || Outcome::RolledBack { reason: "it does not start".to_owned() };
    let failed = || Outcome::Failed { reason: "no space".to_owned() };
    let has = drawn(&shop, share, true, &[]);
    let went_back = drawn(&shop, share, true, &[has]);
    let lacks_space = drawn(&shop, share, true, &[has, went_back]);
    let silent = drawn(&shop, share, true, &[has, went_back, lacks_space]);
    let left_out = drawn(&shop, share, false, &[]);
    let mut receipts: Vec<Receipt> = [has, went_back, lacks_space, silent, left_out]
        .into_iter()
        .map(|number| receipt(&shop, number, 1, 1, Outcome::Active, 1000))
        .collect();
    receipts.push(receipt(&shop, went_back, 2, 2, back(), 60));
    receipts.push(receipt(&shop, lacks_space, 2, 2, failed(), 50));
    receipts.push(receipt(&shop, has, 2, 2, failed(), 40));
    receipts.push(receipt(&shop, has, 3, 2, Outcome::Active, 30));
    // Whatever the order in which they came.
    receipts.reverse();

    let [second, first] = standings(&shop, &receipts, NOW).try_into().unwrap();
    assert_eq!((second.app.as_str(), second.channel.as_str(), second.seq), ("shop", "stable", 2));
    assert_eq!((second.eligible, second.downloaded, second.perhaps), (4, 2, 0));
    assert_eq!((second.active, second.failed, second.rolled_back, second.unknown), (1, 1, 1, 1));
    assert_eq!((second.newest_s, second.oldest_s), (Some(30), Some(1000)), "{second:?}");
    assert_eq!((first.eligible, first.downloaded, first.active, first.unknown), (5, 5, 4, 0));
    assert_eq!(first.newest_s, Some(1000));

    let nobody = standings(&shop, &[], NOW);
    assert_eq!((nobody[0].eligible, nobody[0].newest_s, nobody[0].oldest_s), (0, None, None));
}

#[test]
fn what_receipts_do_not_tell_is_not_guessed() {
    let audience = Some("site = \"depot-7\"".parse().unwrap());
    let shop = shop(Rules { audience, ..Rules::default() });
    let receipts = [receipt(&shop, 7, 1, 1, Outcome::Active, 10), receipt(&shop, 8, 1, 1, Outcome::Active, 10)];
    let second = standings(&shop, &receipts, NOW).remove(0);
    assert_eq!((second.eligible, second.unknown, second.perhaps), (0, 0, 2));

    // One tells that it is there, then that it has moved, that it is nowhere, and nothing; the other never says anything.
    let site = |site: &str| Some(BTreeMap::from([("site".to_owned(), site.to_owned())]));
    let mut receipts = vec![receipt(&shop, 8, 1, 1, Outcome::Active, 10)];
    let told = [(site("depot-7"), (1, 1)), (site("depot-8"), (0, 1)), (Some(BTreeMap::new()), (0, 1)), (None, (0, 2))];
    for (counter, (attributes, counted)) in (1..).zip(told) {
        receipts.push(Receipt { attributes: attributes.clone(), ..receipt(&shop, 7, counter, 1, Outcome::Active, 10) });
        let second = standings(&shop, &receipts, NOW).remove(0);
        assert_eq!((second.eligible, second.perhaps), counted, "{attributes:?}");
    }
}

#[test]
fn groups_are_known_of_whoever_shows_a_certificate_that_holds() {
    // §9.9, §13.9
    let mut shop = member::fleet_shop();
    repository::publish(&mut shop, "stable", 1);
    let rules = Rules { audience: Some("group = \"berlin\"".parse().unwrap()), ..Rules::default() };
    shop.release(&burr_protocol::release::Release { rules, ..release("stable", 2) }, [2; 32], &keys(), NOW).unwrap();
    let good = member::certificate(&shop);
    let shown = |certificate: Certificate| Some(certificate.sign(&[&member::enroller()]).unwrap());
    let stands = |certificate: Option<Vec<u8>>| {
        let own = receipt(shop.verified(), 1, 1, 1, Outcome::Active, 10);
        let told = Receipt { device: good.node, member: certificate, attributes: Some(BTreeMap::new()), ..own };
        let second = standings(shop.verified(), &[told], NOW).remove(0);
        (second.eligible, second.perhaps)
    };
    assert_eq!(stands(None), (0, 1));
    assert_eq!(stands(shown(good.clone())), (1, 0));
    assert_eq!(stands(shown(Certificate { groups: ["bonn".to_owned()].into(), ..good.clone() })), (0, 0));
    // What does not hold says nothing: expired, another device's, or by another key.
    assert_eq!(stands(shown(Certificate { not_after: Wall(NOW.0 - 1), ..good.clone() })), (0, 1));
    assert_eq!(stands(shown(Certificate { node: device(7), ..good.clone() })), (0, 1));
    assert_eq!(stands(Some(good.sign(&[&member::device()]).unwrap())), (0, 1));
}

#[test]
fn every_rule_is_told_and_all_of_them_say_what_the_device_decides() {
    let attributes =
        BTreeMap::from([("site".to_owned(), "depot-7".to_owned()), ("native".to_owned(), "2.0".to_owned())]);
    let shop_of = |rules: &Rules| shop(rules.clone());
    let place = drawn_at(shop(Rules::default()).repository(), "stable", 2, device(9));
    let rules = |change: &dyn Fn(&mut Rules)| {
        let mut rules = Rules::default();
        change(&mut rules);
        rules
    };
    // Rules, the one that is told, and whether the device may have the release by it.
    let table: Vec<(Rules, &str, bool)> = vec![
        (rules(&|_| ()), "number", true),
        (rules(&|r| r.rollout = place), "rollout", true),
        (rules(&|r| r.rollout = place - 1), "rollout", false),
        (rules(&|r| r.audience = Some("site = \"depot-7\"".parse().unwrap())), "audience", true),
        (rules(&|r| r.audience = Some("site = \"depot-8\"".parse().unwrap())), "audience", false),
        (rules(&|r| r.platforms = vec!["ios".to_owned()]), "platform", false),
        (rules(&|r| r.min_native = Some("2.0".to_owned())), "native", true),
        (rules(&|r| r.min_native = Some("3.0".to_owned())), "native", false),
        (rules(&|r| r.from = Some(">=1".to_owned())), "versions", false),
        (rules(&|r| r.via = Some("1.0".to_owned())), "versions", true),
        (rules(&|r| r.via = Some("1.5".to_owned())), "versions", false),
        (rules(&|r| r.within = Some(Within::Major)), "jump", false),
        (rules(&|r| r.not_before = Some(NOW)), "not before", true),
        (rules(&|r| r.not_before = Some(Wall(NOW.0 + 10))), "not before", false),
        (rules(&|r| r.not_after = Some(Wall(NOW.0 - 10))), "not after", false),
        (rules(&|r| r.audience = Some("group = \"berlin\"".parse().unwrap())), "audience", true),
        (rules(&|r| r.audience = Some("group = \"bonn\"".parse().unwrap())), "audience", false),
        (rules(&|r| r.paused = true), "pause", false),
        (rules(&|r| r.yanked = Some("it burns".to_owned())), "yank", false),
    ];
    let here = Here { conditions: Conditions::default(), wall: Some(NOW), starting: false, deferred: None };
    let groups = BTreeSet::from(["berlin".to_owned()]);
    for (rules, rule, may) in table {
        let shop = shop_of(&rules);
        let id = ReleaseId { repository: shop.repository(), channel: "stable".to_owned(), seq: 1 };
        let active = Installed { id, version: "1.0".to_owned(), bundle: Hash([0; 32]), bytes: 0 };
        let record = AppRecord { active: Some(active.into()), ..AppRecord::default() };
        let (install, keys, halted) = (Install::of("stable"), BTreeMap::new(), BTreeMap::new());
        let device = Device {
            node: device(9),
            attributes: &attributes,
            groups: &groups,
            install: &install,
            record: &record,
            keys: &keys,
            halted: &halted,
            now: NOW,
        };
        let newest = shop.releases().max_by_key(|release| release.seq).unwrap();
        let told = checks(&shop, newest, &device, here);
        let of = |name: &str| -> Option<&Check> { told.iter().find(|check| check.rule == name) };
        let verdict = of(rule).unwrap_or_else(|| panic!("{rule} is not told: {told:?}")).verdict;
        assert_eq!(verdict, if may { Verdict::Holds } else { Verdict::Against }, "{rule}: {told:?}");
        let against = told.iter().any(|check| check.verdict == Verdict::Against);
        assert_eq!(decide(&shop, "shop", &device).is_ok(), !against, "{told:?}");
        // Another node can't tell what only the device knows.
        let afar = |attributes: bool, groups: bool| -> Check {
            let checks = checks_from_afar(&shop, newest, &device, Told { attributes, groups });
            checks.into_iter().find(|check| check.rule == rule).unwrap()
        };
        if ["audience", "platform", "native"].contains(&rule) {
            let check = afar(false, false);
            assert!(check.verdict == Verdict::Unknown && check.words.contains("not known here"), "{check:?}");
            // But for its groups, it can once it was told the attributes.
            let check = afar(true, false);
            let of_groups = check.words == "it is not known here in which groups the device is";
            assert_eq!(check.verdict, if of_groups { Verdict::Unknown } else { verdict }, "{check:?}");
            assert_eq!(afar(true, true).verdict, verdict);
        }
    }

    // The release before the newest, a release that waits, and metadata that is too old.
    let shop = shop(Rules { urgency: Urgency::Manual, rollout: EVERYONE, ..Rules::default() });
    let (install, keys, record) = (Install::of("stable"), BTreeMap::new(), AppRecord::default());
    let halted = BTreeMap::new();
    let late = Wall(shop.expires().0 + 400 * repository::DAY);
    let at = |now| Device {
        node: device(9),
        attributes: &attributes,
        groups: &groups,
        install: &install,
        record: &record,
        keys: &keys,
        halted: &halted,
        now,
    };
    let told = |seq: u64, now: Wall| -> Vec<(String, Verdict)> {
        let release = shop.releases().find(|release| release.seq == seq).unwrap();
        let told = checks(&shop, release, &at(now), here);
        told.into_iter().map(|check| (check.rule, check.verdict)).collect()
    };
    assert!(told(1, NOW).contains(&("newest".to_owned(), Verdict::Against)));
    assert!(told(2, NOW).contains(&("moment".to_owned(), Verdict::Later)));
    assert!(told(2, late).contains(&("freshness".to_owned(), Verdict::Against)));
    assert!(decide(&shop, "shop", &at(late)).is_err());
}
