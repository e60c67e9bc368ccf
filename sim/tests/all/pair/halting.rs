//! Releases that halt by themselves: devices tell each other how a release fared, and who hears of too many failures
//! holds off.

use burr_protocol::{
    Hash, NodeId,
    config::Config,
    fact::Fact,
    receipt::{Outcome, Receipt, SignedReceipt},
    release::Release,
    rules::Rules,
    wire::Message,
};
use burr_sim::NodeIndex;
use ed25519_dalek::SigningKey;

use super::{MIB, Pair, checked};

/// Rules of a release that halts at three failures, if they are half of what is known.
fn halting() -> Rules {
    Rules { halt: Some("3/50%/3".parse().expect("a threshold")), ..Rules::default() }
}

impl Pair {
    /// One more device, which is a member of the fleet; connected to nobody.
    fn enrolled(&mut self) -> NodeIndex {
        let device = self.world.add(Config { follows: vec![self.shop.installed(checked())], ..Config::default() });
        self.enrol(device);
        device
    }

    fn enrol(&mut self, device: NodeIndex) {
        let now = self.world.now().wall.expect("the world has a clock");
        let certificate = self.shop.enrol(self.world.id(device), now);
        self.world.enrol(device, certificate);
        self.restart(device);
    }

    /// A version that no device will find healthy, and that halts.
    fn publish_bad(&mut self, version: &str) -> Release {
        let now = self.world.now().wall.expect("the world has a clock");
        let release = self.shop.release_by(halting(), version, 4 * MIB, now);
        self.world.make_unhealthy(release.bundle);
        self.import(&release);
        release
    }

    fn halts(&self, node: NodeIndex) -> usize {
        self.told(node, |fact| matches!(fact, Fact::Halted { .. }))
    }

    fn why_not(&self, node: NodeIndex) -> String {
        let status = self.world.agent(node).expect("the node is on").status();
        status.apps[0].why.clone().unwrap_or_default()
    }

    /// Receipts of the failure of a release, by these keys and with this certificate each, said to the device.
    fn accuse(&mut self, release: &Release, liars: &[(SigningKey, Option<Vec<u8>>, u64)]) {
        let receipt = |(key, member, counter): &(SigningKey, Option<Vec<u8>>, u64)| {
            let receipt = Receipt {
                repository: self.shop.id(),
                device: NodeId(key.verifying_key().to_bytes()),
                counter: *counter,
                app: release.app.clone(),
                channel: release.channel.clone(),
                version: release.version.clone(),
                seq: release.seq,
                bundle: release.bundle,
                active: None,
                outcome: Outcome::RolledBack { reason: "trust me".to_owned() },
                sources: Vec::new(),
                took_ms: 1,
                said: String::new(),
                at: None,
                issued: burr_sim::story::EPOCH,
                via: None,
                attributes: None,
                member: member.clone(),
            };
            SignedReceipt::sign(&receipt, key)
        };
        let receipts = liars.iter().map(receipt).collect();
        self.say(self.source, &Message::Receipts(receipts));
        self.run(10);
    }
}

#[test]
fn a_device_on_an_island_holds_off_from_what_failed_on_those_that_it_meets() {
    // §9.8
    let mut pair = Pair::new(checked());
    pair.publish("1.0.0", MIB);
    let others = [pair.enrolled(), pair.enrolled(), pair.enrolled()];
    for other in others {
        pair.link(pair.source, other);
    }
    pair.run(30);
    pair.part();
    let bad = pair.publish_bad("2.0.0");
    pair.run(60);
    for other in others {
        assert_eq!(pair.world.active(other, "shop").as_deref(), Some("1.0.0"));
    }
    assert_eq!(pair.halts(pair.source), 1, "who collects the receipts is told too");
    // The publisher is out of reach; one that tried it is not.
    pair.link(others[0], pair.device);
    for other in others {
        pair.world.cut(pair.source, other);
    }
    pair.run(3600);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    assert_eq!(pair.halts(pair.device), 1);
    let words = "2.0.0 (release 2) is not taken: it halts by its own rules: 3 of the 3 devices that tried it failed";
    assert_eq!(pair.why_not(pair.device), words);
    assert!(
        pair.receipts(pair.device)
            .iter()
            .all(|receipt| receipt.device != pair.world.id(pair.device) || receipt.version == "1.0.0")
    );
    // Neither does a restart forget it.
    pair.restart(pair.device);
    pair.run(60);
    assert_eq!((pair.why_not(pair.device).as_str(), pair.halts(pair.device)), (words, 2));
    // What is published next is taken.
    let good = pair.publish("2.0.1", MIB);
    assert!(good.seq > bad.seq);
    pair.meet();
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("2.0.1"));
}

