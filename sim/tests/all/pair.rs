//! Two nodes, one clock, a link: a source that the publisher feeds, and a device. Rule numbers are those of
//! `protocol/README.md`.

mod budgets;
mod by_hand;
mod conditions;
mod crash;
mod delivery;
mod freshness;
mod halting;
mod hooks;
mod lies;
mod limits;
mod many;
mod moments;
mod receipts;
mod resume;
mod rules;
mod sealed;
mod updates;

use std::time::Duration;

use burr_protocol::{
    Hash, NodeId,
    action::Input,
    config::{Config, Confirm, Install},
    fact::Fact,
    fetch::PieceMap,
    peers::Lie,
    receipt::{Outcome, Receipt},
    release::Release,
    rules::Rules,
    wire::{Digest, Holding, Message, MetadataVersion},
};
use burr_sim::{NodeIndex, Publisher, World, story::EPOCH};

const MIB: u64 = 1 << 20;
const DELAY: Duration = Duration::from_millis(5);
/// Bytes a second on every link.
const RATE: u64 = MIB;

/// Two nodes and a link.
struct Pair {
    world: World,
    shop: Publisher,
    source: NodeIndex,
    device: NodeIndex,
}

impl Pair {
    /// A source and a device that installs like this, connected.
    fn new(install: Install) -> Self {
        let mut pair = Self::apart(install);
        pair.meet();
        pair
    }

    /// The same, not connected yet.
    fn apart(install: Install) -> Self {
        Self::with(install, &Config::default())
    }

    /// The same, where the device has a configuration of its own besides what it follows.
    fn with(install: Install, config: &Config) -> Self {
        let mut world = World::new(EPOCH);
        let shop = Publisher::new("shop", "the shop", EPOCH);
        let source = world.add(Config { follows: vec![shop.cached()], collect: true, ..Config::default() });
        let device = world.add(Config { follows: vec![shop.installed(install)], ..config.clone() });
        Self { world, shop, source, device }
    }

    /// One more node that keeps the app for others.
    fn add_cache(&mut self) -> NodeIndex {
        self.world.add(Config { follows: vec![self.shop.cached()], ..Config::default() })
    }

    fn meet(&mut self) {
        self.link(self.source, self.device);
    }

    fn part(&mut self) {
        self.world.cut(self.source, self.device);
    }

    fn link(&mut self, a: NodeIndex, b: NodeIndex) {
        self.world.link(a, b, DELAY, RATE);
    }

    /// The publisher releases a version with a payload of this size, on the source.
    fn publish(&mut self, version: &str, size: u64) -> Release {
        let release = self.sign(version, size);
        self.import(&release);
        release
    }

    /// The publisher releases a version that is nowhere yet.
    fn sign(&mut self, version: &str, size: u64) -> Release {
        self.shop.release(version, size, self.world.now().wall.expect("the world has a clock"))
    }

    /// The publisher gives a release other rules, and the source hears of it.
    fn set_rules(&mut self, seq: u64, rules: &Rules) {
        self.shop.set_rules(seq, rules, self.world.now().wall.expect("the world has a clock"));
        self.world.import(self.source, self.shop.id(), None, self.shop.pack());
    }

    fn import(&mut self, release: &Release) {
        let blob = (release.payload.blob, release.payload.size);
        self.world.import(self.source, self.shop.id(), Some(blob), self.shop.pack());
    }

    fn run(&mut self, seconds: u64) {
        self.world.run(Duration::from_secs(seconds));
    }

    /// A power cut, and power again.
    fn restart(&mut self, node: NodeIndex) {
        self.world.crash(node);
        self.world.start(node);
    }

    fn active(&self) -> Option<String> {
        self.world.active(self.device, "shop")
    }

    /// What `current` names on the device.
    fn current(&self) -> Option<Hash> {
        self.world.disk(self.device).current("shop")
    }

    /// The timestamp version that the device believes.
    fn believed(&self) -> Option<u64> {
        let status = self.world.agent(self.device).expect("the device is on").status();
        status.repositories[0].version
    }

    /// How many facts of a kind a node told.
    fn told(&self, node: NodeIndex, is: impl Fn(&Fact) -> bool) -> usize {
        self.world.facts(node).iter().filter(|(_, fact)| is(fact)).count()
    }

    /// Whom the device refused, and for what.
    fn refused(&self) -> Vec<(NodeId, Lie)> {
        let refused = self.world.agent(self.device).expect("the device is on").status().refused;
        // It is told as it is kept.
        for (node, lie) in &refused {
            let named =
                |fact: &Fact| matches!(fact, Fact::PeerRefused { node: n, lie: l, .. } if (n, l) == (node, lie));
            assert_eq!(self.told(self.device, named), 1, "a refusal is told once");
        }
        refused
    }

    /// The receipts that a node keeps. Their numbers are unique, and start at 1 without a gap.
    fn receipts(&self, node: NodeIndex) -> Vec<Receipt> {
        let agent = self.world.agent(node).expect("the node is on");
        let receipts: Vec<_> = agent.receipts().iter().map(|signed| signed.verify().expect("kept ones hold")).collect();
        let mut next = std::collections::BTreeMap::new();
        for receipt in &receipts {
            let number = next.entry(receipt.device).or_insert(0);
            *number += 1;
            assert_eq!(receipt.counter, *number, "a device numbers its receipts");
        }
        receipts
    }

    /// How updates ended, by the receipts that a node keeps.
    fn outcomes(&self, node: NodeIndex) -> Vec<(String, Outcome)> {
        self.receipts(node).into_iter().map(|receipt| (receipt.version, receipt.outcome)).collect()
    }

    /// The device gets a message that `from` is said to have sent.
    fn say(&mut self, from: NodeIndex, message: &Message) {
        let node = self.world.id(from);
        self.world.give(self.device, Input::Message { node, bytes: message.encode() });
    }

    /// `from` claims to hold metadata that nobody has.
    fn boast(&mut self, from: NodeIndex) {
        let repository = self.shop.id();
        let version = MetadataVersion { root: 1, timestamp: u64::MAX };
        let holdings = vec![Holding { repository, version, pack: Hash::of(b"boast") }];
        self.say(from, &Message::Digest(Digest { follows: vec![repository], holdings, ..Digest::default() }));
    }

    /// `from` claims news, is asked, and answers with these bytes.
    fn answer(&mut self, from: NodeIndex, pack: Vec<u8>) {
        self.boast(from);
        self.say(from, &Message::Pack { repository: self.shop.id(), bytes: pack });
    }

    /// `from` says that it has all of a blob.
    fn claim_blob(&mut self, from: NodeIndex, release: &Release) {
        let (blob, size) = (release.payload.blob, release.payload.size);
        self.say(from, &Message::Holds { blob, size, pieces: PieceMap::All });
    }
}

fn stable() -> Install {
    Install::of("stable")
}

fn checked() -> Install {
    Install { confirm: Confirm::Command(Duration::from_secs(10)), ..stable() }
}

fn called(seconds: u64) -> Install {
    Install { confirm: Confirm::Call(Duration::from_secs(seconds)), ..stable() }
}

fn active(version: &str) -> (String, Outcome) {
    (version.to_owned(), Outcome::Active)
}
