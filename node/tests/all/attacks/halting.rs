//! Whoever would halt a release without having a say.

use burr_protocol::{
    NodeId, SealKey, Wall,
    fact::Fact,
    member::{Capability, Certificate},
    receipt::{Outcome, Receipt, SignedReceipt},
    release::Release,
    rules::Rules,
    trust::write::Change,
    wire::{MAX_RECEIPTS, Message},
};
use ed25519_dalek::SigningKey;

use super::{
    DAY, Desk, Device, EPOCH, Hands,
    rogue::Rogue,
    shop::{Shop, key},
};

/// The keys of the fleet, and of one that the repository does not have.
const FLEET: u8 = 50;
const FOREIGN: u8 = 51;

fn node(key: &SigningKey) -> NodeId {
    NodeId(key.verifying_key().to_bytes())
}

/// A member's certificate, signed by this key.
fn certificate(shop: &Shop, member: &SigningKey, fleet: u8) -> Vec<u8> {
    let certificate = Certificate {
        repository: shop.id(),
        fleet: "stores".to_owned(),
        node: node(member),
        seal_key: SealKey([9; 32]),
        groups: [].into(),
        capabilities: [Capability::Device].into(),
        serial: 1,
        not_after: Wall(EPOCH.0 + 100 * DAY),
    };
    certificate.sign(&[&key(fleet)]).unwrap()
}

/// That a release failed, said by this device.
fn accusation(shop: &Shop, release: &Release, by: &SigningKey, counter: u64, member: Option<Vec<u8>>) -> SignedReceipt {
    let receipt = Receipt {
        repository: shop.id(),
        device: node(by),
        counter,
        app: release.app.clone(),
        channel: release.channel.clone(),
        version: release.version.clone(),
        seq: release.seq,
        bundle: release.bundle,
        active: None,
        outcome: Outcome::RolledBack { reason: "it does not start".to_owned() },
        sources: Vec::new(),
        took_ms: 1,
        said: String::new(),
        at: None,
        issued: EPOCH,
        via: None,
        attributes: None,
        member,
    };
    SignedReceipt::sign(&receipt, by)
}

impl Device {
    /// Waits until this many receipts are kept.
    async fn hear_kept(&mut self, count: usize) {
        for _ in 0..count {
            self.hear("a receipt", |fact| matches!(fact, Fact::ReceiptKept { .. }).then_some(())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t47_receipts_of_strangers_and_of_one_member_many_times_halt_nothing() {
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    let fleet = key(FLEET);
    let keys = vec![fleet.verifying_key()];
    shop.change(&Change::AddFleet { fleet: "stores".to_owned(), keys, threshold: 1 }, &fleet);
    shop.release("1.0.0");
    let mut device = Device::start(&desk.at("device"), shop.id(), &Hands::at(EPOCH), &[]).await;
    device.import(&shop).await;
    device.hear_active("1.0.0").await;

    // It halts at three failures, whatever worked. Nobody gives its payload yet.
    let halting = Rules { halt: Some("3/0%/0".parse().unwrap()), ..Rules::default() };
    let second = shop.release("2.0.0");
    shop.set_rules(second.seq, &halting);
    let without_payloads = shop.fork();
    device.node.import(shop.id(), without_payloads.pack(), Vec::new()).await.unwrap();
    device.hear_verified(shop.version()).await;
    let member = key(60);
    let true_one = certificate(&shop, &member, FLEET);
    let stranger = |seed: u8| key(100 + seed);
    let mut said = Vec::new();
    for seed in 0..100 {
        let shown = match seed % 4 {
            0 => None,
            1 => Some(true_one.clone()),
            2 => Some(certificate(&shop, &stranger(seed), FOREIGN)),
            _ => Some(vec![seed; 200]),
        };
        said.push(accusation(&shop, &second, &stranger(seed), 1, shown));
    }
    said.extend((1..=20).map(|counter| accusation(&shop, &second, &member, counter, Some(true_one.clone()))));
    let rogue = Rogue::start(shop.id()).await;
    rogue.meet(&device.address()).await;
    for receipts in said.chunks(MAX_RECEIPTS) {
        rogue.say(device.id(), &Message::Receipts(receipts.to_vec())).await;
    }
    device.hear_kept(said.len()).await;
    assert_eq!(device.status().await.halted, []);
    device.import(&shop).await;
    device.hear_active("2.0.0").await;

    // Three members who say the same are believed.
    let third = shop.release("3.0.0");
    shop.set_rules(third.seq, &halting);
    device.node.import(shop.id(), shop.pack(), Vec::new()).await.unwrap();
    device.hear_verified(shop.version()).await;
    let members = [key(60), key(61), key(62)];
    let of = |member: &SigningKey| accusation(&shop, &third, member, 21, Some(certificate(&shop, member, FLEET)));
    rogue.say(device.id(), &Message::Receipts(members.iter().map(of).collect())).await;
    device
        .hear("a halt", |fact| matches!(fact, Fact::Halted { version, .. } if version == "3.0.0").then_some(()))
        .await;
    device.import(&shop).await;
    assert_eq!(device.status().await.halted.len(), 1);
    assert_eq!(device.active().await.as_deref(), Some("2.0.0"));
    rogue.end().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t47_a_crowd_that_one_made_up_hides_no_halt() {
    const ROOM: usize = 20;
    let desk = Desk::new();
    let mut shop = Shop::open(EPOCH);
    let fleet = key(FLEET);
    let keys = vec![fleet.verifying_key()];
    shop.change(&Change::AddFleet { fleet: "stores".to_owned(), keys, threshold: 1 }, &fleet);
    let release = shop.release("1.0.0");
    shop.set_rules(release.seq, &Rules { halt: Some("3/0%/0".parse().unwrap()), ..Rules::default() });
    let (app, room) = ([("install", "stable")], ROOM.to_string());
    let settings = [("max_receipts", room.as_str())];
    let clock = Hands::at(EPOCH);
    let mut device = Device::start_with(&desk.at("device"), shop.id(), &clock, &app, &settings).await;
    device.node.import(shop.id(), shop.pack(), Vec::new()).await.unwrap();
    device.hear_verified(shop.version()).await;

    // All room is taken by devices that nobody enrolled, before each member speaks; what has no room is not kept.
    let rogue = Rogue::start(shop.id()).await;
    rogue.meet(&device.address()).await;
    let crowd = |from: u8| -> Vec<_> {
        (from..from + 40).map(|seed| accusation(&shop, &release, &key(seed), 1, None)).collect()
    };
    for (at, member) in [60, 61, 62].into_iter().enumerate() {
        let strangers = crowd(100 + 40 * u8::try_from(at).unwrap());
        rogue.say(device.id(), &Message::Receipts(strangers)).await;
        if at == 0 {
            device.hear_kept(ROOM).await;
        }
        let shown = Some(certificate(&shop, &key(member), FLEET));
        rogue.say(device.id(), &Message::Receipts(vec![accusation(&shop, &release, &key(member), 1, shown)])).await;
        device.hear_kept(1).await;
    }
    device.hear("a halt", |fact| matches!(fact, Fact::Halted { .. }).then_some(())).await;
    // Nor does it after a restart, when everything is read back.
    device.stop().await;
    let device = Device::start_with(&desk.at("device"), shop.id(), &clock, &app, &settings).await;
    assert_eq!(device.status().await.halted.len(), 1);
    rogue.end().await;
    device.stop().await;
}