#[test]
fn what_works_on_most_devices_does_not_halt() {
    let mut pair = Pair::new(checked());
    pair.publish("1.0.0", MIB);
    let healthy: Vec<NodeIndex> = (0..4).map(|_| pair.enrolled()).collect();
    for other in &healthy {
        pair.link(pair.source, *other);
    }
    pair.enrol(pair.device);
    pair.run(30);
    pair.part();
    let now = pair.world.now().wall.expect("the world has a clock");
    let release = pair.shop.release_by(halting(), "2.0.0", MIB, now);
    pair.import(&release);
    pair.run(60);
    let liars: Vec<_> = (0..3).map(|number| SigningKey::from_bytes(&[number + 1; 32])).collect();
    let enrolled = |pair: &mut Pair, key: &SigningKey| {
        let now = pair.world.now().wall.expect("the world has a clock");
        pair.shop.enrol(NodeId(key.verifying_key().to_bytes()), now)
    };
    let certificates: Vec<_> = liars.iter().map(|key| enrolled(&mut pair, key)).collect();
    pair.meet();
    pair.run(1);
    let accusers: Vec<_> =
        liars.into_iter().zip(certificates).map(|(key, certificate)| (key, Some(certificate), 1)).collect();
    // Three of seven: enough of them, and yet not half.
    pair.accuse(&release, &accusers);
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
    assert_eq!(pair.halts(pair.device), 0);
}

#[test]
fn whoever_is_no_member_of_the_fleet_halts_nothing() {
    // §9.8
    let mut pair = Pair::new(checked());
    pair.publish("1.0.0", MIB);
    pair.enrol(pair.device);
    pair.run(30);
    let member = SigningKey::from_bytes(&[66; 32]);
    let now = pair.world.now().wall.expect("the world has a clock");
    let certificate = pair.shop.enrol(NodeId(member.verifying_key().to_bytes()), now);
    // Nobody can fetch it yet, so nothing is in a hurry.
    let release = pair.shop.release_by(halting(), "2.0.0", 40 * MIB, now);
    pair.import(&release);
    pair.run(2);
    let stranger = |number: u8| SigningKey::from_bytes(&Hash::of(&[number]).0);
    // Strangers, as many as you like; with no certificate, with one that is stolen, with one that is none.
    let many: Vec<_> = (0..20).map(|number| (stranger(number), None, 1)).collect();
    pair.accuse(&release, &many);
    let stolen: Vec<_> = (20..40).map(|number| (stranger(number), Some(certificate.clone()), 1)).collect();
    pair.accuse(&release, &stolen);
    let none: Vec<_> = (40..60).map(|number| (stranger(number), Some(vec![number; 100]), 1)).collect();
    pair.accuse(&release, &none);
    // A member counts once, however often it says so.
    let again: Vec<_> = (1..20).map(|counter| (member.clone(), Some(certificate.clone()), counter)).collect();
    pair.accuse(&release, &again);
    assert_eq!(pair.halts(pair.device), 0);
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"));
}

#[test]
fn a_member_that_was_taken_back_counts_no_more_and_the_publisher_has_the_last_word() {
    let mut pair = Pair::new(checked());
    pair.publish("1.0.0", MIB);
    pair.run(30);
    let liars: Vec<_> = (0..3).map(|number| SigningKey::from_bytes(&[number + 1; 32])).collect();
    let now = pair.world.now().wall.expect("the world has a clock");
    let node = |key: &SigningKey| NodeId(key.verifying_key().to_bytes());
    let certificates: Vec<_> = liars.iter().map(|key| pair.shop.enrol(node(key), now)).collect();
    let release = pair.shop.release_by(halting(), "2.0.0", 40 * MIB, now);
    pair.import(&release);
    pair.run(2);
    let accusers: Vec<_> = liars.iter().cloned().zip(certificates.into_iter().map(Some)).collect();
    let accusers: Vec<_> = accusers.into_iter().map(|(key, certificate)| (key, certificate, 1)).collect();
    pair.accuse(&release, &accusers);
    assert_eq!(pair.halts(pair.device), 1);
    pair.run(600);
    assert_eq!(pair.active().as_deref(), Some("1.0.0"));
    let now = pair.world.now().wall.expect("the world has a clock");
    pair.shop.revoke(node(&liars[0]), now);
    pair.world.import(pair.source, pair.shop.id(), None, pair.shop.pack());
    pair.run(60);
    assert_eq!(pair.active().as_deref(), Some("2.0.0"), "two failures are left");
}
